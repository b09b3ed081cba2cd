# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixtures that all tests share: a throw-away minipod, images for it, the C code under sanitizers.

A test that uses ``instance`` or ``shared_instance`` also tests that nothing is left behind: the host is
compared before and after, and a leak is an error of that test. What a test needs of the machine it says with
``requires`` (tests/features.py).
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings

from native.packaging import cross, deb, wheels
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

# No test asserts a time, Hypothesis' neither.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ORDER = ("unit", "root", "e2e", "packaging", "vm")
SOMEONE = "someone:x:1000:1000::/home/someone:/probe\n"
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
    if ready := os.environ.get("MINIPOD_TEST_PROBE"):  # in tests/vm, whose machine has no compiler
        return Path(ready)
    path = tmp_path_factory.mktemp("probe") / "probe"
    compiler = shutil.which("musl-gcc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no musl-gcc and no gcc")
    flags = ["-std=gnu17", "-D_GNU_SOURCE", "-O2", "-static", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, TOP / "tests/probe/probe.c", "-o", path], check=True)
    return path


@dataclass(frozen=True)
class Images:
    """Makes archives of images for tests; all hold ``/probe`` and two users, root and someone (1000, extra 2000)."""

    maker: ModuleType
    program: Path
    directory: Path

    def probe(
        self,
        name: str,
        config: dict[str, Any],
        *more: tuple[str, bytes | None, str],
        layers: Sequence[bytes] = (),
    ) -> Path:
        """Return the archive of ``localhost/NAME:1``.

        Args:
            name: of the image.
            config: what stands in its config, besides Entrypoint /probe and PATH=/.
            more: (path, data, target): further files, directories (neither), links (target).
            layers: further layers, below.
        """
        entry, maker = self.maker.Entry, self.maker
        group, passwd = maker.GROUP + "extra:x:2000:someone\n", maker.PASSWD + SOMEONE
        entries = [
            entry("etc"),
            entry("etc/group", 0o644, group.encode()),
            entry("etc/passwd", 0o644, passwd.encode()),
            entry("probe", 0o755, self.program.read_bytes()),
            entry("tmp", 0o1777),
        ]
        replaced = {path.split("/")[0] for path, _, target in more if target}
        entries = [e for e in entries if e.path.split("/")[0] not in replaced]
        entries += [entry(path, 0o755, data, target) for path, data, target in more]
        defaults = {"Entrypoint": ["/probe"], "Cmd": ["report"], "Env": ["PATH=/"]}
        path = self.directory / f"{name}.tar"
        made = maker.archive(
            f"localhost/{name}:1", [*layers, maker.layer(entries)], {**defaults, **config}
        )
        path.write_bytes(made)
        return path


@pytest.fixture(scope="session")
def images(
    image_maker: ModuleType, probe_program: Path, tmp_path_factory: pytest.TempPathFactory
) -> Images:
    """Makes archives of images."""
    return Images(image_maker, probe_program, tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def probe_archive(images: Images) -> Path:
    """The archive of ``localhost/probe:1``: /probe and nothing to hide behind."""
    return images.probe("probe", {"WorkingDir": "/"})


@pytest.fixture(scope="session")
def test_archive(images: Images) -> Path:
    """The archive of ``localhost/test:1``: busybox and, in a layer above, /probe."""
    busybox = Path("/bin/busybox")
    if not busybox.exists():
        pytest.skip("no busybox: install the package busybox-static")
    done = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True)
    entries = images.maker.busybox_entries(busybox.read_bytes(), done.stdout.split())
    config = {
        "Entrypoint": None,
        "Cmd": ["/probe", "report", "hold"],
        "Env": [f"PATH={images.maker.PATH}"],
    }
    return images.probe("test", config, layers=[images.maker.layer(entries)])


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution and this machine's wheel, as ``make wheels`` makes them."""
    (ours,) = (arch.name for arch in cross.ARCHITECTURES.values() if arch.is_ours)
    archive, wheel = wheels.build(tmp_path_factory.mktemp("dist"), [ours])
    return archive, wheel


@pytest.fixture(scope="session")
def package(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package, as ``make deb`` makes it."""
    return deb.build(tmp_path_factory.mktemp("deb"), distributions[1])


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
    yield from _instance(request, {}, busybox_archive)


@pytest.fixture(scope="module")
def shared_instance(request: pytest.FixtureRequest, test_archive: Path) -> Iterator[Instance]:
    """A minipod for all tests of a module, with ``localhost/test:1``; for tests that do not harm it."""
    yield from _instance(request, {}, test_archive)


@pytest.fixture(scope="module")
def fallback_instance(request: pytest.FixtureRequest, test_archive: Path) -> Iterator[Instance]:
    """As ``shared_instance``, with an agent that plans as for an old kernel (``minipod/runtime/facts.py``)."""
    yield from _instance(request, {"MINIPOD_FORCE_FALLBACK": "overlay"}, test_archive)


def _instance(
    request: pytest.FixtureRequest, env: dict[str, str], *archives: Path
) -> Iterator[Instance]:
    if reason := features.missing(*NEEDS):
        pytest.skip(reason)
    instance = Instance(env)
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
