# SPDX-License-Identifier: GPL-3.0-or-later
"""What the doctor makes of facts: each check with facts of machines that we do not have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minipod import __version__
from minipod.cli.checks import (
    CHECKS,
    Check,
    Result,
    dropping_chains,
    examine,
    host,
    kernel,
    network,
)
from minipod.cli.checks.base import package
from minipod.config import Config
from minipod.errors import UsageError

GIB = 1 << 30


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ("ID=debian\n", "sudo apt install nftables"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', "sudo apt install nftables"),
        ("ID=ubuntu\nID_LIKE=debian\n", "sudo apt install nftables"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "sudo dnf install nftables"),
        ("ID=arch\n", "install the package nftables"),
        ("", "install the package nftables"),
    ],
)
def test_the_command_that_mends_it_is_the_distributions(release: str, command: str) -> None:
    assert package("nftables", release) == command


@pytest.mark.parametrize(
    ("versions", "present", "level", "words"),
    [
        ("v2", {"cpu", "memory", "pids", "devices"}, "ok", "v2 with cpu, devices, memory, pids"),
        ("v1", {"cpu", "memory", "pids"}, "ok", "v2 alone can do more"),
        ("v2", {"cpu", "pids"}, "warn", "without memory"),
        ("v2", set(), "warn", "without cpu, memory, pids"),
    ],
)
def test_cgroups(versions: str, present: set[str], level: str, words: str) -> None:
    result = kernel.judge_cgroups(versions, present)
    assert result.level == level and words in result.text
    assert bool(result.remedy) == (level == "warn")


@pytest.mark.parametrize(
    ("enabled", "supported", "level", "words"),
    [
        (False, False, "ok", "refused"),
        (True, False, "warn", "no apparmor_parser"),
        (True, True, "ok", "confines"),
    ],
)
def test_apparmor(enabled: bool, supported: bool, level: str, words: str) -> None:
    result = kernel.judge_apparmor(enabled, supported)
    assert result.level == level and words in result.text
    assert ("apparmor" in result.remedy) == (level == "warn")


def test_what_the_machine_lacks_is_told_by_the_check_that_it_is_about() -> None:
    lacking = {"capabilities": "few files", "secrets": "swapped", "apparmor": "no parser"}
    found = kernel.judge_capabilities(lacking)
    assert (found.level, found.text) == ("warn", "few files") and "CAP_" in found.remedy
    found = kernel.judge_secrets(lacking)
    assert (found.level, found.text) == ("warn", "swapped") and "swapoff" in found.remedy
    for about, judge in (
        ("capabilities", kernel.judge_capabilities),
        ("secrets", kernel.judge_secrets),
    ):
        others = {name: text for name, text in lacking.items() if name != about}
        assert judge(others).level == "ok", about


@pytest.mark.parametrize(
    ("free", "size", "inodes", "all_inodes", "level"),
    [
        (50 * GIB, 100 * GIB, 900, 1000, "ok"),
        (50 * GIB, 100 * GIB, 0, 0, "ok"),  # btrfs makes inodes as it needs them
        (9 * GIB, 100 * GIB, 900, 1000, "warn"),
        (50 * GIB, 100 * GIB, 10, 1000, "warn"),
        (100 << 20, 200 << 20, 900, 1000, "fail"),
    ],
)
def test_disk(free: int, size: int, inodes: int, all_inodes: int, level: str) -> None:
    result = host.judge_disk("/var/lib", free, size, inodes, all_inodes)
    assert result.level == level and "/var/lib" in result.text
    assert bool(result.remedy) == (level != "ok")


def test_inotify() -> None:
    assert host.judge_inotify(128, 65536).level == "ok"
    few = host.judge_inotify(8, 65536)
    assert few.level == "warn" and "max_user_instances" in few.remedy


def test_clock() -> None:
    assert host.judge_clock(1_800_000_000, 1_790_000_000).level == "ok"
    early = host.judge_clock(0, 1_790_000_000)
    assert early.level == "warn" and "1970-01-01" in early.text and early.remedy


@pytest.mark.parametrize(
    ("booted", "has_run", "has_unit", "level", "words"),
    [
        (False, False, False, "ok", "a daemon of its own"),
        (True, False, False, "warn", "no systemd-run"),
        (True, True, False, "ok", "no unit"),
        (True, True, True, "ok", "systemctl enable minipod-agent"),
    ],
)
def test_systemd(booted: bool, has_run: bool, has_unit: bool, level: str, words: str) -> None:
    result = host.judge_systemd(booted, has_run, has_unit)
    assert result.level == level and words in result.text


def test_an_agent_of_another_version_is_named() -> None:
    assert host.judge_agent(7, 3, __version__) == Result("ok", "running, pid 7, 3 pods")
    other = host.judge_agent(7, 3, "0.0.9")
    assert other.level == "warn" and "0.0.9" in other.text and "agent stop" in other.remedy


def test_executables_of_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from minipod import native

    def executable(name: str) -> Path:
        return tmp_path / name

    monkeypatch.setattr(native, "executable", executable)
    for name in ("minipod-shim", "minipod-pause"):
        (tmp_path / name).write_bytes(b"\x7fELF\x02\x01".ljust(18, b"\0") + b"\xf3\0")
    (check,) = (check for check in CHECKS if check.name == "executables")
    assert "not executable" in examine(check, Config()).text
    for path in tmp_path.iterdir():
        path.chmod(0o755)
    result = examine(check, Config())
    assert result.level == "fail" and "an unknown machine" in result.text and result.remedy
    assert host.elf_machine(b"#!/bin/sh\n") == -1
    assert host.elf_machine(b"\x7fELF".ljust(18, b"\0") + b"\xb7\0") == 183


DROPS = {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}


def test_bridged_packets_and_foreign_filters() -> None:
    chains = dropping_chains(json.dumps({"nftables": [{"chain": DROPS}]}), "minipod")
    assert network.judge_bridged("", chains, "br0").level == "ok"
    assert network.judge_bridged("0", chains, "br0").level == "ok"
    assert network.judge_bridged("1", [], "br0").level == "ok"
    both = network.judge_bridged("1", chains, "br0")
    assert both.level == "warn" and "ip filter FORWARD" in both.text
    assert both.remedy == "sudo iptables -I FORWARD -i br0 -o br0 -j ACCEPT"


def test_registries_that_make_no_sense_are_named(tmp_path: Path) -> None:
    (check,) = (check for check in CHECKS if check.name == "registries")
    assert examine(check, Config(containers_dir=str(tmp_path))).level == "ok"
    (tmp_path / "registries.conf").write_text("[[registry]\n")
    result = examine(check, Config(containers_dir=str(tmp_path)))
    assert result.level == "fail" and f"{tmp_path}/registries.conf" in result.text


def test_settings_name_what_is_not_as_usual() -> None:
    (check,) = (check for check in CHECKS if check.name == "settings")
    result = examine(check, Config(bridge="br9"))
    assert result.level == "ok" and "MINIPOD_BRIDGE" in result.text


def test_whatever_a_check_raises_is_a_result() -> None:
    def refuse(config: Config) -> Result:
        raise UsageError("no", "do this")

    assert examine(Check("x", refuse), Config()) == Result("fail", "no", "do this")
    names = [check.name for check in CHECKS]
    assert len(names) == len(set(names)), "-o json is looked up by name"
