# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose turn it is: a row of Kubernetes' rules about init containers, sidecars and restarts is a line here."""

from __future__ import annotations

from typing import Any

import pytest

from minipod.api import (
    Container,
    ContainerRestartRule,
    ContainerRestartRuleOnExitCodes,
    Member,
    Pod,
)
from minipod.pods import order
from minipod.pods.record import ContainerRecord, Ended, Failure, PodRecord
from minipod.pods.status import phase
from tests.unit.test_plan_checker import pod

NOW = 1_800_000_000.0

# One letter per container: i init, s sidecar, a app. States: "." has never run, "r" runs, "0" and "1" ended with that
# exit code for good, "w" waits to run again after a failure, "o" done in an earlier sandbox.


def made(kinds: str, states: str, **spec: Any) -> tuple[Pod, PodRecord]:
    """Return a pod of *kinds*, and a record in which its containers are in *states*."""
    init: list[Container] = []
    apps: list[Container] = []
    records = []
    for i, (kind, state) in enumerate(zip(kinds, states, strict=True)):
        policy = "Always" if kind == "s" else None
        container = Container(name=f"{kind}{i}", image="img", restart_policy=policy)
        (apps if kind == "a" else init).append(container)
        records.append(ran(container.name, state))
    of = pod(*apps, **spec)
    of.spec.init_containers = init
    return of, PodRecord(sandbox=1, sandbox_up=True, containers=records)


def ran(name: str, state: str) -> ContainerRecord:
    """Return the record of a container in a state."""
    if state == ".":
        return ContainerRecord(name)
    record = ContainerRecord(name, "running", 0, sandbox=0 if state == "o" else 1)
    if state != "r":
        code = 1 if state in "1w" else 0
        record.ended = Ended(code, "", NOW, NOW)
        record.state = "waiting" if state == "w" else "ended"
    return record


def names(records: list[ContainerRecord]) -> str:
    return " ".join(record.name for record in records)


# ---- Init: sequential, each must exit 0; app containers wait. Sidecar: next starts once it is started ---------------


@pytest.mark.parametrize(
    ("kinds", "states", "turn", "initialized"),
    [
        ("a", ".", "a0", True),
        ("aa", "..", "a0 a1", True),
        ("ia", "..", "i0", False),
        ("ia", "r.", "i0", False),
        ("ia", "w.", "i0", False),
        ("ia", "0.", "a1", True),
        ("iia", "...", "i0", False),
        ("iia", "0..", "i1", False),
        ("iiaa", "00..", "a2 a3", True),
        ("sa", "..", "s0", False),
        ("sa", "r.", "s0 a1", True),
        ("sa", "w.", "s0", False),
        ("ssa", "r..", "s0 s1", False),
        ("sia", "r..", "s0 i1", False),
        ("sia", "r0.", "s0 a2", True),
        ("sia", "wr.", "s0 i1", False),  # its restart holds nobody up who has begun
        ("sia", "w0.", "s0 a2", False),
        ("isa", "0r.", "s1 a2", True),
        ("sa", "wr", "s0 a1", True),  # once initialized, always
        ("ia", "o.", "i0", False),  # in a new sandbox it does its work again
        ("ia", "ow", "i0", False),
    ],
)
def test_turns(kinds: str, states: str, turn: str, initialized: bool) -> None:
    of, record = made(kinds, states)
    if "o" in states:  # as rewind() leaves it
        record.containers[0].state = "waiting"
        record.containers[-1].sandbox = 0
    assert names(order.startable(of, record)) == turn
    assert order.is_initialized(of, record) is initialized


# ---- Phases with init containers and sidecars --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "states", "policy", "expected"),
    [
        ("ia", "..", "Always", "Pending"),
        ("ia", "r.", "Always", "Pending"),
        ("ia", "w.", "Always", "Pending"),  # to be tried again
        ("ia", "0.", "Always", "Pending"),
        ("ia", "0r", "Always", "Running"),
        ("ia", "1.", "Never", "Failed"),
        ("iaa", "1..", "Never", "Failed"),
        ("sia", "r1.", "Never", "Pending"),  # until the sidecar has been stopped
        ("sia", "01.", "Never", "Failed"),
        ("ia", "00", "Never", "Succeeded"),
        ("sa", "r0", "Never", "Running"),  # does not count, but is waited for
        ("sa", "00", "Never", "Succeeded"),
        ("sa", "10", "Never", "Succeeded"),  # its exit code is ignored
        ("sa", "01", "Never", "Failed"),
        ("sa", "wr", "Always", "Running"),
        ("sa", "..", "Always", "Pending"),
        ("sa", "r.", "Always", "Pending"),
        ("sa", "rr", "Always", "Running"),
    ],
)
def test_phases(kinds: str, states: str, policy: str, expected: str) -> None:
    of, record = made(kinds, states, restart_policy=policy)
    assert phase(of, record) == expected


