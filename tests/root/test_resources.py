# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits, as the host's cgroups have them and as programs meet them; and the plans for old kernels."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod import native
from minipod.plan.resources import cpu_weight
from tests import features
from tests.conftest import Images
from tests.features import requires
from tests.instance import Instance, Json

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")


def limited(command: list[str] | None = None, **limits: str) -> Json:
    """Return a container with these limits, and requests where a name ends in _request."""
    requests = {n.removesuffix("_request"): v for n, v in limits.items() if n.endswith("_request")}
    plain = {n: v for n, v in limits.items() if not n.endswith("_request")}
    container: Json = {"resources": {"limits": plain, "requests": requests}}
    return {**container, "command": command} if command else container


def cgroup_file(instance: Instance, pod: str, container: str, *names: str) -> str:
    """Return the text of the first of *names* (v1's, v2's) that the host has in a container's (or pod's) cgroup."""
    path = f"{instance.pod_cgroup(pod)}/{container}".rstrip("/")
    for _, top, _ in features.cgroup_mounts():
        for name in names:
            if (top / path / name).exists():
                return (top / path / name).read_text().strip()
    raise AssertionError(f"no cgroup hierarchy has {' or '.join(names)} in {path}")


def memory_limit(instance: Instance, pod: str, container: str = "") -> int | None:
    text = cgroup_file(instance, pod, container, "memory.limit_in_bytes", "memory.max")
    return None if text == "max" or int(text) >= 1 << 60 else int(text)


def cpu_quota(instance: Instance, pod: str, container: str = "") -> tuple[int | None, int]:
    """Return (microseconds, period)."""
    if any("cpu" in options for kind, _, options in features.cgroup_mounts() if kind == "cgroup"):
        quota = int(cgroup_file(instance, pod, container, "cpu.cfs_quota_us"))
        period = int(cgroup_file(instance, pod, container, "cpu.cfs_period_us"))
        return (quota if quota >= 0 else None, period)
    quota_text, period_text = cgroup_file(instance, pod, container, "cpu.max").split()
    return (None if quota_text == "max" else int(quota_text), int(period_text))


def cpu_share(instance: Instance, pod: str, container: str = "") -> int:
    """Return v1's shares; v2's weight turned back, to 4 % off at most."""
    if any("cpu" in options for kind, _, options in features.cgroup_mounts() if kind == "cgroup"):
        return int(cgroup_file(instance, pod, container, "cpu.shares"))
    weight = int(cgroup_file(instance, pod, container, "cpu.weight"))
    return next(shares for shares in range(2, 262145) if cpu_weight(shares) >= weight)


# ---- memory ---------------------------------------------------------------------------------------------------


@requires("cgroup:memory")
def test_out_of_memory(shared_instance: Instance) -> None:
    pod = shared_instance.run_pod(
        "oom",
        limited(["/probe", "mem", "64", "hold"], memory="32Mi"),
        limited(["/probe", "mem", "8"]),
    )
    first, second = (s["state"]["terminated"] for s in pod["status"]["containerStatuses"])
    assert (first["exitCode"], first["signal"], first["reason"]) == (137, 9, "OOMKilled")
    assert (second["exitCode"], second["reason"]) == (0, "Completed"), "it has a limit of its own"
    shared_instance.delete("oom")


@requires("cgroup:memory")
def test_a_kill_is_no_oom(shared_instance: Instance) -> None:
    pod = shared_instance.run_pod(
        "kill", limited(["sh", "-c", "kill -9 $$; exec sh -c 'exit 137'"], memory="32Mi")
    )
    state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["reason"]) == (137, "Error")
    shared_instance.delete("kill")


