# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done around a container's life: hooks, probes, and rules for its restart."""

from __future__ import annotations

import msgspec

from minipod.api.field import Tables, no, yes
from minipod.api.objects.base import Object, spelled_out

Port = int | str
"""A number, or the name of one of the container's ports."""


class ExecAction(Object):
    """A command in the container; it succeeds by exit code 0."""

    command: list[str] = msgspec.field(default_factory=list)


class HTTPHeader(Object):
    """One header of a request; of two with one name both are sent."""

    name: str = ""
    value: str = ""


class HTTPGetAction(Object):
    """An HTTP request from the host to the pod's address, or to *host*."""

    path: str = spelled_out("/")
    port: Port = 0
    host: str = ""
    scheme: str = spelled_out("HTTP")
    http_headers: list[HTTPHeader] = msgspec.field(default_factory=list)
    protocol: str | None = None


class TCPSocketAction(Object):
    """A TCP connection from the host to the pod's address, or to *host*."""

    port: Port = 0
    host: str = ""


class GRPCAction(Object):
    """A call of the standard gRPC health service; *mode* is Plaintext (the default) or TLS."""

    port: int = 0
    service: str = ""
    mode: str | None = None


class SleepAction(Object):
    """Nothing, for some seconds."""

    seconds: int = spelled_out(0)


class Probe(Object):
    """A check that is repeated while a container runs; exactly one of the four handlers is set."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    grpc: GRPCAction | None = None
    initial_delay_seconds: int = 0
    period_seconds: int = spelled_out(10)
    timeout_seconds: int = spelled_out(1)
    success_threshold: int = spelled_out(1)
    failure_threshold: int = spelled_out(3)
    termination_grace_period_seconds: int | None = None


class LifecycleHandler(Object):
    """What a hook does; exactly one of the three is set."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(Object):
    """What is done right after a container's start and before its stop, and by which signal it is stopped."""

    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str | None = None


class ContainerRestartRuleOnExitCodes(Object):
    """Which exit codes a rule is about: those in *values* (In), or all others (NotIn)."""

    operator: str = ""
    values: list[int] = msgspec.field(default_factory=list)


class ContainerRestartRule(Object):
    """What happens when a container ends with certain exit codes; *action* is Restart."""

    action: str = ""
    exit_codes: ContainerRestartRuleOnExitCodes | None = None


FIELDS: Tables = {
    "Lifecycle": {
        "postStart": yes(
            "LifecycleHandler",
            doc="Runs right after the start, beside the container's own program. The container does not count as "
            "running until it has returned; its failure kills the container, which is then restarted by its policy.",
        ),
        "preStop": yes(
            "LifecycleHandler",
            doc="Runs before the container is stopped by a deletion or a failed probe, not when it ends by itself. "
            "The stop signal is sent when it has returned; its time counts against the grace period, plus at "
            "most 2 seconds for what comes after it.",
        ),
        "stopSignal": yes(
            doc="The signal that asks the container to stop, SIGTERM for example. Default: the image's STOPSIGNAL, "
            "else SIGTERM. It requires spec.os.name."
        ),
    },
    "LifecycleHandler": {
        "exec": yes(
            "ExecAction",
            doc="Executes a command in the container, as its user and within its limits.",
        ),
        "httpGet": yes(
            "HTTPGetAction",
            doc="Sends an HTTP request from the host; any answer is a success, whatever its status.",
        ),
        "sleep": yes("SleepAction", doc="Waits for some seconds."),
        "tcpSocket": no(
            "TCPSocketAction",
            "use exec or httpGet, Kubernetes does not do it in hooks either",
            doc="Opens a TCP connection; Kubernetes keeps the field and does not do it.",
        ),
    },
    "ExecAction": {
        "command": yes(
            "[str]",
            doc="The program and its arguments, executed without a shell. Exit code 0 is success. "
            "In a probe, $(NAME) is replaced by the value that the container's env gives NAME.",
        )
    },
    "HTTPGetAction": {
        "host": yes(doc="Where to connect to. Default: the pod's address."),
        "httpHeaders": yes(
            "[HTTPHeader]",
            doc="Headers of the request, beside User-Agent and Accept, which they override; an empty value of "
            "Accept removes it.",
        ),
        "path": yes(doc="The path and query to ask for. Default: /."),
        "port": yes(
            "port", doc="The number, or the name of a port of the container. 1 to 65535; required."
        ),
        "protocol": yes(
            doc="HTTP1 (default) or HTTP2, which is HTTP/2 with prior knowledge, without TLS, to the pod's address."
        ),
        "scheme": yes(doc="HTTP (default) or HTTPS, whose certificate is not verified."),
    },
    "HTTPHeader": {
        "name": yes(doc="The header's name: letters, digits and -."),
        "value": yes(doc="The header's value, without control characters."),
    },
    "SleepAction": {
        "seconds": yes("int", doc="How long, 0 to spec.terminationGracePeriodSeconds."),
    },
    "TCPSocketAction": {
        "host": yes(doc="Where to connect to. Default: the pod's address."),
        "port": yes(
            "port", doc="The number, or the name of a port of the container. 1 to 65535; required."
        ),
    },
    "Probe": {
        "exec": yes(
            "ExecAction",
            doc="Executes a command in the container, as its user and within its limits.",
        ),
        "failureThreshold": yes(
            "int", doc="So many failures in a row make it fail. Default 3, minimum 1."
        ),
        "grpc": yes("GRPCAction", doc="Calls the gRPC health service (grpc.health.v1.Health)."),
        "httpGet": yes(
            "HTTPGetAction",
            doc="Sends an HTTP request from the host; a status of 200 to 399 is a success. Redirects are followed "
            "on the same host only; one to another host is a success with a warning.",
        ),
        "initialDelaySeconds": yes(
            "int", doc="How long after the container's start it is not probed. Default 0."
        ),
        "periodSeconds": yes("int", doc="Time between two probes. Default 10, minimum 1."),
        "successThreshold": yes(
            "int",
            doc="So many successes in a row, after a failure, make it succeed. Default 1, which it must be for "
            "liveness and startup probes.",
        ),
        "tcpSocket": yes(
            "TCPSocketAction", doc="Opens a TCP connection from the host; that it opens is success."
        ),
        "terminationGracePeriodSeconds": yes(
            "int",
            doc="The grace period of a container that this probe kills. Default: that of the pod; minimum 1. "
            "Not for readiness probes.",
        ),
        "timeoutSeconds": yes(
            "int",
            doc="After so long without an answer it is a failure, and a command is killed. "
            "Default 1, minimum 1.",
        ),
    },
    "GRPCAction": {
        "mode": yes(
            doc="Plaintext (default) or TLS, where the server's certificate is not verified."
        ),
        "port": yes("int", doc="The port's number, 1 to 65535; required."),
        "service": yes(
            doc="The service to ask for (grpc.health.v1.HealthCheckRequest). Default: empty, the server as a whole."
        ),
    },
    "ContainerRestartRule": {
        "action": yes(doc="Restart: the container is started again; required."),
        "exitCodes": yes(
            "ContainerRestartRuleOnExitCodes",
            doc="The exit codes that the rule is about; required.",
        ),
    },
    "ContainerRestartRuleOnExitCodes": {
        "operator": yes(
            doc="In: the rule is about these values; NotIn: about all others. Required."
        ),
        "values": yes("[int]", doc="Exit codes, 1 to 255 of them, none twice."),
    },
}
