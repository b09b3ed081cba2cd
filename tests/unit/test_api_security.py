# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes' rules for security contexts, as far as the manifest alone tells."""

from __future__ import annotations

import json
from typing import Any

import pytest

from minipod.api import AppArmorProfile, ManifestError, load_manifests, sysctls
from minipod.api.capabilities import CAPABILITIES, capability_name


def manifest(shared: Any = None, own: Any = None, annotations: Any = None, **spec: Any) -> bytes:
    container = {"name": "app", "image": "img", "securityContext": own or {}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "annotations": annotations or {}},
        "spec": {"containers": [container], "securityContext": shared or {}, **spec},
    }
    return json.dumps(pod).encode()


def problems(*args: Any, **kwargs: Any) -> list[str]:
    try:
        load_manifests(manifest(*args, **kwargs), "p.json")
    except ManifestError as error:
        return [f"{problem.path}: {problem.message}" for problem in error.problems]
    return []


OWN, SHARED = "spec.containers[0].securityContext", "spec.securityContext"


@pytest.mark.parametrize("field", ["runAsUser", "runAsGroup"])
@pytest.mark.parametrize(
    ("value", "fits"), [(0, True), (2**31 - 1, True), (2**31, False), (-1, False)]
)
def test_ids(field: str, value: int, fits: bool) -> None:
    words = "must be between 0 and 2147483647, inclusive"
    for found, path in (
        (problems({field: value}), SHARED),
        (problems(None, {field: value}), OWN),
    ):
        assert bool(found) is not fits
        assert all(each.startswith(f"{path}.{field}: {words}") for each in found)


@pytest.mark.parametrize(
    ("shared", "words"),
    [
        ({"fsGroup": -1}, f"{SHARED}.fsGroup: must be between"),
        ({"supplementalGroups": [1, -1]}, f"{SHARED}.supplementalGroups[1]: must be between"),
        ({"supplementalGroupsPolicy": "merge"}, f'{SHARED}.supplementalGroupsPolicy: "merge" is'),
        ({"fsGroupChangePolicy": "Never"}, f'{SHARED}.fsGroupChangePolicy: "Never" is not one of'),
        ({"seccompProfile": {}}, f"{SHARED}.seccompProfile.type: missing, and required"),
        ({"seccompProfile": {"type": "Default"}}, f'{SHARED}.seccompProfile.type: "Default" is'),
        (
            {"seccompProfile": {"type": "Localhost"}},
            f"{SHARED}.seccompProfile.localhostProfile: missing, and required when type is Local",
        ),
        (
            {"seccompProfile": {"type": "RuntimeDefault", "localhostProfile": "x"}},
            f"{SHARED}.seccompProfile.localhostProfile: can only be set when type is Localhost",
        ),
        (
            {"seccompProfile": {"type": "Localhost", "localhostProfile": "/x"}},
            'localhostProfile: "/x" must be a relative path',
        ),
        (
            {"seccompProfile": {"type": "Localhost", "localhostProfile": "a/../../x"}},
            "must not contain ..",
        ),
        (
            {"appArmorProfile": {"type": "Localhost"}},
            f"{SHARED}.appArmorProfile.localhostProfile: missing, and required when type is",
        ),
        (
            {"appArmorProfile": {"type": "Localhost", "localhostProfile": " x"}},
            "must not be padded with white space",
        ),
        (
            {"appArmorProfile": {"type": "Unconfined", "localhostProfile": "x"}},
            "can only be set when type is Localhost",
        ),
        ({"sysctls": [{"value": "1"}]}, f"{SHARED}.sysctls[0].name: missing, and required"),
        ({"sysctls": [{"name": "a b", "value": "1"}]}, '"a b" is no name of a sysctl'),
        ({"sysctls": [{"name": "../x", "value": "1"}]}, '"../x" is no name of a sysctl'),
        (
            {"sysctls": [{"name": "net.a", "value": "1"}, {"name": "net/a", "value": "2"}]},
            'sysctl "net.a" is given twice',
        ),
        (
            {"sysctls": [{"name": "net.a", "value": "1\nkernel.core_pattern=|x"}]},
            "has characters that no value of a sysctl has",
        ),
        ({"seLinuxOptions": {"level": "x"}}, "minipod labels nothing for SELinux"),
        ({"seLinuxChangePolicy": "Recursive"}, "minipod labels nothing for SELinux"),
        ({"windowsOptions": {"runAsUserName": "x"}}, "only linux runs here"),
    ],
    ids=str,
)
def test_refused_of_a_pod(shared: Any, words: str) -> None:
    (found,) = problems(shared)
    assert words in found


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"procMount": "unmasked"}, f'{OWN}.procMount: "unmasked" is not one of'),
        ({"procMount": "Unmasked"}, "spec.hostUsers must be false to use Unmasked"),
        (
            {"privileged": True, "allowPrivilegeEscalation": False},
            f"{OWN}.allowPrivilegeEscalation: cannot be false while privileged is true",
        ),
        (
            {"capabilities": {"add": ["CAP_SYS_ADMIN"]}, "allowPrivilegeEscalation": False},
            "cannot be false while capabilities.add has SYS_ADMIN",
        ),
        (
            {"capabilities": {"add": ["NET_ADMN"]}},
            f'{OWN}.capabilities.add[0]: "NET_ADMN" is no capability of Linux, did you mean "NET_ADMIN"?',
        ),
        ({"capabilities": {"drop": ["", "ALL"]}}, f'{OWN}.capabilities.drop[0]: "" is no'),
        ({"seLinuxOptions": {"level": "x"}}, "minipod labels nothing for SELinux"),
        ({"windowsOptions": {"hostProcess": True}}, "only linux runs here"),
    ],
    ids=str,
)
def test_refused_of_a_container(own: Any, words: str) -> None:
    (found,) = problems(None, own)
    assert words in found


