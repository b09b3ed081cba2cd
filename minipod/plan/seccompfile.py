# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads seccomp profiles from JSON: the OCI runtime specification's ``linux.seccomp``, and moby's form of it.

moby's form has ``archMap`` instead of ``architectures``, and rules that only hold with or without certain
capabilities, machines or kernels (``includes``, ``excludes``). What is not understood is an error: a filter that is
weaker than what was written would be worse than none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from errno import EPERM
from typing import Any

from minipod.plan.seccomp import MENTIONED, Comparison, Operator, Profile, Rule

MAX_BYTES = 1 << 20

# linux/seccomp.h
KILL_PROCESS, KILL_THREAD, TRAP, ERRNO = 0x80000000, 0x00000000, 0x00030000, 0x00050000
TRACE, LOG, ALLOW = 0x7FF00000, 0x7FFC0000, 0x7FFF0000
_ACTIONS = {
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_ALLOW": ALLOW,
}
_PERMISSIVE = (ALLOW, LOG, TRACE)
_OPERATORS = {
    "SCMP_CMP_NE": Operator.NOT_EQUAL,
    "SCMP_CMP_LT": Operator.LESS,
    "SCMP_CMP_LE": Operator.LESS_EQUAL,
    "SCMP_CMP_EQ": Operator.EQUAL,
    "SCMP_CMP_GE": Operator.GREATER_EQUAL,
    "SCMP_CMP_GT": Operator.GREATER,
    "SCMP_CMP_MASKED_EQ": Operator.MASKED_EQUAL,
}
# SECCOMP_FILTER_FLAG_*; TSYNC means nothing for a process of one thread.
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0,
    "SECCOMP_FILTER_FLAG_LOG": 1 << 1,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 1 << 2,
}
# Per machine: how the OCI calls it, how moby's conditions call it, and its other interfaces.
_MACHINES = {
    "x86_64": ("SCMP_ARCH_X86_64", "amd64", {"SCMP_ARCH_X86": "X86", "SCMP_ARCH_X32": "X32"}),
    "aarch64": ("SCMP_ARCH_AARCH64", "arm64", {"SCMP_ARCH_ARM": "ARM"}),
}
_TOP = {
    "defaultAction", "defaultErrnoRet", "architectures", "archMap", "flags", "syscalls",
    "listenerPath", "listenerMetadata",
}  # fmt: skip
_RULE = {
    "names", "name", "action", "errnoRet", "args", "comment", "includes", "excludes",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Situation:
    """What moby's conditions look at.

    Attributes:
        machine: as of ``uname -m``.
        capabilities: those of the container, without ``CAP_``.
        kernel: its version, (6, 1).
    """

    machine: str
    capabilities: frozenset[str]
    kernel: tuple[int, int]


def parse_profile(text: bytes, situation: Situation) -> tuple[Profile, int]:
    """Return the profile of a file, and the flags to load it with.

    Raises:
        ValueError: it is no profile, or one that cannot be applied; says why.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES} bytes")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from error
    _known(data, _TOP, "the profile")
    if data.get("listenerPath"):
        raise ValueError("listenerPath: nothing listens here for notifications")
    if situation.machine not in _MACHINES:
        raise ValueError(f"no profile can be applied on {situation.machine}")
    default = _action(data, "defaultAction", "defaultErrnoRet", "the profile")
    rules: list[Rule] = []
    for index, item in enumerate(_list(data, "syscalls")):
        rules += _rules(item, f"syscalls[{index}]", default, situation)
    flags = 0
    for name in _list(data, "flags"):
        if name not in _FLAGS:
            raise ValueError(f"flag {name!r} is not one of {', '.join(_FLAGS)}")
        flags |= _FLAGS[name]
    profile = Profile(
        machine=situation.machine,
        default_errno=0,
        newest=None if default & 0xFFFF0000 in _PERMISSIVE else MENTIONED,
        rules=tuple(rules),
        default_action=default,
        interfaces=_interfaces(data, situation.machine),
    )
    return profile, flags


def _known(data: Any, names: set[str], what: str) -> None:
    if not isinstance(data, dict):
        raise ValueError(f"{what} is not an object")
    if unknown := sorted(set(data) - names):
        raise ValueError(f"{what} has an unknown field {unknown[0]!r}")


def _list(data: dict[str, Any], name: str) -> list[Any]:
    value = data.get(name)
    if value is not None and not isinstance(value, list):
        raise ValueError(f"{name} is not a list")
    return value or []


def _number(data: dict[str, Any], name: str, what: str, default: int, limit: int) -> int:
    value = data.get(name, default)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise ValueError(f"{what}: {name} is not a number from 0 to {limit}")
    return value


def _action(data: dict[str, Any], name: str, errno_name: str, what: str) -> int:
    word = data.get(name)
    if word == "SCMP_ACT_NOTIFY":
        raise ValueError(f"{what}: SCMP_ACT_NOTIFY: nothing listens here for notifications")
    if not isinstance(word, str) or word not in _ACTIONS:
        raise ValueError(f"{what}: {name} {word!r} is not one of {', '.join(_ACTIONS)}")
    action = _ACTIONS[word]
    if action in (ERRNO, TRACE):
        return action | _number(data, errno_name, what, EPERM, 0xFFFF)
    return action


def _interfaces(data: dict[str, Any], machine: str) -> tuple[str, ...]:
    """Return the other interfaces of the machine that the profile admits."""
    own, _, others = _MACHINES[machine]
    names = _list(data, "architectures")
    for entry in _list(data, "archMap"):
        _known(entry, {"architecture", "subArchitectures"}, "archMap")
        if entry.get("architecture") == own:
            names = [*names, *_list(entry, "subArchitectures")]
    return tuple(others[name] for name in dict.fromkeys(names) if name in others)


def _rules(item: Any, what: str, default: int, situation: Situation) -> list[Rule]:
    _known(item, _RULE, what)
    names = [*_list(item, "names"), *([item["name"]] if item.get("name") else [])]
    if not names or not all(isinstance(name, str) and name.isascii() for name in names):
        raise ValueError(f"{what}: names is not a list of names of system calls")
    action = _action(item, "action", "errnoRet", what)
    alternatives = _comparisons(item, what)
    if not _applies(item, what, situation) or action == default:
        return []
    return [Rule(name, comparisons=each, action=action) for name in names for each in alternatives]


def _comparisons(item: dict[str, Any], what: str) -> list[tuple[Comparison, ...]]:
    """Return the alternatives under which a rule holds; each is a list of conditions that must all hold.

    libseccomp takes one condition for each argument. Where a rule has two, they are alternatives, as with runc
    (``libcontainer/seccomp``) and thus with every profile that was written for it.
    """
    result = []
    for index, arg in enumerate(_list(item, "args")):
        where = f"{what}.args[{index}]"
        _known(arg, {"index", "value", "valueTwo", "op"}, where)
        if arg.get("op") not in _OPERATORS:
            words = ", ".join(_OPERATORS)
            raise ValueError(f"{where}: op {arg.get('op')!r} is not one of {words}")
        operator, most = _OPERATORS[arg["op"]], (1 << 64) - 1
        value = _number(arg, "value", where, 0, most)
        place = _number(arg, "index", where, 0, 5)
        if operator is Operator.MASKED_EQUAL:
            wanted = _number(arg, "valueTwo", where, 0, most)
            result.append(Comparison(place, operator, wanted, value))
        else:
            result.append(Comparison(place, operator, value))
    if len({comparison.index for comparison in result}) < len(result):
        return [(comparison,) for comparison in result]
    return [tuple(result)]


def _applies(item: dict[str, Any], what: str, situation: Situation) -> bool:
    """Whether a rule's conditions hold (moby's ``profiles/seccomp``)."""
    moby = _MACHINES[situation.machine][1]
    for side, wanted in (("includes", True), ("excludes", False)):
        conditions = item.get(side) or {}
        where = f"{what}.{side}"
        _known(conditions, {"caps", "arches", "minKernel"}, where)
        caps = {str(cap).removeprefix("CAP_") for cap in _list(conditions, "caps")}
        held = situation.capabilities
        if caps and (not caps <= held if wanted else caps & held):
            return False
        arches = _list(conditions, "arches")
        if arches and (moby in arches) != wanted:
            return False
        if kernel := conditions.get("minKernel"):
            try:
                major, minor = map(int, str(kernel).split(".")[:2])
            except ValueError:
                raise ValueError(f"{where}: minKernel {kernel!r} is not like 5.12") from None
            if (situation.kernel >= (major, minor)) != wanted:
                return False
    return True
