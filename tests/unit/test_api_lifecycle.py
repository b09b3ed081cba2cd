# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes and hooks in a manifest: Kubernetes' rules, its defaults, and what is narrower here."""

from __future__ import annotations

import pytest

from minipod.api import Container, Pod, load_manifests
from tests.unit.test_api_manifest import container, problems


def loaded(text: str, spec: str = "") -> Pod:
    return load_manifests(container(text) + spec, "p.yaml")[0].pod


def first(text: str, spec: str = "") -> Container:
    return loaded(text, spec).spec.containers[0]


TCP = "tcpSocket: {port: 80}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("livenessProbe: {}", "livenessProbe: missing a handler: one of exec, httpGet, tcpSocket"),
        ("livenessProbe: {periodSeconds: 1}", "livenessProbe: missing a handler"),
        ("lifecycle: {preStop: {}}", "lifecycle.preStop: missing a handler: one of exec, httpGet"),
        (
            f"startupProbe: {{exec: {{command: [a]}}, {TCP}}}",
            "startupProbe.tcpSocket: may not be set beside exec: there is one handler",
        ),
        (
            "lifecycle: {postStart: {exec: {command: [a]}, sleep: {seconds: 1}}}",
            "lifecycle.postStart.sleep: may not be set beside exec",
        ),
        ("lifecycle: {preStop: {tcpSocket: {port: 80}}}", "preStop.tcpSocket: known to Kubernetes"),
        ("readinessProbe: {exec: {}}", "readinessProbe.exec.command: missing, and required"),
        ("readinessProbe: {httpGet: {}}", "httpGet.port: missing, and required: 1 to 65535"),
        ("readinessProbe: {httpGet: {port: 0}}", "httpGet.port: missing, and required"),
        ("readinessProbe: {httpGet: {port: 65536}}", "httpGet.port: must be 1 to 65535, not 65536"),
        ("readinessProbe: {httpGet: {port: '80'}}", 'httpGet.port: "80" is not a port name'),
        ("readinessProbe: {httpGet: {port: 1.5}}", "httpGet.port: expected a port's number or"),
        ("readinessProbe: {httpGet: {port: [1]}}", "httpGet.port: expected a port's number or"),
        ("readinessProbe: {httpGet: {port: true}}", "httpGet.port: expected a port's number or"),
        ("readinessProbe: {tcpSocket: {port: -1}}", "tcpSocket.port: must be 1 to 65535, not -1"),
        ("readinessProbe: {grpc: {}}", "grpc.port: missing, and required"),
        ("readinessProbe: {grpc: {port: http}}", "grpc.port: expected an integer"),
        ("readinessProbe: {grpc: {port: 1, mode: Verify}}", 'grpc.mode: "Verify" is not one of'),
        ("readinessProbe: {httpGet: {port: 1, scheme: http}}", 'httpGet.scheme: "http" is not'),
        ("readinessProbe: {httpGet: {port: 1, protocol: H2C}}", 'httpGet.protocol: "H2C" is not'),
        (
            "readinessProbe: {httpGet: {port: 1, protocol: HTTP2, scheme: HTTPS}}",
            "httpGet.protocol: HTTP2 excludes the scheme HTTPS",
        ),
        (
            "readinessProbe: {httpGet: {port: 1, protocol: HTTP2, host: a}}",
            "httpGet.host: may not be set with protocol HTTP2",
        ),
        (
            "readinessProbe: {httpGet: {port: 1, httpHeaders: [{name: 'a b', value: c}]}}",
            'httpGet.httpHeaders[0].name: "a b" is not a header\'s name',
        ),
        (
            'readinessProbe: {httpGet: {port: 1, httpHeaders: [{name: a, value: "b\\r\\nc: d"}]}}',
            "httpGet.httpHeaders[0].value: must not contain control characters",
        ),
        (
            'readinessProbe: {httpGet: {port: 1, path: "/a\\r\\nb"}}',
            "httpGet.path: must not contain control characters",
        ),
        ("readinessProbe: {httpGet: {port: 1, host: 'a/b'}}", 'host: "a/b" is neither a name nor'),
        (f"livenessProbe: {{{TCP}, initialDelaySeconds: -1}}", "Seconds: must be 0 or more"),
        (f"livenessProbe: {{{TCP}, timeoutSeconds: -1}}", "timeoutSeconds: must be 0 or more"),
        (f"livenessProbe: {{{TCP}, periodSeconds: -1}}", "periodSeconds: must be 0 or more"),
        (f"livenessProbe: {{{TCP}, failureThreshold: -1}}", "failureThreshold: must be 0 or"),
        (f"livenessProbe: {{{TCP}, successThreshold: 2}}", "successThreshold: must be 1"),
        (f"startupProbe: {{{TCP}, successThreshold: 2}}", "successThreshold: must be 1"),
        (
            f"livenessProbe: {{{TCP}, terminationGracePeriodSeconds: 0}}",
            "terminationGracePeriodSeconds: must be 1 or more",
        ),
        (
            f"readinessProbe: {{{TCP}, terminationGracePeriodSeconds: 3}}",
            "terminationGracePeriodSeconds: must not be set for readiness probes",
        ),
        ("lifecycle: {preStop: {sleep: {seconds: 31}}}", "must be 0 to the pod's"),
        ("lifecycle: {preStop: {sleep: {seconds: -1}}}", "must be 0 to the pod's"),
        ("lifecycle: {stopSignal: SIGTERM}", "lifecycle.stopSignal: requires spec.os.name"),
    ],
)
def test_refused(text: str, expected: str) -> None:
    (found,) = problems(container(text))
    assert expected in found


