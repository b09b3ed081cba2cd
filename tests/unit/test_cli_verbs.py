# SPDX-License-Identifier: GPL-3.0-or-later
"""Every verb against a small agent: what it asks, what it prints, how it ends."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minipod import __version__
from minipod.cli.main import main
from minipod.cli.sizes import parse_size
from minipod.errors import MinipodError, NotFound, UsageError
from tests.unit.test_cli_client import Conversation, FakeAgent, interrupt_us

Json = dict[str, Any]
Run = Callable[..., tuple[int, str, str]]

MANIFEST = "apiVersion: v1\nkind: Pod\n"


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    fake = FakeAgent(tmp_path)
    for name, value in fake.env.items():
        monkeypatch.setenv(name, value)
    yield fake
    fake.close()


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command line; return exit code, stdout and stderr."""

    def run(*argv: str | Path) -> tuple[int, str, str]:
        code = main([str(word) for word in argv])
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "pod.yaml"
    path.write_text(MANIFEST)
    return path


def pod(name: str, namespace: str = "default", phase: str = "Running") -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}"},
        "spec": {"containers": [{"name": "main"}]},
        "status": {"phase": phase, "podIP": "10.99.0.2"},
    }


def event(name: str, reason: str, at: str = "2027-01-15T08:00:00Z") -> Json:
    return {
        "kind": "Event",
        "metadata": {"name": f"{name}.{reason}", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": name, "uid": f"uid-{name}"},
        "reason": reason,
        "message": f"{reason} \x1b[2J",
        "type": "Normal",
        "lastTimestamp": at,
    }


def items(*objects: Json) -> list[Json]:
    return [{"done": {"items": list(objects), "resourceVersion": "7"}}]


# ---- version ----


def test_version(run: Run) -> None:
    assert run("version") == (0, f"minipod {__version__}\n", "")
    assert run("--version") == (0, f"minipod {__version__}\n", "")
    assert json.loads(run("version", "-o", "json")[1]) == {"version": __version__}


# ---- create, apply, plan ----


def test_create(agent: FakeAgent, run: Run, manifest: Path) -> None:
    made = {"kind": "Pod", "namespace": "demo", "name": "web", "uid": "u", "change": "created"}
    agent.answers["create"] = [{"done": {"objects": [made], "warnings": ["pod.yaml:2: hm\x1b"]}}]
    code, out, err = run("create", "-f", manifest, "-n", "demo")
    assert (code, out) == (0, "pod/web created\n")
    assert err == "warning: pod.yaml:2: hm\\x1b\n"
    assert agent.requests == [
        {
            "verb": "create",
            "manifest": MANIFEST,
            "source": str(manifest),
            "namespace": "demo",
            "apply": False,
            "newPods": False,
            "replaceFinished": False,
        }
    ]


def test_apply_replaces_what_is_going(agent: FakeAgent, run: Run, manifest: Path) -> None:
    assert run("apply", "-f", manifest)[0] == 0
    assert agent.requests[0]["replaceFinished"] is True
    assert agent.requests[0]["apply"] is True


def test_a_manifest_from_standard_input(
    agent: FakeAgent, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(MANIFEST.encode())))
    assert run("create", "-f", "-")[0] == 0
    assert (agent.requests[0]["manifest"], agent.requests[0]["source"]) == (MANIFEST, "<stdin>")


def test_the_problems_of_a_manifest_are_shown_as_they_are(
    agent: FakeAgent, run: Run, manifest: Path
) -> None:
    lines = "pod.yaml:3: spec: missing\npod.yaml:4: x: unknown"
    agent.answers["create"] = [{"error": UsageError(lines).to_status()}]
    assert run("create", "-f", manifest) == (2, "", lines + "\n")
    agent.answers["create"] = [{"error": UsageError("pod.yaml:3: spec: missing").to_status()}]
    assert run("create", "-f", manifest) == (2, "", "pod.yaml:3: spec: missing\n")


