# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes of every kind on real pods: what makes them ready, not ready, and restarted."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import node
from tests.instance import TOP, Instance
from tests.servers import certificate_files

# Asked often; but on a slow machine an answer takes longer than the second that a probe has by default.
FAST = {"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 60}
HTTPD = "mkdir -p /tmp/w/cgi-bin; echo ok > /tmp/w/ready; exec httpd -f -p 8080 -h /tmp/w"


@pytest.fixture(scope="module")
def instance_for_all(busybox_archive: Path) -> Iterator[Instance]:
    """An instance for all tests."""
    with node.instance_for_all(busybox_archive) as instance:
        yield instance


@pytest.fixture
def pods(instance_for_all: Instance) -> Iterator[Instance]:
    """The instance, whose pods are deleted at the end; nothing of them may be left."""
    with node.without_a_trace(instance_for_all):
        yield instance_for_all
        if names := list(node.pods(instance_for_all)):
            node.delete(instance_for_all, *names, grace=0)


def pod(
    name: str, command: list[str], spec: node.Json | None = None, **container: Any
) -> node.Json:
    return node.manifest(
        name, containers=[{"name": "c", "command": command, **container}], **(spec or {})
    )


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def is_ready(pod: node.Json) -> bool:
    conditions = {c["type"]: c["status"] for c in pod["status"]["conditions"]}
    status = node.container(pod)
    assert (
        (conditions["Ready"] == "True")
        == status["ready"]
        == (conditions["ContainersReady"] == "True")
    )
    return bool(status["ready"])


def not_ready(pod: node.Json) -> bool:
    return node.ready(pod) and not is_ready(pod)


def run(instance: Instance, name: str, *command: str) -> str:
    done = instance.exec(name, *command)
    assert done.returncode == 0, done
    return done.stdout


# ---- readiness ---------------------------------------------------------------------------------------


WAITS = "while [ ! -e /v/go ]; do sleep 0.1; done;"


@pytest.mark.field(
    "Container.readinessProbe",
    "Probe.exec",
    "Probe.httpGet",
    "Probe.tcpSocket",
    "TCPSocketAction.port",
    "ContainerPort.name",
)
@pytest.mark.parametrize(
    ("script", "probe", "words"),
    [
        (HTTPD, {"httpGet": {"path": "/ready", "port": "web"}}, "connect: connection refused"),
        (
            "exec httpd -f -p 8080",
            {"tcpSocket": {"port": 8080}},
            "dial tcp .*:8080: connect: connection refused",
        ),
        (
            "exec sleep 1000",
            {"exec": {"command": ["sh", "-c", "echo not yet; test -e /v/go"]}},
            "not yet",
        ),
    ],
    ids=["httpGet", "tcpSocket", "exec"],
)
def test_ready_when_the_probe_succeeds(
    pods: Instance, script: str, probe: node.Json, words: str
) -> None:
    made = pod(
        "p",
        shell(f"{WAITS} {script}"),
        {"volumes": [{"name": "v", "emptyDir": {}}]},
        ports=[{"name": "web", "containerPort": 8080}],
        readinessProbe={**probe, **FAST},
        volumeMounts=[{"name": "v", "mountPath": "/v"}],
    )
    node.create(pods, made)
    node.wait_for(pods, "p", not_ready)
    wait_for_event(pods, "p", f"Unhealthy: Readiness probe failed: .*{words}")
    run(pods, "p", "touch", "/v/go")
    ready = node.wait_for(pods, "p", is_ready)
    assert node.container(ready)["restartCount"] == 0
    assert node.container(ready)["started"]


def wait_for_event(instance: Instance, name: str, pattern: str) -> str:
    """Return the first event about the pod that is there now, ``reason: message``, that matches *pattern*."""
    uid = node.pods(instance)[name]["metadata"]["uid"]
    about: dict[str, Any] = {"for": name}
    with node.request(instance, "get", kind="events", watch=True, **about) as watch:
        for event in watch:
            found = event["object"]
            text = f"{found['reason']}: {found['message']}"
            if found["involvedObject"]["uid"] == uid and re.match(pattern, text, re.DOTALL):
                return text
    raise AssertionError(f"no event {pattern}: {events(instance, name)}")


def events(instance: Instance, name: str) -> list[str]:
    """Return the events about the pod that is there now, ``reason: message``."""
    uid = node.pods(instance)[name]["metadata"]["uid"]
    items = node.ask(instance, "get", kind="events", **{"for": name})["items"]
    mine = [item for item in items if item["involvedObject"]["uid"] == uid]
    return [f"{item['reason']}: {item['message']}" for item in mine]


def test_readiness_follows_the_probe_and_restarts_nothing(pods: Instance) -> None:
    probe = {"httpGet": {"path": "/ready", "port": 8080}, **FAST}
    node.create(pods, pod("p", shell(HTTPD), readinessProbe=probe))
    node.wait_for(pods, "p", is_ready)
    run(pods, "p", "rm", "/tmp/w/ready")
    gone = node.wait_for(pods, "p", not_ready)
    ready = {c["type"]: c for c in gone["status"]["conditions"]}["Ready"]
    assert ready["reason"] == "ContainersNotReady"
    assert "Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 404" in (
        events(pods, "p")
    )
    run(pods, "p", "touch", "/tmp/w/ready")
    back = node.wait_for(pods, "p", is_ready)
    assert node.container(back)["restartCount"] == 0


@pytest.mark.field(
    "HTTPGetAction.path", "HTTPGetAction.port", "HTTPHeader.name", "HTTPHeader.value"
)
def test_headers_arrive_and_redirects_elsewhere_are_a_warning(pods: Instance) -> None:
    script = (
        "mkdir -p /tmp/w/cgi-bin; cat > /tmp/w/cgi-bin/x <<'END'\n#!/bin/sh\n"
        "env | sort > /tmp/seen\nprintf 'Status: 302 Found\\r\\nLocation: http://192.0.2.1/\\r\\n\\r\\nbye'\nEND\n"
        "chmod +x /tmp/w/cgi-bin/x; exec httpd -f -p 8080 -h /tmp/w"
    )
    get = {
        "path": "/cgi-bin/x?a=b",
        "port": 8080,
        "httpHeaders": [{"name": "Host", "value": "web.example"}, {"name": "X-Some", "value": "1"}],
    }
    node.create(pods, pod("p", shell(script), readinessProbe={"httpGet": get, **FAST}))
    made = node.wait_for(pods, "p", is_ready)
    seen = dict(line.split("=", 1) for line in run(pods, "p", "cat", "/tmp/seen").splitlines())
    assert seen["HTTP_USER_AGENT"] == "kube-probe/1.37"
    assert (seen["HTTP_X_SOME"], seen["HTTP_HOST"]) == ("1", "web.example")
    assert seen["QUERY_STRING"] == "a=b"
    # From the host, not from within the pod.
    assert seen["REMOTE_ADDR"] != made["status"]["podIP"]
    wait_for_event(pods, "p", "ProbeWarning: Readiness probe warning: Probe terminated redirects")


def test_a_pod_of_the_hosts_network_is_asked_at_the_hosts_address(pods: Instance) -> None:
    with socket.socket() as found:
        found.bind(("", 0))
        port = found.getsockname()[1]
    probe = {"httpGet": {"path": "/ready", "port": port}, **FAST}
    script = HTTPD.replace("8080", str(port))
    node.create(pods, pod("p", shell(script), {"hostNetwork": True}, readinessProbe=probe))
    made = node.wait_for(pods, "p", is_ready)
    assert made["status"]["podIP"] == made["status"]["hostIP"]


def test_a_sidecar_s_probes_hold_up_the_pod(pods: Instance) -> None:
    sidecar = {
        "name": "side",
        "image": node.IMAGE,
        "command": node.FOREVER,
        "restartPolicy": "Always",
        "startupProbe": {
            "exec": {"command": ["test", "-e", "/tmp/up"]},
            **FAST,
            "failureThreshold": 600,
        },
        "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/ready"]}, **FAST},
    }
    node.create(pods, pod("p", node.FOREVER, {"initContainers": [sidecar]}))
    wait_for_event(pods, "p", "Unhealthy: Startup probe failed")
    assert "waiting" in node.container(node.pods(pods)["p"])["state"]
    exec_in(pods, "p", "side", "touch", "/tmp/up")
    made = node.wait_for(pods, "p", node.ready)
    conditions = {c["type"]: c["status"] for c in made["status"]["conditions"]}
    assert (conditions["Initialized"], conditions["Ready"]) == ("True", "False")
    exec_in(pods, "p", "side", "touch", "/tmp/ready")
    pods.wait("p", "condition=Ready")


