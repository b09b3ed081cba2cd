# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for the security contexts of a pod and its containers."""

from __future__ import annotations

import posixpath

from minipod.api import sysctls
from minipod.api.capabilities import ALL, CAPABILITIES, capability_name
from minipod.api.containers import members
from minipod.api.defaults import APPARMOR_ANNOTATION, apparmor_profile
from minipod.api.objects import (
    AppArmorProfile,
    Capabilities,
    Pod,
    PodSecurityContext,
    PodSpec,
    SeccompProfile,
    SecurityContext,
    Sysctl,
)
from minipod.api.problems import Report, did_you_mean
from minipod.api.validation.rules import one_of, unique
from minipod.api.yaml import join, shown

MAX_ID = (1 << 31) - 1
MAX_GROUPS = 65536  # NGROUPS_MAX, linux/limits.h
MAX_APPARMOR = 4095
_PROFILES = ("RuntimeDefault", "Localhost", "Unconfined")


def check_pod_security(spec: PodSpec, report: Report) -> None:
    """Check a pod's security context."""
    context, path = spec.security_context, "spec.securityContext"
    _user(context, path, report)
    _id(context.fs_group, f"{path}.fsGroup", report)
    for index, group in enumerate(context.supplemental_groups):
        _id(group, f"{path}.supplementalGroups[{index}]", report)
    if len(context.supplemental_groups) > MAX_GROUPS:
        what = f"{len(context.supplemental_groups)} groups, the limit is {MAX_GROUPS}"
        report.error(f"{path}.supplementalGroups", what)
    if context.supplemental_groups_policy is not None:
        where, policy = f"{path}.supplementalGroupsPolicy", context.supplemental_groups_policy
        one_of(report, where, policy, ("Merge", "Strict"))
    if context.fs_group_change_policy is not None:
        where, policy = f"{path}.fsGroupChangePolicy", context.fs_group_change_policy
        one_of(report, where, policy, ("Always", "OnRootMismatch"))
    _sysctls(context.sysctls, f"{path}.sysctls", spec, report)
    check_host_users(spec, report)


def check_host_users(spec: PodSpec, report: Report) -> None:
    """Check what excludes a user namespace of the pod's own."""
    if spec.host_users:
        return
    for field, on in (
        ("hostNetwork", spec.host_network),
        ("hostPID", spec.host_pid),
        ("hostIPC", spec.host_ipc),
    ):
        if on:
            report.error(f"spec.{field}", "cannot be true while hostUsers is false")
    lists = (("initContainers", spec.init_containers), ("containers", spec.containers))
    for field, containers in lists:
        for index, container in enumerate(containers):
            if container.volume_devices:
                where = f"spec.{field}[{index}].volumeDevices"
                report.error(where, "cannot be used while hostUsers is false")


def check_apparmor_annotations(pod: Pod, report: Report) -> None:
    """Check the deprecated annotations, which stand for ``appArmorProfile`` of a container each."""
    containers = {found.name: found.container for found in members(pod)}
    for key, value in pod.metadata.annotations.items():
        if not key.startswith(APPARMOR_ANNOTATION):
            continue
        path = join("metadata.annotations", key)
        container = containers.get(key.removeprefix(APPARMOR_ANNOTATION))
        profile = apparmor_profile(value)
        if container is None:
            report.error(path, "the pod has no such container")
        elif profile is None:
            what = "is not runtime/default, unconfined or localhost/NAME"
            report.error(path, f"{shown(value)} {what}")
        elif container.security_context.app_armor_profile != profile:
            report.error(path, "contradicts securityContext.appArmorProfile of the container")


def check_container_security(
    context: SecurityContext, path: str, spec: PodSpec, report: Report
) -> None:
    """Check a container's security context; *path* is its own."""
    _user(context, path, report)
    if context.proc_mount is not None:
        one_of(report, f"{path}.procMount", context.proc_mount, ("Default", "Unmasked"))
        if context.proc_mount == "Unmasked" and spec.host_users:
            report.error(f"{path}.procMount", "spec.hostUsers must be false to use Unmasked")
    added = _capabilities(context.capabilities, f"{path}.capabilities", report)
    if context.allow_privilege_escalation is False:
        where = f"{path}.allowPrivilegeEscalation"
        if context.privileged:
            report.error(where, "cannot be false while privileged is true")
        elif "SYS_ADMIN" in added:
            report.error(where, "cannot be false while capabilities.add has SYS_ADMIN")


