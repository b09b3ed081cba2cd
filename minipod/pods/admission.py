# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kubelet would not admit: a pod that asks for what this machine does not have, or does not allow."""

from __future__ import annotations

from collections.abc import Iterator

from minipod.api import AppArmorProfile, Pod, members
from minipod.api.sysctls import is_allowed, namespace
from minipod.config import Config
from minipod.errors import MinipodError
from minipod.runtime import apparmor


def refusals(pod: Pod, config: Config) -> Iterator[tuple[str, MinipodError]]:
    """Yield what keeps *pod* from running here, each with the path of the field."""
    yield from _sysctls(pod, config)
    yield from _user_namespace(pod)
    if not apparmor.enabled():
        yield from _apparmor(pod)


def _user_namespace(pod: Pod) -> Iterator[tuple[str, MinipodError]]:
    if pod.spec.host_users:
        return
    for index, volume in enumerate(pod.spec.volumes):
        if volume.nfs is not None:
            what = "nfs has no idmapped mounts: it cannot be used while hostUsers is false"
            remedy = "mount it on the host and use a hostPath volume of another filesystem"
            yield f"spec.volumes[{index}].nfs", MinipodError(what, remedy)


def _sysctls(pod: Pod, config: Config) -> Iterator[tuple[str, MinipodError]]:
    unsafe = [each.strip() for each in config.allowed_unsafe_sysctls.split(",") if each.strip()]
    for index, sysctl in enumerate(pod.spec.security_context.sysctls):
        if is_allowed(sysctl.name, unsafe):
            continue
        remedy = "no namespace holds it: set it on the host"
        if namespace(sysctl.name):
            remedy = f"allow it in the agent's setting allowed_unsafe_sysctls = {sysctl.name!r}"
        what = f'SysctlForbidden: forbidden sysctl: "{sysctl.name}" not allowlisted'
        yield f"spec.securityContext.sysctls[{index}].name", MinipodError(what, remedy)


def _apparmor(pod: Pod) -> Iterator[tuple[str, MinipodError]]:
    asked: list[tuple[str, AppArmorProfile | None]] = [
        ("spec", pod.spec.security_context.app_armor_profile)
    ]
    asked += [(m.path, m.container.security_context.app_armor_profile) for m in members(pod)]
    for path, profile in asked:
        if profile is not None and profile.type != "Unconfined":
            what, remedy = apparmor.not_enabled()
            where = f"{path}.securityContext.appArmorProfile"
            yield where, MinipodError(f"AppArmor: {what}", remedy)
