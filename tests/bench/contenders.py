# SPDX-License-Identifier: GPL-3.0-or-later
"""Those who start a pod: minipod, podman, and the floor, which only makes the system calls.

All use the same image and the same manifest. Each hides in namespaces or names of its own, checks after a start that
the containers really run, and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from tests.bench.machine import Cgroups, Namespaces, compile_c, private_memory, run
from tests.features import cgroup_mounts, missing
from tests.instance import Instance
from tests.leaks import processes

HERE = Path(__file__).resolve().parent
IMAGE = "localhost/busybox:1"
START_ANNOTATION = "minipod.dev/start-milliseconds"
FLOOR_CONTROLLERS = {"cpu", "cpuacct", "memory", "pids", "devices"}


class Contender(Protocol):
    """One way to start a pod. Times are in ms."""

    name: str

    def start(self, containers: int) -> float:
        """Start a pod and return how long that took; the pod is there when this returns."""

    def facts(self) -> dict[str, float]:
        """Return what else is to be known of the pod that is there."""

    def remove(self) -> None:
        """Remove the pod; not measured."""

    def close(self) -> list[str]:
        """Undo everything; return complaints."""

    def sweep(self) -> None:
        """Remove what processes held that have been killed since."""


def manifest(containers: int, image: str = IMAGE) -> str:
    """Return a pod of *containers* that do nothing, for ever."""
    lines = [
        f'  - {{name: c{i}, image: "{image}", command: [sleep, "1000000"]}}'
        for i in range(containers)
    ]
    head = [
        "apiVersion: v1",
        "kind: Pod",
        "metadata: {name: bench}",
        "spec:",
        "  restartPolicy: Never",
        "  terminationGracePeriodSeconds: 0",
        "  containers:",
    ]
    return "\n".join([*head, *lines, ""])


def milliseconds(action: Callable[[], object]) -> float:
    """Return how long *action* took."""
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


class Minipod:
    """``minipod run -d``, with the agent up."""

    name = "minipod"
    settings: Mapping[str, str] = {}
    options: tuple[str, ...] = ()

    def __init__(self, scratch: Path, archive: Path) -> None:
        self.instance = Instance(self.settings)
        script = Path(sys.executable).with_name("minipod")
        self.command = [str(script)] if script.exists() else [sys.executable, "-m", "minipod"]
        # Byte code is written when minipod is installed; where this is set it would be compiled at every start.
        self.env = {k: v for k, v in self.instance.env.items() if k != "PYTHONDONTWRITEBYTECODE"}
        try:
            self.instance.load(archive)
        except BaseException:
            self.instance.stop()
            raise

    def run(self, *arguments: str | Path) -> str:
        """Run one command of minipod."""
        command = [*self.command, *map(str, arguments)]
        done = subprocess.run(
            command, env=self.env, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode != 0:
            words = f"exit code {done.returncode}: {' '.join(command)}\n{done.stdout}{done.stderr}"
            raise RuntimeError(words + self.instance.logs())
        return done.stdout

    def start(self, containers: int, image: str = IMAGE) -> float:
        """See :class:`Contender`."""
        path = self.instance.write("pod.yaml", manifest(containers, image))
        took = milliseconds(lambda: self.run("run", "-d", *self.options, path))
        statuses = self._pod()["status"].get("containerStatuses", [])
        running = sum("running" in status.get("state", {}) for status in statuses)
        if running != containers:
            raise RuntimeError(f"minipod: {running} of {containers} containers run: {statuses}")
        return took

    def _pod(self) -> dict[str, Any]:
        pod: dict[str, Any] = json.loads(self.run("get", "pod", "bench", "-o", "json"))
        return pod

    def facts(self) -> dict[str, float]:
        """Return the agent's share of the start (ms), and the private memory of shim and pause (KiB)."""
        own = ("minipod-shim", "minipod-pause")
        pids = [p.pid for p in self.instance.processes() if p.comm in own]
        facts = {"memory": float(sum(map(private_memory, pids)))} if pids else {}
        share = self._pod()["metadata"].get("annotations", {}).get(START_ANNOTATION)
        return facts | ({"agent": float(share)} if share else {})

    def remove(self) -> None:
        """See :class:`Contender`."""
        self.run("delete", "pod", "bench", "--grace-period", "0")

    def close(self) -> list[str]:
        """See :class:`Contender`."""
        return self.instance.stop()

    def sweep(self) -> None:
        """See :class:`Contender`."""


class Untimed(Minipod):
    """The same, with an agent that times no step."""

    name = "untimed"
    settings: Mapping[str, str] = {"MINIPOD_TRACES": "0"}


class Watched(Minipod):
    """The same, with every step shown while it is taken."""

    name = "watched"
    options = ("--trace",)


