# SPDX-License-Identifier: GPL-3.0-or-later
"""The systems that virtual machines are made of: Debian 12 and 13, Ubuntu 24.04."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

DEBIAN = os.environ.get("MINIPOD_TEST_MIRROR", "http://deb.debian.org/debian")
UBUNTU = os.environ.get("MINIPOD_TEST_UBUNTU_MIRROR", "http://archive.ubuntu.com/ubuntu")
UBUNTU_KEYRING = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"
# Debian 12 has no package of it. What is fetched is checked, so the way that it comes does not matter.
UBUNTU_KEYRING_PACKAGE = "pool/main/u/ubuntu-keyring/ubuntu-keyring_2023.11.28.1-0.2_all.deb"
UBUNTU_KEYRING_SHA256 = "b2e7ed48431bf9e7978ae810bbdaf253093570d6e3f864e575b7c13554b81174"


@dataclass(frozen=True, slots=True)
class Release:
    """One system.

    Attributes:
        suite: its name in the archive.
        title: what people call it.
        mirror: where its packages come from.
        components: of the archive.
        kernel: the package of a kernel for virtual machines.
        python: the version of its Python.
        architecture: Debian's name of the processor that it runs on.
    """

    suite: str
    title: str
    mirror: str
    components: str
    kernel: str
    python: str
    architecture: str = "amd64"

    @property
    def machine(self) -> str:
        """The kernel's and Python's name of the processor."""
        return {"amd64": "x86_64", "arm64": "aarch64"}[self.architecture]

    def keyring(self, scratch: Path) -> tuple[str, ...]:
        """Return the options of mmdebstrap that name whose signature is believed.

        Args:
            scratch: a directory for what has to be fetched.

        Raises:
            AssertionError: the package of keys is not the one that we know.
            OSError: it cannot be fetched.
        """
        if self.mirror != UBUNTU:
            return ()
        if os.path.exists(UBUNTU_KEYRING):
            return (f"--keyring={UBUNTU_KEYRING}",)
        with urllib.request.urlopen(f"{DEBIAN}/{UBUNTU_KEYRING_PACKAGE}", timeout=60) as answer:
            package = answer.read(1 << 20)
        assert hashlib.sha256(package).hexdigest() == UBUNTU_KEYRING_SHA256, "another keyring"
        with tempfile.NamedTemporaryFile(dir=scratch) as file:
            file.write(package)
            file.flush()
            subprocess.run(["dpkg-deb", "-x", file.name, scratch / "keys"], check=True)
        return (f"--keyring={scratch / 'keys'}{UBUNTU_KEYRING}",)


RELEASES = {
    release.suite: release
    for release in (
        Release("bookworm", "Debian 12", DEBIAN, "main", "linux-image-cloud-amd64", "3.11"),
        Release("trixie", "Debian 13", DEBIAN, "main", "linux-image-cloud-amd64", "3.13"),
        Release("noble", "Ubuntu 24.04", UBUNTU, "main,universe", "linux-image-virtual", "3.12"),
    )
}
# The kernel of a wheel that nobody's machine at hand could run.
FOREIGN = Release(
    "bookworm", "Debian 12 on arm64", DEBIAN, "main", "linux-image-cloud-arm64", "3.11", "arm64"
)
