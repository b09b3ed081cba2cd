# SPDX-License-Identifier: GPL-3.0-or-later
"""Which proxy leads to a host: ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, read as Go's tools do.

Source: golang.org/x/net/http/httpproxy; loopback addresses are never asked for through a proxy.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit

from minipod.errors import UsageError

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@dataclass(frozen=True, slots=True)
class Proxy:
    """One proxy, and what it wants to know."""

    host: str
    port: int
    user: str = ""
    password: str = ""

    def headers(self) -> dict[str, str]:
        """Return the header fields that it gets."""
        if not self.user:
            return {}
        token = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return {"Proxy-Authorization": f"Basic {token}"}


def from_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of *env* that are about proxies, in capitals; small letters win, as with curl."""
    return {
        name: value for name in VARIABLES if (value := env.get(name.lower()) or env.get(name, ""))
    }


class Proxies:
    """Finds the proxy for a host in what the environment says (see :func:`from_environment`).

    Raises:
        UsageError: a proxy is not of a kind that is spoken to.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        anything = variables.get("ALL_PROXY", "")
        self._by_scheme = {
            scheme: _proxy(name, variables.get(name) or anything)
            for scheme, name in (("http", "HTTP_PROXY"), ("https", "HTTPS_PROXY"))
        }
        self._direct = [
            item.strip().lower()
            for item in variables.get("NO_PROXY", "").split(",")
            if item.strip()
        ]

    def find(self, scheme: str, host: str, port: int) -> Proxy | None:
        """Return the proxy that leads to *host*, or None."""
        proxy = self._by_scheme.get(scheme)
        return None if proxy is None or self._is_direct(host.lower(), port) else proxy

    def _is_direct(self, host: str, port: int) -> bool:
        if is_loopback(host):
            return True
        address = None
        with contextlib.suppress(ValueError):
            address = ip_address(host)
        for item in self._direct:
            if item == "*":
                return True
            if address is not None:
                with contextlib.suppress(ValueError):
                    if address in ip_network(item, strict=False):
                        return True
            name, _, wanted = item.rpartition(":") if item.count(":") == 1 else (item, "", "")
            if wanted and wanted != str(port):
                continue
            name = name.removeprefix("*")
            if host == name.removeprefix(".") and not name.startswith("."):
                return True
            if address is None and host.endswith(name if name.startswith(".") else f".{name}"):
                return True
        return False


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine, by name or by address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _proxy(variable: str, value: str) -> Proxy | None:
    if not value:
        return None
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme != "http":
        # Not its value, which may have a password in it.
        raise UsageError(
            f"{variable}: is not the address of an HTTP proxy", "write it as http://host:port"
        )
    return Proxy(host, port or 80, unquote(parts.username or ""), unquote(parts.password or ""))
