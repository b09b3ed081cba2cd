# SPDX-License-Identifier: GPL-3.0-or-later
"""The doctor on this machine, which runs pods, and with things missing that a test can take away."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests import features
from tests.e2e.user import ESCAPE, PATIENCE
from tests.features import requires
from tests.instance import Instance


@requires("tool:nft")
def test_doctor_finds_a_machine_that_runs_pods(shared_instance: Instance) -> None:
    done = shared_instance.cli("doctor", check=False)
    levels = {
        line.split(":")[0].split()[-1]: line.split()[0]
        for line in done.stdout.splitlines()
        if not line.startswith(" ")
    }
    assert "fail" not in levels.values(), done.stdout
    assert done.returncode == 0 and done.stderr == ""
    assert levels["overlayfs"] == "ok" and levels["nftables"] == "ok"
    assert ESCAPE not in done.stdout


def test_doctor_as_an_object(shared_instance: Instance) -> None:
    status = json.loads(shared_instance.cli("agent", "status", "-o", "json").stdout)
    done = shared_instance.cli("doctor", "-o", "json", env={"MINIPOD_USER_IDS": "65536-1000000"})
    found = json.loads(done.stdout)
    checks = {check["name"]: check for check in found["checks"]}
    assert found["ok"] is True
    assert all(check["level"] in ("ok", "warn") for check in found["checks"])
    assert all(check["remedy"] for check in found["checks"] if check["level"] == "warn")
    assert "MINIPOD_USER_IDS" in checks["settings"]["text"]
    assert f"pid {status['pid']}," in checks["agent"]["text"]
    # The doctor's trials leave nothing: no directory, no cgroup, no process (and the fixture looks for links).
    assert not list(Path(shared_instance.config.root_dir).glob(".minipod-doctor-*"))
    for _, directory, _ in features.cgroup_mounts():
        assert not list(directory.glob("minipod-doctor-*"))


def test_doctor_goes_on_with_files_that_are_wrong(
    shared_instance: Instance, tmp_path: Path
) -> None:
    config, containers = tmp_path / "config.toml", tmp_path / "containers"
    config.write_text("bridge = [\n")
    containers.mkdir()
    (containers / "registries.conf").write_text("[[registry]\n")
    wrong = {"MINIPOD_CONFIG": str(config)}
    done = shared_instance.cli("doctor", check=False, env=wrong)
    assert done.returncode == 1 and done.stderr == ""
    assert f"fail  settings: config file {config}: " in done.stdout
    wrong = {"MINIPOD_CONTAINERS_DIR": str(containers)}
    done = shared_instance.cli("doctor", check=False, env=wrong)
    assert done.returncode == 1
    assert f"fail  registries: {containers}/registries.conf" in done.stdout


def test_doctor_without_root_says_what_it_did_not_try(shared_instance: Instance) -> None:
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable]
    # Whoever reads the sources may be somebody else: only what is imported is in sight of nobody.
    done = subprocess.run(
        [*command, "-m", "minipod", "doctor", "-o", "json"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd="/",
        env={**shared_instance.env, "HOME": "/nonexistent"},
    )
    if "Permission denied" in done.stderr:  # the checkout, or its Python, lies in somebody's home
        return
    assert done.returncode == 1, done.stderr
    levels = {check["name"]: check["level"] for check in json.loads(done.stdout)["checks"]}
    assert levels["root"] == "fail" and levels["overlayfs"] == levels["nftables"] == "skip"
    assert levels["kernel"] == levels["executables"] == "ok"


def test_doctor_names_what_is_missing(shared_instance: Instance) -> None:
    done = shared_instance.cli("doctor", check=False, env={"MINIPOD_POD_CIDR": "127.0.0.0/8"})
    assert done.returncode == 1
    assert "fail  pod range: " in done.stdout and "hint: " in done.stdout
