# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables that a manifest gives a container, with all that they refer to looked up.

The order and the words are the kubelet's (``makeEnvironmentVariables``): first envFrom, then env, the later of two
wins; ``$(NAME)`` in a value of env is any variable that is known by then. Secrets end up in the environment and in
a file on a tmpfs that only root reads; never in a message.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from minipod.api import ConfigMap, Container, Pod, Secret, StoredObject
from minipod.api.amounts import Amounts
from minipod.api.objects import EnvVar, FileKeySelector
from minipod.api.objects.config import contents
from minipod.plan.command import Room, expand
from minipod.plan.resources import allocatable
from minipod.plan.volumes import in_sandbox
from minipod.pods.core import PodCore
from minipod.pods.downward import Place, field_value, resource_value
from minipod.pods.envfile import find_key, read_below
from minipod.pods.errors import CannotCreate, ConfigError
from minipod.runtime.podroot import sandbox_root, volume_directory

Env = dict[str, str]
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Lookup(Protocol):
    """Where objects are found."""

    def get(self, kind: str, namespace: str, name: str) -> StoredObject | None:
        """Return the object, or None."""


class NotConfigured(ConfigError):
    """The container cannot be started as long as something it refers to is missing: CreateContainerConfigError."""


File = bytes | NotConfigured | None


@dataclass(frozen=True, slots=True)
class Sources:
    """Where values come from.

    Attributes:
        objects: ConfigMaps and Secrets.
        place: the addresses of the pod and of its host.
        machine: what this machine has (``plan.resources.allocatable``).
        files: by volume and path, what is in the files that variables name: None when there is no such file, or
            why it cannot be read.
    """

    objects: Lookup
    place: Place
    machine: Amounts
    files: Mapping[tuple[str, str], File] = field(default_factory=dict)


def container_env(pod: Pod, container: Container, sources: Sources) -> Env:
    """Return the variables of ``envFrom`` and ``env``, in order.

    Raises:
        NotConfigured: something that is referred to, and is not optional, is not there.
        TooLong: no program could be given them.
    """
    return _Reader(pod, container, sources).all()


def planned_env(pod: Pod, container: Container, sources: Sources) -> Env:
    """Return the variables for the eyes: secrets and what is not there yet are named, not shown."""
    return _Planner(pod, container, sources).all()


def prepared_env(pod: Pod, container: Container) -> Env:
    """Return the variables whose values the manifest itself says; for what is decided before anything is made.

    Raises:
        TooLong: no program could be given them.
    """
    result: Env = {}
    room = Room()
    for variable in container.env:
        if variable.value_from is None:
            result[variable.name] = room.take(expand(variable.value, result))
    return result


class _Reader:
    def __init__(self, pod: Pod, container: Container, sources: Sources) -> None:
        self._pod = pod
        self._container = container
        self._sources = sources

    def all(self) -> Env:
        result: Env = {}
        room = Room()
        for source in self._container.env_from:
            for kind, ref in (("ConfigMap", source.config_map_ref), ("Secret", source.secret_ref)):
                if ref is not None:
                    values = self._object(kind, ref.name, bool(ref.optional)) or {}
                    # In the order of the keys, so that an environment is the same each time.
                    for key in sorted(values):
                        result[source.prefix + key] = room.take(_text(key, values[key]))
        for variable in self._container.env:
            value = self._value(variable, result)
            if value is not None:
                result[variable.name] = room.take(value)
        return result

    def _value(self, variable: EnvVar, known: Env) -> str | None:
        """Return the value of a variable of ``env``, or None for an optional one that is not there."""
        source = variable.value_from
        if source is None or variable.value:
            return expand(variable.value, known)
        if source.field_ref is not None:
            return field_value(self._pod, source.field_ref.field_path, self._sources.place)
        if selector := source.resource_field_ref:
            return resource_value(self._pod, self._container, selector, self._sources.machine)
        for kind, ref in (
            ("ConfigMap", source.config_map_key_ref),
            ("Secret", source.secret_key_ref),
        ):
            if ref is not None:
                return self._key(kind, ref.name, ref.key, bool(ref.optional))
        assert source.file_key_ref is not None, "a valid source has one field"
        return self._of_file(source.file_key_ref)

    def _object(self, kind: str, name: str, optional: bool) -> dict[str, bytes] | None:
        found = self._sources.objects.get(kind, self._pod.metadata.namespace, name)
        if isinstance(found, ConfigMap):
            return {key: text.encode() for key, text in found.data.items()}
        if isinstance(found, Secret):
            return contents(found)
        if optional:
            return None
        word = kind.lower()
        raise NotConfigured(
            f'{word} "{name}" not found', f"create it: minipod create -f {word}.yaml"
        )

    def _key(self, kind: str, name: str, key: str, optional: bool) -> str | None:
        values = self._object(kind, name, optional)
        if values is not None and key in values:
            return _text(key, values[key])
        if optional:
            return None
        space = self._pod.metadata.namespace
        raise NotConfigured(
            f"couldn't find key {key} in {kind} {space}/{name}", "add the key to it"
        )

    def _of_file(self, selector: FileKeySelector) -> str | None:
        where = f"{selector.path} of volume {selector.volume_name}"
        data = self._sources.files.get((selector.volume_name, selector.path))
        if isinstance(data, NotConfigured):
            raise data
        try:
            value = find_key(data, selector.key) if data is not None else ""
        except ValueError as error:
            raise NotConfigured(f"couldn't parse env file {where}: {error}") from None
        if value:
            return value
        if selector.optional:
            return None
        raise NotConfigured(
            f"environment variable key {selector.key!r} not found in file {where}",
            f"write {selector.key}='…' into it before this container starts",
        )


