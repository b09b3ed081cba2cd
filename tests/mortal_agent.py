# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent that kills itself (SIGKILL) at a chosen act: ``python -m tests.mortal_agent``, for tests of recovery.

It is the real agent with its acts wrapped: each write to the store or the pool, each request to a shim, each
netlink and nft run, each cgroup or directory made or removed, each answer to a client. It is unharmed until the file
``$MORTAL/limit`` appears: its number is the act, counted from then, right after which it dies. It writes the names
of the acts to ``$MORTAL/acts``.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minipod.agent import main, store
from minipod.agent.server import Call
from minipod.network import nft
from minipod.network.addresses import AddressPool
from minipod.network.bridge import HostLinks
from minipod.network.elements import ElementSocket
from minipod.pods import containers, manager, worker
from minipod.runtime import cgroups, runtime
from minipod.runtime.shim import Shim

PLACE = Path(os.environ["MORTAL"])
ACTS = (
    (store.Store, "save remove event"),
    (AddressPool, "allocate release"),
    (HostLinks, "connect remove"),
    (nft, "apply"),
    (ElementSocket, "change"),
    (cgroups.Cgroups, "create kill remove"),
    (runtime.Runtime, "_host_step _attach"),
    (Shim, "start _request"),
    (worker, "remove_tree"),
    (containers, "remove_tree"),
    (manager, "remove_tree"),
    (runtime, "remove_tree"),
    (Call, "finish event"),
)


class Death:
    """Counts acts once the limit is known."""

    def __init__(self) -> None:
        self.limit = 0
        self.count = 0

    def pass_by(self, act: str) -> None:
        """Count one act, and die if it is the one."""
        if not self.limit:
            try:
                self.limit = int((PLACE / "limit").read_text())
            except (FileNotFoundError, ValueError):
                return
            (PLACE / "limit").unlink()
        self.count += 1
        with open(PLACE / "acts", "a") as file:
            file.write(f"{self.count} {act}\n")
        if self.count >= self.limit:
            os.kill(os.getpid(), signal.SIGKILL)


def wrap(death: Death, act: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return *function* with an act counted after it."""
    if asyncio.iscoroutinefunction(function):

        @functools.wraps(function)
        async def later(*args: Any, **kwargs: Any) -> Any:
            result = await function(*args, **kwargs)
            death.pass_by(act)
            return result

        return later

    @functools.wraps(function)
    def now(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        death.pass_by(act)
        return result

    return now


def make_mortal() -> None:
    """Wrap all acts."""
    death = Death()
    for owner, names in ACTS:
        for name in names.split():
            raw = vars(owner)[name]
            act = f"{getattr(owner, '__name__', owner)}.{name}"
            if isinstance(raw, classmethod):
                setattr(owner, name, classmethod(wrap(death, act, raw.__func__)))
            else:
                setattr(owner, name, wrap(death, act, raw))


if __name__ == "__main__":
    make_mortal()
    sys.exit(main.main())
