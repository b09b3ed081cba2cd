# SPDX-License-Identifier: GPL-3.0-or-later
"""How long things take, for people to read and no test to depend on: ``make bench``.

Pods of one and of three containers are started by each contender in turn, round after round, so that whatever else
the machine does meanwhile meets all of them. Removing them is not measured. Then an image is pulled (``--only pull``:
nothing but that), then the command line alone.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import pulls
from tests.bench.contenders import CONTENDERS, Contender, Minipod, milliseconds
from tests.bench.machine import adopt_orphans, end_descendants, run
from tests.instance import TOP

SETTLE = 0.5  # seconds
PULL = "pull"  # as a contender: minipod, which pulls and does nothing else
OTHERS = ("podman", "floor", "untimed", "watched")
SIZES = {1: "one container", 3: "three containers"}


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure to be reached: at most *limit*."""

    text: str
    figure: str
    limit: float
    unit: str = ""


GOALS = (
    Goal("one container, minipod / podman", "minipod/podman 1", 0.50),
    Goal("three containers, minipod / podman", "minipod/podman 3", 0.33),
    Goal("the agent's share of a start", "agent 1", 40, "ms"),
    Goal("its share, steps timed / not, 1", "agent/untimed agent 1", 1.05),
    Goal("its share, steps timed / not, 3", "agent/untimed agent 3", 1.05),
    Goal("minipod version", "minipod version", 120, "ms"),
    Goal("200 lines, read, checked, compiled", "manifest", 10, "ms"),
    Goal("1 MiB of nonsense, refused", "hostile", 1000, "ms"),
    Goal("its memory", "hostile memory", 256, "MiB"),
    Goal("private memory of shim and pause", "minipod memory 1", 300, "KiB"),
    Goal("pulling an image, minipod / podman", "pull minipod/podman", 0.70),
    Goal("its memory", "pull memory minipod", 150, "MB"),
    # Noise: they differ by some mounts.
    Goal("start of a pod, that image / busybox", "start ratio", 1.05),
)


@dataclass(slots=True)
class Results:
    """Samples by name; ms, or KiB for memory."""

    samples: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        """Add one sample."""
        self.samples.setdefault(name, []).append(value)

    def median(self, name: str) -> float | None:
        """Return the median of what *name* got, if anything."""
        return statistics.median(self.samples[name]) if name in self.samples else None

    def figures(self) -> dict[str, float]:
        """Return the medians, and the ratios of the medians of starts."""
        figures = {name: statistics.median(values) for name, values in self.samples.items()}
        for size in SIZES:
            own = self.median(f"minipod {size}")
            for other in OTHERS:
                others = self.median(f"{other} {size}")
                if own is not None and others:
                    figures[f"minipod/{other} {size}"] = own / others
            timed, untimed = self.median(f"agent {size}"), self.median(f"untimed agent {size}")
            if timed is not None and untimed:
                figures[f"agent/untimed agent {size}"] = timed / untimed
        for what in ("time", "cpu"):
            for other in pulls.PULLERS[1:]:
                if others := self.median(f"pull {what} {other}"):
                    name = f"pull minipod/{other}" + (" cpu" if what == "cpu" else "")
                    figures[name] = figures[f"pull {what} minipod"] / others
        busybox, big = (self.median(f"start {words}") for words in pulls.WARM)
        if busybox and big:
            figures["start ratio"] = big / busybox
        return figures


def measure_pods(contenders: list[Contender], runs: int, results: Results) -> None:
    """Start pods by each of *contenders* in turn; the first round warms caches and agents and is not counted."""
    for number in range(-1, runs):
        for size in SIZES:
            for contender in contenders:
                # What the one before left to the kernel to take down, its network above all, is not this one's.
                time.sleep(SETTLE)
                took = contender.start(size)
                facts = contender.facts()
                contender.remove()
                if number < 0:
                    continue
                results.add(f"{contender.name} {size}", took)
                for name, value in facts.items():
                    agents = name == "agent" and contender.name == "minipod"
                    results.add(
                        f"agent {size}" if agents else f"{contender.name} {name} {size}", value
                    )
        if sys.stderr.isatty():
            print(f"\rround {number + 1} of {runs} ", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)


def measure_command(minipod: Minipod, runs: int, results: Results) -> None:
    """Measure ``minipod version``, beside what Python and typer need of it."""

    def python(code: str) -> Callable[[], object]:
        command = [sys.executable, "-c", code]
        return lambda: subprocess.run(command, env=minipod.env, cwd="/", check=True)

    commands: dict[str, Callable[[], object]] = {
        "python -c pass": python("pass"),
        "python -c 'import typer'": python("import typer"),
        "minipod version": lambda: minipod.run("version"),
    }
    for number in range(-1, max(runs, 10)):
        for name, command in commands.items():
            took = milliseconds(command)
            if number >= 0:
                results.add(name, took)


