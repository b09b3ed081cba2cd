# SPDX-License-Identifier: GPL-3.0-or-later
"""The Kubernetes defaults that depend on other fields; the others are in the types themselves.

The rules are those of ``k8s.io/kubernetes/pkg/apis/core/v1/defaults.go``.
"""

from __future__ import annotations

from minipod.api.amounts import fill_requests
from minipod.api.objects import Container, EmptyDirVolumeSource, HTTPGetAction, Pod


def fill_defaults(pod: Pod) -> None:
    """Fill in, in place: requests from limits, host ports, emptyDir, and probes."""
    for container in pod.spec.containers:
        _fill_lifecycle(container)
        for port in container.ports:
            if pod.spec.host_network and not port.host_port:
                port.host_port = port.container_port
    for volume in pod.spec.volumes:
        if not volume.sources():
            volume.empty_dir = EmptyDirVolumeSource()
    fill_requests(pod)


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
