# SPDX-License-Identifier: GPL-3.0-or-later
"""ConfigMaps and Secrets from the command line's literals and files."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import json

from minipod.api import ConfigMap, Secret, load_manifests
from minipod.api.objects.config import contents
from minipod.cli.describeconfig import config_map_lines, secret_lines
from minipod.cli.makeconfig import Given, make
from minipod.errors import UsageError


def values(words: str, given: Given) -> dict[str, bytes]:
    """Return what the object holds, as the agent reads it."""
    (document,) = load_manifests(json.encode(make(words.split(), given)), "create")
    assert isinstance(document.object, ConfigMap | Secret)
    assert document.object.metadata.name == "x"
    return contents(document.object)


@pytest.mark.parametrize("words", ["configmap x", "cm x", "secret generic x"])
def test_literals_and_files(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app.conf").write_bytes(b"a=1\n")
    (tmp_path / "raw").write_bytes(b"\xff\0")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/one").write_bytes(b"1")
    (tmp_path / "dir/not a key").write_bytes(b"2")
    (tmp_path / "env").write_bytes(b"# note\n\n E=x=y\r\nFROM_US\nNOT_THERE\n")
    monkeypatch.setenv("FROM_US", "us")
    given = Given(
        ["l=v=w", "empty="],
        [f"{tmp_path}/app.conf", f"k={tmp_path}/raw", f"{tmp_path}/dir"],
        [f"{tmp_path}/env"],
    )
    assert values(words, given) == {
        "l": b"v=w",
        "empty": b"",
        "app.conf": b"a=1\n",
        "k": b"\xff\0",
        "one": b"1",
        "E": b"x=y",
        "FROM_US": b"us",
    }


def test_a_tls_secret(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"cert")
    given = Given(cert=f"{tmp_path}/c", key=f"{tmp_path}/c")
    assert values("secret tls x", given) == {"tls.crt": b"cert", "tls.key": b"cert"}
    assert make(["secret", "tls", "x"], given)["type"] == "kubernetes.io/tls"
    assert make(["secret", "generic", "x"], Given(type="mine"))["type"] == "mine"


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("pod x", Given()),
        ("configmap", Given()),
        ("secret x", Given()),
        ("secret tls x", Given()),
        ("configmap x", Given(type="t")),
        ("secret generic x", Given(cert="c")),
        ("configmap x", Given(["novalue"])),
        ("configmap x", Given(["=v"])),
        ("configmap x", Given(["a b=v"])),
        ("configmap x", Given(["a=1", "a=2"])),
        ("configmap x", Given(files=["/nonexistent"])),
    ],
)
def test_refused(words: str, given: Given) -> None:
    with pytest.raises(UsageError):
        make(words.split(), given)


def test_of_a_secret_only_sizes_are_shown() -> None:
    secret = {
        "metadata": {"name": "s", "namespace": "n"},
        "type": "Opaque",
        "data": {"password": "aHVudGVyLTI=", "empty": "", "abc": "YWJj"},
    }
    assert secret_lines(secret)[-5:] == [
        "Data",
        "====",
        "abc:       3 bytes",
        "empty:     0 bytes",
        "password:  8 bytes",
    ]
    shown = config_map_lines(
        {"metadata": {"name": "c"}, "data": {"a": "1\n2\n"}, "binaryData": {"b": "AP8="}}
    )
    assert shown[shown.index("a:") :] == [
        "a:",
        "----",
        "1",
        "2",
        "",
        "",
        "BinaryData",
        "====",
        "b: 2 bytes",
    ]
