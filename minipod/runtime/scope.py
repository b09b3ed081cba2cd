# SPDX-License-Identifier: GPL-3.0-or-later
"""Where pods live in the cgroup tree: below ``/<cgroup_parent>``, or in a scope that systemd has delegated to us.

On a host with systemd and cgroup2 alone the tree is systemd's, and what is ours must be delegated (systemd's
CGROUP_DELEGATION page). The agent's own service is no place for pods: systemd starts a service's process in the
service's cgroup itself, and cgroup2 lets no process into a cgroup that hands controllers down. An agent that died
over running pods could not be started again (exit code 219; DelegateSubgroup= mends that, from systemd 254). A
transient service that still has processes cannot be made again either. A scope has no main process, so pods stay in
``<cgroup_parent>.scope`` while agents come and go beside it, and ``systemctl stop`` of the scope ends all pods.

A scope lasts as long as there is a process in it: the keeper, in the leaf where the pods' shims are, too.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from minipod.config import HELPER_ENV
from minipod.errors import MinipodError
from minipod.plan.context import Facts

STOP_SECONDS = 30  # between SIGTERM and SIGKILL when systemd ends all pods, as at shutdown
# Says where its scope is; $0 is the mount point of cgroup2.
_KEEPER = """set -e
read -r line </proc/self/cgroup
mkdir -p "$0${line#0::}/shims"
echo $$ >"$0${line#0::}/shims/cgroup.procs"
echo "${line#0::/}"
exec sleep infinity >/dev/null 2>&1
"""


@dataclass(frozen=True, slots=True)
class Home:
    """Where pods live.

    Attributes:
        parent: their common cgroup, relative to each hierarchy's mount point.
        unit: the scope that *parent* is in; empty without one.
        shims: the ``cgroup.procs`` of the leaf for shims; empty leaves them where the agent is.
    """

    parent: str
    unit: str = ""
    shims: str = ""


def find(facts: Facts, parent: str) -> Home:
    """Return where pods live, and make the scope if there is to be one and there is none.

    Raises:
        MinipodError: systemd does not make the scope.
    """
    hierarchy = facts.hierarchies[0]
    # SYSTEMD_EXEC_PID (systemd.exec(5)): systemd itself has started us, not somebody whose environment we inherit.
    if len(facts.hierarchies) > 1 or hierarchy.version == 1:
        return Home(parent)
    if os.environ.get("SYSTEMD_EXEC_PID") != str(os.getpid()):
        return Home(parent)
    unit = f"{parent.strip('/').replace('/', '-')}.scope"
    path = _existing(unit, hierarchy.directory) or _create(unit, hierarchy.directory)
    return Home(
        f"{path}/{parent.strip('/')}", unit, f"{hierarchy.directory}/{path}/shims/cgroup.procs"
    )


def delegated(facts: Facts, home: Home) -> Facts:
    """Return *facts* with those controllers of cgroup2 only that reach the pods' parent: systemd keeps hugetlb."""
    hierarchies = []
    for hierarchy in facts.hierarchies:
        place = Path(hierarchy.directory, home.parent)
        if hierarchy.version == 2 and hierarchy.controllers:
            while not (control := place / "cgroup.controllers").exists() and place.parent != place:
                place = place.parent
            have = control.read_text().split() if control.exists() else []
            controllers = tuple(name for name in hierarchy.controllers if name in have)
            hierarchies.append(replace(hierarchy, controllers=controllers))
        else:
            hierarchies.append(hierarchy)
    return replace(facts, hierarchies=tuple(hierarchies))


def _existing(unit: str, directory: str) -> str:
    shown = _systemctl("show", "--property=ControlGroup", "--value", unit)
    path = shown.stdout.strip().lstrip("/")
    procs = Path(directory, path, "shims", "cgroup.procs")
    # A scope that is just being taken down has lost the leaf, or loses it before the keeper is in.
    if not path or not procs.exists():
        return ""
    if not procs.read_text():
        keeper = subprocess.Popen(
            ["sleep", "infinity"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env=HELPER_ENV,
        )
        _let_go(keeper)
        procs.write_text(str(keeper.pid))
    return path


def _create(unit: str, directory: str) -> str:
    keeper = subprocess.Popen(
        [
            *("systemd-run", "--scope", "--quiet", f"--unit={unit}", "--description=minipod pods"),
            *("--property=Delegate=yes", f"--property=TimeoutStopSec={STOP_SECONDS}"),
            "--property=TasksMax=infinity",  # each pod has its own limit
            *("--", "/bin/sh", "-c", _KEEPER, directory),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd="/",
        env=HELPER_ENV,
    )
    assert keeper.stdout and keeper.stderr
    with keeper.stdout, keeper.stderr:
        path = keeper.stdout.readline().strip()
        if not path:
            words = " ".join(keeper.stderr.read().split())
            keeper.wait()
            raise MinipodError(
                f"systemd made no {unit} for the pods: {words}", f"systemctl status {unit}"
            )
    _let_go(keeper)
    return path


def _let_go(keeper: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    keeper.returncode = 0  # it outlives us; if not, it is reaped as any orphan of the pods'


def release(home: Home) -> None:
    """End the scope; for when no pod is left in it."""
    if home.unit:
        _systemctl("stop", home.unit)


def _systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemctl", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=HELPER_ENV,
    )