OS = "  os: {name: linux}\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGRTMIN+3", "SIGRTMAX-14", "SIGKILL"])
def test_stop_signals(name: str) -> None:
    lifecycle = first(f"lifecycle: {{stopSignal: {name}}}\n", OS).lifecycle
    assert lifecycle is not None
    assert lifecycle.stop_signal == name


@pytest.mark.parametrize("name", ["TERM", "SIGFOO", "9", "SIGRTMIN+16", "SIGRTMAX-15", "sigterm"])
def test_no_stop_signals(name: str) -> None:
    (found,) = problems(container(f"lifecycle: {{stopSignal: '{name}'}}\n") + OS)
    assert "is not a signal that stops a container" in found


@pytest.mark.parametrize(
    ("os", "expected"),
    [
        ("windows", "spec.os.name: windows is known to Kubernetes but not honoured by minipod"),
        ("beos", 'spec.os.name: "beos" is not one of linux'),
        ("''", "spec.os.name: missing, and required"),
    ],
)
def test_operating_systems(os: str, expected: str) -> None:
    (found,) = problems(container("") + f"  os: {{name: {os}}}\n")
    assert expected in found


def test_defaults() -> None:
    probe = first("readinessProbe: {httpGet: {port: 80}}").readiness_probe
    assert probe is not None and probe.http_get is not None
    assert (probe.initial_delay_seconds, probe.period_seconds, probe.timeout_seconds) == (0, 10, 1)
    assert (probe.success_threshold, probe.failure_threshold) == (1, 3)
    assert (probe.http_get.path, probe.http_get.scheme, probe.http_get.host) == ("/", "HTTP", "")


def test_what_is_0_or_empty_gets_its_default() -> None:
    numbers = "periodSeconds: 0, timeoutSeconds: 0, successThreshold: 0, failureThreshold: 0"
    action = "httpGet: {port: 80, path: '', scheme: ''}"
    one = first(f"readinessProbe: {{{action}, {numbers}}}\n")
    assert one.readiness_probe == first(f"readinessProbe: {{{action}}}\n").readiness_probe
    hook = first(f"lifecycle: {{preStop: {{{action}}}}}\n").lifecycle
    assert hook is not None and hook.pre_stop is not None and hook.pre_stop.http_get is not None
    assert (hook.pre_stop.http_get.path, hook.pre_stop.http_get.scheme) == ("/", "HTTP")


def test_a_sleep_of_nothing_and_of_the_whole_grace_period() -> None:
    for seconds in (0, 30):
        assert first(f"lifecycle: {{preStop: {{sleep: {{seconds: {seconds}}}}}}}\n").lifecycle


@pytest.mark.parametrize(
    ("name", "warnings"),
    [
        ("metrics", []),
        ("metric", ['"metric" names no port of the container, did you mean "metrics"?']),
    ],
)
def test_a_port_by_name(name: str, warnings: list[str]) -> None:
    ports = "ports: [{name: metrics, containerPort: 80}]\n"
    text = f"{ports}livenessProbe: {{tcpSocket: {{port: {name}}}}}\n"
    (document,) = load_manifests(container(text), "p.yaml")
    assert [warning.message for warning in document.warnings] == warnings
    probe = document.pod.spec.containers[0].liveness_probe
    assert probe is not None and probe.tcp_socket is not None
    assert probe.tcp_socket.port == name


@pytest.mark.parametrize("field", ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"])
def test_init_containers_have_neither_probes_nor_hooks_unless_they_are_sidecars(field: str) -> None:
    value = "{}" if field == "lifecycle" else f"{{{TCP}}}"
    init = f"  initContainers: [{{name: i, image: b, {field}: {value}POLICY}}]\n"
    (found,) = problems(container("") + init.replace("POLICY", ""))
    assert f"spec.initContainers[0].{field}: may not be set for init containers without" in found
    sidecar = init.replace("POLICY", ", restartPolicy: Always")
    assert load_manifests(container("") + sidecar, "p.yaml")
