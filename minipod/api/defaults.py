# SPDX-License-Identifier: GPL-3.0-or-later
"""The Kubernetes defaults that depend on other fields; the others are in the types themselves.

The rules are those of ``k8s.io/kubernetes/pkg/apis/core/v1/defaults.go``.
"""

from __future__ import annotations

from minipod.api.objects import EmptyDirVolumeSource, Pod

_REQUESTED = ("cpu", "memory")


def fill_defaults(pod: Pod, default_namespace: str) -> None:
    """Fill in, in place: the namespace, requests from limits, host ports, and emptyDir."""
    pod.metadata.namespace = pod.metadata.namespace or default_namespace
    for container in pod.spec.containers:
        resources = container.resources
        for name in _REQUESTED:
            if name in resources.limits and name not in resources.requests:
                resources.requests[name] = resources.limits[name]
        for port in container.ports:
            if pod.spec.host_network and not port.host_port:
                port.host_port = port.container_port
    for volume in pod.spec.volumes:
        if volume.empty_dir is None and volume.host_path is None:
            volume.empty_dir = EmptyDirVolumeSource()
