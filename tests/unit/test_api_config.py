# SPDX-License-Identifier: GPL-3.0-or-later
"""ConfigMaps and Secrets: what a manifest may say, and what becomes of it."""

from __future__ import annotations

import pytest

from minipod.api import ConfigMap, ManifestError, Pod, Secret, load_manifests, to_dict
from minipod.api.objects.config import contents
from minipod.api.problems import Report
from minipod.api.registry import RULES

HEAD = "apiVersion: v1\nkind: %s\nmetadata: {name: c}\n"
CONFIG_MAP, SECRET = HEAD % "ConfigMap", HEAD % "Secret"


def load(text: str) -> ConfigMap | Secret:
    (document,) = load_manifests(text, "c.yaml")
    assert isinstance(document.object, ConfigMap | Secret)
    return document.object


def problems(text: str) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        load_manifests(text, "c.yaml")
    return [str(problem).removeprefix("c.yaml:") for problem in caught.value.problems]


def test_a_config_map() -> None:
    found = load(
        CONFIG_MAP + "data: {a.conf: 'x\n\n  y', empty: '', none: }\nbinaryData: {b: AP8=}\n"
    )
    assert found.metadata.namespace == "default"
    assert contents(found) == {"a.conf": b"x\ny", "empty": b"", "none": b"", "b": b"\0\xff"}
    assert to_dict(found)["binaryData"] == {"b": "AP8="}


def test_a_text_may_hold_nul() -> None:
    assert contents(load(CONFIG_MAP + 'data: {a: "x\\0y"}\n')) == {"a": b"x\0y"}


def test_a_secret_keeps_what_stringdata_says() -> None:
    found = load(SECRET + "data: {a: YQ==, b: Yg==}\nstringData: {b: new, c: hë}\n")
    assert isinstance(found, Secret)
    assert found.type == "Opaque"
    assert found.string_data == {}
    assert contents(found) == {"a": b"a", "b": b"new", "c": "hë".encode()}
    assert to_dict(found)["data"]["b"] == "bmV3"


def test_line_ends_in_base64_do_not_count() -> None:
    assert contents(load(SECRET + "data:\n  a: |\n    YW\n    Jj\n")) == {"a": b"abc"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CONFIG_MAP + "data: {a: 5}", "4: data.a: expected a string, got the number 5: put it in"),
        (CONFIG_MAP + "data: [a]", "4: data: expected a mapping of strings, got a list"),
        (CONFIG_MAP + "data: {a b: x}", "4: data[a b]: the key"),
        (CONFIG_MAP + "data: {..: x}", "must not be . or start with .."),
        (CONFIG_MAP + "data: {..data: x}", "must not be . or start with .."),
        (CONFIG_MAP + "data: {a/b: x}", "is not valid: use letters, digits, -, _ and ."),
        (CONFIG_MAP + f"data: {{{'k' * 254}: x}}", "has 254 characters, the limit is 253"),
        (CONFIG_MAP + "data: {a: x}\nbinaryData: {a: YQ==}", "4: data.a: duplicate of key present"),
        (CONFIG_MAP + "\nbinaryData: {a: 'a*'}", "5: binaryData.a: not base64"),
        (CONFIG_MAP + "Data: {a: x}", '4: Data: unknown field, did you mean "data"?'),
        (CONFIG_MAP + "spec: {}", "4: spec: unknown field"),
        (CONFIG_MAP + "immutable: 'yes'", "4: immutable: expected true or false"),
        (
            CONFIG_MAP + f"data: {{a: &x {'x' * 600_000}, b: *x}}",
            "4: data: too long: the values have 1200000 bytes, the limit is 1048576",
        ),
        ((HEAD % "ConfigMap").replace("v1", "v2"), "1: apiVersion: a ConfigMap has apiVersion v1"),
        ((HEAD % "ConfigMap").replace("name: c", ""), "3: metadata.name: missing, and required"),
        (SECRET + "data: {a: plain text}", "4: data.a: not base64"),
        (SECRET + "stringData: {a/b: x}", "4: stringData[a/b]: the key"),
        (SECRET + "type: kubernetes.io/tls\ndata: {tls.crt: YQ==}", "data[tls.key]: missing, and"),
        (SECRET + "type: kubernetes.io/basic-auth", "needs username or password"),
        (SECRET + "type: kubernetes.io/ssh-auth", "needs ssh-privatekey"),
        (
            SECRET + "type: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: '{'}",
            "stringData[.dockerconfigjson]: must be valid JSON",
        ),
        (
            SECRET + "type: kubernetes.io/service-account-token",
            "3: metadata.annotations[kubernetes.io/service-account.name]: missing, and required",
        ),
        (
            "apiVersion: v1\nkind: ConfigMapList\nitems: [{apiVersion: v1, kind: Secret}]",
            "3: items[0].kind: a ConfigMapList holds no Secret",
        ),
    ],
)
def test_refused(text: str, expected: str) -> None:
    (found,) = [each for each in problems(text) if expected in each]
    assert found


def test_a_refused_secret_is_not_shown() -> None:
    assert not any("hunter" in each for each in problems(SECRET + "data: {a: hunter-2}"))


def test_several_kinds_in_one_text() -> None:
    pod = (HEAD % "Pod") + "spec: {containers: [{name: a, image: b}]}\n"
    listed = "apiVersion: v1\nkind: SecretList\nitems: [{metadata: {name: s}}]\n"
    documents = load_manifests("---\n".join((pod, CONFIG_MAP, listed)), "c.yaml")
    assert [type(each.object) for each in documents] == [Pod, ConfigMap, Secret]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (CONFIG_MAP + "data: {a: x}", CONFIG_MAP + "data: {a: z}", []),
        (
            CONFIG_MAP + "immutable: true\ndata: {a: x}",
            CONFIG_MAP + "immutable: true\nmetadata: {name: c, labels: {a: b}}\ndata: {a: x}",
            [],
        ),
        (
            CONFIG_MAP + "immutable: true\ndata: {a: x}",
            CONFIG_MAP + "immutable: true\ndata: {a: z}",
            ["data: field is immutable when `immutable` is set"],
        ),
        (
            CONFIG_MAP + "immutable: true\nbinaryData: {a: YQ==}",
            CONFIG_MAP,
            [
                "immutable: field is immutable when `immutable` is set",
                "binaryData: field is immutable when `immutable` is set",
            ],
        ),
        (SECRET, SECRET + "type: mine", ['type: field is immutable: it is "Opaque"']),
        (
            SECRET + "immutable: true\nstringData: {a: x}",
            SECRET + "immutable: true\ndata: {a: eA==}",
            [],
        ),
        (
            SECRET + "immutable: true\nstringData: {a: x}",
            SECRET + "immutable: true\ndata: {a: eQ==}",
            ["data: field is immutable when `immutable` is set"],
        ),
    ],
)
def test_updates(old: str, new: str, expected: list[str]) -> None:
    report = Report("c.yaml", {}, 1)
    before, after = (
        load(text.replace("metadata: {name: c}\n", "", text.count("metadata") - 1))
        for text in (old, new)
    )
    RULES[after.kind].validate_update(before, after, report)
    said = [f"{problem.path}: {problem.message}" for problem in report.problems]
    assert len(said) == len(expected)
    assert all(each.startswith(start) for each, start in zip(said, expected, strict=True))
