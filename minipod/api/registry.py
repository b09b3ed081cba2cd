# SPDX-License-Identifier: GPL-3.0-or-later
"""How objects of each kind are read from a manifest, and how one may take the place of another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minipod.api.defaults import fill_defaults
from minipod.api.objects import (
    AnyObject,
    ConfigMap,
    PersistentVolume,
    PersistentVolumeClaim,
    Pod,
    Secret,
)
from minipod.api.objects.config import store_string_data
from minipod.api.problems import Report
from minipod.api.storagerules import (
    complete_claim,
    complete_volume,
    inherit_claim,
    inherit_volume,
)
from minipod.api.validation import validate
from minipod.api.validation.claims import check_claim, check_claim_update
from minipod.api.validation.config import (
    check_config_map,
    check_config_map_update,
    check_secret,
    check_secret_update,
)
from minipod.api.validation.persistentvolume import (
    check_volume_object,
    check_volume_object_update,
)


def _nothing(*_: Any) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Rules:
    """One kind's way from a manifest to an object.

    Attributes:
        type: the struct; its name is the kind, and that of its table in ``fields.py``.
        validate: checks an object that has its defaults.
        defaults: fills in the defaults that depend on other fields.
        complete: brings a checked object into the form in which it is kept.
        validate_update: checks that the second object may take the place of the first; both are complete.
        inherit: gives the second object what only the agent writes into the first, before they are compared.
        api_version: the one that a manifest must name.
    """

    type: type[AnyObject]
    validate: Callable[[Any, Report], None]
    defaults: Callable[[Any], None] = _nothing
    complete: Callable[[Any], None] = _nothing
    validate_update: Callable[[Any, Any, Report], None] = _nothing
    inherit: Callable[[Any, Any], None] = _nothing
    api_version: str = "v1"


RULES = {
    "Pod": Rules(Pod, validate, fill_defaults),
    "ConfigMap": Rules(ConfigMap, check_config_map, validate_update=check_config_map_update),
    "Secret": Rules(
        Secret,
        check_secret,
        complete=store_string_data,
        validate_update=check_secret_update,
    ),
    "PersistentVolumeClaim": Rules(
        PersistentVolumeClaim,
        check_claim,
        complete=complete_claim,
        validate_update=check_claim_update,
        inherit=inherit_claim,
    ),
    "PersistentVolume": Rules(
        PersistentVolume,
        check_volume_object,
        complete=complete_volume,
        validate_update=check_volume_object_update,
        inherit=inherit_volume,
    ),
}
"""The kinds that a manifest may hold."""
