# SPDX-License-Identifier: GPL-3.0-or-later
"""JSONPath as kubectl has it; most rows are those of its reference page, "JSONPath Support"."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minipod import jsonpath
from minipod.errors import UsageError

DATA: dict[str, Any] = {
    "kind": "List",
    "items": [
        {
            "kind": "None",
            "metadata": {
                "name": "127.0.0.1",
                "labels": {"kubernetes.io/hostname": "127.0.0.1"},
            },
            "status": {
                "capacity": {"cpu": "4"},
                "ready": True,
                "addresses": [{"type": "LegacyHostIP", "address": "127.0.0.1"}],
            },
        },
        {
            "kind": "None",
            "metadata": {"name": "127.0.0.2"},
            "status": {
                "capacity": {"cpu": "8"},
                "ready": False,
                "addresses": [
                    {"type": "LegacyHostIP", "address": "127.0.0.2"},
                    {"type": "another", "address": "127.0.0.3"},
                ],
            },
        },
    ],
    "users": [
        {"name": "myself", "user": {}, "age": 30},
        {"name": "e2e", "user": {"username": "admin", "password": "secret"}, "age": 7},
    ],
    "empty": None,
    "many": [0, 1, 2, 3, 4],
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        # The reference page.
        ("kind is {.kind}", "kind is List"),
        ("{.kind}", "List"),
        ("{['kind']}", "List"),
        ('{["kind"]}', "List"),
        ("{..name}", "127.0.0.1 127.0.0.2 myself e2e"),
        ("{.items[*].metadata.name}", "127.0.0.1 127.0.0.2"),
        ("{.users[0].name}", "myself"),
        ("{.users[-1:].name}", "e2e"),
        ("{.items[*]['metadata.name', 'status.capacity']}", ""),
        ("{.items[*]['kind','none']}", "None None"),
        ('{.users[?(@.name=="e2e")].user.password}', "secret"),
        (
            "{range .items[*]}[{.metadata.name}, {.status.capacity.cpu}] {end}",
            "[127.0.0.1, 4] [127.0.0.2, 8] ",
        ),
        ('{range .items[*]}{.metadata.name}{"\\t"}{end}', "127.0.0.1\t127.0.0.2\t"),
        ("{.items[*].metadata.labels.kubernetes\\.io/hostname}", "127.0.0.1"),
        # What else is said there, or seen with kubectl.
        ("{.users[0:1].name}", "myself"),
        ("{.many[0:4:2]}", "0 2"),
        ("{.many[-2]}", "3"),
        ("{.many[7]}", ""),
        ("{.many[*]}", "0 1 2 3 4"),
        ("{.many}", "[0,1,2,3,4]"),
        ("{.users[0]}", '{"name":"myself","user":{},"age":30}'),
        ("{.users[0].*}", "myself {} 30"),
        ("{$.kind}", "List"),
        ("{@.kind}", "List"),
        ("{kind}", "List"),
        (".kind", "List"),
        ("{.nothing.at.all}", ""),
        ("{.empty}", ""),
        ("{.items[0].status.ready}", "true"),
        ("{.users[?(@.age>10)].name}", "myself"),
        ("{.users[?(@.age<=7)].name}", "e2e"),
        ("{.users[?(@.age!=7)].name}", "myself"),
        ("{.users[?(@.name>10)].name}", ""),
        ("{.users[?(@.user.username)].name}", "e2e"),
        ("{.items[?(@.status.ready==true)].metadata.name}", "127.0.0.1"),
        ("{.items[?(@.kind==$.items[0].kind)].metadata.name}", "127.0.0.1 127.0.0.2"),
        ('{.items[*].status.addresses[?(@.type=="another")].address}', "127.0.0.3"),
        ("{ .kind }", "List"),
        ("{range .users[*]}{range .user.*}<{@}>{end}|{end}", "|<admin><secret>|"),
        ("{'a\\'b'}", "a'b"),
    ],
)
def test_templates(template: str, expected: str) -> None:
    assert jsonpath.template(template).render(DATA) == expected


def test_the_whole_object() -> None:
    for whole in ("{.}", "{@}", "{$}"):
        assert json.loads(jsonpath.template(whole).render(DATA)) == DATA


@pytest.mark.parametrize(
    "template",
    [
        "",
        "{",
        "{}",
        "{.a",
        "{.a}}{",
        "{range .a}",
        "{end}",
        "{.a[}",
        "{.a[]}",
        "{.a[x]}",
        "{.a['b}",
        "{.a['b',]}",
        "{.a[?(]}",
        "{.a[?(@.b==)]}",
        "{.a[1:2:0]}",
        "{.a b}",
        "{.a.}",
        "{[?(@" * 3000,
        "{range .a}" * 3000,
    ],
)
def test_what_cannot_be_read_is_refused(template: str) -> None:
    with pytest.raises(UsageError, match="JSONPath"):
        jsonpath.template(template)


def test_a_path_and_what_stands_behind_it() -> None:
    found, rest = jsonpath.path_and_rest('{.users[?(@.name=="e2e")].age}=7')
    assert (found.find(DATA), rest) == ([7], "=7")
    with pytest.raises(UsageError, match="=7"):
        jsonpath.path("{.a}=7")


@given(st.text(alphabet="{}[]().@$*?=<>'\"\\ ab01:,", max_size=30))
def test_any_text_is_a_template_or_refused(text: str) -> None:
    try:
        found = jsonpath.template(text)
    except UsageError:
        return
    assert isinstance(found.render(DATA), str)
