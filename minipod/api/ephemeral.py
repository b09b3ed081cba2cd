# SPDX-License-Identifier: GPL-3.0-or-later
"""Adding an ephemeral container to a pod that runs: what Kubernetes' ``pods/ephemeralcontainers`` takes."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import msgspec

from minipod.api import yaml
from minipod.api.defaults import fill_defaults
from minipod.api.objects import EphemeralContainer, Pod
from minipod.api.problems import ManifestError, Report
from minipod.api.schema import got, read_object
from minipod.api.validation.pod import check_spec


def load_ephemeral(text: str, source: str, pod: Pod) -> EphemeralContainer:
    """Return the ephemeral container that *text* (YAML or JSON) describes, checked as one more of *pod*'s.

    *pod* stays as it is.

    Raises:
        ManifestError: something is wrong with it; it carries all problems.
    """
    roots, problems = yaml.parse(text)
    path = f"spec.ephemeralContainers[{len(pod.spec.ephemeral_containers)}]"
    report = Report(source, {}, 1)
    for each in problems:
        report.error("", each.message)
    if len(roots) != 1 or not isinstance(roots[0], yaml.Mapping):
        report.error("", f"expected one container, got {got(roots[0]) if roots else 'nothing'}")
    else:
        made = msgspec.convert(
            read_object(roots[0], "EphemeralContainer", report), EphemeralContainer
        )
        whole = copy(pod)
        whole.spec = copy(pod.spec)
        whole.spec.ephemeral_containers = [*pod.spec.ephemeral_containers, made]
        fill_defaults(whole)
        check_spec(whole.spec, report)
    # The rest of the pod was checked when it was created.
    ours = [
        replace(each, path=each.path.removeprefix(path).lstrip("."))
        for each in report.problems
        if not each.path.startswith("spec.") or each.path.startswith(path)
    ]
    if ours:
        raise ManifestError(ours)
    return made
