# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be changed of a running pod's resources (Kubernetes' ValidatePodResize)."""

from __future__ import annotations

from typing import Any

import pytest

from minipod.api import Container, ResourceRequirements, to_dict
from minipod.api.objects import ContainerResizePolicy
from minipod.api.resize import changes, needs_restart, resized
from minipod.errors import NotFound, UsageError
from tests.unit.test_api_resources import both, load

GUARANTEED = both(cpu="1", memory="1Gi")
BURSTABLE = {
    "requests": {"cpu": "100m", "memory": "1Gi"},
    "limits": {"cpu": "1", "memory": "2Gi", "ephemeral-storage": "1Gi"},
}


def patch(name: str = "c0", field: str = "containers", **resources: Any) -> Any:
    return {"spec": {field: [{"name": name, "resources": resources}]}}


def test_what_is_named_is_changed_and_nothing_else() -> None:
    before = load(BURSTABLE, BURSTABLE)
    shown = to_dict(before)
    after = resized(before, patch(requests={"cpu": "200m"}, limits={"memory": "3Gi"}))
    assert to_dict(before) == shown
    first, second = (container.resources for container in after.spec.containers)
    assert first.requests == {"cpu": "200m", "memory": "1Gi", "ephemeral-storage": "1Gi"}
    assert first.limits == {"cpu": "1", "memory": "3Gi", "ephemeral-storage": "1Gi"}
    assert second == before.spec.containers[1].resources


def test_guaranteed_stays_guaranteed() -> None:
    more = {"cpu": "2", "memory": "2Gi"}
    after = resized(load(GUARANTEED), patch(requests=more, limits=more))
    assert after.spec.containers[0].resources.limits == more


@pytest.mark.parametrize(
    ("resources", "change", "expected"),
    [
        (GUARANTEED, {"limits": {"cpu": "2"}}, "Pod QOS Class may not change"),
        ({}, {"requests": {"cpu": "1"}}, "Pod QOS Class may not change"),
        (BURSTABLE, {"requests": {"cpu": "2"}}, "requests.cpu: 2 is above the limit of 1"),
        (BURSTABLE, {"requests": {"cpu": "-1"}}, "requests.cpu: must be 0 or more"),
        (BURSTABLE, {"requests": {"cpu": "much"}}, "'much' is not a quantity"),
        (
            BURSTABLE,
            {"limits": {"ephemeral-storage": "2Gi"}},
            "limits.ephemeral-storage: only cpu and memory resources are mutable",
        ),
        (BURSTABLE, {"limits": {"cpu": None}}, "limits.cpu: resource limits cannot be removed"),
        (BURSTABLE, {"requests": {"cpu": None}}, "resource requests cannot be removed"),
        (BURSTABLE, {"claims": []}, "'claims' cannot be changed by a resize"),
        (BURSTABLE, {"limits": "cpu"}, "limits must be a mapping"),
    ],
)
def test_what_is_refused(resources: Any, change: Any, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        resized(load(resources), patch(**change))
    assert expected in caught.value.what


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        {"metadata": {}},
        {"spec": {}},
        {"spec": {"containers": {}}},
        {"spec": {"containers": [{"resources": {}}]}},
        {"spec": {"containers": [{"name": "c0", "image": "x"}]}},
        {"spec": {"volumes": []}},
        {"spec": {"initContainers": [{"name": "c0", "resources": {}}]}},
    ],
)
def test_what_is_no_such_patch(wrong: Any) -> None:
    with pytest.raises(UsageError):
        resized(load(BURSTABLE), wrong)


def test_a_container_that_is_not_there() -> None:
    with pytest.raises(NotFound, match="no container c7"):
        resized(load(BURSTABLE), patch("c7", limits={"cpu": "2"}))


def test_amounts_count_and_not_how_they_are_written() -> None:
    one = ResourceRequirements({"cpu": "1"}, {"memory": "1Gi"})
    same = ResourceRequirements({"cpu": "1000m", "memory": "0"}, {"memory": "1024Mi"})
    assert changes(one, same) == set()
    assert changes(one, ResourceRequirements({"cpu": "2"}, {})) == {"cpu", "memory"}


def test_who_wants_a_restart() -> None:
    policies = [
        ContainerResizePolicy("cpu", "NotRequired"),
        ContainerResizePolicy("memory", "RestartContainer"),
    ]
    container = Container(resize_policy=policies)
    assert not needs_restart(container, {"cpu"})
    assert needs_restart(container, {"cpu", "memory"})
    assert not needs_restart(Container(), {"cpu", "memory"})
