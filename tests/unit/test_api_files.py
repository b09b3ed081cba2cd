# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for volumes of files and of images: each mistake with its line, its path and its words."""

from __future__ import annotations

import pytest

from minipod.api import Pod, load_manifests
from tests.unit.test_api_manifest import problems, spec


def volume(source: str) -> str:
    return spec(f"volumes: [{{name: v, {source}}}]")


def loaded(source: str) -> Pod:
    (document,) = load_manifests(volume(source), "p.yaml")
    assert isinstance(document.object, Pod)
    assert document.warnings == []
    return document.object


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("configMap: {}", "configMap.name: missing, and required"),
        ("secret: {}", "secret.secretName: missing, and required"),
        ("secret: {secretNam: s}", "secret.secretNam: unknown field, did you mean"),
        ("configMap: {name: c}, secret: {secretName: s}", "keep one of configMap, secret"),
        (
            "configMap: {name: c}, emptyDir: {}",
            "has more than one source: keep one of emptyDir, configMap",
        ),
        ("configMap: {name: c, defaultMode: 512}", "defaultMode: must be 0000 to 0777 in octal"),
        ("configMap: {name: c, defaultMode: -1}", "defaultMode: must be 0000 to 0777 in octal"),
        ("configMap: {name: c, defaultUser: -1}", "defaultUser: must be 0 to 2147483647, not -1"),
        ("configMap: {name: c, defaultUser: 2147483648}", "defaultUser: must be 0 to 2147483647"),
        ("configMap: {name: c, items: [{key: a}]}", "items[0].path: missing, and required"),
        ("configMap: {name: c, items: [{path: a}]}", "items[0].key: missing, and required"),
        ("configMap: {name: c, items: [{key: a, path: /a}]}", '"/a" must be a relative path'),
        ("configMap: {name: c, items: [{key: a, path: a/../b}]}", '"a/../b" must not contain ..'),
        ("configMap: {name: c, items: [{key: a, path: ..a}]}", '"..a" must not begin with ..'),
        ("configMap: {name: c, items: [{key: a, path: ./..a}]}", '"./..a" must not begin with ..'),
        ("configMap: {name: c, items: [{key: a, path: .}]}", '"." names no file'),
        ("configMap: {name: c, items: [{key: a, path: %s}]}" % ("a" * 256), "path: is too long"),
        (
            "secret: {secretName: s, items: [{key: a, path: a, mode: 01000}]}",
            "items[0].mode: must be",
        ),
        (
            "secret: {secretName: s, items: [{key: a, path: a, user: -1}]}",
            "items[0].user: must be 0",
        ),
        (
            "secret: {secretName: s, items: [{key: a, path: d}, {key: b, path: d/e}]}",
            'items[1].path: "d/e" and the path on line 5 cannot both be there',
        ),
        (
            "secret: {secretName: s, items: [{key: a, path: d/e}, {key: b, path: d}]}",
            'items[1].path: "d" and the path on line 5 cannot both be there',
        ),
        (
            "downwardAPI: {items: [{path: a}]}",
            "items[0]: has neither fieldRef nor resourceFieldRef",
        ),
        (
            "downwardAPI: {items: [{path: a, fieldRef: {fieldPath: metadata.name}, "
            "resourceFieldRef: {containerName: a, resource: limits.cpu}}]}",
            "items[0]: has both fieldRef and resourceFieldRef",
        ),
        (
            "downwardAPI: {items: [{path: a, fieldRef: {}}]}",
            "fieldRef.fieldPath: missing, and required",
        ),
        (
            "downwardAPI: {items: [{path: a, fieldRef: {fieldPath: status.podIP}}]}",
            '"status.podIP" is not one of metadata.annotations, metadata.labels, metadata.name',
        ),
        (
            "downwardAPI: {items: [{path: a, fieldRef: {fieldPath: metadata.nam}}]}",
            'did you mean "metadata.name"?',
        ),
        (
            "downwardAPI: {items: [{path: a, fieldRef: {apiVersion: v2, fieldPath: metadata.name}}]}",
            'apiVersion: "v2" is not known, write v1',
        ),
        (
            "downwardAPI: {items: [{path: a, fieldRef: {fieldPath: \"metadata.labels['a b']\"}}]}",
            'fieldPath: the key "a b" is not a qualified name',
        ),
        (
            "downwardAPI: {items: [{path: a, fieldRef: {fieldPath: \"metadata.name['a']\"}}]}",
            '"metadata.name" takes no subscript',
        ),
        (
            "downwardAPI: {items: [{path: a, resourceFieldRef: {resource: limits.cpu}}]}",
            "containerName: missing, and required in a volume",
        ),
        (
            "downwardAPI: {items: [{path: a, resourceFieldRef: {containerName: b, resource: limits.cpu}}]}",
            'containerName: "b" names no container of the pod',
        ),
        (
            "downwardAPI: {items: [{path: a, resourceFieldRef: {containerName: a, resource: limits.gpu}}]}",
            '"limits.gpu" is not one of limits.cpu, limits.memory',
        ),
        (
            "downwardAPI: {items: [{path: a, resourceFieldRef: "
            "{containerName: a, resource: limits.cpu, divisor: 1k}}]}",
            'divisor: "1k" is not one of 1, 1m',
        ),
        (
            "downwardAPI: {items: [{path: a, resourceFieldRef: "
            "{containerName: a, resource: limits.memory, divisor: 1m}}]}",
            'divisor: "1m" is not one of 1, 1k',
        ),
        (
            "projected: {sources: [{}]}",
            "sources[0]: has no source: give configMap, secret or downwardAPI",
        ),
        (
            "projected: {sources: [{secret: {name: s}, configMap: {name: c}}]}",
            "sources[0]: has more than one source: keep one of configMap, secret",
        ),
        ("projected: {sources: [{secret: {}}]}", "sources[0].secret.name: missing, and required"),
        (
            "projected: {sources: [{secret: {name: s, items: [{key: a, path: x}]}}, "
            "{configMap: {name: c, items: [{key: a, path: ./x}]}}]}",
            'sources[1].configMap.items[0].path: file "./x" is given twice, first on line 5',
        ),
        (
            "projected: {sources: [{serviceAccountToken: {path: token}}]}",
            "serviceAccountToken: known to Kubernetes but not honoured by minipod 0.1: there is no API server",
        ),
        (
            "projected: {sources: [{clusterTrustBundle: {path: a, name: b}}]}",
            "put the certificates into a ConfigMap",
        ),
        (
            "projected: {sources: [{podCertificate: {signerName: a}}]}",
            "put key and certificate into a Secret",
        ),
        ("image: {}", "image.reference: missing, and required"),
        ("image: {reference: a b}", 'image.reference: "a b" must not contain white space'),
        ("image: {reference: a, pullPolicy: never}", 'pullPolicy: "never" is not one of'),
    ],
)
def test_refused(source: str, expected: str) -> None:
    (found,) = problems(volume(source))
    assert expected in found
    assert found.startswith("pod.yaml:5: spec.volumes[0]")


