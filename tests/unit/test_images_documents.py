# SPDX-License-Identifier: GPL-3.0-or-later
"""Index, manifest and config: what is taken, what is refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minipod.images import documents
from minipod.images.bounds import BadImage, Limits
from minipod.images.documents import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Index, Manifest

SHA = "sha256:" + "ab" * 32
LIMITS = Limits()


def descriptor(media_type: str = OCI_LAYER, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": SHA, "size": 3, **more}


def manifest(**more: Any) -> dict[str, Any]:
    base = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG),
        "layers": [descriptor()],
    }
    return {**base, **more}


def config(**more: Any) -> dict[str, Any]:
    base = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [SHA]}}
    return {**base, **more}


def parse(value: Any, media_type: str = OCI_MANIFEST) -> Index | Manifest:
    return documents.parse_document(json.dumps(value).encode(), media_type, LIMITS)


def parse_config(value: Any) -> documents.ConfigDocument:
    return documents.parse_config(json.dumps(value).encode(), LIMITS)


def test_manifest() -> None:
    parsed = parse(manifest())
    assert isinstance(parsed, Manifest)
    assert parsed.config.media_type == OCI_CONFIG
    assert parsed.layers[0].hex == "ab" * 32


def test_index() -> None:
    item = descriptor(
        OCI_MANIFEST, platform={"os": "linux", "architecture": "arm", "variant": "v7"}
    )
    parsed = parse({"schemaVersion": 2, "manifests": [item]}, OCI_INDEX)
    assert isinstance(parsed, Index)
    assert str(parsed.manifests[0].platform) == "linux/arm/v7"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (manifest(manifests=[]), "both manifests and layers"),
        (manifest(fsLayers=[]), "both layers and fsLayers"),
        (manifest(schemaVersion=1), "schemaVersion"),
        (manifest(mediaType=OCI_INDEX), "what points to it"),
        (manifest(layers=[descriptor()] * 128), "128 layers, more than 127"),
        (manifest(layers={}), "not a list"),
        (manifest(layers=[1]), "not an object"),
        (manifest(layers=[descriptor("text/html")]), "not a file system layer"),
        (manifest(layers=[descriptor(size=-1)]), "size"),
        (manifest(layers=[descriptor(size=True)]), "size"),
        (manifest(layers=[descriptor(size="3")]), "size"),
        (manifest(layers=[descriptor(digest="sha256:../../../etc/passwd")]), "not a sha256 digest"),
        (manifest(layers=[descriptor(digest=SHA.upper())]), "not a sha256 digest"),
        (manifest(layers=[descriptor(digest=SHA + "\n")]), "not a sha256 digest"),
        (manifest(layers=[descriptor(digest=1)]), "not a string"),
        (
            manifest(config=descriptor("application/vnd.oci.empty.v1+json")),
            "not a container image's",
        ),
        (manifest(config=None), "not an object"),
        ([], "not an object"),
    ],
)
def test_manifest_refused(value: Any, why: str) -> None:
    with pytest.raises(BadImage, match=why):
        parse(value)


def test_index_refused() -> None:
    for key in ("layers", "config"):
        with pytest.raises(BadImage, match="both"):
            parse({"schemaVersion": 2, "manifests": [], key: []}, OCI_INDEX)


@pytest.mark.parametrize(
    ("media_type", "why"),
    [
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
        ("text/plain", "not an image"),
    ],
)
def test_media_type_refused(media_type: str, why: str) -> None:
    with pytest.raises(BadImage, match=why):
        parse(manifest(), media_type)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b"[" * 200_000,
        b"NaN",
        b"9" * 10_000,
    ],
)
def test_json_refused(data: bytes) -> None:
    with pytest.raises(BadImage):
        documents.parse_json(data, "document")


def test_config() -> None:
    inner: dict[str, Any] = {
        "Entrypoint": ["/e"],
        "Cmd": None,
        "Env": ["A=b=c", "EMPTY"],
        "User": "me",
        "WorkingDir": "/w",
        "StopSignal": "SIGINT",
        "Labels": {"a": "b"},
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/v": {}},
        "Unknown": [1],
    }
    parsed = parse_config(config(config=inner, created="2026-01-01T00:00:00Z"))
    assert parsed.config == documents.ImageConfig(
        entrypoint=("/e",),
        env=("A=b=c", "EMPTY="),
        user="me",
        working_dir="/w",
        stop_signal="SIGINT",
        labels={"a": "b"},
        exposed_ports=("80/tcp",),
        volumes=("/v",),
    )
    assert parsed.diff_ids == (SHA,)
    assert str(parsed.platform) == "linux/amd64"
    assert parsed.created == "2026-01-01T00:00:00Z"


def test_config_of_nothing() -> None:
    assert parse_config(config(config=None)).config == documents.ImageConfig()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (config(rootfs=None), "rootfs is not an object"),
        (config(rootfs={"diff_ids": ["x"]}), "not a sha256 digest"),
        (config(rootfs={"diff_ids": [SHA] * 128}), "more than 127"),
        (config(architecture=1), "architecture"),
        (config(config={"Cmd": "sh"}), "not a list"),
        (config(config={"Cmd": [1]}), "not a string"),
        (config(config={"Cmd": ["a\0b"]}), "NUL"),
        (config(config={"Cmd": ["\ud800"]}), "unicode"),
        (config(config={"Env": ["=x"]}), "without a name"),
        (config(config={"Env": [""]}), "without a name"),
        (config(config={"User": 0}), "not a string"),
        (config(config={"Labels": {"a": 1}}), "not a string"),
        (config(config={"Volumes": ["/v"]}), "not an object"),
    ],
)
def test_config_refused(value: Any, why: str) -> None:
    with pytest.raises(BadImage, match=why):
        parse_config(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.sampled_from([*manifest(), "manifests"]), JSON)
def test_any_manifest(key: str, value: Any) -> None:
    for media_type in (OCI_MANIFEST, OCI_INDEX):
        with contextlib.suppress(BadImage):
            parse(manifest(**{key: value}), media_type)


@settings(deadline=None)
@given(
    st.sampled_from(["Entrypoint", "Cmd", "Env", "User", "Labels", "ExposedPorts", "StopSignal"]),
    JSON,
)
def test_any_config(key: str, value: Any) -> None:
    try:
        parsed = parse_config(config(config={key: value}))
    except BadImage:
        return
    assert all("=" in item for item in parsed.config.env)