class Podman:
    """``podman kube play``, with storage, network and /run of its own."""

    name = "podman"

    def __init__(self, scratch: Path, archive: Path) -> None:
        if not shutil.which("podman"):
            raise FileNotFoundError("no podman: install podman and crun")
        self._scratch = scratch / "podman"
        self._scratch.mkdir()
        places = {
            "root": "root",
            "runroot": "run",
            "tmpdir": "tmp",
            "network-config-dir": "networks",
        }
        options = [f"--{option}={self._scratch / place}" for option, place in places.items()]
        self._command = ["podman", *options, "--cgroup-manager=cgroupfs", "--events-backend=file"]
        if missing("cap-sys-resource"):
            runtime = compile_c(HERE / "runtime.c", self._scratch / "runtime")
            self._command.append(f"--runtime={runtime}")
        # Its locks, names of networks and states of containers lie in /run and /dev/shm, whatever --runroot says.
        setup: list[tuple[str, ...]] = [
            ("mount", "-t", "tmpfs", "tmpfs", "/run"),
            ("mount", "-t", "tmpfs", "tmpfs", "/dev/shm"),
        ]
        # crun refuses a cgroup v2 hierarchy that has controllers beside v1 ones.
        homes = {kind: path for kind, path, _ in cgroup_mounts()}
        if (
            homes.keys() >= {"cgroup", "cgroup2"}
            and (homes["cgroup2"] / "cgroup.controllers").read_text().strip()
        ):
            setup.append(("umount", str(homes["cgroup2"])))
        self._cgroups = Cgroups("libpod_parent")
        self._namespaces = Namespaces(*setup)
        try:
            self._podman("load", "--input", archive)
        except BaseException:
            self.close()
            self.sweep()
            raise

    def _podman(self, *arguments: str | Path) -> str:
        with self._namespaces.inside():
            return run(*self._command, *arguments)

    def start(self, containers: int) -> float:
        """See :class:`Contender`."""
        path = self._scratch / "pod.yaml"
        path.write_text(manifest(containers))
        with self._namespaces.inside():
            took = milliseconds(lambda: run(*self._command, "kube", "play", path))
        running = self._podman("ps", "--quiet", "--filter", f"ancestor={IMAGE}").split()
        if len(running) != containers:
            raise RuntimeError(f"podman: {len(running)} of {containers} containers run")
        return took

    def facts(self) -> dict[str, float]:
        """Return the private memory of what stays with the pod besides its containers (KiB)."""
        mark = str(self._scratch)
        pids = [p.pid for p in processes() if p.comm == "conmon" and mark in p.words]
        pauses = [
            p.pid for p in processes() if p.comm in ("catatonit", "pause") and p.parent in pids
        ]
        return {"memory": float(sum(map(private_memory, pids + pauses)))}

    def remove(self) -> None:
        """See :class:`Contender`."""
        self._podman("kube", "down", self._scratch / "pod.yaml")

    def close(self) -> list[str]:
        """See :class:`Contender`."""
        complaints = []
        try:
            self._podman("pod", "rm", "--all", "--force", "--time", "0")
        except RuntimeError as error:
            complaints.append(str(error))
        self._namespaces.close()
        return complaints

    def sweep(self) -> None:
        """See :class:`Contender`."""
        self._cgroups.restore()


class Floor:
    """``floor.c``: what the kernel alone needs. It removes its pod by itself, at once."""

    name = "floor"

    def __init__(self, scratch: Path, archive: Path) -> None:
        self._scratch = scratch / "floor"
        self._rootfs = self._scratch / "rootfs"
        self._cgroup = f"mptfloor{os.getpid()}"
        self._cgroups = Cgroups(self._cgroup)
        self._teardown = 0.0
        for name in ("bin", "dev", "proc", "sys"):
            (self._rootfs / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", self._rootfs / "bin" / "busybox")
        self._program = compile_c(HERE / "floor.c", self._scratch / "floor")
        self._namespaces = Namespaces(
            ("ip", "link", "add", "mptfloor0", "type", "bridge"),
            ("ip", "address", "add", "10.213.0.1/24", "dev", "mptfloor0"),
            ("ip", "link", "set", "mptfloor0", "up"),
        )
        try:
            self._hierarchies = self._make_cgroups()
        except BaseException:
            self.close()
            self.sweep()
            raise

    def _make_cgroups(self) -> list[str]:
        version1, version2 = [], "-"
        for kind, top, options in cgroup_mounts():
            home = top / self._cgroup
            if kind == "cgroup" and options & FLOOR_CONTROLLERS:
                home.mkdir()
                version1.append(str(home))
            elif kind == "cgroup2":
                home.mkdir()
                version2 = str(home)
                with contextlib.suppress(OSError):  # not there, or used by version 1
                    (home / "cgroup.subtree_control").write_text("+cpu +memory +pids")
        return [version2, *version1]

    def start(self, containers: int) -> float:
        """See :class:`Contender`."""
        pod = self._scratch / "pod"
        pod.mkdir()
        address, gateway = "10.213.0.2/24", "10.213.0.1"
        arguments = [str(containers), "mptfloor0", address, gateway, str(self._rootfs), str(pod)]
        try:
            with self._namespaces.inside():
                answer = json.loads(run(self._program, *arguments, *self._hierarchies))
        finally:
            shutil.rmtree(pod)
        self._teardown = answer["teardown_us"] / 1000
        return float(answer["start_us"]) / 1000

    def facts(self) -> dict[str, float]:
        """Return how long taking it down took (ms)."""
        return {"teardown": self._teardown}

    def remove(self) -> None:
        """See :class:`Contender`."""

    def close(self) -> list[str]:
        """See :class:`Contender`."""
        self._namespaces.close()
        return []

    def sweep(self) -> None:
        """See :class:`Contender`."""
        self._cgroups.restore()


CONTENDERS: dict[str, Callable[[Path, Path], Contender]] = {
    "floor": Floor,
    "minipod": Minipod,
    "untimed": Untimed,
    "watched": Watched,
    "podman": Podman,
}
