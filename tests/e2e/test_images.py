# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod image``: load from all that is an image, list, inspect, save, and remove what nobody uses."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Images
from tests.e2e.user import ESCAPE, Terminal, check_error, create, manifest, pod, shell
from tests.instance import TEST_IMAGE, Instance
from tests.patience import patience

OTHER = "localhost/other:1"


@pytest.fixture(scope="module")
def other_archive(images: Images) -> Path:
    """The archive of a small image besides the instance's own."""
    return images.probe(
        "other", {"Cmd": ["cat", "/hello"], "Labels": {"of": "e2e"}}, ("hello", b"hi\n", "")
    )


@pytest.fixture
def store(shared_instance: Instance, other_archive: Path) -> Instance:
    """The instance with both images."""
    shared_instance.load(other_archive)
    return shared_instance


def listed(instance: Instance) -> list[str]:
    """Return the references of all images."""
    return instance.cli("image", "ls", "-o", "name").stdout.split()


def run(instance: Instance, image: str) -> str:
    """Return what a pod of *image* writes when it is told nothing."""
    made = pod("of-image", {"name": "c", "image": image, "args": ["report"]})
    return instance.cli("run", "--rm", "-", input=manifest(made)).stdout


def test_ls(store: Instance) -> None:
    lines = store.cli("image", "ls").stdout.splitlines()
    titles = ["REFERENCE", "IMAGE", "ID", "SIZE", "SHARED", "UNIQUE", "CREATED"]
    assert lines[0].split() == titles
    assert [line.split()[0] for line in lines[1:]] == [OTHER, TEST_IMAGE]
    assert listed(store) == [OTHER, TEST_IMAGE]
    as_json = json.loads(store.cli("image", "ls", "-o", "json").stdout)
    assert sorted(image["reference"] for image in as_json) == [OTHER, TEST_IMAGE]
    for image in as_json:
        assert image["size"] == image["sharedSize"] + image["uniqueSize"] > image["compressedSize"]
    wide = store.cli("image", "ls", "other", "-o", "wide").stdout.splitlines()
    assert len(wide) == 2 and wide[1].split()[-1] == "<none>" and "linux/" in wide[1]
    assert store.cli("image", "ls", "--filter", "label=of=e2e", "-o", "name").stdout == f"{OTHER}\n"
    assert store.cli("image", "ls", "nginx").stderr == "No images.\n"
    done = store.cli("image", "ls", "--filter", "size=3", check=False)
    check_error(done, 2, "there is no filter 'size'")


def test_load_says_what_it_does(store: Instance, other_archive: Path) -> None:
    store.cli("image", "rm", OTHER)
    done = store.cli("image", "load", other_archive)
    assert done.stdout == f"loaded {OTHER}\n"
    assert done.stderr and ESCAPE not in done.stderr


def test_inspect_by_name_and_by_id(store: Instance) -> None:
    image = json.loads(store.cli("image", "inspect", OTHER).stdout)
    assert image["config"]["labels"] == {"of": "e2e"}
    assert image["config"]["entrypoint"] == ["/probe"]
    assert json.loads(store.cli("image", "inspect", image["id"]).stdout)["id"] == image["id"]
    short = image["id"].removeprefix("sha256:")[:12]
    assert json.loads(store.cli("image", "inspect", short).stdout)["id"] == image["id"]
    assert "architecture:" in store.cli("image", "inspect", OTHER, "-o", "yaml").stdout


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive", "oci-dir", "directory", "stdin"])
def test_what_is_saved_can_be_loaded_and_run(store: Instance, tmp_path: Path, form: str) -> None:
    file = tmp_path / "saved.tar"
    style = "oci-archive" if form in ("directory", "stdin") else form
    store.cli("image", "save", OTHER, "-o", file, "--format", style)
    before = json.loads(store.cli("image", "inspect", OTHER).stdout)["id"]
    assert store.cli("image", "rm", OTHER).stdout.startswith(f"untagged: {OTHER}\n")
    assert OTHER not in listed(store)
    if form == "stdin":
        with file.open("rb") as source:
            assert (
                store.start("image", "load", "-", stdin=source, stdout=subprocess.DEVNULL).wait(
                    patience(60)
                )
                == 0
            )
    elif form == "directory":
        layout = tmp_path / "layout"
        with tarfile.open(file) as tar:
            tar.extractall(layout, filter="data")
        store.cli("image", "load", layout)
    else:
        store.cli("image", "load", file)
    assert OTHER in listed(store)
    assert json.loads(store.cli("image", "inspect", OTHER).stdout)["id"] == before
    assert run(store, OTHER).startswith("[c] {")