def _user(context: PodSecurityContext | SecurityContext, path: str, report: Report) -> None:
    """Check what both kinds of security context have."""
    _id(context.run_as_user, f"{path}.runAsUser", report)
    _id(context.run_as_group, f"{path}.runAsGroup", report)
    if context.seccomp_profile is not None:
        _seccomp(context.seccomp_profile, f"{path}.seccompProfile", report)
    if context.app_armor_profile is not None:
        _apparmor(context.app_armor_profile, f"{path}.appArmorProfile", report)


def _id(number: int | None, path: str, report: Report) -> None:
    if number is not None and not 0 <= number <= MAX_ID:
        report.error(path, f"must be between 0 and {MAX_ID}, inclusive, not {number}")


def _seccomp(profile: SeccompProfile, path: str, report: Report) -> None:
    file = _localhost(profile, path, report)
    if posixpath.isabs(file):
        report.error(
            f"{path}.localhostProfile",
            f"{shown(file)} must be a relative path, below the directory seccomp",
        )
    elif ".." in file.split("/"):
        report.error(f"{path}.localhostProfile", f"{shown(file)} must not contain ..")


def _apparmor(profile: AppArmorProfile, path: str, report: Report) -> None:
    name, where = _localhost(profile, path, report), f"{path}.localhostProfile"
    if name != name.strip():
        report.error(where, f"{shown(name)} must not be padded with white space")
    elif len(name) > MAX_APPARMOR:
        report.error(where, f"has {len(name)} characters, the limit is {MAX_APPARMOR}")
    elif not name.isprintable():
        report.error(where, f"{shown(name)} must not contain control characters")


def _localhost(profile: SeccompProfile | AppArmorProfile, path: str, report: Report) -> str:
    """Check the type, and that ``localhostProfile`` goes with it; return the latter, empty when there is none."""
    if not profile.type:
        report.error(f"{path}.type", f"missing, and required: {', '.join(_PROFILES)}")
        return ""
    one_of(report, f"{path}.type", profile.type, _PROFILES)
    given = profile.localhost_profile
    if profile.type == "Localhost":
        if not given:
            report.error(f"{path}.localhostProfile", "missing, and required when type is Localhost")
        return given or ""
    if profile.type in _PROFILES and given is not None:
        report.error(f"{path}.localhostProfile", "can only be set when type is Localhost")
    return ""


def _capabilities(capabilities: Capabilities | None, path: str, report: Report) -> set[str]:
    """Check the names; return those that are added."""
    if capabilities is None:
        return set()
    added: set[str] = set()
    for field, names in (("add", capabilities.add), ("drop", capabilities.drop)):
        for index, text in enumerate(names):
            try:
                name = capability_name(text)
            except ValueError as error:
                hint = did_you_mean(str(error), (*CAPABILITIES, ALL))
                what = f"{shown(text)} is no capability of Linux{hint}"
                report.error(f"{path}.{field}[{index}]", what)
                continue
            if field == "add":
                added.add(name)
    return added


def _sysctls(items: list[Sysctl], path: str, spec: PodSpec, report: Report) -> None:
    shared = {"net": spec.host_network, "ipc": spec.host_ipc}
    words = {"net": "hostNetwork", "ipc": "hostIPC"}
    for index, item in enumerate(items):
        where, held_by = f"{path}[{index}].name", sysctls.namespace(item.name)
        if not item.name:
            report.error(where, "missing, and required")
        elif not sysctls.is_name(item.name):
            what = "use lower-case letters, digits, - and _, with . or / between the parts"
            report.error(where, f"{shown(item.name)} is no name of a sysctl: {what}")
        elif shared.get(held_by):
            report.error(where, f"may not be set with {words[held_by]} enabled: it is the host's")
        if not sysctls.is_value(item.value):
            what = "has characters that no value of a sysctl has"
            report.error(f"{path}[{index}].value", f"{shown(item.value)} {what}")
    named = ((f"{path}[{i}].name", sysctls.normal_name(x.name)) for i, x in enumerate(items))
    unique(report, named, "sysctl")
