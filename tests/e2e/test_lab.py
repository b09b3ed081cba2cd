# SPDX-License-Identifier: GPL-3.0-or-later
"""Every lab by script: its check fails with a hint, its solution is run, the check is content, nothing is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from minipod.lab import kernel, things
from minipod.lab.checks import network
from minipod.lab.look import Bench, NotYet, check_of
from minipod.lab.text import Lab, all_labs, find
from tests.e2e.user import check_error
from tests.features import cgroup_mounts, requires
from tests.instance import Instance
from tests.patience import patience

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "userns")

LABS = all_labs()
# What the check says of a pod that has just been made to break.
BROKEN = {
    14: "CrashLoopBackOff|memory",  # it takes a while to be killed
    15: "zombies, children of",
    16: "no handler for SIGTERM",
    17: "container's own layer|was evicted",  # it is measured every ten seconds
    18: "CrashLoopBackOff",
    19: "CrashLoopBackOff",
}
NAMED = "lab"  # what all objects of labs are called, and no others of this machine


@pytest.fixture(scope="module")
def school(shared_instance: Instance, busybox_archive: Path) -> Iterator[Instance]:
    """A minipod with the labs' image, in which no lab has been begun; those that a killed test left are reset."""
    shared_instance.load(busybox_archive)
    shared_instance.cli("lab", "reset")
    yield shared_instance
    shared_instance.cli("lab", "reset")


def host() -> set[str]:
    """Return all on the host that a lab could have made: what is called so, and every process that is marked so."""
    found = {f"link {name}" for name in os.listdir("/sys/class/net") if NAMED in name}
    found |= {f"mount {each.target}" for each in kernel.mounts() if f"/{NAMED}" in each.target}
    for top in ("/run", "/run/netns", *{str(top) for _, top, _ in cgroup_mounts()}):
        with suppress(FileNotFoundError):
            found |= {f"{top}/{name}" for name in os.listdir(top) if name.startswith(NAMED)}
    for rule in kernel.Network().rules():
        if NAMED in str(rule.get("table", {}).get("name", "")):
            found.add(f"table {rule['table']}")
    for process in kernel.processes():
        if kernel.MARK in kernel.environment(process.pid):
            found.add(str(process))
    return found


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: f"{lab.number}-{lab.slug}")
def test_lab(school: Instance, lab: Lab) -> None:
    number = str(lab.number)
    before = host()
    try:
        if lab.setup:
            school.cli("lab", "start", number, timeout=360)
        done = school.cli("lab", "check", number, check=False)
        assert done.returncode == 1 and done.stderr == "", done
        *_, lacking, hint = done.stdout.splitlines()
        assert re.search(BROKEN.get(lab.number, ""), lacking), lacking
        assert lacking.startswith("no  ") and hint.startswith("    hint: "), done

        school.cli("lab", "solve", number, "--run", timeout=360)
        done = school.cli("lab", "check", number, check=False)
        assert done.returncode == 0, done
        *facts, last = done.stdout.splitlines()
        assert facts and all(line.startswith("ok  ") for line in facts), done
        assert last == f"solved: {lab.title}"
    finally:
        removed = school.cli("lab", "reset", number).stdout
    assert removed.startswith("removed: ")
    assert host() == before
    for kind in ("pods", "configmaps"):
        assert school.call("get", {"kind": kind, "namespace": "lab"})[0]["items"] == []


