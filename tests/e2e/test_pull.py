# SPDX-License-Identifier: GPL-3.0-or-later
"""Images come from registries: `image pull`, pods that pull, secrets for that, and what is said when it fails."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import signal
import stat
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from minipod.images import builder
from minipod.images.builder import BuiltImage, File
from tests.conftest import Images
from tests.e2e.test_errors import kill_agent
from tests.e2e.user import check_error, create, manifest, pod, shell
from tests.instance import Instance
from tests.patience import patience
from tests.registries import (
    USER,
    FakeRegistry,
    Registry,
    Seen,
    debian_registry,
    fake_registry,
    send,
    token,
)

pytestmark = pytest.mark.requires("tool:docker-registry", "tool:openssl")


@pytest.fixture(scope="module")
def app(images: Images) -> BuiltImage:
    """An image of the test program, in three layers."""
    program = images.program.read_bytes()
    layers: list[builder.Layer] = [
        {"probe": File(program, mode=0o755)},
        {"hello": b"from afar\n"},
        {"more": b"x" * 9999},
    ]
    return builder.build_image(layers, {"Entrypoint": ["/probe"], "Cmd": ["read", "/hello"]})


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, app: BuiltImage) -> Iterator[Registry]:
    """A registry that gives ``team/app:1`` to anybody."""
    with debian_registry(tmp_path_factory.mktemp("registry")) as found:
        found.push(app, "team/app", "1")
        yield found


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, app: BuiltImage) -> Iterator[Registry]:
    """A registry that gives ``team/app:1`` to those who log in, and ``team/app:latest``."""
    with debian_registry(tmp_path_factory.mktemp("locked"), users=True) as found:
        found.push(app, "team/app", "1")
        found.push(app, "team/app", "latest")
        yield found


def events(instance: Instance, pod: str, reason: str) -> list[str]:
    """Return the messages of the pod's events with *reason*."""
    return [event["message"] for event in instance.events(pod) if event["reason"] == reason]


def test_image_pull(instance: Instance, registry: Registry, app: BuiltImage) -> None:
    reference = f"{registry.host}/team/app:1"
    done = instance.cli("image", "pull", reference)
    assert done.stdout == f"pulled {reference} {app.manifest.digest}\n"
    assert len(done.stderr.splitlines()) == 3
    assert instance.cli("image", "pull", reference).stdout.startswith("unchanged ")
    by_digest = f"{registry.host}/team/app@{app.manifest.digest}"
    assert instance.cli("image", "pull", by_digest).stdout.split()[1] == by_digest
    done = instance.cli("image", "pull", f"{registry.host}/team/none", check=False)
    check_error(done, 1, "does not have it", "check name and tag")
    listed = instance.cli("image", "ls", "-o", "name").stdout.split()
    assert {reference, by_digest} <= set(listed)


def test_image_push(
    instance: Instance, registry: Registry, locked: Registry, app: BuiltImage, tmp_path: Path
) -> None:
    source, there = f"{registry.host}/team/app:1", f"{locked.host}/team/pushed:1"
    instance.cli("image", "pull", source)
    done = instance.cli("image", "push", source, there, check=False)
    check_error(done, 1, "takes nothing from nobody in particular", "docker login")
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {locked.host: {"auth": token()}}}))
    done = instance.cli("image", "push", source, there, "--authfile", tmp_path / "auth.json")
    assert done.stdout == f"pushed {there} {app.manifest.digest}\n"
    assert len(done.stderr.splitlines()) == 4
    instance.cli("image", "rm", source)
    done = instance.cli("image", "pull", there, "--authfile", tmp_path / "auth.json")
    assert done.stdout == f"pulled {there} {app.manifest.digest}\n"
    assert instance.cli("image", "push", there, source).stdout.endswith(f"{app.manifest.digest}\n")
    instance.cli("image", "rm", there)
    done = instance.cli("image", "push", "localhost/none:1", check=False)
    check_error(done, 1, "image localhost/none:1 is not in the store")
    check_error(
        instance.cli("image", "push", "localhost/busybox:1", check=False), 2, "of this machine"
    )


def test_a_pod_pulls_its_image(instance: Instance, registry: Registry) -> None:
    reference = f"{registry.host}/team/app:1"
    done = instance.cli("run", "-", input=manifest(pod("afar", {"name": "c", "image": reference})))
    assert "from afar" in done.stdout
    assert events(instance, "afar", "Pulling") == [f'Pulling image "{reference}"']
    (pulled,) = events(instance, "afar", "Pulled")
    assert pulled.startswith(f'Successfully pulled image "{reference}" in ')
    instance.cli("run", "-", input=manifest(pod("again", {"name": "c", "image": reference})))
    assert f'Container image "{reference}" already present on machine' in events(
        instance, "again", "Pulled"
    )


