# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for a container's variables (``ValidateEnv``, ``ValidateEnvFrom``)."""

from __future__ import annotations

from minipod.api import names
from minipod.api.objects import Container, PodSpec
from minipod.api.objects.env import (
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    FileKeySelector,
)
from minipod.api.problems import Report, did_you_mean
from minipod.api.validation.references import check_field_ref, check_resource_ref
from minipod.api.validation.rules import say
from minipod.api.yaml import shown

_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
MAX_FILE_KEY = 128

_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_ONE = "may not have more than one field specified at a time"


def check_env(container: Container, path: str, spec: PodSpec, report: Report) -> None:
    """Check a container's ``env`` and ``envFrom``."""
    seen: set[str] = set()
    for index, variable in enumerate(container.env):
        where = f"{path}.env[{index}]"
        if not variable.name:
            report.error(f"{where}.name", "missing, and required")
        else:
            say(report, f"{where}.name", names.env_name(variable.name))
        if variable.name in seen:
            what = f"{shown(variable.name)} is given twice, the last one counts"
            report.warn(f"{where}.name", what)
        seen.add(variable.name)
        if variable.value_from is not None:
            _source(variable, variable.value_from, f"{where}.valueFrom", spec, report)
    for index, source in enumerate(container.env_from):
        _env_from(source, f"{path}.envFrom[{index}]", report)


def _env_from(source: EnvFromSource, path: str, report: Report) -> None:
    if source.prefix:
        say(report, f"{path}.prefix", names.env_name(source.prefix))
    given = {"configMapRef": source.config_map_ref, "secretRef": source.secret_ref}
    if all(each is None for each in given.values()):
        report.error(path, "must specify one of: `configMapRef` or `secretRef`")
    elif all(given.values()):
        report.error(path, _ONE)
    for key, each in given.items():
        if each is not None:
            _name(each.name, f"{path}.{key}.name", report)


def _name(name: str, path: str, report: Report) -> None:
    if not name:
        report.error(path, "missing, and required")
    else:
        say(report, path, names.dns_subdomain(name))


def _source(
    variable: EnvVar, source: EnvVarSource, path: str, spec: PodSpec, report: Report
) -> None:
    given = {
        "fieldRef": source.field_ref,
        "resourceFieldRef": source.resource_field_ref,
        "configMapKeyRef": source.config_map_key_ref,
        "secretKeyRef": source.secret_key_ref,
        "fileKeyRef": source.file_key_ref,
    }
    count = sum(each is not None for each in given.values())
    if count == 0:
        report.error(path, f"must specify one of: {', '.join(f'`{name}`' for name in _SOURCES)}")
    elif variable.value:
        report.error(path, "may not be specified when `value` is not empty")
    elif count > 1:
        report.error(path, _ONE)
    if source.field_ref is not None:
        check_field_ref(source.field_ref, f"{path}.fieldRef", _FIELDS, report)
    if source.resource_field_ref is not None:
        where = f"{path}.resourceFieldRef"
        known = [each.name for each in (*spec.containers, *getattr(spec, "init_containers", ()))]
        check_resource_ref(source.resource_field_ref, where, known, report, named=False)
    for key, selector in (
        ("configMapKeyRef", source.config_map_key_ref),
        ("secretKeyRef", source.secret_key_ref),
    ):
        if selector is not None:
            _name(selector.name, f"{path}.{key}.name", report)
            if not selector.key:
                report.error(f"{path}.{key}.key", "missing, and required")
            else:
                say(report, f"{path}.{key}.key", names.config_key(selector.key))
    if source.file_key_ref is not None:
        _file_key_ref(source.file_key_ref, spec, f"{path}.fileKeyRef", report)


def _file_key_ref(selector: FileKeySelector, spec: PodSpec, path: str, report: Report) -> None:
    if not selector.key:
        report.error(f"{path}.key", "missing, and required")
    elif len(selector.key) > MAX_FILE_KEY:
        what = f"has {len(selector.key)} characters, the limit is {MAX_FILE_KEY}"
        report.error(f"{path}.key", what)
    else:
        say(report, f"{path}.key", names.env_name(selector.key))
    if not selector.path:
        report.error(f"{path}.path", "missing, and required")
    elif selector.path.startswith("/"):
        report.error(f"{path}.path", "must be a relative path")
    elif ".." in selector.path.split("/"):
        report.error(f"{path}.path", "must not contain ..")
    elif selector.path.startswith(".."):
        report.error(f"{path}.path", "must not start with ..")
    volume = next((v for v in spec.volumes if v.name == selector.volume_name), None)
    if not selector.volume_name:
        report.error(f"{path}.volumeName", "missing, and required")
    elif volume is None:
        near = did_you_mean(selector.volume_name, [each.name for each in spec.volumes])
        what = f"{shown(selector.volume_name)} names no volume of the pod{near}"
        report.error(f"{path}.volumeName", what)
    elif volume.empty_dir is None:
        report.error(f"{path}.volumeName", "only an emptyDir volume can hold the file")
