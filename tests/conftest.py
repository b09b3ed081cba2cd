# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixtures that all tests share: a throw-away minipod, images for it, the C code under sanitizers.

A test that uses ``instance`` or ``shared_instance`` also tests that nothing is left behind: the host is
compared before and after, and a leak is an error of that test. What a test needs of the machine it says with
``requires`` (tests/features.py).
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests import features, skips
from tests.instance import TOP, Instance
from tests.skips import (
    pytest_make_collect_report,
    pytest_runtest_makereport,
    pytest_runtest_setup,
    pytest_terminal_summary,
)

__all__ = [
    "pytest_collection_modifyitems",
    "pytest_make_collect_report",
    "pytest_runtest_makereport",
    "pytest_runtest_setup",
    "pytest_terminal_summary",
]

ORDER = ("unit", "root", "e2e", "vm")
NEEDS = ("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the quick and exact tests first: what they find explains what the others see."""

    def rank(item: pytest.Item) -> int:
        room = (
            item.path.relative_to(TOP / "tests").parts[0]
            if item.path.is_relative_to(TOP / "tests")
            else ""
        )
        return ORDER.index(room) if room in ORDER else len(ORDER)

    items.sort(key=rank)


@pytest.fixture(scope="session")
def image_maker() -> ModuleType:
    """``examples/busybox-image`` as a module: what writes OCI archives."""
    loader = importlib.machinery.SourceFileLoader(
        "busybox_image", str(TOP / "examples" / "busybox-image")
    )
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module  # dataclasses look for the module of their class
    loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def busybox_archive(image_maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of ``localhost/busybox:1``: a shell and the usual commands."""
    path = tmp_path_factory.mktemp("images") / "busybox.tar"
    done = subprocess.run(
        [TOP / "examples" / "busybox-image", path], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(done.stderr.strip())
    return path


@pytest.fixture(scope="session")
def probe_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tests/probe/probe.c``, static: says what the process sees (see there)."""
    path = tmp_path_factory.mktemp("probe") / "probe"
    compiler = shutil.which("musl-gcc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no musl-gcc and no gcc")
    flags = ["-std=gnu17", "-D_GNU_SOURCE", "-O2", "-static", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, TOP / "tests/probe/probe.c", "-o", path], check=True)
    return path


@pytest.fixture(scope="session")
def probe_archive(
    image_maker: ModuleType, probe_program: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The archive of ``localhost/probe:1``: /probe and nothing to hide behind."""
    entries = [
        image_maker.Entry("etc"),
        image_maker.Entry(
            "etc/group", 0o644, image_maker.GROUP.encode() + b"extra:x:2000:someone\n"
        ),
        image_maker.Entry(
            "etc/passwd", 0o644, image_maker.PASSWD.encode() + b"someone:x:1000:1000::/:/probe\n"
        ),
        image_maker.Entry("probe", 0o755, probe_program.read_bytes()),
        image_maker.Entry("tmp", 0o1777),
    ]
    config = {"Entrypoint": ["/probe"], "Cmd": ["report"], "Env": ["PATH=/"], "WorkingDir": "/"}
    path = tmp_path_factory.mktemp("images") / "probe.tar"
    path.write_bytes(image_maker.archive("localhost/probe:1", [image_maker.layer(entries)], config))
    return path


@pytest.fixture(scope="session")
def sanitized() -> Path:
    """The directory with minipod-shim and minipod-pause built with ASan and UBSan."""
    build = TOP / ".build" / "native"
    done = subprocess.run(
        ["make", "-C", TOP / "native", f"BUILDDIR={build}", "sanitize"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return build / "sanitized"


@pytest.fixture
def instance(request: pytest.FixtureRequest, busybox_archive: Path) -> Iterator[Instance]:
    """A minipod of this test's own, with ``localhost/busybox:1``."""
    yield from _instance(request, busybox_archive)


@pytest.fixture(scope="module")
def shared_instance(request: pytest.FixtureRequest, busybox_archive: Path) -> Iterator[Instance]:
    """A minipod for all tests of a module, with ``localhost/busybox:1``; for tests that do not harm it."""
    yield from _instance(request, busybox_archive)


def _instance(request: pytest.FixtureRequest, *archives: Path) -> Iterator[Instance]:
    if reason := features.missing(*NEEDS):
        pytest.skip(reason)
    instance = Instance()
    complaints: list[str] = []
    try:
        for archive in archives:
            instance.load(archive)
        yield instance
    finally:
        outcomes = request.node.stash.get(skips.OUTCOMES, {})
        logs = instance.logs()
        complaints = instance.stop()
        if complaints or outcomes.get("call") != "passed":
            print(logs)
    if complaints:
        pytest.fail("the instance left something behind:\n" + "\n".join(complaints), pytrace=False)
