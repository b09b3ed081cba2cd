# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for probes, hooks and stop signals."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping

from minipod.api import names
from minipod.api.objects import (
    Container,
    ExecAction,
    GRPCAction,
    HTTPGetAction,
    LifecycleHandler,
    PodSpec,
    Probe,
    TCPSocketAction,
)
from minipod.api.problems import Report, did_you_mean
from minipod.api.validation.rules import one_of, say
from minipod.api.yaml import shown

MAX_PORT = 65535
_HEADER_NAME = re.compile(r"[-A-Za-z0-9]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_REAL_TIME = (
    *(f"SIGRTMIN+{n}" for n in range(1, 16)),
    *(f"SIGRTMAX-{n}" for n in range(1, 15)),
)
STOP_SIGNALS = (*signal.Signals.__members__, *_REAL_TIME)
"""The signals that ``stopSignal`` may name on Linux."""


def probes(container: Container) -> dict[str, Probe | None]:
    """Return a container's probes by the names of their fields."""
    return {
        "livenessProbe": container.liveness_probe,
        "readinessProbe": container.readiness_probe,
        "startupProbe": container.startup_probe,
    }


def check_lifecycle(container: Container, path: str, spec: PodSpec, report: Report) -> None:
    """Check the probes, the hooks and the stop signal of a container."""
    ports = [port.name for port in container.ports if port.name]
    for name, probe in probes(container).items():
        _probe(probe, f"{path}.{name}", ports, report)
    lifecycle = container.lifecycle
    if lifecycle is None:
        return
    grace = spec.termination_grace_period_seconds
    _hook(lifecycle.post_start, f"{path}.lifecycle.postStart", grace, ports, report)
    _hook(lifecycle.pre_stop, f"{path}.lifecycle.preStop", grace, ports, report)
    if lifecycle.stop_signal:
        _stop_signal(lifecycle.stop_signal, f"{path}.lifecycle.stopSignal", spec, report)


def check_no_lifecycle(container: Container, path: str, report: Report) -> None:
    """Check that a regular init container has neither probes nor hooks."""
    for name, value in {**probes(container), "lifecycle": container.lifecycle}.items():
        if value is not None:
            what = "may not be set for init containers without restartPolicy: Always"
            report.error(f"{path}.{name}", what)


def _probe(probe: Probe | None, path: str, ports: list[str], report: Report) -> None:
    if probe is None:
        return
    handlers = {
        "exec": probe.exec,
        "httpGet": probe.http_get,
        "tcpSocket": probe.tcp_socket,
        "grpc": probe.grpc,
    }
    _handlers(handlers, path, ports, report)
    numbers = {
        "initialDelaySeconds": probe.initial_delay_seconds,
        "timeoutSeconds": probe.timeout_seconds,
        "periodSeconds": probe.period_seconds,
        "successThreshold": probe.success_threshold,
        "failureThreshold": probe.failure_threshold,
    }
    for name, value in numbers.items():
        if value < 0:
            report.error(f"{path}.{name}", "must be 0 or more")
    readiness = path.endswith("readinessProbe")
    if not readiness and probe.success_threshold > 1:
        report.error(f"{path}.successThreshold", "must be 1 for liveness and startup probes")
    grace = probe.termination_grace_period_seconds
    if grace is not None and readiness:
        what = "must not be set for readiness probes: they kill nothing"
        report.error(f"{path}.terminationGracePeriodSeconds", what)
    elif grace is not None and grace <= 0:
        report.error(f"{path}.terminationGracePeriodSeconds", "must be 1 or more")


def _hook(
    hook: LifecycleHandler | None, path: str, grace: int, ports: list[str], report: Report
) -> None:
    if hook is None:
        return
    handlers = {"exec": hook.exec, "httpGet": hook.http_get, "sleep": hook.sleep}
    _handlers(handlers, path, ports, report)
    if hook.sleep is not None and not 0 <= hook.sleep.seconds <= grace:
        what = f"must be 0 to the pod's terminationGracePeriodSeconds, {grace}"
        report.error(f"{path}.sleep.seconds", what)


def _handlers(handlers: Mapping[str, object], path: str, ports: list[str], report: Report) -> None:
    given = [name for name, value in handlers.items() if value is not None]
    if not given and not any(report.is_bad(f"{path}.{n}") for n in (*handlers, "tcpSocket")):
        report.error(path, f"missing a handler: one of {', '.join(handlers)} is required")
    for name in given[1:]:
        report.error(f"{path}.{name}", f"may not be set beside {given[0]}: there is one handler")
    for name in given[:1]:
        where = f"{path}.{name}"
        match handlers[name]:
            case ExecAction(command=command):
                if not command:
                    report.error(f"{where}.command", "missing, and required")
            case HTTPGetAction() as action:
                _http(action, where, ports, report)
            case TCPSocketAction(port=port):
                _port(port, f"{where}.port", ports, report)
            case GRPCAction() as action:
                _port(action.port, f"{where}.port", ports, report)
                if action.mode:
                    one_of(report, f"{where}.mode", action.mode, ("Plaintext", "TLS"))


def _port(port: int | str, path: str, ports: list[str], report: Report) -> None:
    if isinstance(port, str) and port:
        say(report, path, names.port_name(port))
        if port not in ports:
            # Kubernetes says nothing, and every probe of it fails.
            what = f"{shown(port)} names no port of the container" + did_you_mean(port, ports)
            report.warn(path, what)
    elif not port:
        report.error(path, f"missing, and required: 1 to {MAX_PORT}")
    elif isinstance(port, int) and not 0 < port <= MAX_PORT:
        report.error(path, f"must be 1 to {MAX_PORT}, not {port}")


def _http(action: HTTPGetAction, path: str, ports: list[str], report: Report) -> None:
    _port(action.port, f"{path}.port", ports, report)
    one_of(report, f"{path}.scheme", action.scheme, ("HTTP", "HTTPS"))
    # Kubernetes lets these through, and every request with one of them fails.
    if _CONTROL.search(action.path):
        report.error(f"{path}.path", "must not contain control characters")
    if _CONTROL.search(action.host) or any(c in action.host for c in " /?#@"):
        report.error(f"{path}.host", f"{shown(action.host)} is neither a name nor an address")
    for index, header in enumerate(action.http_headers):
        where = f"{path}.httpHeaders[{index}]"
        if not _HEADER_NAME.fullmatch(header.name):
            what = f"{shown(header.name)} is not a header's name: use letters, digits and -"
            report.error(f"{where}.name", what)
        if _CONTROL.search(header.value):
            report.error(f"{where}.value", "must not contain control characters")
    if action.protocol:
        one_of(report, f"{path}.protocol", action.protocol, ("HTTP1", "HTTP2"))
    if action.protocol == "HTTP2" and action.scheme == "HTTPS":
        report.error(f"{path}.protocol", "HTTP2 excludes the scheme HTTPS")
    if action.protocol == "HTTP2" and action.host:
        what = "may not be set with protocol HTTP2, which is for the pod's address"
        report.error(f"{path}.host", what)


def _stop_signal(name: str, path: str, spec: PodSpec, report: Report) -> None:
    if spec.os is None:
        if not report.is_bad("spec.os"):
            report.error(path, "requires spec.os.name: set it to linux")
    elif name not in STOP_SIGNALS:
        hint = (
            did_you_mean(name, STOP_SIGNALS) or ": a signal is called SIGTERM, SIGUSR1, SIGRTMIN+3"
        )
        report.error(path, f"{shown(name)} is not a signal that stops a container{hint}")
