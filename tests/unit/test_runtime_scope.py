# SPDX-License-Identifier: GPL-3.0-or-later
"""When pods get a scope from systemd, and what is asked of it; tests/vm has the real one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from minipod.config import HELPER_ENV
from minipod.errors import MinipodError
from minipod.plan.context import Facts, Hierarchy
from minipod.runtime import scope
from minipod.runtime.scope import Home

PATH = "system.slice/minipod.scope"


class Systemd:
    """Plays systemctl and systemd-run, and notes how they were called."""

    def __init__(self, directory: Path, group: str, made: str) -> None:
        self.notes = directory / "notes"
        for name, answer in (("systemctl", group), ("systemd-run", made)):
            program = directory / name
            note = f"echo {name} $(echo \"$*\" | tr '\\n' ' ') >>{self.notes}"
            program.write_text(f"#!/bin/sh\n{note}\n{answer}\n")
            program.chmod(0o755)

    def calls(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []


@pytest.fixture
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Facts:
    """A machine with cgroup2 alone, on which systemd has started us."""
    monkeypatch.setenv("SYSTEMD_EXEC_PID", str(os.getpid()))
    path = f"{tmp_path}:{HELPER_ENV['PATH']}"
    monkeypatch.setattr(scope, "HELPER_ENV", {**HELPER_ENV, "PATH": path})
    return Facts((Hierarchy(str(tmp_path), ("cpu", "memory", "pids"), 2),), 0)


def expected(tmp_path: Path) -> Home:
    return Home(f"{PATH}/minipod", "minipod.scope", f"{tmp_path}/{PATH}/shims/cgroup.procs")


def test_a_scope_is_made(tmp_path: Path, facts: Facts) -> None:
    systemd = Systemd(tmp_path, "echo", f"echo {PATH}")
    assert scope.find(facts, "/minipod/") == expected(tmp_path)
    asked = systemd.calls()[-1]
    for option in ("--scope", "--unit=minipod.scope", "Delegate=yes", "TasksMax=infinity"):
        assert option in asked


def test_a_scope_that_is_there_is_used(tmp_path: Path, facts: Facts) -> None:
    systemd = Systemd(tmp_path, f"echo /{PATH}", "exit 1")
    procs = tmp_path / PATH / "shims" / "cgroup.procs"
    procs.parent.mkdir(parents=True)
    procs.write_text("1\n")
    assert scope.find(facts, "minipod") == expected(tmp_path)
    assert [call.split()[0] for call in systemd.calls()] == ["systemctl"]
    assert procs.read_text() == "1\n"


def test_a_scope_without_its_keeper_gets_one(tmp_path: Path, facts: Facts) -> None:
    Systemd(tmp_path, f"echo /{PATH}", "exit 1")
    procs = tmp_path / PATH / "shims" / "cgroup.procs"
    procs.parent.mkdir(parents=True)
    procs.touch()
    scope.find(facts, "minipod")
    keeper = int(procs.read_text())
    os.kill(keeper, signal.SIGKILL)
    os.waitpid(keeper, 0)


def test_a_scope_on_its_way_out_is_none(tmp_path: Path, facts: Facts) -> None:
    systemd = Systemd(tmp_path, f"echo /{PATH}", f"echo {PATH}")
    scope.find(facts, "minipod")
    assert [call.split()[0] for call in systemd.calls()] == ["systemctl", "systemd-run"]


def test_systemd_that_refuses(tmp_path: Path, facts: Facts) -> None:
    Systemd(tmp_path, "echo", "echo no bus >&2; exit 1")
    with pytest.raises(MinipodError, match=r"no minipod\.scope for the pods: no bus"):
        scope.find(facts, "minipod")


def test_no_scope_for_an_agent_that_inherited_its_environment(
    tmp_path: Path, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd = Systemd(tmp_path, "exit 1", "exit 1")
    for value in ("1", ""):
        monkeypatch.setenv("SYSTEMD_EXEC_PID", value)
        assert scope.find(facts, "minipod") == Home("minipod")
    monkeypatch.delenv("SYSTEMD_EXEC_PID")
    assert scope.find(facts, "minipod") == Home("minipod")
    assert systemd.calls() == []


def test_no_scope_beside_cgroup_v1(tmp_path: Path, facts: Facts) -> None:
    systemd = Systemd(tmp_path, "exit 1", "exit 1")
    v1 = Hierarchy("/sys/fs/cgroup/memory", ("memory",), 1)
    for hierarchies in ((*facts.hierarchies, v1), (v1,)):
        assert scope.find(Facts(hierarchies, 0), "minipod") == Home("minipod")
    assert systemd.calls() == []


def test_a_scope_is_released_by_its_name(tmp_path: Path, facts: Facts) -> None:
    systemd = Systemd(tmp_path, "", "")
    scope.release(Home("minipod"))
    assert systemd.calls() == []
    scope.release(expected(tmp_path))
    assert systemd.calls() == ["systemctl stop minipod.scope"]


def test_only_what_reaches_the_scope_is_used(tmp_path: Path) -> None:
    """systemd hands down cpu, memory and pids, whatever else the kernel has."""
    mount, v1 = tmp_path / "cgroup2", Hierarchy("/sys/fs/cgroup/cpu", ("cpu",), 1)
    (mount / PATH).mkdir(parents=True)
    (mount / "cgroup.controllers").write_text("cpu io memory hugetlb pids\n")
    (mount / PATH / "cgroup.controllers").write_text("cpu memory pids\n")
    known = ("cpu", "memory", "hugetlb", "pids")
    facts = Facts((Hierarchy(str(mount), known, 2), v1), 0)
    within = scope.delegated(facts, Home(f"{PATH}/minipod", "minipod.scope"))
    assert [h.controllers for h in within.hierarchies] == [("cpu", "memory", "pids"), ("cpu",)]
    alone = scope.delegated(facts, Home("minipod"))
    assert alone == facts, "the parent is not there yet: what its own will have counts"