def test_plan(agent: FakeAgent, run: Run, manifest: Path) -> None:
    step = {
        "actor": "host",
        "number": 1,
        "step": "mkdir \x1b",
        "what": "makes it",
        "why": "needed",
        "origin": {"default": "layout"},
    }
    plan = {
        "pod": "default/w\x1bb",
        "source": "",
        "running": True,
        "actors": [{"name": "host"}],
        "steps": [step],
    }
    agent.answers["plan"] = [{"done": {"plans": [plan]}}] * 3
    code, out, _ = run("plan", manifest)
    assert code == 0
    assert out.splitlines()[0] == "pod default/w\\x1bb"
    assert out.splitlines()[3:] == [
        "   1 mkdir \\x1b",
        "     makes it: needed",
        "     # default: layout",
    ]
    assert agent.requests[0]["source"] == str(manifest)
    code, out, _ = run("plan", manifest, "-o", "json")
    assert (code, json.loads(out)["items"]) == (0, [plan])
    assert run("plan", "pod/web")[0] == 0
    assert agent.requests[2]["pod"] == "web" and "manifest" not in agent.requests[2]


# ---- get, events, describe ----


def test_get_pods(agent: FakeAgent, run: Run) -> None:
    agent.answers["get"] = items(pod("web"), pod("db"))
    code, out, _ = run("get", "pods")
    assert code == 0
    assert [line.split()[:3] for line in out.splitlines()] == [
        ["NAME", "READY", "STATUS"],
        ["db", "0/1", "Running"],
        ["web", "0/1", "Running"],
    ]
    assert agent.requests[0] == {
        "verb": "get",
        "kind": "pods",
        "namespace": "default",
        "names": [],
        "selector": "",
        "watch": False,
        "allowMissing": True,
    }


def test_get_shows_what_is_there_beside_what_is_not(agent: FakeAgent, run: Run) -> None:
    missing = [NotFound(f"pod default/{name} not found").to_status() for name in ("a", "b")]
    agent.answers["get"] = [{"done": {"items": [pod("web")], "missing": missing}}]
    for verb in ("get", "describe"):
        code, out, err = run(verb, "pods", "a", "web", "b")
        assert code == 1 and "web" in out
        assert err == "minipod: pod default/a not found\nminipod: pod default/b not found\n"


def test_get_of_several_kinds(agent: FakeAgent, run: Run) -> None:
    settings: Json = {"kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "b"}}

    def answer(talk: Conversation) -> None:
        found = {"pods": [pod("web")], "configmaps": [settings], "secrets": []}
        talk.send({"done": {"items": found[talk.request["kind"]]}})

    agent.answers["get"] = answer
    code, out, _ = run("get", "pods,secrets,cm")
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["NAME", "READY"],
        ["pod/web", "0/1"],
        [],
        ["NAME", "DATA"],
        ["configmap/settings", "1"],
    ]
    assert run("get", "pods,cm", "-o", "name")[1] == "pod/web\nconfigmap/settings\n"
    assert len(json.loads(run("get", "pods,cm", "-o", "json")[1])["items"]) == 2
    assert run("get", "pods,cm", "-w")[0] == 2


def test_delete_goes_on_after_what_is_not_there(agent: FakeAgent, run: Run) -> None:
    def answer(talk: Conversation) -> None:
        if talk.request["kind"] == "pods":
            talk.send({"event": {"deleted": "pod/b"}})
            talk.send({"error": NotFound("pod default/a not found").to_status()})
        else:
            talk.send({"event": {"deleted": "configmap/c"}})
            talk.send({"done": {}})

    agent.answers["delete"] = answer
    code, out, err = run("delete", "pod/a", "pod/b", "cm/c")
    assert (code, out) == (1, 'pod "b" deleted\nconfigmap "c" deleted\n')
    assert err == "minipod: pod default/a not found\n"


def test_get_in_all_namespaces(agent: FakeAgent, run: Run) -> None:
    agent.answers["get"] = items(pod("web", "b"), pod("web", "a"))
    _, out, _ = run("get", "pods", "-A", "-o", "wide", "-l", "app=web")
    first = [line.split()[0] for line in out.splitlines()]
    assert first == ["NAMESPACE", "a", "b"]
    assert "10.99.0.2" in out
    assert (agent.requests[0]["namespace"], agent.requests[0]["selector"]) == (None, "app=web")


