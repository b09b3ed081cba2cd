# SPDX-License-Identifier: GPL-3.0-or-later
"""How long manifests take: ``python -m tests.bench.manifests`` measures, in a process of its own, and prints JSON.

A manifest of 200 lines is read, checked and compiled; hostile ones of 1 MiB are refused. What memory that takes is
the growth of the process's peak.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

from minipod.api import ManifestError, Pod, load_manifests
from minipod.api.yaml import MAX_BYTES
from tests.unit.test_plan_checker import container, sandbox

HEAD = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n"
CONTAINER = """  - name: c%d
    image: registry.example.com/team/app:1.2
    command: [/bin/sh, -c]
    args:
    - exec app --listen "$ADDRESS"
    workingDir: /srv
    env:
    - name: ADDRESS
      value: 0.0.0.0:80
    - name: MODE
      value: production
    ports:
    - name: http
      containerPort: 80
    resources:
      limits:
        cpu: 500m
        memory: 64Mi
    volumeMounts:
    - name: data
      mountPath: /data
"""
LONG = (
    f"{HEAD}  containers:\n"
    + "".join(CONTAINER % number for number in range(9))
    + "  volumes:\n  - name: data\n    emptyDir: {}\n"
)


def hostile() -> Iterator[tuple[str, str]]:
    """Yield texts of up to 1 MiB that are bad in one way, each with its name."""
    lines = MAX_BYTES // 16
    yield (
        "variables",
        f"{HEAD}  containers:\n  - name: a\n    image: b\n    env:\n"
        + "".join(f"    - {{name: A{number}, value: x}}\n" for number in range(lines // 2)),
    )
    yield "unknown fields", HEAD + "".join(f"  imag{number}: 1\n" for number in range(lines))
    yield "nested", HEAD + "  a: " + "[" * 99 + "1," * (MAX_BYTES // 2 - 1000)
    yield "documents", "--- 1\n" * (MAX_BYTES // 6)
    yield "anchors", "".join(f"- &a{number} x\n" for number in range(lines))
    yield (
        "aliases",
        "a: &a [" + "x," * 900 + "]\n" + "".join(f"b{i}: *a\n" for i in range(lines // 2)),
    )
    yield "one text", "a: |\n" + "  x\n" * (MAX_BYTES // 4 - 10)


def milliseconds(action: Callable[[], object]) -> float:
    """Return how long *action* took."""
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


def compile_long() -> None:
    """Do all that a manifest takes before the first step is executed."""
    (document,) = load_manifests(LONG, "pod.yaml")
    pod = document.object
    assert isinstance(pod, Pod)
    sandbox(pod)
    for index in range(len(pod.spec.containers)):
        container(pod, index=index)


def refuse(text: str) -> None:
    """See that a hostile text is refused."""
    try:
        load_manifests(text[:MAX_BYTES], "pod.yaml")
    except ManifestError:
        return
    raise AssertionError("it was accepted")


def peak() -> int:
    """Return the most memory that this process has used, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> int:
    """Measure and print."""
    compile_long()
    before = peak()
    figures = {
        "manifest": min(milliseconds(compile_long) for _ in range(10)),
        "hostile": max(
            min(milliseconds(partial(refuse, text)) for _ in range(2)) for _, text in hostile()
        ),
    }
    figures["hostile memory"] = (peak() - before) / 1024
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