def secret(registry: Registry, kind: str, user: str = USER) -> dict[str, Any]:
    auths: Any = {registry.host: {"auth": token(user)}}
    key, document = (
        (".dockercfg", auths) if kind == "dockercfg" else (".dockerconfigjson", {"auths": auths})
    )
    data = {key: base64.b64encode(json.dumps(document).encode()).decode()}
    meta = {"name": "pull"}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": meta,
        "type": f"kubernetes.io/{key[1:]}",
        "data": data,
    }


@pytest.mark.field("LocalObjectReference.name")
@pytest.mark.parametrize("kind", ["dockerconfigjson", "dockercfg"])
def test_image_pull_secrets(instance: Instance, locked: Registry, kind: str) -> None:
    made = pod("secretly", {"name": "c", "image": f"{locked.host}/team/app"})
    made["spec"]["imagePullSecrets"] = [{"name": "absent"}, {"name": "pull"}]
    instance.cli("create", "-f", "-", input=manifest(secret(locked, kind)))
    assert "from afar" in instance.cli("run", "-", input=manifest(made)).stdout
    assert events(instance, "secretly", "FailedToRetrieveImagePullSecret") == [
        "Unable to retrieve some image pull secrets (absent); attempting to pull the image may not succeed."
    ]


def test_without_credentials_the_pod_waits_and_says_why(
    instance: Instance, locked: Registry
) -> None:
    made = pod("waits", {"name": "c", "image": f"{locked.host}/team/app:1"})
    create(instance, made)

    def waiting(found: dict[str, Any]) -> dict[str, Any]:
        statuses = found["status"].get("containerStatuses") or [{}]
        return dict(statuses[0].get("state", {}).get("waiting") or {})

    found = instance.until("waits", lambda it: waiting(it).get("reason") == "ImagePullBackOff")
    assert "wants to know who asks" in str(events(instance, "waits", "Failed"))
    assert "docker login" in waiting(found)["message"]
    # The image comes in another way: it is used.
    auth = instance.base / "auth.json"
    auth.write_text(json.dumps({"auths": {locked.host: {"auth": token()}}}))
    instance.cli("image", "pull", f"{locked.host}/team/app:1", "--authfile", auth)
    instance.until("waits", lambda it: it["status"]["phase"] == "Succeeded")


# ---- a registry whose answers are made up ---------------------------------------------------------


@pytest.fixture
def fake(app: BuiltImage) -> Iterator[FakeRegistry]:
    with fake_registry() as found:
        found.add(app)
        yield found


def hold(fake: FakeRegistry, app: BuiltImage) -> tuple[threading.Event, threading.Event]:
    """Have *fake* hold a layer back; return what says that it is asked for, and what lets it go."""
    asked, go = threading.Event(), threading.Event()

    def respond(handler: BaseHTTPRequestHandler, seen: Seen) -> bool:
        if seen.path.endswith(app.layers[1].digest):
            asked.set()
            go.wait(patience(60))
        return False

    fake.respond = respond
    return asked, go


def blobs(fake: FakeRegistry) -> list[str]:
    return [path for path in fake.paths() if "/blobs/" in path]


def test_two_pulls_at_once_do_the_work_once(
    instance: Instance, fake: FakeRegistry, app: BuiltImage
) -> None:
    asked, go = hold(fake, app)
    reference = f"{fake.host}/team/app:1"
    first = instance.start("image", "pull", reference)
    assert asked.wait(patience(60))
    instance.create("waits", {"name": "c", "image": reference})
    instance.until("waits", lambda _: events(instance, "waits", "Pulling") != [])
    go.set()
    assert first.wait(patience(60)) == 0
    instance.until("waits", lambda it: it["status"]["phase"] == "Succeeded")
    assert len(blobs(fake)) == len(set(blobs(fake))) == 4


def test_ctrl_c_leaves_the_store_as_it_was(
    instance: Instance, fake: FakeRegistry, app: BuiltImage
) -> None:
    before = stored(instance)
    asked, go = hold(fake, app)
    process = instance.start("image", "pull", f"{fake.host}/team/app:1", stderr=subprocess.PIPE)
    assert asked.wait(patience(60))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=patience(60))
    assert process.returncode == 130
    until(lambda: stored(instance) == before)
    go.set()
    assert instance.cli("image", "pull", f"{fake.host}/team/app:1").stdout.startswith("pulled ")


def stored(instance: Instance) -> dict[str, tuple[object, ...]]:
    """Return all files of the store, with what changes when they do."""
    store = Path(instance.config.root_dir, "images")
    found: dict[str, tuple[object, ...]] = {}
    for path in store.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            info = path.lstat()
            mode, size = info.st_mode, info.st_size
            same = (mode, size, info.st_mtime_ns) if not stat.S_ISDIR(mode) else (mode,)
            found[str(path.relative_to(store))] = same
    return found


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until *holds*."""
    deadline = time.monotonic() + patience(seconds)
    while not holds():
        assert time.monotonic() < deadline, "it does not come to that"
        time.sleep(0.05)


def loaders(instance: Instance) -> list[int]:
    """Return the pids of the instance's loaders."""
    return [p.pid for p in instance.processes() if p.comm == "minipod-loader"]


