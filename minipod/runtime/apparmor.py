# SPDX-License-Identifier: GPL-3.0-or-later
"""AppArmor: whether this kernel has it, which profiles are loaded, and the one that ``RuntimeDefault`` means."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from minipod.api import AppArmorProfile, SecurityContext
from minipod.config import HELPER_ENV
from minipod.errors import MinipodError

DEFAULT = "minipod-default"
UNCONFINED = "unconfined"
_PARSER = "apparmor_parser"
_ENABLED = Path("/sys/module/apparmor/parameters/enabled")
_PROFILES = Path("/sys/kernel/security/apparmor/profiles")

# As moby's docker-default and containerd's cri-containerd.apparmor.d: all but what changes the kernel or the host.
_DEFAULT_TEXT = f"""
#include <tunables/global>
profile {DEFAULT} flags=(attach_disconnected,mediate_deleted) {{
  #include <abstractions/base>
  network,
  capability,
  file,
  umount,
  signal (receive) peer=unconfined,
  signal (send,receive) peer={DEFAULT},
  ptrace (trace,read,tracedby,readby) peer={DEFAULT},
  deny @{{PROC}}/* w,
  deny @{{PROC}}/{{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9]*}}/** w,
  deny @{{PROC}}/sys/[^k]** w,
  deny @{{PROC}}/sys/kernel/{{?,??,[^s][^h][^m]**}} w,
  deny @{{PROC}}/sysrq-trigger rwklx,
  deny @{{PROC}}/mem rwklx,
  deny @{{PROC}}/kmem rwklx,
  deny @{{PROC}}/kcore rwklx,
  deny mount,
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}}
"""


def enabled() -> bool:
    """Return whether the kernel confines programs by AppArmor."""
    try:
        return _ENABLED.read_text().startswith("Y")
    except OSError:
        return False


def supported() -> bool:
    """Return whether containers can be confined: by the kernel, and by the program that loads its profiles."""
    return enabled() and shutil.which(_PARSER, path=HELPER_ENV["PATH"]) is not None


def profile_of(security: SecurityContext) -> str:
    """Return the name of the profile for a container with this effective security context; ``""`` for none.

    A container that does not say is confined by the default profile where that can be had, as with containerd.

    Raises:
        MinipodError: it cannot be had. A container never runs with less than it asks for.
    """
    wanted = security.app_armor_profile
    if security.privileged:  # has none, as with containerd
        return ""
    if wanted is None:
        if not supported():  # said in the pod's status, where the kernel has it: see facts.py
            return ""
        wanted = AppArmorProfile("RuntimeDefault")
    if wanted.type == "Unconfined":
        return UNCONFINED if enabled() else ""
    if not enabled():
        raise MinipodError(*not_enabled())
    name = DEFAULT if wanted.type == "RuntimeDefault" else wanted.localhost_profile or ""
    if not _is_loaded(name):
        if name != DEFAULT:
            raise MinipodError(
                f"apparmor profile not found: {name} is not loaded on this machine",
                "load it with: apparmor_parser -r FILE",
            )
        _load_default()
    return name


def not_enabled() -> tuple[str, str]:
    """Return the words, and the remedy, for a machine without AppArmor; the words are the kubelet's."""
    return (
        "Cannot enforce AppArmor: AppArmor is not enabled on the host",
        "remove appArmorProfile, or boot a kernel with apparmor=1",
    )


def _is_loaded(name: str) -> bool:
    try:
        lines = _PROFILES.read_text().splitlines()
    except OSError as error:
        raise MinipodError(
            f"the loaded AppArmor profiles cannot be read: {_PROFILES}: {error.strerror}",
            "mount -t securityfs none /sys/kernel/security",
        ) from error
    return any(line.rpartition(" (")[0] == name for line in lines)


def _load_default() -> None:
    try:
        done = subprocess.run(
            [_PARSER, "--skip-cache", "--replace"],
            input=_DEFAULT_TEXT,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=HELPER_ENV,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MinipodError(
            f"AppArmor profile {DEFAULT} cannot be loaded: apparmor_parser: {error}",
            "install the package apparmor",
        ) from error
    if done.returncode:
        words = " ".join(done.stderr.split())
        raise MinipodError(f"AppArmor profile {DEFAULT} cannot be loaded: {words}")