@pytest.mark.field(
    "Container.resources", "ResourceRequirements.limits", "ResourceRequirements.requests"
)
@requires("cgroup:memory", "cgroup:cpu")
def test_limits_are_in_the_cgroups(shared_instance: Instance) -> None:
    shared_instance.start_pod(
        "both",
        limited(cpu="500m", memory="64Mi", pids="50", cpu_request="250m", memory_request="1Mi"),
        limited(cpu="1500m", memory="32Mi"),
    )
    instance = shared_instance
    assert memory_limit(instance, "both", "c0.0") == 64 << 20
    assert memory_limit(instance, "both", "c1.0") == 32 << 20
    assert memory_limit(instance, "both") == 96 << 20, "all have one: the pod has the sum"
    assert cpu_quota(instance, "both", "c0.0") == (50_000, 100_000)
    assert cpu_quota(instance, "both", "c1.0") == (150_000, 100_000)
    assert cpu_quota(instance, "both") == (200_000, 100_000)
    assert abs(cpu_share(instance, "both", "c0.0") / 256 - 1) < 0.04
    assert abs(cpu_share(instance, "both", "c1.0") / 1536 - 1) < 0.04, "no request: the limit"
    assert abs(cpu_share(instance, "both") / 1792 - 1) < 0.04
    assert cgroup_file(instance, "both", "c0.0", "pids.max") == "50"
    assert cgroup_file(instance, "both", "c1.0", "pids.max") == "max"
    assert cgroup_file(instance, "both", "", "pids.max") == "4096"
    shared_instance.delete("both")


@requires("cgroup:memory", "cgroup:cpu")
def test_no_limits(shared_instance: Instance) -> None:
    shared_instance.start_pod("none", limited(cpu="1", memory="32Mi"), {})
    for container in ("c1.0", ""):
        assert memory_limit(shared_instance, "none", container) is None, "one has none: so the pod"
        assert cpu_quota(shared_instance, "none", container)[0] is None
    assert cpu_share(shared_instance, "none", "c1.0") == 2
    shared_instance.delete("none")


@requires("cgroup:memory")
def test_an_executed_command_is_limited_too(shared_instance: Instance) -> None:
    shared_instance.start_pod("execmem", limited(memory="32Mi"))
    done = shared_instance.exec("execmem", "/probe", "mem", "64")
    assert done.returncode == 137
    if features.missing("cgroup2-controllers"):
        assert shared_instance.probe("execmem", "mem", "4") == {"touched": 4 << 20}
        assert "running" in shared_instance.container("execmem")["state"]
    else:  # memory.oom.group: none of the container goes on
        pod = shared_instance.until("execmem", lambda pod: pod["status"]["phase"] == "Failed")
        ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")
    shared_instance.delete("execmem")


# ---- cpu ------------------------------------------------------------------------------------------------------


@requires("cgroup:cpu")
def test_cpu_is_throttled(shared_instance: Instance) -> None:
    shared_instance.start_pod("busy", limited(["sh", "-c", "while :; do :; done"], cpu="20m"), {})

    def throttled(container: str) -> int:
        lines = cgroup_file(shared_instance, "busy", container, "cpu.stat").splitlines()
        return int(dict(line.split() for line in lines).get("nr_throttled", 0))

    while throttled("c0.0") < 3:
        assert "running" in shared_instance.container("busy")["state"]
    assert throttled("c1.0") == 0
    shared_instance.delete("busy")


# ---- pids -----------------------------------------------------------------------------------------------------


def test_pids_limit_of_a_container(shared_instance: Instance) -> None:
    shared_instance.start_pod("pids", limited(pids="20"), {})
    # Itself and the container's first process are in it.
    assert shared_instance.probe("pids", "fork", "100") == {"forked": 18, "errno": errno.EAGAIN}
    answer = shared_instance.probe("pids", "fork", "100", container="c1")
    assert answer == {"forked": 100, "errno": 0}, "its neighbour is not limited"
    shared_instance.delete("pids")


