# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML to nodes: values as kubectl sees them, places, duplicate keys, limits."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minipod.api import yaml
from minipod.api.yaml import Mapping, Node, Scalar, Sequence


def plain(node: Node) -> Any:
    """Return a node as builtins."""
    if isinstance(node, Mapping):
        return {key: plain(entry.value) for key, entry in node.entries.items()}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return node.value


def read(text: str | bytes) -> Any:
    """Return the builtins of the only document of a text without problems."""
    roots, problems = yaml.parse(text)
    assert problems == []
    assert len(roots) == 1
    return plain(roots[0])


def problem(text: str | bytes) -> tuple[int, int, str]:
    """Return place and message of the only problem of a text."""
    _, problems = yaml.parse(text)
    assert len(problems) == 1
    return problems[0].line, problems[0].column, problems[0].message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, True) for word in ("y", "Y", "yes", "Yes", "YES", "on", "On", "ON")),
        *((word, True) for word in ("true", "True", "TRUE")),
        *((word, False) for word in ("n", "N", "no", "No", "NO", "off", "Off", "OFF")),
        *((word, False) for word in ("false", "False", "FALSE")),
        *((word, None) for word in ("~", "null", "Null", "NULL", "")),
        ("tRUE", "tRUE"),
        ("nullx", "nullx"),
        ("0", 0),
        ("-0", 0),
        ("80", 80),
        ("+80", 80),
        ("-80", -80),
        ("1_000", 1000),
        ("0755", 0o755),
        ("0o755", 0o755),
        ("0x1F", 31),
        ("-0x1F", -31),
        ("0b101", 5),
        ("08", 8.0),
        ("09.5", 9.5),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e3", 1000.0),
        ("-1.5E-2", -0.015),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("1:30", "1:30"),
        ("1.2.3", "1.2.3"),
        ("2026-01-31", "2026-01-31"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("0xg", "0xg"),
        ("500m", "500m"),
        ("-", "-"),
        ("+", "+"),
        (".", "."),
        ("1e400", "1e400"),
        ("99999999999999999999", 99999999999999999999),
        ("9" * 5000, "9" * 5000),
        ("\u0663", "\u0663"),
        ("'yes'", "yes"),
        ('"80"', "80"),
        ('"null"', "null"),
        ('""', ""),
        ("|-\n  80", "80"),
        (">-\n  yes\n  no", "yes no"),
        ("! 80", "80"),
        ("!!str 80", "80"),
        ("!!str yes", "yes"),
        ('!!int "80"', 80),
        ("!!float 3", 3.0),
        ("!!bool yes", True),
        ("!!null null", None),
        ('"a\\tb\\u00e9"', "a\tbé"),
    ],
)
def test_scalars_are_what_kubectl_sees(text: str, value: Any) -> None:
    got = read(f"k: {text}\n" if text[:1] != "-" or len(text) > 1 else f"k: '{text}'\n")["k"]
    assert got == value
    assert type(got) is type(value)


def test_not_a_number() -> None:
    assert math.isnan(read("k: .NaN")["k"])


@pytest.mark.parametrize(
    ("text", "key"),
    [("80: a", "80"), ("on: a", "true"), ("1.5: a", "1.5"), ("'on': a", "on"), ('"<<": a', "<<")],
)
def test_keys_are_strings(text: str, key: str) -> None:
    assert read(text) == {key: "a"}


def test_places_are_one_based() -> None:
    (root,), _ = yaml.parse("a: 1\nb:\n  - x\n  -   y\n")
    assert isinstance(root, Mapping)
    entry = root.entries["b"]
    assert (entry.line, entry.column) == (2, 1)
    assert isinstance(entry.value, Sequence)
    assert [(item.line, item.column) for item in entry.value.items] == [(3, 5), (4, 7)]
    scalar = root.entries["a"].value
    assert isinstance(scalar, Scalar)
    assert (scalar.line, scalar.column) == (1, 4)


def test_lines_of_every_path() -> None:
    text = "spec:\n  containers:\n  - name: a\n    args:\n    - x\n    - y\nm:\n  a.b/c: 1\n  d: {e: 2}\n"
    (root,), _ = yaml.parse(text)
    assert yaml.key_lines(root) == {
        "spec": 1,
        "spec.containers": 2,
        "spec.containers[0]": 3,
        "spec.containers[0].name": 3,
        "spec.containers[0].args": 4,
        "spec.containers[0].args[0]": 5,
        "spec.containers[0].args[1]": 6,
        "m": 7,
        "m[a.b/c]": 8,
        "m.d": 9,
        "m.d.e": 9,
    }


def test_documents() -> None:
    roots, problems = yaml.parse("a: 1\n---\n---\nb: 2\n...\n")
    assert [plain(root) for root in roots] == [{"a": 1}, None, {"b": 2}]
    assert problems == []
    assert yaml.parse("") == ([], [])
    assert yaml.parse("# nothing\n") == ([], [])


