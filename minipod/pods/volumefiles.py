# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the files of a pod's volumes as their ConfigMaps, Secrets, labels and annotations are.

Level-driven as the worker is: whenever the worker looks, what the files are made of is compared with what they were
made of last. An agent that has come back compares with what is in the volume.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from minipod.api import ConfigMap, Secret, Volume, members
from minipod.errors import MinipodError
from minipod.plan.defaults import FILE_VOLUMES_BYTES
from minipod.plan.resources import allocatable
from minipod.pods.contents import TooMuch, facts_in, files_of, memory_of, references
from minipod.pods.core import PodCore
from minipod.runtime.atomic import File, checked, write, written
from minipod.runtime.ownership import give_opened_to_group, move_opened_to
from minipod.runtime.podroot import sandbox_root, volume_directory
from minipod.runtime.shim import Shim

RETRY = 10.0
"""Seconds until something is tried again of whose mending nobody tells us: a full memory, say."""


class VolumeFiles:
    """The volumes of one pod that minipod fills with files.

    Attributes:
        next_try: when :meth:`ready` or :meth:`place` is to be asked again, unless something happens before.
    """

    def __init__(self, core: PodCore) -> None:
        self._core = core
        self._volumes = [volume for volume in core.pod.spec.volumes if volume.files]
        self._sandbox = -1
        self._placed: set[str] = set()
        self._seen: dict[str, list[object]] = {}
        self._complained: dict[str, str] = {}
        self._memory: dict[str, int] = {}
        self.next_try: float | None = None

    def ready(self) -> bool:
        """Whether all is there that a sandbox's volumes need; says what is not, in an event."""
        self.next_try = None
        missing = [volume for volume in self._volumes if self._files(volume) is None]
        return not missing

    async def place(self) -> bool:
        """Write what has changed into the volumes of the present sandbox; whether all were written once."""
        if not self._volumes:
            return True
        self.next_try = None
        core = self._core
        if core.shim is None:
            return False
        if self._sandbox != core.record.sandbox:
            self._sandbox = core.record.sandbox
            self._placed.clear()
            self._seen.clear()
        sources = {volume.name: self._sources(volume) for volume in self._volumes}
        due = {
            volume.name: self._files(volume)
            for volume in self._volumes
            if self._seen.get(volume.name) != sources[volume.name]
        }
        try:
            await self._write(core.shim, due)
            self._seen |= {name: sources[name] for name in due}
        except OSError as error:  # the sandbox is just ending, or the memory is full
            why = error.strerror or str(error) or "no answer"
            words = f"the files of the volumes could not be written: {why}"
            core.event("Warning", "FailedMount", words)
            self.next_try = core.now() + RETRY
        return len(self._placed) == len(self._volumes)

    async def _write(self, shim: Shim, due: Mapping[str, Mapping[str, File] | None]) -> None:
        todo = {
            name: files
            for name, files in due.items()
            if files is not None or name not in self._placed
        }
        if not todo:
            return
        async with sandbox_root(shim) as root:
            for name, files in todo.items():
                with volume_directory(root, name) as directory:
                    if files is not None:
                        write(directory, files, self._own)
                    elif not written(directory):
                        continue
                    # else what it was made of has gone, and the files stay as they are
                    self._placed.add(name)

    def _own(self, directory: int) -> None:
        """Give new files to the pod's ``fsGroup`` and to its user namespace, before anybody sees them."""
        group = self._core.pod.spec.security_context.fs_group
        if group is not None:
            give_opened_to_group(directory, group, read_only=True)
        if users := self._core.context().users:
            move_opened_to(users, directory)

    def _files(self, volume: Volume) -> Mapping[str, File] | None:
        """Return the files of *volume*; None when something is missing, which an event says."""
        core = self._core
        machine = allocatable(core.tools.runtime.facts)
        try:
            files = checked(files_of(core.pod, volume, self._look, machine))
            self._memory[volume.name] = memory_of(files)
            if sum(self._memory.values()) > FILE_VOLUMES_BYTES:
                raise TooMuch
        except (MinipodError, ValueError) as error:
            words = f'MountVolume.SetUp failed for volume "{volume.name}" : {error}'
            self._complain(volume.name, "FailedMount", words)
            return None
        self._complained.pop(volume.name, None)
        return files

    def _sources(self, volume: Volume) -> list[object]:
        """Return what the files of *volume* are made of."""
        pod = self._core.pod
        found: list[object] = [self._look(kind, name) for kind, name in references(volume)]
        if facts_in(volume):
            asked = [pod.spec.resources, *(each.container.resources for each in members(pod))]
            resources = [msgspec.to_builtins(each) for each in asked]
            found += [dict(pod.metadata.labels), dict(pod.metadata.annotations), resources]
        return found

    def _look(self, kind: str, name: str) -> ConfigMap | Secret | None:
        found = self._core.tools.objects.get(kind, self._core.pod.metadata.namespace, name)
        return found if isinstance(found, ConfigMap | Secret) else None

    def _complain(self, about: str, reason: str, words: str) -> None:
        """Tell what is missing, once, until something else is."""
        if self._complained.get(about) != words:
            self._complained[about] = words
            self._core.event("Warning", reason, words)