def test_fork_bomb(shared_instance: Instance) -> None:
    """It stops at the limit, harms no other pod, and goes when the pod is deleted."""
    bomb = "b() { b & b & wait; }; while :; do b; done 2>/dev/null"
    shared_instance.start_pod("bystander", {})
    shared_instance.start_pod("bomb", limited(["sh", "-c", bomb], pids="64"))

    def refused() -> int:
        return int(cgroup_file(shared_instance, "bomb", "c0.0", "pids.events").split()[1])

    while refused() == 0:
        assert int(cgroup_file(shared_instance, "bomb", "c0.0", "pids.current")) <= 64
    assert shared_instance.probe("bystander", "fork", "10") == {"forked": 10, "errno": 0}
    uid = shared_instance.pod("bomb")["metadata"]["uid"]
    shared_instance.delete("bomb", "bystander")
    assert [p for p in shared_instance.processes() if uid in p.cgroup] == []


# ---- old kernels ----------------------------------------------------------------------------------------------

LAYERS = 120  # image-spec has no limit; ours is 127 with the image's own


@pytest.fixture(scope="module")
def tall_image(images: Images) -> Path:
    """``localhost/tall:1``: each layer has a file of its own, replaces one, and removes the one of the layer below."""
    entry = images.maker.Entry
    layers = [
        images.maker.layer(
            [
                entry("layers"),
                entry(f"layers/{n}", 0o644, b"x"),
                entry("layers/top", 0o644, str(n).encode()),
                *([entry(f"layers/.wh.{n - 1}", 0o644, b"")] if n % 2 else []),
            ]
        )
        for n in range(LAYERS)
    ]
    return images.probe("tall", {"Cmd": ["report", "hold"]}, layers=layers)


@pytest.fixture(scope="module", params=["shared_instance", "fallback_instance"])
def either(request: pytest.FixtureRequest, tall_image: Path) -> Iterator[Instance]:
    """An agent that plans for this kernel, and one that plans for Linux before 6.5; both run the same image."""
    instance: Instance = request.getfixturevalue(request.param)
    instance.load(tall_image)
    instance.start_pod("tall", {"image": "localhost/tall:1"}, {"image": "localhost/tall:1"})
    yield instance
    instance.delete("tall")


def test_many_layers(either: Instance) -> None:
    found = either.probe("tall", "list", "/layers")
    assert set(found) == {str(n) for n in range(LAYERS) if n % 2} | {"top"}
    assert either.probe("tall", "read", "/layers/top") == {"text": str(LAYERS - 1)}
    # Writing copies up, for this container alone.
    assert either.probe("tall", "write", "/layers/top", "mine") == {"written": 4}
    assert either.probe("tall", "read", "/layers/top") == {"text": "mine"}
    answer = either.probe("tall", "read", "/layers/top", container="c1")
    assert answer == {"text": str(LAYERS - 1)}


def test_the_fallback_is_what_runs(either: Instance) -> None:
    fallback = "MINIPOD_FORCE_FALLBACK" in either.env or not native.overlay_appends_layers()
    lines = Path(f"/proc/{either.pid('tall')}/mountinfo").read_text().splitlines()
    roots = [line for line in lines if line.split()[4] == "/"]
    assert len(roots) == 1 and " - overlay " in roots[0]
    assert ("lowerdir=0:1:2:" in roots[0]) == fallback
    assert [
        line
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if str(either.base) in line
    ] == []
    assert (
        os.listdir(
            Path(
                either.config.run_dir,
                "pods",
                os.listdir(f"{either.config.run_dir}/pods")[0],
                "0",
                "root",
            )
        )
        == []
    )


def test_the_posture_is_the_same(either: Instance) -> None:
    report = json.loads(either.first_line("tall"))
    assert sorted(report["fds"]) == ["0", "1", "2"]
    assert sorted(either.probe("tall", "fds")) == ["0", "1", "2"]
    assert sorted(os.listdir(f"/proc/{either.pid('tall')}/fd")) == ["0", "1", "2"]
    assert report["seccomp"]["mode"] == "2"
    targets = [m["target"] for m in report["mounts"]]
    assert targets.count("/") == 1 and "/proc" in targets
    assert not [m for m in report["mounts"] if m["propagation"]]
    assert either.probe("tall", "try-syscall", "unshare", "0")["errno"] == errno.EPERM
