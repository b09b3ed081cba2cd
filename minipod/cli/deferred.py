# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules of the standard library that typer and its friends name, and a verb seldom uses, loaded at first use.

They are a sixth of the time that ``minipod version`` takes. The standard library's own ``importlib.util.LazyLoader``
looks each module up first, which takes as long as it saves; Python 3.15 can do all this by itself (PEP 810).
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

# None of these may be asked for anything while typer is loaded: then all would be in vain.
SELDOM_USED = ("bz2", "ipaddress", "linecache", "lzma", "subprocess", "tokenize", "zlib")


class Deferred(ModuleType):
    """Stands for the module of its name until something of that module is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import machinery asks for __spec__ and __path__
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def defer() -> None:
    """Put off loading the modules that are seldom used. To be called before anything else is imported."""
    for name in SELDOM_USED:
        sys.modules.setdefault(name, Deferred(name))
