# SPDX-License-Identifier: GPL-3.0-or-later
"""The source distribution and the wheels of both architectures: what is in them, and that it works.

The other architecture's programs run under QEMU's user mode. It knows neither clone3(2), mounts by fd nor seccomp(2),
so no container starts in it; all that comes before is seen: the messages between agent and shim, whose structs must
have the same layout for C and cffi, and the check of plans.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from minipod import __version__
from minipod.native import executable, ffi, lib
from minipod.runtime.shim import LaunchFailed
from native.packaging import cross
from native.packaging import source as packaged
from tests.features import requires
from tests.instance import TOP
from tests.packaging.conftest import Built, Foreign
from tests.root.test_native_protocol import BASIS, BROKEN, MALFORMED, SLOTS
from tests.shimkit import LIMIT, Build, RawAgent, finish, packed, private, running_kit, shell
from tests.unit.test_seccomp import ALLOW, NATIVE, run

pytestmark = requires("root", "tool:mmdebstrap")

ELF_MACHINE = {"x86_64": 62, "aarch64": 183}  # elf.h
PT_INTERP = 3


def wheels(built: Built) -> list[tuple[Path, str]]:
    """Return each wheel with its architecture."""
    ours, theirs = sorted(cross.ARCHITECTURES.values(), key=lambda arch: not arch.is_ours)
    return [(built.native, ours.name), (built.foreign, theirs.name)]


def test_names_tell_version_python_and_machine(built: Built) -> None:
    assert built.sdist.name == f"minipod-{__version__}.tar.gz"
    assert sorted(name for _, name in wheels(built)) == ["aarch64", "x86_64"]
    for path, name in wheels(built):
        assert path.name.startswith(f"minipod-{__version__}-cp311-abi3-manylinux_2_")
        # Of the C library that Debian 12 has, or older.
        assert int(path.name.split("manylinux_2_")[1].split("_")[0]) <= cross.LIBC
        assert path.name.endswith(f"_{name}.whl")
    assert platform.machine() in built.native.name


def test_what_is_in_a_wheel(built: Built) -> None:
    for path, name in wheels(built):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            binding = archive.read("minipod/native/_core.abi3.so")
            assert machine(binding) == ELF_MACHINE[name]
            assert not re.search(rb"/(home|root|tmp|opt|usr/local)/", binding), "no path of ours"
            for program in ("minipod-shim", "minipod-pause"):
                info = archive.getinfo(f"minipod/native/bin/{program}")
                assert info.external_attr >> 16 & 0o111 == 0o111, "executable when it is installed"
                data = archive.read(info)
                assert machine(data) == ELF_MACHINE[name]
                assert PT_INTERP not in segments(data), "static"
        about = f"minipod-{__version__}.dist-info"
        assert {f"{about}/licenses/LICENSE", f"{about}/licenses/native/LICENSE.musl"} <= set(names)
        assert {x.split("/")[0] for x in names} <= {"minipod", about, f"minipod-{__version__}.data"}
        assert not [x for x in names if x.endswith((".c", ".h", ".pyc")) or "packaging" in x]


def machine(data: bytes) -> int:
    """Return an ELF file's architecture (elf(5))."""
    assert data[:6] == b"\x7fELF\x02\x01", "64 bits, little endian"
    return int.from_bytes(data[18:20], "little")


def segments(data: bytes) -> set[int]:
    """Return the types of an ELF file's segments."""
    offset = int.from_bytes(data[32:40], "little")
    size, count = struct.unpack_from("<HH", data, 54)
    return {struct.unpack_from("<I", data, offset + i * size)[0] for i in range(count)}


