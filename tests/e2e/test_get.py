# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod get``, ``describe``, ``events``, ``wait`` and ``delete``: what they print, and their exit codes."""

from __future__ import annotations

import json
import os
import re

import pytest
import yaml

from tests.e2e.user import (
    ESCAPE,
    FOREVER,
    Json,
    Running,
    check_error,
    create,
    manifest,
    pod,
    shell,
)
from tests.instance import TEST_IMAGE, Instance

DEAF = 'trap "" TERM; while :; do sleep 1000 & wait $!; done'


@pytest.fixture(scope="module")
def pods(shared_instance: Instance) -> Instance:
    """The instance with: ``web`` (two containers run), ``done``, ``failed``, and ``else`` in another namespace."""
    web = pod(
        "web",
        shell(FOREVER, "server", ports=[{"containerPort": 80, "name": "http"}]),
        shell(
            FOREVER,
            "writer",
            env=[{"name": "COLOUR", "value": "blue"}],
            resources={"limits": {"memory": "32Mi"}},
            volumeMounts=[{"name": "data", "mountPath": "/data"}],
        ),
        labels={"app": "web", "tier": "front"},
        volumes=[{"name": "data", "emptyDir": {"medium": "Memory"}}],
    )
    create(
        shared_instance,
        web,
        pod("done", shell("true"), labels={"app": "job"}),
        pod("failed", shell("exit 3"), labels={"app": "job", "tier": "back"}),
        pod("else", namespace="other", labels={"app": "web"}),
    )
    shared_instance.wait("web", "condition=Ready")
    shared_instance.wait("done", "jsonpath={.status.phase}=Succeeded")
    shared_instance.wait("failed", "jsonpath={.status.phase}=Failed")
    return shared_instance


def table(text: str) -> list[list[str]]:
    """Return the cells of a table, which two spaces separate."""
    return [re.split(r" {2,}", line.rstrip()) for line in text.splitlines()]


def first_column(text: str) -> list[str]:
    """Return the first words of a table's rows, without the title."""
    return [row[0] for row in table(text)[1:]]


# ---- get ----


def test_get_pods_has_kubectls_columns(pods: Instance) -> None:
    done = pods.cli("get", "pods")
    rows = table(done.stdout)
    assert rows[0] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [row[:4] for row in rows[1:]] == [
        ["done", "0/1", "Completed", "0"],
        ["failed", "0/1", "Error", "0"],
        ["web", "2/2", "Running", "0"],
    ]
    assert all(re.fullmatch(r"\d+[smh].*", row[4]) for row in rows[1:])
    assert ESCAPE not in done.stdout and not done.stderr
    cells = zip(done.stdout.splitlines(), ("READY", "0/1", "0/1", "2/2"), strict=True)
    assert len({line.index(cell) for line, cell in cells}) == 1, "columns are aligned"


def test_get_wide_adds_address_and_node(pods: Instance) -> None:
    rows = table(pods.cli("get", "pods", "-o", "wide").stdout)
    assert rows[0][5:] == ["IP", "NODE"]
    status = pods.pod("web")["status"]
    assert rows[3][5:] == [status["podIP"], os.uname().nodename.lower()]


def test_get_names(pods: Instance) -> None:
    assert pods.cli("get", "pods", "-o", "name").stdout.split() == [
        "pod/done",
        "pod/failed",
        "pod/web",
    ]
    assert first_column(pods.cli("get", "pods", "web", "done").stdout) == ["done", "web"]
    assert first_column(pods.cli("get", "pod/web", "po/done").stdout) == ["done", "web"]
    assert first_column(pods.cli("get", "po", "web").stdout) == ["web"]
    assert "NAME" not in pods.cli("get", "pods", "--no-headers").stdout


