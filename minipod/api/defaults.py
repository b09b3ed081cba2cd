# SPDX-License-Identifier: GPL-3.0-or-later
"""The Kubernetes defaults that depend on other fields; the others are in the types themselves.

The rules are those of ``k8s.io/kubernetes/pkg/apis/core/v1/defaults.go``.
"""

from __future__ import annotations

from minipod.api.amounts import fill_requests
from minipod.api.containers import members
from minipod.api.objects import (
    AppArmorProfile,
    Container,
    EmptyDirVolumeSource,
    HTTPGetAction,
    Pod,
)


def fill_defaults(pod: Pod) -> None:
    """Fill in, in place: requests from limits, host ports, emptyDir, probes, pull policies, message files, accounts."""
    for container in (member.container for member in members(pod)):
        _fill_lifecycle(container)
        _fill_apparmor(pod, container)
        container.image_pull_policy = container.image_pull_policy or _pull_policy(container.image)
        # An empty string is what Kubernetes takes for "not given".
        default = Container()
        container.termination_message_path = (
            container.termination_message_path or default.termination_message_path
        )
        container.termination_message_policy = (
            container.termination_message_policy or default.termination_message_policy
        )
        for port in container.ports:
            if pod.spec.host_network and not port.host_port:
                port.host_port = port.container_port
    # Both have the value of either, as in Kubernetes; the new name counts.
    pod.spec.service_account_name = pod.spec.service_account_name or pod.spec.service_account
    pod.spec.service_account = pod.spec.service_account_name
    for volume in pod.spec.volumes:
        if not volume.sources():
            volume.empty_dir = EmptyDirVolumeSource()
        if image := volume.image:
            image.pull_policy = image.pull_policy or _pull_policy(image.reference)
    fill_requests(pod)


APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"


def apparmor_profile(value: str) -> AppArmorProfile | None:
    """Return what the value of an AppArmor annotation means; None when it means nothing."""
    if value.startswith("localhost/"):
        return AppArmorProfile("Localhost", value.removeprefix("localhost/"))
    types = {"runtime/default": "RuntimeDefault", "unconfined": "Unconfined"}
    return AppArmorProfile(types[value]) if value in types else None


def _fill_apparmor(pod: Pod, container: Container) -> None:
    """Take the deprecated annotation for the field, as the API server does."""
    value = pod.metadata.annotations.get(APPARMOR_ANNOTATION + container.name)
    if value is not None and container.security_context.app_armor_profile is None:
        container.security_context.app_armor_profile = apparmor_profile(value)


def _pull_policy(image: str) -> str:
    """Return when *image* is fetched unless the manifest says so: always for the tag latest, which is the default."""
    name, _, digest = image.partition("@")
    tag = name.rsplit("/", 1)[-1].partition(":")[2]
    return "Always" if tag == "latest" or not (tag or digest) else "IfNotPresent"


def _fill_lifecycle(container: Container) -> None:
    actions: list[HTTPGetAction | None] = []
    for probe in (container.liveness_probe, container.readiness_probe, container.startup_probe):
        if probe is not None:
            # 0 is what Kubernetes takes for "not given".
            probe.period_seconds = probe.period_seconds or 10
            probe.timeout_seconds = probe.timeout_seconds or 1
            probe.success_threshold = probe.success_threshold or 1
            probe.failure_threshold = probe.failure_threshold or 3
            actions.append(probe.http_get)
    if container.lifecycle is not None:
        hooks = (container.lifecycle.post_start, container.lifecycle.pre_stop)
        actions += [hook.http_get for hook in hooks if hook is not None]
    for action in actions:
        if action is not None:
            action.path = action.path or "/"
            action.scheme = action.scheme or "HTTP"
