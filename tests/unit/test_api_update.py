# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a living pod may change, and how the rest is refused."""

from __future__ import annotations

import pytest

from minipod.api import Document, load_manifests
from minipod.api.problems import Report
from minipod.api.validation.update import changed_fields, check_pod_update

TEXT = """\
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {a: b}}
spec:
  activeDeadlineSeconds: 100
  restartPolicy: Never
  initContainers:
  - {name: i, image: one}
  containers:
  - name: c
    image: one
    env: [{name: A, value: x}]
    resources: {limits: {memory: 1Gi}}
"""


def load(text: str) -> Document:
    (document,) = load_manifests(text, "p.yaml")
    return document


def problems(text: str, *changes: tuple[str, str]) -> list[str]:
    """Return why the pod of *text* cannot become what it is with the *changes*."""
    old, changed = load(text), text
    for before, after in changes:
        assert before in changed
        changed = changed.replace(before, after)
    new = load(changed)
    report = Report("p.yaml", new.lines, 1)
    check_pod_update(old.pod, new.pod, old.lines.keys() | new.lines.keys(), report)
    return [str(problem) for problem in report.problems]


@pytest.mark.parametrize(
    "change",
    [
        ("a: b", "a: c, d: e"),
        ("image: one", "image: two"),
        ("activeDeadlineSeconds: 100", "activeDeadlineSeconds: 99"),
        ("  restartPolicy", "  tolerations: [{key: k}]\n  restartPolicy"),
    ],
)
def test_what_may_change(change: tuple[str, str]) -> None:
    assert problems(TEXT, change) == []


@pytest.mark.parametrize(
    ("change", "starts"),
    [
        (("Never", "Always"), ["6: spec.restartPolicy: pod updates may not change fields other"]),
        (("value: x", "value: z"), ["12: spec.containers[0].env[0].value: pod updates may not"]),
        (("    env: [{name: A, value: x}]\n", ""), ["10: spec.containers[0].env: pod updates may"]),
        (
            ("1Gi", "2Gi"),
            [
                "13: spec.containers[0].resources.limits.memory: pod updates may not",
            ],
        ),
        (
            ("  - name: c\n", "  - {name: d, image: one}\n  - name: c\n"),
            [
                "9: spec.containers: pod updates may not add or remove containers",
            ],
        ),
        (("name: c\n", "name: d\n"), ["10: spec.containers[0].name: pod updates may not change"]),
        (
            ("  activeDeadlineSeconds: 100\n", ""),
            [
                "4: spec.activeDeadlineSeconds: must not update from a positive integer to nil value",
            ],
        ),
        (("100", "101"), ["5: spec.activeDeadlineSeconds: must be less than or equal to previous"]),
    ],
)
def test_what_may_not(change: tuple[str, str], starts: list[str]) -> None:
    said = problems(TEXT, change)
    assert len(said) == len(starts), said
    assert all(line.startswith(f"p.yaml:{start}") for line, start in zip(said, starts, strict=True))


def test_all_of_them_are_named() -> None:
    said = problems(TEXT, ("Never", "Always"), ("value: x", "value: z"))
    assert [line.split(":")[1] for line in said] == ["12", "6"]


def test_resources_have_a_way_of_their_own() -> None:
    (said,) = problems(TEXT, ("1Gi", "2Gi"))
    assert "use `minipod resize`" in said


def test_what_no_manifest_says_is_left_alone() -> None:
    # With the tag the default of imagePullPolicy changes; what was resized by others stays.
    old, new = load(TEXT), load(TEXT.replace("image: one", "image: one:1"))
    old.pod.spec.containers[0].resources.requests["cpu"] = "1"
    written = old.lines.keys() | new.lines.keys()
    assert changed_fields(old.pod, new.pod, written) == [
        "spec.containers[0].image",
        "spec.initContainers[0].image",
    ]
