# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a container is not made yet: it waits, says so in its status, and is tried again."""

from __future__ import annotations

from minipod.errors import MinipodError


class CannotCreate(MinipodError):
    """A container cannot be created; *waiting* is the reason in its status, as the kubelet has it."""

    waiting = "CreateContainerError"


class ConfigError(CannotCreate):
    """What a container is to be made from is missing or contradicts itself."""

    waiting = "CreateContainerConfigError"
