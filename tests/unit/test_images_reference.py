# SPDX-License-Identifier: GPL-3.0-or-later
"""Image references: the grammar, the normalisation, and that nothing but UsageError comes out of bad ones."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minipod.errors import UsageError
from minipod.images.reference import normalize_reference, parse_reference

SHA = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox:latest"),
        ("user/app", "docker.io/user/app:latest"),
        ("localhost/busybox:1", "localhost/busybox:1"),
        ("localhost:5000/a/b__c-d.e:T_1.x-y", "localhost:5000/a/b__c-d.e:T_1.x-y"),
        ("quay.io/a/b", "quay.io/a/b:latest"),
        ("[2001:db8::1]:443/x", "[2001:db8::1]:443/x:latest"),
        ("Registry/app", "Registry/app:latest"),
        (f"busybox@{SHA}", f"docker.io/library/busybox@{SHA}"),
        (f"quay.io/a/b:1@{SHA}", f"quay.io/a/b:1@{SHA}"),
        ("a---b", "docker.io/library/a---b:latest"),
    ],
)
def test_normalized(text: str, full: str) -> None:
    assert normalize_reference(text) == full
    assert normalize_reference(full) == full


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":tag",
        "a:",
        "a:" + "t" * 129,
        "a:-x",
        "A",
        "docker.io/User/app",
        "a//b",
        "/a",
        "a/",
        "a..b",
        "a___b",
        "_a",
        "a_",
        "a b",
        "a\n",
        "a:1\n",
        "é",
        "a@sha256:abc",
        f"a@{SHA.upper()}",
        f"a@{SHA}x",
        "a@md5:" + "0" * 32,
        SHA[7:],
        "host:port/a",
        "-host.example/a",
        "x" * 256,
        "../etc",
        "localhost/../etc",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        normalize_reference(text)
    assert caught.value.remedy


def test_says_what_is_wrong() -> None:
    with pytest.raises(UsageError, match="lower case"):
        normalize_reference("quay.io/Me/App")


@settings(deadline=None)
@given(st.text(alphabet="abAB01.:/@_-[]\n é", max_size=40))
def test_any_text(text: str) -> None:
    try:
        full = normalize_reference(text)
    except UsageError:
        return
    assert normalize_reference(full) == full
    parts = parse_reference(full)
    assert str(parts) == full
    assert parts.tag or parts.digest
    assert not set(full) & set("\n é")
