# SPDX-License-Identifier: GPL-3.0-or-later
"""Status, phase, conditions, back-off, exit codes: each row of Kubernetes' rules that minipod implements is a test."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minipod.api import (
    Container,
    ContainerStatus,
    Member,
    Pod,
    PodCondition,
    PodStatus,
    ResourceRequirements,
)
from minipod.pods import backoff
from minipod.pods import status as module
from minipod.pods.order import restarts
from minipod.pods.record import ContainerRecord, Ended, PodRecord
from minipod.pods.signals import parse_signal
from minipod.pods.status import container_id, exit_of, phase, pod_status
from minipod.pods.times import timestamp
from tests.unit.test_plan_checker import UID, pod

NOW = 1_800_000_000.0


APP = Member(Container(name="a", image="img"), "app", "spec.containers[0]")


def container_status(of: Pod, one: ContainerRecord) -> ContainerStatus:
    """Return the status of a container of the app."""
    return module.container_status(of, APP, one)


def ended(code: int, reason: str = "", number: int = 0) -> Ended:
    """Return an end with *code*, an hour ago."""
    words = reason or ("Completed" if code == 0 else "Error")
    return Ended(code, words, NOW - 3700, NOW - 3600, number)


def waiting(last: Ended | None = None, reason: str = "ContainerCreating") -> ContainerRecord:
    return ContainerRecord("a", "waiting", 0 if last else -1, reason, ended=last)


def starting(last: Ended | None = None) -> ContainerRecord:
    return ContainerRecord("a", "starting", 1 if last else 0, ended=last)


def running(last: Ended | None = None) -> ContainerRecord:
    return ContainerRecord("a", "running", 1 if last else 0, pid=5, started=NOW - 60, ended=last)


def over(code: int) -> ContainerRecord:
    return ContainerRecord("a", "ended", 0, ended=ended(code), next_start=None)


def record(*containers: ContainerRecord, **changes: object) -> PodRecord:
    """Return a pod's record; its containers are called c0, c1, …"""
    for i, container in enumerate(containers):
        container.name = f"c{i}"
    return PodRecord(containers=list(containers), **changes)  # type: ignore[arg-type]


def pod_of(containers: PodRecord) -> Pod:
    """Return a pod that this record may be of."""
    return pod(*(Container(name=c.name, image="img") for c in containers.containers))


# ---- Phases: Pending, Running, Succeeded (all exited 0, no restart), Failed (all terminated, >=1 non-zero) ------


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        ((waiting(),), "Pending"),
        ((starting(),), "Pending"),
        ((waiting(), waiting()), "Pending"),
        ((running(), waiting()), "Pending"),  # one has never run yet
        ((over(0), starting()), "Pending"),
        ((running(),), "Running"),
        ((running(), running()), "Running"),
        ((running(), over(0)), "Running"),
        ((running(), over(1)), "Running"),
        ((waiting(ended(1)),), "Running"),  # to be restarted: CrashLoopBackOff is no phase
        ((starting(ended(0)),), "Running"),
        ((waiting(ended(1)), over(0)), "Running"),
        ((over(0),), "Succeeded"),
        ((over(0), over(0)), "Succeeded"),
        ((over(1),), "Failed"),
        ((over(0), over(1)), "Failed"),
        ((over(137), over(0)), "Failed"),
    ],
)
def test_phases(containers: tuple[ContainerRecord, ...], expected: str) -> None:
    of_record = record(*containers)
    assert phase(pod_of(of_record), of_record) == expected


# ---- restartPolicy default Always; OnFailure = non-zero only; Never ----------------------------------------------


