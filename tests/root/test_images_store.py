# SPDX-License-Identifier: GPL-3.0-or-later
"""The store: every format in, out and in again; hostile images; several processes; kills."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minipod.errors import MinipodError, NotFound, UsageError
from minipod.images import Identity, Image, ImageStore, builder, catalog, resolve_user, session
from minipod.images.bounds import Limits
from minipod.images.builder import (
    BuiltImage,
    Compression,
    File,
    Link,
    build_image,
    docker_files,
    layer_tar,
    oci_files,
)
from minipod.images.documents import (
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    digest_of,
    to_json,
)
from minipod.images.layout import LAYOUT_MARKER
from minipod.images.platforms import Platform
from minipod.images.session import Session

pytestmark = pytest.mark.requires("root")

NAME = "localhost/app:1"
PASSWD = b"root:x:0:0::/root:\nbob:x:1000:1000::/home/bob:\n"
BASE: builder.Entries = {
    "etc/passwd": PASSWD,
    "etc/group": b"wheel:x:10:bob\n",
    "bin/sh": File(b"\x7fELF", mode=0o4755),
}
TOP: builder.Entries = {"app": b"1", "bin/.wh.sh": b"", "opt/.wh..wh..opq": b""}
CONFIG = {"Entrypoint": ["/app"], "Cmd": ["x"], "Env": ["A=1"], "User": "bob", "WorkingDir": "/w"}
COMPRESSIONS: tuple[Compression, ...] = ("", "gzip", "zstd")


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(str(tmp_path / "store"))


def write(path: Path, files: Mapping[str, bytes], compression: Compression = "") -> str:
    builder.write_archive(path, files, compression)
    return str(path)


def app(compression: Compression = "gzip", **more: Any) -> BuiltImage:
    return build_image([BASE, TOP], CONFIG, compression=compression, **more)


def files_below(store: ImageStore) -> list[str]:
    """Return what the store consists of, layers as one name each."""
    found = []
    for directory, names, files in os.walk(store.root):
        inside = os.path.relpath(directory, store.root)
        if inside == "layers":
            found += [f"layers/{name}" for name in names]
            names.clear()
        found += [os.path.normpath(f"{inside}/{name}") for name in files]
        if inside == "tmp":
            found += [f"tmp/{name}" for name in names]
    return sorted(found)


def assert_whole(store: ImageStore) -> None:
    """Nothing is left over, nothing is missing, every blob is what it is called."""
    used = {"index.json", "lock", "oci-layout"}
    for image in store.list():
        manifest = json.loads(Path(store.root, "blobs/sha256", image.digest[7:]).read_bytes())
        digests = [image.digest, image.id, *(layer["digest"] for layer in manifest["layers"])]
        used |= {f"blobs/sha256/{digest[7:]}" for digest in digests}
        config = json.loads(Path(store.root, "blobs/sha256", image.id[7:]).read_bytes())
        used |= {f"layers/{diff_id[7:]}" for diff_id in config["rootfs"]["diff_ids"]}
    assert files_below(store) == sorted(used)
    for blob in Path(store.root, "blobs/sha256").iterdir():
        assert digest_of(blob.read_bytes()) == f"sha256:{blob.name}"


def loaded(store: ImageStore, path: str, **more: Any) -> Image:
    (image,) = store.load(path, **more)
    assert_whole(store)
    return image


@pytest.mark.parametrize("outer", COMPRESSIONS)
@pytest.mark.parametrize("inner", COMPRESSIONS)
@pytest.mark.parametrize("shape", ["oci", "docker", "layout"])
def test_every_format(
    tmp_path: Path, store: ImageStore, shape: str, inner: Compression, outer: Compression
) -> None:
    built = app(inner)
    path = str(tmp_path / "image")
    if shape == "layout":
        builder.write_oci_layout(path, NAME, [BASE, TOP], CONFIG, compression=inner)
    else:
        files = oci_files({NAME: built}) if shape == "oci" else docker_files({NAME: built})
        write(tmp_path / "image", files, outer)
    image = loaded(store, path)
    assert image == store.get(NAME) == store.get(image.digest) == store.get(image.id)
    assert store.list() == [image]
    assert image.id == built.config.digest
    if shape != "docker":
        assert image.digest == built.manifest.digest
    assert image.references == (NAME,) and image.reference == NAME
    assert image.config.entrypoint == ("/app",) and image.config.cmd == ("x",)
    assert (image.config.env, image.config.user, image.config.working_dir) == (
        ("A=1",),
        "bob",
        "/w",
    )
    assert [Path(layer).name for layer in image.layers] == [
        diff_id[7:] for diff_id in built.diff_ids
    ]
    assert Path(image.layers[0], "bin/sh").stat().st_mode == 0o104755
    assert resolve_user(image, "bob") == Identity(1000, 1000, (10,), "/home/bob")


@pytest.mark.parametrize("first", COMPRESSIONS)
@pytest.mark.parametrize("format", ["oci-archive", "docker-archive"])
def test_round_trip(tmp_path: Path, store: ImageStore, format: Any, first: Compression) -> None:
    image = loaded(store, write(tmp_path / "a", oci_files({NAME: app(first)})))
    store.save([NAME], str(tmp_path / "saved"), format=format)
    other = ImageStore(str(tmp_path / "other"))
    again = loaded(other, str(tmp_path / "saved"))
    assert (again.id, again.references, again.config) == (image.id, image.references, image.config)
    assert [Path(layer).name for layer in again.layers] == [
        Path(layer).name for layer in image.layers
    ]
    if format == "oci-archive":
        assert again.digest == image.digest
    other.save([NAME], str(tmp_path / "saved again"), format=format)
    assert (tmp_path / "saved again").read_bytes() == (tmp_path / "saved").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a", "other", "saved", "saved again", "store"]
    assert_whole(other)


def test_save_to_a_file_object_and_failures(tmp_path: Path, store: ImageStore) -> None:
    loaded(store, write(tmp_path / "a", oci_files({NAME: app()})))
    buffer = io.BytesIO()
    store.save([NAME], buffer)
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as tar:
        assert tar.getnames()[0] == "oci-layout"
    with pytest.raises(NotFound):
        store.save([NAME, "gone"], str(tmp_path / "out"))
    with pytest.raises(MinipodError, match="No such file"):
        store.save([NAME], str(tmp_path / "no" / "dir"))
    with pytest.raises(UsageError):
        store.save([NAME], str(tmp_path / "out"), format="zip")  # type: ignore[arg-type]
    (tmp_path / "kept").write_text("old")
    os.unlink(Path(store.root, "blobs/sha256", app().layers[0].hex))
    with pytest.raises(MinipodError):
        store.save([NAME], str(tmp_path / "kept"))
    assert (tmp_path / "kept").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["a", "kept", "store"]


def test_several_images_and_names(tmp_path: Path, store: ImageStore) -> None:
    one, two = app(), build_image([BASE], CONFIG)
    path = write(tmp_path / "a", oci_files({"one": one, "quay.io/two:2": two}))
    assert [image.reference for image in store.load(path)] == [
        "docker.io/library/one:latest",
        "quay.io/two:2",
    ]
    assert_whole(store)
    with pytest.raises(UsageError, match="2 images"):
        store.load(path, name="x")
    image = store.get("one")
    assert image is not None
    store.save(["one", "quay.io/two:2", image.id], str(tmp_path / "b"))
    other = ImageStore(str(tmp_path / "other"))
    assert len(other.load(str(tmp_path / "b"))) == 2
    assert_whole(other)


def test_names_given_and_missing(tmp_path: Path, store: ImageStore) -> None:
    path = write(tmp_path / "a", oci_files({"": app()}))
    image = loaded(store, path)
    assert image.references == () and image.reference == image.digest
    assert loaded(store, path, name="mine").references == ("docker.io/library/mine:latest",)
    assert loaded(store, path, name="mine:2").references == (
        "docker.io/library/mine:2",
        "docker.io/library/mine:latest",
    )
    assert len(store.list()) == 1
    with pytest.raises(UsageError, match="invalid image reference"):
        store.load(path, name="A B")


def test_a_name_moves(tmp_path: Path, store: ImageStore) -> None:
    old = loaded(store, write(tmp_path / "a", oci_files({NAME: app()})))
    new = loaded(store, write(tmp_path / "b", oci_files({NAME: build_image([BASE])})))
    assert store.get(NAME) == new
    kept = store.get(old.digest)
    assert kept is not None and kept.references == ()
    assert [image.reference for image in store.list()] == [NAME, old.digest]


def test_loading_twice_changes_nothing(tmp_path: Path, store: ImageStore) -> None:
    path = write(tmp_path / "a", oci_files({NAME: app()}))
    loaded(store, path)
    before = {
        name: os.stat(Path(store.root, name)).st_ino
        for name in files_below(store)
        if "layers" in name
    }
    said: list[dict[str, object]] = []
    loaded(store, path, progress=said.append)
    assert {item["status"] for item in said} == {"present"}
    assert before == {name: os.stat(Path(store.root, name)).st_ino for name in before}


def test_progress(tmp_path: Path, store: ImageStore) -> None:
    said: list[dict[str, object]] = []
    built = app()
    loaded(store, write(tmp_path / "a", oci_files({NAME: built})), progress=said.append)
    assert [item["layer"] for item in said if item["status"] == "done"] == [
        layer.digest for layer in built.layers
    ]
    assert all(set(item) == {"layer", "status", "done", "total"} for item in said)


def test_lookup(tmp_path: Path, store: ImageStore) -> None:
    image = loaded(store, write(tmp_path / "a", oci_files({"busybox:1.36": app()})))
    for text in (
        "busybox:1.36",
        "docker.io/library/busybox:1.36",
        f"busybox@{image.digest}",
        f"busybox:9@{image.digest}",
        image.id[7:19],
        image.id[7:9],
        image.id[7:],
    ):
        assert store.get(text) == image, text
    for text in (
        "busybox",
        "app",
        f"other@{image.digest}",
        "sha256:" + "0" * 64,
        "0" * 64,
        f"busybox@{image.id}",
    ):
        assert store.get(text) is None, text
    with pytest.raises(UsageError):
        store.get("NO/such name")


def test_ambiguous_prefix(tmp_path: Path, store: ImageStore) -> None:
    seen: dict[str, str] = {}
    for number in range(17):  # 16 first digits
        built = build_image([BASE], {"Env": [f"N={number}"]})
        store.load(write(tmp_path / "a", oci_files({f"n{number}-x": built})))
        if built.config.hex[0] in seen:
            with pytest.raises(UsageError, match="ambiguous"):
                store.get(built.config.hex[0])
            return
        seen[built.config.hex[0]] = ""
    raise AssertionError("no two ids begin alike")


def test_remove(tmp_path: Path, store: ImageStore) -> None:
    one, two = app(), build_image([BASE], CONFIG)
    store.load(write(tmp_path / "a", oci_files({"one": one, "two": two, "deux": two})))
    assert store.remove("two") == ["untagged: docker.io/library/two:latest"]
    gone = store.remove("one")
    assert gone[0] == "untagged: docker.io/library/one:latest"
    digests = {one.manifest.digest, one.config.digest, one.layers[1].digest, one.diff_ids[1]}
    assert set(gone[1:]) == {f"deleted: {digest}" for digest in digests}
    assert_whole(store)
    with pytest.raises(NotFound):
        store.remove("one")
    assert [image.references for image in store.list()] == [("docker.io/library/deux:latest",)]
    store.remove(two.config.hex[:12])
    assert store.list() == []
    assert_whole(store)


def test_what_is_gone_is_forgotten(
    tmp_path: Path, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent lives for months."""
    monkeypatch.setattr(catalog, "_GONE", 2)
    for number in range(8):
        image = build_image([BASE], {"Env": [f"N={number}"]})
        loaded(store, write(tmp_path / f"a{number}", oci_files({f"n{number}": image})))
        if number:
            store.remove(f"n{number}")
    assert [image.reference for image in store.list()] == ["docker.io/library/n0:latest"]
    assert len(store._catalog._parsed) <= 3