def test_a_syntax_error_keeps_the_documents_before_it() -> None:
    roots, problems = yaml.parse("a: 1\n---\nb: [\n---\n")
    assert [plain(root) for root in roots] == [{"a": 1}]
    assert [each.line for each in problems] == [4]


def test_byte_order_mark_and_bytes() -> None:
    assert read("\ufeffa: é".encode()) == {"a": "é"}


def test_duplicate_keys_are_all_reported() -> None:
    _, problems = yaml.parse("a:\n  b: 1\n  b: 2\n  c:\n  - {d: 1, d: 2}\n'1': x\n1: y\n")
    assert [(each.line, each.path, each.message) for each in problems] == [
        (3, "a.b", 'key "b" is given twice, first on line 2'),
        (5, "a.c[0].d", 'key "d" is given twice, first on line 5'),
        (7, "1", 'key "1" is given twice, first on line 6'),
    ]


def test_aliases() -> None:
    assert read("a: &x {b: [1]}\nc: *x\n&k d: *k\n") == {"a": {"b": [1]}, "c": {"b": [1]}, "d": "d"}


def test_anchors_end_with_their_document() -> None:
    assert "names no anchor" in problem("a: &x 1\n---\nb: *x\n")[2]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("b: &b {x: 1, z: 2}\nc: {<<: *b, z: 3}", {"x": 1, "z": 3}),
        ("b: &b {x: 1, z: 2}\nc: {z: 3, <<: *b}", {"z": 3, "x": 1}),
        ("c: {<<: [{x: 1}, {x: 2, z: 2}]}", {"x": 1, "z": 2}),
        ("c: {<<: {<<: {x: 1}, z: 2}}", {"z": 2, "x": 1}),
        ("c: {<<: {x: 1}, <<: {z: 1}}", {"x": 1, "z": 1}),
        ("c: {<<: {}}", {}),
        ("c: {a: <<}", {"a": "<<"}),
    ],
)
def test_merge_keys(text: str, value: Any) -> None:
    assert read(text)["c"] == value


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: !!python/object:os.system x", (1, 4), "tag !!python/object:os.system is not allowed"),
        (
            "a: !!python/object/apply:os.system [x]",
            (1, 4),
            "tag !!python/object/apply:os.system is not",
        ),
        ("a: !mine {}", (1, 4), "tag !mine is not allowed"),
        ("a: !!set {x}", (1, 4), "tag !!set is not allowed"),
        ("a: !!binary aGk=", (1, 4), "tag !!binary is not allowed"),
        ("a: !!int x", (1, 4), "the string 'x' is not what its tag !!int says"),
        ("a: !!map [x]", (1, 4), "tag !!map is not allowed"),
        ("a: &a [*a]", (1, 8), "stands inside its own anchor"),
        ("a: *b", (1, 4), "names no anchor"),
        ("? [a]\n: b", (1, 3), "a key must be a scalar"),
        ("{a: 1}: b", (1, 1), "a key must be a scalar"),
        ("a: &x {}\n*x : 1", (2, 1), "a key must be a scalar"),
        ("~: b", (1, 1), "a key must not be null"),
        ("a: {<<: 5}", (1, 5), 'the value of "<<" must be a mapping'),
        ("a: {<<: [1]}", (1, 5), 'the value of "<<" must be a mapping'),
        ("a:\n\t- b", (2, 1), "indent with spaces, not tabs"),
        ("a: [b", (2, 1), "not YAML: did not find"),
        ("a: b: c", (1, 5), "not YAML: mapping values are not allowed"),
        ("a: %b", (1, 4), "not YAML: found character that cannot start any token"),
        ('a: "\\q"', (1, 5), "not YAML: found unknown escape character"),
        ('a: "\\ud800"', (1, 7), "not YAML"),
        ("a: \x07", (1, 4), "character U+0007 is not allowed"),
        ("a\nb\x00", (2, 2), "character U+0000 is not allowed"),
        ("a: \x1b[31m", (1, 4), "character U+001B is not allowed"),
        ("a: \ud800", (1, 4), "character U+D800 is not allowed"),
        (b"a: b\nc: \xff", (2, 4), "byte 0xff is not UTF-8"),
        ("a: b".encode("utf-16"), (1, 1), "byte 0xff is not UTF-8"),
    ],
)
def test_refused(text: str | bytes, place: tuple[int, int], words: str) -> None:
    line, column, message = problem(text)
    assert words in message
    assert message.isprintable()
    assert (line, column) == place


