# SPDX-License-Identifier: GPL-3.0-or-later
"""ConfigMap and Secret: named texts and bytes for the containers of a namespace."""

from __future__ import annotations

import base64
import binascii

import msgspec

from minipod.api.field import Tables, yes
from minipod.api.objects.base import Object, spelled_out
from minipod.api.objects.meta import ObjectMeta


class ConfigMap(Object):
    """Texts by key in *data*, and bytes, in base64, in *binary_data*; a key is in one of the two."""

    api_version: str = spelled_out("v1")
    kind: str = spelled_out("ConfigMap")
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    data: dict[str, str] = msgspec.field(default_factory=dict)
    binary_data: dict[str, str] = msgspec.field(default_factory=dict)
    immutable: bool | None = None


class Secret(Object):
    """Bytes by key, in base64; *string_data* is a way to write them, and is empty in what is kept."""

    api_version: str = spelled_out("v1")
    kind: str = spelled_out("Secret")
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    type: str = spelled_out("Opaque")
    data: dict[str, str] = msgspec.field(default_factory=dict)
    string_data: dict[str, str] = msgspec.field(default_factory=dict)
    immutable: bool | None = None


def decode(text: str) -> bytes:
    """Return the bytes that base64 *text* stands for; line ends in it do not count, as in Go.

    Raises:
        ValueError: it is not base64.
    """
    try:
        return base64.b64decode(text.replace("\n", "").replace("\r", ""), validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}".lower()) from None


def contents(source: ConfigMap | Secret) -> dict[str, bytes]:
    """Return all values by key, as bytes.

    Raises:
        ValueError: what should be base64 is not; not of an object that was validated.
    """
    if isinstance(source, ConfigMap):
        texts = {key: text.encode() for key, text in source.data.items()}
        return texts | {key: decode(text) for key, text in source.binary_data.items()}
    values = {key: decode(text) for key, text in source.data.items()}
    return values | {key: text.encode() for key, text in source.string_data.items()}


def store_string_data(secret: Secret) -> None:
    """Move ``stringData`` into ``data``, where it overwrites, as the API server does."""
    for key, text in secret.string_data.items():
        secret.data[key] = base64.b64encode(text.encode()).decode()
    secret.string_data = {}


_IMMUTABLE = "When true, the contents can never change again: only deleting the object ends it."

FIELDS: Tables = {
    "ConfigMap": {
        "apiVersion": yes(doc="The version of the API that the object is written in: v1."),
        "binaryData": yes(
            "{text}",
            doc="Bytes by key, in base64: what is no UTF-8. Keys are letters, digits, -, _ and ., and are not in "
            "data too. All values together have at most 1 MiB.",
        ),
        "data": yes(
            "{text}",
            doc="Texts by key. Keys are letters, digits, -, _ and . (253 at most); all values together have at "
            "most 1 MiB.",
        ),
        "immutable": yes("bool", doc=_IMMUTABLE),
        "kind": yes(doc="ConfigMap."),
        "metadata": yes("ObjectMeta", doc="Name, namespace, labels and annotations."),
    },
    "Secret": {
        "apiVersion": yes(doc="The version of the API that the object is written in: v1."),
        "data": yes(
            "{text}",
            doc="Bytes by key, in base64. Keys are letters, digits, -, _ and . (253 at most); all values together "
            "have at most 1 MiB.",
        ),
        "immutable": yes("bool", doc=_IMMUTABLE),
        "kind": yes(doc="Secret."),
        "metadata": yes("ObjectMeta", doc="Name, namespace, labels and annotations."),
        "stringData": yes(
            "{text}",
            doc="Texts by key, written into data when the object is created, where they overwrite; never shown.",
        ),
        "type": yes(
            doc="What the secret is for; Opaque unless given. The kubernetes.io/ types ask for their keys: "
            "tls.crt and tls.key for kubernetes.io/tls, and so on. It never changes."
        ),
    },
}
