# SPDX-License-Identifier: GPL-3.0-or-later
"""The volumes in ``minipod describe pod``, in kubectl's words."""

from __future__ import annotations

from typing import Any

from minipod.cli.describevolumes import volumes


def described(**source: Any) -> list[str]:
    """Return the lines about one volume, columns collapsed."""
    head, name, *lines = volumes([{"name": "v", **source}])
    assert (head, name) == ("Volumes:", "  v:")
    assert all(line.startswith("    ") for line in lines)
    return [" ".join(line.split()) for line in lines]


def test_none() -> None:
    assert volumes([]) == ["Volumes:         <none>"]


def test_files() -> None:
    assert described(configMap={"name": "c", "defaultMode": 420}) == [
        "Type: ConfigMap (a volume populated by a ConfigMap)",
        "Name: c",
        "Optional: false",
    ]
    assert described(secret={"secretName": "s", "optional": True}) == [
        "Type: Secret (a volume populated by a Secret)",
        "SecretName: s",
        "Optional: true",
    ]
    items = [
        {"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "c", "resourceFieldRef": {"containerName": "a", "resource": "limits.cpu"}},
    ]
    assert described(downwardAPI={"items": items}) == [
        "Type: DownwardAPI (a volume populated by information about the pod)",
        "Items:",
        "metadata.labels -> l",
        "limits.cpu -> c",
    ]
    sources = [
        {"secret": {"name": "s"}},
        {"downwardAPI": {}},
        {"configMap": {"name": "c", "optional": True}},
    ]
    assert described(projected={"sources": sources}) == [
        "Type: Projected (a volume that contains injected data from multiple sources)",
        "SecretName: s",
        "Optional: false",
        "DownwardAPI: true",
        "ConfigMapName: c",
        "Optional: true",
    ]


def test_others() -> None:
    assert described(emptyDir={}) == [
        "Type: EmptyDir (a temporary directory that shares a pod's lifetime)",
        "Medium: <none>",
        "SizeLimit: <unset>",
    ]
    assert described(image={"reference": "localhost/a:1"})[1:] == [
        "Reference: localhost/a:1",
        "PullPolicy: <none>",
    ]
    assert described(persistentVolumeClaim={"claimName": "data", "readOnly": True})[1:] == [
        "ClaimName: data",
        "ReadOnly: true",
    ]
