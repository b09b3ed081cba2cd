# SPDX-License-Identifier: GPL-3.0-or-later
"""With which privileges a pod and its containers run."""

from __future__ import annotations

from minipod.api.field import Tables, all_refused, no

FIELDS: Tables = {
    "PodSecurityContext": {
        "appArmorProfile": no("AppArmorProfile"),
        "fsGroup": no("int"),
        "fsGroupChangePolicy": no("str", "", "Always"),
        "runAsGroup": no("int", "set the user in the image"),
        "runAsNonRoot": no("bool", "set the user in the image", False),
        "runAsUser": no("int", "set the user in the image"),
        "seLinuxChangePolicy": no(),
        "seLinuxOptions": no("SELinuxOptions"),
        "seccompProfile": no("SeccompProfile"),
        "supplementalGroups": no("[int]"),
        "supplementalGroupsPolicy": no("str", "", "Merge"),
        "sysctls": no("[Sysctl]"),
        "windowsOptions": no("WindowsSecurityContextOptions", "remove it, only linux runs here"),
    },
    "SecurityContext": {
        "allowPrivilegeEscalation": no("bool", "remove it", True),
        "appArmorProfile": no("AppArmorProfile"),
        "capabilities": no("Capabilities", inside=True),
        "privileged": no("bool", "no container is privileged here", False),
        "procMount": no("str", "remove it", "Default"),
        "readOnlyRootFilesystem": no("bool", "remove it", False),
        "runAsGroup": no("int", "set the user in the image"),
        "runAsNonRoot": no("bool", "set the user in the image", False),
        "runAsUser": no("int", "set the user in the image"),
        "seLinuxOptions": no("SELinuxOptions"),
        "seccompProfile": no("SeccompProfile"),
        "windowsOptions": no("WindowsSecurityContextOptions", "remove it, only linux runs here"),
    },
    "AppArmorProfile": all_refused("localhostProfile type"),
    "Capabilities": all_refused("add:[str] drop:[str]"),
    "SELinuxOptions": all_refused("level role type user"),
    "SeccompProfile": all_refused("localhostProfile type"),
    "WindowsSecurityContextOptions": all_refused(
        "gmsaCredentialSpec gmsaCredentialSpecName hostProcess:bool runAsUserName"
    ),
    "Sysctl": all_refused("name value"),
}
