# SPDX-License-Identifier: GPL-3.0-or-later
"""Thirty-two clients at once: every pod runs, with an address of its own, and is removed without a trace."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from minipod.errors import AlreadyExists, MinipodError
from tests import node
from tests.instance import Instance
from tests.patience import patience

MANY = 32


@pytest.fixture
def pods(instance: Instance) -> Iterator[Instance]:
    """The instance, with an agent; at the end nothing of a pod may be left."""
    node.up(instance)
    yield instance
    assert node.pods(instance) == {}
    assert node.left(instance) == []


def together(act: Callable[[int], None]) -> None:
    """Call *act* with 0 to 31, all at the same time."""
    barrier = threading.Barrier(MANY)

    def one(number: int) -> None:
        barrier.wait(patience(30))
        act(number)

    with ThreadPoolExecutor(MANY) as executor:
        list(executor.map(one, range(MANY)))


def runs_once(instance: Instance) -> None:
    """All 32 pods run, with 32 shims, pauses, containers and addresses."""
    found = node.pods(instance)
    assert len(found) == MANY
    assert all(node.ready(pod) for pod in found.values())
    assert len({pod["status"]["podIP"] for pod in found.values()}) == MANY
    assert len(node.shims(instance)) == MANY
    for pod in found.values():
        assert node.container(pod)["restartCount"] == 0
    assert len(node.tree(instance)) == 3 * MANY


def test_thirty_two_at_once(pods: Instance) -> None:
    together(lambda number: void(node.run(pods, node.manifest(f"p{number}"))))
    runs_once(pods)
    together(lambda number: node.delete(pods, f"p{number}", grace=0))


def test_agent_killed_in_the_middle_of_many(pods: Instance) -> None:
    acknowledged: set[str] = set()

    def create(number: int) -> None:
        name = f"p{number}"
        try:
            node.create(pods, node.manifest(name))
            acknowledged.add(name)
        except (MinipodError, ConnectionError):
            return  # the agent died before it answered
        finally:
            if number == MANY // 2:
                node.kill(pid)

    pid = node.agent(pods)
    together(create)
    node.up(pods)
    found = set(node.pods(pods))
    assert acknowledged <= found
    missing = {f"p{number}" for number in range(MANY)} - found
    if missing:
        node.create(pods, *(node.manifest(name) for name in missing))
    for number in range(MANY):
        node.wait_for(pods, f"p{number}", node.ready)
    runs_once(pods)

    def delete(number: int) -> None:
        try:
            node.delete(pods, f"p{number}", grace=0)
        except (MinipodError, ConnectionError):
            return
        finally:
            if number == MANY // 2:
                node.kill(again)

    again = node.agent(pods)
    together(delete)
    node.up(pods)
    if left := list(node.pods(pods)):
        node.delete(pods, *left, grace=0)


def test_one_name_is_given_once(pods: Instance) -> None:
    refused: list[str] = []

    def create(number: int) -> None:
        try:
            node.create(pods, node.manifest("same"))
        except MinipodError as error:
            assert error.reason == AlreadyExists.reason
            refused.append(error.what)

    together(create)
    assert len(refused) == MANY - 1
    node.wait_for(pods, "same", node.ready)
    assert len(node.shims(pods)) == 1
    together(lambda _: delete_quietly(pods))


def delete_quietly(instance: Instance) -> None:
    try:
        node.delete(instance, "same", grace=0)
    except MinipodError as error:
        assert error.reason == "NotFound"


def void(_: object) -> None:
    """Drop a result."""
