# SPDX-License-Identifier: GPL-3.0-or-later
"""How long it takes to pull an image and unpack it, from a registry on loopback into an empty store.

minipod, podman, and skopeo with umoci, in turn, round after round. Beside the time there is the time of the processors,
which says more on a machine that does other things meanwhile, and the peak of the memory of the processes that pull.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from tests.bench import bigimage
from tests.bench.contenders import IMAGE, Minipod
from tests.bench.machine import Disk, Namespaces, run
from tests.registries import debian_registry, is_installed

_TICKS = os.sysconf("SC_CLK_TCK")
_SAMPLES = 0.05  # seconds
_SETTLE = 0.3  # seconds


@dataclass(frozen=True, slots=True)
class Took:
    """What one pull took: ms of time, ms of processors, and MB of memory at the peak."""

    time: float
    cpu: float
    memory: float


class Puller(Protocol):
    """One way to pull an image and unpack it."""

    name: str

    def pull(self, reference: str) -> Took:
        """Pull *reference* into a store that is empty."""

    def close(self) -> None:
        """Undo everything."""


class Own:
    """``minipod image pull``, with the agent up."""

    name = "minipod"

    def __init__(self, scratch: Path, minipod: Minipod) -> None:
        self._minipod = minipod
        self._disk = Disk(scratch, Path(minipod.instance.config.root_dir, "images"))

    def pull(self, reference: str) -> Took:
        """See :class:`Puller`; the agent's processor time is counted, and of the memory that of its loader."""
        self._disk.fresh()
        agent = next(p.pid for p in self._minipod.instance.processes() if p.comm == "minipod-agent")
        before = _processor_time(agent)

        def loaders(_: int) -> list[int]:
            return [pid for pid in _family(agent) if pid != agent]

        command = [*self._minipod.command, "image", "pull", reference]
        took = _measured([command], self._minipod.env, loaders)
        return replace(took, cpu=took.cpu + _processor_time(agent) - before)

    def close(self) -> None:
        """See :class:`Puller`."""
        self._disk.close()


class Podman:
    """``podman pull``, with a storage of its own."""

    name = "podman"

    def __init__(self, scratch: Path) -> None:
        if not shutil.which("podman"):
            raise FileNotFoundError("no podman: install podman")
        home = scratch / "podman-pull"
        self._disk = Disk(scratch, home)
        places = {"root": home / "root", "runroot": "/run/podman-pull", "tmpdir": "/run/libpod"}
        options = [f"--{option}={place}" for option, place in places.items()]
        self._command = ["podman", *options, "--storage-driver=overlay"]
        # What it keeps elsewhere, whatever it is told: locks, and where it has seen which blob.
        self._hidden = ("/run", "/dev/shm", "/var/lib/containers")
        os.makedirs("/var/lib/containers", exist_ok=True)

    def pull(self, reference: str) -> Took:
        """See :class:`Puller`."""
        self._disk.fresh()
        command = [*self._command, "pull", "--quiet", "--tls-verify=false", reference]
        setup = [("mount", "-t", "tmpfs", "tmpfs", place) for place in self._hidden]
        namespaces = Namespaces(*setup, network=False)
        try:
            with namespaces.inside():
                run(*self._command, "images")  # makes what is made once
                return _measured([command])
        finally:
            namespaces.close()

    def close(self) -> None:
        """See :class:`Puller`."""
        self._disk.close()


class Skopeo:
    """``skopeo copy`` into a layout, and ``umoci unpack`` of that."""

    name = "skopeo+umoci"

    def __init__(self, scratch: Path) -> None:
        for program in ("skopeo", "umoci"):
            if not shutil.which(program):
                raise FileNotFoundError(f"no {program}: install skopeo and umoci")
        self._home = scratch / "skopeo"
        self._disk = Disk(scratch, self._home)

    def pull(self, reference: str) -> Took:
        """See :class:`Puller`."""
        self._disk.fresh()
        layout = f"{self._home}/layout:1"
        copy = ["skopeo", "copy", "--quiet", "--src-tls-verify=false"]
        return _measured(
            [
                [*copy, f"docker://{reference}", f"oci:{layout}"],
                ["umoci", "unpack", "--image", layout, f"{self._home}/bundle"],
            ]
        )

    def close(self) -> None:
        """See :class:`Puller`."""
        self._disk.close()


