# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests and limits: names, amounts, what the pod declares for all, sums, defaults, and the class of service."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from minipod.api import ManifestError, Pod, amounts, load_manifests, qos_class
from minipod.api.quantity import format_quantity, parse_quantity

Json = dict[str, Any]


def load(*resources: Json, pod: Json | None = None, **spec: Any) -> Pod:
    """Return the pod of containers with these resources, *pod* being its own."""
    containers = [
        {"name": f"c{i}", "image": "i", "resources": each} for i, each in enumerate(resources)
    ]
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": containers, **({"resources": pod} if pod else {}), **spec},
    }
    (document,) = load_manifests(msgspec.json.encode(manifest), "p.json")
    made = document.object
    assert isinstance(made, Pod)
    return made


def refusal(*resources: Json, pod: Json | None = None, **spec: Any) -> list[str]:
    """Return what is said against such a pod: path and words."""
    with pytest.raises(ManifestError) as caught:
        load(*resources, pod=pod, **spec)
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


def both(**quantities: str) -> Json:
    return {"limits": {k.replace("_", "-"): v for k, v in quantities.items()}}


# ---- rules ------------------------------------------------------------------------------------------------------

HUGE = "hugepages-2Mi"


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"limits": {"storage": "1Gi"}}, 'limits.storage: unknown resource "storage"'),
        ({"limits": {"ephemeral-storage": "-1"}}, "limits.ephemeral-storage: must be 0 or more"),
        (
            {"requests": {"ephemeral-storage": "2"}, "limits": {"ephemeral-storage": "1"}},
            "requests.ephemeral-storage: 2 is above the limit of 1",
        ),
        ({"limits": {HUGE: "4Mi"}}, "hugepages-2Mi requires cpu or memory beside it"),
        ({"requests": {HUGE: "4Mi", "cpu": "1"}}, "limits.hugepages-2Mi is required"),
        (
            {"requests": {HUGE: "2Mi"}, "limits": {HUGE: "4Mi", "cpu": "1"}},
            "2Mi must be equal to the limit of 4Mi",
        ),
        ({"limits": {HUGE: "3Mi", "cpu": "1"}}, "3Mi is not a multiple of the page size, 2Mi"),
        ({"limits": {"hugepages-big": "3Mi", "cpu": "1"}}, '"big" is no size of a page'),
        ({"limits": {"hugepages-0": "3Mi", "cpu": "1"}}, '"0" is no size of a page'),
        ({"claims": [{"name": "gpu"}]}, "resources.claims: known to Kubernetes but not honoured"),
    ],
)
def test_what_a_container_cannot_ask_for(resources: Json, expected: str) -> None:
    assert len([words for words in refusal(resources) if expected in words]) == 1


@pytest.mark.parametrize(
    ("pod", "containers", "expected"),
    [
        (
            both(ephemeral_storage="1"),
            [{}],
            "spec.resources.limits.ephemeral-storage: a pod has no",
        ),
        (both(pids="1"), [{}], "spec.resources.limits.pids: a pod has no pids of its own"),
        (both(gpu="1"), [{}], 'spec.resources.limits.gpu: unknown resource "gpu"'),
        (
            {"requests": {"cpu": "1"}},
            [{"requests": {"cpu": "600m"}}, {"requests": {"cpu": "900m"}}],
            "spec.resources.requests.cpu: 1 is less than the requests of the containers together, 1500m",
        ),
        (
            {"requests": {"memory": "1Mi"}},
            [{"requests": {"memory": "3Gi"}}],
            "1Mi is less than the requests of the containers together, 3Gi",
        ),
        (
            {"limits": {"memory": "1Gi"}, "requests": {"memory": "1Mi"}},
            [{}, {"limits": {"memory": "2Gi"}, "requests": {"memory": "1"}}],
            "spec.containers[1].resources.limits.memory: 2Gi is above the pod's limit of 1Gi",
        ),
        (
            {"limits": {"cpu": "1", HUGE: "2Mi"}},
            [both(hugepages_2Mi="2Mi", cpu="1m"), both(hugepages_2Mi="2Mi", cpu="1m")],
            "2Mi is less than the limits of the containers together, 4Mi",
        ),
        (
            {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}},
            [{}],
            "spec.resources.requests.cpu: 2 is above the limit of 1",
        ),
    ],
)
def test_what_a_pod_cannot_ask_for(pod: Json, containers: list[Json], expected: str) -> None:
    assert [words for words in refusal(*containers, pod=pod) if expected in words]