@pytest.mark.parametrize(
    ("argv", "namespace"),
    [
        (("-n", "before", "get", "pods"), "before"),
        (("get", "pods", "-n", "after"), "after"),
        (("-n", "before", "get", "pods", "--namespace", "after"), "after"),
    ],
)
def test_the_namespace_stands_before_or_after_the_verb(
    agent: FakeAgent, run: Run, argv: tuple[str, ...], namespace: str
) -> None:
    run(*argv)
    assert agent.requests[0]["namespace"] == namespace


def test_get_formats(agent: FakeAgent, run: Run) -> None:
    agent.answers["get"] = items(pod("web"))
    assert run("get", "pods", "-o", "name")[1] == "pod/web\n"
    assert json.loads(run("get", "pods", "-ojson")[1])["items"] == [pod("web")]
    assert json.loads(run("get", "pod/web", "-o=json")[1]) == pod("web")
    assert "name: web\n" in run("get", "pod", "web", "-o", "yaml")[1]
    assert agent.requests[-1]["names"] == ["web"]
    code, _, err = run("get", "pods", "-o", "xml")
    assert (code, err.splitlines()[0]) == (2, "minipod: there is no output format 'xml'")


def test_get_without_titles(agent: FakeAgent, run: Run) -> None:
    agent.answers["get"] = items(pod("web"))
    assert run("get", "pods", "--no-headers")[1].split()[:2] == ["web", "0/1"]


def test_nothing_found(agent: FakeAgent, run: Run) -> None:
    agent.answers["get"] = items()
    assert run("get", "pods") == (0, "", "No resources found in default namespace.\n")
    assert run("events", "-A") == (0, "", "No resources found.\n")
    assert run("describe", "pods") == (0, "", "No resources found in default namespace.\n")
    assert json.loads(run("get", "pods", "-o", "json")[1])["items"] == []


def test_get_refuses_what_contradicts_itself(agent: FakeAgent, run: Run) -> None:
    assert run("get", "pod", "web", "-A")[0] == 2
    assert run("get", "services")[0] == 2
    assert agent.requests == []


def test_watch(agent: FakeAgent, run: Run) -> None:
    changes = [("ADDED", "Pending"), ("MODIFIED", "Running"), ("DELETED", "Running")]
    agent.answers["get"] = [
        *({"event": {"type": kind, "object": pod("web", phase=phase)}} for kind, phase in changes),
        {"error": MinipodError("the end").to_status()},
    ]
    code, out, err = run("get", "pods", "-w")
    assert [line.split()[2] for line in out.splitlines()] == [
        "STATUS",
        "Pending",
        "Running",
        "Running",
    ]
    assert (code, err) == (1, "minipod: the end\n")
    assert run("get", "pods", "-w", "-o", "name")[1] == "pod/web\n" * 3
    assert run("get", "pods", "-w", "-o", "yaml")[1].count("---\n") == 3


def test_a_watch_is_ended_quietly_by_an_interrupt(agent: FakeAgent, run: Run) -> None:
    def answer(talk: Conversation) -> None:
        talk.event(type="ADDED", object=pod("web"))
        interrupt_us()
        talk.gone()

    agent.answers["get"] = answer
    code, _, err = run("get", "pods", "-w")
    assert (code, err) == (130, "")


def test_events(agent: FakeAgent, run: Run) -> None:
    agent.answers["get"] = items(
        event("web", "Started", "2027-01-15T08:00:02Z"),
        event("db", "Started"),
        event("web", "Created", "2027-01-15T08:00:01Z"),
    )
    _, out, _ = run("events", "--for", "pod/web")
    assert [line.split()[2] for line in out.splitlines()[1:]] == ["Created", "Started"]
    assert "\\x1b[2J" in out
    assert agent.requests[0]["kind"] == "events"
    _, out, _ = run("get", "events")
    assert len(out.splitlines()) == 4
    assert len(json.loads(run("events", "-o", "json")[1])["items"]) == 3


