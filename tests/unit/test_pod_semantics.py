# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes' semantics of a pod, row by row, with Kubernetes' own numbers: the rules as pure functions have them.

Each row of the project's checklist is a test here, or several, called after it. How the rules meet events, clocks and
the kernel is tested where they do: ``test_pods_*.py`` beside this file, and ``tests/root``.
"""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from minipod.api import Container, Member, Pod, load_manifests, members, qos_class
from minipod.api.objects import PodStatus
from minipod.network.files import hosts_file
from minipod.plan import resources
from minipod.plan.command import argv, environment, expand
from minipod.plan.emptydir import empty_dir_mode, tmpfs_bytes
from minipod.pods import backoff, downward, messages, order, pulling, readiness
from minipod.pods.errors import CannotCreate, ConfigError
from minipod.pods.probes import http
from minipod.pods.record import ContainerRecord, Ended, Failure
from minipod.pods.signals import parse_signal
from minipod.pods.status import MESSAGE_BYTES, container_status, exit_of, phase, pod_status
from minipod.pods.stopping import MINIMUM_GRACE
from tests.unit.test_api_manifest import container, problems, spec
from tests.unit.test_plan_checker import V2
from tests.unit.test_plan_checker import run as run_of
from tests.unit.test_pods_order import NOW, made, names

MI = 1 << 20


def loaded(text: str) -> Pod:
    """Return the pod of a manifest."""
    return load_manifests(text, "pod.yaml")[0].pod


def one(text: str) -> Container:
    """Return a container whose fields are *text*."""
    return loaded(container(text)).spec.containers[0]


# ---- phases, states, conditions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "states", "policy", "expected"),
    [
        ("a", ".", "Always", "Pending"),
        ("ia", "r.", "Always", "Pending"),  # init is included
        ("ia", "0r", "Always", "Running"),
        ("aa", "r0", "Never", "Running"),
        ("aa", "00", "Never", "Succeeded"),
        ("aa", "01", "Never", "Failed"),
        ("a", "w", "Always", "Running"),  # CrashLoopBackOff is no phase
        ("ia", "1.", "Never", "Failed"),
    ],
)
def test_row_phases(kinds: str, states: str, policy: str, expected: str) -> None:
    of, record = made(kinds, states, restart_policy=policy)
    assert phase(of, record) == expected


def test_row_container_states() -> None:
    of, record = made("a", "r")
    (found,) = members(of)
    last = Ended(3, "Error", NOW - 9, NOW - 5)
    record.containers[0].attempt, record.containers[0].ended = 2, last
    status = container_status(of, found, record.containers[0])
    assert status.state.running and not status.state.waiting and not status.state.terminated
    assert status.last_state.terminated and status.last_state.terminated.exit_code == 3
    assert (status.restart_count, status.ready, status.started) == (2, True, True)


def test_row_conditions() -> None:
    of, record = made("ia", "r.")

    def now() -> dict[str, str]:
        found = pod_status(of, record, host_ip="192.0.2.1", notes=[], now=NOW)
        return {condition.type: condition.status for condition in found.conditions}

    first = ["PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"]
    assert [name for name in now() if "." not in name] == first
    assert list(now().values())[:5] == ["True", "True", "False", "False", "False"]
    of, record = made("a", ".")
    assert now()["Initialized"] == "True"  # at once, without init containers
    of, record = made("a", "r")
    of.spec.readiness_gates = loaded(
        spec("readinessGates: [{conditionType: example.com/x}]")
    ).spec.readiness_gates
    assert (now()["ContainersReady"], now()["Ready"]) == (
        "True",
        "False",
    )  # a missing gate is False


# ---- restarts ----------------------------------------------------------------------------------------------------

APP = Container(name="a", image="img")


@pytest.mark.parametrize(
    ("policy", "code", "expected"),
    [
        (None, 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 1, False),
    ],
)
def test_row_restart_policy(policy: str | None, code: int, expected: bool) -> None:
    of = loaded(spec(f"restartPolicy: {policy}") if policy else spec(""))
    assert order.restarts(of, Member(APP, "app", "spec.containers[0]"), code) is expected


def test_row_restart_policy_of_containers_and_their_rules() -> None:
    text = (
        "restartPolicy: Never\n"
        "restartPolicyRules: [{action: Restart, exitCodes: {operator: %s, values: [42]}}]"
    )
    for operator, code, expected in (("In", 42, True), ("In", 1, False), ("NotIn", 1, True)):
        of = loaded(container(text % operator))
        (found,) = members(of)
        assert order.restarts(of, found, code) is expected
    rule = "{action: Restart, exitCodes: {operator: In, values: [1]}}"
    many = f"restartPolicy: Never\nrestartPolicyRules: [{', '.join([rule] * 21)}]"
    assert "20" in problems(container(many))[0]
    assert "restartPolicy" in problems(container(f"restartPolicyRules: [{rule}]"))[0]


def test_row_back_off() -> None:
    waits, current, updated, now = [], 0.0, 0.0, NOW
    for _ in range(8):
        wait = backoff.delay(current, updated, now)
        waits.append(wait)
        current, updated = backoff.after_start(current, updated, now, now + wait)
        now = updated + 1  # it runs for a second
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]
    assert backoff.delay(current, updated, updated + 601) == 0, "after 10 minutes of clean running"
    assert backoff.delay(current, updated, updated + 599) == 300


# ---- init containers and sidecars --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "states", "turn"),
    [
        ("iia", "...", "i0"),
        ("iia", "0..", "i1"),
        ("iia", "00.", "a2"),
        ("iia", "w..", "i0"),
        ("ia", "o.", "i0"),  # once more in another sandbox
    ],
)
def test_row_init_containers(kinds: str, states: str, turn: str) -> None:
    of, record = made(kinds, states)
    assert names(order.startable(of, record)) == turn


def test_row_init_containers_restart_as_on_failure_and_have_no_probes() -> None:
    of, _ = made("ia", "..", restart_policy="Always")
    init = next(iter(members(of)))
    assert [order.restarts(of, init, code) for code in (0, 1)] == [False, True]
    of.spec.restart_policy = "Never"
    assert not order.restarts(of, init, 1)
    text = spec("initContainers: [{name: i, image: b, livenessProbe: {tcpSocket: {port: 1}}}]")
    assert "livenessProbe" in problems(text)[0]
    assert (
        "a" in problems(spec("initContainers: [{name: a, image: b}]"))[0]
    )  # one namespace of names


def test_row_sidecars() -> None:
    of, record = made("sa", "..", restart_policy="Never")
    side = next(iter(members(of)))
    assert order.restarts(of, side, 0) and order.restarts(of, side, 1)
    assert names(order.startable(of, record)) == "s0"
    of, record = made("sia", "r..")
    assert names(order.startable(of, record)) == "s0 i1"  # the next one, once it has started
    record.containers[0].unstarted = True
    assert names(order.startable(of, record)) == "s0"
    of, record = made("sa", "r0", restart_policy="Never")
    assert order.is_ending(of, record)  # it does not keep the pod alive
    of, record = made("ssa", "rrr")
    assert [order.may_stop(of, record, c.name) for c in record.containers] == [False, False, True]
    of, record = made("ssa", "rr0")
    assert [order.may_stop(of, record, c.name) for c in record.containers[:2]] == [False, True]
    of, record = made("sa", "10", restart_policy="Never")
    assert phase(of, record) == "Succeeded"  # its exit code does not count


# ---- probes and hooks --------------------------------------------------------------------------------------------


def test_row_probe_numbers() -> None:
    probe = one("readinessProbe: {tcpSocket: {port: 80}}").readiness_probe
    assert probe is not None
    numbers = (probe.initial_delay_seconds, probe.period_seconds, probe.timeout_seconds)
    assert numbers == (0, 10, 1)
    assert (probe.success_threshold, probe.failure_threshold) == (1, 3)
    for kind in ("livenessProbe", "startupProbe"):
        text = container(f"{kind}: {{tcpSocket: {{port: 80}}, successThreshold: 2}}")
        assert "successThreshold" in problems(text)[0]
    both = container("livenessProbe: {exec: {command: [a]}, tcpSocket: {port: 80}}")
    assert "one handler" in problems(both)[0]


def test_row_startup_gates_and_readiness_begins_as_failure() -> None:
    found = Member(APP, "app", "spec.containers[0]")
    record = ContainerRecord("a", "running", 0, unstarted=True, unready=True)
    assert (readiness.started(found, record), readiness.ready(found, record)) == (False, False)
    record.unstarted = False
    assert (readiness.started(found, record), readiness.ready(found, record)) == (True, False)
    record.unready = False  # its first success, or it has no such probe
    assert readiness.ready(found, record)


def test_row_http_probe() -> None:
    action = one("livenessProbe: {httpGet: {port: 80}}").liveness_probe
    assert action and action.http_get
    assert (action.http_get.path, action.http_get.scheme) == ("/", "HTTP")
    made_of = http.request("HTTP", "10.0.0.1", 80, "/")
    headers = dict(made_of.headers)
    assert headers["User-Agent"].startswith("kube-probe/") and headers["Accept"] == "*/*"
    given = one("livenessProbe: {httpGet: {port: 80, httpHeaders: [{name: Accept, value: ''}]}}")
    assert given.liveness_probe and given.liveness_probe.http_get
    fewer = http.request("HTTP", "10.0.0.1", 80, "/", given.liveness_probe.http_get.http_headers)
    assert "Accept" not in dict(fewer.headers)  # an empty value removes it
    assert http.MAX_BODY == 10 * 1024


def test_row_tcp_and_grpc_probes() -> None:
    ports = "ports: [{name: web, containerPort: 80}]\n"
    assert one(ports + "livenessProbe: {tcpSocket: {port: web}}").liveness_probe
    assert "grpc.port" in problems(container(ports + "livenessProbe: {grpc: {port: web}}"))[0]


def test_row_a_probe_s_own_grace_period() -> None:
    tcp = "tcpSocket: {port: 80}, terminationGracePeriodSeconds"
    assert one(f"livenessProbe: {{{tcp}: 1}}").liveness_probe
    assert problems(container(f"livenessProbe: {{{tcp}: 0}}"))
    assert "readinessProbe" in problems(container(f"readinessProbe: {{{tcp}: 5}}"))[0]


def test_row_stop() -> None:
    assert loaded(spec("")).spec.termination_grace_period_seconds == 30
    assert MINIMUM_GRACE == 2
    assert parse_signal("") == signal.SIGTERM and parse_signal("SIGQUIT") == signal.SIGQUIT
    stop = "lifecycle: {stopSignal: SIGUSR1}"
    assert "os" in problems(container(stop))[0]  # it requires spec.os.name
    assert loaded(container(stop) + "  os: {name: linux}\n").spec.containers[0].lifecycle


def test_row_hooks() -> None:
    """With its hook under way a container is not Running yet, though its program runs."""
    of, record = made("a", "r")
    (found,) = members(of)
    record.containers[0].state, record.containers[0].hooking = "starting", True
    status = container_status(of, found, record.containers[0])
    assert status.state.waiting and not status.state.running and record.containers[0].is_up
    assert (
        "known to Kubernetes"
        in problems(container("lifecycle: {preStop: {tcpSocket: {port: 80}}}"))[0]
    )


def test_row_active_deadline() -> None:
    of, record = made("ia", "r.", active_deadline_seconds=60)
    of.status = PodStatus(start_time="2027-01-15T08:00:00Z")
    assert order.deadline(of) == 1_800_000_060
    record.failure = Failure("DeadlineExceeded", "…", NOW)
    record.containers = [ContainerRecord(c.name, "ended") for c in record.containers]
    status = pod_status(of, record, host_ip="", notes=[], now=NOW)
    assert (status.phase, status.reason) == ("Failed", "DeadlineExceeded")


# ---- resources ---------------------------------------------------------------------------------------------------

ALL = "resources: {limits: {cpu: 1, memory: 1Gi}}"


@pytest.mark.parametrize(
    ("text", "quality", "score"),
    [
        (ALL, "Guaranteed", -997),
        ("resources: {}", "BestEffort", 1000),
        ("resources: {requests: {memory: 1Gi}}", "Burstable", 1000 - 1000 // 16),
        ("resources: {requests: {cpu: 1}}", "Burstable", 999),
        ("resources: {requests: {memory: 16Gi}}", "Burstable", 3),
    ],
)
def test_row_qos_and_oom_score(text: str, quality: str, score: int) -> None:
    of = loaded(container(text))
    assert qos_class(of) == quality
    assert resources.oom_score_adj(of, of.spec.containers[0], 16 << 30) == score


def test_row_resources() -> None:
    assert one(ALL).resources.requests == {"cpu": "1", "memory": "1Gi"}  # the limit, by default
    assert [resources.cpu_quota_us(milli) for milli in (1, 500, 2000)] == [1000, 50_000, 200_000]
    assert [resources.cpu_shares(milli) for milli in (0, 500, 1000)] == [2, 512, 1024]
    assert [resources.cpu_weight(shares) for shares in (2, 1024, 262_144)] == [1, 100, 10_000]
    init = "initContainers: [{name: i, image: b, resources: {requests: {memory: 300Mi}}}]\n"
    apps = "containers: [{name: %s, image: b, resources: {requests: {memory: 200Mi}}}]\n"
    bounds = resources.pod_bounds(loaded(spec(init + apps % "a")), V2)
    assert bounds.memory_min == 300 * MI  # max(sum(app + sidecar), max(init))


# ---- what a container is given -----------------------------------------------------------------------------------


def test_row_environment() -> None:
    known = {"A": "1"}
    words = ("$(A)", "$(B)", "$$(A)", "x$(A)y", "$")
    assert [expand(word, known) for word in words] == ["1", "$(B)", "$(A)", "x1y", "$"]
    run = run_of(image_env=("A=image", "B=image"), env={"A": "manifest"})
    result = environment(APP, run, "host")
    assert (result["A"], result["B"]) == ("manifest", "image")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "p"),
        ("metadata.namespace", "n"),
        ("metadata.uid", "u"),
        ("metadata.labels['a']", "b"),
        ("metadata.annotations['c']", 'd"\n'),
        ("spec.nodeName", downward.node_name()),
        ("spec.serviceAccountName", "default"),
        ("status.hostIP", "192.0.2.1"),
        ("status.hostIPs", "192.0.2.1"),
        ("status.podIP", "10.0.0.1"),
        ("status.podIPs", "10.0.0.1"),
        ("metadata.labels", 'a="b"'),
        ("metadata.annotations", 'c="d\\"\\n"'),
    ],
)
def test_row_downward_api(path: str, expected: str) -> None:
    of = loaded(spec(""))
    meta = of.metadata
    meta.name, meta.namespace, meta.uid = "p", "n", "u"
    meta.labels, meta.annotations = {"a": "b"}, {"c": 'd"\n'}
    place = downward.Place(("192.0.2.1",), ("10.0.0.1",))
    assert downward.field_value(of, path, place) == expected


def test_row_termination_message() -> None:
    assert (APP.termination_message_path, APP.termination_message_policy) == (
        "/dev/termination-log",
        "File",
    )
    assert (messages.MAX_BYTES, MESSAGE_BYTES) == (4096, 12 * 1024)
    assert (messages.MAX_LOG_BYTES, messages.MAX_LOG_LINES) == (2048, 80)


@pytest.mark.parametrize(
    ("status", "code", "number"),
    [(0, 0, 0), (3 << 8, 3, 0), (9, 137, 9), (15, 143, 15)],
)
def test_row_exit_codes(status: int, code: int, number: int) -> None:
    assert exit_of(status) == (code, number)


def test_row_waiting_reasons_of_images() -> None:
    wanted = {"ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff", "InvalidImageName"}
    assert set(pulling.REASONS) == wanted
    waits = {kind.waiting for kind in (CannotCreate, ConfigError)}
    assert waits == {"CreateContainerError", "CreateContainerConfigError"}
    of, record = made("ia", "r.")
    app = list(members(of))[1]
    state = container_status(of, app, record.containers[1]).state
    assert state.waiting and state.waiting.reason == "PodInitializing"


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("img", "Always"),
        ("img:latest", "Always"),
        ("img:1", "IfNotPresent"),
        ("host:5000/img", "Always"),
        ("img@sha256:" + "0" * 64, "IfNotPresent"),
    ],
)
def test_row_image_pull_policy(image: str, expected: str) -> None:
    assert one(f'image: "{image}"').image_pull_policy == expected


@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [
        ([], [], ("entry", "cmd")),
        (["own"], [], ("own",)),  # CMD is dropped
        ([], ["arg"], ("entry", "arg")),
        (["own"], ["arg"], ("own", "arg")),
    ],
)
def test_row_command_and_args(command: list[str], args: list[str], expected: tuple[str]) -> None:
    of = Container(name="a", image="img", command=command, args=args)
    assert argv(of, ["entry"], ["cmd"], {}) == expected


def test_row_empty_dir() -> None:
    volumes = "volumes: [{name: v, emptyDir: {medium: Memory, sizeLimit: 2Mi}}]\n"
    of = loaded(spec(volumes))
    assert empty_dir_mode(of.spec.volumes[0]) == 0o777
    assert tmpfs_bytes(of, of.spec.volumes[0], V2) == 2 * MI
    of.spec.containers[0].resources.limits = {"memory": "1Mi"}
    assert tmpfs_bytes(of, of.spec.volumes[0], V2) == MI  # min(sizeLimit, sum of memory limits)
    small = replace(V2, memory=MI // 2)
    of.spec.containers[0].resources.limits = {}
    assert tmpfs_bytes(of, of.spec.volumes[0], small) == MI // 2


def test_row_hosts_and_dns() -> None:
    text = hosts_file("10.0.0.1", "web", aliases=[("10.9.9.9", ["a", "b"])])
    assert text.startswith("# Kubernetes-managed hosts file.\n")
    assert "10.0.0.1\tweb\n" in text and "10.9.9.9\ta\tb\n" in text
    assert loaded(spec("")).spec.dns_policy == "ClusterFirst"
    assert "dnsConfig" in problems(spec("dnsPolicy: None"))[0]
    assert "nameservers" in problems(spec("dnsPolicy: None\ndnsConfig: {}"))[0]
    assert problems(spec(f"hostnameOverride: {'a' * 65}"))
