# SPDX-License-Identifier: GPL-3.0-or-later
"""Our validation against that of others: the schemas of Kubernetes 1.37, as kubernetes-validate applies them.

What they refuse, we refuse; what we accept, they accept. Where they are weaker, since a schema knows names and
types and no rules, is listed in ``WEAKER``: each of these Kubernetes itself refuses, and so do we.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from minipod.api import ManifestError, load_manifests
from minipod.api.explain import inner_type, is_type
from minipod.api.field import Status
from minipod.api.fields import table
from tests.instance import TOP

Json = dict[str, Any]
VERSION = "1.37"
POD: Json = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p"},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}


def theirs(pod: Any) -> bool:
    """Return whether kubernetes-validate accepts *pod*."""
    try:
        kubernetes_validate.validate(pod, VERSION, strict=True)
    except kubernetes_validate.ValidationError:
        return False
    return True


def ours(pod: Any) -> bool:
    """Return whether minipod accepts *pod*."""
    return not wrong(pod)


def wrong(pod: Any) -> set[str]:
    """Return the paths of all that minipod finds wrong with *pod*."""
    try:
        load_manifests(json.dumps(pod).encode(), "p.json")
    except ManifestError as error:
        return {problem.path for problem in error.problems}
    return set()


def changed(**changes: Any) -> Json:
    """Return the pod with what *changes* sets; a key is a path with __ for a dot, and a number is an index."""
    pod = copy.deepcopy(POD)
    for path, value in changes.items():
        *way, last = path.split("__")
        place: Any = pod
        for step in way:
            place = place[int(step)] if step.isdigit() else place.setdefault(step, {})
        place[last] = value
    return pod


def documents() -> list[Any]:
    """Return the objects of all examples."""
    found = []
    for path in sorted((TOP / "examples").glob("*.yaml")):
        found += [pytest.param(each, id=path.stem) for each in yaml.safe_load_all(path.read_text())]
    return found


@pytest.mark.parametrize("document", documents())
def test_what_we_show_is_kubernetes(document: Any) -> None:
    assert ours(document)
    assert theirs(document)


def fields(type_name: str, path: tuple[str | int, ...], depth: int = 0) -> Iterator[Any]:
    """Yield path and type of the fields of a type, each list with one item, those below what is refused left out."""
    for name, field in table(type_name).items():
        if field.status is Status.REFUSED or depth > 6:
            continue
        place = (*path, name, 0) if field.type[0] == "[" else (*path, name)
        yield (*path, name), field.type
        if is_type(inner_type(field.type)) and field.type[0] != "{":
            yield from fields(inner_type(field.type), place, depth + 1)


WRONG: dict[str, Any] = {
    "str": 5,
    "text": 5,
    "int": "five",
    "bool": "yes",
    "quantity": [],
    "time": 5,
    "port": [],
}
PLACES = sorted(
    {(path, kind) for path, kind in fields("PodSpec", ("spec",)) if kind != "object"}, key=str
)


def put(path: tuple[str | int, ...], value: Any) -> Json:
    """Return the pod with *value* at *path*, and what has to be around it."""
    pod = copy.deepcopy(POD)
    place: Any = pod
    for step, after in itertools.pairwise(path):
        if isinstance(step, int):
            while len(place) <= step:
                place.append([] if isinstance(after, int) else {})
            place = place[step]
        else:
            place = place.setdefault(step, [] if isinstance(after, int) else {})
    place[path[-1]] = value
    return pod


def written(path: tuple[str | int, ...]) -> str:
    """Return a path as it stands in messages."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def test_a_value_of_the_wrong_type_is_wrong_for_both() -> None:
    assert len(PLACES) > 100
    for path, kind in PLACES:
        values = [5] if kind[0] in "[{" or is_type(kind) else [WRONG[kind]]
        for value in values:
            pod = put(path, value)
            assert written(path) in wrong(pod)
            assert not theirs(pod), path


def test_a_field_that_is_not_there_is_wrong_for_both() -> None:
    for path, kind in PLACES:
        if is_type(kind):
            pod = put((*path, "noSuchField"), 1)
            assert written((*path, "noSuchField")) in wrong(pod)
            assert not theirs(pod), path


WEAKER = {
    "a name that is a path": changed(metadata__name="../../x"),
    "a name in capitals": changed(metadata__name="Pod"),
    "no name": changed(metadata={}),
    "no containers": changed(spec__containers=[]),
    "a container's name": changed(spec__containers__0__name="C_1"),
    "no image": changed(spec={"containers": [{"name": "c"}]}),
    "two containers of one name": changed(spec__containers=[{"name": "c", "image": "i"}] * 2),
    "a restart policy": changed(spec__restartPolicy="Sometimes"),
    "a pull policy": changed(spec__containers__0__imagePullPolicy="Maybe"),
    "a protocol": changed(spec__containers__0__ports=[{"containerPort": 1, "protocol": "ICMP"}]),
    "a port": changed(spec__containers__0__ports=[{"containerPort": 70000}]),
    "a quantity": changed(spec__containers__0__resources={"limits": {"memory": "much"}}),
    "a request above its limit": changed(
        spec__containers__0__resources={"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}
    ),
    "a label": changed(metadata__labels={"a b": "c"}),
    "a mount of no volume": changed(
        spec__containers__0__volumeMounts=[{"name": "v", "mountPath": "/v"}]
    ),
    "a volume with two sources": changed(
        spec__volumes=[{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]
    ),
    "a host path with ..": changed(spec__volumes=[{"name": "v", "hostPath": {"path": "/a/../b"}}]),
    "a negative grace period": changed(spec__terminationGracePeriodSeconds=-1),
    "what excludes each other": changed(spec__hostPID=True, spec__shareProcessNamespace=True),
    "a variable's name": changed(spec__containers__0__env=[{"name": "a=b", "value": "c"}]),
}


@pytest.mark.parametrize("name", WEAKER)
def test_where_they_are_weaker(name: str) -> None:
    assert theirs(POD) and ours(POD)
    assert theirs(WEAKER[name]), "not weaker any more: take it out of the list"
    assert not ours(WEAKER[name])