@pytest.mark.parametrize(
    ("policy", "code", "expected"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("Always", 137, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("OnFailure", 128, True),
        ("OnFailure", 137, True),
        ("Never", 0, False),
        ("Never", 1, False),
        ("Never", 143, False),
    ],
)
def test_restart_policy(policy: str, code: int, expected: bool) -> None:
    assert restarts(pod(restart_policy=policy), APP, code) is expected


def test_restart_policy_is_always_by_default() -> None:
    assert restarts(pod(), APP, 0)


# ---- Container states Waiting, Running, Terminated; lastState, restartCount, ready, started ---------------------


def test_state_waiting() -> None:
    status = container_status(pod(), waiting(reason="ErrImageNeverPull"))
    assert status.state.waiting and status.state.waiting.reason == "ErrImageNeverPull"
    assert status.state.running is None and status.state.terminated is None
    assert (status.ready, status.started, status.restart_count) == (False, False, 0)
    assert status.container_id is None
    assert status.last_state.terminated is None


def test_state_starting_is_waiting() -> None:
    status = container_status(pod(), starting())
    assert status.state.waiting and status.state.waiting.reason == "ContainerCreating"
    assert status.container_id == f"minipod://{UID}/a/0"


def test_state_running() -> None:
    status = container_status(pod(), running())
    assert status.state.running and status.state.running.started_at == timestamp(NOW - 60)
    assert status.state.waiting is None and status.state.terminated is None
    assert (status.ready, status.started) == (True, True)
    assert status.image == "img"


def test_state_terminated() -> None:
    status = container_status(pod(), over(3))
    terminated = status.state.terminated
    assert terminated
    assert (terminated.exit_code, terminated.reason, terminated.signal) == (3, "Error", None)
    assert terminated.started_at == timestamp(NOW - 3700)
    assert terminated.finished_at == timestamp(NOW - 3600)
    assert (status.ready, status.started) == (False, False)
    assert status.last_state.terminated is None


def test_last_state_after_a_restart() -> None:
    one = running(ended(137, "OOMKilled", 9))
    one.attempt = 4
    status = container_status(pod(), one)
    last = status.last_state.terminated
    assert last and (last.exit_code, last.reason, last.signal) == (137, "OOMKilled", 9)
    assert status.restart_count == 4
    assert status.container_id == container_id(UID, "a", 4)


def test_last_state_while_it_waits_for_a_restart() -> None:
    status = container_status(pod(), waiting(ended(1), "CrashLoopBackOff"))
    assert status.state.waiting and status.state.waiting.reason == "CrashLoopBackOff"
    assert status.last_state.terminated and status.last_state.terminated.exit_code == 1


# ---- Conditions: PodScheduled, PodReadyToStartContainers, Initialized, ContainersReady, Ready ---------------------


def conditions(of_record: PodRecord, notes: list[str] | None = None) -> dict[str, PodCondition]:
    one = pod_of(of_record)
    status = pod_status(one, of_record, host_ip="10.0.0.1", notes=notes or [], now=NOW)
    return {condition.type: condition for condition in status.conditions}


@pytest.mark.parametrize(
    ("of_record", "sandbox", "ready", "reason"),
    [
        (record(waiting()), "False", "False", "ContainersNotReady"),
        (record(waiting(), sandbox_up=True), "True", "False", "ContainersNotReady"),
        (record(starting(), sandbox_up=True), "True", "False", "ContainersNotReady"),
        (record(running(), sandbox_up=True), "True", "True", None),
        (record(running(), over(0), sandbox_up=True), "True", "False", "ContainersNotReady"),
        (record(over(0)), "False", "False", "PodCompleted"),
        (record(over(1)), "False", "False", "PodFailed"),
    ],
)
def test_conditions(of_record: PodRecord, sandbox: str, ready: str, reason: str | None) -> None:
    found = conditions(of_record)
    assert list(found) == [
        "PodScheduled",
        "PodReadyToStartContainers",
        "Initialized",
        "ContainersReady",
        "Ready",
    ]
    assert found["PodScheduled"].status == found["Initialized"].status == "True"
    assert found["PodReadyToStartContainers"].status == sandbox
    for name in ("ContainersReady", "Ready"):
        assert (found[name].status, found[name].reason) == (ready, reason)


def test_unready_containers_are_named() -> None:
    message = conditions(record(running(), waiting(), starting()))["Ready"].message
    assert message == "containers with unready status: [c1 c2]"


def test_what_the_machine_lacks_is_said_once() -> None:
    degraded = conditions(record(running()), ["no swap", "no pids"])["minipod.dev/Degraded"]
    assert (degraded.status, degraded.message) == ("True", "no swap; no pids")
    assert "minipod.dev/Degraded" not in conditions(record(running()))


def test_last_transition_time_changes_with_the_status_only() -> None:
    of_record = record(waiting())
    one = pod_of(of_record)

    def update(now: float) -> dict[str, str | None]:
        one.status = pod_status(one, of_record, host_ip="", notes=[], now=now)
        return {c.type: c.last_transition_time for c in one.status.conditions}

    first = update(NOW)
    assert set(first.values()) == {timestamp(NOW)}
    assert update(NOW + 10) == first
    of_record.containers[0].state = "running"
    of_record.containers[0].attempt = 0
    later = update(NOW + 20)
    assert {name for name in later if later[name] != first[name]} == {"Ready", "ContainersReady"}
    assert later["Ready"] == timestamp(NOW + 20)


# ---- the rest of the status -------------------------------------------------------------------------------------


def test_addresses() -> None:
    of_record = record(running(), address="10.99.0.7", sandbox_up=True)
    one = pod_of(of_record)
    one.status = pod_status(one, of_record, host_ip="192.0.2.1", notes=[], now=NOW)
    assert (one.status.pod_ip, one.status.host_ip) == ("10.99.0.7", "192.0.2.1")
    assert [ip.ip for ip in one.status.pod_ips] == ["10.99.0.7"]
    # It stays shown when the sandbox has been taken down.
    of_record.address = ""
    assert pod_status(one, of_record, host_ip="", notes=[], now=NOW).pod_ip == "10.99.0.7"
    fresh = pod_of(of_record)
    assert pod_status(fresh, of_record, host_ip="", notes=[], now=NOW).pod_ip is None
    shared = pod_of(of_record)
    shared.spec.host_network = True
    status = pod_status(shared, record(running()), host_ip="192.0.2.1", notes=[], now=NOW)
    assert status.pod_ip == status.host_ip == "192.0.2.1"


def test_start_time_is_the_first_that_the_pod_was_seen() -> None:
    one = pod_of(record(waiting()))
    one.status = pod_status(one, record(waiting()), host_ip="", notes=[], now=NOW)
    assert one.status.start_time == timestamp(NOW)
    again = pod_status(one, record(running()), host_ip="", notes=[], now=NOW + 99)
    assert again.start_time == timestamp(NOW)


def test_qos_class_and_images() -> None:
    resources = ResourceRequirements({"cpu": "1", "memory": "1Gi"})
    one = pod(
        Container(name="c0", image="first", resources=resources),
        Container(name="c1", image="second", resources=resources),
    )
    status = pod_status(one, record(running(), running()), host_ip="", notes=[], now=NOW)
    assert status.qos_class == "Guaranteed"
    assert [(c.name, c.image) for c in status.container_statuses] == [
        ("c0", "first"),
        ("c1", "second"),
    ]
    assert isinstance(status, PodStatus)


def test_times_are_rfc_3339_in_utc() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00Z"
    assert timestamp(1_800_000_000.9) == "2027-01-15T08:00:00Z"


# ---- Terminated reasons: 128+n for signals ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0, (0, 0)),
        (1 << 8, (1, 0)),
        (255 << 8, (255, 0)),
        (9, (137, 9)),
        (15, (143, 15)),
        (11, (139, 11)),
        (11 | 0x80, (139, 11)),  # with a core dump
        (137 << 8, (137, 0)),  # a shell that saw its child killed
    ],
)
def test_exit_codes(status: int, expected: tuple[int, int]) -> None:
    assert exit_of(status) == expected