def test_describe(agent: FakeAgent, run: Run) -> None:
    def answer(talk: Conversation) -> None:
        found = pod("web") if talk.request["kind"] == "pods" else event("web", "Started")
        talk.send(items(found)[0])

    agent.answers["get"] = answer
    code, out, _ = run("describe", "pod", "web")
    assert code == 0
    assert out.startswith("Name:            web\n")
    assert "Started \\x1b[2J" in out


# ---- logs ----


def log(text: str, container: str = "main", stream: str = "stdout", partial: bool = False) -> Json:
    line = {
        "pod": "web",
        "container": container,
        "stream": stream,
        "time": "2027-01-15T08:00:00.000000001Z",
        "text": text,
        "partial": partial,
    }
    return {"event": {"log": line}}


def test_logs_are_raw(agent: FakeAgent, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    agent.answers["logs"] = [
        log("\x1b[31mred\udcff"),
        log("err", stream="stderr"),
        log("half ", partial=True),
        log("whole"),
        log("no end", partial=True),
        {"done": {}},
    ]
    assert main(["logs", "web"]) == 0
    out, err = capfdbinary.readouterr()
    assert out == b"\x1b[31mred\xff\nerr\nhalf whole\nno end"
    assert err == b""


def test_what_logs_asks(agent: FakeAgent, run: Run) -> None:
    run(
        *("logs", "pod/web", "-c", "main", "-f", "-p", "--tail", "5", "--since", "1m30s"),
        *("-n", "demo"),
    )
    asked = agent.requests[0]
    assert asked["sinceSeconds"] == 90
    for key, value in {
        "namespace": "demo",
        "pod": "web",
        "container": "main",
        "allContainers": False,
        "follow": True,
        "previous": True,
        "tail": 5,
        "sinceTime": None,
    }.items():
        assert asked[key] == value
    run("logs", "web", "--since-time", "2027-01-15T08:00:00Z", "--all-containers", "--tail=-1")
    asked = agent.requests[1]
    assert asked["sinceTime"] == "2027-01-15T08:00:00Z"
    assert (asked["sinceSeconds"], asked["allContainers"], asked["tail"]) == (None, True, -1)


def test_log_prefixes_and_times(agent: FakeAgent, run: Run) -> None:
    agent.answers["logs"] = [
        log("a", partial=True),
        log("b", container="other"),
        log("c"),
        {"done": {}},
    ]
    _, out, _ = run("logs", "web", "--prefix", "--timestamps", "--all-containers")
    time = "2027-01-15T08:00:00.000000001Z"
    assert out.splitlines() == [
        f"[pod/web/main] {time} a",
        f"[pod/web/other] {time} b",
        f"[pod/web/main] {time} c",
    ]


@pytest.mark.parametrize(
    "options",
    [
        ("--since", "5x"),
        ("--since", "5s", "--since-time", "2027-01-15T08:00:00Z"),
        ("-c", "a", "--all-containers"),
        ("--tail", "-2"),
    ],
)
def test_logs_refuses(agent: FakeAgent, run: Run, options: tuple[str, ...]) -> None:
    assert run("logs", "web", *options)[0] == 2
    assert agent.requests == []


# ---- delete ----


def test_delete(agent: FakeAgent, run: Run) -> None:
    agent.answers["delete"] = [
        {"event": {"deleted": "pod/a"}},
        {"event": {"deleted": "pod/b"}},
        {"done": {}},
    ]
    assert run("delete", "pod", "a", "b") == (0, 'pod "a" deleted\npod "b" deleted\n', "")
    assert agent.requests[0] == {
        "verb": "delete",
        "kind": "pods",
        "namespace": "default",
        "names": ["a", "b"],
        "gracePeriodSeconds": None,
        "all": False,
        "selector": "",
        "wait": True,
        "ignoreNotFound": False,
        "allowMissing": True,
    }


@pytest.mark.parametrize(
    ("options", "grace"),
    [
        ((), None),
        (("--grace-period", "5"), 5),
        (("--grace-period=0",), 0),
        (("--grace-period=-1",), None),
        (("--now",), 1),
        (("--force",), 0),
        (("--force", "--grace-period=0"), 0),
    ],
)
def test_delete_grace(
    agent: FakeAgent, run: Run, options: tuple[str, ...], grace: int | None
) -> None:
    run("delete", "pod/a", "--no-wait", *options)
    assert agent.requests[0]["gracePeriodSeconds"] == grace
    assert agent.requests[0]["wait"] is False


def test_delete_by_manifest_selector_and_all(agent: FakeAgent, run: Run, manifest: Path) -> None:
    run("delete", "-f", manifest)
    assert agent.requests[0]["manifest"] == MANIFEST
    assert agent.requests[0]["source"] == str(manifest)
    run("delete", "pods", "-l", "app=web")
    assert agent.requests[1]["selector"] == "app=web"
    assert run("delete", "pods", "--all")[2] == "No resources found.\n"
    assert agent.requests[2]["all"] is True


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("pods",),
        ("pod", "a", "--all"),
        ("pod", "a", "-l", "x=y"),
        ("pod", "a", "--now", "--grace-period", "7"),
        ("pod", "a", "--grace-period", "-2"),
        ("-f", "/nonexistent.yaml"),
        ("service", "a"),
    ],
)
def test_delete_refuses(agent: FakeAgent, run: Run, argv: tuple[str, ...]) -> None:
    code, out, err = run("delete", *argv)
    assert (code, out) == (2, "")
    assert err
    assert agent.requests == []


