# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod."""

from __future__ import annotations

import msgspec

from minipod.api.field import (
    NO_CLUSTER,
    NO_SCHEDULER,
    NO_TOKEN,
    OURS,
    Tables,
    inert,
    no,
    yes,
)
from minipod.api.objects.base import Object, spelled_out
from minipod.api.objects.container import Container, EphemeralContainer
from minipod.api.objects.meta import LocalObjectReference, ObjectMeta
from minipod.api.objects.network import HostAlias, PodDNSConfig
from minipod.api.objects.resources import ResourceRequirements
from minipod.api.objects.security import PodSecurityContext
from minipod.api.objects.status import PodStatus
from minipod.api.objects.volumes import Volume


class PodOS(Object):
    """The operating system of the pod's containers; only linux runs here."""

    name: str = ""


class PodReadinessGate(Object):
    """A condition that somebody else sets, without which the pod is not ready."""

    condition_type: str = ""


class PodSpec(Object):
    """What the pod should be; *node_name* is this machine's name, whatever the manifest says."""

    init_containers: list[Container] = msgspec.field(default_factory=list)
    ephemeral_containers: list[EphemeralContainer] = msgspec.field(default_factory=list)
    containers: list[Container] = msgspec.field(default_factory=list)
    volumes: list[Volume] = msgspec.field(default_factory=list)
    resources: ResourceRequirements = msgspec.field(default_factory=ResourceRequirements)
    restart_policy: str = spelled_out("Always")
    termination_grace_period_seconds: int = spelled_out(30)
    active_deadline_seconds: int | None = None
    readiness_gates: list[PodReadinessGate] = msgspec.field(default_factory=list)
    dns_policy: str = spelled_out("ClusterFirst")
    dns_config: PodDNSConfig | None = None
    hostname: str | None = None
    subdomain: str | None = None
    hostname_override: str | None = None
    set_hostname_as_fqdn: bool = False
    host_aliases: list[HostAlias] = msgspec.field(default_factory=list)
    host_network: bool = False
    host_users: bool = True
    security_context: PodSecurityContext = msgspec.field(default_factory=PodSecurityContext)
    host_pid: bool = False
    host_ipc: bool = False
    share_process_namespace: bool = False
    node_name: str = ""
    service_account_name: str = ""
    service_account: str = ""
    automount_service_account_token: bool = True
    enable_service_links: bool = True
    image_pull_secrets: list[LocalObjectReference] = msgspec.field(default_factory=list)
    os: PodOS | None = None


class Pod(Object):
    """A Kubernetes Pod."""

    api_version: str = spelled_out("v1")
    kind: str = spelled_out("Pod")
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