# ---- Stop: TERM, or the image's STOPSIGNAL -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", signal.SIGTERM),
        ("SIGTERM", signal.SIGTERM),
        ("SIGQUIT", signal.SIGQUIT),
        ("QUIT", signal.SIGQUIT),
        ("sigquit", signal.SIGQUIT),
        ("3", signal.SIGQUIT),
        ("64", 64),
        ("SIGRTMIN", signal.SIGRTMIN),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),  # systemd's in a container
        ("RTMIN+3", signal.SIGRTMIN + 3),
        ("SIGRTMAX-2", signal.SIGRTMAX - 2),
        ("SIGRTMAX", signal.SIGRTMAX),
        # What means nothing is TERM: the image is hostile input.
        ("0", signal.SIGTERM),
        ("65", signal.SIGTERM),
        ("-9", signal.SIGTERM),
        ("SIGNOPE", signal.SIGTERM),
        ("SIG_BLOCK", signal.SIGTERM),
        ("²", signal.SIGTERM),
        ("SIGRTMIN+²", signal.SIGTERM),
        ("SIGRTMIN+31", signal.SIGTERM),
        ("SIGRTMIN+99999999999", signal.SIGTERM),
        ("9" * 5000, signal.SIGTERM),
        ("SIGRTMIN+" + "9" * 5000, signal.SIGTERM),
    ],
)
def test_stop_signals(name: str, expected: int) -> None:
    assert parse_signal(name) == expected


@given(st.text(max_size=12))
def test_any_stop_signal_is_a_signal(name: str) -> None:
    assert 1 <= parse_signal(name) <= signal.SIGRTMAX


# ---- Back-off: 1st restart immediate, then 10 s, 20, 40, 80, 160, cap 300 s; reset after 10 min --------------------


def test_the_back_off_of_a_crashing_container() -> None:
    current = updated = 0.0
    now = NOW
    waits = []
    for _ in range(10):
        now += 1  # it ran for a second
        wait = backoff.delay(current, updated, now)
        waits.append(wait)
        ended_at, now = now, now + wait
        current, updated = backoff.after_start(current, updated, ended_at, now)
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300, 300, 300]


@pytest.mark.parametrize(
    ("ran", "expected"), [(1.0, 40.0), (599.0, 40.0), (600.0, 40.0), (600.1, 0.0), (1e6, 0.0)]
)
def test_ten_minutes_of_clean_running_reset_it(ran: float, expected: float) -> None:
    assert backoff.delay(40.0, NOW, NOW + ran) == expected


def test_after_a_reset_it_begins_anew() -> None:
    later = NOW + 601
    assert backoff.delay(300.0, NOW, later) == 0
    current, updated = backoff.after_start(300.0, NOW, later, later)
    assert (current, updated) == (10.0, later)
    assert backoff.delay(current, updated, later + 1) == 10.0


@given(
    st.floats(0, 300),
    st.floats(1e9, 2e9),
    st.floats(0, 5000),
)
def test_the_back_off_stays_in_its_bounds(current: float, updated: float, ran: float) -> None:
    end = updated + ran
    assert 0 <= backoff.delay(current, updated, end) <= backoff.MAXIMUM
    after, when = backoff.after_start(current, updated, end, end)
    assert backoff.INITIAL <= after <= backoff.MAXIMUM or after == current * 2
    assert when == end
