# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pod refers to by name, and which of it is not there: said at once, although the pod may well wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from minipod.api import Document, Pod, Problem, members
from minipod.pods.ports import Objects


@dataclass(frozen=True, slots=True)
class Reference:
    """An object that a pod cannot do without, and the path of the field that names it."""

    kind: str
    name: str
    path: str


def required(pod: Pod) -> Iterator[Reference]:
    """Yield the ConfigMaps and Secrets that *pod* needs, those that are not optional, and the claims."""
    for found in members(pod):
        for i, many in enumerate(found.container.env_from):
            at = f"{found.path}.envFrom[{i}]"
            if (ref := many.config_map_ref) and not ref.optional:
                yield Reference("ConfigMap", ref.name, f"{at}.configMapRef.name")
            if (hidden := many.secret_ref) and not hidden.optional:
                yield Reference("Secret", hidden.name, f"{at}.secretRef.name")
        for i, variable in enumerate(found.container.env):
            at, source = f"{found.path}.env[{i}].valueFrom", variable.value_from
            if source and (key := source.config_map_key_ref) and not key.optional:
                yield Reference("ConfigMap", key.name, f"{at}.configMapKeyRef.name")
            if source and (secret := source.secret_key_ref) and not secret.optional:
                yield Reference("Secret", secret.name, f"{at}.secretKeyRef.name")
    for i, volume in enumerate(pod.spec.volumes):
        at = f"spec.volumes[{i}]"
        if volume.config_map and not volume.config_map.optional:
            yield Reference("ConfigMap", volume.config_map.name, f"{at}.configMap.name")
        if volume.secret and not volume.secret.optional:
            yield Reference("Secret", volume.secret.secret_name, f"{at}.secret.secretName")
        if claim := volume.persistent_volume_claim:
            where = f"{at}.persistentVolumeClaim.claimName"
            yield Reference("PersistentVolumeClaim", claim.claim_name, where)
        for j, part in enumerate(volume.projected.sources if volume.projected else ()):
            where = f"{at}.projected.sources[{j}]"
            if part.config_map and not part.config_map.optional:
                yield Reference("ConfigMap", part.config_map.name, f"{where}.configMap.name")
            if part.secret and not part.secret.optional:
                yield Reference("Secret", part.secret.name, f"{where}.secret.name")


def missing(document: Document, objects: Objects) -> Iterator[Problem]:
    """Yield a warning for each object that the pod of *document* needs and that is not there yet."""
    pod = document.pod
    for each in required(pod):
        if objects.get(each.kind, pod.metadata.namespace, each.name) is None:
            words = f'{each.kind.lower()} "{each.name}" not found: the pod waits until it is there'
            yield Problem(document.source, document.lines.get(each.path, 1), each.path, words)