def exec_in(instance: Instance, name: str, container: str, *command: str) -> None:
    done = instance.exec(name, *command, container=container)
    assert done.returncode == 0, done


# ---- liveness and startup ----------------------------------------------------------------------------


@pytest.mark.field("Container.livenessProbe", "Probe.terminationGracePeriodSeconds")
def test_liveness_failure_restarts_the_container_with_the_probes_grace(pods: Instance) -> None:
    probe = {
        "exec": {"command": ["test", "-e", "/tmp/alive"]},
        **FAST,
        "terminationGracePeriodSeconds": 1,
    }
    script = "touch /tmp/alive; trap '' TERM; sleep 2; rm /tmp/alive; while :; do sleep 1; done"
    spec = {"terminationGracePeriodSeconds": 1000}
    node.create(pods, pod("p", shell(script), spec, livenessProbe=probe))
    made = node.wait_for(
        pods, "p", lambda p: node.container(p)["restartCount"] == 1 and node.ready(p)
    )
    ended = node.container(made)["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "Error")
    found = events(pods, "p")
    assert "Killing: Container c failed liveness probe, will be restarted" in found
    assert "Unhealthy: Liveness probe failed: " in found


def test_the_container_of_a_pod_that_never_restarts_ends_by_its_probe(pods: Instance) -> None:
    probe = {"tcpSocket": {"port": 1}, **FAST}
    node.create(pods, node.manifest("p", policy="Never", containers=[
        {"name": "c", "command": node.FOREVER, "livenessProbe": probe}
    ]))  # fmt: skip
    made = node.wait_for(pods, "p", node.over)
    assert "Killing: Container c failed liveness probe" in events(pods, "p")
    assert node.container(made)["state"]["terminated"]["exitCode"] == 0  # it heard SIGTERM


@pytest.mark.field("Container.startupProbe")
def test_startup_comes_first_and_its_failure_kills(pods: Instance) -> None:
    asked = ["sh", "-c", "echo $0 >> /tmp/asked; [ $0 != startup ] || [ -e /tmp/up ]"]
    probes = {
        f"{name}Probe": {"exec": {"command": [*asked, name]}, **FAST, "failureThreshold": 600}
        for name in ("startup", "liveness", "readiness")
    }
    node.create(pods, pod("p", node.FOREVER, **probes))
    waiting = node.wait_for(pods, "p", node.ready)
    assert not node.container(waiting)["started"]
    wait_for_event(pods, "p", "Unhealthy: Startup probe failed")
    assert set(run(pods, "p", "cat", "/tmp/asked").split()) == {"startup"}
    run(pods, "p", "touch", "/tmp/up")
    made = node.wait_for(pods, "p", is_ready)
    assert node.container(made)["started"]


def test_startup_failure_kills(pods: Instance) -> None:
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 2}
    node.create(pods, pod("p", node.FOREVER, startupProbe=probe))
    node.wait_for(pods, "p", lambda p: node.container(p)["restartCount"] >= 1)
    assert "Killing: Container c failed startup probe, will be restarted" in events(pods, "p")


