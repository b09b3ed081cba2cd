# SPDX-License-Identifier: GPL-3.0-or-later
"""Something that happened to an object."""

from __future__ import annotations

import msgspec

from minipod.api.objects.base import Object, spelled_out
from minipod.api.objects.meta import ObjectMeta


class ObjectReference(Object):
    """Which object an event is about; *field_path* may name a part of it."""

    api_version: str | None = None
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    resource_version: str | None = None
    field_path: str | None = None


class EventSource(Object):
    """Who reports an event."""

    component: str = ""
    host: str | None = None


class Event(Object):
    """Something that happened to an object; *type* is Normal or Warning, *count* how often."""

    api_version: str = spelled_out("v1")
    kind: str = spelled_out("Event")
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    involved_object: ObjectReference = msgspec.field(default_factory=ObjectReference)
    reason: str = ""
    message: str = ""
    type: str = spelled_out("Normal")
    count: int = spelled_out(1)
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    source: EventSource = msgspec.field(default_factory=EventSource)
