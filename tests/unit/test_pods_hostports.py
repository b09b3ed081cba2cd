# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ports of the host pods have, and when they are refused for them (the scheduler's HostPortInfo)."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from minipod.api import Container, ContainerPort, Pod
from minipod.config import Config
from minipod.plan import HostPort
from minipod.pods import hostports
from tests.unit.test_plan_checker import pod

ANY = "0.0.0.0"
LINES = {"spec": 4, "spec.containers[0].ports[0]": 9, "spec.containers[0].ports[0].hostPort": 10}


def with_ports(*ports: ContainerPort, name: str = "web", host_network: bool = False) -> Pod:
    one = pod(Container(name="app", image="img", ports=list(ports)), host_network=host_network)
    one.metadata.name = name
    return one


def port(host: int | None, address: str = "", protocol: str = "TCP", inside: int = 80) -> Pod:
    made = ContainerPort(None, inside, protocol, host, address)
    return with_ports(made)


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host listens nowhere."""
    monkeypatch.setattr(hostports, "_try", lambda port: 0)


def test_which_ports_a_pod_has() -> None:
    one = with_ports(
        ContainerPort("a", 80, "TCP", 8080),
        ContainerPort("b", 53, "UDP", 53, "192.0.2.1"),
        ContainerPort("c", 443),
    )
    assert list(hostports.claims(one)) == [
        ("spec.containers[0].ports[0].hostPort", HostPort(ANY, "TCP", 8080, 80)),
        ("spec.containers[0].ports[1].hostPort", HostPort("192.0.2.1", "UDP", 53, 53)),
    ]
    link = hostports.link_of(Config(), one, "10.99.0.2")
    assert link and [str(each) for each in link.ports] == ["8080/TCP", "192.0.2.1:53/UDP"]
    assert hostports.link_of(Config(), one, "") is None


def test_on_the_hosts_network_a_pod_has_all_that_it_names_and_none_is_forwarded() -> None:
    one = with_ports(ContainerPort("a", 80, "TCP", 80, "192.0.2.1"), host_network=True)
    assert list(hostports.claims(one)) == [
        ("spec.containers[0].ports[0].containerPort", HostPort(ANY, "TCP", 80, 80))
    ]
    assert hostports.link_of(Config(), one, "") is None


@pytest.mark.parametrize(
    ("wanted", "taken", "conflict"),
    [
        (port(80), port(80), True),
        (port(80), port(81), False),
        (port(80), port(80, protocol="UDP"), False),
        (port(80), port(None, inside=80), False),
        (port(80, "192.0.2.1"), port(80), True),
        (port(80), port(80, "192.0.2.1"), True),
        (port(80, "192.0.2.1"), port(80, "192.0.2.1"), True),
        (port(80, "192.0.2.1"), port(80, "192.0.2.2"), False),
        (port(80, "127.0.0.1"), port(80, ANY), True),
        (port(80), with_ports(ContainerPort(None, 80), host_network=True), True),
    ],
)
def test_conflicts_between_pods(idle: None, wanted: Pod, taken: Pod, conflict: bool) -> None:
    problems, warnings = hostports.preflight(wanted, [taken], "p.yaml", LINES)
    assert warnings == []
    if not conflict:
        assert problems == []
        return
    ((text, place),) = [(problem.message, (problem.line, problem.path)) for problem in problems]
    assert "80/TCP of the host is taken by pod default/web" in text
    assert place == (10, "spec.containers[0].ports[0].hostPort")


@pytest.fixture(params=[("TCP", socket.SOCK_STREAM), ("UDP", socket.SOCK_DGRAM)])
def listener(request: pytest.FixtureRequest) -> Iterator[tuple[str, socket.socket]]:
    """A process of the host that listens on its loopback."""
    protocol, kind = request.param
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        yield protocol, taken


def test_a_port_that_a_process_has(listener: tuple[str, socket.socket]) -> None:
    protocol, taken = listener
    number = taken.getsockname()[1]
    for host_network in (False, True):
        where = ContainerPort(None, number, protocol, number)
        one = with_ports(where, host_network=host_network)
        ((problem,), _) = hostports.preflight(one, [], "p.yaml", LINES)
        assert f"port {number}/{protocol} is taken on this host" in problem.message
        assert problem.line == (9 if host_network else 10)
        # What is about to end may still listen itself.
        assert hostports.preflight(one, [], "p.yaml", LINES, replaces=True) == ([], [])
    # On another address it is free, and one that is not there (RFC 5737) may come.
    other = port(number, "127.0.0.2", protocol)
    assert hostports.preflight(other, [], "p.yaml", LINES) == ([], [])
    absent = port(number, "192.0.2.77", protocol)
    problems, (warning,) = hostports.preflight(absent, [], "p.yaml", LINES)
    assert problems == [] and "192.0.2.77 is no address of this host now" in warning.message
