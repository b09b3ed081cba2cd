# SPDX-License-Identifier: GPL-3.0-or-later
"""Users of an image: lookup in passwd and group, numbers, hostile files. (Whiteouts need root: tests/root.)"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minipod.errors import MinipodError, NotFound, UsageError
from minipod.images import Identity, Image, ImageConfig, resolve_user
from minipod.images.identity import MAX_FILE, parse_id

PASSWD = (
    "# comment:x:9:9::/:/bin/sh\n"
    "root:x:0:0:root:/root:/bin/sh\n"
    "short:x:5\n"
    "huge:x:4294967296:0::/:/bin/sh\n"
    "minus:x:-1:0::/:/bin/sh\n"
    "bob:x:1000:1000:Bob,,,:/home/bob:/bin/sh\n"
    "twin:x:1000:1001::/home/twin:\n"
    "1234:x:77:77::/:\n"
    "relative:x:50:50::home:\n"
)
GROUP = (
    "root:x:0:root\nwheel:x:10:root,bob\nbob:x:1000:bob\ndocker:x:999:bob,twin\n"
    "bad:x:-5:bob\n70000:x:6:\nnone:x:20\n"
)


def image_of(*layers: Path) -> Image:
    directories = tuple(map(str, layers))
    return Image("x", ("x",), "d", "i", ImageConfig(), directories, 0, "", "amd64", "linux")


@pytest.fixture
def image(tmp_path: Path) -> Image:
    (tmp_path / "layer" / "etc").mkdir(parents=True)
    (tmp_path / "layer" / "etc" / "passwd").write_text(PASSWD)
    (tmp_path / "layer" / "etc" / "group").write_text(GROUP)
    return image_of(tmp_path / "layer")


@pytest.mark.parametrize(
    ("user", "identity"),
    [
        ("", Identity(0, 0, (10,), "/root")),
        ("root", Identity(0, 0, (10,), "/root")),
        ("0", Identity(0, 0, (10,), "/root")),
        ("bob", Identity(1000, 1000, (10, 999), "/home/bob")),
        ("1000", Identity(1000, 1000, (10, 999), "/home/bob")),
        ("01000", Identity(1000, 1000, (10, 999), "/home/bob")),
        ("twin", Identity(1000, 1001, (999,), "/home/twin")),
        ("bob:wheel", Identity(1000, 10, (999, 1000), "/home/bob")),
        ("bob:0", Identity(1000, 0, (10, 999, 1000), "/home/bob")),
        ("4242", Identity(4242, 0)),
        ("4242:43", Identity(4242, 43)),
        ("4242:wheel", Identity(4242, 10)),
        (":wheel", Identity(0, 10, (0,), "/root")),
        ("1234", Identity(1234, 0)),
        ("bob:70000", Identity(1000, 70000, (10, 999, 1000), "/home/bob")),
        ("2147483647:2147483647", Identity(2147483647, 2147483647)),
        ("relative", Identity(50, 50)),
        ("0:none", Identity(0, 20, (0, 10), "/root")),
    ],
)
def test_resolved(image: Image, user: str, identity: Identity) -> None:
    assert resolve_user(image, user) == identity


@pytest.mark.parametrize(
    "user", ["alice", "bob:staff", "short", "huge", "minus", "+0", "-1", "0x0", " 0", "٠", "#"]
)
def test_not_there(image: Image, user: str) -> None:
    with pytest.raises(NotFound):
        resolve_user(image, user)


@pytest.mark.parametrize(
    "user",
    [
        "2147483648",
        "4294967296",
        "18446744073709551616",
        "9" * 5000,
        "bob:2147483648",
        "a:b:c",
        "bob:",
        "a\nb",
        "\0",
    ],
)
def test_refused(image: Image, user: str) -> None:
    """CVE-2024-40635: a number that wraps around must not become root."""
    with pytest.raises(UsageError):
        resolve_user(image, user)


@settings(deadline=None)
@given(st.text(max_size=12))
def test_one_parser(text: str) -> None:
    try:
        value = parse_id(text)
    except UsageError:
        return
    assert 0 <= value < 2**31
    assert text.isascii() and text.isdigit()


def test_no_files(tmp_path: Path) -> None:
    assert resolve_user(image_of(), "5") == resolve_user(image_of(tmp_path), "5") == Identity(5, 0)
    with pytest.raises(NotFound):
        resolve_user(image_of(tmp_path), "root")


def test_the_top_layer_wins(tmp_path: Path, image: Image) -> None:
    top = tmp_path / "top"
    (top / "etc").mkdir(parents=True)
    stacked = image_of(Path(image.layers[0]), top)
    assert resolve_user(stacked, "bob").uid == 1000
    (top / "etc" / "passwd").write_text("bob:x:7:8::/b:\n")
    assert resolve_user(stacked, "bob") == Identity(7, 8, (10, 999, 1000), "/b")


@pytest.mark.parametrize(
    "what", ["symlink", "fifo", "directory", "etc symlink", "etc file", "dangling"]
)
def test_other_than_regular_files_hide_what_is_below(
    tmp_path: Path, image: Image, what: str
) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "passwd").write_text("evil:x:0:0::/:\n")
    if what == "etc symlink":
        (top / "etc").symlink_to(tmp_path / "outside")
    elif what == "etc file":
        (top / "etc").write_text("")
    else:
        (top / "etc").mkdir()
        passwd = top / "etc" / "passwd"
        match what:
            case "symlink":
                passwd.symlink_to(tmp_path / "outside" / "passwd")
            case "dangling":
                passwd.symlink_to("nothing")
            case "fifo":
                os.mkfifo(passwd)
            case "directory":
                passwd.mkdir()
    stacked = image_of(Path(image.layers[0]), top)
    for user in ("evil", "bob"):
        with pytest.raises(NotFound):
            resolve_user(stacked, user)


def test_bounded(tmp_path: Path, image: Image) -> None:
    passwd = Path(image.layers[0]) / "etc" / "passwd"
    with open(passwd, "ab") as file:
        file.truncate(MAX_FILE + 1)
    with pytest.raises(MinipodError, match="more than"):
        resolve_user(image, "0")


def test_control_bytes_in_a_home(tmp_path: Path, image: Image) -> None:
    (Path(image.layers[0]) / "etc" / "passwd").write_bytes(
        b"a:x:1:1::/h\x1b[2J:\nb:x:2:2::/\xff:\r\n"
    )
    assert resolve_user(image, "a").home == "/"
    assert os.fsencode(resolve_user(image, "b").home) == b"/\xff"


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_noise(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    layer = tmp_path_factory.mktemp("layer")
    (layer / "etc").mkdir()
    for name in ("passwd", "group"):
        (layer / "etc" / name).write_bytes(data)
    try:
        identity = resolve_user(image_of(layer), "a")
    except NotFound:
        return
    assert 0 <= identity.uid < 2**31 and identity.home.startswith("/")
