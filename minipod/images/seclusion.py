# SPDX-License-Identifier: GPL-3.0-or-later
"""Shuts the loader in, before it reads a byte from outside: whoever takes it over finds nothing worth taking.

It gets a root of its own, in which there is the store, and read-only what Python, name resolution and TLS read; no
socket of the host and no file of it but these, whatever capability overrules their modes. A filter refuses other
programs, other processes, mounts, devices, namespaces, and sockets of other families than the internet's (none, without
the network). What the capabilities of the loader still give it (owners and modes, ``trusted.*`` attributes) reaches the
store's files and no others.

What is left is the network, the host's loopback included: a registry may be there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from minipod import native

_LIBRARIES = ("/usr", "/lib", "/lib64")
# Of name resolution: resolv.conf(5), hosts(5), nsswitch.conf(5), gai.conf(5), host.conf(5).
_NAMES = ("resolv.conf", "hosts", "nsswitch.conf", "gai.conf", "host.conf", "ld.so.cache")
# The authorities of Debian and its like, and of Fedora and its like; no keys.
_AUTHORITIES = (
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/openssl.cnf",
    "/etc/pki/ca-trust",
)


def seclude(store: str, shown: Sequence[str] = (), *, network: bool) -> None:
    """Shut this process in, for good; it must have one thread.

    Args:
        store: the image store, which it writes to.
        shown: what else it reads.
        network: whether it may use the internet's families of sockets.

    Raises:
        OSError: the kernel refuses; then nothing may be read.
    """
    wanted = [*_python(), *_LIBRARIES, *shown]
    if network:
        wanted += [*(f"/etc/{name}" for name in _NAMES), *_AUTHORITIES]
    native.seclude(_outermost(map(os.path.abspath, wanted)), os.path.abspath(store))
    native.forbid(network=network)


def _python() -> list[str]:
    """Return where modules are found that are not loaded yet."""
    package = Path(__file__).resolve().parents[2]
    found = [sys.prefix, sys.base_prefix, sys.exec_prefix, str(package), *sys.path]
    return [path for path in found if os.path.isabs(path) and os.path.exists(path)]


def _outermost(paths: Iterable[str]) -> list[str]:
    """Return *paths* without those that lie below others."""
    kept: list[str] = []
    for path in sorted(set(paths), key=len):
        if path != "/" and not any(path.startswith(f"{above}/") for above in kept):
            kept.append(path)
    return kept
