# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pod worker needs from the process that it lives in, as an interface: the agent is above this layer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from minipod.api import Pod
from minipod.config import Config
from minipod.images import ImageStore
from minipod.network import AddressPool
from minipod.pods.record import PodRecord
from minipod.runtime.runtime import Runtime


class PodStore(Protocol):
    """Where pods are kept; each call is durable when it returns, and its watchers are told."""

    def save(self, pod: Pod, record: PodRecord) -> None:
        """Write the pod and its record."""

    def remove(self, pod: Pod) -> None:
        """Forget the pod: it is gone from this machine."""

    def event(self, pod: Pod, kind: str, reason: str, message: str, field_path: str = "") -> None:
        """Tell that something happened to the pod; *kind* is Normal or Warning."""


@dataclass(frozen=True, slots=True)
class Tools:
    """All that the workers of one agent share.

    Attributes:
        cgroup_parent: where this agent's pods live in each hierarchy.
        notes: what this machine cannot give a pod.
        seccomp: returns the default filter, compiled once.
        wall: the time of day in seconds since the epoch; a test's clock may stand still.
    """

    config: Config
    runtime: Runtime
    images: ImageStore
    pool: AddressPool
    store: PodStore
    cgroup_parent: str
    notes: list[str]
    seccomp: Callable[[], bytes]
    wall: Callable[[], float] = time.time
