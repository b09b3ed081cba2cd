# SPDX-License-Identifier: GPL-3.0-or-later
"""Which system call filter a container gets: the default one for its capabilities, one from a file, or none."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from minipod.api import SecurityContext
from minipod.errors import MinipodError
from minipod.native import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, openat2
from minipod.plan.seccomp import default_profile
from minipod.plan.seccompfile import MAX_BYTES, Situation, parse_profile
from minipod.plan.security import wanted_capabilities


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that can be loaded.

    Attributes:
        program: ``struct sock_filter`` after ``struct sock_filter``; empty for none.
        profile: how it is called.
        flags: ``SECCOMP_FILTER_FLAG_*``.
    """

    program: bytes = field(repr=False)
    profile: str
    flags: int = 0


class Filters:
    """Makes filters; what was made once is kept, in memory and below *root_dir*.

    Files of profiles lie in ``<root_dir>/seccomp``, the place of a kubelet's ``<root-dir>/seccomp``.
    """

    def __init__(self, machine: str, root_dir: str) -> None:
        self._machine = machine
        self._cache = f"{root_dir}/cache/seccomp"
        self._directory = f"{root_dir}/seccomp"
        self._defaults: dict[frozenset[str], Filter] = {}

    def of(self, security: SecurityContext) -> Filter:
        """Return the filter of a container with this effective security context.

        Raises:
            MinipodError: the profile's file is missing, or makes no sense.
        """
        profile = security.seccomp_profile
        kind = profile.type if profile else "RuntimeDefault"
        if security.privileged or kind == "Unconfined":
            return Filter(b"", "Unconfined")
        # Loaded late: a program that is in the cache needs no compiler.
        from minipod.runtime.seccomp import compile_profile

        capabilities = wanted_capabilities(security)
        if kind == "RuntimeDefault":
            if capabilities not in self._defaults:
                program = compile_profile(default_profile(capabilities, self._machine), self._cache)
                self._defaults[capabilities] = Filter(program, kind)
            return self._defaults[capabilities]
        name = (profile.localhost_profile if profile else "") or ""
        path = f"{self._directory}/{name}"
        try:
            situation = Situation(self._machine, capabilities, _kernel())
            made, flags = parse_profile(self._read(name), situation)
            return Filter(compile_profile(made, self._cache), f"Localhost {name}", flags)
        except FileNotFoundError:
            raise MinipodError(
                f"seccomp profile not found: {path}", "put the file there, or use RuntimeDefault"
            ) from None
        except (OSError, ValueError) as error:
            raise MinipodError(f"seccomp profile {path}: {error}", "mend the file") from error

    def _read(self, name: str) -> bytes:
        directory = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Never out of the directory, whatever link an administrator put there; and no FIFO is waited for.
            resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
            fd = openat2(directory, name, os.O_RDONLY | os.O_NONBLOCK, resolve=resolve)
        finally:
            os.close(directory)
        with open(fd, "rb") as file:
            return file.read(MAX_BYTES + 1)


def _kernel() -> tuple[int, int]:
    numbers = re.findall(r"[0-9]+", os.uname().release)
    return int(numbers[0]), int(numbers[1])