# Attempts that are not quite it: the lab, what is done for it, and what the check says.
WRONG = (
    (1, "MINIPOD_LAB=1 sleep 600 &", "is in the host's uts namespace"),
    (1, "MINIPOD_LAB=1 unshare --uts sleep 600 &", "the host name in there is"),
    (2, "MINIPOD_LAB=2 unshare --pid --fork sleep 600 &", "shares the host's mounts"),
    (2, "MINIPOD_LAB=2 unshare --pid --fork --mount sleep 600 &", "its /proc is still the host's"),
    (
        3,
        "mkdir /run/lab3; mount -t tmpfs none /run/lab3; MINIPOD_LAB=3 unshare --mount sleep 600 &",
        "is mounted on the host, too",
    ),
    (
        3,
        "mkdir /run/lab3; MINIPOD_LAB=3 unshare --mount sh -c 'mount -t tmpfs none /run/lab3; "
        "mount --make-shared /; exec sleep 600' &",
        "the root in there is shared:",
    ),
    (
        4,
        "mkdir -p /run/lab4/root/bin; cp /bin/busybox /run/lab4/root/bin; "
        "MINIPOD_LAB=4 unshare --mount chroot /run/lab4/root /bin/busybox sleep 600 &",
        "this is a chroot",
    ),
    (
        5,
        "cd /run; mkdir lab5; cd lab5; mkdir lower upper work merged; touch lower/motd lower/junk; "
        "mount -t overlay none -o lowerdir=/run/lab5/lower,upperdir=/run/lab5/upper,"
        "workdir=/run/lab5/work merged; echo changed >lower/motd",
        "motd has not been changed",
    ),
    (9, "MINIPOD_LAB=9 sleep 600 &", "there is no cgroup"),
    (
        10,
        "MINIPOD_LAB=10 setpriv --bounding-set -all,+chown --inh-caps -all sleep 600 &",
        "its bounding set is",
    ),
    (
        10,
        "MINIPOD_LAB=10 setpriv --bounding-set -all,+net_bind_service --inh-caps -all sleep 600 &",
        "no_new_privs is not set",
    ),
    (11, "MINIPOD_LAB=11 unshare --user sleep 600 &", "its uid_map is empty"),
    (11, "MINIPOD_LAB=11 unshare --user --map-root-user sleep 600 &", "its uid_map is 0 0 1"),
    (
        12,
        "MINIPOD_LAB=12 unshare --net --uts --ipc sleep 600 & sleep 0.2; "
        "MINIPOD_LAB=12 nsenter --target $! --net --uts --ipc sleep 600 &",
        "0 of two processes",
    ),
    (13, "MINIPOD_LAB=13 unshare --net --uts --ipc sleep 600 &", "there is no bridge lab13"),
)


@pytest.mark.parametrize(("number", "script", "words"), WRONG)
def test_what_is_not_quite_it_is_named(number: int, script: str, words: str) -> None:
    bench = Bench(find(number), lambda request: None, "")
    try:
        quiet = subprocess.DEVNULL
        subprocess.run(["sh", "-eu", "-c", script], check=True, stdout=quiet, stderr=quiet)
        end = time.monotonic() + patience(10)
        while True:  # what was put into the background may not be there yet
            with pytest.raises(NotYet) as lacking:
                list(check_of(find(number))(bench))
            if words in lacking.value.what:
                break
            assert time.monotonic() < end, lacking.value.what
            time.sleep(0.05)
        assert lacking.value.hint
    finally:
        for thing in things.everything(bench.ask).get(number, []):
            thing.remove()
    assert number not in things.everything(bench.ask)


def state(instance: Instance, number: int) -> str:
    """Return what ``minipod lab`` says of a lab."""
    for line in instance.cli("lab").stdout.splitlines():
        words = line.split()
        if words[:1] == [str(number)]:
            return words[1]
    raise AssertionError(number)