def test_the_source_distribution_is_all_of_it_and_makes_the_same_again(
    built: Built, tmp_path: Path
) -> None:
    """From the unpacked archive alone: the same archive, the same wheel, byte for byte, whatever the umask."""
    tree = packaged.unpack(built.sdist, tmp_path / "source")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=TOP, capture_output=True, text=True, check=False
    ).stdout.split()
    assert not [name for name in listed if (TOP / name).exists() and not (tree / name).exists()]
    subprocess.run(
        [sys.executable, "-m", "native.packaging.wheels", "--arch", os.uname().machine, "dist"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "LC_ALL": "C", "TZ": "Asia/Tokyo"},
        umask=0o077,
        check=True,
        capture_output=True,
    )
    for path in (built.sdist, built.native):
        again = tree / "dist" / path.name
        assert digest(again) == digest(path), path.name


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_source_distribution_has_nothing_of_this_machine(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        for member in archive:
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
            assert not member.name.endswith((".so", ".pyc", "minipod-shim", "minipod-pause"))


def test_our_wheel_runs(built: Built, tmp_path: Path) -> None:
    with zipfile.ZipFile(built.native) as archive:
        archive.extractall(tmp_path)
    program = "import minipod.native as n; print(n.__file__, n.unshare.__module__, n.overlay_appends_layers())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith(f"{tmp_path}/minipod/native/__init__.py"), done.stderr


# ---- the other architecture ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def emulated(foreign: Foreign) -> Foreign:
    """The foreign wheel, where there is an emulator for it."""
    assert foreign.qemu.exists(), "install the package qemu-user-static"
    return foreign


def test_the_foreign_command_line_runs(emulated: Foreign) -> None:
    done = emulated.python("-m", "minipod", "version")
    assert (done.stdout, done.stderr) == (f"minipod {__version__}\n", "")


def test_the_foreign_binding_and_its_packages_load(emulated: Foreign) -> None:
    program = (
        "import platform, os, minipod.native as n, minipod.agent.main, pyroute2, prctl, isal, msgspec, yaml\n"
        "from minipod.runtime.seccomp import compile_profile\n"
        "from minipod.plan.seccomp import default_profile\n"
        "fd = n.inotify_init()\n"
        "assert n.inotify_add_watch(fd, '/tmp', n.IN_CREATE) == 1\n"
        "print(platform.machine(), n.ffi.sizeof('struct mp_launch'), n.ffi.sizeof('struct mp_step'))\n"
        # libseccomp asks the kernel what it could load; here it is to compile for one that can.
        "import ctypes; assert ctypes.CDLL('libseccomp.so.2').seccomp_api_set(6) == 0\n"
        "print(compile_profile(default_profile(frozenset(), platform.machine())).hex())\n"
    )
    done = emulated.python("-c", program)
    assert done.returncode == 0, done.stderr
    facts, seccomp = done.stdout.splitlines()
    sizes = [ffi.sizeof(f"struct mp_{name}") for name in ("launch", "step")]
    assert facts.split() == [emulated.arch.name, *map(str, sizes)]
    arch, filtered = NATIVE[emulated.arch.name], bytes.fromhex(seccomp)
    numbers = {"aarch64": (64, 97), "x86_64": (1, 272)}  # write, unshare
    write, unshare = numbers[emulated.arch.name]
    assert run(filtered, write, arch=arch) == ALLOW
    assert run(filtered, unshare, arch=arch) == 0x50000 | errno.EPERM


def test_the_foreign_pause_ends_when_it_is_told(emulated: Foreign) -> None:
    pause = emulated.site / "minipod/native/bin/minipod-pause"
    with subprocess.Popen([emulated.qemu, pause], stdin=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + LIMIT
            # The kernel function that it sleeps in (proc(5)). Before that, the emulator itself would die of the signal.
            while "sigtimedwait" not in Path(f"/proc/{process.pid}/wchan").read_text():
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.01)
            process.terminate()
            assert process.wait(LIMIT) == 0
        finally:
            process.kill()


@pytest.fixture(scope="module")
def foreign_build(emulated: Foreign) -> Build:
    """The foreign shim as a program of ours that runs it, but for the one call in its set-up that QEMU lacks."""
    arch, scratch = emulated.arch, emulated.scratch
    (scratch / "wrap.c").write_text(WITHOUT_SUBREAPER)
    (scratch / "run.c").write_text(RUN_EMULATED)
    directory = scratch / "compiler"
    directory.mkdir()
    settings = packaged_settings(arch, directory)
    wrapped = f"LDFLAGS=-Wl,--wrap=prctl {scratch}/wrap.c"
    command = [
        "make",
        "-s",
        "-C",
        str(TOP / "native"),
        f"BUILDDIR={scratch}/bin",
        *settings,
        wrapped,
    ]
    subprocess.run([*command, f"{scratch}/bin/minipod-shim"], check=True)
    names = {"QEMU": emulated.qemu, "SHIM": scratch / "bin/minipod-shim"}
    compiler = shutil.which("musl-gcc") or "gcc"
    defined = [f'-D{name}="{path}"' for name, path in names.items()]
    subprocess.run(
        [compiler, "-static", *defined, scratch / "run.c", "-o", scratch / "run"], check=True
    )
    return Build(arch.name, scratch / "run", executable("minipod-pause"))


def packaged_settings(arch: cross.Architecture, scratch: Path) -> list[str]:
    return shlex.split(cross.environment(arch, scratch)["MINIPOD_MAKE_SETTINGS"])


WITHOUT_SUBREAPER = """
#include <sys/prctl.h>
int __real_prctl(int, unsigned long, unsigned long, unsigned long, unsigned long);
int __wrap_prctl(int, unsigned long, unsigned long, unsigned long, unsigned long);
int __wrap_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
  return option == PR_SET_CHILD_SUBREAPER ? 0 : __real_prctl(option, a, b, c, d);
}
"""
RUN_EMULATED = """
#include <unistd.h>
int main(int count, char **words) {
  char *none[] = {0}, *command[] = {QEMU, "-0", words[0], SHIM, words[1], 0};
  return execve(QEMU, command, none);
}
"""


async def test_the_foreign_shim_talks_and_refuses(foreign_build: Build, tmp_path: Path) -> None:
    """The plans are packed by our binding and read by foreign C."""
    async with running_kit(tmp_path, foreign_build) as kit:
        assert await kit.shim.state() == []
        with pytest.raises(LaunchFailed) as failed:
            await kit.launch(shell("exit 0"))
        assert failed.value.errno == errno.ENOSYS, "a good plan comes as far as to clone3"
        for name, change in BROKEN.items():
            body = packed("p/0", BASIS, **SLOTS)
            change(body)
            async with RawAgent(kit.run_dir) as agent:
                reply = await agent.launch(bytes(body))
                assert reply and (reply.type, reply.step) == (lib.MP_FAILED, -2), name
                assert reply.status == errno.EBADMSG, name
        kit.reconnect()
        for name, step in MALFORMED.items():
            error = await kit.failure((*private(), step, *finish("/bin/true")), stdio="NULL")
            assert (error.step, error.errno) == (-2, errno.EBADMSG), name
