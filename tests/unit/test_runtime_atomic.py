# SPDX-License-Identifier: GPL-3.0-or-later
"""The writer of volumes: what it writes, that readers see all or nothing, and that a killed one is mended."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minipod import native
from minipod.runtime import atomic
from minipod.runtime.atomic import File, check_path, checked, write, written

ME = os.getuid()
NAME = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1
).filter(lambda name: not name.startswith("..") and name != "." and len(name.encode()) < 200)
PATH = st.lists(NAME, min_size=1, max_size=4).map("/".join)
FILE = st.builds(File, st.binary(max_size=64), st.integers(0, 0o777), st.just(ME))


def _no_conflict(files: dict[str, File]) -> bool:
    try:
        checked(files)
    except ValueError:
        return False
    return True


PAYLOAD = st.dictionaries(PATH, FILE, max_size=5).filter(_no_conflict)


def files(**contents: str) -> dict[str, File]:
    return {name.replace("__", "/"): File(text.encode(), uid=ME) for name, text in contents.items()}


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def put(path: Path, payload: dict[str, File]) -> bool:
    with opened(path) as fd:
        return write(fd, payload)


def seen(path: Path) -> dict[str, bytes]:
    """Return what a container sees: every file that is reached by a name that does not begin with two dots."""
    found = {}
    for name in os.listdir(path):
        if name.startswith(".."):
            continue
        top = path / name
        for each in [top] if top.is_file() else filter(Path.is_file, top.rglob("*")):
            found[str(each.relative_to(path))] = each.read_bytes()
    return found


def expected(payload: dict[str, File]) -> dict[str, bytes]:
    return {path: file.data for path, file in payload.items()}


def test_the_layout_is_the_kubelets(tmp_path: Path) -> None:
    assert put(tmp_path, files(a="1", deep__er="2"))
    stamped = os.readlink(tmp_path / "..data")
    assert sorted(os.listdir(tmp_path)) == sorted(["..data", stamped, "a", "deep"])
    assert os.readlink(tmp_path / "a") == "..data/a"
    assert os.readlink(tmp_path / "deep") == "..data/deep"
    assert stat.S_IMODE((tmp_path / stamped).stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "deep").stat().st_mode) == 0o755


@settings(max_examples=60, deadline=None)
@given(st.lists(PAYLOAD, min_size=1, max_size=4))
def test_each_write_shows_exactly_its_files(
    tmp_path_factory: Any, payloads: list[dict[str, File]]
) -> None:
    path = tmp_path_factory.mktemp("volume")
    before: dict[str, bytes] | None = None
    for payload in payloads:
        changed = put(path, payload)
        assert changed == (before != expected(payload))
        before = expected(payload)
        assert seen(path) == before
        for name, file in payload.items():
            if changed:
                assert stat.S_IMODE((path / name).stat().st_mode) == file.mode
        assert len([name for name in os.listdir(path) if name.startswith("..")]) == 2


def test_nothing_is_done_when_nothing_changed(tmp_path: Path) -> None:
    put(tmp_path, files(a="1"))
    before = os.readlink(tmp_path / "..data")
    assert not put(tmp_path, files(a="1"))
    assert os.readlink(tmp_path / "..data") == before
    assert put(tmp_path, files(a="1", b=""))
    assert os.readlink(tmp_path / "..data") != before


def test_an_empty_volume_is_written_too(tmp_path: Path) -> None:
    with opened(tmp_path) as fd:
        assert not written(fd)
        assert write(fd, {})
        assert written(fd)
    assert seen(tmp_path) == {}


@settings(max_examples=300)
@given(st.text(st.sampled_from("ab./\0é"), max_size=12))
def test_no_path_leads_out(path: str) -> None:
    try:
        short = check_path(path)
    except ValueError:
        return
    assert short == os.path.normpath(path)
    assert not short.startswith(("/", ".."))
    assert "\0" not in short


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "/",
        "/a",
        "..",
        "../a",
        "a/../b",
        "..a",
        "./..a",
        "a" * 256,
        "a/" * 2048 + "b",
        "a\0b",
    ],
)
def test_bad_paths(path: str) -> None:
    with pytest.raises(ValueError):
        check_path(path)


@pytest.mark.parametrize("path", ["a..", "a/..b", ".a", "-", "a b", "./a//b/."])
def test_good_paths(path: str) -> None:
    assert check_path(path) == os.path.normpath(path)


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'a' is a file"):
        put(tmp_path, files(a="1", a__b="2"))
    assert os.listdir(tmp_path) == []


def test_a_very_deep_path(tmp_path: Path) -> None:
    deep = "/".join("a" * 1500)
    put(tmp_path, {deep: File(b"1", uid=ME)})
    put(tmp_path, {deep: File(b"2", uid=ME)})
    put(tmp_path, {})
    assert sorted(os.listdir(tmp_path)) == sorted(["..data", os.readlink(tmp_path / "..data")])


# ---- killed at any point ---------------------------------------------------------------------------------------

CALLS = ("mkdir", "fchown", "fchmod", "symlink", "rename", "unlink", "rmdir", "listdir")


class Killed(BaseException):
    """The writer's process is gone."""


