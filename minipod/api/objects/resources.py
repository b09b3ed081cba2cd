# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of the machine a container asks for and gets."""

from __future__ import annotations

import msgspec

from minipod.api.field import Tables, all_refused, no, yes
from minipod.api.objects.base import Object


class ResourceRequirements(Object):
    """Quantities (see ``quantity.py``) by resource: cpu, memory, and in limits minipod's pids."""

    limits: dict[str, str] = msgspec.field(default_factory=dict)
    requests: dict[str, str] = msgspec.field(default_factory=dict)


FIELDS: Tables = {
    "ResourceRequirements": {
        "claims": no("[CoreV1ResourceClaim]"),
        "limits": yes("{quantity}"),
        "requests": yes("{quantity}"),
    },
    "CoreV1ResourceClaim": all_refused("name request"),
    "ContainerResizePolicy": all_refused("resourceName restartPolicy"),
}
