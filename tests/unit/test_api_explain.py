# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod explain``: what it says of a field is what happens to it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from minipod.api.explain import complete, explain, find, inner_type, kinds, type_doc
from minipod.api.field import Status
from minipod.api.fields import table, type_names
from minipod.api.reference import reference
from minipod.errors import UsageError
from tests.instance import TOP


def paths(type_name: str, path: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the paths of all fields of a type."""
    for name, field in table(type_name).items():
        yield f"{path}.{name}"
        inner = inner_type(field.type)
        if inner[:1].isupper() and inner not in above:
            yield from paths(inner, f"{path}.{name}", (*above, type_name))


ALL = [path for kind in kinds() for path in paths(kind, kind.lower())]


def test_every_field_can_be_explained() -> None:
    assert len(ALL) > 1000
    for path in ALL:
        place = find(path)
        assert place.path == path
        assert place.field
        text = explain(path)
        assert f"FIELD:    {path.rpartition('.')[2]} <" in text
        if place.field.status is Status.REFUSED:
            assert "STATUS:   refused" in text
        if place.field.status is Status.INERT:
            assert "STATUS:   ignored" in text


def test_a_path_may_be_written_as_in_messages() -> None:
    assert find("spec.containers[0].env[].name").path == "pod.spec.containers.env.name"
    assert find("po.metadata.labels").type == "{str}"


def test_the_defaults_are_those_of_the_objects() -> None:
    assert find("pod.spec.terminationGracePeriodSeconds").default == "30"
    assert find("pod.spec.restartPolicy").default == "Always"
    assert find("pod.spec.hostNetwork").default == "false"
    assert find("pod.spec.containers.livenessProbe.periodSeconds").default == "10"
    assert find("pod.spec.containers.image").default == ""


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("pod.spec.contaners", 'did you mean "containers"'),
        ("pods.spec.containers.image.tag", "it has no field 'tag'"),
        ("pdo", 'did you mean "po"'),
        ("", "there is no kind ''"),
        ("pod..spec", "no field ''"),
        ("\0[", "there is no kind"),
    ],
)
def test_what_is_not_there_is_said(path: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        explain(path)
    assert words in str(caught.value)


def test_all_below_a_field() -> None:
    text = explain("pod", recursive=True)
    for name in ("terminationGracePeriodSeconds", "livenessProbe", "emptyDir", "tolerations"):
        assert f" {name} <" in text


def test_completion_knows_the_fields() -> None:
    assert complete("pod.spec.hostN") == ["pod.spec.hostNetwork"]
    assert complete("po") == ["pod"]
    assert complete("pod.spec.nothing.x") == complete("pod.kind.x") == []


def test_the_page_of_all_fields_is_up_to_date() -> None:
    page = (TOP / "docs" / "pod-spec.md").read_text()
    assert page == reference(), "run: make docs"


def test_every_field_says_what_it_means() -> None:
    silent = [
        f"{name}.{key}" for name in type_names() for key, f in table(name).items() if not f.doc
    ]
    assert silent == []


def test_types_are_described_in_the_words_of_manifests() -> None:
    for name in type_names():
        said = type_doc(name)
        assert not re.search(r"[a-z]_[a-z]|\bNone\b|``", said), (name, said)
    assert "binaryData" in type_doc("ConfigMap")