@pytest.mark.parametrize("unit", ["[", "{", "- ", "[{", "? ", "[\n", "{a: ", "[a: "])
def test_deep_nesting_is_refused(unit: str) -> None:
    """CSafeLoader ends the process on 100 KB of ``[``."""
    roots, problems = yaml.parse(unit * (100_000 // len(unit)))
    assert roots == []
    assert len(problems) == 1


def test_depth_limit_is_exact() -> None:
    assert read("[" * yaml.MAX_DEPTH + "]" * yaml.MAX_DEPTH)
    _, _, message = problem("[" * (yaml.MAX_DEPTH + 1) + "]" * (yaml.MAX_DEPTH + 1))
    assert message == f"nested deeper than {yaml.MAX_DEPTH} levels"


def test_aliases_cannot_nest_deeper_than_text_can() -> None:
    half = yaml.MAX_DEPTH // 2 + 1
    text = f"a: &a {'[' * half}{']' * half}\nb: {'[' * half}*a{']' * half}\n"
    assert "nested deeper" in problem(text)[2]


def test_alias_bomb() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20)]
    assert "the aliases expand to more than" in problem("\n".join(lines))[2]


def test_alias_bomb_in_small_documents() -> None:
    one = f"a: &a [{'x,' * 400}]\nb: [{'*a,' * 24}]\n---\n"
    assert "the aliases expand to more than" in problem(one * 2)[2]


def test_merge_bomb() -> None:
    fields = ", ".join(f"k{n}: 1" for n in range(2000))
    text = f"a: &a {{{fields}}}\nb:\n" + "- {<<: *a}\n" * 1000
    assert "expand to more than" in problem(text)[2]


def test_size_limit() -> None:
    fits = "# " + "x" * (yaml.MAX_BYTES - 2)
    assert yaml.parse(fits) == ([], [])
    assert "the limit is 1048576" in problem(fits + "x")[2]
    assert "the limit is 1048576" in problem((fits + "x").encode())[2]
    assert "the limit is 1048576" in problem("é" * (yaml.MAX_BYTES // 2 + 1))[2]


def test_node_limit() -> None:
    assert f"more than {yaml.MAX_NODES} values" in problem("- 1\n" * (yaml.MAX_NODES + 1))[2]


def test_document_limit() -> None:
    roots, problems = yaml.parse("--- 1\n" * yaml.MAX_DOCUMENTS)
    assert (len(roots), problems) == (yaml.MAX_DOCUMENTS, [])
    assert "more than 1000 documents" in problem("--- 1\n" * (yaml.MAX_DOCUMENTS + 1))[2]


def test_problems_are_limited() -> None:
    _, problems = yaml.parse("a: 1\n" * 10_000)
    assert len(problems) == yaml.MAX_PROBLEMS + 2
    assert problems[-1].message == "too many problems to go on"


def test_paths_stay_short() -> None:
    key = "k" * 253
    text = "".join(f"{' ' * depth}{key}:\n" for depth in range(90))
    (root,), _ = yaml.parse(text)
    assert max(map(len, yaml.key_lines(root))) <= yaml.MAX_PATH + 300


# YAML 1.1 breaks lines at three characters more than JSON, wants DEL escaped, and has keys of 1024 bytes at most.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x7f\x85\u2028\u2029"), max_size=80)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)


@settings(deadline=None)
@given(JSON)
def test_json_is_yaml(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    if not yaml._NOT_YAML.search(text):
        assert read(text) == value


@settings(deadline=None)
@given(st.dictionaries(TEXT, JSON, min_size=1))
def test_json_objects_with_all_escapes_are_yaml(value: dict[str, Any]) -> None:
    assert read(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'{"a": "\ud83d\uDE00"}', "\U0001f600"),
        (r'{"a": "\\ud83d\\ude00"}', r"\ud83d\ude00"),
        (r'{"a": "\/\u00e9"}', "/é"),
        (r"a: '\ud83d\ude00'", r"\ud83d\ude00"),
    ],
)
def test_surrogate_pairs_of_json(text: str, value: str) -> None:
    assert read(text) == {"a": value}


@settings(deadline=None)
@given(st.text() | st.binary())
def test_anything_parses_or_has_problems(text: str | bytes) -> None:
    roots, problems = yaml.parse(text)
    assert all(each.message.isprintable() and each.line > 0 for each in problems)
    for root in roots:
        yaml.key_lines(root)


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [*list("[]{}:,-?&*!|>'\"#%@`ab1 \n\t<~."), "\n  ", "- ", ": ", "---\n", "<<: "]
        )
    )
)
def test_anything_that_looks_like_yaml(parts: list[str]) -> None:
    roots, problems = yaml.parse("".join(parts))
    assert all(each.message.isprintable() and each.line > 0 for each in problems)
    for root in roots:
        yaml.key_lines(root)


def test_shown_escapes_and_shortens() -> None:
    assert yaml.shown('a\x1b[31m\u202eb"') == '"a\\x1b[31m\\u202eb""'
    assert yaml.shown("x" * 100) == '"' + "x" * 59 + '…"'


def test_random_bytes_in_a_manifest() -> None:
    base = b"apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a}]}\n"
    rng = random.Random(1)
    for _ in range(500):
        data = bytearray(base)
        for _ in range(3):
            data[rng.randrange(len(data))] = rng.randrange(256)
        yaml.parse(bytes(data))
