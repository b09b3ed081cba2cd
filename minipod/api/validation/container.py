# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for a container."""

from __future__ import annotations

from minipod.api.objects import Container, PodSpec
from minipod.api.problems import Report
from minipod.api.validation.env import check_env
from minipod.api.validation.image import check_image, check_pull_policy
from minipod.api.validation.lifecycle import check_lifecycle
from minipod.api.validation.mounts import check_mounts
from minipod.api.validation.network import check_port
from minipod.api.validation.resources import check_resize_policy, check_resources
from minipod.api.validation.restart import check_restart, check_termination_message
from minipod.api.validation.rules import label, under_proc, unique
from minipod.api.validation.security import check_container_security
from minipod.api.yaml import shown


def check_container(container: Container, path: str, spec: PodSpec, report: Report) -> None:
    """Check one container."""
    label(report, f"{path}.name", container.name)
    check_image(container.image, f"{path}.image", report)
    check_pull_policy(container.image_pull_policy, f"{path}.imagePullPolicy", report)
    check_restart(container, path, report)
    check_termination_message(container, path, report)
    if container.working_dir:
        _working_dir(container.working_dir, f"{path}.workingDir", report)
    check_env(container, path, spec, report)
    for index, port in enumerate(container.ports):
        check_port(port, f"{path}.ports[{index}]", spec.host_network, report)
    called = ((f"{path}.ports[{i}].name", p.name or "") for i, p in enumerate(container.ports))
    unique(report, called, "port name")
    check_lifecycle(container, path, spec, report)
    check_resources(container.resources, f"{path}.resources", report)
    check_resize_policy(container, path, spec.restart_policy, report)
    check_mounts(container, path, spec, report)
    check_container_security(container.security_context, f"{path}.securityContext", spec, report)


def _working_dir(working_dir: str, path: str, report: Report) -> None:
    if not working_dir.startswith("/"):
        report.error(path, f"{shown(working_dir)} must be an absolute path")
    elif under_proc(working_dir):
        report.error(path, "must not be on or under /proc")
