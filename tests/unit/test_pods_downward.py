# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pod can learn of itself."""

from __future__ import annotations

import os

import pytest

from minipod.api import Container, ObjectMeta, Pod, PodSpec, ResourceRequirements
from minipod.api.objects import ResourceFieldSelector
from minipod.api.quantity import parse_quantity
from minipod.pods.downward import Place, field_value, quote, resource_value

META = ObjectMeta(
    name="web",
    namespace="shop",
    uid="u-1",
    labels={"b": "2", "a/x": "1"},
    annotations={"note": 'say "hi"\n\tü'},
)
MACHINE = {
    name: parse_quantity(text)
    for name, text in (("cpu", "8"), ("memory", "2Gi"), ("ephemeral-storage", "1G"))
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "web"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['b']", "2"),
        ("metadata.labels['a/x']", "1"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['note']", 'say "hi"\n\tü'),
        ("metadata.labels", 'a/x="1"\nb="2"'),
        ("metadata.annotations", 'note="say \\"hi\\"\\n\\tü"'),
        ("spec.nodeName", os.uname().nodename.lower()),
        ("spec.serviceAccountName", "default"),
        ("status.hostIP", "10.0.0.1"),
        ("status.hostIPs", "10.0.0.1,fd00::1"),
        ("status.podIP", "10.9.0.2"),
        ("status.podIPs", "10.9.0.2"),
    ],
)
def test_fields(path: str, expected: str) -> None:
    place = Place(("10.0.0.1", "fd00::1"), ("10.9.0.2",))
    assert field_value(Pod(metadata=META), path, place) == expected


def test_the_account_that_is_named() -> None:
    pod = Pod(metadata=META, spec=PodSpec(service_account_name="robot"))
    assert field_value(pod, "spec.serviceAccountName") == "robot"


def test_quotes_as_go_has_them() -> None:
    assert quote("\a\x1b\x7f\u2028\U000e0001\\é") == '"\\a\\x1b\\x7f\\u2028\\U000e0001\\\\é"'


def resources(**amounts: dict[str, str]) -> Pod:
    own = Container(name="own", resources=ResourceRequirements(**amounts))
    return Pod(metadata=META, spec=PodSpec(containers=[own, Container(name="other")]))


BOTH = resources(
    limits={"cpu": "1500m", "memory": "100M", "hugepages-2Mi": "4Mi"},
    requests={"cpu": "250m", "memory": "64Mi", "hugepages-2Mi": "4Mi"},
)


@pytest.mark.parametrize(
    ("resource", "divisor", "expected"),
    [
        ("limits.cpu", "0", "2"),
        ("limits.cpu", "1m", "1500"),
        ("requests.cpu", "0", "1"),
        ("requests.cpu", "1m", "250"),
        ("limits.memory", "0", "100000000"),
        ("limits.memory", "1Mi", "96"),
        ("limits.memory", "1M", "100"),
        ("requests.memory", "1Gi", "1"),
        ("requests.memory", "1Ki", "65536"),
        ("limits.hugepages-2Mi", "1Mi", "4"),
        ("limits.hugepages-1Gi", "0", "0"),
        ("limits.ephemeral-storage", "1M", "1000"),
        ("requests.ephemeral-storage", "0", "0"),
    ],
)
def test_resources(resource: str, divisor: str, expected: str) -> None:
    selector = ResourceFieldSelector("own", resource, divisor)
    assert resource_value(BOTH, None, selector, MACHINE) == expected


def test_without_a_limit_it_is_the_machine() -> None:
    other = BOTH.spec.containers[1]
    assert resource_value(BOTH, other, ResourceFieldSelector(resource="limits.cpu"), MACHINE) == "8"
    memory = ResourceFieldSelector(resource="limits.memory", divisor="1Gi")
    assert resource_value(BOTH, other, memory, MACHINE) == "2"
    assert (
        resource_value(BOTH, other, ResourceFieldSelector(resource="requests.cpu"), MACHINE) == "0"
    )
    named = ResourceFieldSelector("own", "limits.cpu", "1m")
    assert resource_value(BOTH, other, named, MACHINE) == "1500"


def test_a_limit_of_the_pod_stands_in_for_that_of_a_container() -> None:
    pod = resources(limits={})
    pod.spec.resources = ResourceRequirements(limits={"memory": "1Gi"})
    own = pod.spec.containers[0]
    assert resource_value(
        pod, own, ResourceFieldSelector(resource="limits.memory"), MACHINE
    ) == str(1 << 30)