def test_delete_of_what_is_not_there(agent: FakeAgent, run: Run) -> None:
    agent.answers["delete"] = [{"error": NotFound("pod default/a not found").to_status()}]
    assert run("delete", "pod", "a") == (1, "", "minipod: pod default/a not found\n")
    agent.answers["delete"] = [{"done": {}}]
    assert run("delete", "pod", "a", "--ignore-not-found") == (0, "", "")
    assert agent.requests[-1]["ignoreNotFound"] is True


# ---- condition ----


def test_condition(agent: FakeAgent, run: Run) -> None:
    agent.answers["condition"] = [{"done": {}}]
    argv = ("condition", "pod/a", "example.com/warm=False", "--reason", "Cold", "-n", "shop")
    assert run(*argv) == (0, "pod/a condition set\n", "")
    assert agent.requests[0] == {
        "verb": "condition",
        "namespace": "shop",
        "pod": "a",
        "type": "example.com/warm",
        "status": "False",
        "reason": "Cold",
        "message": "",
    }
    run("condition", "pod/a", "example.com/warm")
    assert agent.requests[1]["status"] == "True"
    assert run("condition", "pods", "x=True")[0] == 2


# ---- wait ----


def test_wait(agent: FakeAgent, run: Run) -> None:
    agent.answers["wait"] = [{"event": {"met": "pod/a"}}, {"done": {}}]
    argv = ("wait", "pod/a", "--for=condition=Ready", "--timeout", "1m")
    assert run(*argv) == (0, "pod/a condition met\n", "")
    assert agent.requests[0] == {
        "verb": "wait",
        "kind": "pods",
        "namespace": "default",
        "names": ["a"],
        "selector": "",
        "all": False,
        "for": "condition=Ready",
        "timeout": 60,
    }
    run("wait", "pods", "--all", "--for", "delete", "--timeout=-1s")
    assert agent.requests[1]["timeout"] == 7 * 24 * 3600
    run("wait", "pod", "a", "--for", "jsonpath={.status.phase}=Running")
    assert agent.requests[2]["for"] == "jsonpath={.status.phase}=Running"
    assert agent.requests[2]["timeout"] == 30


def test_wait_in_vain(agent: FakeAgent, run: Run) -> None:
    words = "timed out waiting for the condition on pod/a"
    agent.answers["wait"] = [{"error": MinipodError(words, "minipod describe pod a").to_status()}]
    code, _, err = run("wait", "pod/a", "--for=delete")
    assert (code, err) == (1, f"minipod: {words}\n  hint: minipod describe pod a\n")


