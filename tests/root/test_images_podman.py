# SPDX-License-Identifier: GPL-3.0-or-later
"""Images go to and come from Podman, in both archive formats; needs no registry."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minipod.images import ImageStore, builder
from minipod.images.builder import Directory, File, Link, Special

pytestmark = pytest.mark.requires("root", "tool:podman")

NAME = "localhost/mpt-app:1"
LAYER: builder.Entries = {
    "d": Directory(mode=0o1777),
    "d/file": File(b"x" * 5000, mode=0o4755, uid=7, gid=8),
    "d/link": Link("file"),
    "d/hard": Link("d/file", hard=True),
    "d/fifo": Special(),
    "n" * 120: b"long name",
}
FORMATS = ["oci-archive", "docker-archive"]

Podman = Callable[..., str]


@pytest.fixture
def podman() -> Iterator[Podman]:
    """Podman with storage of its own."""
    base = tempfile.mkdtemp(prefix="mpt-")  # its paths must be short
    options = [
        "--root",
        f"{base}/root",
        "--runroot",
        f"{base}/run",
        "--tmpdir",
        f"{base}/tmp",
        "--storage-driver",
        "vfs",
    ]

    def run(*arguments: str | Path) -> str:
        command = ["podman", *options, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    shutil.rmtree(base)


def id_in(podman: Podman, name: str) -> Any:
    return json.loads(podman("image", "inspect", name))[0]["Id"]


@pytest.mark.parametrize("format", FORMATS)
def test_from_podman(tmp_path: Path, podman: Podman, format: str) -> None:
    (tmp_path / "fs.tar").write_bytes(builder.layer_tar(LAYER))
    podman(
        "import", "--change", 'CMD ["/d/file"]', "--change", "ENV A=b", tmp_path / "fs.tar", NAME
    )
    podman("save", "--format", format, "-o", tmp_path / "saved.tar", NAME)
    (image,) = ImageStore(str(tmp_path / "store")).load(str(tmp_path / "saved.tar"))
    assert image.references == (NAME,)
    assert image.id == f"sha256:{id_in(podman, NAME)}"
    assert image.config.cmd == ("/d/file",) and "A=b" in image.config.env
    root = Path(image.layers[0])
    info = (root / "d/file").stat()
    assert (info.st_mode, info.st_uid, info.st_gid, info.st_nlink) == (0o104755, 7, 8, 2)
    assert (root / ("n" * 120)).read_text() == "long name"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_to_podman(tmp_path: Path, podman: Podman, format: Any, compression: Any) -> None:
    store = ImageStore(str(tmp_path / "store"))
    builder.write_oci_archive(
        tmp_path / "a.tar",
        NAME,
        [LAYER, {"d/.wh.link": b""}],
        {"Cmd": ["/d/file"]},
        compression=compression,
    )
    (image,) = store.load(str(tmp_path / "a.tar"))
    store.save([NAME], str(tmp_path / "saved.tar"), format=format)
    assert NAME in podman("load", "-i", tmp_path / "saved.tar")
    assert f"sha256:{id_in(podman, NAME)}" == image.id
    podman("save", "--format", format, "-o", tmp_path / "back.tar", NAME)
    (back,) = ImageStore(str(tmp_path / "other")).load(str(tmp_path / "back.tar"))
    assert (back.id, back.references) == (image.id, image.references)
    assert [Path(layer).name for layer in back.layers] == [
        Path(layer).name for layer in image.layers
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_several_to_podman(tmp_path: Path, podman: Podman, format: Any) -> None:
    store = ImageStore(str(tmp_path / "store"))
    names = ["localhost/mpt-one:1", "localhost/mpt-two:1", "localhost/mpt-also-two:1"]
    built = [builder.build_image([LAYER, {str(n): b""}]) for n in (1, 2)]
    files = builder.oci_files({names[0]: built[0], names[1]: built[1]})
    builder.write_archive(tmp_path / "a.tar", files)
    store.load(str(tmp_path / "a.tar"))
    store.tag(names[1], names[2])
    store.save(names, str(tmp_path / "saved.tar"), format=format)
    podman("load", "-i", tmp_path / "saved.tar")
    ids = [f"sha256:{id_in(podman, name)}" for name in names]
    assert ids == [built[0].config.digest, built[1].config.digest, built[1].config.digest]


def test_directory_from_podman(tmp_path: Path, podman: Podman) -> None:
    (tmp_path / "fs.tar").write_bytes(builder.layer_tar(LAYER))
    podman("import", tmp_path / "fs.tar", NAME)
    podman("push", NAME, f"oci:{tmp_path / 'layout'}:{NAME}")
    (image,) = ImageStore(str(tmp_path / "store")).load(str(tmp_path / "layout"))
    assert image.references == (NAME,)