def test_get_yaml_and_json_are_the_object(pods: Instance) -> None:
    as_json = json.loads(pods.cli("get", "pod", "web", "-o", "json").stdout)
    as_yaml = yaml.safe_load(pods.cli("get", "pod", "web", "-o", "yaml").stdout)
    assert as_json == as_yaml == pods.pod("web")
    assert (as_json["apiVersion"], as_json["kind"]) == ("v1", "Pod")
    both = json.loads(pods.cli("get", "pods", "-o", "json").stdout)
    assert both["kind"] == "List"
    assert [item["metadata"]["name"] for item in both["items"]] == ["done", "failed", "web"]


def test_yaml_of_a_pod_can_be_run_again(pods: Instance) -> None:
    text = pods.cli("get", "pod", "done", "-o", "yaml").stdout.replace(
        "name: done", "name: copy", 1
    )
    done = pods.cli("run", "--rm", "-", input=text, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.field("ObjectMeta.namespace")
def test_namespaces(pods: Instance) -> None:
    assert first_column(pods.cli("get", "pods", "-n", "other").stdout) == ["else"]
    assert first_column(pods.cli("-n", "other", "get", "pods").stdout) == ["else"]
    rows = table(pods.cli("get", "pods", "-A").stdout)
    assert rows[0][:2] == ["NAMESPACE", "NAME"]
    assert [row[:2] for row in rows[1:]] == [
        ["default", "done"],
        ["default", "failed"],
        ["default", "web"],
        ["other", "else"],
    ]
    nothing = pods.cli("get", "pods", "-n", "empty")
    assert (nothing.stdout, nothing.stderr) == ("", "No resources found in empty namespace.\n")


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("app=web", ["web"]),
        ("app=job", ["done", "failed"]),
        ("app==job,tier=back", ["failed"]),
        ("app!=job", ["web"]),
        ("tier", ["failed", "web"]),
        ("!tier", ["done"]),
        ("app in (web,job),tier notin (back)", ["done", "web"]),
    ],
)
def test_selectors(pods: Instance, selector: str, found: list[str]) -> None:
    assert first_column(pods.cli("get", "pods", "-l", selector).stdout) == found


def test_get_refuses(pods: Instance) -> None:
    check_error(pods.cli("get", "pod", "nobody", check=False), 1, "pod default/nobody not found")
    check_error(pods.cli("get", "services", check=False), 2, "there is no kind 'services' here")
    check_error(pods.cli("get", "pods", "-o", "xml", check=False), 2, "'xml'", "wide, json, yaml")
    check_error(pods.cli("get", "pods", "-l", "a==b==c", check=False), 2, "cannot read")
    check_error(pods.cli("get", "pods", "web", "-A", check=False), 2, "-A")


def test_watch_shows_every_change(pods: Instance) -> None:
    create(pods, pod("before", shell("exit 0"), labels={"watched": "yes"}))
    with Running(pods, "get", "pods", "-w", "-l", "watched") as watch:
        watch.until_out("before")
        create(pods, pod("seen", shell("exit 0"), labels={"watched": "yes"}))
        watch.until_out("\nseen")
        pods.wait("seen", "jsonpath={.status.phase}=Succeeded")
        create(pods, pod("unseen", shell("exit 0")))
        pods.wait("unseen", "jsonpath={.status.phase}=Succeeded")
        pods.delete("unseen", "seen")
        create(pods, pod("last", shell("exit 0"), labels={"watched": "yes"}))
        watch.until_out("\nlast")
        watch.signal()
        assert watch.end() == 130, watch.err
    assert watch.err == ""
    rows = table(watch.out)
    assert rows[0][0] == "NAME" and {row[0] for row in rows[1:]} == {"before", "seen", "last"}
    states = list(dict.fromkeys(row[2] for row in rows if row[0] == "seen"))
    assert states[0] == "ContainerCreating" and states[-1] == "Completed", states
    pods.delete("before", "last")


def test_watch_of_a_name_and_as_yaml(pods: Instance) -> None:
    with Running(pods, "get", "pod", "web", "-w", "-o", "yaml") as watch:
        text = watch.until_out("qosClass")
        watch.signal()
        assert watch.end() == 130
    assert next(yaml.safe_load_all(text))["metadata"]["name"] == "web"
    check_error(pods.cli("get", "pod", "nobody", "-w", check=False), 1, "not found")


