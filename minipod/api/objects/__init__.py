# SPDX-License-Identifier: GPL-3.0-or-later
"""The Kubernetes objects of minipod, as typed structs: Pod (spec and status), Event, and those that pods use.

Attributes are the snake_case of the Kubernetes names. Lists and mappings default to empty, optional scalars to
``None``, names to ``""``. A field with a Kubernetes default that depends on nothing else has that default here,
so that no reader ever meets ``None`` in it; defaults that depend on other fields are in ``defaults.py``.

Only what minipod honours has an attribute: what a manifest may say, and what becomes of each field, is declared
in the ``FIELDS`` beside the type. Field meanings are those of the Kubernetes API reference, core/v1.
"""

from minipod.api.objects.base import camel, from_dict, to_dict
from minipod.api.objects.claims import (
    EphemeralVolumeSource,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
    PersistentVolumeClaimStatus,
    PersistentVolumeClaimTemplate,
    PersistentVolumeClaimVolumeSource,
    VolumeResourceRequirements,
)
from minipod.api.objects.config import ConfigMap, Secret
from minipod.api.objects.container import Container, EphemeralContainer
from minipod.api.objects.env import (
    ConfigMapEnvSource,
    ConfigMapKeySelector,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    FileKeySelector,
    ObjectFieldSelector,
    ResourceFieldSelector,
    SecretEnvSource,
    SecretKeySelector,
)
from minipod.api.objects.event import Event, EventSource, ObjectReference
from minipod.api.objects.files import (
    ConfigMapProjection,
    ConfigMapVolumeSource,
    DownwardAPIProjection,
    DownwardAPIVolumeFile,
    DownwardAPIVolumeSource,
    ImageVolumeSource,
    KeyToPath,
    ProjectedVolumeSource,
    SecretProjection,
    SecretVolumeSource,
    VolumeProjection,
)
from minipod.api.objects.lifecycle import (
    ContainerRestartRule,
    ContainerRestartRuleOnExitCodes,
    ExecAction,
    GRPCAction,
    HTTPGetAction,
    HTTPHeader,
    Lifecycle,
    LifecycleHandler,
    Probe,
    SleepAction,
    TCPSocketAction,
)
from minipod.api.objects.meta import (
    LabelSelector,
    LabelSelectorRequirement,
    LocalObjectReference,
    ObjectMeta,
    OwnerReference,
)
from minipod.api.objects.network import (
    ContainerPort,
    HostAlias,
    PodDNSConfig,
    PodDNSConfigOption,
)
from minipod.api.objects.persistentvolume import (
    LocalVolumeSource,
    PersistentVolume,
    PersistentVolumeSpec,
    PersistentVolumeStatus,
)
from minipod.api.objects.pod import Pod, PodOS, PodReadinessGate, PodSpec
from minipod.api.objects.resources import ContainerResizePolicy, ResourceRequirements
from minipod.api.objects.security import (
    AppArmorProfile,
    Capabilities,
    PodSecurityContext,
    SeccompProfile,
    SecurityContext,
    Sysctl,
)
from minipod.api.objects.status import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    ContainerUser,
    HostIP,
    LinuxContainerUser,
    PodCondition,
    PodIP,
    PodStatus,
    VolumeMountStatus,
)
from minipod.api.objects.storage import NFSVolumeSource
from minipod.api.objects.volumes import (
    EmptyDirVolumeSource,
    HostPathVolumeSource,
    Volume,
    VolumeDevice,
    VolumeMount,
)

StoredObject = ConfigMap | Secret | PersistentVolumeClaim | PersistentVolume
"""An object that is kept and not run: pods refer to it by name."""

AnyObject = Pod | StoredObject
"""What a manifest may hold."""

__all__ = [
    "AnyObject",
    "AppArmorProfile",
    "Capabilities",
    "ConfigMap",
    "ConfigMapEnvSource",
    "ConfigMapKeySelector",
    "ConfigMapProjection",
    "ConfigMapVolumeSource",
    "Container",
    "ContainerPort",
    "ContainerResizePolicy",
    "ContainerRestartRule",
    "ContainerRestartRuleOnExitCodes",
    "ContainerState",
    "ContainerStateRunning",
    "ContainerStateTerminated",
    "ContainerStateWaiting",
    "ContainerStatus",
    "ContainerUser",
    "DownwardAPIProjection",
    "DownwardAPIVolumeFile",
    "DownwardAPIVolumeSource",
    "EmptyDirVolumeSource",
    "EnvFromSource",
    "EnvVar",
    "EnvVarSource",
    "EphemeralContainer",
    "EphemeralVolumeSource",
    "Event",
    "EventSource",
    "ExecAction",
    "FileKeySelector",
    "GRPCAction",
    "HTTPGetAction",
    "HTTPHeader",
    "HostAlias",
    "HostIP",
    "HostPathVolumeSource",
    "ImageVolumeSource",
    "KeyToPath",
    "LabelSelector",
    "LabelSelectorRequirement",
    "Lifecycle",
    "LifecycleHandler",
    "LinuxContainerUser",
    "LocalObjectReference",
    "LocalVolumeSource",
    "NFSVolumeSource",
    "ObjectFieldSelector",
    "ObjectMeta",
    "ObjectReference",
    "OwnerReference",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "PersistentVolumeClaimSpec",
    "PersistentVolumeClaimStatus",
    "PersistentVolumeClaimTemplate",
    "PersistentVolumeClaimVolumeSource",
    "PersistentVolumeSpec",
    "PersistentVolumeStatus",
    "Pod",
    "PodCondition",
    "PodDNSConfig",
    "PodDNSConfigOption",
    "PodIP",
    "PodOS",
    "PodReadinessGate",
    "PodSecurityContext",
    "PodSpec",
    "PodStatus",
    "Probe",
    "ProjectedVolumeSource",
    "ResourceFieldSelector",
    "ResourceRequirements",
    "SeccompProfile",
    "Secret",
    "SecretEnvSource",
    "SecretKeySelector",
    "SecretProjection",
    "SecretVolumeSource",
    "SecurityContext",
    "SleepAction",
    "StoredObject",
    "Sysctl",
    "TCPSocketAction",
    "Volume",
    "VolumeDevice",
    "VolumeMount",
    "VolumeMountStatus",
    "VolumeProjection",
    "VolumeResourceRequirements",
    "camel",
    "from_dict",
    "to_dict",
]