def test_reset_touches_nothing_else(school: Instance, tmp_path: Path) -> None:
    """Things whose names are nearly those of lab 6 stay, and what a lab's directory shows of the host stays, too."""
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "inner").mkdir()
    marked = {**os.environ, "MINIPOD_LAB": "66"}
    decoy = subprocess.Popen(["sleep", "600"], env=marked)
    try:
        run("ip", "netns", "add", "lab66")
        run("ip", "link", "add", "lab66", "type", "bridge")
        run("nft", "add", "table", "inet", "lab66")
        Path("/run/lab66").mkdir()
        run("mount", "-t", "tmpfs", "decoy", str(tmp_path / "inner"))
        (tmp_path / "inner/file").write_text("mine")
        before = host()

        # A learner who has bound the host's own files into the lab's directory, shared, and linked to others.
        Path("/run/lab6/host").mkdir(parents=True)
        run("mount", "--rbind", str(tmp_path), "/run/lab6/host")
        run("mount", "--make-rshared", "/run/lab6/host")
        Path("/run/lab6/link").symlink_to(tmp_path)
        run("ip", "netns", "add", "lab6b")
        run("nft", "add", "table", "ip", "lab6")
        mine = subprocess.Popen(["sleep", "600"], env={**marked, "MINIPOD_LAB": "6"})

        # The command itself may be of the lab: whoever set the variable for all of a shell.
        removed = school.cli("lab", "reset", "6", env={"MINIPOD_LAB": "6"}).stdout
        assert mine.wait(patience(30)) == -signal.SIGKILL
        for words in (
            "process",
            "network namespace lab6b",
            "nftables table ip lab6",
            "directory /run/lab6",
        ):
            assert f"removed: {words}" in removed
        assert host() == before
        assert decoy.poll() is None
        assert (tmp_path / "precious").read_text() == "mine"
        assert (tmp_path / "inner/file").read_text() == "mine"
        assert str(tmp_path / "inner") in {each.target for each in kernel.mounts()}
    finally:
        decoy.kill()
        decoy.wait()
        for command in (
            ("ip", "netns", "delete", "lab66"),
            ("ip", "link", "delete", "lab66"),
            ("nft", "delete", "table", "inet", "lab66"),
            ("umount", "-R", str(tmp_path / "inner")),
            ("rmdir", "/run/lab66"),
        ):
            subprocess.run(command, capture_output=True)
        assert not Path("/run/lab6").exists()


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def test_a_learner_who_is_half_way_is_told_what_is_missing(school: Instance) -> None:
    """One wrong step after the other in lab 6, each named."""
    try:
        steps = [
            ("ip netns add lab6", "there is no link lab6"),
            ("ip link add lab6 type bridge", "there is no link eth0"),
            ("ip -n lab6 link add eth0 type bridge", "not the two ends"),
            ("ip link delete lab6", "there is no link lab6"),
            ("ip -n lab6 link delete eth0", "there is no link lab6"),
            (
                "ip link add lab6 type veth peer name eth0 netns lab6",
                "not the address 198.51.100.1",
            ),
            ("ip address add 198.51.100.1/30 dev lab6", "lab6 is down"),
            ("ip link set lab6 up", "eth0 has not the address 198.51.100.2"),
        ]
        bench = Bench(find(6), lambda request: None, "")
        for command, words in steps:
            run(*command.split())
            with pytest.raises(NotYet, match=words):
                list(network.veth(bench))
        assert state(school, 6) == "begun"
        assert state(school, 5) == "-"
        run("ip", "-n", "lab6", "address", "add", "198.51.100.2/30", "dev", "eth0")
        run("ip", "-n", "lab6", "link", "set", "eth0", "up")
        assert state(school, 6) == "solved"
    finally:
        school.cli("lab", "reset", "6")


def test_what_an_ordinary_user_may(school: Instance) -> None:
    """Read; what looks at the system or changes it needs root, and says so."""
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    python = [*as_nobody, sys.executable, "-m", "minipod", "lab"]

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*python, *words],
            capture_output=True,
            text=True,
            env=school.env,
            cwd="/",
            timeout=patience(60),
        )

    assert "? " in call().stdout
    assert call("show", "1").returncode == call("solve", "1").returncode == 0
    for words in (("check", "1"), ("reset",), ("solve", "1", "--run")):
        check_error(call(*words), 1, "must run as root", "sudo minipod lab")


def test_the_agent_is_started_for_what_it_knows_only(school: Instance, tmp_path: Path) -> None:
    """A lab with pods finds its image though the agent is down; where minipod never ran, none is started to look."""
    school.cli("agent", "stop")
    done = school.cli("lab", "check", "16", check=False)
    assert "there is no pod lab16" in done.stdout and "minipod lab start 16" in done.stdout

    fresh = {f"MINIPOD_{name.upper()}_DIR": str(tmp_path / name) for name in ("root", "run")}
    done = school.cli("lab", "check", "5", check=False, env=fresh)
    assert done.stdout.startswith("no  "), done
    assert school.cli("lab", "reset", env=fresh).stdout == ""
    assert not list(tmp_path.iterdir())


def test_a_number_that_is_none(school: Instance) -> None:
    check_error(
        school.cli("lab", "show", "99", check=False), 1, "there is no lab 99", "minipod lab"
    )