def test_the_agent_is_killed_while_it_pulls(
    instance: Instance, fake: FakeRegistry, app: BuiltImage
) -> None:
    before = stored(instance)
    asked, go = hold(fake, app)
    process = instance.start("image", "pull", f"{fake.host}/team/app:1", stderr=subprocess.PIPE)
    assert asked.wait(patience(60))
    assert len(loaders(instance)) == 1
    kill_agent(instance)
    process.communicate(timeout=patience(60))
    assert process.returncode == 1
    until(lambda: not loaders(instance))  # though the registry is silent
    assert stored(instance) != before
    instance.cli("get", "pods")  # starts an agent, which finds what is left
    assert stored(instance) == before
    go.set()
    assert instance.cli("image", "pull", f"{fake.host}/team/app:1").stdout.startswith("pulled ")


def test_the_loader_is_killed(instance: Instance, fake: FakeRegistry, app: BuiltImage) -> None:
    before = stored(instance)
    asked, go = hold(fake, app)
    reference = f"{fake.host}/team/app:1"
    process = instance.start("image", "pull", reference, stderr=subprocess.PIPE)
    assert asked.wait(patience(60))
    instance.create("comes", {"name": "c", "image": reference})
    instance.until("comes", lambda _: events(instance, "comes", "Pulling") != [])
    (pid,) = loaders(instance)
    os.kill(pid, signal.SIGKILL)
    _, said = process.communicate(timeout=patience(60))
    assert process.returncode == 1 and b"the image loader ended early" in said
    until(lambda: stored(instance) == before)
    go.set()
    instance.until("comes", lambda it: it["status"]["phase"] == "Succeeded", timeout=60)


def test_too_many_requests_are_explained(instance: Instance, fake: FakeRegistry) -> None:
    def respond(handler: BaseHTTPRequestHandler, seen: Seen) -> bool:
        said = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}'
        return send(handler, 429, said, {"Retry-After": "3600"})

    fake.respond = respond
    done = instance.cli("image", "pull", f"{fake.host}/team/app:1", check=False)
    check_error(done, 1, "limits how often", "wait 3600 seconds, log in to it")
    assert "pull rate limit" in done.stderr and "mirror" in done.stderr


def test_a_pod_that_is_deleted_does_not_pull_on(
    instance: Instance, fake: FakeRegistry, app: BuiltImage
) -> None:
    asked, go = hold(fake, app)
    instance.create("gone", {"name": "c", "image": f"{fake.host}/team/app:1"})
    assert asked.wait(patience(60))
    instance.cli("delete", "pod", "gone")
    assert not any(Path(instance.config.root_dir, "images", "tmp").iterdir())
    go.set()


def test_always_asks(instance: Instance, fake: FakeRegistry, app: BuiltImage) -> None:
    container = {"name": "c", "image": f"{fake.host}/team/app:1", "imagePullPolicy": "Always"}
    text = manifest(pod("always", container))
    assert "from afar" in instance.cli("run", "--rm", "-", input=text).stdout
    count = len(blobs(fake))
    assert "from afar" in instance.cli("run", "--rm", "-", input=text).stdout
    assert len(blobs(fake)) == count and "HEAD" in [seen.method for seen in fake.seen]
    program: dict[str, builder.Entry] = {
        "probe": File(app_program(app), mode=0o755),
        "hello": File(b"something new\n"),
    }
    config = {"Entrypoint": ["/probe"], "Cmd": ["read", "/hello"]}
    fake.add(builder.build_image([program], config))
    assert "something new" in instance.cli("run", "--rm", "-", input=text).stdout


def app_program(app: BuiltImage) -> bytes:
    """Return the test program, from the lowest layer of the image."""
    with tarfile.open(fileobj=io.BytesIO(app.blobs[app.layers[0].digest])) as tar:
        found = tar.extractfile("probe")
        assert found
        return found.read()


def test_an_image_volume_is_pulled(instance: Instance, fake: FakeRegistry) -> None:
    reference = f"{fake.host}/team/app:1"
    mounts = [{"name": "v", "mountPath": "/v"}]
    made = pod("volume", shell("cat /v/hello", image="localhost/busybox:1", volumeMounts=mounts))
    made["spec"]["volumes"] = [{"name": "v", "image": {"reference": reference}}]
    assert "from afar" in instance.cli("run", "-", input=manifest(made)).stdout
    assert events(instance, "volume", "Pulling") == [f'Pulling image "{reference}"']


def test_no_way_to_the_registry(instance: Instance) -> None:
    made = pod("nowhere", {"name": "c", "image": "127.0.0.1:1/team/app:1"})
    process = instance.start("run", "-", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin and process.stderr
    process.stdin.write(manifest(made).encode())
    process.stdin.close()
    process.stdin = None
    said = b""
    while b"ErrImagePull: registry 127.0.0.1:1: connection refused" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    assert b"minipod image load FILE" in said
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=patience(60))