def die_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the *number*-th system call of the writer, and all after it, not happen."""
    count = 0

    def dying(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count > number:
                raise Killed
            return real(*arguments, **options)

        return call

    for name in CALLS:
        if hasattr(os, name):
            monkeypatch.setattr(os, name, dying(getattr(os, name)))
    monkeypatch.setattr(atomic, "openat2", dying(native.openat2))


def test_killed_at_every_point_of_an_update(tmp_path: Path) -> None:
    old, new = files(a="old", gone__x="old", stays="1"), files(a="new", more__y="new", stays="1")
    for number in range(1000):
        path = tmp_path / str(number)
        path.mkdir()
        put(path, old)
        with pytest.MonkeyPatch.context() as patch:
            die_at(number, patch)
            try:
                put(path, new)
                break
            except Killed:
                pass
        # What ..data shows is whole, whatever happened.
        data = path / "..data"
        inside = {str(x.relative_to(data)): x.read_bytes() for x in data.rglob("*") if x.is_file()}
        assert inside in (expected(old), expected(new)), number
        put(path, new)
        assert seen(path) == expected(new), number
        assert len(os.listdir(path)) == 5, f"{number}: rubbish is left: {os.listdir(path)}"
    assert number > 20, "the loop did not kill anything"


# ---- what a hostile neighbour may put there ------------------------------------------------------------------------


def test_no_link_is_followed(tmp_path: Path) -> None:
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    outside.mkdir()
    (outside / "keep").write_text("mine")
    volume.mkdir()
    (volume / "..data").symlink_to(outside)
    (volume / "..data_tmp").symlink_to(outside)
    (volume / "..2026_01_01_00_00_00.1").symlink_to(outside)
    (volume / "stray").symlink_to(outside)
    (volume / "a").symlink_to(outside / "keep")
    put(volume, files(a="1"))
    assert seen(volume) == {"a": b"1"}
    assert (outside / "keep").read_text() == "mine"
    assert os.listdir(outside) == ["keep"]


def test_a_link_inside_the_data_is_replaced(tmp_path: Path) -> None:
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    outside.mkdir()
    volume.mkdir()
    put(volume, files(d__a="1"))
    inside = volume / os.readlink(volume / "..data")
    (inside / "d" / "a").unlink()
    (inside / "d").rmdir()
    (outside / "a").write_text("1")
    (inside / "d").symlink_to(outside)
    put(volume, files(d__a="1"))
    assert not (volume / "..data" / "d").is_symlink()
    assert seen(volume) == {"d/a": b"1"}
    assert (outside / "a").read_text() == "1"


def test_what_own_does_is_done_before_anybody_sees_it(tmp_path: Path) -> None:
    def own(directory: int) -> None:
        assert not (tmp_path / "..data").exists()
        os.chmod("a", 0o440, dir_fd=directory)

    with opened(tmp_path) as fd:
        write(fd, files(a="1"), own)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o440


def test_a_failure_leaves_the_old_files(tmp_path: Path) -> None:
    put(tmp_path, files(a="1"))

    def fail(directory: int) -> None:
        raise OSError(28, "no space")

    with opened(tmp_path) as fd, pytest.raises(OSError, match="no space"):
        write(fd, files(a="2"), fail)
    assert seen(tmp_path) == {"a": b"1"}
    assert len(os.listdir(tmp_path)) == 3


def test_all_names_are_there_when_the_change_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, files(a="1", old="1"))
    rename, shown = os.rename, []

    def looking(*arguments: Any, **options: Any) -> None:
        shown.append({name for name in os.listdir(tmp_path) if not name.startswith("..")})
        rename(*arguments, **options)

    monkeypatch.setattr(os, "rename", looking)
    put(tmp_path, files(a="2", new="2"))
    assert shown == [{"a", "old", "new"}]
    assert set(seen(tmp_path)) == {"a", "new"}