def test_limits_of_containers_may_add_up_to_more_than_the_pods() -> None:
    one = {"limits": {"cpu": "1"}, "requests": {"cpu": "1m"}}
    made = load(one, one, pod=both(cpu="1500m"))
    assert amounts.of_pod(made, "limits") == {"cpu": Decimal("1.5")}


@pytest.mark.parametrize(
    ("policies", "pod_policy", "expected"),
    [
        ([{"resourceName": "disk"}], "Always", '"disk" is not one of cpu, memory'),
        ([{"restartPolicy": "NotRequired"}], "Always", "resourceName: missing, and required"),
        (
            [{"resourceName": "cpu", "restartPolicy": "Maybe"}],
            "Always",
            '"Maybe" is not one of NotRequired, RestartContainer',
        ),
        (
            [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}],
            "Never",
            "must be NotRequired when the pod's restartPolicy is Never",
        ),
        ([{"resourceName": "cpu"}, {"resourceName": "cpu"}], "Always", "is given twice"),
    ],
)
def test_resize_policies(policies: list[Json], pod_policy: str, expected: str) -> None:
    containers = [{"name": "c", "image": "i", "resizePolicy": policies}]
    words = refusal(containers=containers, restartPolicy=pod_policy)
    assert len(words) == 1 and expected in words[0]


# ---- defaults ---------------------------------------------------------------------------------------------------


def test_a_request_that_is_not_given_is_the_limit() -> None:
    made = load({"limits": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "2Gi", "pids": "9"}})
    requests = made.spec.containers[0].resources.requests
    assert requests == {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "2Gi"}


@pytest.mark.parametrize(
    ("pod", "containers", "requests"),
    [
        # Nobody says anything: the pod's limit.
        (both(cpu="2", memory="1Gi"), [{}], {"cpu": "2", "memory": "1Gi"}),
        # The containers' sum, where they say something.
        (both(cpu="2"), [{"requests": {"cpu": "250m"}}, both(cpu="500m")], {"cpu": "750m"}),
        # Of what the pod does not limit, too.
        (both(cpu="2"), [both(memory="1Gi")], {"cpu": "2", "memory": "1Gi"}),
        # Without limits of the pod nothing is filled in.
        ({"requests": {"cpu": "1"}}, [both(memory="1Gi")], {"cpu": "1"}),
    ],
)
def test_defaults_of_the_pods_requests(
    pod: Json, containers: list[Json], requests: dict[str, str]
) -> None:
    assert load(*containers, pod=pod).spec.resources.requests == requests


def test_huge_pages_of_the_containers_become_the_pods() -> None:
    made = load(both(hugepages_2Mi="4Mi", cpu="1"), pod=both(cpu="2"))
    assert made.spec.resources.limits == {"cpu": "2", HUGE: "4Mi"}
    assert made.spec.resources.requests == {"cpu": "1", HUGE: "4Mi"}


# ---- sums -------------------------------------------------------------------------------------------------------


def test_sums() -> None:
    made = load(both(cpu="1", memory="1Gi"), {"requests": {"cpu": "100m"}})
    assert amounts.of_pod(made, "requests") == {"cpu": Decimal("1.1"), "memory": 1 << 30}
    assert amounts.of_pod(made, "limits") == {"cpu": 1, "memory": 1 << 30}
    assert not amounts.declares_for_all(made, "cpu"), "the second container has no limit"


def test_what_the_pod_declares_takes_the_place_of_the_sum() -> None:
    made = load({"requests": {"cpu": "100m"}}, pod=both(cpu="2"))
    made.spec.resources.requests["cpu"] = "300m"
    assert amounts.of_pod(made, "requests")["cpu"] == Decimal("0.3")
    assert amounts.of_pod(made, "limits") == {"cpu": 2}
    assert amounts.declares_for_all(made, "cpu")
    assert not amounts.declares_for_all(made, "memory")


