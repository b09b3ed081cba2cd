# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a container runs as, what a machine does not admit, and what its AppArmor gives."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from minipod.api import (
    AppArmorProfile,
    Container,
    NFSVolumeSource,
    Pod,
    PodSecurityContext,
    SecurityContext,
    Sysctl,
    Volume,
)
from minipod.config import Config
from minipod.errors import MinipodError
from minipod.images import Image, ImageConfig
from minipod.plan.context import Device
from minipod.pods import admission, credentials
from minipod.pods.errors import ConfigError
from minipod.runtime import apparmor
from minipod.runtime.facts import shortcomings
from minipod.runtime.hostdevices import host_devices
from tests.unit.test_plan_checker import UID, V2, pod
from tests.unit.test_pods_worker import IMAGE

ASKED: list[str] = []


@pytest.fixture(autouse=True)
def users(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image knows root, and 1000 of group 1001, who is in the groups 20 and 30, too."""
    ASKED.clear()

    def resolve(image: Image, user: str) -> Any:
        ASKED.append(user)
        name, _, group = user.partition(":")
        uid = {"": 0, "root": 0, "someone": 1000}.get(name)
        uid = int(name) if uid is None else uid
        gid = int(group) if group else (1001 if uid == 1000 else 0)
        groups = (20, 30) if uid == 1000 else ()
        return SimpleNamespace(uid=uid, gid=gid, groups=groups, home=f"/home/{uid}")

    monkeypatch.setattr(credentials, "resolve_user", resolve)


def who(user: str, own: SecurityContext, shared: PodSecurityContext, **spec: Any) -> Any:
    of = pod(Container(name="app", security_context=own), security_context=shared, **spec)
    made = Image(
        **{
            **{f: getattr(IMAGE, f) for f in IMAGE.__dataclass_fields__},
            "config": ImageConfig(user=user),
        }
    )
    return credentials.credentials(of, of.spec.containers[0], made)


@pytest.mark.parametrize(
    ("user", "own", "shared", "asked", "groups"),
    [
        ("", {}, {}, "", (0,)),
        ("someone", {}, {}, "someone", (1001, 20, 30)),
        ("someone:7", {}, {}, "someone:7", (7, 20, 30)),
        # A user of the manifest's takes nothing from the image's, not even its group.
        ("someone:7", {}, {"run_as_user": 5}, "5", (0,)),
        ("5", {"run_as_user": 1000}, {}, "1000", (1001, 20, 30)),
        ("", {}, {"run_as_group": 8}, "0:8", (8,)),
        ("someone", {"run_as_group": 8}, {"run_as_group": 9}, "someone:8", (8, 20, 30)),
        (
            "someone",
            {},
            {"fs_group": 25, "supplemental_groups": [40, 20]},
            "someone",
            (1001, 20, 25, 30, 40),
        ),
        (
            "someone",
            {},
            {"supplemental_groups_policy": "Strict", "fs_group": 25},
            "someone",
            (1001, 25),
        ),
    ],
)
def test_credentials(user: str, own: Any, shared: Any, asked: str, groups: tuple[int, ...]) -> None:
    found = who(user, SecurityContext(**own), PodSecurityContext(**shared))
    assert [asked] == ASKED
    assert found.groups == groups
    assert found.gid == groups[0]


@pytest.mark.parametrize(
    ("user", "run_as_user", "words"),
    [
        ("", None, "container has runAsNonRoot and image will run as root"),
        ("0", None, "container has runAsNonRoot and image will run as root"),
        (
            "root",
            None,
            "container has runAsNonRoot and image has non-numeric user (root), cannot verify",
        ),
        (
            "someone",
            None,
            "container has runAsNonRoot and image has non-numeric user (someone), cannot",
        ),
        ("someone", 0, "container's runAsUser breaks non-root policy"),
    ],
)
def test_non_root(user: str, run_as_user: int | None, words: str) -> None:
    shared = PodSecurityContext(run_as_non_root=True, run_as_user=run_as_user)
    with pytest.raises(ConfigError) as caught:
        who(user, SecurityContext(), shared)
    assert caught.value.what.startswith(words)
    assert caught.value.what.endswith(f'(pod: "web_default({UID})", container: app)')
    assert caught.value.waiting == "CreateContainerConfigError"
    who(user, SecurityContext(run_as_non_root=False), shared)
    who(user, SecurityContext(run_as_user=7), shared)


def test_ids_of_a_user_namespace() -> None:
    who("65535", SecurityContext(), PodSecurityContext(), host_users=False)
    for own in (SecurityContext(run_as_user=65536), SecurityContext(run_as_group=65536)):
        with pytest.raises(ConfigError, match="id 65536 does not exist"):
            who("", own, PodSecurityContext(), host_users=False)
    with pytest.raises(ConfigError, match="id 70000 does not exist"):
        who("", SecurityContext(), PodSecurityContext(fs_group=70000), host_users=False)


# ---- what is not admitted -------------------------------------------------------------------------------------


def refused(of: Pod, **config: str) -> list[str]:
    return [f"{path}: {error.what}" for path, error in admission.refusals(of, Config(**config))]


def test_sysctls() -> None:
    names = ("net.ipv4.tcp_syncookies", "net.core.somaxconn", "vm.swappiness")
    of = pod(security_context=PodSecurityContext(sysctls=[Sysctl(name, "1") for name in names]))
    words = 'SysctlForbidden: forbidden sysctl: "{}" not allowlisted'
    path = "spec.securityContext.sysctls[{}].name: "
    both = [path.format(i) + words.format(names[i]) for i in (1, 2)]
    assert refused(of) == both
    assert refused(of, allowed_unsafe_sysctls="net.core.*, vm.*") == both[1:]


def test_apparmor_on_a_machine_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apparmor, "enabled", lambda: False)
    for kind in ("RuntimeDefault", "Localhost"):
        profile = AppArmorProfile(kind, "x" if kind == "Localhost" else None)
        shared = pod(security_context=PodSecurityContext(app_armor_profile=profile))
        words = "securityContext.appArmorProfile: AppArmor: Cannot enforce AppArmor: AppArmor is"
        assert [each.startswith(f"spec.{words}") for each in refused(shared)] == [True]
        own = pod(
            Container(name="app", security_context=SecurityContext(app_armor_profile=profile))
        )
        assert [each.startswith(f"spec.containers[0].{words}") for each in refused(own)] == [True]
        with pytest.raises(MinipodError, match="not enabled"):
            apparmor.profile_of(SecurityContext(app_armor_profile=profile))
    none = PodSecurityContext(app_armor_profile=AppArmorProfile("Unconfined"))
    assert refused(pod(security_context=none)) == []


def test_network_volumes_in_a_user_namespace() -> None:
    volumes = [Volume("v", nfs=NFSVolumeSource("server", "/path"))]
    assert refused(pod(volumes=volumes)) == []
    (found,) = refused(pod(volumes=volumes, host_users=False))
    assert found.startswith("spec.volumes[0].nfs: nfs has no idmapped mounts")


# ---- AppArmor -------------------------------------------------------------------------------------------------


@pytest.fixture
def armored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with AppArmor, on which one profile is loaded; returns what lists them."""
    loaded = tmp_path / "profiles"
    loaded.write_text("my (odd) one (enforce)\nother (complain)\n")
    (tmp_path / "enabled").write_text("Y\n")
    monkeypatch.setattr(apparmor, "_PROFILES", loaded)
    monkeypatch.setattr(apparmor, "_ENABLED", tmp_path / "enabled")
    return loaded


def profile(kind: str, name: str | None = None, **more: Any) -> str:
    return apparmor.profile_of(
        SecurityContext(app_armor_profile=AppArmorProfile(kind, name), **more)
    )


def test_profiles(armored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert profile("Unconfined") == "unconfined"
    assert profile("Localhost", "my (odd) one") == "my (odd) one"
    assert profile("RuntimeDefault", privileged=True) == ""
    with pytest.raises(MinipodError, match="apparmor profile not found: my is not loaded"):
        profile("Localhost", "my")
    loads: list[None] = []
    monkeypatch.setattr(apparmor, "_load_default", lambda: loads.append(None))
    assert profile("RuntimeDefault") == "minipod-default"
    armored.write_text("minipod-default (enforce)\n")
    assert profile("RuntimeDefault") == "minipod-default"
    assert len(loads) == 1, "once is enough"


@pytest.mark.parametrize("parser", ["/sbin/apparmor_parser", None])
def test_who_does_not_say_has_the_default_profile(
    armored: Path, monkeypatch: pytest.MonkeyPatch, parser: str | None
) -> None:
    armored.write_text("minipod-default (enforce)\n")
    monkeypatch.setattr("shutil.which", lambda name, path: parser)
    assert apparmor.profile_of(SecurityContext()) == ("minipod-default" if parser else "")
    assert apparmor.profile_of(SecurityContext(privileged=True)) == ""
    assert profile("RuntimeDefault") == "minipod-default"
    assert ("apparmor" in shortcomings(V2)) is not bool(parser)
    (armored.parent / "enabled").write_text("N\n")
    assert apparmor.profile_of(SecurityContext()) == ""
    assert "apparmor" not in shortcomings(V2)


def test_a_list_that_cannot_be_read_is_an_error(armored: Path) -> None:
    armored.unlink()
    with pytest.raises(MinipodError, match="cannot be read"):
        profile("Localhost", "other")


# ---- devices --------------------------------------------------------------------------------------------------


def test_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.lstat("/dev/null")
    for name in ("pts", "shm", "input"):
        (tmp_path / name).mkdir()
    for name in ("b", "pts/0", "input/e1", "input/e0", "ptmx", "console"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("b")
    found = os.stat_result((stat.S_IFCHR | 0o640, 1, 1, 1, 2, 3, 0, 0, 0, 0))

    class Entry:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.name, self._entry = entry.name, entry

        def stat(self, *, follow_symlinks: bool) -> Any:
            assert not follow_symlinks
            seen = self._entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(seen.st_mode):
                return seen
            return SimpleNamespace(st_mode=found.st_mode, st_rdev=real.st_rdev, st_uid=2, st_gid=3)

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: [Entry(entry) for entry in scandir(path)])
    made = host_devices(str(tmp_path))
    assert made == tuple(
        Device(path, False, 1, 3, 0o640, 2, 3) for path in ("/b", "/input/e0", "/input/e1")
    )