PULLERS = (Own.name, Podman.name, Skopeo.name)
WARM = ("from busybox", "from that image")


def measure(scratch: Path, minipod: Minipod, runs: int, add: Callable[[str, float], None]) -> None:
    """Pull by each in turn, then start pods from what was pulled and from busybox in turn; tell *add* the samples.

    Raises:
        FileNotFoundError: there is no registry to pull from.
        RuntimeError: something could not be pulled.
    """
    if not is_installed():
        raise FileNotFoundError("no docker-registry: install docker-registry")
    pullers: list[Puller] = [Own(scratch, minipod)]
    for kind in (Podman, Skopeo):
        try:
            pullers.append(kind(scratch))
        except FileNotFoundError as error:
            print(f"bench: {kind.name} does not pull: {error}", file=sys.stderr)
    with debian_registry(scratch / "registry") as registry:
        reference = registry.push(bigimage.build(), "bench/big", "1")
        try:
            for number in range(-1, runs):
                for puller in pullers:
                    os.sync()  # what the one before left to be written is not this one's
                    took = puller.pull(reference)
                    if number >= 0:
                        for what, value in asdict(took).items():
                            add(f"pull {what} {puller.name}", value)
        finally:
            for puller in pullers:
                puller.close()
        _measure_starts(minipod, reference, runs, add)


def _measure_starts(
    minipod: Minipod, reference: str, runs: int, add: Callable[[str, float], None]
) -> None:
    minipod.run("image", "pull", reference)
    for number in range(-1, 2 * runs):
        for image, words in zip((IMAGE, reference), WARM, strict=True):
            time.sleep(_SETTLE)
            took = minipod.start(1, image)
            minipod.remove()
            if number >= 0:
                add(f"start {words}", took)


def _measured(
    commands: Sequence[Sequence[str]],
    env: Mapping[str, str] = os.environ,
    watched: Callable[[int], Iterable[int]] | None = None,
) -> Took:
    """Run commands that must succeed, one after the other.

    Args:
        commands: what to run.
        env: their environment.
        watched: returns whose memory counts, by the pid of the command; it and its descendants when not given.
    """
    whole = Took(0, 0, 0)
    for command in commands:
        with tempfile.TemporaryFile() as said:
            start = time.perf_counter()
            process = subprocess.Popen(
                command, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
            with _Memory(watched or _family, process.pid) as memory:
                _, status, usage = os.wait4(process.pid, 0)
                took = (time.perf_counter() - start) * 1000
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0:
                said.seek(0)
                words = said.read().decode(errors="replace")
                raise RuntimeError(f"exit code {process.returncode}: {' '.join(command)}\n{words}")
        cpu = (usage.ru_utime + usage.ru_stime) * 1000
        whole = Took(whole.time + took, whole.cpu + cpu, max(whole.memory, memory.peak))
    return whole


def _processor_time(pid: int) -> float:
    """Return the processor time of a process and of those of its children that have ended, in ms."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[11:15])) * 1000 / _TICKS


class _Memory:
    """Watches the resident memory of the processes that *watched* returns for *pid*, all together; in MB."""

    def __init__(self, watched: Callable[[int], Iterable[int]], pid: int) -> None:
        self.peak = 0.0
        self._watched = watched
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_SAMPLES):
            self.peak = max(self.peak, sum(map(_peak_memory, self._watched(self._pid))))


def _peak_memory(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _family(pid: int) -> Iterator[int]:
    """Yield a process and its descendants."""
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                yield from _family(child)
