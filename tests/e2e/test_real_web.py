# SPDX-License-Identifier: GPL-3.0-or-later
"""Web servers as people run them: nginx with a sidecar and settings of a ConfigMap, and python, hardened."""

from __future__ import annotations

import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.user import manifest, pod
from tests.instance import TOP, Instance, Json
from tests.patience import patience

pytestmark = pytest.mark.requires("tool:docker-registry", "tool:mmdebstrap")

EXAMPLES = TOP / "examples/registry"
PATIENCE = patience(60)
SETTINGS = """
server {
  listen 8080;
  location / { root /site; }
  location = /version { return 200 "VERSION"; }
  location /slow/ { alias /site/; limit_rate 20k; limit_rate_after 1; }
}
"""


def fetch(url: str) -> str:
    """Return what *url* serves, or why it does not."""
    try:
        with urllib.request.urlopen(url, timeout=patience(10)) as answer:
            text: str = answer.read().decode()
            return text
    except (OSError, urllib.error.URLError) as error:
        return str(error)


def until(url: str, holds: Callable[[str], bool]) -> str:
    """Return what *url* serves, once *holds* says yes to it."""
    end = time.monotonic() + PATIENCE
    while not holds(found := fetch(url)):
        assert time.monotonic() < end, f"{url}: {found!r}"
        time.sleep(0.1)
    return found


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_a_sidecar_refreshes_what_nginx_serves(node: Instance) -> None:
    """The example, on a port of the host that is free: the page changes, and the sidecar came first and goes last."""
    port = free_port()
    text = (EXAMPLES / "website.yaml").read_text()
    assert "hostPort: 8481" in text
    node.cli("create", "-f", "-", input=text.replace("hostPort: 8481", f"hostPort: {port}"))
    node.wait("website", "condition=Ready", PATIENCE)
    first = until(f"http://127.0.0.1:{port}/", lambda text: text.startswith("made at "))
    until(f"http://127.0.0.1:{port}/", lambda text: text.startswith("made at ") and text != first)
    started = {
        status["name"]: status["state"]["running"]["startedAt"]
        for kind in ("initContainerStatuses", "containerStatuses")
        for status in node.pod("website")["status"][kind]
    }
    assert started["content"] <= started["nginx"]
    done = node.exec("website", "cat", "/site/index.html", container="nginx")
    assert done.stdout.startswith("made at "), done
    done = node.exec("website", "sh", "-c", "echo >/site/index.html", container="nginx")
    assert "Read-only file system" in done.stdout
    # The master is root, what speaks with the world is not: the image's own doing.
    shown = Path(f"/proc/{node.pid('website', 'nginx')}/task").parent
    children = (shown / f"task/{shown.name}/children").read_text().split()
    uids = {Path(f"/proc/{pid}").stat().st_uid for pid in children}
    assert children and 0 not in uids
    node.cli("delete", "pod", "website")
    assert "refused" in fetch(f"http://127.0.0.1:{port}/")


def settings(version: str) -> Json:
    data = {"default.conf": SETTINGS.replace("VERSION", version)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": data}


def test_settings_are_reloaded_and_downloads_end_well(node: Instance) -> None:
    """A changed ConfigMap comes through its mount; SIGQUIT, which the image wants, lets a download go on to its end."""
    container = {
        "name": "nginx",
        "image": "nginx",
        "volumeMounts": [
            {"name": "settings", "mountPath": "/etc/nginx/conf.d"},
            {"name": "site", "mountPath": "/site"},
        ],
        "startupProbe": {"httpGet": {"path": "/version", "port": 8080}, "periodSeconds": 1},
    }
    volumes = [{"name": "settings", "configMap": {"name": "web"}}, {"name": "site", "emptyDir": {}}]
    web = pod("web", container, volumes=volumes, terminationGracePeriodSeconds=60)
    node.cli("apply", "-f", "-", input=manifest(settings("one"), web))
    node.wait("web", "condition=Ready", PATIENCE)
    address = f"http://{node.pod('web')['status']['podIP']}:8080"
    assert fetch(f"{address}/version") == "one"
    node.cli("apply", "-f", "-", input=manifest(settings("two")))
    end = time.monotonic() + PATIENCE
    while '"two"' not in node.exec("web", "cat", "/etc/nginx/conf.d/default.conf").stdout:
        assert time.monotonic() < end, "the change does not come"
    assert fetch(f"{address}/version") == "one", "nobody has told the server yet"
    assert node.exec("web", "nginx", "-s", "reload").returncode == 0
    until(f"{address}/version", lambda text: text == "two")

    node.exec("web", "sh", "-c", "head -c 60000 /dev/zero | tr '\\0' x >/site/file")
    with urllib.request.urlopen(f"{address}/slow/file", timeout=patience(60)) as answer:
        got = answer.read(1)
        node.cli("delete", "pod", "web")
        got += answer.read()
    assert got == b"x" * 60000


def test_a_hardened_server_in_python(node: Instance) -> None:
    """The example: what it says of itself, and what the kernel says of it."""
    node.cli("create", "-f", EXAMPLES / "server.yaml")
    node.wait("server", "condition=Ready", PATIENCE)
    found = node.pod("server")
    address = f"http://{found['status']['podIP']}:8000"
    assert fetch(address) == "good morning from uid 1000\n"
    lines = Path(f"/proc/{node.pid('server', 'python')}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert status["Uid"].split() == ["1000"] * 4
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    root = next(
        line.split()
        for line in Path(f"/proc/{node.pid('server', 'python')}/mountinfo").read_text().splitlines()
        if line.split()[4] == "/"
    )
    assert "ro" in root[5].split(",")
    done = node.exec("server", "python", "-c", "open('/tmp/x', 'w')")
    assert done.returncode == 1 and "Read-only file system" in done.stdout
    assert os.stat(f"/proc/{node.pid('server', 'python')}").st_uid == 1000