# ---- exec --------------------------------------------------------------------------------------------


def test_an_exec_probe_runs_as_the_container_does_and_is_killed_in_time(pods: Instance) -> None:
    # Unquoted, "$$" would be one "$" to Kubernetes.
    script = "id -u > /tmp/id; grep NoNewPrivs /proc/self/status >> /tmp/id; sleep 77 & sleep 77"
    probe = {"exec": {"command": ["sh", "-c", script]}, "periodSeconds": 3, "failureThreshold": 1}
    node.create(pods, pod("p", node.FOREVER, readinessProbe=probe))
    words = wait_for_event(pods, "p", "Unhealthy: Readiness probe failed: command timed out: ")
    assert words.endswith("timed out after 1s")
    assert run(pods, "p", "cat", "/tmp/id") == "0\nNoNewPrivs:\t0\n"
    # Nothing is left of what it started.
    assert run(pods, "p", "ps", "-o", "args").count("sleep 77") == 0


def test_commands_of_the_agent_hold_nothing_of_the_host_open(pods: Instance) -> None:
    # Of a device of the host that it has open, the container's root could change the mode: /proc/self/fd/0.
    look = "for i in 0 2; do readlink /proc/self/fd/$i; done > /tmp/$0; cat >> /tmp/$0"
    probe = {"exec": {"command": ["sh", "-c", look, "probe"]}, **FAST}
    hooks = {"postStart": {"exec": {"command": ["sh", "-c", look, "hook"]}}}
    node.create(pods, pod("p", node.FOREVER, readinessProbe=probe, lifecycle=hooks))
    node.wait_for(pods, "p", is_ready)
    for name in ("probe", "hook"):
        fds = run(pods, "p", "cat", f"/tmp/{name}").splitlines()
        assert [fd.partition("[")[0] for fd in fds] == ["pipe:"] * 2, name


def test_a_command_that_is_not_there_counts_neither_way(pods: Instance) -> None:
    probe = {"exec": {"command": ["/no/such"]}, **FAST}
    node.create(pods, pod("p", node.FOREVER, livenessProbe=probe, readinessProbe=probe))
    wait_for_event(pods, "p", "Unhealthy: Liveness probe errored and resulted in unknown state")
    made = node.wait_for(pods, "p", node.ready)
    assert node.container(made)["restartCount"] == 0


