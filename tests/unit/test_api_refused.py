# SPDX-License-Identifier: GPL-3.0-or-later
"""What a manifest is refused for, one mistake at a time: the line, the path, the words."""

from __future__ import annotations

import pytest

from tests.unit.test_api_manifest import HEAD, container, problems, spec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1]", "1: expected an object with apiVersion and kind, got a list"),
        ("hello", '1: expected an object with apiVersion and kind, got the string "hello"'),
        ("kind: Deployment", "1: kind: Deployment is known to Kubernetes but not honoured by"),
        ("kind: pod", '1: kind: unknown kind "pod", did you mean "Pod"?'),
        ("kind: Frob", '1: kind: unknown kind "Frob", minipod knows Pod, ConfigMap, Secret'),
        (
            spec("").replace("v1", "v2"),
            '1: apiVersion: a Pod has apiVersion v1, not "v2"',
        ),
        (spec("").replace("v1", "1"), "1: apiVersion: expected a string, got the number 1"),
        (spec("").replace("apiVersion: v1\n", ""), "1: apiVersion: missing, and required: v1"),
        (spec("").replace("kind: Pod\n", ""), "1: kind: missing, and required"),
        (spec("").replace("kind: Pod", "kind: [Pod]"), "2: kind: expected a string, got a list"),
        (spec("").replace("{name: p}", "5"), "3: metadata: expected a mapping, got the number 5"),
        (spec("").replace("{name: p}", ""), "3: metadata.name: missing, and required"),
        (
            spec("").replace("{name: p}", "{nam: p}"),
            '3: metadata.nam: unknown field, did you mean "name"?',
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}",
            "1: spec.containers: missing, and required",
        ),
        (HEAD + "  containers: []", "5: spec.containers: missing, and required"),
        (
            HEAD + "  containers: {}",
            "5: spec.containers: expected a list of mappings, got a mapping",
        ),
        (HEAD + "  containers: [5]", "5: spec.containers[0]: expected a mapping, got the number 5"),
        (HEAD + "  containers:\n  -\n", "6: spec.containers[0]: expected a mapping, got null"),
        (
            HEAD + "  containers:\n\n  - image: b",
            "7: spec.containers[0].name: missing, and required",
        ),
        (
            HEAD + "  containers:\n\n  - name: a",
            "7: spec.containers[0].image: missing, and required",
        ),
        (spec("").replace("name: p", "name: P_"), '3: metadata.name: "P_" is not a DNS name'),
        (spec("").replace("name: p", f"name: {'p' * 254}"), "has 254 characters, the limit is 253"),
        (spec("").replace("name: p", "name: a..b"), '3: metadata.name: "a..b" is not a DNS name'),
        (
            spec("").replace("name: p", "generateName: -"),
            '3: metadata.generateName: "" is not a DNS',
        ),
        (
            spec("").replace("name: p", "name: p, namespace: a.b"),
            '3: metadata.namespace: "a.b" is not a DNS label',
        ),
        (
            spec("").replace("name: p", "name: p, labels: {a b: c}"),
            "3: metadata.labels[a b]: the key",
        ),
        (spec("").replace("name: p", "name: p, labels: {A_/b: c}"), "the key's prefix"),
        (spec("").replace("name: p", "name: p, labels: {a/b/c: c}"), "the key's prefix"),
        (
            spec("").replace("name: p", "name: p, labels: {a: b c}"),
            '3: metadata.labels.a: the value "b c"',
        ),
        (spec("").replace("name: p", f"name: p, labels: {{a: {'x' * 64}}}"), "has 64 characters"),
        (
            spec("").replace("name: p", "name: p, labels: {a: 1}"),
            "3: metadata.labels.a: expected a string, got the number 1: put it in quotes",
        ),
        (
            spec("").replace("name: p", "name: p, annotations: {a b: c}"),
            "3: metadata.annotations[a b]: the key",
        ),
        (
            spec("").replace("name: p", f"name: p, annotations: {{a: {'x' * 262144}}}"),
            "3: metadata.annotations: the annotations have 262145 bytes together",
        ),
        (spec("Hostname: a"), '5: spec.Hostname: unknown field, did you mean "hostname"?'),
        (spec("image: a"), "5: spec.image: unknown field, it belongs to spec.containers[]"),
        (spec("\nzzz: a"), "6: spec.zzz: unknown field"),
        (
            spec("restartPolicy: always"),
            '5: spec.restartPolicy: "always" is not one of Always, OnFailure',
        ),
        (
            spec("restartPolicy: no"),
            "5: spec.restartPolicy: expected a string, got the boolean false",
        ),
        (
            spec("terminationGracePeriodSeconds: -1"),
            "5: spec.terminationGracePeriodSeconds: must be 0",
        ),
        (
            spec("terminationGracePeriodSeconds: '5'"),
            'expected an integer, got the string "5": remove the quotes',
        ),
        (spec("terminationGracePeriodSeconds: 1.5"), "expected an integer, got the number 1.5"),
        (
            spec("terminationGracePeriodSeconds: 9223372036854775808"),
            "expected an integer, got the",
        ),
        (spec("terminationGracePeriodSeconds: .inf"), "expected an integer, got the number inf"),
        (spec("terminationGracePeriodSeconds: .nan"), "expected an integer, got the number nan"),
        (spec("terminationGracePeriodSeconds: yes"), "expected an integer, got the boolean true"),
        (
            spec("hostNetwork: 'true'"),
            'expected true or false, got the string "true": remove the quotes',
        ),
        (spec("hostNetwork: 1"), "5: spec.hostNetwork: expected true or false, got the number 1"),
        (spec("hostname: a.b"), '5: spec.hostname: "a.b" is not a DNS label'),
        (spec('hostname: "a\\nb"'), '5: spec.hostname: "a\\nb" is not a DNS label'),
        (spec('hostname: "a\\n"'), '5: spec.hostname: "a\\n" is not a DNS label'),
        (spec(f"hostname: {'a' * 64}"), "5: spec.hostname"),
        (
            spec("hostPID: true\nshareProcessNamespace: true"),
            "6: spec.shareProcessNamespace: excludes",
        ),
        (
            spec("containers:\n- {name: a, image: b}\n- {name: a, image: b}"),
            '7: spec.containers[1].name: container name "a" is given twice, first on line 6',
        ),
        (
            spec("volumes: [{name: v}]\nvolumes: [{name: v}]"),
            '6: spec.volumes: key "volumes" is given twice',
        ),
        (
            spec("volumes:\n- {name: v}\n- {name: v}"),
            '7: spec.volumes[1].name: volume name "v" is given twice, first on line 6',
        ),
        (spec("volumes: [{}]"), "5: spec.volumes[0].name: missing, and required"),
        (spec("volumes: [{name: V}]"), '5: spec.volumes[0].name: "V" is not a DNS label'),
        (
            spec("volumes: [{name: v, emptyDir: {}, hostPath: {path: /}}]"),
            "5: spec.volumes[0]: has more than one source",
        ),
        (
            spec("volumes: [{name: v, hostPath: {}}]"),
            "5: spec.volumes[0].hostPath.path: missing, and",
        ),
        (spec("volumes: [{name: v, hostPath: {path: a}}]"), '"a" must be an absolute path'),
        (spec("volumes: [{name: v, hostPath: {path: /a/../b}}]"), '"/a/../b" must not contain ..'),
        (
            spec("volumes: [{name: v, hostPath: {path: /a, type: Dir}}]"),
            '"Dir" is not one of Directory',
        ),
        (spec("volumes: [{name: v, emptyDir: {medium: memory}}]"), '"memory" is not one of Memory'),
        (
            spec("volumes: [{name: v, emptyDir: {medium: HugePages-big}}]"),
            '"HugePages-big" has no size of a page',
        ),
        (
            spec("volumes: [{name: v, emptyDir: {medium: HugePages-2Mi}}]"),
            "5: spec.volumes[0].emptyDir.medium: no container asks for huge pages of 2Mi",
        ),
        (
            spec("volumes: [{name: v, emptyDir: {mode: 02000}}]"),
            "5: spec.volumes[0].emptyDir.mode: must be 0 to 01777, not 1024 (02000)",
        ),
        (
            spec("volumes: [{name: v, emptyDir: {medium: Memory, sizeLimit: -1}}]"),
            "5: spec.volumes[0].emptyDir.sizeLimit: must be 0 or more",
        ),
        (
            spec("volumes: [{name: v, emptyDir: {medium: Memory, sizeLimit: big}}]"),
            "5: spec.volumes[0].emptyDir.sizeLimit: 'big' is not a quantity",
        ),
        (
            spec("volumes: [{name: v, csi: {driver: c}}]"),
            "5: spec.volumes[0].csi: known to Kubernetes but not honoured by minipod 0.1: mount it on",
        ),
    ],
)
def test_refused(text: str, expected: str) -> None:
    (found,) = [each for each in problems(text) if expected in each]
    if expected[0].isdigit():
        assert found.startswith(f"pod.yaml:{expected}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image: ' b'", '7: spec.containers[0].image: " b" must not contain white space'),
        ("image: 'b c'", "must not contain white space"),
        ('image: "b\\u200b"', "must not contain white space or control characters"),
        (
            "imagePullPolicy: never",
            '"never" is not one of Always, IfNotPresent, Never, did you mean "Never"?',
        ),
        (
            "command: [sh, 1]",
            "7: spec.containers[0].command[1]: expected a string, got the number 1",
        ),
        (
            "command: [sh, yes]",
            "7: spec.containers[0].command[1]: expected a string, got the boolean",
        ),
        ("command:\n- sh\n-", "9: spec.containers[0].command[1]: expected a string, got null"),
        ("args: {a: b}", "7: spec.containers[0].args: expected a list of strings, got a mapping"),
        ('args: ["a\\0b"]', "7: spec.containers[0].args[0]: has a NUL byte"),
        ("workingDir: srv", '7: spec.containers[0].workingDir: "srv" must be an absolute path'),
        (
            "workingDir: /proc/self/fd/7",
            "7: spec.containers[0].workingDir: must not be on or under",
        ),
        (
            "workingDir: //proc/./",
            "7: spec.containers[0].workingDir: must not be on or under /proc",
        ),
        (
            "workingDir: /a/../proc/1",
            "7: spec.containers[0].workingDir: must not be on or under /proc",
        ),
        ("env: {A: b}", "7: spec.containers[0].env: expected a list of mappings, got a mapping"),
        ("env: [{name: A, value: 1}]", "expected a string, got the number 1: put it in quotes"),
        ('env: [{name: A, value: "a\\0b"}]', "7: spec.containers[0].env[0].value: has a NUL byte"),
        ("env: [{name: A=B}]", '7: spec.containers[0].env[0].name: "A=B" is not a variable name'),
        ("env: [{name: é}]", "is not a variable name"),
        ('env: [{name: "A\\n"}]', '"A\\n" is not a variable name'),
        ("env: [{value: x}]", "7: spec.containers[0].env[0].name: missing, and required"),
        (
            "env: [{name: A, valueFrom: {}}]",
            "7: spec.containers[0].env[0].valueFrom: must specify one",
        ),
        (
            "env: [{name: A, value: x, valueFrom: {configMapKeyRef: {name: c, key: k}}}]",
            "env[0].valueFrom: may not be specified when `value` is not empty",
        ),
        (
            "env: [{name: A, valueFrom: {configMapKeyRef: {name: c, key: k}, fieldRef: {fieldPath: metadata.name}}}]",
            "env[0].valueFrom: may not have more than one field specified at a time",
        ),
        (
            "env: [{name: A, valueFrom: {configMapKeyRef: {key: k}}}]",
            "env[0].valueFrom.configMapKeyRef.name: missing, and required",
        ),
        (
            "env: [{name: A, valueFrom: {secretKeyRef: {name: S_, key: k}}}]",
            'env[0].valueFrom.secretKeyRef.name: "S_" is not a DNS name',
        ),
        (
            "env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: a/b}}}]",
            "env[0].valueFrom.secretKeyRef.key: the key",
        ),
        (
            "env: [{name: A, valueFrom: {secretKeyRef: {name: s}}}]",
            "env[0].valueFrom.secretKeyRef.key: missing, and required",
        ),
        (
            "env: [{name: A, valueFrom: {fieldRef: {}}}]",
            "env[0].valueFrom.fieldRef.fieldPath: missing, and required",
        ),
        (
            "env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.labels}}}]",
            'fieldRef.fieldPath: "metadata.labels" is not one of metadata.name',
        ),
        (
            "env: [{name: A, valueFrom: {fieldRef: {fieldPath: status.podip}}}]",
            ', did you mean "status.podIP"?',
        ),
        (
            "env: [{name: A, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['a b']\"}}}]",
            "fieldRef.fieldPath: the key",
        ),
        (
            "env: [{name: A, valueFrom: {fieldRef: {apiVersion: v2, fieldPath: metadata.name}}}]",
            'fieldRef.apiVersion: "v2" is not known, write v1',
        ),
        (
            "env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.gpu}}}]",
            'resourceFieldRef.resource: "limits.gpu" is not one of limits.cpu',
        ),
        (
            "env: [{name: A, valueFrom: {resourceFieldRef: {}}}]",
            "resourceFieldRef.resource: missing, and required",
        ),
        (
            "env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1Mi}}}]",
            'resourceFieldRef.divisor: "1Mi" is not one of 1, 1m',
        ),
        (
            "env: [{name: A, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1m}}}]",
            'resourceFieldRef.divisor: "1m" is not one of 1, 1k, 1M',
        ),
        (
            "env: [{name: A, valueFrom: {resourceFieldRef: {containerName: x, resource: limits.cpu}}}]",
            'resourceFieldRef.containerName: "x" names no container of the pod',
        ),
        (
            "env: [{name: A, valueFrom: {fileKeyRef: {volumeName: x, path: f, key: k}}}]",
            'fileKeyRef.volumeName: "x" names no volume of the pod',
        ),
        (
            "env: [{name: A, valueFrom: {fileKeyRef: {volumeName: x, path: /f, key: k}}}]",
            "fileKeyRef.path: must be a relative path",
        ),
        (
            "env: [{name: A, valueFrom: {fileKeyRef: {volumeName: x, path: a/../f, key: k}}}]",
            "fileKeyRef.path: must not contain ..",
        ),
        (
            f"env: [{{name: A, valueFrom: {{fileKeyRef: {{volumeName: x, path: f, key: {'k' * 129}}}}}}}]",
            "fileKeyRef.key: has 129 characters, the limit is 128",
        ),
        ("envFrom: [{}]", "envFrom[0]: must specify one of: `configMapRef` or `secretRef`"),
        (
            "envFrom: [{configMapRef: {name: c}, secretRef: {name: c}}]",
            "envFrom[0]: may not have more than one field specified at a time",
        ),
        ("envFrom: [{configMapRef: {}}]", "envFrom[0].configMapRef.name: missing, and required"),
        (
            "envFrom: [{prefix: a=b, configMapRef: {name: c}}]",
            'envFrom[0].prefix: "a=b" is not a variable name',
        ),
        (
            "ports: [{}]",
            "7: spec.containers[0].ports[0].containerPort: missing, and required: 1 to",
        ),
        ("ports: [{containerPort: 65536}]", "containerPort: must be 1 to 65535, not 65536"),
        ("ports: [{containerPort: -1}]", "containerPort: must be 1 to 65535, not -1"),
        (
            "ports: [{containerPort: '80'}]",
            'expected an integer, got the string "80": remove the quotes',
        ),
        ("ports: [{containerport: 80}]", 'unknown field, did you mean "containerPort"?'),
        ("ports: [{containerPort: 80, protocol: tcp}]", '"tcp" is not one of TCP, UDP, SCTP'),
        ("ports: [{containerPort: 80, name: Http}]", '"Http" is not a port name'),
        ("ports: [{containerPort: 80, name: a--b}]", '"a--b" is not a port name'),
        ("ports: [{containerPort: 80, name: '80'}]", '"80" is not a port name'),
        (
            "ports: [{containerPort: 80, name: a234567890123456}]",
            "has 16 characters, the limit is 15",
        ),
        (
            "ports:\n- {containerPort: 1, name: a}\n- {containerPort: 2, name: a}",
            '9: spec.containers[0].ports[1].name: port name "a" is given twice, first on line 8',
        ),
        ("resources: {limits: {cpu: fast}}", "'fast' is not a quantity"),
        (
            "resources: {limits: {cpu: yes}}",
            "expected a quantity like 500m or 64Mi, got the boolean",
        ),
        ("resources: {limits: {cpu: }}", "expected a quantity like 500m or 64Mi, got null"),
        ("resources: {limits: {cpu: -1}}", "7: spec.containers[0].resources.limits.cpu: must be 0"),
        ("resources: {limits: {cpu: .inf}}", "'inf' is not a quantity"),
        ("resources: {limits: [cpu]}", "expected a mapping of quantities, got a list"),
        ("resources: {limits: {memory: 64MB}}", "write M, without the B"),
        ("resources: {limits: {mem: 1}}", 'unknown resource "mem": known are cpu, memory'),
        ("resources: {limits: {memry: 1}}", 'unknown resource "memry", did you mean "memory"?'),
        ("resources: {limits: {nvidia.com/gpu: 1}}", "limits[nvidia.com/gpu]: known to Kubernetes"),
        ("resources: {limits: {pids: 0}}", "limits.pids: must be a whole number, 1 to 4194304"),
        ("resources: {limits: {pids: 1.5}}", "limits.pids: must be a whole number, 1 to 4194304"),
        ("resources: {requests: {pids: 5}}", "requests.pids: pids can be limited, not requested"),
        (
            "resources:\n  requests: {cpu: 2}\n  limits: {cpu: 1500m}",
            "8: spec.containers[0].resources.requests.cpu: 2 is above the limit of 1500m",
        ),
        ("volumeMounts: [{mountPath: /a}]", "7: spec.containers[0].volumeMounts[0].name: missing"),
        ("volumeMounts: [{name: v}]", "7: spec.containers[0].volumeMounts[0].mountPath: missing"),
        ("volumeMounts: [{name: v, mountPath: /a}]", '"v" names no volume of the pod'),
        ("volumeMounts: [{name: v, mountPath: a}]", '"a" must be an absolute path'),
        ("volumeMounts: [{name: v, mountPath: '/a:b'}]", '"/a:b" must not contain a colon'),
        ("volumeMounts: [{name: v, mountPath: /a/../b}]", '"/a/../b" must not contain ..'),
        ("volumeMounts: [{name: v, mountPath: //}]", "must not be the root of the container"),
        ("volumeMounts: [{name: v, mountPath: /proc}]", "mountPath: must not be on or under /proc"),
        (
            "volumeMounts: [{name: v, mountPath: //proc/./sys}]",
            "mountPath: must not be on or under /proc",
        ),
        (
            "volumeMounts:\n- {name: v, mountPath: /a}\n- {name: v, mountPath: /a/}",
            '9: spec.containers[0].volumeMounts[1].mountPath: mount path "/a" is given twice',
        ),
        (
            "volumeMounts: [{name: v, mountPath: /a, subPath: /x}]",
            '7: spec.containers[0].volumeMounts[0].subPath: "/x" must be a relative path',
        ),
        (
            "volumeMounts: [{name: v, mountPath: /a, subPathExpr: x/../../y}]",
            'volumeMounts[0].subPathExpr: "x/../../y" must not contain ..',
        ),
        (
            "volumeMounts: [{name: v, mountPath: /a, subPath: x, subPathExpr: z}]",
            "volumeMounts[0].subPathExpr: subPath and subPathExpr exclude each other",
        ),
        (
            "volumeMounts: [{name: v, mountPath: /a, mountPropagation: Both}]",
            '"Both" is not one of None, HostToContainer, Bidirectional',
        ),
        (
            "volumeMounts: [{name: v, mountPath: /a, mountPropagation: Bidirectional}]",
            "mountPropagation: Bidirectional is for privileged containers only",
        ),
        (
            "volumeMounts: [{name: v, mountPath: /a, recursiveReadOnly: Maybe}]",
            '"Maybe" is not one of Disabled, IfPossible, Enabled',
        ),
        (
            "volumeMounts: [{name: v, mountPath: /a, recursiveReadOnly: Enabled}]",
            "recursiveReadOnly: Enabled needs readOnly: true",
        ),
        (
            "volumeMounts: [{name: v, mountPath: /a, readOnly: true, recursiveReadOnly: IfPossible, "
            "mountPropagation: HostToContainer}]",
            "recursiveReadOnly: IfPossible needs mountPropagation: None",
        ),
        (
            "volumeMounts: [{name: v, mountPath: /a, bindMountOptions: [noatime]}]",
            'bindMountOptions[0]: "noatime" is not one of noexec, nodev, nosuid',
        ),
        (
            "volumeMounts: [{name: v, mountPath: /a, bindMountOptions: [noexec, noexec]}]",
            'bindMountOptions[1]: option "noexec" is given twice',
        ),
        ("tty: 1", "7: spec.containers[0].tty: expected true or false, got the number 1"),
        ("securityContext: {priviledged: true}", 'unknown field, did you mean "privileged"?'),
    ],
)
def test_refused_in_a_container(text: str, expected: str) -> None:
    (found,) = [each for each in problems(container(text)) if expected in each]
    if expected[0].isdigit():
        assert found.startswith(f"pod.yaml:{expected}")