def test_remove_by_id_takes_all_names(tmp_path: Path, store: ImageStore) -> None:
    built = app()
    store.load(write(tmp_path / "a", oci_files({"one": built, "two": built})))
    store.load(write(tmp_path / "b", docker_files({"three": built})))
    assert (
        len([line for line in store.remove(built.config.digest[7:]) if line.startswith("untagged")])
        == 3
    )
    assert_whole(store)
    assert store.list() == []


def test_stack_is_what_overlayfs_takes(tmp_path: Path, store: ImageStore) -> None:
    """One directory twice is refused by the kernel; an opaque root is not looked at."""
    a, b = {"a": b""}, {"b": b""}
    image = loaded(store, write(tmp_path / "a", oci_files({NAME: build_image([a, b, a])})))
    assert [os.listdir(layer) for layer in image.layers] == [["b"], ["a"]]
    image = loaded(
        store,
        write(
            tmp_path / "b", oci_files({NAME: build_image([a, {".wh..wh..opq": b"", "c": b""}, b])})
        ),
    )
    assert [os.listdir(layer) for layer in image.layers] == [["c"], ["b"]]


@pytest.mark.parametrize(
    "top",
    [
        {"etc/.wh.passwd": b""},
        {".wh.etc": b""},
        {"etc/.wh..wh..opq": b""},
        {".wh..wh..opq": b""},
        {"etc/passwd": Link("/proc/self/environ")},
        {"etc": b""},
    ],
)
def test_users_respect_whiteouts(tmp_path: Path, store: ImageStore, top: Any) -> None:
    image = loaded(store, write(tmp_path / "a", oci_files({NAME: build_image([BASE, top])})))
    with pytest.raises(NotFound):
        resolve_user(image, "bob")
    assert resolve_user(image, "1000") == Identity(1000, 0)


