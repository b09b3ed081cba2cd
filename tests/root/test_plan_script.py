# SPDX-License-Identifier: GPL-3.0-or-later
"""The script of ``minipod plan -o sh`` builds the pod that ``minipod run`` builds: both are made and compared.

What is compared, and what may differ, is in ``podview``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from minipod.agent.shell import own_names
from minipod.config import Config
from tests import features, leaks
from tests.conftest import Images
from tests.instance import TEST_IMAGE, Instance
from tests.patience import patience
from tests.root.podview import View, differences

Json = dict[str, Any]

HOLD = ["/probe", "report", "hold"]


def container(name: str = "app", **more: Any) -> Json:
    return {"name": name, "image": TEST_IMAGE, "command": HOLD, **more}


def manifest(name: str, *containers: Json, **spec: Any) -> Json:
    made = list(containers) or [container()]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "a.b", "tier": "x"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": made, **spec},
    }


CONFIG: Json = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "conf"},
    "data": {"a.txt": "first\n$(date) `id` 'q' \"d\" \\ \u00e4\n", "b": "no newline"},
}
SECRET: Json = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "sec"},
    "stringData": {"key": "hunter 2"},
}
PODS: dict[str, Json] = {
    "one": manifest("one"),
    "two": manifest(
        "two",
        container(
            "app",
            resources={"limits": {"memory": "64Mi", "cpu": "500m"}},
            volumeMounts=[{"name": "shared", "mountPath": "/shared"}],
            securityContext={
                "runAsUser": 1000,
                "runAsGroup": 1001,
                "capabilities": {"drop": ["ALL"]},
                "allowPrivilegeEscalation": False,
            },
            env=[
                {"name": "ODD", "value": "a b\n'c' \"d\" $(id) `id` \\ \u00e4"},
                {"name": "E", "value": ""},
            ],
            workingDir="/shared/own",  # not the other's: they start side by side
        ),
        container(
            "other",
            volumeMounts=[
                {"name": "shared", "mountPath": "/s", "readOnly": True, "subPath": "deep"}
            ],
            securityContext={"capabilities": {"add": ["NET_ADMIN"], "drop": ["KILL", "CHOWN"]}},
        ),
        volumes=[{"name": "shared", "emptyDir": {}}],
        securityContext={"fsGroup": 2002, "supplementalGroups": [3003]},
    ),
    "host": manifest("host", hostNetwork=True, hostPID=True, hostIPC=True),
    "shared": manifest("shared", container(), container("second"), shareProcessNamespace=True),
    "privileged": manifest(
        "privileged",
        container(
            securityContext={"privileged": True},
            volumeMounts=[
                {"name": "h", "mountPath": "/h"},
                {
                    "name": "h",
                    "mountPath": "/r",
                    "readOnly": True,
                    "recursiveReadOnly": "Enabled",
                },
                {"name": "f", "mountPath": "/etc/hosts"},
            ],
        ),
        volumes=[
            {"name": "h", "hostPath": {"path": "/usr/share", "type": "Directory"}},
            {"name": "f", "hostPath": {"path": "/etc/services", "type": "File"}},
        ],
        securityContext={"sysctls": [{"name": "net.ipv4.tcp_keepalive_time", "value": "99"}]},
    ),
    "files": manifest(
        "files",
        container(
            volumeMounts=[
                {"name": "c", "mountPath": "/conf"},
                {"name": "s", "mountPath": "/sec"},
                {"name": "d", "mountPath": "/facts"},
                {"name": "m", "mountPath": "/mem"},
                {"name": "w", "mountPath": "/work"},
            ],
            ports=[{"containerPort": 8080, "hostPort": 18317}],
            securityContext={"readOnlyRootFilesystem": True},
            env=[{"name": "PW", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "key"}}}],
        ),
        initContainers=[
            container(
                "first",
                command=["sh", "-c", "echo made > /work/by-init; chmod 640 /work/by-init"],
                volumeMounts=[{"name": "w", "mountPath": "/work"}],
            )
        ],
        volumes=[
            {"name": "c", "configMap": {"name": "conf", "defaultMode": 0o440}},
            {
                "name": "s",
                "secret": {"secretName": "sec", "items": [{"key": "key", "path": "in/side"}]},
            },
            {
                "name": "d",
                "downwardAPI": {
                    "items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
                },
            },
            {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "w", "emptyDir": {}},
        ],
        hostname="other-name",
        dnsPolicy="None",
        dnsConfig={"nameservers": ["192.0.2.53"], "searches": ["example.org"]},
        hostAliases=[{"ip": "192.0.2.7", "hostnames": ["seven"]}],
    ),
}


# ---- both ways --------------------------------------------------------------------------------------------------


@dataclass
class Script:
    """The two scripts of a pod."""

    build: Path
    remove: Path
    config: Config
    cgroup: str
    uid: str

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["bash", self.build, *arguments],
            capture_output=True,
            text=True,
            timeout=patience(60),
            cwd="/",
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def take_down(self) -> None:
        done = subprocess.run(
            ["bash", self.remove], capture_output=True, text=True, timeout=patience(60)
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def view(self, pod: Json) -> View:
        run = Path(self.config.run_dir)
        pids = {"pause": int((run / "pause.pid").read_text())}
        said = {}
        logs = f"{self.config.log_dir}/default_{pod['metadata']['name']}_{self.uid}"
        for each in pod["spec"]["containers"]:
            pids[each["name"]] = int((run / f"container_{each['name']}.pid").read_text())
            said[each["name"]] = first_line(Path(f"{logs}/{each['name']}/0.log"))
        (cgroup,) = {
            str(found.relative_to(top))
            for _, top, _ in features.cgroup_mounts()
            for found in (top / self.cgroup).rglob(f"pod{self.uid}")
        }
        return View(self.config._replace(cgroup_parent=self.cgroup), cgroup, pids, said)


def first_line(log: Path) -> Json:
    deadline = time.monotonic() + patience(20)
    while "\n" not in (text := log.read_text()):
        assert time.monotonic() < deadline, "the probe says nothing"
        time.sleep(0.05)
    line = text.partition("\n")[0]
    assert line.startswith("{"), text
    found: Json = json.loads(line)
    return found


@pytest.fixture(scope="module")
def node(shared_instance: Instance) -> Instance:
    shared_instance.cli("apply", "-f", "-", input="\n---\n".join(map(json.dumps, (CONFIG, SECRET))))
    return shared_instance


@contextlib.contextmanager
def scripts(node: Instance, pod: Json) -> Iterator[Script]:
    """Give the scripts of a pod; at the end nothing of it may be left."""
    name = pod["metadata"]["name"]
    config, cgroup, uid = own_names(node.config, "default", name)
    path = node.write(f"{name}.json", json.dumps(pod))
    made = Script(node.base / f"{name}.sh", node.base / f"{name}-remove.sh", config, cgroup, uid)
    made.build.write_text(node.cli("plan", path, "-o", "sh").stdout)
    made.remove.write_text(node.cli("plan", path, "-o", "sh", "--teardown").stdout)
    scope = leaks.Scope.of(config._replace(cgroup_parent=cgroup), Path(config.run_dir))
    before = leaks.HostSnapshot.take(scope)
    try:
        yield made
    finally:
        subprocess.run(["bash", made.remove], capture_output=True, timeout=patience(60))
    assert leaks.diff(before, leaks.HostSnapshot.take(scope)) == []
    for place in (config.root_dir, config.run_dir, config.log_dir):
        assert not os.path.exists(place)


def running(node: Instance, pod: Json) -> View:
    """Run *pod* by minipod and return what there is."""
    name = pod["metadata"]["name"]
    node.call("create", {"manifest": json.dumps(pod), "source": "x", "namespace": "default"})
    node.wait(name, "condition=Ready")
    cgroup = node.pod_cgroup(name)
    names = [each["name"] for each in pod["spec"]["containers"]]
    pids = {each: node.pid(name, each) for each in names}
    paths = [top / cgroup / "sandbox/cgroup.procs" for _, top, _ in features.cgroup_mounts()]
    procs = next(path for path in paths if path.exists())
    said = {each: json.loads(node.first_line(name, each)) for each in names}
    return View(node.config, cgroup, {"pause": int(procs.read_text().split()[0]), **pids}, said)


@pytest.mark.parametrize("name", PODS)
def test_the_script_builds_the_same_pod(node: Instance, name: str) -> None:
    pod = PODS[name]
    want = running(node, pod).all()
    node.delete(name)
    with scripts(node, pod) as made:
        made.run()
        have = made.view(pod).all()
        found = differences(want, have)
        assert not found, "\n".join(found)
        made.take_down()


def test_a_difference_would_be_seen(node: Instance) -> None:
    pod = PODS["one"]
    want = running(node, pod).all()
    node.delete("one")
    with scripts(node, pod) as made:
        text = made.build.read_text()
        for old, new in (
            (r"\+kill,", ""),
            (r"--nofile=\d+:", "--nofile=99:"),
            (r"(?m)^  mask ", "  : "),
            (r'echo 1000 >"([^"]*)/oom_score_adj"', r'echo 999 >"\1/oom_score_adj"'),
        ):
            text, count = re.subn(old, new, text)
            assert count, old
        made.build.write_text(text)
        made.run()
        found = "\n".join(differences(want, made.view(pod).all()))
        made.take_down()
    for words in (".app.status.CapBnd", ".app.limits", ".app.mounts", ".app.oom"):
        assert words in found


def test_it_refuses_and_leaves_nothing_when_it_fails(node: Instance) -> None:
    with scripts(node, PODS["one"]) as made:
        nobody = ["setpriv", "--reuid", "1000", "--clear-groups", "bash", "-s"]
        done = subprocess.run(nobody, input=made.build.read_text(), capture_output=True, text=True)
        assert done.returncode != 0
        assert "usage" in made.run("--what", check=False).stderr
        assert "no such file" in made.run("--images", "/nowhere", check=False).stderr
        for command in ("nft -f -", "ip addr add", "setpriv"):
            broken = Script(
                made.build.with_suffix(".broken"), made.remove, made.config, made.cgroup, made.uid
            )
            broken.build.write_text(made.build.read_text().replace(command, f"false {command}"))
            done = broken.run(check=False)
            assert done.returncode != 0, command
            assert not os.path.exists(made.config.run_dir) and not os.path.exists(
                made.config.root_dir
            )
        made.run()
        pid = Path(f"{made.config.run_dir}/container_app.pid").read_text()
        again = made.run(check=False)
        assert again.returncode == 1 and "is there already" in again.stderr
        assert Path(f"/proc/{pid.strip()}").exists(), "the first one is not harmed"
        made.take_down()
        made.take_down()


def test_from_an_archive_on_a_machine_without_minipod(
    node: Instance, image_maker: ModuleType, images: Images, tmp_path: Path
) -> None:
    entry, layer = image_maker.Entry, image_maker.layer
    with socket.create_server(("0.0.0.0", 0)) as server:
        free_port = server.getsockname()[1]
    below = layer(
        [
            entry("d"),
            entry("d/old", 0o644, b"x"),
            entry("gone", 0o4755, b"x"),
            entry("e"),
            entry("e/x", 0o644, b"x"),
        ]
    )
    above = layer(
        [
            entry("d/.wh..wh..opq", 0o644, b""),
            entry("d/new", 0o640, b"new"),
            entry(".wh.gone", 0o644, b""),
            entry("e/.wh.x", 0o644, b""),
        ]
    )
    busybox = Path("/bin/busybox").read_bytes()
    shell = layer(image_maker.busybox_entries(busybox, ["sh", "httpd", "stat", "find"]))
    node.load(images.probe("layered", {"Env": ["PATH=/bin"]}, layers=[shell, below, above]))
    words = [
        "sh",
        "-c",
        "cd /; find d e gone -exec stat -c '%A %u:%g %s %n' {} + 2>/dev/null; exec httpd -f -p 8080 -h /d",
    ]
    made_of = container(
        image="localhost/layered:1",
        command=words,
        ports=[{"containerPort": 8080, "hostPort": free_port}],
    )
    pod = manifest("layered", made_of)
    archive = tmp_path / "images.tar"
    node.cli("image", "save", "--format", "docker-archive", "-o", archive, "localhost/layered:1")
    seen = []
    for arguments in ((), ("--images", str(archive))):
        with scripts(node, pod) as made:
            if arguments:
                text = re.sub(r"(?m)^STORE=.*", "STORE=/nowhere", made.build.read_text())
                made.build.write_text(text)
                assert (
                    "--images"
                    in Script(made.build, made.remove, made.config, made.cgroup, made.uid)
                    .run(check=False)
                    .stderr
                )
            made.run(*arguments)
            (log,) = Path(made.config.log_dir).glob("*/app/0.log")
            text = until(log.read_text, "d/new")
            seen.append(sorted(line for line in text.splitlines() if not line.startswith("d")))
            for url in (f"http://127.0.0.1:{free_port}/new", f"http://{address(made)}:8080/new"):
                assert until(lambda: get(url), "new") == "new"  # noqa: B023
            made.take_down()
    assert seen[0] == seen[1]
    assert not any("gone" in line or "old" in line or "e/x" in line for line in seen[0]), seen[0]


def address(made: Script) -> str:
    return made.config.pod_cidr.replace(".0/24", ".2")


def get(url: str) -> str:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
        return str(answer.read().decode())
    return ""


def until(look: Callable[[], str], words: str) -> str:
    """Return what *look* sees, once it has *words* in it."""
    deadline = time.monotonic() + patience(20)
    while words not in (found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found
