# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for an object's metadata."""

from __future__ import annotations

from minipod.api import names
from minipod.api.objects import ObjectMeta
from minipod.api.problems import Report
from minipod.api.validation.rules import say
from minipod.api.yaml import join

MAX_ANNOTATIONS = 256 * 1024
"""Bytes of all annotations together."""


def check_metadata(metadata: ObjectMeta, report: Report) -> None:
    """Check name, namespace, labels and annotations."""
    if metadata.name:
        say(report, "metadata.name", names.dns_subdomain(metadata.name))
    elif not metadata.generate_name:
        report.error("metadata.name", "missing, and required: give it a name or a generateName")
    if metadata.generate_name:
        prefix = metadata.generate_name.removesuffix("-")
        say(report, "metadata.generateName", names.dns_subdomain(prefix))
    if metadata.namespace:
        say(report, "metadata.namespace", names.dns_label(metadata.namespace))
    for key, value in metadata.labels.items():
        wrong = names.qualified_name(key) or names.label_value(value)
        say(report, join("metadata.labels", key), wrong)
    size = 0
    for key, value in metadata.annotations.items():
        say(report, join("metadata.annotations", key), names.qualified_name(key.lower()))
        size += len(key.encode()) + len(value.encode())
    if size > MAX_ANNOTATIONS:
        what = f"the annotations have {size} bytes together, the limit is {MAX_ANNOTATIONS}"
        report.error("metadata.annotations", what)