# -- platforms ---------------------------------------------------------------------------------------------------


def index_of(images: Mapping[Platform, BuiltImage], **more: Any) -> dict[str, bytes]:
    """Return a layout with one index for all *images*."""
    blobs = {
        f"blobs/sha256/{key[7:]}": data
        for image in images.values()
        for key, data in image.blobs.items()
    }
    manifests = [
        {
            **image.manifest.to_json(),
            "platform": {"os": p.os, "architecture": p.architecture, "variant": p.variant},
        }
        for p, image in images.items()
    ]
    data = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests, **more})
    blobs[f"blobs/sha256/{digest_of(data)[7:]}"] = data
    inner = Descriptor(
        OCI_INDEX, digest_of(data), len(data), {"org.opencontainers.image.ref.name": NAME}
    )
    outer = to_json({"schemaVersion": 2, "manifests": [inner.to_json()]})
    return {"oci-layout": LAYOUT_MARKER, "index.json": outer, **blobs}


AMD, ARM, ATTESTATION = (
    Platform("linux", "amd64"),
    Platform("linux", "arm64", "v8"),
    Platform("unknown", "unknown"),
)


def test_platforms(tmp_path: Path, store: ImageStore) -> None:
    images = {
        platform: build_image([BASE], {}, platform=platform) for platform in (AMD, ATTESTATION, ARM)
    }
    path = write(tmp_path / "a", index_of(images))
    for platform in (AMD, ARM):
        image = loaded(store, path, platform=str(platform))
        assert image.digest == images[platform].manifest.digest
        assert image.architecture == platform.architecture
    with pytest.raises(
        UsageError, match=r"no image for linux/s390x; .*linux/amd64, linux/arm64/v8"
    ):
        store.load(path, platform="linux/s390x")
    with pytest.raises(UsageError, match=r"no image for linux/s390x; .*linux/amd64"):
        store.load(
            write(tmp_path / "b", oci_files({NAME: build_image([BASE], platform=AMD)})),
            platform="linux/s390x",
        )
    assert_whole(store)


