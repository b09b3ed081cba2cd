# SPDX-License-Identifier: GPL-3.0-or-later
"""Label selectors as kubectl takes them, and what ``wait --for`` stands for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minipod.agent.select import condition, label_selector
from minipod.errors import UsageError

LABELS = {"app": "web", "tier": "front", "empty": "", "example.com/role": "a-b_c.d"}


# Kubernetes, "Labels and selectors": the equality-based and the set-based requirements.
@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("", True),
        ("  ", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web", True),
        ("app=db", False),
        ("app!=web", False),
        ("app!=db", True),
        ("none!=x", True),  # an absent label differs from everything
        ("none=x", False),
        ("none=", False),
        ("empty=", True),
        ("app=", False),
        ("app", True),
        ("none", False),
        ("!none", True),
        ("! none", True),
        ("!app", False),
        ("app in (web,db)", True),
        ("app in ( db , web )", True),
        ("app in (db)", False),
        ("app in(web)", True),
        ("none in (x)", False),
        ("app notin (db)", True),
        ("app notin (web,db)", False),
        ("app notin(web)", False),
        ("none notin (x)", True),
        ("example.com/role=a-b_c.d", True),
        ("app=web,tier=front", True),
        ("app=web,tier=back", False),
        ("app=web, tier in (back, front), !none", True),
        ("app in (web),tier notin (front)", False),
        ("in=x", False),
        ("notin", False),
    ],
)
def test_label_selectors(selector: str, expected: bool) -> None:
    assert label_selector(selector)(LABELS) is expected


@pytest.mark.parametrize(
    "selector",
    [
        "a=b=c",
        "a b",
        "a=b c",
        "=b",
        "!=b",
        "a in",
        "a in x",
        "a in (x",
        "a in x)",
        "a in ((x))",
        "a notin",
        "!a=b",
        "!",
        "a>1",
        # What a shell makes of "$A,$B" when they are empty must not mean everything.
        ",",
        " , ",
        "a=b,",
        ",a=b",
        "a=b,,c=d",
    ],
)
def test_what_is_no_selector_is_refused(selector: str) -> None:
    with pytest.raises(UsageError, match="label selector") as error:
        label_selector(selector)
    assert selector.strip() in error.value.what
    assert "app=web" in error.value.remedy


@given(st.text(max_size=30))
def test_any_text_is_a_selector_or_refused(text: str) -> None:
    try:
        matches = label_selector(text)
    except UsageError:
        return
    assert matches(LABELS) in (True, False)
    assert matches({}) in (True, False)


def pod(phase: str = "Running", ready: str = "True") -> dict[str, Any]:
    return {
        "metadata": {"name": "web", "labels": {"a.b/c": "x"}},
        "spec": {"hostNetwork": True, "containers": [{"name": "app", "ports": []}]},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [{"restartCount": 2, "ready": False}],
        },
    }


@pytest.mark.parametrize(
    ("text", "data", "expected"),
    [
        ("delete", None, True),
        ("delete", pod(), False),
        ("create", None, False),
        ("create", pod(), True),
        ("condition=Ready", pod(), True),
        ("condition=ready", pod(), True),
        ("condition=Ready=true", pod(), True),
        ("condition=Ready", pod(ready="False"), False),
        ("condition=Ready=False", pod(ready="False"), True),
        ("condition=Ready=False", pod(), False),
        ("condition=Other", pod(), False),
        ("condition=Other=False", pod(), False),  # what is not there is not False
        ("condition=Ready", None, False),
        ("condition=Ready", {"metadata": {}}, False),
        ("jsonpath={.status.phase}=Running", pod(), True),
        ("jsonpath={.status.phase}=Running", pod("Pending"), False),
        ("jsonpath='{.status.phase}'=Running", pod(), True),
        ("jsonpath={.status.phase}='Running'", pod(), True),
        ("jsonpath={.status.phase}", pod(), True),
        ("jsonpath={.status.nothing}", pod(), False),
        ("jsonpath={.status.nothing.deeper}=x", pod(), False),
        ("jsonpath={.status.containerStatuses[0].restartCount}=2", pod(), True),
        ("jsonpath={.status.containerStatuses[1].restartCount}=2", pod(), False),
        ("jsonpath={.status.containerStatuses[0].ready}=false", pod(), True),
        ("jsonpath={.spec.hostNetwork}=true", pod(), True),
        ("jsonpath={.metadata.labels['a.b/c']}=x", pod(), True),
        ("jsonpath={.status.phase}=Running", None, False),
        ("jsonpath={.spec.containers[0].name.x}=y", pod(), False),
        ("jsonpath=.status.phase=Running", pod(), True),
        ("jsonpath={status.phase}=Running", pod(), True),
        ('jsonpath={.status.conditions[?(@.type=="Ready")].status}=True', pod(), True),
        (
            'jsonpath={.status.conditions[?(@.type=="Ready")].status}=True',
            pod(ready="False"),
            False,
        ),
        ('jsonpath={.status.conditions[?(@.type=="Other")]}', pod(), False),
        ("jsonpath={.spec.containers[*].name}=app", pod(), True),
        ("jsonpath={..restartCount}=2", pod(), True),
        ("jsonpath={.metadata.labels.a\\.b/c}=x", pod(), True),
    ],
)
def test_conditions(text: str, data: dict[str, Any] | None, expected: bool) -> None:
    assert condition(text)(data) is expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ready",
        "Delete",
        "condition",
        "condition=",
        "jsonpath=",
        "jsonpath={}=x",
        "jsonpath={.a",
        "jsonpath={.a}x",
        "jsonpath={.a[}",
        "jsonpath={.a[1:2:0]}",
        "jsonpath={.a[?(@.b]}=x",
        "jsonpath=" + "[?(@" * 5000,
        "delete=now",
    ],
)
def test_what_cannot_be_waited_for(text: str) -> None:
    with pytest.raises(UsageError, match="cannot wait for"):
        condition(text)


def test_a_wait_for_several_values_is_refused() -> None:
    holds = condition("jsonpath={.spec}=x")
    with pytest.raises(UsageError, match="more than one value"):
        holds(pod())
