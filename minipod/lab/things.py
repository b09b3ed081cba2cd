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
from collections import defaultdict
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
_NAME = re.compile(r"lab([1-9]\d*)(?:-?[a-z]+)*")


@dataclass(frozen=True, slots=True)
class Thing:
    """Something of a lab: what it is, for the learner, and what removes it."""

    what: str
    remove: Callable[[], object]

    def __str__(self) -> str:
        return self.what


Owned = tuple[int, Thing]
"""The number of a lab, and something of it."""


def number_of(name: str) -> int:
    """Return whose name this is: 6 for ``lab6``, ``lab6b`` and ``lab6-out``; 0 when it is no lab's."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else 0


def everything(ask: Ask) -> dict[int, list[Thing]]:
    """Return what there is of each lab, in the order in which it can be removed."""
    found: dict[int, list[Thing]] = defaultdict(list)
    for number, thing in (*_objects(ask), *_processes(), *_cgroups(), *_network(), *_files()):
        found[number].append(thing)
    return dict(found)


def _objects(ask: Ask) -> Iterator[Owned]:
    for kind, word in (("pods", "pod"), ("configmaps", "configmap")):
        request: dict[str, Any] = {"verb": "get", "kind": kind, "namespace": POD_NAMESPACE}
        for found in (ask(request) or {}).get("items", []):
            name = found["metadata"]["name"]
            if number := number_of(name):
                delete = {**request, "verb": "delete", "names": [name], "gracePeriodSeconds": 0}
                yield number, Thing(f"{word} {POD_NAMESPACE}/{name}", partial(ask, delete))


def _processes() -> Iterator[Owned]:
    for number, processes in kernel.learners().items():
        for process in processes:
            yield number, Thing(str(process), partial(_kill_learner, number, process.pid))


def _kill_learner(number: int, pid: int) -> None:
    # Looked at once more when the pidfd is there: the number may be another process's by now.
    _kill([pid], lambda: kernel.environment(pid).get(kernel.MARK) == str(number))


def _kill(pids: list[int], is_meant: Callable[[], bool] = lambda: True) -> None:
    """Kill processes and wait until they are gone."""
    fds = []
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                fds.append(os.pidfd_open(pid))
                if is_meant():
                    signal.pidfd_send_signal(fds[-1], signal.SIGKILL)
                else:
                    os.close(fds.pop())
        end = time.monotonic() + _PATIENCE
        for fd in fds:
            if not select.select([fd], [], [], max(0.0, end - time.monotonic()))[0]:
                raise MinipodError(
                    f"one of the processes {pids} does not die", "ps -o stat,wchan shows its state"
                )
    finally:
        for fd in fds:
            os.close(fd)


def _cgroups() -> Iterator[Owned]:
    for top in sorted(set(kernel.hierarchies().values())):
        with contextlib.suppress(OSError):
            for path in sorted(top.iterdir()):
                number = number_of(path.name)
                if number and path.is_dir() and not path.is_symlink():
                    yield number, Thing(f"cgroup {path}", partial(_remove_cgroup, path))


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


def _network() -> Iterator[Owned]:
    if _NETNS.is_dir():
        for name in sorted(os.listdir(_NETNS)):
            if number := number_of(name):
                delete = partial(_run, "ip", "netns", "delete", name)
                yield number, Thing(f"network namespace {name}", delete)
    for name in sorted(os.listdir("/sys/class/net")):
        if number := number_of(name):
            yield number, Thing(f"link {name}", partial(_delete_link, name))
    for rule in kernel.Network().rules():
        table = rule.get("table", {})
        if number := number_of(str(table.get("name", ""))):
            words = (str(table["family"]), str(table["name"]))
            delete = partial(_run, "nft", "delete", "table", *words)
            yield number, Thing(f"nftables table {' '.join(words)}", delete)


def _delete_link(name: str) -> None:
    try:
        _run("ip", "link", "delete", name)
    except MinipodError:
        # With a namespace, or its other end, it goes by itself.
        if Path("/sys/class/net", name).exists():
            raise


def _files() -> Iterator[Owned]:
    for name in sorted(os.listdir(PLACE)):
        top, number = PLACE / name, number_of(name)
        if number and name == f"lab{number}" and top.is_dir() and not top.is_symlink():
            yield number, Thing(f"directory {top}", partial(_remove_directory, top))


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
