# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between two plans, found and shown."""

from __future__ import annotations

from typing import Any

from minipod.cli.plandiff import compare, render
from minipod.plan.explain import document
from tests.unit.test_plan_explain import MANIFEST, plan_text

Json = dict[str, Any]


def plan(text: str = MANIFEST, source: str = "pod.yaml") -> Json:
    return document(plan_text(text, source))


def changed(*replaced: tuple[str, str]) -> list[str]:
    """Return what is shown when the manifest's text is changed."""
    text = MANIFEST
    for old, new in replaced:
        assert old in text
        text = text.replace(old, new)
    (found,) = compare([plan()], [plan(text, "new.yaml")])
    return list(render(found))


def test_equal_plans_differ_in_nothing() -> None:
    (found,) = compare([plan()], [plan(source="elsewhere.yaml")])
    assert found["changes"] == [] and list(render(found)) == []


def test_a_changed_argument() -> None:
    shown = changed(("memory: 64Mi", "memory: 128Mi"))
    assert shown[:4] == [
        "--- pod.yaml (pod default/web)",
        "+++ new.yaml (pod default/web)",
        "",
        "HOST",
    ]
    assert shown[4].startswith("~   9 make cgroup minipod/burstable/pod1111")
    assert shown[5:9] == [
        "      - writes: memory.min = 67108864",
        "      - writes: memory.max = 67108864",
        "      + writes: memory.min = 134217728",
        "      + writes: memory.max = 134217728",
    ]
    # The volume in memory may be as large as the pod, and the container is killed earlier than who asks for less.
    assert shown[15:] == [
        "PAUSE",
        "~  17 fsmount tmpfs (mode=0777,size=134217728)",
        "      - options: size=67108864",
        "      + options: size=134217728",
        "",
        "CONTAINER app (image img): in the process that becomes it",
        "~  58 oom_score_adj 993",
        "      - value: 997",
        "      + value: 993",
    ]


def test_a_mount_more_shifts_no_other_step() -> None:
    more = "        - name: tmp\n          mountPath: /tmp\n"
    shown = changed((more, more + "        - name: tmp\n          mountPath: /more\n"))
    assert shown[3:] == [
        "CONTAINER app (image img): in the process that becomes it",
        "+   9 open_tree /volumes/tmp (bind)",
        "+  40 move_mount it to /more",
    ]


def test_a_removed_step_and_a_changed_word() -> None:
    shown = changed(("      tty: true\n", ""), ("echo 'a b'", "echo 'c'"))
    assert any(line.startswith("- ") and "open a pty" in line for line in shown)
    assert "      - argv: echo 'a b'" in shown and "      + argv: echo 'c'" in shown


def test_containers_and_pods_that_come_and_go() -> None:
    other = MANIFEST.replace("name: app", "name: other")
    (found,) = compare([plan()], [plan(other)])
    names = [actor["name"] for actor in found["actors"]]
    assert names == ["host", "container/other", "container/app"]
    assert {c["change"] for c in found["changes"] if c["actor"] == "container/app"} == {"removed"}
    renamed = plan(MANIFEST.replace("name: web", "name: db"))
    gone, same, came = compare([plan(), renamed], [renamed, {**plan(), "pod": "default/new"}])
    assert same["changes"] == []
    assert {c["change"] for c in gone["changes"]} == {"removed"}
    assert {c["change"] for c in came["changes"]} == {"added"}
    assert next(render(came)) == "--- nothing"


def test_what_is_shown_cannot_steer_the_terminal() -> None:
    shown = changed(("echo 'a b'", "echo \\x1b[2J"))
    assert all(line.isprintable() for line in shown)