def measure_pulls(
    scratch: Path, archive: Path, contenders: list[Contender], runs: int, results: Results
) -> None:
    """Measure pulls; minipod joins *contenders* for it where it is not one of them."""
    minipod = next((each for each in contenders if isinstance(each, Minipod)), None)
    if minipod is None:
        minipod = Minipod(scratch, archive)
        contenders.append(minipod)
    try:
        pulls.measure(scratch, minipod, max(1, runs // 2), results.add)
    except FileNotFoundError as error:
        print(f"bench: pulls are left out: {error}", file=sys.stderr)


def measure_manifests(results: Results) -> None:
    """Measure manifests without any pod, in a process of their own: its peak of memory is theirs."""
    command = [sys.executable, "-m", "tests.bench.manifests"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    for name, value in json.loads(done.stdout).items():
        results.add(name, value)


def report(results: Results) -> str:
    """Return all as text for people."""
    figures = results.figures()
    lines = []

    def show(what: str, name: str, unit: str = "ms") -> None:
        if values := results.samples.get(name):
            lines.append(f"  {what:<34} {statistics.median(values):8.1f} {min(values):8.1f} {unit}")

    for size, words in SIZES.items():
        lines.append(f"{f'start of a pod with {words}':<38} median    least")
        for name in CONTENDERS:
            show(name, f"{name} {size}")
        show("the agent's share of minipod's", f"agent {size}")
        for other in OTHERS:
            if ratio := figures.get(f"minipod/{other} {size}"):
                lines.append(f"  {f'minipod / {other}':<34} {ratio:8.2f}")
        if ratio := figures.get(f"agent/untimed agent {size}"):
            lines.append(f"  {'the agent, timing steps / not':<34} {ratio:8.2f}")
        show("floor: taking it down again", f"floor teardown {size}")
    lines.append("private memory of a pod, without its containers' own")
    for size, words in SIZES.items():
        show(f"minipod, {words}", f"minipod memory {size}", "KiB")
        show(f"podman, {words}", f"podman memory {size}", "KiB")
    lines.append("pull of an image: 5 layers, 20,000 files, 338 MB")
    for name in pulls.PULLERS:
        show(name, f"pull time {name}")
        show("  of the processors", f"pull cpu {name}")
        show("  memory", f"pull memory {name}", "MB")
    for name in pulls.PULLERS[1:]:
        if ratio := figures.get(f"pull minipod/{name}"):
            lines.append(f"  {f'minipod / {name}':<34} {ratio:8.2f}")
            lines.append(
                f"  {'  of the processors':<34} {figures[f'pull minipod/{name} cpu']:8.2f}"
            )
    for words in pulls.WARM:
        show(f"start of a pod {words}", f"start {words}")
    lines.append("the command line alone")
    for name in ("python -c pass", "python -c 'import typer'", "minipod version"):
        show(name, name)
    # Of what was not measured, not even the heading.
    lines = [
        line
        for line, below in zip(lines, [*lines[1:], ""], strict=True)
        if line.startswith(" ") or below.startswith(" ")
    ]
    lines.append("goals")
    for goal in GOALS:
        if (figure := figures.get(goal.figure)) is not None:
            verdict = "reached" if figure <= goal.limit else "missed"
            lines.append(
                f"  {goal.text:<34} {figure:8.2f} ≤ {goal.limit:g} {goal.unit:<4} {verdict}"
            )
        else:
            lines.append(f"  {goal.text:<34} {'–':>8} ≤ {goal.limit:g} {goal.unit:<4} not measured")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="make bench", description="measure minipod, podman and the floor"
    )
    parser.add_argument("--runs", type=int, default=10, help="rounds (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write samples and figures to this file")
    names = ",".join((*CONTENDERS, PULL))
    parser.add_argument(
        "--only", default=names, help="which contenders, in which order (default: %(default)s)"
    )
    result = parser.parse_args()
    result.names = result.only.split(",")
    if unknown := set(result.names) - CONTENDERS.keys() - {PULL}:
        parser.error(f"no such contender: {', '.join(sorted(unknown))}; there are {names}")
    if result.runs < 1:
        parser.error("--runs must be 1 or more")
    return result


def main() -> int:
    """Measure and print; the exit code says whether it could be measured and nothing was left behind."""
    options = arguments()
    if os.geteuid() != 0:
        print("bench: needs root: say make bench", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    adopt_orphans()
    results = Results()
    contenders: list[Contender] = []
    complaints: list[str] = []
    with tempfile.TemporaryDirectory(prefix="mpt-bench-") as scratch:
        try:
            archive = Path(scratch, "busybox.tar")
            run(sys.executable, TOP / "examples" / "busybox-image", archive)
            for name in options.names:
                try:
                    if name in CONTENDERS:
                        contenders.append(CONTENDERS[name](Path(scratch), archive))
                except FileNotFoundError as error:
                    print(f"bench: {name} is left out: {error}", file=sys.stderr)
            if contenders:
                measure_pods(contenders, options.runs, results)
                measure_manifests(results)
            for contender in contenders:
                if type(contender) is Minipod:
                    measure_command(contender, options.runs, results)
            if PULL in options.names:
                measure_pulls(Path(scratch), archive, contenders, options.runs, results)
        except (OSError, RuntimeError, AssertionError) as error:
            complaints.append(str(error))
        finally:
            for contender in contenders:
                try:
                    complaints += contender.close()
                except (OSError, RuntimeError, AssertionError) as error:
                    complaints.append(f"{contender.name}: {error}")
            if killed := end_descendants():
                complaints.append(f"{killed} processes were left and had to be killed")
            for contender in contenders:
                contender.sweep()
            for complaint in complaints:
                print(f"bench: {complaint}", file=sys.stderr)
    print(report(results))
    if options.json:
        document = {"samples": results.samples, "figures": results.figures()}
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 1 if complaints else 0
