# SPDX-License-Identifier: GPL-3.0-or-later
"""A throw-away minipod: its own directories, names and address range, so that it meets no other instance."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from minipod.cli import client
from minipod.config import Config
from minipod.errors import MinipodError
from tests import features, leaks
from tests.patience import patience

TOP = Path(__file__).resolve().parent.parent
SLOTS = 64
TEST_IMAGE = "localhost/test:1"

Json = dict[str, Any]


class Instance:
    """One instance, from the first command to the proof that nothing is left of it.

    Attributes:
        base: the directory with everything of the instance.
        config: its names and places.
        env: the environment of its commands.
    """

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        """Find free names; nothing is started yet. *env* is for the agent, besides the instance's own."""
        self._slot = _Slot()
        # Short: a path of a unix socket has 107 bytes (unix(7)).
        self.base = Path(tempfile.mkdtemp(prefix="mpt-"))
        number = self._slot.number
        letters = chr(ord("a") + number // 26) + chr(ord("a") + number % 26)
        self.config = Config(
            root_dir=str(self.base / "root"),
            run_dir=str(self.base / "run"),
            log_dir=str(self.base / "log"),
            # Nothing that a minipod which runs on this host could take for its own.
            bridge=f"u{letters}br",
            link_prefix=f"t{letters}",
            pod_cidr=f"10.{128 + number}.0.0/16",
            nft_table=f"mpt{number:02}",
            cgroup_parent=f"mpt{number:02}",
            containers_dir=str(self.base / "containers"),
            docker_dir=str(self.base / "docker"),
            docker_config=str(self.base / "docker/config.json"),
            # However full this machine's disk is: tests keep their images.
            image_gc_high_threshold_percent="100",
            eviction_hard="imagefs.available<0%",
        )
        outer = {
            name: value for name, value in os.environ.items() if not name.startswith("MINIPOD_")
        }
        self.env = {
            **outer,
            "PYTHONPATH": str(TOP),
            "TERM": "dumb",
            **self.config.to_env(),
            **(env or {}),
        }
        self.scope = leaks.Scope.of(self.config, self.base)
        leaks.clean(self.scope)  # what a killed test run left under these names
        self.before = leaks.HostSnapshot.take(self.scope)

    def cli(
        self,
        *arguments: str | Path,
        input: str | None = None,
        check: bool = True,
        timeout: float = 60,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``minipod ARGUMENTS`` to its end.

        Args:
            arguments: the command line after ``minipod``.
            input: its standard input (empty when not given).
            check: whether an exit code other than 0 fails the test.
            timeout: seconds until it is killed, on a usual machine (:mod:`tests.patience`), as for all of these.
            env: variables besides the instance's own.

        Raises:
            AssertionError: it failed (with *check*), or took too long.
        """
        command = [sys.executable, "-m", "minipod", *map(str, arguments)]
        try:
            done = subprocess.run(
                command,
                input=input if input is not None else "",
                capture_output=True,
                text=True,
                errors="replace",
                timeout=patience(timeout),
                cwd="/",
                env={**self.env, **(env or {})},
            )
        except subprocess.TimeoutExpired as error:
            said = _text(error.stdout) + _text(error.stderr)
            raise AssertionError(
                f"not done after {error.timeout:.0f} s: {' '.join(command)}\n{said}"
            ) from error
        if check and done.returncode != 0:
            raise AssertionError(
                f"exit code {done.returncode}: {' '.join(command)}\n{done.stdout}{done.stderr}"
            )
        return done

    def start(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        """Start ``minipod ARGUMENTS`` and return it; the caller waits for its end."""
        command = [sys.executable, "-m", "minipod", *map(str, arguments)]
        return subprocess.Popen(command, cwd="/", env=self.env, **options)

    def call(
        self, verb: str, request: Mapping[str, Any], fds: Sequence[int] = (), timeout: float = 60
    ) -> tuple[Json, list[Json]]:
        """Ask the agent without a command line in between, which would take most of a test's time.

        Returns:
            The agent's last word, and the events before it.

        Raises:
            MinipodError: what the agent answered.
            TimeoutError: it was silent for *timeout* seconds.
        """
        if not Path(self.config.socket).exists():
            self.cli("get", "pods")  # starts the agent, with our environment
        with client.call(
            self.config, {"verb": verb, **request}, fds, start=False, timeout=patience(timeout)
        ) as answer:
            events = list(answer)
            return answer.done or {}, events

    def create(self, name: str, *containers: Json, **spec: Any) -> None:
        """Create pod *name* of these containers; a container without an image gets ``localhost/test:1``."""
        made = [{"name": f"c{i}", "image": TEST_IMAGE, **c} for i, c in enumerate(containers)]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"restartPolicy": "Never", "containers": made, **spec},
        }
        source = {"source": f"{name}.yaml", "namespace": "default"}
        self.call("create", {"manifest": json.dumps(pod), **source})

    def start_pod(self, name: str, *containers: Json, **spec: Any) -> Json:
        """Create a pod as :meth:`create` does and return it once it is ready."""
        self.create(name, *containers, **spec)
        try:
            self.wait(name, "condition=Ready")
        except MinipodError as error:
            raise AssertionError(
                f"{error}\n{json.dumps(self.pod(name)['status'], indent=1)}"
            ) from None
        return self.pod(name)

    def run_pod(self, name: str, *containers: Json, **spec: Any) -> Json:
        """Create a pod as :meth:`create` does and return it once it has Succeeded or Failed."""
        self.create(name, *containers, **spec)
        return self.until(name, lambda pod: pod["status"].get("phase") in ("Succeeded", "Failed"))

    def until(self, name: str, holds: Callable[[Json], bool], timeout: float = 30) -> Json:
        """Watch pod *name* until *holds* says so, and return it."""
        request = {"verb": "get", "kind": "pods", "names": [name], "watch": True}
        with client.call(self.config, request, start=False, timeout=patience(timeout)) as answer:
            for event in answer:
                if holds(event["object"]):
                    found: Json = event["object"]
                    return found
        raise AssertionError(f"the watch of pod {name} ended")

    def wait(self, name: str, condition: str, timeout: float = 30) -> None:
        """Wait until pod *name* meets *condition*, as ``minipod wait --for`` has it."""
        request = {"names": [name], "for": condition, "timeout": patience(timeout)}
        self.call("wait", request, timeout=2 * timeout)

    def pod(self, name: str) -> Json:
        """Return pod *name* as the API shows it."""
        done, _ = self.call("get", {"kind": "pods", "namespace": "default", "names": [name]})
        found: Json = done["items"][0]
        return found

    def events(self, name: str) -> list[Json]:
        """Return the events about pod *name*."""
        done, _ = self.call("get", {"kind": "events", "namespace": "default", "for": name})
        found: list[Json] = done["items"]
        return found

    def delete(self, *names: str) -> None:
        """Delete pods at once and wait until they are gone."""
        self.call("delete", {"names": list(names), "gracePeriodSeconds": 0})

    def output(self, name: str, container: str | None = None, **options: Any) -> str:
        """Return what a container has written so far."""
        _, events = self.call("logs", {"pod": name, "container": container, **options})
        lines = [event["log"] for event in events if "log" in event]
        return "".join(line["text"] + ("" if line["partial"] else "\n") for line in lines)

    def first_line(self, name: str, container: str | None = None, timeout: float = 30) -> str:
        """Wait for the first line that a container writes: a pod is ready before its programs are."""
        request = {"verb": "logs", "pod": name, "container": container, "follow": True}
        text: str = ""
        with client.call(self.config, request, start=False, timeout=patience(timeout)) as answer:
            for event in answer:
                if "log" in event:
                    text += event["log"]["text"]
                    if not event["log"]["partial"]:
                        return text
        raise AssertionError(f"container {container} of pod {name} ended without a line: {text!r}")

    def exec(
        self, name: str, *command: str, container: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Execute *command* in a container, with an empty standard input and both outputs as one."""
        read, write = os.pipe()
        empty, nobody = os.pipe()
        os.close(nobody)
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 1 << 20)  # nobody reads before the command has ended
        request = {"pod": name, "container": container, "command": list(command), "tty": False}
        with open(read, errors="replace") as output:
            try:
                done, _ = self.call("exec", request, (empty, write, write))
            finally:
                os.close(empty)
                os.close(write)
            os.set_blocking(read, False)  # a process that was left behind may keep the pipe open
            text = "".join(iter(lambda: output.read() or "", ""))
        return subprocess.CompletedProcess(command, done["exitCode"], text, "")

    def probe(self, name: str, *arguments: str, container: str | None = None) -> Any:
        """Return what ``/probe ARGUMENTS`` says in a container."""
        done = self.exec(name, "/probe", *arguments, container=container)
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise AssertionError(f"probe {arguments} in {name}: {done}") from None

    def container(self, name: str, container: str = "c0") -> Json:
        """Return the status of one container of a pod."""
        found = self.pod(name)["status"]
        statuses = found["containerStatuses"] + found.get("ephemeralContainerStatuses", [])
        return next(status for status in statuses if status["name"] == container)

    def pod_cgroup(self, name: str) -> str:
        """Return a pod's cgroup, relative to each hierarchy, as a kubelet would name it."""
        pod = self.pod(name)
        quality = pod["status"]["qosClass"]
        level = "" if quality == "Guaranteed" else f"/{quality.lower()}"
        return f"{self.config.cgroup_parent}{level}/pod{pod['metadata']['uid']}"

    def pid(self, name: str, container: str = "c0") -> int:
        """Return the pid, on the host, of a container's first process, as the kernel's cgroups tell."""
        attempt = self.container(name, container)["restartCount"]
        path = f"{self.pod_cgroup(name)}/{container}.{attempt}"
        pids: set[int] = set()
        for _, top, _ in features.cgroup_mounts():
            with contextlib.suppress(FileNotFoundError):
                pids |= {int(x) for x in (top / path / "cgroup.procs").read_text().split()}
        return min(pids)

    def get(self, *arguments: str) -> Any:
        """Return what ``minipod get ARGUMENTS -o json`` says."""
        return json.loads(self.cli("get", *arguments, "-o", "json").stdout)

    def load(self, archive: Path) -> None:
        """Load an image archive into the instance's store."""
        with archive.open("rb") as file:
            self.call("image", {"op": "load", "name": None}, (file.fileno(),))

    def write(self, name: str, text: str) -> Path:
        """Write a file (a manifest) beside the instance's directories and return its path."""
        path = self.base / name
        path.write_text(text)
        return path

    def processes(self) -> list[leaks.Process]:
        """Return the instance's processes: agent, shims, pauses, containers."""
        return leaks.own_processes(self.scope)

    def stop(self) -> list[str]:
        """Delete all pods, stop the agent, remove the rest by force; return what should not have been left."""
        complaints = []
        try:
            if Path(self.config.root_dir).exists():
                complaints += self._stop_politely()
            complaints += leaks.diff(self.before, leaks.HostSnapshot.take(self.scope))
        finally:
            leaks.clean(self.scope)
            shutil.rmtree(self.base, ignore_errors=True)
            self._slot.close()
        return complaints

    def _stop_politely(self) -> list[str]:
        complaints = []
        try:
            if Path(self.config.socket).exists():
                done, _ = self.call("get", {"kind": "pods"})
                for namespace in {pod["metadata"]["namespace"] for pod in done["items"]}:
                    request = {"namespace": namespace, "all": True, "gracePeriodSeconds": 0}
                    self.call("delete", request)
        except (MinipodError, OSError) as error:
            complaints.append(f"deleting the pods: {error}")
        try:
            self.cli("agent", "stop")
        except AssertionError as error:
            complaints.append(f"stopping the agent: {error}")
        return complaints

    def logs(self) -> str:
        """Return the ends of the agent's own logs, for the report of a failed test."""
        places = [Path(self.config.run_dir), Path(self.config.root_dir)]
        files = [path for place in places if place.is_dir() for path in sorted(place.glob("*.log"))]
        return "".join(f"{path}:\n{path.read_text(errors='replace')[-8000:]}\n" for path in files)


class _Slot:
    """A number that no other test process on this host has: kept by a locked file, which a kill sets free.

    A file and not an abstract socket, because that is seen in one network namespace only, and cgroups in all.
    """

    def __init__(self) -> None:
        taken = [ipaddress.ip_interface(x).network for x in _host_addresses()]
        for number in range(SLOTS):
            if any(
                network.overlaps(ipaddress.ip_network(f"10.{128 + number}.0.0/16"))
                for network in taken
            ):
                continue
            # Open for as long as the instance is.
            keeper = open(f"{tempfile.gettempdir()}/minipod-test-{number}.lock", "w")  # noqa: SIM115
            try:
                fcntl.flock(keeper, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                keeper.close()
                continue
            self.number, self.close = number, keeper.close
            return
        raise OSError(
            "no free slot for a test instance: all address ranges 10.128.0.0 to 10.191.0.0 are taken"
        )


def _host_addresses() -> list[str]:
    """Return the host's IPv4 addresses with prefix lengths, but those of test instances (whose slots tell)."""
    done = subprocess.run(["ip", "-j", "-4", "addr"], capture_output=True, text=True, check=True)
    return [
        f"{address['local']}/{address['prefixlen']}"
        for link in json.loads(done.stdout)
        if not re.fullmatch("u[a-z]{2}br", link["ifname"])
        for address in link.get("addr_info", [])
    ]


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""