def test_an_endless_output_is_no_burden(pods: Instance) -> None:
    script = "yes | head -c 1000000 > /dev/null; yes"
    probe = {"exec": {"command": ["sh", "-c", script]}, **FAST, "timeoutSeconds": 1}
    node.create(pods, pod("p", node.FOREVER, readinessProbe=probe))
    words = wait_for_event(pods, "p", "Unhealthy: Readiness probe failed: ")
    assert len(words) < 2000
    assert node.ask(pods, "agent-status")["pods"] == 1


# ---- grpc, HTTPS, HTTP/2: servers of Python, in the pod's network --------------------------------------


@contextlib.contextmanager
def in_network_of(instance: Instance, pod: node.Json, *arguments: str) -> Iterator[None]:
    """Run the test's own server in the pod's network namespace; it listens when this yields."""
    command = ["nsenter", f"--net=/proc/{node.pause(instance, pod)}/ns/net", sys.executable]
    command += ["-m", "tests.netserver", *arguments]
    with subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


@pytest.mark.field(
    "HTTPGetAction.scheme",
    "HTTPGetAction.protocol",
    "GRPCAction.port",
    "GRPCAction.service",
    "GRPCAction.mode",
)
@pytest.mark.parametrize(
    ("probe", "server"),
    [
        ({"grpc": {"port": 5000}}, ["grpc", "5000"]),
        ({"grpc": {"port": 5000, "service": "some", "mode": "Plaintext"}}, ["grpc-some", "5000"]),
        ({"grpc": {"port": 5000, "mode": "TLS"}}, ["grpc-tls", "5000"]),
        ({"httpGet": {"port": 5000, "scheme": "HTTPS"}}, ["https", "5000"]),
        ({"httpGet": {"port": 5000, "protocol": "HTTP2"}}, ["h2c", "5000"]),
    ],
    ids=["grpc", "grpc service", "grpc TLS", "HTTPS", "HTTP/2"],
)
def test_other_protocols(
    pods: Instance, tmp_path: Path, probe: node.Json, server: list[str]
) -> None:
    node.create(pods, pod("p", node.FOREVER, readinessProbe={**probe, **FAST}))
    made = node.wait_for(pods, "p", not_ready)
    key, made_certificate = certificate_files(tmp_path)
    with in_network_of(pods, made, str(key), str(made_certificate), *server):
        node.wait_for(pods, "p", is_ready)
    node.wait_for(pods, "p", not_ready)


# ---- the agent ---------------------------------------------------------------------------------------


def test_the_agent_comes_back_to_what_it_knew(pods: Instance) -> None:
    probe = {"exec": {"command": ["test", "!", "-e", "/tmp/bad"]}, **FAST}
    startup = {"exec": {"command": ["test", "!", "-e", "/tmp/bad"]}, **FAST}
    node.create(pods, pod("p", node.FOREVER, readinessProbe=probe, startupProbe=startup))
    before = node.wait_for(pods, "p", is_ready)
    node.kill_agent(pods)
    node.up(pods)
    after = node.pods(pods)["p"]
    assert after["status"] == before["status"]
    run(pods, "p", "touch", "/tmp/bad")
    gone = node.wait_for(pods, "p", not_ready)
    assert node.container(gone)["restartCount"] == 0
    assert node.container(gone)["started"]


def test_a_hanging_probe_holds_up_nobody(pods: Instance) -> None:
    hanging = {"exec": {"command": ["sleep", "1000"]}, "timeoutSeconds": 1000, "periodSeconds": 1}
    node.create(pods, pod("hang", node.FOREVER, readinessProbe=hanging))
    node.wait_for(pods, "hang", node.ready)
    quick = {"exec": {"command": ["true"]}, **FAST}
    node.create(pods, pod("quick", node.FOREVER, readinessProbe=quick))
    node.wait_for(pods, "quick", is_ready)
    node.delete(pods, "hang", "quick", grace=2)


def test_probes_end_with_their_pod(pods: Instance) -> None:
    probe = {"httpGet": {"port": 8080, "path": "/ready"}, **FAST}
    alive = {**probe, "failureThreshold": 600}  # it may be asked before the server listens
    node.create(pods, pod("p", shell(HTTPD), livenessProbe=alive, readinessProbe=probe))
    node.wait_for(pods, "p", is_ready)
    node.delete(pods, "p", grace=2)
    assert "liveness" not in "".join(node.events(pods, "p")[-5:]).lower()
