# SPDX-License-Identifier: GPL-3.0-or-later
"""All containers of a pod, whatever list of the spec they stand in: what they are, and where they are written.

Container names are unique over the lists (Kubernetes, "Init containers"), so a name finds one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from minipod.api.objects import Container, Pod, PodSpec
from minipod.errors import NotFound

Kind = Literal["init", "app", "ephemeral"]
_DEFAULT = "kubectl.kubernetes.io/default-container"
_SHOWN = {"app": "", "ephemeral": " (ephem)", "init": " (init)"}
"""The kinds in the order in which kubectl names them, each with its mark."""


@dataclass(frozen=True, slots=True)
class Member:
    """A container and its place in the pod.

    Attributes:
        container: what the manifest says of it.
        kind: which of the three lists it stands in.
        path: where, ``spec.containers[0]``.
    """

    container: Container
    kind: Kind
    path: str

    @property
    def name(self) -> str:
        """Return the container's name."""
        return self.container.name

    @property
    def is_sidecar(self) -> bool:
        """Whether it is an init container that goes on beside the others (Kubernetes, "Sidecar containers")."""
        return self.kind == "init" and self.container.restart_policy == "Always"

    @property
    def event_path(self) -> str:
        """Return how an event names it: ``spec.containers{web}``."""
        return f"{self.path.partition('[')[0]}{{{self.name}}}"


def members(pod: Pod) -> Iterator[Member]:
    """Yield all containers of *pod*: init containers, then the app's, then ephemeral ones, each in their order."""
    return members_of(pod.spec)


def members_of(spec: PodSpec) -> Iterator[Member]:
    """Yield all containers of a pod's spec, as :func:`members` does."""
    for i, container in enumerate(spec.init_containers):
        yield Member(container, "init", f"spec.initContainers[{i}]")
    for i, container in enumerate(spec.containers):
        yield Member(container, "app", f"spec.containers[{i}]")
    for i, container in enumerate(spec.ephemeral_containers):
        yield Member(container, "ephemeral", f"spec.ephemeralContainers[{i}]")


def member(pod: Pod, name: str) -> Member:
    """Return the container called *name*.

    Raises:
        NotFound: the pod has none.
    """
    for found in members(pod):
        if found.name == name:
            return found
    whose = f"{pod.metadata.namespace}/{pod.metadata.name}"
    names = ", ".join(found.name for found in members(pod))
    raise NotFound(f"pod {whose} has no container {name}", f"it has: {names}")


def defaulted(pod: Pod) -> str:
    """Return kubectl's words about the container that is meant when none is named; nothing where it needs none."""
    kinds = list(_SHOWN)
    found = sorted(members(pod), key=lambda each: kinds.index(each.kind))
    names = [each.name + _SHOWN[each.kind] for each in found]
    if len(names) == 1 or _DEFAULT in pod.metadata.annotations:
        return ""
    return f'Defaulted container "{default_container(pod)}" out of: {", ".join(names)}'


def default_container(pod: Pod) -> str:
    """Return the container that a command means which names none: what the annotation says, else the app's first.

    The annotation ``kubectl.kubernetes.io/default-container`` is kubectl's.
    """
    names = [found.name for found in members(pod)]
    wanted = pod.metadata.annotations.get(_DEFAULT)
    return wanted if wanted in names else pod.spec.containers[0].name