def test_tag_and_history(store: Instance, tmp_path: Path) -> None:
    done = store.cli("image", "tag", OTHER, "registry.example/team/app", "app:2")
    names = ["registry.example/team/app:latest", "docker.io/library/app:2"]
    assert done.stdout == "".join(f"tagged {name}\n" for name in names)
    shown = json.loads(store.cli("image", "inspect", "app:2").stdout)
    assert set(shown["references"]) == {OTHER, *names}
    assert len(shown["layers"]) == shown["layerCount"] == len(shown["history"])
    assert all(layer["size"] > 0 and layer["diffId"] for layer in shown["layers"])
    done = store.cli("image", "rm", *names, "localhost/none:1", check=False)
    assert done.returncode == 1
    assert done.stdout == "".join(f"untagged: {name}\n" for name in names)
    assert "image localhost/none:1 is not in the store" in done.stderr
    assert OTHER in listed(store)
    for name in ("A B", "app@sha256:" + "0" * 64, "-x", "../x"):
        done = store.cli("image", "tag", "--", OTHER, name, check=False)
        assert done.returncode == 2, done
    root = tmp_path / "rootfs"
    root.mkdir()
    (root / "file").write_bytes(b"x" * 9000)
    store.cli("image", "from-dir", root, "localhost/h:1", "--comment", "by hand\x1b[31m")
    lines = store.cli("image", "history", "localhost/h:1").stdout.splitlines()
    assert lines[0].split() == ["ID", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert "minipod image from-dir" in lines[1] and lines[1].endswith(r"by hand\x1b[31m")
    (step,) = json.loads(store.cli("image", "history", "localhost/h:1", "-o", "json").stdout)
    assert step["size"] >= 9000 and step["comment"] == "by hand\x1b[31m"
    store.cli("image", "rm", "localhost/h:1")


def test_prune_and_df(store: Instance, tmp_path: Path) -> None:
    store.cli("image", "prune", "--force")
    root = tmp_path / "rootfs"
    root.mkdir()
    (root / "data").write_bytes(os.urandom(1 << 20))
    store.cli("image", "from-dir", root, "localhost/gone:1")
    (root / "data").write_bytes(os.urandom(1 << 20))
    store.cli("image", "from-dir", root, "localhost/gone:1")
    before = json.loads(store.cli("system", "df", "-o", "json").stdout)["images"]
    assert before["reclaimable"] >= 4 << 20 and before["count"] == 4
    done = store.cli("image", "prune", "--dry-run")
    assert done.stdout.splitlines()[1].startswith("<none>")
    assert done.stdout.splitlines()[-1].startswith("would reclaim 2.1")
    check_error(store.cli("image", "prune", check=False), 2, "nobody can be asked", "--force")
    done = store.cli("image", "prune", "--force")
    assert done.stdout.splitlines()[-1].startswith("reclaimed 2.1")
    assert {"localhost/gone:1", OTHER} <= set(listed(store))
    for options in (["--unused-for", "1h"], ["--filter", "until=2000-01-01"]):
        done = store.cli("image", "prune", "--all", "--force", *options)
        assert done.stdout == "reclaimed 0B\n"
    # As many of those meant as have to go, and no more.
    total = json.loads(store.cli("system", "df", "-o", "json").stdout)["images"]["size"]
    few = ["--filter", "reference=gone", "--filter", "reference=other"]
    store.cli("image", "prune", "--force", *few, "--keep-storage", str(total))
    assert {OTHER, "localhost/gone:1"} <= set(listed(store))
    done = store.cli("image", "prune", "--force", *few, "--keep-storage", str(total - 1000))
    assert done.stdout.startswith(f"untagged: {OTHER}\n")
    assert listed(store) == ["localhost/gone:1", TEST_IMAGE]
    store.cli("image", "rm", "localhost/gone:1")


@pytest.fixture
def unnamed(store: Instance, tmp_path: Path) -> Callable[[], None]:
    """What makes one more image that has lost its name."""
    root = tmp_path / "rootfs"
    root.mkdir()
    numbers = itertools.count()

    def make() -> None:
        (root / "data").write_text(f"number {next(numbers)}")
        store.cli("image", "from-dir", root, "localhost/gone:1")
        store.cli("image", "tag", TEST_IMAGE, "localhost/gone:1")
        store.cli("image", "rm", "localhost/gone:1")

    store.cli("image", "prune", "--force")
    return make


def nameless(instance: Instance) -> int:
    """Return how many images have no name."""
    images = json.loads(instance.cli("image", "ls", "-o", "json").stdout)
    return sum(not image["references"] for image in images)


@pytest.mark.parametrize("keys", ["n\n", "\n", "yesterday\n", "\x04", "\x03"], ids=ascii)
def test_prune_takes_only_yes_for_a_yes(
    store: Instance, unnamed: Callable[[], None], keys: str
) -> None:
    unnamed()
    with Terminal(store, "image", "prune") as terminal:
        terminal.until("remove 1 image, ")
        terminal.until("? [y/N] ")
        terminal.type(keys)
        assert terminal.end() == (130 if keys == "\x03" else 1)
        if keys != "\x03":  # after which shells begin a line
            assert terminal.screen.endswith("\n"), "what comes next begins on a line of its own"
        assert "Traceback" not in terminal.screen
    assert nameless(store) == 1


@pytest.mark.parametrize("keys", ["y\n", "YES\n"], ids=ascii)
def test_prune_removes_what_was_agreed_to(
    store: Instance, unnamed: Callable[[], None], keys: str
) -> None:
    unnamed()
    with Terminal(store, "image", "prune") as terminal:
        terminal.until("remove 1 image, ")
        terminal.until("? [y/N] ")
        unnamed()  # which nobody was asked about
        terminal.type(keys)
        assert terminal.end() == 0
    assert "deleted: " in terminal.screen and "reclaimed " in terminal.screen
    assert nameless(store) == 1


def test_prune_does_not_ask_when_there_is_nothing(store: Instance) -> None:
    store.cli("image", "prune", "--force")
    with Terminal(store, "image", "prune") as terminal:
        assert terminal.end() == 0
    assert terminal.screen == "reclaimed 0B\r\n"


def test_system_df(store: Instance) -> None:
    script = "dd if=/dev/zero of=/file bs=1M count=3 2>&-; echo done; sleep 1000"
    create(store, pod("writer", shell(script)))
    assert store.first_line("writer") == "done"
    found = json.loads(store.cli("system", "df", "-o", "json").stdout)
    (row,) = found["pods"]["items"]
    assert row["name"] == "default/writer" and row["size"] > 2 << 20
    assert found["pods"]["reclaimable"] == 0 and found["pods"]["active"] == 1
    assert found["logs"]["count"] == 1 and found["images"]["active"] == 1
    lines = store.cli("system", "df").stdout.splitlines()
    assert lines[0].split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert [line.split()[0] for line in lines[1:]] == ["Images", "Pods", "Volumes", "Logs"]
    assert "default/writer" in store.cli("system", "df", "-v").stdout
    store.delete("writer")


def test_save_to_a_pipe(store: Instance, tmp_path: Path) -> None:
    file = tmp_path / "piped.tar"
    with file.open("wb") as target:
        process = store.start("image", "save", OTHER, TEST_IMAGE, "-o", "-", stdout=target)
        assert process.wait(patience(60)) == 0
    assert sorted(store.cli("image", "load", file).stdout.split()[1::2]) == [OTHER, TEST_IMAGE]


def test_from_a_directory(store: Instance, tmp_path: Path, probe_program: Path) -> None:
    """A directory, and a tar on stdin, become images that run as they were told."""
    name = "localhost/made:1"
    root = tmp_path / "rootfs"
    (root / "dev").mkdir(parents=True)
    root.chmod(0o755)
    shutil.copy(probe_program, root / "probe")
    os.mknod(root / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    options = ["--entrypoint", '["/probe"]', "--cmd", "report 'two words'", "-e", "A=b c"]
    options += ["--user", "7:8", "--workdir", "/dev", "--label", "l=m", "--expose", "80"]
    options += ["--stop-signal", "SIGINT", "--comment", "by hand"]
    made = store.cli("image", "from-dir", root, name, *options)
    assert made.stderr == "warning: left out 1 device nodes: 'dev/null'\n"
    image = json.loads(store.cli("image", "inspect", name).stdout)
    assert made.stdout == f"made {name} {image['digest']}\n"
    config = image["config"]
    assert (config["entrypoint"], config["cmd"]) == (["/probe"], ["report", "two words"])
    assert (config["env"], config["user"], config["workingDir"]) == (["A=b c"], "7:8", "/dev")
    assert (config["labels"], config["stopSignal"]) == ({"l": "m"}, "SIGINT")
    assert config["exposedPorts"] == ["80/tcp"]
    assert run(store, name).startswith("[c] {")
    tar = subprocess.run(["tar", "-C", root, "-c", "."], check=True, capture_output=True).stdout
    (tmp_path / "root.tar").write_bytes(tar)
    with (tmp_path / "root.tar").open("rb") as source:
        process = store.start(
            *("image", "from-dir", "-", "localhost/made:2", "--entrypoint", "/probe"),
            stdin=source,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert process.wait(patience(60)) == 0
    assert run(store, "localhost/made:2").startswith("[c] {")
    store.cli("image", "rm", name, "localhost/made:2")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--entrypoint", "a 'b"], "--entrypoint: no closing quotation"),
        (["--cmd", "[1]"], "--cmd: is not a list of strings"),
        (["--env", "A"], "--env 'A'"),
        (["--workdir", "w"], "--workdir 'w': is not an absolute path"),
        (["--expose", "99999"], "--expose '99999': is not a port"),
        (["--stop-signal", "kill me"], "--stop-signal 'kill me'"),
        (["--compression", "xz"], "there is no compression 'xz'"),
        (["--timestamp", "-1"], "--timestamp -1"),
        (["--platform", "x"], "invalid platform 'x'"),
    ],
)
def test_from_dir_refuses(store: Instance, tmp_path: Path, options: list[str], why: str) -> None:
    done = store.cli("image", "from-dir", tmp_path, "localhost/made:1", *options, check=False)
    check_error(done, 2, why)
    assert "localhost/made:1" not in listed(store)


def test_save_to_a_directory_that_is_not_empty(store: Instance, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("kept")
    save = ["image", "save", TEST_IMAGE, "--format", "oci-dir", "-o"]
    check_error(store.cli(*save, tmp_path / "full", check=False), 2, "directory not empty")
    check_error(store.cli(*save, "-", check=False), 2, "cannot be written to stdout")
    assert os.listdir(tmp_path) == ["full"] and os.listdir(tmp_path / "full") == ["file"]
    (tmp_path / "empty").mkdir()
    store.cli(*save, f"{tmp_path}/empty/")
    assert sorted(os.listdir(tmp_path / "empty")) == ["blobs", "index.json", "oci-layout"]


def test_load_under_another_name(store: Instance, other_archive: Path) -> None:
    done = store.cli("image", "load", other_archive, "--name", "registry.example/team/app:v2")
    assert "loaded registry.example/team/app:v2" in done.stdout.splitlines()
    assert "registry.example/team/app:v2" in listed(store)
    store.cli("image", "rm", "registry.example/team/app:v2")
    assert OTHER in listed(store), "the image's other name stays"


def test_image_in_use_is_not_removed(store: Instance) -> None:
    create(store, pod("user"))
    store.wait("user", "condition=Ready")
    used = store.cli("image", "rm", TEST_IMAGE, check=False)
    check_error(used, 1, f"image {TEST_IMAGE} is used by default/user", "delete those pods first")
    check_error(store.cli("image", "rm", "--force", TEST_IMAGE, check=False), 1, "running")
    assert TEST_IMAGE in listed(store)
    store.delete("user")


def test_refuses(store: Instance, tmp_path: Path, other_archive: Path) -> None:
    for op in (["rm"], ["inspect"], ["save", "-o", str(tmp_path / "out.tar")]):
        done = store.cli("image", *op, "localhost/none:1", check=False)
        check_error(done, 1, "image localhost/none:1 is not in the store", "minipod image ls")
    assert not list(tmp_path.iterdir()), "no half of a file is left"
    check_error(store.cli("image", "load", "/no/such.tar", check=False), 2, "no such file")
    (tmp_path / "text.tar").write_text("this is no archive\n" * 100)
    (tmp_path / "empty.tar").write_text("")
    (tmp_path / "directory").mkdir()
    for name in ("text.tar", "empty.tar", "directory"):
        done = store.cli("image", "load", tmp_path / name, check=False)
        assert done.returncode == 2 and done.stdout == "", done
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[0].startswith("minipod: "), done
    # One byte of a layer is not what its digest says.
    whole = bytearray(other_archive.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    (tmp_path / "broken.tar").write_bytes(whole)
    store.cli("image", "rm", OTHER)  # or its layers would be there already
    done = store.cli("image", "load", tmp_path / "broken.tar", check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done
    assert "minipod: " in done.stderr
    assert OTHER not in listed(store)


def test_save_to_a_closed_pipe_is_quiet(store: Instance) -> None:
    process = store.start(
        "image", "save", TEST_IMAGE, "-o", "-", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr
    words = process.stderr.read()
    process.stderr.close()
    assert process.wait(patience(60)) in (0, 141) and words == b""
