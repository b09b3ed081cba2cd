# SPDX-License-Identifier: GPL-3.0-or-later
"""What minipod does with every field of a Kubernetes Pod.

This is the one place where a field's status is declared:

- **honoured**: it works, as in Kubernetes;
- **inert**: it means nothing on one machine; it is checked, and ignored with a visible warning;
- **refused**: Kubernetes knows it and minipod does not do it; the manifest is refused, by name and line.

Some values of refused fields say what happens anyway (``privileged: false``); those are accepted. The types that
occur only below inert or refused fields are in ``known.py``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cache

from minipod.api import known


class Status(enum.Enum):
    """What becomes of a field."""

    HONOURED = "honoured"
    INERT = "inert"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of one type.

    Attributes:
        type: ``str``, ``int`` (64 bits), ``bool``, ``time``, ``quantity``, ``object`` (anything), the name of a
            type of these tables, ``[T]`` for a list, ``{T}`` for a mapping from names.
        status: what becomes of it.
        note: of a refused field, what to do instead; of an inert one, why it means nothing; or ``""``.
        harmless: values of a refused or inert field that change nothing, and are accepted in silence.
        inside: of a refused field: look into it, and refuse only what in it is not harmless.
        kept: of an inert field: its value stays in the object, for whoever reads it back.
    """

    type: str
    status: Status
    note: str = ""
    harmless: tuple[str | bool, ...] = ()
    inside: bool = False
    kept: bool = False


def _yes(type_: str = "str") -> Field:
    return Field(type_, Status.HONOURED)


def _no(type_: str = "str", note: str = "", *harmless: str | bool, inside: bool = False) -> Field:
    return Field(type_, Status.REFUSED, note, harmless, inside)


def _inert(type_: str, note: str, *harmless: str | bool, kept: bool = False) -> Field:
    return Field(type_, Status.INERT, note, harmless, kept=kept)


_NO_SCHEDULER = "there is one machine and no scheduler"
_NO_CLUSTER = "there is no cluster to keep such books"
_OURS = "minipod sets it itself"
_NO_TOKEN = "there is no API token to mount"
_ON_HOST = "mount it on the host and use a hostPath volume"
_FILES = "put the files below a directory of the host and use a hostPath volume"
_GONE = "Kubernetes removed it too"
_NO_REGISTRY = "there are no registries yet, load the image with `minipod image load`"
_NO_PROBES = "remove it, nothing would probe the container"

