# SPDX-License-Identifier: GPL-3.0-or-later
"""The Debian package on a Debian that has nothing but what the package asks for: install, use, upgrade, remove, purge.

That Debian is a file tree with namespaces of its own, in which apt and minipod run as on a machine without systemd
(tests/vm has one).
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod import __version__
from native.packaging import cross, deb, source
from tests.features import cgroup_mounts, requires
from tests.instance import TOP

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "tool:mmdebstrap")

CONTROL = (TOP / "native/packaging/debian/control").read_text()
CGROUP = f"mptdeb{os.getpid()}"
# In the namespaces: the tree becomes the root, and nothing of the host's is left but the kernel's own.
SETUP = """
mount --make-rprivate / && mount --bind "$1" "$1" && cd "$1" || exit
mount -t proc proc proc; mount --rbind /sys sys; mount --rbind /dev dev; mount -t tmpfs run run
mount --bind /etc/resolv.conf etc/resolv.conf; cp /bin/busybox run; ip link set lo up
pivot_root . . && /run/busybox umount -l . && echo ready && exec /run/busybox sleep 3600
"""
STAYS = """
apiVersion: v1
kind: Pod
metadata: {name: stay}
spec:
  containers:
  - {name: c, image: "localhost/busybox:1", command: [sleep, "1000"]}
