# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for an ephemeral container, besides those for every container."""

from __future__ import annotations

from minipod.api.objects import EphemeralContainer, PodSpec
from minipod.api.problems import Report, did_you_mean
from minipod.api.yaml import shown


def check_ephemeral(
    container: EphemeralContainer, path: str, spec: PodSpec, report: Report
) -> None:
    """Check an ephemeral container (``validateEphemeralContainers``); what it cannot have is not in its table."""
    target, names = container.target_container_name, [each.name for each in spec.containers]
    if target and target not in names:
        what = f"{shown(target)} names no container of the pod" + did_you_mean(target, names)
        report.error(f"{path}.targetContainerName", what)
    for index, mount in enumerate(container.volume_mounts):
        for key, value in (("subPath", mount.sub_path), ("subPathExpr", mount.sub_path_expr)):
            if value:
                what = "an ephemeral container has none, in Kubernetes either"
                report.error(f"{path}.volumeMounts[{index}].{key}", what)