def test_pinned_references(tmp_path: Path, store: ImageStore) -> None:
    """An archive cannot claim a digest that it does not have."""
    files = index_of({AMD: build_image([BASE], platform=AMD)})
    index_digest = json.loads(files["index.json"])["manifests"][0]["digest"]
    path = write(tmp_path / "a", files)
    image = loaded(store, path, platform="linux/amd64", name=f"a@{index_digest}")
    assert store.get(f"a@{index_digest}") == image
    loaded(store, path, platform="linux/amd64", name=f"a@{image.digest}")
    other = f"a@sha256:{'0' * 64}"
    with pytest.raises(UsageError, match="is not sha256:000"):
        store.load(path, platform="linux/amd64", name=other)
    with pytest.raises(UsageError, match="is not sha256:000"):
        store.load(write(tmp_path / "b", oci_files({other: app()})))


# -- hostile images ----------------------------------------------------------------------------------------------


def tampered(built: BuiltImage, **changes: Any) -> dict[str, bytes]:
    """Return a layout whose manifest says something else, with all digests right."""
    document = json.loads(built.blobs[built.manifest.digest])
    data = to_json({**document, **changes})
    manifest = Descriptor(OCI_MANIFEST, digest_of(data), len(data))
    return oci_files(
        {NAME: replace(built, manifest=manifest, blobs={**built.blobs, manifest.digest: data})}
    )


