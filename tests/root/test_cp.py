# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod cp`` with containers that mean ill: their links, devices and races lead nowhere."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.errors import MinipodError
from minipod.runtime.copying import MAX_DEPTH, Inside, copy_in, copy_out
from tests.instance import Instance
from tests.patience import patience

pytestmark = pytest.mark.requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")

USER = {"runAsUser": 1234, "runAsGroup": 1234}


@pytest.fixture(scope="module")
def pods(shared_instance: Instance) -> Iterator[Instance]:
    """The instance with ``web``: container ``c0`` is root's, ``user`` is not, and they share ``/v``."""
    mounts = [{"name": "v", "mountPath": "/v"}]
    shared_instance.start_pod(
        "web",
        {"volumeMounts": mounts},
        {"name": "user", "volumeMounts": mounts, "securityContext": USER},
        {"name": "locked", "securityContext": {"readOnlyRootFilesystem": True}},
        volumes=[{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
    )
    shared_instance.start_pod("userns", {}, hostUsers=False)
    yield shared_instance
    shared_instance.delete("web", "userns")


def run(pods: Instance, script: str, container: str = "c0", pod: str = "web") -> str:
    """Run a script in a container and return its output."""
    done = pods.exec(pod, "sh", "-c", script, container=container)
    assert done.returncode == 0, done
    return done.stdout.strip()


def refused(pods: Instance, *arguments: str | Path) -> str:
    """Return the words of a copy that fails."""
    done = pods.cli("cp", *arguments, check=False)
    assert done.returncode in (1, 2), done
    assert "Traceback" not in done.stderr
    return done.stderr


def made(path: Path) -> Path:
    """Make a tree: files with modes, a directory inside, an empty one, a link."""
    (path / "inner/empty").mkdir(parents=True)
    (path / "plain").write_text("plain\n")
    (path / "inner/script").write_text("#!/bin/sh\n")
    (path / "inner/script").chmod(0o750)
    (path / "inner").chmod(0o711)
    (path / "link").symlink_to("/etc/passwd")
    return path


# ---- there and back ----


@pytest.mark.parametrize("container", ["c0", "user"])
def test_a_tree_there_and_back(pods: Instance, tmp_path: Path, container: str) -> None:
    tree = made(tmp_path / "tree")
    place = f"/tmp/{container}"
    run(
        pods,
        f"mkdir -p -m 777 /tmp; mkdir {place}; chmod 777 {place}",
        "user" if container == "user" else "c0",
    )
    pods.cli("cp", tree, f"web:{place}", "-c", container)
    assert run(pods, f"cat {place}/tree/plain", container) == "plain"
    assert run(pods, f"stat -c %a {place}/tree/inner/script", container) == "750"
    assert run(pods, f"stat -c %a {place}/tree/inner", container) == "711"
    assert run(pods, f"readlink {place}/tree/link", container) == "/etc/passwd"
    owner = "1234:1234" if container == "user" else "0:0"
    assert run(pods, f"stat -c %u:%g {place}/tree/plain", container) == owner
    done = pods.cli("cp", f"web:{place}/tree", tmp_path / "back", "-c", container)
    assert done.stderr.count("skipping") == 1 and "link" in done.stderr
    back = tmp_path / "back"
    assert (back / "plain").read_text() == "plain\n"
    assert stat.S_IMODE((back / "inner/script").stat().st_mode) == 0o750
    assert stat.S_IMODE((back / "inner").stat().st_mode) == 0o711
    assert (back / "inner/empty").is_dir() and not (back / "link").exists()


def test_where_it_comes_to(pods: Instance, tmp_path: Path) -> None:
    """As with kubectl: a name, a directory that is there, the contents of one."""
    file = tmp_path / "file"
    file.write_text("one")
    run(pods, "mkdir -p /to/there")
    pods.cli("cp", file, "web:/to/name")
    pods.cli("cp", file, "web:/to/there")
    pods.cli("cp", file, "web:/to/there/")
    pods.cli("cp", file, "default/web:relative")  # to where its programs begin
    assert run(pods, "cat /to/name /to/there/file /relative") == "oneoneone"
    (tmp_path / "here").mkdir()
    pods.cli("cp", "web:/to/name", tmp_path / "here")
    pods.cli("cp", "web:to/name", tmp_path / "other")
    pods.cli("cp", "web:/to", tmp_path / "here")  # its contents
    assert sorted(os.listdir(tmp_path / "here")) == ["name", "there"]
    assert (tmp_path / "other").read_text() == "one"
    file.write_text("2")
    pods.cli("cp", file, "web:/to/name")
    assert run(pods, "cat /to/name") == "2"
    assert "no such file" in refused(pods, file, "web:/nowhere/at/all")
    assert "no such file" in refused(pods, "web:/nowhere", tmp_path / "x")
    assert "not found" in refused(pods, "nobody:/x", tmp_path / "x")
    assert "one of the two" in refused(pods, "web:/x", "web:/y")
    assert "one of the two" in refused(pods, file, tmp_path / "y")


def test_the_pod_has_a_user_namespace(pods: Instance, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    pods.cli("cp", file, "userns:/root-file")
    assert run(pods, "stat -c %u:%g /root-file", pod="userns") == "0:0"
    pods.cli("cp", "userns:/root-file", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "x"


# ---- who may ----


def test_the_containers_user_may_no_more_than_it_may(pods: Instance, tmp_path: Path) -> None:
    secret = tmp_path / "f"
    secret.write_text("x")
    run(pods, "echo secret >/v/mine; chmod 600 /v/mine; mkdir -m 700 /v/dir")
    for words in (
        refused(pods, "web:/v/mine", tmp_path / "out", "-c", "user"),
        refused(pods, secret, "web:/v/mine", "-c", "user"),
        refused(pods, secret, "web:/v/dir/new", "-c", "user"),
        refused(pods, secret, "web:/new", "-c", "user"),
    ):
        assert "permission denied" in words
    assert not (tmp_path / "out").exists()
    words = refused(pods, secret, "web:/new", "-c", "locked")
    assert "read-only file system" in words and "volume" in words


# ---- hostile containers ----


def test_links_of_the_container_lead_nowhere_outside(pods: Instance, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("host")
    run(
        pods,
        f"mkdir -p /evil; cd /evil; ln -sfn {outside} file; ln -sfn {tmp_path} dir; ln -sfn /proc/1/root magic;"
        f" ln -sfn ../../../../../../{tmp_path}/outside up",
    )
    for link in ("file", "up", "dir/outside"):
        assert "no such file" in refused(pods, f"web:/evil/{link}", tmp_path / "got")
    assert "no such file" in refused(pods, outside, "web:/evil/dir/x")
    refused(pods, "web:/evil/magic/etc/passwd", tmp_path / "got")
    pods.cli("cp", outside, "web:/evil/file")  # the link gives way
    assert run(pods, "test ! -L /evil/file && cat /evil/file") == "host"
    assert sorted(os.listdir(tmp_path)) == ["outside"]
    done = pods.cli("cp", "web:/evil", tmp_path / "tree")
    assert os.listdir(tmp_path / "tree") == ["file"]
    assert done.stderr.count("it is a symbolic link") == 3


def test_links_at_the_destination_are_not_written_through(pods: Instance, tmp_path: Path) -> None:
    """A container with a hostPath may plant them there."""
    target = tmp_path / "target"
    target.write_text("untouched")
    run(pods, "mkdir -p /src/sub; echo bad >/src/f; echo bad >/src/sub/f")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "f").symlink_to(target)
    assert "link" in refused(pods, "web:/src", tree)
    (tree / "f").unlink()
    (tree / "sub").symlink_to(tmp_path)
    refused(pods, "web:/src", tree)
    (tmp_path / "itself").symlink_to(target)
    assert "symbolic link" in refused(pods, "web:/src/f", tmp_path / "itself")
    os.mkfifo(tmp_path / "fifo")
    refused(pods, "web:/src/f", tmp_path / "fifo")
    assert target.read_text() == "untouched"
    assert not (tmp_path / "sub").exists()


def test_no_special_files_and_no_setuid_bits_come_out(pods: Instance, tmp_path: Path) -> None:
    script = (
        "mkdir -p /s; cd /s; mkfifo fifo; cp /bin/sh su; chmod 6755 su; echo x >t; chmod 1777 t"
    )
    run(pods, script)
    done = pods.cli("cp", "web:/s", tmp_path / "s")
    assert "it is a special file" in done.stderr
    assert sorted(os.listdir(tmp_path / "s")) == ["su", "t"]
    assert stat.S_IMODE((tmp_path / "s/su").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "s/t").stat().st_mode) == 0o777
    assert "neither a file nor" in refused(pods, "web:/dev/zero", tmp_path / "zero")
    assert not (tmp_path / "zero").exists()
    (tmp_path / "up").write_text("x")
    (tmp_path / "up").chmod(0o4755)
    pods.cli("cp", tmp_path / "up", "web:/s/up")
    assert run(pods, "stat -c %a /s/up") == "755"


def test_a_disk_that_is_full(pods: Instance, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(3 << 20))
    words = refused(pods, tmp_path / "big", "web:/v/big")
    assert "web:/v/big: no space left on device" in words and "make room" in words
    assert run(pods, "ls /v") != "big" and "big" not in run(pods, "ls /v")


def test_too_deep_is_an_error(pods: Instance, tmp_path: Path) -> None:
    run(pods, f"mkdir -p /deep; cd /deep; for i in $(seq {MAX_DEPTH + 5}); do mkdir d; cd d; done")
    assert f"more than {MAX_DEPTH} directories" in refused(pods, "web:/deep", tmp_path / "deep")


def test_races(pods: Instance, tmp_path: Path) -> None:
    """The container swaps a directory for a link to the host's, as fast as it can, while it is copied both ways."""
    sentinel = tmp_path / "sentinel"
    sentinel.mkdir()
    (sentinel / "secret").write_text("host")
    script = (
        f"mkdir -p /race/a; cd /race; echo mine >a/secret; ln -s {sentinel} l;"
        " while [ ! -e /race/stop ]; do mv a b; mv l a; mv a l; mv b a; done"
    )
    command = pods.start("exec", "web", "--", "sh", "-c", script)
    try:
        up = tmp_path / "up/a"
        up.mkdir(parents=True)
        (up / "secret").write_text("upload")
        for i in range(12):
            pods.cli("cp", "web:/race/a", tmp_path / f"out{i}", check=False)
            pods.cli("cp", up / "secret", "web:/race/a/secret", check=False)
        for found in tmp_path.glob("out*/secret"):
            assert found.read_text() in ("mine\n", "upload", "")
        assert (sentinel / "secret").read_text() == "host"
    finally:
        run(pods, "touch /race/stop")
        command.wait(timeout=patience(30))


# ---- the code itself, against races that are arranged ----


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Inside]:
    """A directory of the host as a container's root."""
    (tmp_path / "root").mkdir()
    fd = os.open(tmp_path / "root", os.O_PATH | os.O_DIRECTORY)
    yield Inside("web:", fd, "/", 0, 0)
    os.close(fd)


def test_a_file_that_grows_is_copied_as_it_was(
    inside: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "root/log"
    log.write_bytes(b"x" * 4096)
    read = os.read

    def grow(fd: int, size: int) -> bytes:
        with log.open("ab") as file:
            file.write(b"y" * 4096)
        return read(fd, min(size, 1000))

    monkeypatch.setattr(os, "read", grow)
    copy_out(inside, "log", str(tmp_path / "out"), print)
    assert (tmp_path / "out").read_bytes() == b"x" * 4096


def test_a_failure_leaves_no_half_file(
    inside: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root/f").write_bytes(b"x" * 100)

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(MinipodError, match="no space left") as error:
        copy_out(inside, "f", str(tmp_path / "out"), print)
    assert "make room" in error.value.remedy
    assert not (tmp_path / "out").exists()


def test_what_goes_meanwhile_is_left_out(
    inside: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root/d").mkdir()
    (tmp_path / "root/d/stays").write_text("x")
    listed = os.listdir

    monkeypatch.setattr(os, "listdir", lambda fd: [*listed(fd), "went"])
    copy_out(inside, "d", str(tmp_path / "out"), print)
    assert listed(tmp_path / "out") == ["stays"]


def test_ids_come_back_after_a_failure(tmp_path: Path) -> None:
    """Not even an error leaves us as the container's user."""
    (tmp_path / "root").mkdir(mode=0o700)
    fd = os.open(tmp_path / "root", os.O_PATH | os.O_DIRECTORY)
    inside = Inside("web:", fd, "/", 1234, 1234)
    (tmp_path / "f").write_text("x")
    with pytest.raises(MinipodError, match="permission denied"):
        copy_in(str(tmp_path / "f"), inside, "/f", print)
    os.close(fd)
    ids = subprocess.run(
        ["grep", "^Uid", f"/proc/{os.getpid()}/status"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert ids[4] == "0"
