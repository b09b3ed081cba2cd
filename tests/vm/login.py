# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual machine as a user has one: it boots by itself, and is reached by ssh, as a user with sudo."""

from __future__ import annotations

import base64
import contextlib
import io
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

from tests.vm import qemu
from tests.vm.disk import run
from tests.vm.image import Image
from tests.vm.recipe import NOT_COPIED, TOP

BOOT_TIMEOUT = 600.0  # seconds


class Login:
    """One running machine; its disk is thrown away with it.

    Attributes:
        boot_seconds: from QEMU's start to the first command.
    """

    def __init__(self, image: Image) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="mptvm-"))
        self._key = self._directory / "key"
        started = time.monotonic()
        try:
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self._key)
            self._port = _free_port()
            self._qemu = self._start(image)
            self._await()
        except BaseException:
            self.stop()
            raise
        self.boot_seconds = time.monotonic() - started

    def _start(self, image: Image) -> subprocess.Popen[bytes]:
        # A credential of systemd's (systemd.system-credentials(7)): nothing is written to the disk for it.
        key = self._key.with_suffix(".pub").read_text().strip()
        line = f"f /home/vagrant/.ssh/authorized_keys2 0600 vagrant vagrant - {key}\n"
        secret = base64.b64encode(line.encode()).decode()
        return qemu.start(
            self._directory,
            image,
            *("-drive", f"file={image.disk},format=raw,if=virtio,snapshot=on,cache=unsafe"),
            *("-nic", f"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{self._port}-:22"),
            *("-smbios", f"type=11,value=io.systemd.credential.binary:tmpfiles.extra={secret}"),
        )

    def _await(self) -> None:
        end = time.monotonic() + BOOT_TIMEOUT
        while True:
            assert self._qemu.poll() is None, f"QEMU has ended:\n{self.console()}"
            with contextlib.suppress(subprocess.TimeoutExpired):  # it accepts, and is not up yet
                if self.run("true", check=False, timeout=60).returncode == 0:
                    return
            assert time.monotonic() < end, f"nobody answers:\n{self.console()}"
            time.sleep(1)

    def run(
        self, script: str, *, check: bool = True, timeout: float = 120, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a shell script as the user; standard error is with standard output.

        Raises:
            AssertionError: it failed (with *check*).
            subprocess.TimeoutExpired: it took longer than *timeout* seconds.
        """
        quiet = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
        options = ("BatchMode=yes", "IdentitiesOnly=yes", "ConnectTimeout=30", *quiet)
        done = subprocess.run(
            [
                *("ssh", "-F", "none", "-i", str(self._key), "-p", str(self._port)),
                *(f"-o{option}" for option in options),
                *("vagrant@127.0.0.1", f"exec 2>&1; {script}"),
            ],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
        )
        if check:
            said = done.stdout.decode(errors="replace")[-8000:]
            assert done.returncode == 0, f"exit code {done.returncode}: {script}\n{said}"
        return done

    def copy_checkout(self) -> None:
        """Put this checkout, without what building it made, where the user's clone would be."""
        data = io.BytesIO()
        left_out = shutil.ignore_patterns(*NOT_COPIED)

        def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
            return None if left_out("", [member.name.rsplit("/", 1)[-1]]) else member

        with tarfile.open(fileobj=data, mode="w") as archive:
            archive.add(TOP, "minipod", filter=wanted)
        self.run("tar -x", stdin=data.getvalue())

    def console(self) -> str:
        """Return the end of what the kernel and QEMU said."""
        return qemu.said(self._directory)

    def stop(self) -> None:
        """Switch it off."""
        machine: subprocess.Popen[bytes] | None = getattr(self, "_qemu", None)
        if machine is not None:
            machine.kill()
            machine.wait()
        shutil.rmtree(self._directory, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