def test_effective_limits() -> None:
    """A container's own limit, else the pod's, else the machine's."""
    made = load(both(memory="1Gi"), {}, pod=both(cpu="2", memory="3Gi"))
    machine = {"cpu": Decimal(8), "memory": Decimal(1 << 40), "ephemeral-storage": Decimal(7)}
    first, second = made.spec.containers
    found = amounts.effective_limits(made, first, machine)
    assert found == {"cpu": 2, "memory": 1 << 30, "ephemeral-storage": 7}
    assert amounts.effective_limits(made, second, machine)["memory"] == 3 << 30


# ---- class of service -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pod", "containers", "expected"),
    [
        ({}, [{}], "BestEffort"),
        ({}, [both(ephemeral_storage="1Gi")], "BestEffort"),
        ({}, [both(cpu="1", memory="1Gi")], "Guaranteed"),
        ({}, [both(cpu="1", memory="1Gi"), {}], "Burstable"),
        (both(cpu="1", memory="1Gi"), [{}, {}], "Guaranteed"),
        (both(cpu="1", memory="1Gi"), [{"requests": {"cpu": "1m"}}], "Burstable"),
        (both(cpu="1"), [{}], "Burstable"),
        ({"requests": {"cpu": "1"}}, [both(cpu="1", memory="1Gi")], "Burstable"),
    ],
)
def test_quality_of_service(pod: Json, containers: list[Json], expected: str) -> None:
    assert qos_class(load(*containers, pod=pod)) == expected


# ---- text -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "binary", "expected"),
    [
        ("1500m", False, "1500m"),
        ("2", False, "2"),
        ("2000", False, "2k"),
        ("0.0001", False, "1m"),
        ("0", False, "0"),
        ("1073741824", True, "1Gi"),
        ("1.5Gi", True, "1536Mi"),
        ("1000", True, "1000"),
        ("0.5", True, "1"),
        ("0", True, "0"),
    ],
)
def test_quantities_as_text(text: str, binary: bool, expected: str) -> None:
    assert format_quantity(parse_quantity(text), binary=binary) == expected


# ---- init containers and sidecars ---------------------------------------------------------------------------------


def init(name: str, request: str, *, sidecar: bool = False) -> Json:
    container = {"name": name, "image": "i", "resources": {"requests": {"cpu": request}}}
    return {**container, "restartPolicy": "Always"} if sidecar else container


@pytest.mark.parametrize(
    ("inits", "expected"),
    [
        ([], "1"),
        ([init("small", "500m")], "1"),  # it runs alone, before the others
        ([init("large", "3")], "3"),
        ([init("a", "3"), init("b", "2")], "3"),  # one after the other
        ([init("side", "500m", sidecar=True)], "1.5"),  # it stays beside the others
        ([init("side", "500m", sidecar=True), init("large", "3")], "3.5"),
        ([init("large", "3"), init("side", "500m", sidecar=True)], "3"),
        ([init("one", "1", sidecar=True), init("two", "1", sidecar=True)], "3"),
    ],
)
def test_what_a_pod_needs_is_the_most_at_any_time(inits: list[Json], expected: str) -> None:
    made = load({"requests": {"cpu": "1"}}, initContainers=inits)
    assert amounts.of_pod(made, "requests")["cpu"] == Decimal(expected)


def test_init_containers_count_for_the_class() -> None:
    guaranteed = both(cpu="1", memory="1Gi")
    bare = {"name": "init", "image": "i"}
    assert qos_class(load(guaranteed, initContainers=[bare])) == "Burstable"
    same = {**bare, "resources": guaranteed}
    assert qos_class(load(guaranteed, initContainers=[same])) == "Guaranteed"
    assert qos_class(load({}, initContainers=[same])) == "Burstable"
    assert not amounts.declares_for_all(load(guaranteed, initContainers=[bare]), "memory")


def test_an_init_container_may_not_use_more_than_the_pod() -> None:
    large = {"name": "init", "image": "i", "resources": both(memory="2Gi")}
    words = refusal({}, pod=both(memory="1Gi"), initContainers=[large])
    assert any("spec.initContainers[0].resources.limits.memory: 2Gi is above" in w for w in words)