def with_blob(built: BuiltImage, digest: str, data: bytes | None) -> dict[str, bytes]:
    files = oci_files({NAME: built})
    del files[f"blobs/sha256/{digest[7:]}"]
    return files if data is None else {**files, f"blobs/sha256/{digest[7:]}": data}


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def other_layer(built: BuiltImage) -> list[dict[str, Any]]:
    """Return the manifest's layers with the blobs of both exchanged."""
    return [built.layers[1].to_json(), built.layers[0].to_json()]


HOSTILE: dict[str, tuple[Callable[[BuiltImage], dict[str, bytes]], str]] = {
    "manifest digest": (
        lambda b: with_blob(b, b.manifest.digest, flipped(b.blobs[b.manifest.digest])),
        "has the digest",
    ),
    "config digest": (
        lambda b: with_blob(b, b.config.digest, flipped(b.blobs[b.config.digest])),
        "has the digest",
    ),
    "layer digest": (
        lambda b: with_blob(b, b.layers[0].digest, flipped(b.blobs[b.layers[0].digest])),
        "has the digest",
    ),
    "layer short": (
        lambda b: with_blob(b, b.layers[0].digest, b.blobs[b.layers[0].digest][:-1]),
        "bytes instead of",
    ),
    "layer long": (
        lambda b: with_blob(b, b.layers[0].digest, b.blobs[b.layers[0].digest] + b"x"),
        "is longer than",
    ),
    "manifest long": (
        lambda b: with_blob(b, b.manifest.digest, b.blobs[b.manifest.digest] + b" "),
        "is longer than",
    ),
    "layer missing": (lambda b: with_blob(b, b.layers[1].digest, None), "is missing"),
    "config missing": (lambda b: with_blob(b, b.config.digest, None), "is missing"),
    "manifest missing": (lambda b: with_blob(b, b.manifest.digest, None), "is missing"),
    "both kinds": (lambda b: tampered(b, manifests=[]), "both manifests and layers"),
    "layer size": (
        lambda b: tampered(
            b, layers=[{**layer.to_json(), "size": layer.size + 1} for layer in b.layers]
        ),
        "bytes instead of",
    ),
    "config size": (
        lambda b: tampered(b, config={**b.config.to_json(), "size": 1}),
        "is longer than",
    ),
    "diff_id": (lambda b: tampered(b, layers=other_layer(b)), "but the config says"),
    "layer count": (lambda b: tampered(b, layers=[]), "0 layers, its config 2"),
    "too many layers": (lambda b: tampered(b, layers=[b.layers[0].to_json()] * 128), "128 layers"),
    "not an image": (
        lambda b: tampered(b, config={**b.config.to_json(), "mediaType": "x/y"}),
        "container image",
    ),
    "large document": (
        lambda b: tampered(b, config={**b.config.to_json(), "size": (4 << 20) + 1}),
        "more than 4194304 bytes",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_documents(tmp_path: Path, store: ImageStore, name: str) -> None:
    make, why = HOSTILE[name]
    with pytest.raises(UsageError, match=why) as caught:
        store.load(write(tmp_path / "a", make(app())))
    assert caught.value.remedy
    assert store.list() == []
    assert files_below(store) == ["lock", "oci-layout"]


@pytest.mark.parametrize(
    "layer",
    [
        [("../../x", b"")],
        [("a", Link("/tmp")), ("a/b", b"")],
        [("h", Link("/etc/shadow", hard=True))],
    ],
)
def test_hostile_layers_leave_nothing(tmp_path: Path, store: ImageStore, layer: Any) -> None:
    with pytest.raises(UsageError, match=r"layer 1 \(sha256:"):
        store.load(write(tmp_path / "a", oci_files({NAME: build_image([BASE, layer])})))
    assert files_below(store) == ["lock", "oci-layout"]


def test_all_or_nothing(tmp_path: Path, store: ImageStore) -> None:
    files = oci_files({"good": app(), "bad": build_image([BASE, [("..", b"")]])})
    with pytest.raises(UsageError):
        store.load(write(tmp_path / "a", files))
    assert files_below(store) == ["lock", "oci-layout"]


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_layer_bomb(tmp_path: Path, compression: Compression) -> None:
    store = ImageStore(str(tmp_path / "store"), Limits(unpacked=1 << 20))
    built = build_image([{"zeros": bytes(8 << 20)}], compression=compression)
    with pytest.raises(UsageError, match="more bytes than allowed"):
        store.load(write(tmp_path / "a", oci_files({NAME: built})))
    assert files_below(store) == ["lock", "oci-layout"]


def test_indexes_that_list_each_other(tmp_path: Path, store: ImageStore) -> None:
    """Four small indexes of a thousand entries each would be a billion visits."""
    blobs: dict[str, bytes] = {}
    below: list[dict[str, Any]] = []
    for _ in range(4):
        data = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": below})
        blobs[f"blobs/sha256/{digest_of(data)[7:]}"] = data
        below = [Descriptor(OCI_INDEX, digest_of(data), len(data)).to_json()] * 1000
    index = to_json({"schemaVersion": 2, "manifests": below[:1]})
    files = {"oci-layout": LAYOUT_MARKER, "index.json": index, **blobs}
    with pytest.raises(UsageError, match="list more than 1000"):
        store.load(write(tmp_path / "a", files))


def test_docker_archive_whose_layer_is_not_its_diff_id(tmp_path: Path, store: ImageStore) -> None:
    built = app("")
    files = docker_files({NAME: built})
    files[f"{built.diff_ids[0][7:]}.tar"] = layer_tar({"other": b"x" * 20000})
    with pytest.raises(UsageError, match="layer 0"):
        store.load(write(tmp_path / "a", files))


def test_a_known_layer_does_not_excuse_a_wrong_blob(tmp_path: Path, store: ImageStore) -> None:
    """A blob that is not the layer it is said to be is refused also when the layer is there already."""
    store.load(write(tmp_path / "a", oci_files({NAME: app()})))
    wrong = builder.compressed(layer_tar({"other": b""}), "gzip")
    layer = Descriptor(f"{OCI_LAYER}+gzip", digest_of(wrong), len(wrong))
    built = app()
    files = tampered(built, layers=[layer.to_json(), built.layers[1].to_json()])
    with pytest.raises(UsageError, match="but the config says"):
        store.load(write(tmp_path / "b", {**files, f"blobs/sha256/{layer.hex}": wrong}))
    assert_whole(store)


def test_unreadable_paths(tmp_path: Path, store: ImageStore) -> None:
    with pytest.raises(MinipodError, match="No such file") as caught:
        store.load(str(tmp_path / "gone"))
    assert caught.value.remedy == "check the path"


# -- several processes, kills ------------------------------------------------------------------------------------


def test_damaged_image(tmp_path: Path, store: ImageStore) -> None:
    path = write(tmp_path / "a", oci_files({NAME: app()}))
    image = loaded(store, path)
    Path(store.root, "blobs/sha256", image.digest[7:]).write_bytes(app().blobs[image.digest] + b" ")
    fresh = ImageStore(store.root)
    with pytest.raises(MinipodError, match="damaged"):
        fresh.get(NAME)
    assert fresh.list() == []
    with pytest.raises(MinipodError, match="damaged"):
        fresh.sweep()
    assert fresh.remove(NAME)[0] == f"untagged: {NAME}"
    fresh.sweep()
    assert files_below(fresh) == ["index.json", "lock", "oci-layout"]
    loaded(fresh, path)


def test_sweep_leaves_the_living(tmp_path: Path, store: ImageStore) -> None:
    image = loaded(store, write(tmp_path / "a", oci_files({NAME: app()})))
    Path(store.root, "blobs/sha256", "0" * 64).write_text("orphan")
    Path(store.root, "layers", "1" * 64, "deep").mkdir(parents=True)
    Path(store.root, "tmp", "dead", "layers").mkdir(parents=True)
    Path(store.root, "tmp", "file").write_text("")
    with Session(store._layout) as living:
        Path(living.path, "blobs", "x").write_text("at work")
        store.sweep()
        assert os.listdir(Path(store.root, "tmp")) == [os.path.basename(living.path)]
        assert Path(living.path, "blobs", "x").exists()
    assert_whole(store)
    assert store.get(NAME) == image


def test_what_is_going_is_handed_to_nobody(tmp_path: Path, store: ImageStore) -> None:
    image = loaded(store, write(tmp_path / "a", oci_files({"one": app(), "two": app()})))
    assert store.meant("one") == ([], ["docker.io/library/one:latest"])
    digests, names = store.meant(image.id)
    assert digests == [image.digest] and len(names) == 2
    with store.going(digests):
        assert store.get("one") is None and store.get(image.digest) is None and not store.list()
        with store.going(digests):
            pass
        assert store.get("one") is None
        assert len(store.remove(image.id)) > 2
    assert store.list() == []
    assert_whole(store)


def test_tag(tmp_path: Path, store: ImageStore) -> None:
    with pytest.raises(NotFound):
        store.tag("one", "two")
    one = loaded(store, write(tmp_path / "a", oci_files({"one": app()})))
    other = loaded(store, write(tmp_path / "b", oci_files({"two": build_image([BASE])})))
    assert store.tag("one", "quay.io/x/three") == "quay.io/x/three:latest"
    assert (
        store.tag(one.id[7:19], f"pinned@{one.digest}") == f"docker.io/library/pinned@{one.digest}"
    )
    store.tag("one", "two")
    found = store.get("one")
    assert found is not None and len(found.references) == 4
    left = store.get(other.digest)
    assert left is not None and left.references == ()
    for name in ("A B", f"pinned@{other.digest}"):
        with pytest.raises(UsageError):
            store.tag("one", name)
    with pytest.raises(NotFound):
        store.tag("none", "four")
    assert_whole(store)


def test_removed_while_loading(tmp_path: Path, store: ImageStore) -> None:
    """What the load counted on goes away in the middle; it is taken in again."""
    path = write(tmp_path / "a", oci_files({"one": build_image([BASE])}))
    store.load(path)
    removed = False

    def remove_once(_: dict[str, object]) -> None:
        nonlocal removed
        if not removed:
            removed = True
            store.remove("one")

    (image,) = store.load(write(tmp_path / "b", oci_files({NAME: app()})), progress=remove_once)
    assert removed
    assert_whole(store)
    assert resolve_user(image, "bob").uid == 1000


def test_many_at_once(tmp_path: Path, store: ImageStore) -> None:
    images = [build_image([BASE, {f"file{n}": b"x" * 1000}], {"Env": [f"N={n}"]}) for n in range(6)]
    paths = [
        write(tmp_path / f"a{n}", oci_files({f"n{n}": image})) for n, image in enumerate(images)
    ]
    errors: list[BaseException] = []

    def work(number: int) -> None:
        mine = ImageStore(store.root)
        try:
            for _ in range(4):
                mine.load(paths[number])
                mine.sweep()
                assert mine.get(f"n{number}") is not None
                if number % 2:
                    mine.remove(f"n{number}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    store.sweep()
    assert [image.reference for image in store.list()] == [
        f"docker.io/library/n{n}:latest" for n in (0, 2, 4)
    ]
    assert_whole(store)


class Disk:
    """In the place of ``syncfs(2)``, begun by every byte that is staged: counts, and fails where *fails* says so.

    Args:
        patch: puts it there.
        fails: asked with the number of the call, from 1.
        lasts: seconds of a call.
    """

    def __init__(
        self, patch: pytest.MonkeyPatch, fails: Callable[[int], bool], lasts: float = 0.0
    ) -> None:
        self.calls: list[
            tuple[int, bool]
        ] = []  # the fd, and whether it was by the test's own thread
        self.ended = 0
        self._begun = threading.Event()
        self._fails, self._lasts = fails, lasts
        patch.setattr(session, "syncfs", self._sync)
        patch.setattr(session, "_WRITE_EVERY", 1)

    def _sync(self, fd: int) -> None:
        self.calls.append((fd, threading.current_thread() is threading.main_thread()))
        self._begun.set()
        time.sleep(self._lasts)
        self.ended += 1
        if self._fails(len(self.calls)):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def wait(self, progress: Mapping[str, object]) -> None:
        """Have no layer done before the disk has begun to write."""
        if progress["status"] == "done":
            assert self._begun.wait(30)


def test_the_disk_writes_meanwhile(
    tmp_path: Path, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a", oci_files({NAME: app()}))
    disk = Disk(monkeypatch, lambda number: False)
    store.load(path, progress=disk.wait)
    assert disk.calls[0][1] is False and disk.calls[-1][1] is True, "the commit waits for the rest"
    assert len({fd for fd, _ in disk.calls}) == 1, "errors are told once for each fd"
    assert_whole(store)


@pytest.mark.parametrize("failing", [1, 0], ids=["early", "at the end"])
def test_a_disk_that_fails(
    tmp_path: Path, store: ImageStore, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """The kernel tells of it once; it is not forgotten until the commit."""
    path = write(tmp_path / "a", oci_files({NAME: app()}))
    disk = Disk(
        monkeypatch, lambda number: number == failing or (not failing and disk.calls[-1][1])
    )
    with pytest.raises(MinipodError, match=r"(?i)input/output error"):
        store.load(path, progress=disk.wait)
    assert store.list() == []
    store.sweep()
    assert files_below(store) == ["lock", "oci-layout"]


def test_a_refused_image_leaves_no_thread(
    tmp_path: Path, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would sync an fd that is somebody else's by then."""
    disk = Disk(monkeypatch, lambda number: False, lasts=0.3)
    path = write(tmp_path / "a", oci_files({NAME: build_image([BASE, {"../x": b""}])}))
    with pytest.raises(UsageError):
        store.load(path, progress=disk.wait)
    assert disk.ended == len(disk.calls) > 0


KILLED = """
import os, signal, sys
from minipod.images import ImageStore
from minipod.images import layout, session, unpack, tar

count = int(sys.argv[3])
def traced(module, name):
    real = getattr(module, name)
    def call(*args, **more):
        global count
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **more)
    setattr(module, name, call)
for name in ("rename", "mkdir", "fsync", "open", "rmdir", "unlink", "fchmod"):
    traced(os, name)
store = ImageStore(sys.argv[1])
if sys.argv[4] == "load":
    store.load(sys.argv[2])
else:
    store.remove("localhost/app:1")
"""


@pytest.mark.parametrize("verb", ["load", "remove"])
def test_killed_at_any_instant(tmp_path: Path, verb: str) -> None:
    """Killed before its nth system call, for many n: the image is there whole or not at all, and a sweep cleans up."""
    path = write(tmp_path / "a", oci_files({NAME: app()}))
    outcomes = set()
    for number in [*range(1, 60, 3), *range(60, 130, 2), 10_000]:
        store = ImageStore(str(tmp_path / f"store{number}"))
        if verb == "remove":
            store.load(path)
        code = [sys.executable, "-c", KILLED, store.root, path, str(number), verb]
        done = subprocess.run(code, capture_output=True, check=False)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        store.sweep()
        image = store.get(NAME)
        outcomes.add((done.returncode, image is not None))
        if image:
            resolve_user(image, "bob")
        if os.path.exists(f"{store.root}/index.json"):
            assert_whole(store)
        loaded(store, path)
        if done.returncode == 0:
            break
    assert {(-signal.SIGKILL, False), (-signal.SIGKILL, True), (0, verb == "load")} <= outcomes


@pytest.mark.requires("overlay")
def test_the_kernel_stacks_the_layers(tmp_path: Path, store: ImageStore) -> None:
    bottom = {
        "gone": b"",
        "kept": b"old",
        "d/a": b"",
        "o/hidden": b"",
        "r/below": b"",
        "w/lower": b"",
    }
    middle = {
        ".wh.gone": b"",
        "d/.wh.a": b"",
        "d/b": b"",
        "o/.wh..wh..opq": b"",
        "o/new": b"",
        "kept": b"new",
    }
    top = [(".wh.r", b""), ("r/above", b""), ("w/upper", b"")]
    image = loaded(
        store, write(tmp_path / "a", oci_files({NAME: build_image([bottom, middle, top])}))
    )
    script = 'mount -t overlay none -o "lowerdir=$1" "$2" && cd "$2" && find . -type f | sort && cat kept'
    merged = tmp_path / "merged"
    merged.mkdir()
    command = [
        "unshare",
        "--mount",
        "sh",
        "-ec",
        script,
        "sh",
        ":".join(reversed(image.layers)),
        str(merged),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "./d/b",
        "./kept",
        "./o/new",
        "./r/above",
        "./w/lower",
        "./w/upper",
        "new",
    ]
