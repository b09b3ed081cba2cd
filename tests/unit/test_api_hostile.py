# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever the text: pods, or a ManifestError, never anything else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minipod.api import ManifestError, Pod, from_dict, load_manifests, qos_class, to_dict
from minipod.api.fields import table, type_names
from minipod.api.problems import MAX_PROBLEMS
from minipod.api.yaml import MAX_BYTES

HEAD = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n"


def check(text: bytes | str) -> None:
    """Load a text, and hold its outcome to what is promised."""
    try:
        documents = load_manifests(text, "x")
    except ManifestError as error:
        assert error.problems
        assert all(problem.line > 0 for problem in error.problems)
        assert all(str(problem).isprintable() for problem in error.problems)
        return
    assert documents
    for document in documents:
        assert from_dict(to_dict(document.object), Pod) == document.object
        assert qos_class(document.object)
        assert all(str(warning).isprintable() for warning in document.warnings)
        assert document.pod.spec.containers


@settings(deadline=None)
@given(st.text() | st.binary())
def test_anything(text: bytes | str) -> None:
    check(text)


WORDS = st.sampled_from(
    [
        "",
        "a",
        "A_b",
        "/",
        "/proc",
        "../x",
        "80",
        "1Gi",
        "-1",
        "Always",
        "Memory",
        "a\0b",
        "\x1b[0m",
        "é",
        "x" * 300,
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS


def loose(type_: str, depth: int) -> st.SearchStrategy[Any]:
    """Return values that are mostly, not always, of a type of the field tables."""
    if depth > 5:
        return SCALARS
    if type_[0] == "[":
        right: st.SearchStrategy[Any] = st.lists(loose(type_[1:-1], depth + 1), max_size=3)
    elif type_[0] == "{":
        names = st.sampled_from(["cpu", "memory", "pids", "app", "a.b/c", "a b"]) | WORDS
        right = st.dictionaries(names, loose(type_[1:-1], depth + 1), max_size=3)
    elif type_ in type_names():
        return st.deferred(lambda: mostly_object(type_, depth + 1))
    else:
        right = {"int": st.integers(-1, 70000), "bool": st.booleans()}.get(type_, WORDS)
    return st.one_of(right, right, right, SCALARS)


def mostly_object(type_name: str, depth: int) -> st.SearchStrategy[Any]:
    fields = {key: loose(field.type, depth) for key, field in table(type_name).items()}
    known = st.fixed_dictionaries({}, optional=fields)
    return st.one_of(known, known, known, SCALARS | st.dictionaries(WORDS, SCALARS, max_size=2))


@settings(suppress_health_check=list(HealthCheck), max_examples=150, deadline=None)
@given(mostly_object("PodSpec", 0), mostly_object("ObjectMeta", 0))
def test_objects_that_are_nearly_pods(spec: Any, metadata: Any) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    check(msgspec.json.encode(pod))


PARTS = [
    *("apiVersion: v1\n", "kind: Pod\n", "kind: List\n", "metadata:\n", "  name: p\n", "spec:\n"),
    *(
        "  containers:\n",
        "  - name: a\n",
        "    image: b\n",
        "    command: [",
        "]\n",
        "  volumes:\n",
    ),
    *("    resources: {limits: {cpu: 1}}\n", "    ports:\n", "    - containerPort: 80\n", "---\n"),
    *(
        "items:\n",
        "- ",
        "  ",
        "&a ",
        "*a",
        "<<: ",
        "? ",
        ": ",
        "!!str ",
        "'",
        '"',
        "|\n",
        "\t",
        "#",
        "x\n",
    ),
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=40))
def test_texts_that_are_nearly_manifests(parts: list[str]) -> None:
    check("".join(parts))


@pytest.mark.parametrize(
    "text",
    [
        *(unit * (100_000 // len(unit)) for unit in ("[", "{", "- ", "[{", "? ", "[\n", "{a: ")),
        HEAD + "  containers: " + "[" * 100_000,
        "a: &a [*a]",
        "a: " + "9" * 100_000,
        HEAD + f"  terminationGracePeriodSeconds: {'9' * 100_000}\n",
        HEAD + "  containers: [{name: a, image: b, resources: {limits: {cpu: 1e999999999}}}]\n",
        HEAD
        + "  containers: [{name: a, image: b, resources: {limits: {cpu: 0x"
        + "f" * 60
        + "}}}]\n",
        "!!python/object/apply:os.system [id]",
        HEAD + "  containers: !!python/tuple []\n",
        "x" * (MAX_BYTES + 1),
        b"\xff\xfe" * 100,
        b"\x00" * 1000,
        "\ud800",
        "kind: " + "\u202e" * 50,
        "kind: Pod\n" * 1000,
        "%YAML 3.0\n---\na: 1\n",
        "--- " * 1000,
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_hostile_texts(text: bytes | str) -> None:
    with pytest.raises(ManifestError) as caught:
        load_manifests(text, "x")
    check(text)
    assert len(caught.value.what) < 200_000


def test_a_pod_of_aliases_is_limited() -> None:
    pod = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a, image: b}]}}"
    few = f"apiVersion: v1\nkind: List\nitems: [&p {pod}, *p, *p]\n"
    assert len(load_manifests(few, "x")) == 3
    many = f"apiVersion: v1\nkind: List\nitems: [&p {pod}{', *p' * 10_000}]\n"
    with pytest.raises(ManifestError, match="the aliases expand to more than"):
        load_manifests(many, "x")


def test_the_number_of_problems_is_limited() -> None:
    text = HEAD + "".join(f"  imag{n}: 1\n" for n in range(20_000))
    with pytest.raises(ManifestError) as caught:
        load_manifests(text, "x")
    assert len(caught.value.problems) == MAX_PROBLEMS + 1
    assert caught.value.problems[-1].message == "too many problems to go on"


def test_names_that_could_steer_a_terminal_are_escaped() -> None:
    with pytest.raises(ManifestError) as caught:
        load_manifests(HEAD + '  "a\\e[31mb": 1\n  hostname: "\\e[2J"\n', "x")
    _, key, value = caught.value.problems
    assert key.path == "spec[a\\x1b[31mb]"
    assert value.message.startswith('"\\x1b[2J" is not a DNS label')
