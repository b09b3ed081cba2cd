# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the manifest of ``create configmap NAME`` and ``create secret generic|tls NAME`` from literals and files.

As kubectl does it: a file's name is its key unless ``KEY=`` stands before the path, a directory gives a key for each
of its files, and what is no UTF-8 goes into binaryData.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from minipod.errors import UsageError

Json = dict[str, Any]
_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_MAX_FILE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line says, option by option."""

    literals: Sequence[str] = ()
    files: Sequence[str] = ()
    env_files: Sequence[str] = ()
    cert: str = ""
    key: str = ""
    type: str = ""


def make(words: Sequence[str], given: Given) -> Json:
    """Return the object that ``create WORDS`` means.

    Raises:
        UsageError: they mean none, or a file cannot be read.
    """
    if len(words) == 2 and words[0].lower() in ("configmap", "cm"):
        if given.type or given.cert or given.key:
            raise UsageError("create configmap: --type, --cert and --key are for secrets")
        return _config_map(words[1], dict(_values(given)))
    if len(words) == 3 and words[0].lower() == "secret" and words[1] == "generic":
        if given.cert or given.key:
            raise UsageError("create secret generic: --cert and --key are for `create secret tls`")
        return _secret(words[2], given.type, dict(_values(given)))
    if len(words) == 3 and words[0].lower() == "secret" and words[1] == "tls":
        if not given.cert or not given.key:
            raise UsageError("create secret tls: both --cert and --key are needed")
        values = {"tls.crt": _read(given.cert), "tls.key": _read(given.key)}
        return _secret(words[2], "kubernetes.io/tls", values)
    raise UsageError(
        f"cannot create {' '.join(words)!r}",
        "minipod create -f FILE, create configmap NAME, or create secret generic|tls NAME",
    )


def _config_map(name: str, values: dict[str, bytes]) -> Json:
    data: dict[str, str] = {}
    binary: dict[str, str] = {}
    for key, value in values.items():
        try:
            data[key] = value.decode()
        except UnicodeDecodeError:
            binary[key] = base64.b64encode(value).decode()
    made: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    return made | ({"data": data} if data else {}) | ({"binaryData": binary} if binary else {})


def _secret(name: str, type_: str, values: dict[str, bytes]) -> Json:
    data = {key: base64.b64encode(value).decode() for key, value in values.items()}
    made: Json = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
    return made | ({"type": type_} if type_ else {})


def _values(given: Given) -> Iterator[tuple[str, bytes]]:
    seen: set[str] = set()
    for key, value in (
        *map(_literal, given.literals),
        *(pair for each in given.files for pair in _file(each)),
        *(pair for each in given.env_files for pair in _env_file(each)),
    ):
        if not _KEY.fullmatch(key):
            raise UsageError(f"the key {key!r} is not valid", "use letters, digits, -, _ and .")
        if key in seen:
            raise UsageError(f"the key {key!r} is given twice", "leave out one of them")
        seen.add(key)
        yield key, value


def _literal(text: str) -> tuple[str, bytes]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise UsageError(f"--from-literal {text!r} is no KEY=VALUE")
    return key, value.encode(errors="surrogateescape")


def _file(text: str) -> Iterator[tuple[str, bytes]]:
    key, sign, path = text.rpartition("=")
    if sign:
        yield key, _read(path)
    elif os.path.isdir(text):
        # Those whose names are no keys are left out, as kubectl does.
        for name in sorted(os.listdir(text)):
            if _KEY.fullmatch(name) and os.path.isfile(f"{text}/{name}"):
                yield name, _read(f"{text}/{name}")
    else:
        yield os.path.basename(text), _read(text)


def _env_file(path: str) -> Iterator[tuple[str, bytes]]:
    """Yield the variables of a file of ``NAME=VALUE`` lines; a name alone takes its value from our environment."""
    for line in _read(path).split(b"\n"):
        entry = line.strip(b"\r").lstrip()
        if not entry or entry.startswith(b"#"):
            continue
        name, sign, value = entry.partition(b"=")
        if sign:
            yield os.fsdecode(name), value
        elif name in os.environb:
            yield os.fsdecode(name), os.environb[name]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    if len(data) > _MAX_FILE:
        raise UsageError(f"{path}: larger than 1 MiB", "a ConfigMap or Secret holds no more")
    return data
