# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes objects: types, defaults, validation, and YAML with line numbers.

:func:`load_manifests` is the way in: text to checked pods, or every problem of the text with its line.
This package does no I/O and imports nothing of minipod but its version and ``minipod.errors``.
"""

from minipod.api.manifest import Document, load_manifests
from minipod.api.objects import (
    Container,
    ContainerPort,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    EmptyDirVolumeSource,
    EnvVar,
    Event,
    EventSource,
    HostIP,
    HostPathVolumeSource,
    ObjectMeta,
    ObjectReference,
    Pod,
    PodCondition,
    PodIP,
    PodSpec,
    PodStatus,
    ResourceRequirements,
    Volume,
    VolumeMount,
    from_dict,
    to_dict,
)
from minipod.api.problems import ManifestError, Problem
from minipod.api.qos import qos_class
from minipod.api.quantity import parse_bytes, parse_cpu_millis, parse_quantity

__all__ = [
    "Container",
    "ContainerPort",
    "ContainerState",
    "ContainerStateRunning",
    "ContainerStateTerminated",
    "ContainerStateWaiting",
    "ContainerStatus",
    "Document",
    "EmptyDirVolumeSource",
    "EnvVar",
    "Event",
    "EventSource",
    "HostIP",
    "HostPathVolumeSource",
    "ManifestError",
    "ObjectMeta",
    "ObjectReference",
    "Pod",
    "PodCondition",
    "PodIP",
    "PodSpec",
    "PodStatus",
    "Problem",
    "ResourceRequirements",
    "Volume",
    "VolumeMount",
    "from_dict",
    "load_manifests",
    "parse_bytes",
    "parse_cpu_millis",
    "parse_quantity",
    "qos_class",
    "to_dict",
]
