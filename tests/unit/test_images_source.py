# SPDX-License-Identifier: GPL-3.0-or-later
"""The sources: which format a file or directory is, what it offers, what is refused."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from minipod.images import builder
from minipod.images.bounds import BadImage, Limits
from minipod.images.builder import (
    BuiltImage,
    Compression,
    Link,
    build_image,
    docker_files,
    layer_tar,
    oci_files,
)
from minipod.images.documents import CONTAINERD_NAME, REF_NAME, Descriptor, digest_of, to_json
from minipod.images.layout import LAYOUT_MARKER
from minipod.images.source import DockerArchive, LayoutDirectory, OciArchive, Root, open_source

LAYERS = [{"a": b"1"}, {"b": b"2"}]
NAME = "localhost/x:1"
COMPRESSIONS: tuple[Compression, ...] = ("", "gzip", "zstd")


@pytest.fixture
def image() -> BuiltImage:
    return build_image(LAYERS)


def roots(path: Path | int, tmp_path: Path, limits: Limits | None = None) -> list[Root]:
    where = path if isinstance(path, int) else str(path)
    with open_source(where, str(tmp_path), limits or Limits()) as source:
        return list(source.roots())


def archive(
    tmp_path: Path, files: Mapping[str, bytes | builder.Entry], compression: Compression = ""
) -> Path:
    path = tmp_path / "archive"
    path.write_bytes(builder.compressed(layer_tar(files), compression))
    return path


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("how", ["file", "fd", "pipe"])
@pytest.mark.parametrize("kind", [OciArchive, DockerArchive])
def test_archives(
    tmp_path: Path,
    image: BuiltImage,
    compression: Compression,
    how: str,
    kind: type[OciArchive | DockerArchive],
) -> None:
    files = oci_files({NAME: image}) if kind is OciArchive else docker_files({NAME: image})
    path = archive(tmp_path, files, compression)
    where: str | int = str(path)
    feeder = None
    if how == "fd":
        where = os.open(path, os.O_RDONLY)
    elif how == "pipe":
        where, write_end = os.pipe()
        data = path.read_bytes()

        def feed() -> None:
            with open(write_end, "wb") as file:
                file.write(data)

        feeder = threading.Thread(target=feed)
        feeder.start()
    with open_source(where, str(tmp_path), Limits()) as source:
        assert isinstance(source, kind)
        (root,) = source.roots()
        assert root.names == (NAME,)
        for layer in image.layers:
            with source.open_blob(layer) as blob:
                assert digest_of(blob.read(1 << 20)) == layer.digest
        with source.open_blob(root.manifests[0]) as blob:
            assert digest_of(blob.read(1 << 20)) == root.manifests[0].digest
        with pytest.raises(FileNotFoundError):
            source.open_blob(Descriptor("", "sha256:" + "0" * 64, 1))
    if feeder:
        feeder.join()
    if isinstance(where, int):
        os.close(where)
    assert [entry.name for entry in tmp_path.iterdir()] == ["archive"]


def test_layout_directory(tmp_path: Path) -> None:
    built = builder.write_oci_layout(tmp_path / "layout", NAME, LAYERS)
    with open_source(str(tmp_path / "layout"), str(tmp_path), Limits()) as source:
        assert isinstance(source, LayoutDirectory)
        (root,) = source.roots()
        assert root == Root((root.manifests[0],), (NAME,))
        with source.open_blob(built.config) as blob:
            assert digest_of(blob.read(1 << 20)) == built.config.digest


@pytest.mark.parametrize("what", ["symlink", "inside", "parent", "fifo", "absolute"])
def test_layout_directory_leads_nowhere_else(tmp_path: Path, what: str) -> None:
    built = builder.write_oci_layout(tmp_path / "layout", NAME, LAYERS)
    blobs = tmp_path / "layout" / "blobs"
    path = blobs / "sha256" / built.config.hex
    secret = tmp_path / "secret"
    secret.write_bytes(path.read_bytes())
    if what == "parent":
        (tmp_path / "elsewhere").mkdir()
        blobs.rename(tmp_path / "elsewhere" / "blobs")
        blobs.symlink_to("../elsewhere/blobs")
    else:
        path.unlink()
        if what == "fifo":
            os.mkfifo(path)
        elif what == "inside":
            (tmp_path / "layout" / "copy").write_bytes(secret.read_bytes())
            path.symlink_to("../../copy")
        else:
            path.symlink_to(secret if what == "absolute" else "../../../secret")
    with (
        open_source(str(tmp_path / "layout"), str(tmp_path), Limits()) as source,
        pytest.raises((OSError, BadImage)),
    ):
        source.open_blob(built.config)


def test_oci_comes_before_docker(tmp_path: Path, image: BuiltImage) -> None:
    """New versions of Docker save both in one archive."""
    path = archive(tmp_path, {**docker_files({NAME: image}), **oci_files({NAME: image})})
    assert roots(path, tmp_path)[0].manifests[0].digest == image.manifest.digest


@pytest.mark.parametrize(
    ("annotations", "names"),
    [
        ({REF_NAME: "quay.io/a/b:1"}, ("quay.io/a/b:1",)),
        ({REF_NAME: "b:1"}, ("b:1",)),
        ({REF_NAME: "latest"}, ()),
        (
            {REF_NAME: "latest", CONTAINERD_NAME: "docker.io/library/b:latest"},
            ("docker.io/library/b:latest",),
        ),
        ({}, ()),
    ],
)
def test_names(
    tmp_path: Path, image: BuiltImage, annotations: dict[str, str], names: tuple[str, ...]
) -> None:
    files = oci_files({NAME: image})
    entry = {**image.manifest.to_json(), "annotations": annotations}
    files["index.json"] = to_json({"schemaVersion": 2, "manifests": [entry]})
    assert roots(archive(tmp_path, files), tmp_path)[0].names == names


def test_platforms_of_one_name_are_one_image(tmp_path: Path, image: BuiltImage) -> None:
    def entry(name: str, architecture: str) -> dict[str, object]:
        platform = {"os": "linux", "architecture": architecture}
        named = {"annotations": {REF_NAME: name}} if name else {}
        return {**image.manifest.to_json(), "platform": platform, **named}

    pairs = [("", "a"), ("n:1", "a"), ("n:1", "b"), ("", "b"), ("m:1", "a")]
    files = oci_files({NAME: image})
    files["index.json"] = to_json(
        {"schemaVersion": 2, "manifests": [entry(*pair) for pair in pairs]}
    )
    found = roots(archive(tmp_path, files), tmp_path)
    assert [(root.names, len(root.manifests)) for root in found] == [
        ((), 2),
        (("n:1",), 2),
        (("m:1",), 1),
    ]


def test_docker_links_between_layers(tmp_path: Path) -> None:
    """Old versions of Docker, and Podman, put a symlink where a layer is there already."""
    image = build_image([LAYERS[0], LAYERS[0]], compression="")
    files: dict[str, bytes | builder.Entry] = {
        "config.json": image.blobs[image.config.digest],
        "one/layer.tar": image.blobs[image.layers[0].digest],
        "two/layer.tar": Link("../one/layer.tar"),
        "manifest.json": json.dumps(
            [
                {
                    "Config": "config.json",
                    "RepoTags": None,
                    "Layers": ["one/layer.tar", "two/layer.tar"],
                }
            ]
        ).encode(),
    }
    with open_source(str(archive(tmp_path, files)), str(tmp_path), Limits()) as source:
        assert len(source.roots()) == 1
        with source.open_blob(image.layers[0]) as blob:
            assert digest_of(blob.read(1 << 20)) == image.layers[0].digest


def docker_with(image: BuiltImage, **changes: object) -> dict[str, bytes | builder.Entry]:
    files: dict[str, bytes | builder.Entry] = {**docker_files({NAME: image})}
    item = json.loads(docker_files({NAME: image})["manifest.json"])[0]
    files["manifest.json"] = json.dumps([{**item, **changes}]).encode()
    return files


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"Layers": []}, "0 layers, but its config has 2"),
        ({"Layers": ["a"]}, "1 layers"),
        ({"Layers": ["../../etc/passwd", "x"]}, "not in the archive"),
        ({"Layers": "ab"}, "needs Config"),
        ({"Config": None}, "needs Config"),
        ({"Config": "gone.json"}, "not in the archive"),
        ({"RepoTags": [1]}, "needs Config"),
    ],
)
def test_docker_refused(
    tmp_path: Path, image: BuiltImage, changes: dict[str, object], why: str
) -> None:
    with pytest.raises((BadImage, FileNotFoundError), match=why):
        roots(archive(tmp_path, docker_with(image, **changes)), tmp_path)


def test_link_loop(tmp_path: Path, image: BuiltImage) -> None:
    files = docker_with(image, Config="a")
    files |= {"a": Link("b"), "b": Link("a")}
    with pytest.raises(BadImage, match="not in the archive"):
        roots(archive(tmp_path, files), tmp_path)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"file": b"x"}, "neither"),
        ({}, "neither"),
        ({"repositories": b"{}"}, "before 1.10"),
        ({"manifest.json": b"{}"}, "not a list"),
        ({"manifest.json": b"[1]"}, "not a list"),
        ({"index.json": b"{}", "oci-layout": b"{}"}, "imageLayoutVersion"),
        ({"index.json": b"{}", "oci-layout": LAYOUT_MARKER}, "schemaVersion"),
        ({"index.json": Link("/etc/passwd"), "oci-layout": b"{}"}, "not in the archive"),
    ],
)
def test_archive_refused(tmp_path: Path, files: dict[str, bytes | builder.Entry], why: str) -> None:
    with pytest.raises(BadImage, match=why):
        roots(archive(tmp_path, files), tmp_path)


def test_document_too_large(tmp_path: Path, image: BuiltImage) -> None:
    path = archive(tmp_path, oci_files({NAME: image}))
    with pytest.raises(BadImage, match=r"index\.json': has more than 100 bytes"):
        roots(path, tmp_path, Limits(document=100))


def test_too_many_members(tmp_path: Path, image: BuiltImage) -> None:
    path = archive(tmp_path, oci_files({NAME: image}))
    with pytest.raises(BadImage, match="more entries"):
        roots(path, tmp_path, Limits(entries=5))
    with pytest.raises(BadImage, match="longer names"):
        roots(path, tmp_path, Limits(names=100))


def test_too_many_images(tmp_path: Path, image: BuiltImage) -> None:
    path = archive(tmp_path, docker_files({NAME: image}))
    with pytest.raises(BadImage, match="more than 0"):
        roots(path, tmp_path, Limits(images=0))


def test_member_twice(tmp_path: Path, image: BuiltImage) -> None:
    path = tmp_path / "archive"
    pairs = [*oci_files({NAME: image}).items()]
    path.write_bytes(layer_tar([*pairs, ("./index.json", b"{}")]))
    with pytest.raises(BadImage, match="twice"):
        roots(path, tmp_path)
    path.write_bytes(
        layer_tar([*pairs, *((name, data) for name, data in pairs if name.startswith("blobs/"))])
    )
    assert len(roots(path, tmp_path)) == 1


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_cut_off(tmp_path: Path, image: BuiltImage, compression: Compression) -> None:
    path = archive(tmp_path, oci_files({NAME: image}), compression)
    data = path.read_bytes()
    path.write_bytes(data[: 2000 if not compression else len(data) - 20])
    with pytest.raises(BadImage):
        roots(path, tmp_path)


def test_archive_bomb(tmp_path: Path) -> None:
    path = archive(tmp_path, {"index.json": bytes(5 << 20)}, "gzip")
    with pytest.raises(BadImage, match="more bytes than allowed"):
        roots(path, tmp_path, Limits(unpacked=1 << 20))


def test_empty_and_other_files(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    with pytest.raises(BadImage, match="empty"):
        roots(path, tmp_path)
    path.write_bytes(b"\xfd7zXZ\x00...")
    with pytest.raises(BadImage, match="xz"):
        roots(path, tmp_path)
    path.write_bytes(b"hello " * 200)
    with pytest.raises(BadImage):
        roots(path, tmp_path)
    (tmp_path / "dir").mkdir()
    with pytest.raises(BadImage, match="not an OCI image layout"):
        roots(tmp_path / "dir", tmp_path)
    with pytest.raises(FileNotFoundError):
        roots(tmp_path / "gone", tmp_path)


def test_builder_is_reproducible() -> None:
    assert layer_tar(oci_files({NAME: build_image(LAYERS)})) == layer_tar(
        oci_files({NAME: build_image(LAYERS)})
    )
    with tarfile.open(fileobj=io.BytesIO(layer_tar({"a": b"1"}))) as tar:
        assert tar.getmember("a").mtime == 0
