# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the labs about what a process may use and may do."""

from __future__ import annotations

from collections.abc import Iterator

from minipod.lab import kernel
from minipod.lab.look import Bench, NotYet

_NET_BIND_SERVICE = 10  # capabilities(7), linux/capability.h
_PIDS, _MEMORY = 8, 32 << 20


def cgroup(bench: Bench) -> Iterator[str]:
    """A process in a cgroup with limits on pids and memory, of which the first was hit."""
    process = bench.learners("MINIPOD_LAB=9 sh, and write its PID to cgroup.procs")[0]
    places = kernel.hierarchies()
    for controller, value in (("pids", _PIDS), ("memory", _MEMORY)):
        top = places.get(controller)
        if top is None:
            raise NotYet(
                f"this machine has no {controller} controller", "minipod doctor tells more"
            )
        directory = top / "lab9"
        is_v2 = (top / "cgroup.controllers").exists()
        of_memory = "memory.max" if is_v2 else "memory.limit_in_bytes"
        name = "pids.max" if controller == "pids" else of_memory
        if not directory.is_dir():
            raise NotYet(f"there is no cgroup {directory}", f"mkdir {directory}")
        if not (directory / name).exists():
            raise NotYet(
                f"{directory} has no {name}",
                f"echo +{controller} > {top}/cgroup.subtree_control",
            )
        found = (directory / name).read_text().strip()
        if found != str(value):
            raise NotYet(f"{directory / name} is {found}", f"echo {value} > {directory / name}")
        yield f"{directory / name} is {found}"
        if process.cgroups().get("" if is_v2 else controller) != "/lab9":
            raise NotYet(
                f"{process} is not in {directory}", f"echo {process.pid} > {directory}/cgroup.procs"
            )
    yield f"{process} is in it"
    directory = places["pids"] / "lab9"
    events = dict(line.split() for line in (directory / "pids.events").read_text().splitlines())
    if events.get("max", "0") == "0":
        raise NotYet(
            f"{directory}/pids.events says that the limit was never hit",
            "start more processes in there: for i in $(seq 20); do sleep 1000 & done",
        )
    yield f"the limit of processes was hit {events['max']} times"


def capabilities(bench: Bench) -> Iterator[str]:
    """A process of root's that has one capability only, and gets no more by any exec."""
    start = (
        "MINIPOD_LAB=10 setpriv --bounding-set -all,+net_bind_service --inh-caps -all "
        "--no-new-privs sh"
    )
    process = bench.learners(start)[-1]
    if process.status("Uid")[:2] != ["0", "0"]:
        raise NotYet(f"{process} is not root's", "let it be root: what can root do without power?")
    yield f"{process} is root's"
    for field, word in (("CapBnd", "bounding"), ("CapEff", "effective"), ("CapPrm", "permitted")):
        if process.capabilities(field) != {_NET_BIND_SERVICE}:
            raise NotYet(
                f"its {word} set is {process.status(field)[0]}: not only CAP_NET_BIND_SERVICE",
                f"capsh --decode={process.status(field)[0]} names them; start it as {start}",
            )
        yield f"its {word} set has CAP_NET_BIND_SERVICE and nothing else"
    if process.status("NoNewPrivs") != ["1"]:
        raise NotYet("no_new_privs is not set", "setpriv --no-new-privs")
    yield "no_new_privs is set: no set-uid program gives it more"


def user(bench: Bench) -> Iterator[str]:
    """A process that is root in a user namespace, and an ordinary user outside."""
    start = "MINIPOD_LAB=11 nsenter --target PID --user --setuid 0 --setgid 0 sh"
    found = bench.apart("MINIPOD_LAB=11 unshare --user sleep infinity", "user")
    process = found[-1]
    yield f"{process} is in {process.ns('user')}, the host in {kernel.namespace('user')}"
    for kind in ("uid", "gid"):
        text = process.id_map(kind)
        if text != ["0", "1000000", "65536"]:
            raise NotYet(
                f"its {kind}_map is {' '.join(text) or 'empty'}",
                f"from outside: echo '0 1000000 65536' > /proc/{process.pid}/{kind}_map",
            )
        yield f"its {kind}s 0 to 65535 are 1000000 to 1065535 outside"
    inside = [each for each in found if each.status("Uid")[:2] == ["1000000", "1000000"]]
    if not inside:
        raise NotYet(
            f"{process} is uid {process.status('Uid')[0]} outside: nobody in there",
            f"start {start}",
        )
    process = inside[-1]
    yield f"{process} is root in there, and uid 1000000 outside"
    if not process.capabilities("CapEff"):
        raise NotYet(f"{process} has no capabilities in there", f"start it as {start}")
    yield "it has capabilities, over what belongs to its namespace"
