# SPDX-License-Identifier: GPL-3.0-or-later
"""A container."""

from __future__ import annotations

import msgspec

from minipod.api.field import Tables, no, yes
from minipod.api.objects.base import Object, spelled_out
from minipod.api.objects.env import EnvFromSource, EnvVar
from minipod.api.objects.lifecycle import ContainerRestartRule, Lifecycle, Probe
from minipod.api.objects.network import ContainerPort
from minipod.api.objects.resources import ContainerResizePolicy, ResourceRequirements
from minipod.api.objects.security import SecurityContext
from minipod.api.objects.volumes import VolumeDevice, VolumeMount


class Container(Object):
    """One container; *command* replaces the image's entrypoint, *args* its command.

    ``image_pull_policy`` is Always, IfNotPresent or Never, ``""`` before defaults are filled in. ``restart_policy`` is
    None where the pod's counts; Always makes an init container a sidecar.
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
    volume_devices: list[VolumeDevice] = msgspec.field(default_factory=list)
    image_pull_policy: str = ""
    security_context: SecurityContext = msgspec.field(default_factory=SecurityContext)
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    restart_policy: str | None = None
    restart_policy_rules: list[ContainerRestartRule] = msgspec.field(default_factory=list)
    termination_message_path: str = spelled_out("/dev/termination-log")
    termination_message_policy: str = spelled_out("File")
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False


class EphemeralContainer(Container):
    """A container that was added to a running pod to look into it; it has no ports, probes, hooks and resources."""

    target_container_name: str = ""


_NOT_EPHEMERAL = (
    "lifecycle",
    "livenessProbe",
    "ports",
    "readinessProbe",
    "resizePolicy",
    "resources",
    "restartPolicy",
    "restartPolicyRules",
    "startupProbe",
)
FIELDS: Tables = {
    "Container": {
        "args": yes(
            "[str]",
            doc="The arguments, in the place of the image's CMD. $(NAME) is replaced by the value of a variable, "
            "$$ is $.",
        ),
        "command": yes(
            "[str]",
            doc="The program with its first arguments, in the place of the image's ENTRYPOINT; the image's CMD "
            "is not used then. No shell is involved.",
        ),
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
        "image": yes(
            doc="The image: registry/name:tag or @digest; short names are read as Docker does."
        ),
        "imagePullPolicy": yes(
            doc="When the image is fetched: Always, IfNotPresent or Never. Default: Always for the tag latest or no "
            "tag, else IfNotPresent. What is in the image store is used, there is nowhere else to fetch from."
        ),
        "lifecycle": yes(
            "Lifecycle", doc="Hooks around the container's life, and the signal that stops it."
        ),
        "livenessProbe": yes(
            "Probe",
            doc="Whether the container still works; its failure kills the container. Default: it does.",
        ),
        "name": yes(doc="The container's name: a DNS label, unique in the pod."),
        "ports": yes(
            "[ContainerPort]",
            doc="The ports that it listens on. Only hostPort does something; the rest is for people, and for "
            "names in probes.",
        ),
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
        "restartPolicy": yes(
            doc="Whether the container is started again when it has ended: Always, OnFailure or Never. Default: "
            "spec.restartPolicy. Always makes an init container a sidecar: it runs beside those that come after it, "
            "and ends after them."
        ),
        "restartPolicyRules": yes(
            "[ContainerRestartRule]",
            doc="Rules that come before restartPolicy, which they require; the first whose exit codes match decides. "
            "At most 20.",
        ),
        "securityContext": yes(
            "SecurityContext", doc="With which user and privileges the container runs."
        ),
        "startupProbe": yes(
            "Probe",
            doc="Whether the container has started; the other probes wait for its success, and its failure kills "
            "the container. Default: it has.",
        ),
        "stdin": yes(
            "bool",
            doc="Keeps the standard input open, for attach. Default: it reads an end of file at once.",
        ),
        "stdinOnce": yes("bool", doc="Closes the standard input when the first attach ends."),
        "terminationMessagePath": yes(
            doc="A file in the container; what the container has written into it at its end becomes its message in "
            "the status. At most the last 4096 bytes, and 12 KiB over all containers. Default /dev/termination-log."
        ),
        "terminationMessagePolicy": yes(
            doc="File, or FallbackToLogsOnError: if the file is empty and the container failed, the end of its log "
            "is its message, at most 2048 bytes or 80 lines. Default File."
        ),
        "tty": yes("bool", doc="Gives it a terminal as standard input and output."),
        "volumeDevices": yes("[VolumeDevice]", "The block devices that the container may use."),
        "volumeMounts": yes("[VolumeMount]", doc="Where it sees the pod's volumes."),
        "workingDir": yes(
            doc="In which directory the program starts. Default: the image's, else /."
        ),
    },
}
FIELDS["EphemeralContainer"] = {
    name: no(field.type, "an ephemeral container has none, in Kubernetes either", doc=field.doc)
    if name in _NOT_EPHEMERAL
    else field
    for name, field in FIELDS["Container"].items()
} | {
    "targetContainerName": yes(
        doc="The container whose processes it sees, because it shares its PID namespace. Default: none but its own."
    ),
}
