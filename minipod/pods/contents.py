# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in the files of a volume: the keys of ConfigMaps and Secrets, and facts about the pod itself.

As the kubelet has it (``pkg/volume/configmap``, ``secret``, ``downwardapi``, ``projected``): which keys become files,
what a missing object or key means, which of two files of one name stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from minipod.api import (
    ConfigMap,
    DownwardAPIVolumeFile,
    KeyToPath,
    Pod,
    Secret,
    Volume,
    contents,
)
from minipod.api.amounts import Amounts
from minipod.errors import MinipodError
from minipod.plan.defaults import FILE_VOLUMES_BYTES
from minipod.pods.downward import field_value, resource_value
from minipod.runtime.atomic import File

Look = Callable[[str, str], ConfigMap | Secret | None]
"""Returns the object of a kind and name, of the pod's namespace."""

_WORDS = {"ConfigMap": "config", "Secret": "secret"}


_PAGE = 4096


class TooMuch(MinipodError):
    """The files of a pod's volumes would take up too much memory: one key can be many files."""

    def __init__(self) -> None:
        super().__init__(
            f"the files of the pod's volumes take up more than {FILE_VOLUMES_BYTES} bytes of memory",
            "use a persistentVolumeClaim or an image volume for what is large",
        )


class NotThere(MinipodError):
    """What a volume needs is missing; in the kubelet's words."""


def references(volume: Volume) -> list[tuple[str, str]]:
    """Return kind and name of the objects that *volume* takes files from."""
    found: list[tuple[str, str]] = []
    if volume.config_map:
        found.append(("ConfigMap", volume.config_map.name))
    if volume.secret:
        found.append(("Secret", volume.secret.secret_name))
    for source in volume.projected.sources if volume.projected else ():
        if source.config_map:
            found.append(("ConfigMap", source.config_map.name))
        if source.secret:
            found.append(("Secret", source.secret.name))
    return found


def facts_in(volume: Volume) -> bool:
    """Whether *volume* has files with facts about the pod."""
    projected = volume.projected.sources if volume.projected else ()
    return volume.downward_api is not None or any(source.downward_api for source in projected)


def files_of(pod: Pod, volume: Volume, look: Look, machine: Amounts) -> dict[str, File]:
    """Return the files of *volume* by path.

    Raises:
        NotThere: an object or key is missing that is not optional.
        TooMuch: there is no end to them.
    """
    source = volume.files
    assert source is not None, "a volume of files"
    make = _Maker(pod, look, machine, source.default_mode, source.default_user or 0)
    if one := volume.config_map:
        return make.keyed("ConfigMap", one.name, one.items, bool(one.optional))
    if secret := volume.secret:
        return make.keyed("Secret", secret.secret_name, secret.items, bool(secret.optional))
    if downward := volume.downward_api:
        return make.downward(downward.items)
    assert volume.projected is not None, "the last kind of these volumes"
    result: dict[str, File] = {}
    for each in volume.projected.sources:
        if each.config_map:
            part = each.config_map
            result |= make.keyed("ConfigMap", part.name, part.items, bool(part.optional))
        if each.secret:
            hidden = each.secret
            result |= make.keyed("Secret", hidden.name, hidden.items, bool(hidden.optional))
        if each.downward_api:
            result |= make.downward(each.downward_api.items)
    return result


def memory_of(files: Mapping[str, File]) -> int:
    """Return about how much memory *files* take up: whole pages, and one for each file itself."""
    return sum(_memory(file.data) for file in files.values())


def _memory(data: bytes) -> int:
    return (-(-len(data) // _PAGE) + 1) * _PAGE


class _Maker:
    def __init__(self, pod: Pod, look: Look, machine: Amounts, mode: int, user: int) -> None:
        self._pod = pod
        self._look = look
        self._machine = machine
        self._mode = mode
        self._user = user
        self._taken = 0
        self._facts: dict[str, bytes] = {}

    def keyed(
        self, kind: str, name: str, items: Iterable[KeyToPath], optional: bool
    ) -> dict[str, File]:
        """Return the keys of an object as files."""
        found = self._look(kind, name)
        if found is None and not optional:
            raise NotThere(f'{kind.lower()} "{name}" not found')
        values: Mapping[str, bytes] = contents(found) if found else {}
        items = list(items)
        if not items:
            return {key: self._file(data) for key, data in values.items()}
        result = {}
        for item in items:
            if item.key in values:
                result[item.path] = self._file(values[item.key], item)
            elif not optional:
                raise NotThere(f"references non-existent {_WORDS[kind]} key: {item.key}")
        return result

    def downward(self, items: Iterable[DownwardAPIVolumeFile]) -> dict[str, File]:
        """Return facts about the pod as files."""
        return {item.path: self._file(self._fact(item), item) for item in items}

    def _fact(self, item: DownwardAPIVolumeFile) -> bytes:
        if item.field_ref:
            path = item.field_ref.field_path
            if path not in self._facts:  # the annotations can be long, and in many files
                self._facts[path] = field_value(self._pod, path).encode()
            return self._facts[path]
        assert item.resource_field_ref is not None, "validated: it has one of the two"
        return resource_value(self._pod, None, item.resource_field_ref, self._machine).encode()

    def _file(self, data: bytes, item: KeyToPath | DownwardAPIVolumeFile | None = None) -> File:
        self._taken += _memory(data)
        if self._taken > FILE_VOLUMES_BYTES:
            raise TooMuch
        mode, user = (item.mode, item.user) if item else (None, None)
        return File(
            data,
            self._mode if mode is None else mode,
            self._user if user is None else user,
        )