class _Planner(_Reader):
    def _object(self, kind: str, name: str, optional: bool) -> dict[str, bytes] | None:
        values = super()._object(kind, name, True)
        if values is None or kind != "Secret":
            return values
        return {key: f"<key {key} of secret {name}>".encode() for key in values}

    def _key(self, kind: str, name: str, key: str, optional: bool) -> str | None:
        value = super()._key(kind, name, key, True)
        return value if value is not None or optional else f"<key {key} of {kind.lower()} {name}>"

    def _of_file(self, selector: FileKeySelector) -> str | None:
        return f"<key {selector.key} of file {selector.path} in volume {selector.volume_name}>"


def _text(key: str, value: bytes) -> str:
    """Return a value as the text of a variable; bytes that are no UTF-8 go through unchanged."""
    if b"\0" in value:
        raise NotConfigured(
            f"the value of key {key} has a NUL byte, which no variable can hold",
            "use it as a file in a volume",
        )
    return value.decode(errors="surrogateescape")


# ---- for a pod that runs ----


async def gather(core: PodCore, container: Container) -> Env:
    """Return the variables for a run that is about to begin, and remember them for :func:`remembered`.

    Raises:
        NotConfigured: something that is referred to is not there.
        CannotCreate: they cannot be written down.
        TooLong: no program could be given them.
    """
    tools = core.tools
    own = core.record.address
    host = tools.runtime.network.host_ip()
    pod_ip = host if core.pod.spec.host_network else own
    sources = Sources(
        objects=tools.objects,
        place=Place(host_ips=(host,), pod_ips=(pod_ip,) if pod_ip else ()),
        machine=allocatable(tools.runtime.facts),
        files=await _read_files(core, container),
    )
    env = container_env(core.pod, container, sources)
    # What the manifest itself says need not be kept; but what an earlier run got must not stay.
    own_words = env == prepared_env(core.pod, container)
    keep(_kept_path(core, container), None if own_words else env)
    return env


def remembered(core: PodCore, container: Container) -> Env:
    """Return the variables of a container that runs: those it was started with, by whatever agent."""
    return kept(_kept_path(core, container)) or prepared_env(core.pod, container)


def _kept_path(core: PodCore, container: Container) -> str:
    return f"{core.run_dir}/env-{container.name}"


async def _read_files(core: PodCore, container: Container) -> dict[tuple[str, str], File]:
    """Read what the variables of the container take from files of emptyDir volumes."""
    sources = (variable.value_from for variable in container.env)
    wanted = {
        (ref.volume_name, ref.path) for each in sources if each and (ref := each.file_key_ref)
    }
    in_memory = {volume.name for volume in core.pod.spec.volumes if in_sandbox(volume)}
    result: dict[tuple[str, str], File] = {}
    for volume, path in wanted:
        try:
            if volume in in_memory:
                assert core.shim is not None, "a container starts in a sandbox"
                async with sandbox_root(core.shim) as root:
                    with volume_directory(root, volume) as directory:
                        result[volume, path] = read_below(directory, path)
            else:
                directory = os.open(f"{core.directory}/volumes/{volume}", _DIRECTORY)
                try:
                    result[volume, path] = read_below(directory, path)
                finally:
                    os.close(directory)
        except (OSError, ValueError) as error:
            what = (error.strerror or "").lower() if isinstance(error, OSError) else error
            words = f"couldn't read file {path} of volume {volume}: {what}"
            result[volume, path] = NotConfigured(words)
    return result


def keep(path: str, env: Env | None) -> None:
    """Write down what a container gets, or nothing; *path* is on a tmpfs, and the file is for root alone.

    Raises:
        CannotCreate: the file cannot be written.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        if env is None:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            file.write(json.dumps(env).encode())  # lone surrogates are escaped, and come back
    except OSError as error:
        remedy = "see that the run directory's filesystem has room"
        raise CannotCreate(f"{path}: {(error.strerror or str(error)).lower()}", remedy) from error


def kept(path: str) -> Env:
    """Return what :func:`keep` wrote, or nothing when there is no such file."""
    try:
        with open(path, "rb") as file:
            found: Env = json.load(file)
    except FileNotFoundError:
        return {}
    return found