KIND_AND_FORM = [
    ("persistentvolume", ""),
    ("persistentvolumeclaim", "name"),
    ("secret", "json"),
    ("configmap", ""),
    ("configmap", "jsonpath={.kind}/{.metadata.name}"),
    ("configmap", "custom-columns=A:.metadata.name"),
]


@pytest.mark.parametrize(("kind", "form"), KIND_AND_FORM)
def test_watch_of_every_kind_in_every_form(pods: Instance, kind: str, form: str) -> None:
    spec = {
        "persistentvolume": {
            "capacity": {"storage": "1Mi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "none",
            "hostPath": {"path": "/tmp"},
        },
        "persistentvolumeclaim": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "none",
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }.get(kind)
    names = {
        "persistentvolume": "PersistentVolume",
        "persistentvolumeclaim": "PersistentVolumeClaim",
    }
    names |= {"configmap": "ConfigMap", "secret": "Secret"}

    def make(name: str) -> None:
        made = {"apiVersion": "v1", "kind": names[kind], "metadata": {"name": name}}
        pods.cli(
            "create", "-f", "-", input=json.dumps({**made, **({"spec": spec} if spec else {})})
        )

    make("first")
    with Running(pods, "get", kind, "-w", *(["-o", form] if form else [])) as watch:
        watch.until_out("first")
        make("second")
        watch.until_out("second")
        pods.cli("delete", kind, "first", "second")
        watch.signal()
        assert watch.end() == 130, watch.err
    assert watch.err == ""


def test_jsonpath(pods: Instance) -> None:
    status = pods.pod("web")["status"]
    assert pods.cli("get", "pod", "web", "-o", "jsonpath={.status.podIP}").stdout == status["podIP"]
    every = pods.cli("get", "pods", "-o", "jsonpath={.items[*].metadata.name}").stdout
    assert every == "done failed web"
    lines = '{range .items[*]}{.metadata.name}={.status.phase}{"\\n"}{end}'
    assert pods.cli("get", "pods", "-o", f"jsonpath={lines}").stdout == (
        "done=Succeeded\nfailed=Failed\nweb=Running\n"
    )
    check_error(pods.cli("get", "pods", "-o", "jsonpath={.a", check=False), 2, "JSONPath '{.a'")
    check_error(pods.cli("get", "pods", "-o", "jsonpath", check=False), 2, "output format")


def test_custom_columns(pods: Instance) -> None:
    columns = "NAME:.metadata.name,NONE:.spec.nothing,EACH:{.spec.containers[*].name}"
    rows = table(pods.cli("get", "pods", "-o", f"custom-columns={columns}").stdout)
    assert rows == [
        ["NAME", "NONE", "EACH"],
        ["done", "<none>", "c0"],
        ["failed", "<none>", "c0"],
        ["web", "<none>", "server,writer"],
    ]
    wrong = pods.cli("get", "pods", "-o", "custom-columns=NAME", check=False)
    check_error(wrong, 2, "'NAME' is no column")


# ---- describe and events ----


def test_describe_tells_all(pods: Instance) -> None:
    text = pods.cli("describe", "pod", "web").stdout
    status = pods.pod("web")["status"]
    for line in (
        r"Name: +web",
        r"Namespace: +default",
        r"Labels: +app=web\n +tier=front",
        r"Status: +Running",
        rf"IP: +{re.escape(status['podIP'])}",
        r"  server:\n",
        r"  writer:\n",
        rf"    Image: +{re.escape(TEST_IMAGE)}",
        r"    Port: +80/TCP",
        r"    State: +Running",
        r"    Ready: +True",
        r"    Restart Count: +0",
        r"      memory: +32Mi",
        r"      COLOUR: +blue",
        r"      /data from data \(rw\)",
        r"  Ready +True",
        r"Volumes:\n  data:\n    Type: +EmptyDir \(.*\n    Medium: +Memory",
        r"QoS Class: +Burstable",
        r"  Normal +Started ",
    ):
        assert re.search(f"^{line}", text, re.MULTILINE), (line, text)


def test_describe_tells_how_a_container_ended(pods: Instance) -> None:
    text = pods.cli("describe", "pod/failed").stdout
    assert re.search(r"State: +Terminated\n +Reason: +Error\n +Exit Code: +3\n", text), text
    assert re.search(r"^Status: +Failed", text, re.MULTILINE)
    check_error(pods.cli("describe", "pod", "nobody", check=False), 1, "not found")


def test_events_of_a_pod(pods: Instance) -> None:
    rows = table(pods.cli("events", "--for", "pod/web").stdout)
    assert rows[0] == ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert {row[3] for row in rows[1:]} == {"pod/web"}
    assert [row[2] for row in rows[1:]].count("Started") == 2
    listed = json.loads(pods.cli("events", "-o", "json").stdout)
    assert {item["kind"] for item in listed["items"]} == {"Event"}
    assert {"pod/web", "pod/done"} <= {
        row[3] for row in table(pods.cli("get", "events").stdout)[1:]
    }


def test_events_are_watched(pods: Instance) -> None:
    with Running(pods, "events", "-w", "--for", "told") as watch:
        create(pods, pod("told", shell("true")))
        watch.until_out("Started")
        watch.signal()
        assert watch.end() == 130
    pods.delete("told")


# ---- wait ----


def test_wait_for_conditions(pods: Instance) -> None:
    done = pods.cli("wait", "pod/web", "--for=condition=Ready")
    assert done.stdout == "pod/web condition met\n"
    pods.cli(
        "wait",
        "pod",
        "failed",
        "--for",
        "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}=3",
    )
    pods.cli("wait", "pods", "-l", "app=job", "--for=condition=ready=false")


def test_wait_for_what_is_not_there_yet(pods: Instance) -> None:
    with Running(pods, "wait", "pod/late", "--for=create", "--timeout=60s") as wait:
        create(pods, pod("late", shell()))
        assert wait.end() == 0, wait.err
    pods.cli("wait", "pod/late", "--for=jsonpath={.status.podIP}")
    ready = '{.status.conditions[?(@.type=="Ready")].status}'
    pods.cli("wait", "pod/late", f"--for=jsonpath={ready}=True")
    pods.delete("late")


def test_wait_that_is_not_met_times_out(pods: Instance) -> None:
    done = pods.cli("wait", "pod/done", "--for=condition=Ready", "--timeout", "100ms", check=False)
    check_error(done, 1, "timed out waiting for condition=Ready of pod/done")


def test_wait_for_the_end_of_a_pod(pods: Instance) -> None:
    pods.start_pod("ends", shell())
    with Running(pods, "wait", "pod/ends", "--for=delete", "--timeout=60s") as wait:
        pods.cli("delete", "pod", "ends", "--now")
        assert wait.end() == 0, wait.err
        assert wait.out == "pod/ends condition met\n"
    pods.cli("wait", "pod/never-was", "--for=delete")


def test_wait_refuses(pods: Instance) -> None:
    check_error(
        pods.cli("wait", "pod/nobody", "--for=condition=Ready", check=False), 1, "not found"
    )
    check_error(pods.cli("wait", "pod/web", "--for=luck", check=False), 2, "cannot wait for 'luck'")
    check_error(pods.cli("wait", "pod/web", check=False), 2, "--for")
    wrong = pods.cli("wait", "pod/web", "--for=delete", "--timeout=soon", check=False)
    check_error(wrong, 2, "'soon' is no duration")


# ---- delete ----


def names(instance: Instance) -> list[str]:
    """Return the names of the pods in the namespace ``default``."""
    done, _ = instance.call("get", {"kind": "pods", "namespace": "default"})
    return [item["metadata"]["name"] for item in done["items"]]


def test_what_is_not_there_saves_no_other(pods: Instance) -> None:
    create(pods, pod("x1"))
    got = pods.cli("get", "pod", "nobody", "x1", check=False)
    assert got.returncode == 1 and "pod default/nobody not found" in got.stderr
    assert got.stdout.splitlines()[1].startswith("x1 ")
    done = pods.cli("delete", "pod", "nobody", "x1", check=False)
    assert done.returncode == 1 and "pod default/nobody not found" in done.stderr
    assert done.stdout == 'pod "x1" deleted\n'
    assert "x1" not in names(pods)


def test_delete_several(pods: Instance) -> None:
    create(pods, pod("x1"), pod("x2"), pod("x3"))
    done = pods.cli("delete", "pod", "x1", "x2")
    assert sorted(done.stdout.splitlines()) == ['pod "x1" deleted', 'pod "x2" deleted']
    assert pods.cli("delete", "pod/x3", "--force").stdout == 'pod "x3" force deleted\n'
    assert not {"x1", "x2", "x3"} & set(names(pods))


def test_delete_by_file_selector_and_all(pods: Instance) -> None:
    text = manifest(pod("f1", labels={"f": "1"}), pod("f2", namespace="own", labels={"f": "1"}))
    file = pods.write("f.yaml", text)
    pods.cli("create", "-f", file)
    assert pods.cli("delete", "-f", file).stdout == 'pod "f1" deleted\npod "f2" deleted\n'
    pods.cli(
        "create", "-f", "-", "-n", "own", input=manifest(pod("g1"), pod("g2", labels={"g": ""}))
    )
    assert pods.cli("delete", "pods", "-l", "g", "-n", "own").stdout == 'pod "g2" deleted\n'
    assert pods.cli("delete", "pods", "--all", "-n", "own").stdout == 'pod "g1" deleted\n'
    assert pods.cli("delete", "pods", "--all", "-n", "own").stderr == "No resources found.\n"


@pytest.mark.parametrize("how", [["--now"], ["--grace-period", "1"], ["--grace-period=0"]])
def test_delete_of_a_deaf_pod(pods: Instance, how: list[str]) -> None:
    create(pods, pod("deaf", shell(DEAF), terminationGracePeriodSeconds=3600))
    pods.wait("deaf", "condition=Ready")
    assert pods.cli("delete", "pod", "deaf", *how).stdout == 'pod "deaf" deleted\n'
    assert "deaf" not in names(pods)


def test_delete_that_does_not_wait(pods: Instance) -> None:
    create(pods, pod("slow", shell(DEAF), terminationGracePeriodSeconds=3600))
    pods.wait("slow", "condition=Ready")
    pods.cli("delete", "pod", "slow", "--no-wait")
    assert table(pods.cli("get", "pod", "slow").stdout)[1][2] == "Terminating"
    pods.cli("delete", "pod", "slow", "--now")
    assert "slow" not in names(pods)


def test_delete_refuses(pods: Instance) -> None:
    check_error(pods.cli("delete", "pod", "nobody", check=False), 1, "pod default/nobody not found")
    done = pods.cli("delete", "pod/nobody", "pod/noone", "cm/none", check=False)
    assert done.returncode == 1
    for name in ("pod default/nobody", "pod default/noone", "configmap default/none"):
        assert f"{name} not found" in done.stderr
    assert pods.cli("delete", "pod", "nobody", "--ignore-not-found").stdout == ""
    check_error(pods.cli("delete", check=False), 2, "nothing to delete is named")
    check_error(pods.cli("delete", "pods", check=False), 2, "which pods?")
    wrong = pods.cli("delete", "pod", "web", "--now", "--grace-period=9", check=False)
    check_error(wrong, 2, "say different things")
    check_error(pods.cli("delete", "-f", "/no/such.yaml", check=False), 2, "no such file")
    assert "web" in names(pods)


# ---- what a hostile label, message or file name could do ----


def test_annotations_steer_no_terminal(pods: Instance) -> None:
    hostile: Json = pod("hostile", shell("true"))
    hostile["metadata"]["annotations"] = {"note": "\x1b]0;title\x07\u202etxt\nName: forged"}
    create(pods, hostile)
    text = pods.cli("describe", "pod", "hostile").stdout
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "\nName: forged" not in text and "\\nName: forged" in text
    pods.delete("hostile")