@pytest.mark.parametrize(
    ("name", "field"), [("net.ipv4.tcp_syncookies", "hostNetwork"), ("kernel.sem", "hostIPC")]
)
def test_sysctls_of_the_hosts_namespaces(name: str, field: str) -> None:
    shared = {"sysctls": [{"name": name, "value": "1"}]}
    assert problems(shared) == []
    (found,) = problems(shared, **{field: True})
    assert f"may not be set with {field} enabled" in found


@pytest.mark.parametrize("field", ["hostNetwork", "hostPID", "hostIPC"])
def test_what_excludes_a_user_namespace(field: str) -> None:
    (found,) = problems(None, None, hostUsers=False, **{field: True})
    assert found == f"spec.{field}: cannot be true while hostUsers is false"
    assert problems(None, None, hostUsers=True, **{field: True}) == []


def test_unmasked_in_a_user_namespace() -> None:
    assert problems(None, {"procMount": "Unmasked"}, hostUsers=False) == []


# ---- AppArmor's annotations -----------------------------------------------------------------------------------

KEY = "container.apparmor.security.beta.kubernetes.io/"


@pytest.mark.parametrize(
    ("value", "profile"),
    [
        ("runtime/default", AppArmorProfile("RuntimeDefault")),
        ("unconfined", AppArmorProfile("Unconfined")),
        ("localhost/some-thing", AppArmorProfile("Localhost", "some-thing")),
    ],
)
def test_the_annotation_stands_for_the_field(value: str, profile: AppArmorProfile) -> None:
    (document,) = load_manifests(manifest(annotations={f"{KEY}app": value}), "p.json")
    container = document.object.spec.containers[0]  # type: ignore[union-attr]
    assert container.security_context.app_armor_profile == profile


@pytest.mark.parametrize(
    ("name", "value", "own", "words"),
    [
        ("other", "unconfined", {}, "the pod has no such container"),
        ("app", "docker-default", {}, '"docker-default" is not runtime/default, unconfined or'),
        ("app", "unconfined", {"appArmorProfile": {"type": "RuntimeDefault"}}, "contradicts"),
        ("app", "localhost/", {}, "missing, and required when type is Localhost"),
    ],
)
def test_annotations_that_are_wrong(name: str, value: str, own: Any, words: str) -> None:
    (found,) = problems(None, own, {f"{KEY}{name}": value})
    assert words in found


# ---- names ----------------------------------------------------------------------------------------------------


def test_capability_names() -> None:
    assert {capability_name(each) for each in ("NET_RAW", "net_raw", "CAP_NET_RAW")} == {"NET_RAW"}
    assert capability_name("all") == "ALL"
    assert all(capability_name(f"CAP_{name}") == name for name in CAPABILITIES)
    for wrong in ("", "CAP_", "NET", "CAP_CAP_NET_RAW", "NET_RAW "):
        with pytest.raises(ValueError):
            capability_name(wrong)


@pytest.mark.parametrize(
    ("name", "normal", "space"),
    [
        ("net.ipv4.ip_forward", "net.ipv4.ip_forward", "net"),
        ("net/ipv4/conf/eth0.7/x", "net.ipv4.conf.eth0/7.x", "net"),
        ("kernel.shmmax", "kernel.shmmax", "ipc"),
        ("kernel/msgmax", "kernel.msgmax", "ipc"),
        ("kernel.sem", "kernel.sem", "ipc"),
        ("fs.mqueue.msg_max", "fs.mqueue.msg_max", "ipc"),
        ("kernel.hostname", "kernel.hostname", ""),
        ("vm.swappiness", "vm.swappiness", ""),
        ("network", "network", ""),
    ],
)
def test_namespaces_of_sysctls(name: str, normal: str, space: str) -> None:
    assert (sysctls.normal_name(name), sysctls.namespace(name)) == (normal, space)


def test_which_sysctls_are_allowed() -> None:
    assert all(sysctls.is_allowed(name, ()) for name in sysctls.SAFE)
    assert sysctls.is_allowed("net/ipv4/tcp_syncookies", ())
    assert not sysctls.is_allowed("net.core.somaxconn", ())
    assert sysctls.is_allowed("net.core.somaxconn", ("net.core.*",))
    assert sysctls.is_allowed("net.core.somaxconn", ("net/core/somaxconn",))
    assert not sysctls.is_allowed("net.core.somaxconn", ("net.core.som",))
    assert not sysctls.is_allowed("vm.swappiness", ("*",)), "the whole machine's"