def test_wait_refuses(agent: FakeAgent, run: Run) -> None:
    assert run("wait", "pods", "--for=delete")[0] == 2
    assert run("wait", "pod/a", "--all", "--for=delete")[0] == 2
    assert run("wait", "pod/a", "--for=delete", "--timeout", "soon")[0] == 2
    assert run("wait", "pod/a")[0] == 2
    assert agent.requests == []


# ---- image ----

IMAGE = {
    "reference": "localhost/app:1",
    "references": ["localhost/app:1", "localhost/app:2"],
    "id": "sha256:0123456789abcdef",
    "digest": "sha256:ff",
    "size": 1032225,
    "sharedSize": 32225,
    "uniqueSize": 1000000,
    "created": "",
    "layerCount": 1,
}


def test_image_ls(agent: FakeAgent, run: Run) -> None:
    agent.answers["image-list"] = [{"done": {"images": [IMAGE]}}]
    _, out, _ = run("image", "ls")
    assert [line.split() for line in out.splitlines()] == [
        ["REFERENCE", "IMAGE", "ID", "SIZE", "SHARED", "UNIQUE", "CREATED"],
        ["localhost/app:1", "0123456789ab", "1.03MB", "32.2kB", "1MB", "<unknown>"],
        ["localhost/app:2", "0123456789ab", "1.03MB", "32.2kB", "1MB", "<unknown>"],
    ]
    run("image", "ls", "app", "--filter", "dangling=false", "-o", "wide")
    assert agent.requests[-1]["filters"] == ["dangling=false", "reference=app"]
    assert json.loads(run("image", "ls", "-o", "json")[1]) == [IMAGE]
    assert run("image", "ls", "-o", "name")[1] == "localhost/app:1\nlocalhost/app:2\n"
    agent.answers["image-list"] = [{"done": {"images": []}}]
    assert run("image", "ls") == (0, "", "No images.\n")


def test_image_load(agent: FakeAgent, run: Run, tmp_path: Path) -> None:
    got = []

    def answer(talk: Conversation) -> None:
        got.append(os.read(talk.fds[0], 100))
        step = {"image": "app:1", "layer": "sha256:0123", "status": "unpacking"}
        talk.event(progress=step | {"done": 1, "total": 2})
        talk.event(progress=step | {"done": 2, "total": 2})
        talk.send({"done": {"references": ["localhost/app:1"]}})

    agent.answers["image-load"] = answer
    archive = tmp_path / "app.tar"
    archive.write_bytes(b"archive")
    code, out, err = run("image", "load", archive, "--name", "app:1")
    assert (code, out) == (0, "loaded localhost/app:1\n")
    assert err == "app:1 0123 unpacking\n"
    assert got == [b"archive"]
    assert agent.requests[0]["name"] == "app:1"


def test_image_load_from_standard_input(
    agent: FakeAgent, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    got = []

    def answer(talk: Conversation) -> None:
        got.append(os.pread(talk.fds[0], 100, 0) + os.pread(talk.fds[0], 2, 0))
        talk.send({"done": {"references": []}})

    agent.answers["image-load"] = answer
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"archive")))
    assert run("image", "load", "-")[0] == 0
    assert got == [b"archivear"]


def test_image_load_of_what_is_not_there(agent: FakeAgent, run: Run, tmp_path: Path) -> None:
    code, _, err = run("image", "load", tmp_path / "none.tar")
    assert code == 2
    assert "none.tar: no such file" in err


def saved(talk: Conversation) -> None:
    os.write(talk.fds[0], b"archive")
    talk.close_fds()
    talk.send({"done": {}})


def test_image_save(agent: FakeAgent, run: Run, tmp_path: Path) -> None:
    agent.answers["image-save"] = saved
    target = tmp_path / "out" / "app.tar"
    target.parent.mkdir()
    target.write_bytes(b"an older and longer one")
    assert run("image", "save", "app:1", "app:2", "-o", target)[0] == 0
    assert target.read_bytes() == b"archive"
    assert os.listdir(target.parent) == ["app.tar"]
    assert agent.requests[0]["references"] == ["app:1", "app:2"]
    assert agent.requests[0]["format"] == "oci-archive"


