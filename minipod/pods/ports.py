# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pod worker needs from the process that it lives in, as an interface: the agent is above this layer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from minipod.api import AnyObject, Pod, StoredObject
from minipod.config import Config
from minipod.images import Image, ImageStore
from minipod.network import AddressPool
from minipod.pods.demands import Demands
from minipod.pods.record import PodRecord
from minipod.runtime.filters import Filters
from minipod.runtime.runtime import Runtime
from minipod.runtime.userids import UserIds

if TYPE_CHECKING:
    from minipod.pods.storage import Storage


class PodStore(Protocol):
    """Where pods are kept; each call is durable when it returns, and its watchers are told."""

    def save(self, pod: Pod, record: PodRecord) -> None:
        """Write the pod and its record."""

    def remove(self, pod: Pod) -> None:
        """Forget the pod: it is gone from this machine."""

    def event(
        self, about: AnyObject, kind: str, reason: str, message: str, field_path: str = ""
    ) -> None:
        """Tell that something happened to an object; *kind* is Normal or Warning."""


class Objects(Protocol):
    """The objects that pods refer to by name: ConfigMaps, Secrets, ….

    What is returned is shared and must not be changed; a changed object is written as a new one.
    """

    def get(self, kind: str, namespace: str, name: str) -> StoredObject | None:
        """Return the object, or None; *namespace* does not matter for a kind that has none."""

    def all(self, kind: str) -> list[StoredObject]:
        """Return all objects of a kind, oldest first."""

    def put(self, *objects: StoredObject) -> None:
        """Write objects, new ones or others in the place of those of the same name: all, or none."""

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """Forget an object that is there."""

    def subscribe(self, heard: Callable[[str, str, str], None]) -> Callable[[], None]:
        """Have *heard* called with kind, namespace and name after every change; return what ends that."""


class Puller(Protocol):
    """Gets images from registries."""

    async def pull(self, reference: str, auths: Sequence[Mapping[str, Any]] = ()) -> Image:
        """Return the image that a registry has under *reference*, which then is in the store, too.

        *auths* are credentials to try before this machine's: documents as Docker's config file.

        Raises:
            MinipodError: it cannot be had; the text says why, and what to do.
        """
        ...


@dataclass(frozen=True, slots=True)
class Tools:
    """All that the workers of one agent share.

    Attributes:
        cgroup_parent: where this agent's pods live in each hierarchy.
        notes: what this machine cannot give a pod.
        demands: what all pods ask for together.
        filters: makes the containers' system call filters.
        traces: how many starts of each container are remembered with their durations; 0: none is timed.
        wall: the time of day in seconds since the epoch; a test's clock may stand still.
    """

    config: Config
    runtime: Runtime
    images: ImageStore
    puller: Puller
    pool: AddressPool
    user_ids: UserIds
    store: PodStore
    objects: Objects
    storage: Storage
    cgroup_parent: str
    notes: list[str]
    filters: Filters
    demands: Demands = field(default_factory=Demands)
    traces: int = 5
    wall: Callable[[], float] = time.time
