# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes' rules for the values of a Pod, and minipod's own where it is narrower.

The rules are those of ``k8s.io/kubernetes/pkg/apis/core/validation``, for the fields that minipod honours. Its own
are said at the place: paths on or under /proc (HARDENING: CVE-2019-16884, CVE-2024-21626), ``..`` in mount paths,
a size limit on disk. All problems are reported, each at its own line.
"""

from __future__ import annotations

from minipod.api.objects import Pod
from minipod.api.problems import Report
from minipod.api.validation.meta import check_metadata
from minipod.api.validation.pod import check_spec
from minipod.api.validation.security import check_apparmor_annotations

__all__ = ["validate"]


def validate(pod: Pod, report: Report) -> None:
    """Check a pod that has its defaults; *report* gets every problem.

    Raises:
        TooManyProblems: see :class:`~minipod.api.problems.Report`.
    """
    check_metadata(pod.metadata, report)
    check_spec(pod.spec, report)
    if pod.spec.ephemeral_containers:
        what = "may only be added to a running pod: minipod debug POD --image IMAGE"
        report.error("spec.ephemeralContainers", what)
    check_apparmor_annotations(pod, report)
