# SPDX-License-Identifier: GPL-3.0-or-later
"""The structs: names, defaults, to and from dicts; the QoS class."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from minipod.api import (
    Container,
    ContainerPort,
    ContainerState,
    ContainerStateTerminated,
    ContainerStatus,
    EmptyDirVolumeSource,
    EnvVar,
    Event,
    HostIP,
    ObjectMeta,
    ObjectReference,
    Pod,
    PodCondition,
    PodIP,
    PodSpec,
    PodStatus,
    ResourceRequirements,
    Volume,
    default_container,
    defaulted,
    from_dict,
    qos_class,
    to_dict,
)


def test_an_empty_pod_shows_what_kubernetes_shows() -> None:
    assert to_dict(Pod()) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "spec": {
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
        },
    }


def test_names_are_those_of_kubernetes() -> None:
    pod = Pod(
        metadata=ObjectMeta(name="p", uid="u", generate_name="p-", resource_version="7"),
        spec=PodSpec(
            containers=[Container(name="a", image="b", ports=[ContainerPort(container_port=80)])],
            volumes=[Volume(name="v", empty_dir=EmptyDirVolumeSource())],
            host_pid=True,
            host_ipc=True,
        ),
        status=PodStatus(
            phase="Running",
            host_ip="10.0.0.1",
            host_ips=[HostIP(ip="10.0.0.1")],
            pod_ip="10.0.0.2",
            pod_ips=[PodIP(ip="10.0.0.2")],
            qos_class="BestEffort",
            conditions=[PodCondition(type="Ready", status="False")],
            container_statuses=[
                ContainerStatus(
                    name="a",
                    image_id="sha256:1",
                    container_id="minipod://1",
                    last_state=ContainerState(terminated=ContainerStateTerminated(exit_code=137)),
                )
            ],
        ),
    )
    data = to_dict(pod)
    assert data["metadata"] == {
        "name": "p",
        "uid": "u",
        "generateName": "p-",
        "resourceVersion": "7",
    }
    assert data["spec"]["volumes"] == [{"name": "v", "emptyDir": {}}]
    assert data["spec"]["hostPID"] is True
    assert data["spec"]["hostIPC"] is True
    assert data["spec"]["containers"] == [
        {
            "name": "a",
            "image": "b",
            "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        }
    ]
    assert data["status"] == {
        "phase": "Running",
        "hostIP": "10.0.0.1",
        "hostIPs": [{"ip": "10.0.0.1"}],
        "podIP": "10.0.0.2",
        "podIPs": [{"ip": "10.0.0.2"}],
        "qosClass": "BestEffort",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [
            {
                "name": "a",
                "imageID": "sha256:1",
                "containerID": "minipod://1",
                "lastState": {"terminated": {"exitCode": 137}},
                "ready": False,
                "restartCount": 0,
            }
        ],
    }
    assert from_dict(data, Pod) == pod


def test_labels_named_like_structs_stay() -> None:
    pod = Pod(metadata=ObjectMeta(labels={"status": "", "spec": "x"}))
    assert from_dict(to_dict(pod), Pod) == pod


def test_events() -> None:
    event = Event(
        metadata=ObjectMeta(name="p.1"),
        involved_object=ObjectReference(kind="Pod", name="p", field_path="spec.containers{a}"),
        reason="Started",
    )
    data = to_dict(event)
    assert data["involvedObject"] == {
        "kind": "Pod",
        "name": "p",
        "fieldPath": "spec.containers{a}",
    }
    assert (data["kind"], data["type"], data["count"]) == ("Event", "Normal", 1)
    assert from_dict(data, Event) == event


def test_from_dict_checks_types() -> None:
    with pytest.raises(msgspec.ValidationError):
        from_dict({"spec": {"containers": 5}}, Pod)


def test_two_objects_share_no_defaults() -> None:
    one, two = Pod(), Pod()
    one.metadata.labels["a"] = "b"
    one.spec.containers.append(Container(env=[EnvVar("A", "b")]))
    assert two == Pod()


BOTH = {"cpu": "1", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        ([({}, {})], "BestEffort"),
        ([({"cpu": "0"}, {"memory": "0"})], "BestEffort"),
        ([({"pids": "5"}, {})], "BestEffort"),
        ([({}, {}), ({}, {})], "BestEffort"),
        ([(BOTH, BOTH)], "Guaranteed"),
        ([(BOTH, {})], "Guaranteed"),
        ([(BOTH, {"cpu": "1000m", "memory": "1024Mi"})], "Guaranteed"),
        ([(BOTH, {"cpu": "500m"})], "Burstable"),
        ([({}, BOTH)], "Burstable"),
        ([({"cpu": "1"}, {})], "Burstable"),
        ([({"cpu": "1", "memory": "0"}, {})], "Burstable"),
        ([(BOTH, {}), ({}, {})], "Burstable"),
        ([(BOTH, {}), (BOTH, {})], "Guaranteed"),
        ([], "BestEffort"),
    ],
)
def test_qos_class(containers: list[tuple[Any, Any]], expected: str) -> None:
    made = [
        Container(resources=ResourceRequirements(dict(limits), dict(requests)))
        for limits, requests in containers
    ]
    assert qos_class(Pod(spec=PodSpec(containers=made))) == expected


def test_which_container_is_meant_when_none_is_named() -> None:
    pod = Pod(spec=PodSpec(containers=[Container(name="a")]))
    assert defaulted(pod) == ""
    pod.spec.init_containers = [Container(name="i")]
    pod.spec.containers.append(Container(name="b"))
    assert defaulted(pod) == 'Defaulted container "a" out of: a, b, i (init)'
    pod.metadata.annotations["kubectl.kubernetes.io/default-container"] = "b"
    assert (default_container(pod), defaulted(pod)) == ("b", "")