_TABLES: dict[str, dict[str, Field]] = {
    "Pod": {
        "apiVersion": _yes(),
        "kind": _yes(),
        "metadata": _yes("ObjectMeta"),
        "spec": _yes("PodSpec"),
        "status": _inert("object", _OURS),
    },
    "ObjectMeta": {
        "annotations": _yes("{str}"),
        "creationTimestamp": _inert("time", _OURS),
        "deletionGracePeriodSeconds": _inert("int", _OURS),
        "deletionTimestamp": _inert("time", _OURS),
        "finalizers": _inert("[str]", _NO_CLUSTER),
        "generateName": _yes(),
        "generation": _inert("int", _OURS),
        "labels": _yes("{str}"),
        "managedFields": _inert("[ManagedFieldsEntry]", _NO_CLUSTER),
        "name": _yes(),
        "namespace": _yes(),
        "ownerReferences": _inert("[OwnerReference]", _NO_CLUSTER),
        "resourceVersion": _inert("str", _OURS),
        "selfLink": _inert("str", _OURS),
        "uid": _inert("str", _OURS),
    },
    "PodSpec": {
        "activeDeadlineSeconds": _no("int", "use timeout(1) in the container's command"),
        "affinity": _inert("Affinity", _NO_SCHEDULER),
        "automountServiceAccountToken": _inert("bool", _NO_TOKEN, False, kept=True),
        "containers": _yes("[Container]"),
        "dnsConfig": _no("PodDNSConfig"),
        "dnsPolicy": _yes(),
        "enableServiceLinks": _inert("bool", "there are no services to link to", False, kept=True),
        "ephemeralContainers": _no("[EphemeralContainer]", "use `minipod exec`"),
        "evictionResponders": _inert("[EvictionResponder]", _NO_CLUSTER),
        "hostAliases": _no("[HostAlias]"),
        "hostIPC": _yes("bool"),
        "hostNetwork": _yes("bool"),
        "hostPID": _yes("bool"),
        "hostUsers": _no("bool", "remove it", True),
        "hostname": _yes(),
        "hostnameOverride": _no("str", "use hostname"),
        "imagePullSecrets": _no("[LocalObjectReference]", _NO_REGISTRY),
        "initContainers": _no("[Container]", "do the preparation in the command of the container"),
        "nodeName": _inert("str", _NO_SCHEDULER),
        "nodeSelector": _inert("{str}", _NO_SCHEDULER),
        "os": _no("PodOS", inside=True),
        "overhead": _inert("{quantity}", _NO_SCHEDULER),
        "preemptionPolicy": _inert("str", _NO_SCHEDULER),
        "priority": _inert("int", _NO_SCHEDULER),
        "priorityClassName": _inert("str", _NO_SCHEDULER),
        "readinessGates": _no("[PodReadinessGate]", "remove them, nothing would ever open them"),
        "resourceClaims": _no("[PodResourceClaim]"),
        "resources": _no("ResourceRequirements", "set the resources of each container"),
        "restartPolicy": _yes(),
        "runtimeClassName": _no("str", "remove it, there is one runtime"),
        "schedulerName": _inert("str", _NO_SCHEDULER),
        "schedulingGates": _inert("[PodSchedulingGate]", _NO_SCHEDULER),
        "schedulingGroup": _inert("PodSchedulingGroup", _NO_SCHEDULER),
        "securityContext": _no("PodSecurityContext", inside=True),
        "serviceAccount": _inert("str", _NO_TOKEN),
        "serviceAccountName": _inert("str", _NO_TOKEN, kept=True),
        "setHostnameAsFQDN": _no("bool", "remove it", False),
        "shareProcessNamespace": _yes("bool"),
        "subdomain": _no(),
        "terminationGracePeriodSeconds": _yes("int"),
        "tolerations": _inert("[Toleration]", _NO_SCHEDULER),
        "topologySpreadConstraints": _inert("[TopologySpreadConstraint]", _NO_SCHEDULER),
        "volumes": _yes("[Volume]"),
    },
    "PodOS": {"name": _no("str", "only linux runs here", "linux")},
    "PodSecurityContext": {
        "appArmorProfile": _no("AppArmorProfile"),
        "fsGroup": _no("int"),
        "fsGroupChangePolicy": _no("str", "", "Always"),
        "runAsGroup": _no("int", "set the user in the image"),
        "runAsNonRoot": _no("bool", "set the user in the image", False),
        "runAsUser": _no("int", "set the user in the image"),
        "seLinuxChangePolicy": _no(),
        "seLinuxOptions": _no("SELinuxOptions"),
        "seccompProfile": _no("SeccompProfile"),
        "supplementalGroups": _no("[int]"),
        "supplementalGroupsPolicy": _no("str", "", "Merge"),
        "sysctls": _no("[Sysctl]"),
        "windowsOptions": _no("WindowsSecurityContextOptions", "remove it, only linux runs here"),
    },
    "Container": {
        "args": _yes("[str]"),
        "command": _yes("[str]"),
        "env": _yes("[EnvVar]"),
        "envFrom": _no("[EnvFromSource]", "write the variables into env"),
        "image": _yes(),
        "imagePullPolicy": _yes(),
        "lifecycle": _no("Lifecycle", "do it in the container's command"),
        "livenessProbe": _no("Probe", _NO_PROBES),
        "name": _yes(),
        "ports": _yes("[ContainerPort]"),
        "readinessProbe": _no("Probe", _NO_PROBES),
        "resizePolicy": _no(
            "[ContainerResizePolicy]", "remove it, a running container is not resized"
        ),
        "resources": _yes("ResourceRequirements"),
        "restartPolicy": _no("str", "set spec.restartPolicy"),
        "restartPolicyRules": _no("[ContainerRestartRule]", "set spec.restartPolicy"),
        "securityContext": _no("SecurityContext", inside=True),
        "startupProbe": _no("Probe", _NO_PROBES),
        "stdin": _yes("bool"),
        "stdinOnce": _yes("bool"),
        "terminationMessagePath": _no(
            "str", "write the message to the log", "/dev/termination-log"
        ),
        "terminationMessagePolicy": _no("str", "write the message to the log", "File"),
        "tty": _yes("bool"),
        "volumeDevices": _no("[VolumeDevice]"),
        "volumeMounts": _yes("[VolumeMount]"),
        "workingDir": _yes(),
    },
    "SecurityContext": {
        "allowPrivilegeEscalation": _no("bool", "remove it", True),
        "appArmorProfile": _no("AppArmorProfile"),
        "capabilities": _no("Capabilities", inside=True),
        "privileged": _no("bool", "no container is privileged here", False),
        "procMount": _no("str", "remove it", "Default"),
        "readOnlyRootFilesystem": _no("bool", "remove it", False),
        "runAsGroup": _no("int", "set the user in the image"),
        "runAsNonRoot": _no("bool", "set the user in the image", False),
        "runAsUser": _no("int", "set the user in the image"),
        "seLinuxOptions": _no("SELinuxOptions"),
        "seccompProfile": _no("SeccompProfile"),
        "windowsOptions": _no("WindowsSecurityContextOptions", "remove it, only linux runs here"),
    },
    "EnvVar": {
        "name": _yes(),
        "value": _yes(),
        "valueFrom": _no("EnvVarSource", "write the value itself"),
    },
    "ContainerPort": {
        "containerPort": _yes("int"),
        "hostIP": _no("str", "remove it, no port of the host is forwarded"),
        "hostPort": _yes("int"),
        "name": _yes(),
        "protocol": _yes(),
    },
    "ResourceRequirements": {
        "claims": _no("[CoreV1ResourceClaim]"),
        "limits": _yes("{quantity}"),
        "requests": _yes("{quantity}"),
    },
    "VolumeMount": {
        "bindMountOptions": _no("[str]"),
        "mountPath": _yes(),
        "mountPropagation": _no("str", "remove it, mounts do not propagate", "None"),
        "name": _yes(),
        "readOnly": _yes("bool"),
        "recursiveReadOnly": _no("str", "use readOnly", "Disabled"),
        "subPath": _no("str", "mount the whole volume"),
        "subPathExpr": _no("str", "mount the whole volume"),
    },
    "Volume": {
        "awsElasticBlockStore": _no("AWSElasticBlockStoreVolumeSource", _ON_HOST),
        "azureDisk": _no("AzureDiskVolumeSource", _ON_HOST),
        "azureFile": _no("AzureFileVolumeSource", _ON_HOST),
        "cephfs": _no("CephFSVolumeSource", _ON_HOST),
        "cinder": _no("CinderVolumeSource", _ON_HOST),
        "configMap": _no("ConfigMapVolumeSource", _FILES),
        "csi": _no("CSIVolumeSource", _ON_HOST),
        "downwardAPI": _no("DownwardAPIVolumeSource", "write the values into env"),
        "emptyDir": _yes("EmptyDirVolumeSource"),
        "ephemeral": _no("EphemeralVolumeSource", "use emptyDir"),
        "fc": _no("FCVolumeSource", _ON_HOST),
        "flexVolume": _no("FlexVolumeSource", _ON_HOST),
        "flocker": _no("FlockerVolumeSource", _GONE),
        "gcePersistentDisk": _no("GCEPersistentDiskVolumeSource", _ON_HOST),
        "gitRepo": _no("GitRepoVolumeSource", "clone it on the host and use a hostPath volume"),
        "glusterfs": _no("GlusterfsVolumeSource", _ON_HOST),
        "hostPath": _yes("HostPathVolumeSource"),
        "image": _no("ImageVolumeSource"),
        "iscsi": _no("ISCSIVolumeSource", _ON_HOST),
        "name": _yes(),
        "nfs": _no("NFSVolumeSource", _ON_HOST),
        "persistentVolumeClaim": _no("PersistentVolumeClaimVolumeSource", "use a hostPath volume"),
        "photonPersistentDisk": _no("PhotonPersistentDiskVolumeSource", _GONE),
        "portworxVolume": _no("PortworxVolumeSource", _ON_HOST),
        "projected": _no("ProjectedVolumeSource", _FILES),
        "quobyte": _no("QuobyteVolumeSource", _GONE),
        "rbd": _no("RBDVolumeSource", _ON_HOST),
        "scaleIO": _no("ScaleIOVolumeSource", _GONE),
        "secret": _no("SecretVolumeSource", _FILES),
        "storageos": _no("StorageOSVolumeSource", _GONE),
        "vsphereVolume": _no("VsphereVirtualDiskVolumeSource", _ON_HOST),
    },
    "EmptyDirVolumeSource": {
        "medium": _yes(),
        "mode": _no("int", "the directory has mode 0777"),
        "sizeLimit": _yes("quantity"),
    },
    "HostPathVolumeSource": {"path": _yes(), "type": _yes()},
}


@cache
def table(type_name: str) -> dict[str, Field]:
    """Return the fields of a type by name.

    Raises:
        KeyError: there is no such type.
    """
    if type_name in _TABLES:
        return _TABLES[type_name]
    if type_name in known.INERT:
        text, status = known.INERT[type_name], Status.INERT
    else:
        text, status = known.REFUSED[type_name], Status.REFUSED
    pairs = (entry.partition(":") for entry in text.split())
    return {name: Field(type_ or "str", status) for name, _, type_ in pairs}


def type_names() -> list[str]:
    """Return the names of all types, those of ``known.py`` included."""
    return [*_TABLES, *known.INERT, *known.REFUSED]