def test_image_save_to_stdout(agent: FakeAgent, run: Run) -> None:
    agent.answers["image-save"] = saved
    assert run("image", "save", "app:1", "-o", "-", "--format", "docker-archive") == (
        0,
        "archive",
        "",
    )
    assert agent.requests[0]["format"] == "docker-archive"


def test_a_failed_save_leaves_what_was_there(agent: FakeAgent, run: Run, tmp_path: Path) -> None:
    agent.answers["image-save"] = [{"error": NotFound("no image").to_status()}]
    target = tmp_path / "out" / "app.tar"
    target.parent.mkdir()
    target.write_bytes(b"old")
    assert run("image", "save", "app:1", "-o", target)[0] == 1
    assert target.read_bytes() == b"old"
    assert os.listdir(target.parent) == ["app.tar"]
    assert run("image", "save", "app:1", "-o", target, "--format", "zip")[0] == 2


def test_image_save_does_not_replace_a_device(agent: FakeAgent, run: Run, tmp_path: Path) -> None:
    agent.answers["image-save"] = saved
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    assert run("image", "save", "app:1", "-o", fifo)[0] == 0
    assert os.read(reader, 100) == b"archive"
    os.close(reader)
    assert fifo.is_fifo()


def test_image_rm_and_inspect(agent: FakeAgent, run: Run) -> None:
    agent.answers["image-rm"] = [{"done": {"removed": ["untagged: app:1"]}}]
    assert run("image", "rm", "-f", "app:1") == (0, "untagged: app:1\n", "")
    assert agent.requests[0]["force"] is True
    agent.answers["image-inspect"] = [{"done": {"image": IMAGE}}]
    assert json.loads(run("image", "inspect", "app:1")[1]) == IMAGE
    assert "size: 1032225\n" in run("image", "inspect", "app:1", "-o", "yaml")[1]


# ---- agent ----


def test_agent_status(agent: FakeAgent, run: Run) -> None:
    done = {"pid": 7, "version": "0.1.0", "uptimeSeconds": 130, "pods": 2, "notes": ["a", "b"]}
    agent.answers["agent-status"] = [{"done": done}]
    code, out, _ = run("agent", "status")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["pid:", "7"],
        ["version:", "0.1.0"],
        ["uptime:", "2m10s"],
        ["pods:", "2"],
        ["notes:", "a"],
        ["notes:", "b"],
    ]
    assert json.loads(run("agent", "status", "-o", "json")[1]) == done


@pytest.mark.parametrize(
    ("pods", "words"),
    [(0, ""), (1, "; 1 pod goes on running"), (3, "; 3 pods go on running")],
)
def test_agent_stop(agent: FakeAgent, run: Run, pods: int, words: str) -> None:
    agent.answers["agent-stop"] = [{"done": {"pods": pods}}]
    assert run("agent", "stop") == (0, f"the agent has stopped{words}\n", "")
    assert agent.requests[0]["verb"] == "agent-stop"


