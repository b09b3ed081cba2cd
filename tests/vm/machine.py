# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual machine with systemd as PID 1 and nothing but cgroup v2, in which the host runs commands."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.vm import qemu
from tests.vm.disk import NO_TIMER_CHECK
from tests.vm.image import Image
from tests.vm.recipe import TOP

BOOT_TIMEOUT = 300.0  # seconds; without KVM on a busy machine it takes some
SOURCES = "/src"  # where the guest has this checkout
COPIED = ("minipod", "native", "tests", "examples", "docs", "pyproject.toml", "Makefile")


class Vm:
    """One running machine; its disk is thrown away with it.

    Attributes:
        release: what system it is.
        boot_seconds: from QEMU's start to the first command.
    """

    def __init__(self, image: Image, payload: Path) -> None:
        self.release = image.release
        self._directory = Path(tempfile.mkdtemp(prefix="mptvm-"))
        self._data = b""
        started = time.monotonic()
        try:
            self._qemu = self._start(image, payload)
            self._socket = self._connect()
            self._answer(BOOT_TIMEOUT)
        except BaseException:
            self.stop()
            raise
        self.boot_seconds = time.monotonic() - started

    def _start(self, image: Image, payload: Path) -> subprocess.Popen[bytes]:
        directory = self._directory
        words = f"console={qemu.CONSOLES[image.release.architecture]} quiet mitigations=off"
        words += " random.trust_cpu=on systemd.show_status=0"
        words += f" apparmor=1 security=apparmor {NO_TIMER_CHECK}"
        return qemu.start(
            directory,
            image,
            *("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", words),
            *("-drive", f"file={image.disk},format=raw,if=virtio,snapshot=on,cache=unsafe"),
            *("-drive", f"file={payload},format=raw,if=virtio,readonly=on"),
            *("-device", "virtio-serial-pci"),
            *("-chardev", f"socket,id=port,path={directory}/port,server=on,wait=off"),
            *("-device", "virtserialport,chardev=port,nr=1"),
        )

    def _connect(self) -> socket.socket:
        end = time.monotonic() + 20
        while True:
            port = socket.socket(socket.AF_UNIX)
            try:
                port.connect(f"{self._directory}/port")
                return port
            except (FileNotFoundError, ConnectionRefusedError):
                port.close()
                if self._qemu.poll() is not None or time.monotonic() > end:
                    raise AssertionError(f"QEMU does not start:\n{self.console()}") from None
                time.sleep(0.05)

    def _answer(self, timeout: float) -> dict[str, Any]:
        end = time.monotonic() + timeout
        while b"\n" not in self._data:
            ready, _, _ = select.select([self._socket], [], [], max(0, end - time.monotonic()))
            chunk = self._socket.recv(1 << 20) if ready else b""
            if not chunk:
                # 0: it went down by itself; negative: a signal to QEMU.
                ended = f"ended (exit code {self._qemu.wait()})" if ready else ""
                why = ended or f"does not answer within {timeout:.0f} s"
                raise AssertionError(f"the virtual machine {why}; its console:\n{self.console()}")
            self._data += chunk
        line, _, self._data = self._data.partition(b"\n")
        result: dict[str, Any] = json.loads(line)
        return result

    def run(
        self,
        *command: str,
        input: str = "",
        check: bool = True,
        timeout: float = 120,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run *command* in the machine as root.

        Args:
            command: the program and its arguments.
            input: its standard input.
            check: whether an exit code other than 0 fails the test.
            timeout: seconds until it is killed (exit code -1).
            env: variables besides the usual.

        Raises:
            AssertionError: it failed (with *check*), or the machine is dead.
        """
        request = {"command": command, "input": input, "timeout": timeout, "env": dict(env or {})}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        answer = self._answer(timeout + 60)
        done = subprocess.CompletedProcess(
            command, answer["code"], answer["stdout"], answer["stderr"]
        )
        if check and done.returncode != 0:
            words = " ".join(command)
            raise AssertionError(
                f"exit code {done.returncode}: {words}\n{done.stdout}{done.stderr}"
            )
        return done

    def sh(self, script: str, *arguments: str, **options: Any) -> str:
        """Run a shell script in the machine, ending at the first failure, and return its standard output."""
        return str(self.run("bash", "-euc", script, "bash", *arguments, **options).stdout)

    def reset(self) -> None:
        """Start it anew as its button does, without a word to what runs; the disk has what was written before.

        Raises:
            AssertionError: it does not come up again.
        """
        words = ["sh", "-c", "sync; echo b >/proc/sysrq-trigger"]
        request = {"command": words, "input": "", "timeout": BOOT_TIMEOUT, "env": {}}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        first = self._answer(BOOT_TIMEOUT)
        assert first == {"ready": True}, f"it was not reset: {first}"

    def console(self) -> str:
        """Return the end of what the kernel and QEMU said."""
        return qemu.said(self._directory)

    def stop(self) -> None:
        """Switch it off."""
        qemu: subprocess.Popen[bytes] | None = getattr(self, "_qemu", None)
        if qemu is not None:
            qemu.kill()
            qemu.wait()
        if port := getattr(self, "_socket", None):
            port.close()
        shutil.rmtree(self._directory, ignore_errors=True)


def payload(path: Path, wheel: Path, *extra: Path) -> None:
    """Write a tar archive of minipod's *wheel*, this checkout as built, and *extra* files, to be unpacked at /.

    It is a disk of the machine, read from its first byte: a tar archive is as good a format as any.
    """
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(wheel, f"{SOURCES}/{wheel.name}")
        for name in COPIED:
            archive.add(TOP / name, f"{SOURCES}/{name}", filter=_without_caches)
        for file in extra:
            archive.add(file, f"{SOURCES}/{file.name}")
    size = path.stat().st_size
    os.truncate(path, (size + 511) // 512 * 512)


def _without_caches(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if member.name.rsplit("/", 1)[-1] == "__pycache__" else member


def boot(image: Image, payload: Path) -> Vm:
    """Start a machine, unpack the payload in it, and install minipod there as its wheel says."""
    vm = Vm(image, payload)
    try:
        packages = f"/usr/local/lib/python{image.release.python}/dist-packages"
        vm.sh(f"tar -xf /dev/vdb -C /; cd {packages}; python3 -m zipfile -e {SOURCES}/*.whl .")
        # A wheel's modes are in its zip entries, which zipfile leaves alone (pip sets them).
        script = f"chmod 0755 {packages}/minipod/native/bin/*; python3 -m compileall -q {packages}/minipod"
        vm.sh(script, timeout=BOOT_TIMEOUT)
        script = "#!/usr/bin/python3\nfrom minipod.cli.main import entry\nentry()\n"
        vm.sh("cat >/usr/local/bin/minipod; chmod 0755 /usr/local/bin/minipod", input=script)
    except BaseException:
        vm.stop()
        raise
    return vm
