# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for an image and when it is pulled, in containers as in volumes."""

from __future__ import annotations

from minipod.api.problems import Report
from minipod.api.validation.rules import one_of
from minipod.api.yaml import shown


def check_image(image: str, path: str, report: Report) -> None:
    """Check a reference to an image."""
    if not image:
        report.error(path, "missing, and required")
    elif any(c.isspace() or not c.isprintable() for c in image):
        report.error(path, f"{shown(image)} must not contain white space or control characters")


def check_pull_policy(policy: str, path: str, report: Report) -> None:
    """Check when an image is pulled; ``""`` leaves it to the default."""
    if policy:
        one_of(report, path, policy, ("Always", "IfNotPresent", "Never"))