@pytest.mark.parametrize("states", ["..", "r.", "0w", "0.", "00"])
def test_a_pod_that_has_failed_as_a_whole(states: str) -> None:
    of, record = made("ia", states)
    record.failure = Failure("DeadlineExceeded", "", NOW)
    assert order.is_ending(of, record)
    assert phase(of, record) == ("Pending" if "r" in states else "Failed")


# ---- restartPolicy, of the pod and of the container; restartPolicyRules ------------------------------------------


def one(kind: str, policy: str | None = None, *rules: tuple[str, list[int]]) -> Member:
    container = Container(name="c", image="img", restart_policy=policy)
    container.restart_policy_rules = [
        ContainerRestartRule("Restart", ContainerRestartRuleOnExitCodes(operator, values))
        for operator, values in rules
    ]
    if kind == "app":
        return Member(container, "app", "spec.containers[0]")
    return Member(container, "init", "spec.initContainers[0]")


@pytest.mark.parametrize(
    ("member", "pod_policy", "code", "expected"),
    [
        # Init containers: Always acts as OnFailure.
        (one("init"), "Always", 0, False),
        (one("init"), "Always", 1, True),
        (one("init"), "OnFailure", 0, False),
        (one("init"), "OnFailure", 1, True),
        (one("init"), "Never", 0, False),
        (one("init"), "Never", 1, False),
        # Sidecars ignore the pod's.
        (one("init", "Always"), "Never", 0, True),
        (one("init", "Always"), "Never", 1, True),
        # A container's own comes before the pod's.
        (one("app", "Never"), "Always", 1, False),
        (one("app", "Always"), "Never", 0, True),
        (one("app", "OnFailure"), "Always", 0, False),
        (one("app", "OnFailure"), "Never", 1, True),
        (one("init", "Never"), "Always", 1, False),
        (one("init", "OnFailure"), "Never", 1, True),
        # Rules come before both.
        (one("app", "Never", ("In", [42])), "Never", 42, True),
        (one("app", "Never", ("In", [42])), "Never", 1, False),
        (one("app", "Never", ("In", [1]), ("In", [42])), "Never", 42, True),
        (one("app", "Never", ("NotIn", [42])), "Always", 42, False),
        (one("app", "Never", ("NotIn", [42])), "Always", 1, True),
        (one("app", "Always", ("In", [42])), "Never", 1, True),
        (one("app", "Never", ("In", [0])), "Never", 0, True),
        (one("init", "Never", ("In", [42])), "Never", 42, True),
        (one("init", "Never", ("In", [42])), "Never", 41, False),
        (one("init", "Never", ("In", [0])), "Always", 0, False),  # it has done its work
    ],
)
def test_restarts(member: Member, pod_policy: str, code: int, expected: bool) -> None:
    assert order.restarts(pod(restart_policy=pod_policy), member, code) is expected


# ---- Sidecars are stopped after the last app container, in reverse order -----------------------------------------


@pytest.mark.parametrize(
    ("kinds", "states", "may"),
    [
        ("a", "r", "a0"),
        ("aa", "rr", "a0 a1"),
        ("sa", "rr", "a1"),
        ("sa", "r0", "s0"),
        ("ssa", "rrr", "a2"),
        ("ssa", "rr0", "s1"),
        ("ssa", "r00", "s0"),
        ("ssa", "rw0", "s0"),  # one that does not run holds nobody up
        ("ssaa", "rr0r", "a3"),
        ("sia", "rr.", "s0 i1"),  # a regular init container holds nobody up either
        ("ssa", "rr.", "s1"),
    ],
)
def test_the_order_of_stopping(kinds: str, states: str, may: str) -> None:
    of, record = made(kinds, states)
    found = [c.name for c in order.live(record) if order.may_stop(of, record, c.name)]
    assert " ".join(found) == may


# ---- activeDeadlineSeconds from startTime, init included ---------------------------------------------------------


def test_the_deadline_counts_from_the_start_time() -> None:
    of, _ = made("a", ".", active_deadline_seconds=60)
    assert order.deadline(of) is None, "it has not begun"
    of.status.start_time = "2027-01-15T08:00:00Z"
    assert order.deadline(of) == NOW + 60
    of.spec.active_deadline_seconds = None
    assert order.deadline(of) is None