def test_status_and_stop_do_not_start_an_agent(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIPOD_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("MINIPOD_ROOT_DIR", str(tmp_path / "root"))
    assert run("agent", "status") == (1, "the agent is not running\n", "")
    assert run("agent", "stop") == (0, "the agent is not running\n", "")
    assert list(tmp_path.iterdir()) == []


def test_image_rm_tells_what_could_not_go(agent: FakeAgent, run: Run) -> None:
    failed = [NotFound("no image a").to_status(), MinipodError("b is used", "wait").to_status()]
    agent.answers["image-rm"] = [{"done": {"removed": ["untagged: c"], "failed": failed}}]
    code, out, err = run("image", "rm", "a", "b", "c")
    assert (code, out) == (1, "untagged: c\n")
    assert err == "minipod: no image a\nminipod: b is used\n  hint: wait\n"


def test_image_tag(agent: FakeAgent, run: Run) -> None:
    agent.answers["image-tag"] = [{"done": {"reference": "docker.io/library/b:1"}}]
    assert run("image", "tag", "a", "b:1") == (0, "tagged docker.io/library/b:1\n", "")
    assert (agent.requests[0]["reference"], agent.requests[0]["name"]) == ("a", "b:1")


def test_image_history(agent: FakeAgent, run: Run) -> None:
    step = {"created": "", "createdBy": "RUN  a\n\x1b[1m" + "b" * 60, "comment": "c", "size": 5}
    done = {"id": "sha256:0123456789abcdef", "history": [step, {**step, "createdBy": "FROM x"}]}
    agent.answers["image-history"] = [{"done": done}]
    lines = run("image", "history", "a")[1].splitlines()
    assert lines[0].split() == ["ID", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert lines[1].startswith("0123456789ab   <unknown>   RUN a \\x1b[1mbb")
    assert "…" in lines[1] and lines[1].endswith("5B     c")
    assert lines[2].split() == ["<missing>", "<unknown>", "FROM", "x", "5B", "c"]
    assert "b" * 60 in run("image", "history", "a", "--no-trunc")[1]
    assert json.loads(run("image", "history", "a", "-o", "json")[1]) == done["history"]


def test_image_prune(agent: FakeAgent, run: Run) -> None:
    plan = {"images": [IMAGE], "removed": [], "reclaimed": 1_000_000}
    agent.answers["image-prune"] = [{"done": plan}]
    code, out, err = run("image", "prune", "-a", "--dry-run", "--keep-storage", "1Gi")
    assert (code, err) == (0, "") and out.endswith("would reclaim 1MB\n")
    assert "localhost/app:1, localhost/app:2   0123456789ab   1MB" in out
    assert agent.requests[0]["keep"] == 1 << 30 and agent.requests[0]["all"]
    code, out, err = run("image", "prune")
    assert (code, out) == (2, "")
    assert "this would remove 1 image, 1MB, and nobody can be asked" in err
    assert all(request["dryRun"] for request in agent.requests)
    agent.answers["image-prune"] = [{"done": {**plan, "removed": ["untagged: a"], "images": []}}]
    assert run("image", "prune", "--force") == (0, "untagged: a\nreclaimed 1MB\n", "")
    assert agent.requests[-1]["dryRun"] is False
    assert run("image", "prune", "--keep-storage", "-5GB")[0] == 2


def test_system_df(agent: FakeAgent, run: Run) -> None:
    part = {"count": 2, "active": 1, "size": 4000, "reclaimable": 1000}
    image = {"name": "a:1", "id": "sha256:0123456789abcdef", "size": 4000, "pods": ["default/x"]}
    image |= {"sharedSize": 1000, "uniqueSize": 3000}
    pod = {"name": "default/x", "phase": "Running", "size": 7}
    found = {
        "images": {**part, "items": [image]},
        "pods": {**part, "items": [pod]},
        "volumes": {**part, "size": 0, "items": [{"name": "pvc-1", "claim": "", "size": 0}]},
        "logs": {**part, "items": [{"name": "default/x", "size": 9}]},
    }
    agent.answers["system-df"] = [{"done": found}]
    lines = [line.split() for line in run("system", "df")[1].splitlines()]
    assert lines[0] == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert lines[1] == ["Images", "2", "1", "4kB", "1kB", "(25%)"]
    assert lines[3] == ["Volumes", "2", "1", "0B", "1kB"]
    each = run("system", "df", "-v")[1]
    assert "a:1         0123456789ab   4kB    1kB      3kB      1" in each
    assert "pvc-1    <none>   0B" in each
    assert json.loads(run("system", "df", "-o", "json")[1]) == found


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5", 5),
        ("5B", 5),
        ("1kB", 1000),
        ("2.5MB", 2_500_000),
        ("10Gi", 10 << 30),
        ("1TiB", 1 << 40),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1e9", "GB", "1 XB", "9" * 40, "1ki1", "nan", "٣"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        parse_size(text)