def test_defaults() -> None:
    pod = loaded("configMap: {name: c}")
    assert pod.spec.volumes[0].empty_dir is None
    assert pod.spec.volumes[0].config_map is not None
    assert pod.spec.volumes[0].config_map.default_mode == 0o644


@pytest.mark.parametrize(
    ("reference", "policy"), [("a", "Always"), ("a:latest", "Always"), ("a:1", "IfNotPresent")]
)
def test_when_an_image_is_pulled(reference: str, policy: str) -> None:
    (one,) = loaded(f"image: {{reference: '{reference}'}}").spec.volumes
    assert one.image is not None
    assert one.image.pull_policy == policy


@pytest.mark.parametrize(
    "source",
    [
        "configMap: {name: c, items: [{key: a, path: x}, {key: b, path: x}]}",
        "secret: {secretName: s, optional: true, defaultMode: 0400, defaultUser: 0}",
        "projected: {sources: []}",
        "projected: {}",
        "downwardAPI: {items: [{path: a, fieldRef: {fieldPath: \"metadata.annotations['A.b/C']\"}}]}",
        "downwardAPI: {items: [{path: a, resourceFieldRef: "
        "{containerName: a, resource: requests.hugepages-2Mi, divisor: 1Mi}}]}",
        "image: {reference: localhost/a, pullPolicy: Never}",
    ],
)
def test_accepted(source: str) -> None:
    loaded(source)