FIELDS: Tables = {
    "Pod": {
        "apiVersion": yes(doc="The version of the API that the object is written in: v1."),
        "kind": yes(doc="Pod."),
        "metadata": yes("ObjectMeta", doc="Name, namespace, labels and annotations."),
        "spec": yes("PodSpec", doc="What the pod should be."),
        "status": inert("object", OURS, doc="What the pod is."),
    },
    "PodSpec": {
        "activeDeadlineSeconds": yes(
            "int",
            doc="After so many seconds from its startTime the pod is stopped and has Failed, with the reason "
            "DeadlineExceeded. Init containers count. Default: none; minimum 1.",
        ),
        "affinity": inert("Affinity", NO_SCHEDULER, doc="Where the pod should run."),
        "automountServiceAccountToken": inert(
            "bool", NO_TOKEN, False, kept=True, doc="Whether a token for the API server is mounted."
        ),
        "containers": yes("[Container]", doc="The containers, started together. At least one."),
        "dnsConfig": yes(
            "PodDNSConfig",
            doc="Name servers, search domains and options that are added to what dnsPolicy gives.",
        ),
        "dnsPolicy": yes(
            doc="Where the pod's /etc/resolv.conf comes from: ClusterFirst, Default and ClusterFirstWithHostNet are "
            "the host's (there is no cluster DNS), None is dnsConfig alone. Name servers on the host's loopback, "
            "which no pod reaches, are replaced by those of systemd-resolved or left out. Default: ClusterFirst.",
        ),
        "enableServiceLinks": inert(
            "bool",
            "there are no services to link to",
            False,
            kept=True,
            doc="Whether services are put into the environment.",
        ),
        "evictionResponders": inert(
            "[EvictionResponder]", NO_CLUSTER, doc="Who is asked before an eviction."
        ),
        "ephemeralContainers": yes(
            "[EphemeralContainer]",
            doc="Containers that were added to the running pod, to look into it: `minipod debug` adds them, a manifest "
            "that creates a pod has none. They are never restarted, and never removed before the pod is.",
        ),
        "hostAliases": yes("[HostAlias]", doc="Further lines of the pod's /etc/hosts."),
        "hostIPC": yes(
            "bool",
            doc="Uses the IPC namespace of this machine: its shared memory and message queues.",
        ),
        "hostNetwork": yes(
            "bool",
            doc="Uses the network of this machine, its addresses and ports, and gets none of its own.",
        ),
        "hostPID": yes("bool", doc="Sees all processes of this machine."),
        "hostUsers": yes(
            "bool",
            doc="If false, the pod has a user namespace: its root is nobody on the host, and so are all its users. "
            "Excludes hostNetwork, hostPID and hostIPC. Default: true.",
        ),
        "hostname": yes(
            doc="The pod's host name, a DNS label. Default: the name of the pod, cut to 63 characters."
        ),
        "hostnameOverride": yes(
            doc="The pod's host name, of up to 64 characters and with dots if need be, in the place of what hostname "
            "and subdomain give. Not together with setHostnameAsFQDN or hostNetwork.",
        ),
        "imagePullSecrets": yes(
            "[LocalObjectReference]",
            doc="Secrets of the pod's namespace with credentials for registries, of the type "
            "kubernetes.io/dockerconfigjson or kubernetes.io/dockercfg. They are tried before this machine's. One that "
            "is not there is told in an event, and done without.",
        ),
        "initContainers": yes(
            "[Container]",
            doc="Containers that run one after the other before the others start; each has to succeed. One with the "
            "restartPolicy Always is a sidecar: it goes on, and the next starts when it has started.",
        ),
        "nodeName": inert("str", NO_SCHEDULER, doc="The node that the pod runs on."),
        "nodeSelector": inert("{str}", NO_SCHEDULER, doc="Labels of the nodes that it may run on."),
        "os": yes(
            "PodOS", doc="The operating system of the containers; linux is the only one here."
        ),
        "overhead": inert("{quantity}", NO_SCHEDULER, doc="What the runtime itself needs."),
        "preemptionPolicy": inert(
            "str", NO_SCHEDULER, doc="Whether other pods may be ended for it."
        ),
        "priority": inert("int", NO_SCHEDULER, doc="Its importance as a number."),
        "priorityClassName": inert("str", NO_SCHEDULER, doc="Its importance by name."),
        "readinessGates": yes(
            "[PodReadinessGate]",
            doc="Conditions that must be True for the pod to be Ready, besides its containers'. Set them with "
            "`minipod condition`.",
        ),
        "resourceClaims": no(
            "[PodResourceClaim]", doc="Devices that are allocated before it starts."
        ),
        "resources": yes(
            "ResourceRequirements",
            doc="What all containers of the pod together ask for and get: cpu, memory and hugepages-<size>. It takes "
            "the place of the containers' sums; a container without a limit of its own may use all of the pod's.",
        ),
        "restartPolicy": yes(
            doc="What follows the end of a container: Always (the default) and OnFailure restart it, with a "
            "back-off of 10 s that doubles up to 300 s; Never does not."
        ),
        "runtimeClassName": no(
            "str", "remove it, there is one runtime", doc="The container runtime to use."
        ),
        "schedulerName": inert("str", NO_SCHEDULER, doc="The scheduler that places it."),
        "schedulingGates": inert(
            "[PodSchedulingGate]", NO_SCHEDULER, doc="What has to happen before it is scheduled."
        ),
        "schedulingGroup": inert(
            "PodSchedulingGroup", NO_SCHEDULER, doc="With which pods it is scheduled."
        ),
        "securityContext": yes(
            "PodSecurityContext",
            doc="With which users and privileges the pod's containers run, unless a container says otherwise.",
        ),
        "serviceAccount": inert(
            "str",
            NO_TOKEN,
            kept=True,
            doc="An old name of serviceAccountName, which counts if both are given.",
        ),
        "serviceAccountName": inert(
            "str",
            NO_TOKEN,
            kept=True,
            doc="As whom it talks to the API server; spec.serviceAccountName in the downward API.",
        ),
        "setHostnameAsFQDN": yes(
            "bool",
            doc="Whether the kernel's host name is the whole name, with subdomain and domain; it has room for 64 "
            "characters. Default: false.",
        ),
        "shareProcessNamespace": yes(
            "bool",
            doc="Lets all containers see each other's processes; pid 1 is the pause process then.",
        ),
        "subdomain": yes(
            doc="A DNS label: with it the pod's whole name is hostname.subdomain.namespace.svc.cluster.local, as its "
            "/etc/hosts says. The last two are the setting cluster_domain.",
        ),
        "terminationGracePeriodSeconds": yes(
            "int",
            doc="How long containers have between the stop signal and SIGKILL; 0 kills at once.",
        ),
        "tolerations": inert(
            "[Toleration]", NO_SCHEDULER, doc="Taints of nodes that it puts up with."
        ),
        "topologySpreadConstraints": inert(
            "[TopologySpreadConstraint]", NO_SCHEDULER, doc="How its kind is spread over the nodes."
        ),
        "volumes": yes("[Volume]", doc="What its containers can mount."),
    },
    "PodOS": {"name": yes(doc="linux; required.")},
    "PodReadinessGate": {
        "conditionType": yes(doc="The type of the condition, example.com/warm say; required.")
    },
}