"""
# What apt and dpkg write about themselves.
NOT_OURS = (
    "dev",
    "proc",
    "run",
    "sys",
    "tmp",
    "var/cache",
    "var/lib/apt",
    "var/lib/dpkg",
    "var/log",
)


class Debian:
    """A file tree that is the root of namespaces of its own, until the end of the ``with``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        flags = ("--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child")
        self._holder = subprocess.Popen(
            ["unshare", *flags, "sh", "-c", SETUP, "sh", str(root)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout and self._holder.stdout.readline() == "ready\n"
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        self._pid = children.read_text().strip()

    def __enter__(self) -> Debian:
        return self

    def __exit__(self, *error: object) -> None:
        self._holder.kill()
        self._holder.wait()
        if self._holder.stdout:
            self._holder.stdout.close()
        for _, mount, _ in cgroup_mounts():
            for directory in sorted(Path(mount, CGROUP).rglob("*/"), reverse=True):
                with contextlib.suppress(OSError):
                    directory.rmdir()
            with contextlib.suppress(OSError):
                Path(mount, CGROUP).rmdir()

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run *command* in there."""
        entered = ("nsenter", "--target", self._pid, "--mount", "--pid", "--net", "--uts", "--ipc")
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        done = subprocess.run(
            [*entered, "--root", "sh", "-c", 'cd /; exec "$@"', "sh", *command],
            env={
                "PATH": path,
                "HOME": "/root",
                "DEBIAN_FRONTEND": "noninteractive",
                "LC_ALL": "C.UTF-8",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done

    def network(self, *command: str) -> str:
        """Run a program of the host's in the network namespace."""
        entered = ["nsenter", "--target", self._pid, "--net", *command]
        return subprocess.run(entered, capture_output=True, text=True, check=True).stdout

    def files(self) -> set[str]:
        """Return all paths that are not apt's own."""
        found = set()
        for directory, below, files in os.walk(self.root):
            here = Path(directory).relative_to(self.root)
            below[:] = [name for name in below if str(here / name) not in NOT_OURS]
            below[:] = [name for name in below if name != "__pycache__"]
            found |= {str(here / name) for name in (*below, *files)}
        return found


def depends() -> list[str]:
    """Return the names of the packages that ours needs."""
    line = next(x for x in CONTROL.splitlines() if x.startswith("Depends:")).partition(":")[2]
    return sorted({re.split(r"[\s(]", item.strip())[0] for item in line.split(",")})


@pytest.fixture(scope="module")
def debian(
    package: Path, busybox_archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Debian]:
    """A Debian with what the package depends on, which apt thus need not fetch."""
    root = tmp_path_factory.mktemp("debian") / "root"
    options = (
        "APT::Install-Recommends false",
        "Acquire::Languages none",
        "Acquire::Check-Valid-Until false",
    )
    source.run(
        *("mmdebstrap", "--quiet", "--mode=root", "--format=directory", "--variant=apt"),
        *(f"--aptopt={option}" for option in options),
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("locale", "zoneinfo")),
        *(
            f"--include={','.join(depends())}",
            os.environ.get("MINIPOD_TEST_SUITE", cross.SUITE),
            root,
            cross.MIRROR,
        ),
    )
    for path in (package, busybox_archive, TOP / "examples/hello.yaml"):
        shutil.copy(path, root / "root" / path.name.replace(package.name, "minipod.deb"))
    (root / "etc/minipod").mkdir()
    (root / "etc/minipod/config.toml").write_text(f'cgroup_parent = "{CGROUP}"\n')
    with Debian(root) as running:
        yield running


def test_it_asks_for_all_that_it_needs() -> None:
    """Each dependency in pyproject.toml is in the package, or is one of Debian's that the package depends on."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[^\w.-]", text)[0].lower() for text in project["dependencies"]}
    inside = {re.split(r"[^\w.-]", text)[0].lower() for text in deb.requirements()}
    assert names - inside == deb.FROM_DEBIAN
    debian = {"cffi": "python3-cffi-backend", "h2": "python3-h2", "python-prctl": "python3-prctl"}
    debian["pyyaml"] = "python3-yaml"
    assert {debian[name] for name in deb.FROM_DEBIAN} <= set(depends())


def test_what_is_in_it(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--raw-extract", package, tmp_path], check=True)
    control = (tmp_path / "DEBIAN/control").read_text()
    assert f"\nVersion: {__version__}\n" in control
    for name in ("bash-completion/completions/minipod", "fish/vendor_completions.d/minipod.fish"):
        assert "minipod" in (tmp_path / "usr/share" / name).read_text()
    assert (tmp_path / "usr/share/zsh/vendor-completions/_minipod").exists()
    pages = {path.name for path in (tmp_path / "usr/share/man/man1").iterdir()}
    assert {"minipod.1.gz", "minipod-run.1.gz", "minipod-image-pull.1.gz"} <= pages
    title = gzip.decompress(
        (tmp_path / "usr/share/man/man1/minipod.1.gz").read_bytes()
    ).splitlines()[0]
    assert f'"minipod {__version__}"'.encode() in title
    for unit in (TOP / "minipod/agent").glob("minipod-agent.s*"):
        text = (tmp_path / "usr/lib/systemd/system" / unit.name).read_text()
        assert "/opt/" not in text
    assert (
        "ExecStart=/usr/lib/minipod/bin/python -P -m minipod.agent\n"
        in (tmp_path / "usr/lib/systemd/system/minipod-agent.service").read_text()
    )
    # The check of a Debian developer, where it is installed.
    if shutil.which("lintian"):
        command = ["lintian", "--allow-root", "--fail-on=error,warning", str(package)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_whole_life(debian: Debian, busybox_archive: Path) -> None:
    """Installed by apt, it runs a pod, which outlives an upgrade; removed, it takes pods along; purged, all else."""
    before = debian.files()
    debian.run("apt-get", "install", "-y", "-q", "/root/minipod.deb")
    assert debian.run("minipod", "version").stdout == f"minipod {__version__}\n"
    doctor = debian.run("minipod", "doctor", check=False).stdout
    assert "fail  libraries" not in doctor and "ok    executables" in doctor
    debian.run("minipod", "image", "load", f"/root/{busybox_archive.name}")
    said = debian.run("minipod", "run", "/root/hello.yaml")
    assert "hello" in said.stdout.lower()
    completed = debian.run(
        "bash", "-c", ". /usr/share/bash-completion/completions/minipod; complete -p minipod"
    )
    assert "minipod" in completed.stdout
    assert list(debian.root.glob("usr/lib/minipod/site-packages/minipod/cli/__pycache__/*.pyc")), (
        "compiled"
    )

    (debian.root / "root/stay.yaml").write_text(STAYS)
    debian.run("minipod", "run", "-d", "/root/stay.yaml")
    query = (
        "minipod",
        "get",
        "pod",
        "stay",
        "-o",
        "jsonpath={.status.containerStatuses[0].containerID}",
    )
    container = debian.run(*query).stdout
    debian.run("apt-get", "install", "-y", "-q", "--reinstall", "/root/minipod.deb")
    assert debian.run("minipod", "agent", "status", check=False).returncode == 1, (
        "the old agent has gone"
    )
    assert debian.run(*query).stdout == container, "the pod has not"

    said = debian.run("apt-get", "remove", "-y", "-q", "minipod")
    assert "deleting all pods" in said.stdout
    assert "minipod0" not in debian.network("ip", "link")
    assert debian.network("nft", "list", "tables") == ""
    assert (debian.root / "var/lib/minipod/images").is_dir()
    # Zombies have none: the first process of this Debian is not one that waits for others.
    assert "minipod" not in debian.run("sh", "-c", "cat /proc/[0-9]*/cmdline").stdout

    debian.run("apt-get", "purge", "-y", "-q", "minipod")
    left = debian.files() - before - {"root/stay.yaml"}
    assert not [path for path in left if "minipod" in path or "pods" in path], left
    assert not (debian.root / "etc/minipod").exists()
