# SPDX-License-Identifier: GPL-3.0-or-later
"""Init containers, restart rules, deadlines, gates, last words and pull policies in a manifest: rules and defaults."""

from __future__ import annotations

import pytest

from minipod.api import Pod, load_manifests, members
from tests.unit.test_api_manifest import container, problems, spec

APP = "containers: [{name: app, image: b}]\n"


def loaded(text: str) -> Pod:
    return load_manifests(text, "p.yaml")[0].pod


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("restartPolicy: Sometimes", 'restartPolicy: "Sometimes" is not one of Always, OnFailure'),
        (
            "restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [1]}}]",
            "restartPolicy: missing, and required with restartPolicyRules",
        ),
        (
            "restartPolicy: Never\nrestartPolicyRules: [{}]",
            "restartPolicyRules[0].action: missing, and required: Restart",
        ),
        (
            "restartPolicy: Never\nrestartPolicyRules: [{action: Restart}]",
            "restartPolicyRules[0].exitCodes: missing, and required",
        ),
        (
            "restartPolicy: Never\nrestartPolicyRules: [{action: Stop, exitCodes: {}}]",
            '"Stop" is not one of Restart',
        ),
        (
            "restartPolicy: Never\nrestartPolicyRules: [{action: RestartAllContainers}]",
            "RestartAllContainers is known to Kubernetes but not honoured",
        ),
        (
            "restartPolicy: Never\nrestartPolicyRules: [{action: Restart, exitCodes: {}}]",
            "exitCodes.operator: missing, and required: In or NotIn",
        ),
        (
            "restartPolicy: Never\nrestartPolicyRules: "
            "[{action: Restart, exitCodes: {operator: Above, values: [1]}}]",
            '"Above" is not one of In, NotIn',
        ),
        (
            "restartPolicy: Never\nrestartPolicyRules: "
            "[{action: Restart, exitCodes: {operator: In}}]",
            "exitCodes.values: missing, and required: at least one exit code",
        ),
        (
            "restartPolicy: Never\nrestartPolicyRules: "
            "[{action: Restart, exitCodes: {operator: In, values: [1, 2, 1]}}]",
            "exitCodes.values: an exit code is given twice",
        ),
        (
            "restartPolicy: Never\nrestartPolicyRules: "
            f"[{{action: Restart, exitCodes: {{operator: In, values: {list(range(256))}}}}}]",
            "exitCodes.values: 256 are more than 255",
        ),
        (
            "restartPolicy: Never\nrestartPolicyRules: ["
            + "{action: Restart, exitCodes: {operator: In, values: [1]}}, " * 21
            + "]",
            "restartPolicyRules: 21 are more than 20",
        ),
        ("terminationMessagePath: log", 'terminationMessagePath: "log" must be an absolute path'),
        ("terminationMessagePath: /", "must be an absolute path of a file"),
        ("terminationMessagePath: /a/../b", "must be an absolute path of a file, without .."),
        (
            "terminationMessagePath: /proc/x",
            "terminationMessagePath: must not be on or under /proc",
        ),
        (
            "terminationMessagePath: /v/\nvolumeMounts: [{name: v, mountPath: /v}]",
            '"/v/" is the mount path of a volume as well',
        ),
        ("terminationMessagePolicy: Log", '"Log" is not one of File, FallbackToLogsOnError'),
        ("imagePullPolicy: always", '"always" is not one of Always, IfNotPresent, Never'),
    ],
)
def test_rules_of_a_container(text: str, expected: str) -> None:
    volumes = "\n  volumes: [{name: v}]" if "volumeMounts" in text else ""
    assert any(expected in problem for problem in problems(container(text) + volumes)), problems(
        container(text) + volumes
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("activeDeadlineSeconds: 0", "activeDeadlineSeconds: must be between 1 and 2147483647"),
        ("activeDeadlineSeconds: 2147483648", "activeDeadlineSeconds: must be between 1 and"),
        ("readinessGates: [{}]", "readinessGates[0].conditionType: missing, and required"),
        ('readinessGates: [{conditionType: "a b"}]', 'conditionType: the key "a b" is not a'),
        (
            "initContainers: [{name: app, image: b}]",
            'spec.containers[0].name: container name "app" is given twice, first on line',
        ),
        ("initContainers: [{name: i}]", "spec.initContainers[0].image: missing, and required"),
        (
            "initContainers: [{name: i, image: b, livenessProbe: {tcpSocket: {port: 1}}}]",
            "livenessProbe: may not be set for init containers without restartPolicy: Always",
        ),
        (
            "initContainers: [{name: i, image: b, lifecycle: {preStop: {sleep: {seconds: 1}}}}]",
            "lifecycle: may not be set for init containers without restartPolicy: Always",
        ),
    ],
)
def test_rules_of_a_pod(text: str, expected: str) -> None:
    found = problems(spec(f"{text}\n{APP}"))
    assert any(expected in problem for problem in found), found


def test_sidecars_may_have_probes_and_hooks() -> None:
    text = "{name: s, image: b, restartPolicy: Always, startupProbe: {tcpSocket: {port: 1}}}"
    pod = loaded(spec(f"initContainers: [{text}]\n{APP}"))
    assert [(m.name, m.kind, m.is_sidecar, m.path) for m in members(pod)] == [
        ("s", "init", True, "spec.initContainers[0]"),
        ("app", "app", False, "spec.containers[0]"),
    ]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("a", "Always"),
        ("a:latest", "Always"),
        ("host:5000/a", "Always"),
        ("a:1", "IfNotPresent"),
        ("host:5000/a:1", "IfNotPresent"),
        ("a@sha256:" + "0" * 64, "IfNotPresent"),
        ("a:latest@sha256:" + "0" * 64, "Always"),
    ],
)
def test_the_default_pull_policy(image: str, expected: str) -> None:
    pod = loaded(spec(f"containers: [{{name: a, image: '{image}'}}]"))
    assert pod.spec.containers[0].image_pull_policy == expected


def test_what_is_not_given_is_kubernetes_default() -> None:
    text = "terminationMessagePath: ''\nterminationMessagePolicy: ''"
    one = loaded(container(text)).spec.containers[0]
    assert one.termination_message_path == "/dev/termination-log"
    assert one.termination_message_policy == "File"
