# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab has made, found by its names alone and removed: nothing that is called otherwise is touched.

Of lab 6 are: processes with ``MINIPOD_LAB=6`` in their environment; the directory ``/run/lab6`` with all that is
mounted in it; network namespaces (``ip netns``), links, nftables tables and top cgroups called ``lab6``, or ``lab6``
and letters; and pods and ConfigMaps so called in the namespace ``lab``.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from minipod.errors import MinipodError
from minipod.lab import kernel

POD_NAMESPACE = "lab"
PLACE = Path("/run")
_NETNS = Path("/run/netns")
_PATIENCE = 10.0  # seconds until a killed process and an emptied cgroup are gone
_PAUSE = 0.02

Ask = Callable[[dict[str, Any]], dict[str, Any] | None]
"""Asks minipod's agent; None when there is none."""


@dataclass(frozen=True, slots=True)
class Thing:
    """Something of a lab: what it is, for the learner, and what removes it."""

    what: str
    remove: Callable[[], object]

    def __str__(self) -> str:
        return self.what


def is_of(number: int, name: str) -> bool:
    """Whether *name* is a lab's: ``lab6``, ``lab6b``, ``lab6-out``, not ``lab66``."""
    return re.fullmatch(rf"lab{number}(-?[a-z]+)*", name) is not None


def of(number: int, ask: Ask) -> Iterator[Thing]:
    """Yield what there is of a lab, in the order in which it can be removed."""
    yield from _pods(number, ask)
    for process in kernel.learners(number):
        yield Thing(str(process), partial(_kill, [process.pid]))
    yield from _cgroups(number)
    yield from _network(number)
    yield from _files(number)


def _pods(number: int, ask: Ask) -> Iterator[Thing]:
    for kind, word in (("pods", "pod"), ("configmaps", "configmap")):
        request: dict[str, Any] = {"verb": "get", "kind": kind, "namespace": POD_NAMESPACE}
        for found in (ask(request) or {}).get("items", []):
            name = found["metadata"]["name"]
            if is_of(number, name):
                delete = {**request, "verb": "delete", "names": [name], "gracePeriodSeconds": 0}
                yield Thing(f"{word} {POD_NAMESPACE}/{name}", partial(ask, delete))


def _kill(pids: list[int]) -> None:
    """Kill processes and wait until they are gone; zombies are their parents' affair."""
    fds = []
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                fd = os.pidfd_open(pid)
                fds.append(fd)
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        end = time.monotonic() + _PATIENCE
        for fd in fds:
            if not select.select([fd], [], [], max(0.0, end - time.monotonic()))[0]:
                raise MinipodError(
                    f"one of the processes {pids} does not die", "ps shows its state"
                )
    finally:
        for fd in fds:
            os.close(fd)


def _cgroups(number: int) -> Iterator[Thing]:
    for top in sorted(set(kernel.hierarchies().values())):
        with contextlib.suppress(OSError):
            for path in sorted(top.iterdir()):
                if is_of(number, path.name) and path.is_dir() and not path.is_symlink():
                    yield Thing(f"cgroup {path}", partial(_remove_cgroup, path))


def _remove_cgroup(path: Path) -> None:
    for below in sorted(path.rglob("*/"), reverse=True):
        _remove_one_cgroup(below)
    _remove_one_cgroup(path)


def _remove_one_cgroup(path: Path) -> None:
    end = time.monotonic() + _PATIENCE
    while path.exists():
        with contextlib.suppress(OSError):
            _kill([int(pid) for pid in (path / "cgroup.procs").read_text().split()])
        try:
            path.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:  # EBUSY until the last process is reaped
            if time.monotonic() > end:
                raise MinipodError(
                    f"{path}: {error.strerror}", f"cat {path}/cgroup.procs"
                ) from error
            time.sleep(_PAUSE)


def _network(number: int) -> Iterator[Thing]:
    if _NETNS.is_dir():
        for name in sorted(os.listdir(_NETNS)):
            if is_of(number, name):
                delete = partial(_run, "ip", "netns", "delete", name)
                yield Thing(f"network namespace {name}", delete)
    host = kernel.Network()
    for name in sorted(os.listdir("/sys/class/net")):
        if is_of(number, name):
            yield Thing(f"link {name}", partial(_delete_link, name))
    for rule in host.rules():
        table = rule.get("table", {})
        if is_of(number, str(table.get("name", ""))):
            words = (str(table["family"]), str(table["name"]))
            delete = partial(_run, "nft", "delete", "table", *words)
            yield Thing(f"nftables table {' '.join(words)}", delete)


def _delete_link(name: str) -> None:
    try:
        _run("ip", "link", "delete", name)
    except MinipodError:
        # With a namespace, or its other end, it goes by itself.
        if Path("/sys/class/net", name).exists():
            raise


def _files(number: int) -> Iterator[Thing]:
    top = PLACE / f"lab{number}"
    if top.is_dir() and not top.is_symlink():
        yield Thing(f"directory {top}", partial(_remove_directory, top))


def _mounted_in(top: Path) -> list[str]:
    return [
        mount.target
        for mount in kernel.mounts()
        if mount.target == str(top) or mount.target.startswith(f"{top}/")
    ]


def _remove_directory(top: Path) -> None:
    mounted = _mounted_in(top)
    for target in mounted:
        # Before any umount: below a shared rbind of the host's root it would reach the host's own mounts.
        _run("mount", "--make-private", target)
    for target in reversed(mounted):
        _run("umount", "--lazy", target)
    if left := _mounted_in(top):
        raise MinipodError(
            f"{left[0]} is still mounted; nothing below {top} is deleted", f"umount {left[0]}"
        )
    shutil.rmtree(top)


def _run(*command: str) -> None:
    done = kernel.run(*command)
    if done.returncode != 0:
        raise MinipodError(f"{' '.join(command)}: {' '.join(done.stderr.split())}")
