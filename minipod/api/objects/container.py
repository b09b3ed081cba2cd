# SPDX-License-Identifier: GPL-3.0-or-later
"""A container."""

from __future__ import annotations

import msgspec

from minipod.api.field import Tables, all_refused, no, yes
from minipod.api.objects.base import Object
from minipod.api.objects.env import EnvFromSource, EnvVar
from minipod.api.objects.lifecycle import Lifecycle, Probe
from minipod.api.objects.network import ContainerPort
from minipod.api.objects.resources import ContainerResizePolicy, ResourceRequirements
from minipod.api.objects.security import SecurityContext
from minipod.api.objects.volumes import VolumeMount


class Container(Object):
    """One container; *command* replaces the image's entrypoint, *args* its command.

    ``image_pull_policy`` is ``""``, IfNotPresent or Never.
    """

    name: str = ""
    image: str = ""
    command: list[str] = msgspec.field(default_factory=list)
    args: list[str] = msgspec.field(default_factory=list)
    working_dir: str | None = None
    env: list[EnvVar] = msgspec.field(default_factory=list)
    env_from: list[EnvFromSource] = msgspec.field(default_factory=list)
    ports: list[ContainerPort] = msgspec.field(default_factory=list)
    resources: ResourceRequirements = msgspec.field(default_factory=ResourceRequirements)
    resize_policy: list[ContainerResizePolicy] = msgspec.field(default_factory=list)
    volume_mounts: list[VolumeMount] = msgspec.field(default_factory=list)
    image_pull_policy: str = ""
    security_context: SecurityContext = msgspec.field(default_factory=SecurityContext)
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False


FIELDS: Tables = {
    "Container": {
        "args": yes("[str]"),
        "command": yes("[str]"),
        "env": yes(
            "[EnvVar]",
            doc="Variables, in order; they override those of envFrom and of the image. Of two with one name the last "
            "counts.",
        ),
        "envFrom": yes(
            "[EnvFromSource]",
            doc="Sources of many variables: every key of a ConfigMap or Secret becomes one. Of two sources with one "
            "key the last counts.",
        ),
        "image": yes(),
        "imagePullPolicy": yes(),
        "lifecycle": yes(
            "Lifecycle", doc="Hooks around the container's life, and the signal that stops it."
        ),
        "livenessProbe": yes(
            "Probe",
            doc="Whether the container still works; its failure kills the container. Default: it does.",
        ),
        "name": yes(),
        "ports": yes("[ContainerPort]"),
        "readinessProbe": yes(
            "Probe",
            doc="Whether the container can serve; it is not Ready before the first success. Default: it can.",
        ),
        "resizePolicy": yes(
            "[ContainerResizePolicy]",
            doc="Per resource, whether `minipod resize` restarts the container; it does not by default.",
        ),
        "resources": yes(
            "ResourceRequirements", doc="How much of the machine the container asks for and gets."
        ),
        "restartPolicy": no("str", "set spec.restartPolicy"),
        "restartPolicyRules": no("[ContainerRestartRule]", "set spec.restartPolicy"),
        "securityContext": yes(
            "SecurityContext", doc="With which user and privileges the container runs."
        ),
        "startupProbe": yes(
            "Probe",
            doc="Whether the container has started; the other probes wait for its success, and its failure kills "
            "the container. Default: it has.",
        ),
        "stdin": yes("bool"),
        "stdinOnce": yes("bool"),
        "terminationMessagePath": no("str", "write the message to the log", "/dev/termination-log"),
        "terminationMessagePolicy": no("str", "write the message to the log", "File"),
        "tty": yes("bool"),
        "volumeDevices": no("[VolumeDevice]"),
        "volumeMounts": yes("[VolumeMount]"),
        "workingDir": yes(),
    },
    "EphemeralContainer": all_refused(
        "args:[str] command:[str] env:[EnvVar] envFrom:[EnvFromSource] image imagePullPolicy "
        "lifecycle:Lifecycle livenessProbe:Probe name ports:[ContainerPort] readinessProbe:Probe "
        "resizePolicy:[ContainerResizePolicy] resources:ResourceRequirements restartPolicy "
        "restartPolicyRules:[ContainerRestartRule] securityContext:SecurityContext "
        "startupProbe:Probe stdin:bool stdinOnce:bool targetContainerName terminationMessagePath "
        "terminationMessagePolicy tty:bool volumeDevices:[VolumeDevice] "
        "volumeMounts:[VolumeMount] workingDir"
    ),
}
