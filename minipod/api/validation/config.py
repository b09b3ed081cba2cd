# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for ConfigMaps and Secrets (``ValidateConfigMap``, ``ValidateSecret`` and their ``…Update``)."""

from __future__ import annotations

import json

from minipod.api import names
from minipod.api.objects.config import ConfigMap, Secret, decode
from minipod.api.problems import Report
from minipod.api.validation.meta import check_metadata
from minipod.api.validation.rules import say
from minipod.api.yaml import join, shown

MAX_SIZE = 1024 * 1024
"""Bytes of all values of one object together (core/v1 ``MaxSecretSize``)."""

IMMUTABLE = "field is immutable when `immutable` is set"

_ACCOUNT = "kubernetes.io/service-account.name"
_REQUIRED = {
    "kubernetes.io/dockercfg": ((".dockercfg",),),
    "kubernetes.io/dockerconfigjson": ((".dockerconfigjson",),),
    "kubernetes.io/basic-auth": (("username", "password"),),
    "kubernetes.io/ssh-auth": (("ssh-privatekey",),),
    "kubernetes.io/tls": (("tls.crt",), ("tls.key",)),
}
"""By type of a secret: groups of keys, of each of which one must be there."""


def check_config_map(source: ConfigMap, report: Report) -> None:
    """Check a ConfigMap."""
    check_metadata(source.metadata, report)
    size = 0
    for key, text in source.data.items():
        path = join("data", key)
        say(report, path, names.config_key(key))
        if key in source.binary_data:
            report.error(path, "duplicate of key present in binaryData")
        size += len(text.encode())
    size += _check_encoded(source.binary_data, "binaryData", report)
    _check_size(size, report)


def check_secret(secret: Secret, report: Report) -> None:
    """Check a Secret, before its ``stringData`` is moved."""
    check_metadata(secret.metadata, report)
    hidden = {key: text for key, text in secret.data.items() if key not in secret.string_data}
    size = _check_encoded(secret.data, "data", report)
    if len(hidden) != len(secret.data):
        size = sum(len(_decoded(text)) for text in hidden.values())
    for key, text in secret.string_data.items():
        say(report, join("stringData", key), names.config_key(key))
        size += len(text.encode())
    _check_size(size, report)
    _check_type(secret, report)


def _check_encoded(values: dict[str, str], path: str, report: Report) -> int:
    """Check keys and base64; return how many bytes the values are."""
    size = 0
    for key, text in values.items():
        where = join(path, key)
        say(report, where, names.config_key(key))
        try:
            size += len(decode(text))
        except ValueError as error:
            hint = "write the text itself into stringData" if path == "data" else "encode it"
            # Without the value: it may be a secret that somebody forgot to encode.
            report.error(where, f"{error}: {hint}, or use `base64 -w0`")
    return size


def _decoded(text: str) -> bytes:
    try:
        return decode(text)
    except ValueError:
        return b""


def _check_size(size: int, report: Report) -> None:
    if size > MAX_SIZE:
        report.error("data", f"too long: the values have {size} bytes, the limit is {MAX_SIZE}")


def _check_type(secret: Secret, report: Report) -> None:
    keys = secret.data.keys() | secret.string_data.keys()
    for group in _REQUIRED.get(secret.type, ()):
        if not any(key in keys for key in group):
            what = f"a secret of type {secret.type} needs {' or '.join(group)}"
            report.error(join("data", group[0]), f"missing, and required: {what}")
    account = secret.metadata.annotations.get(_ACCOUNT)
    if secret.type == "kubernetes.io/service-account-token" and not account:
        what = f"missing, and required: a secret of type {secret.type} needs it"
        report.error(join("metadata.annotations", _ACCOUNT), what)
    for key in (".dockercfg", ".dockerconfigjson"):
        if secret.type == f"kubernetes.io/{key[1:]}" and key in keys:
            text = secret.string_data.get(key)
            where = join("data" if text is None else "stringData", key)
            try:
                json.loads(_decoded(secret.data[key]) if text is None else text)
            except (ValueError, RecursionError):
                report.error(where, "must be valid JSON")


def check_config_map_update(old: ConfigMap, new: ConfigMap, report: Report) -> None:
    """Check that *new* may take the place of *old*."""
    if not old.immutable:
        return
    _check_stays_immutable(new, report)
    for path, before, after in (
        ("data", old.data, new.data),
        ("binaryData", old.binary_data, new.binary_data),
    ):
        if before != after:
            report.error(path, IMMUTABLE)


def check_secret_update(old: Secret, new: Secret, report: Report) -> None:
    """Check that *new* may take the place of *old*; both without ``stringData``."""
    if old.type != new.type:
        report.error("type", f"field is immutable: it is {shown(old.type)}")
    if not old.immutable:
        return
    _check_stays_immutable(new, report)
    if old.data != new.data:
        report.error("data", IMMUTABLE)


def _check_stays_immutable(new: ConfigMap | Secret, report: Report) -> None:
    if not new.immutable:
        report.error("immutable", f"{IMMUTABLE}: delete the object and create it again")
