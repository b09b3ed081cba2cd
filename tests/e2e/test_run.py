# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod run``: what is shown, the exit codes, Ctrl-C, and a name that is taken."""

from __future__ import annotations

import json
import signal

import pytest

from tests.e2e.user import (
    ESCAPE,
    FOREVER,
    Running,
    Terminal,
    address_in,
    check_error,
    create,
    manifest,
    pod,
    shell,
)
from tests.instance import Instance

POLITE = 'trap "echo bye; exit 0" TERM; echo up; while :; do sleep 1000 & wait $!; done'
DEAF = 'trap "" TERM; echo up; while :; do sleep 1000 & wait $!; done'


def names(instance: Instance) -> list[str]:
    """Return the names of all pods."""
    done, _ = instance.call("get", {"kind": "pods"})
    return [each["metadata"]["name"] for each in done["items"]]


def test_shows_progress_and_prefixed_output_and_ends_with_zero(shared_instance: Instance) -> None:
    two = pod("two", shell("echo one; echo oops >&2", "a"), shell("printf unfinished", "b"))
    file = shared_instance.write("two.yaml", manifest(two))
    done = shared_instance.cli("run", file)
    assert sorted(done.stdout.splitlines()) == ["[a] one", "[b] unfinished"]
    states = [line for line in done.stderr.splitlines() if line.startswith("two: ")]
    assert states[0] == "two: ContainerCreating" and states[-1] == "two: Completed", done.stderr
    assert "[a] oops" in done.stderr.splitlines()
    assert ESCAPE not in done.stdout + done.stderr


def test_exit_code_is_that_of_the_first_container_that_failed(shared_instance: Instance) -> None:
    # The second one in the file fails first.
    late = shell("sleep 2; exit 4", "late")
    two = pod("fails", late, shell("exit 3", "early"), shell("exit 0", "fine"))
    done = shared_instance.cli("run", "-", input=manifest(two), check=False)
    assert done.returncode == 3
    assert "pod fails failed: " in done.stderr and "exit code 3" in done.stderr, done.stderr


def test_killed_container_gives_128_and_the_signal(shared_instance: Instance) -> None:
    # $$ is one $ to Kubernetes.
    killed = pod("killed", shell("sh -c 'kill -9 $$$$'; exit $?"))
    done = shared_instance.cli("run", "--rm", "-", input=manifest(killed), check=False)
    assert done.returncode == 137, done.stderr
    assert "killed" not in names(shared_instance)


def test_standard_input_with_documents_and_lists(shared_instance: Instance) -> None:
    items = {"apiVersion": "v1", "kind": "List", "items": [pod("m2", shell("echo second"))]}
    text = "# nothing here\n---\n" + manifest(pod("m1", shell("echo first"))) + "---\n"
    text += json.dumps(items)
    done = shared_instance.cli("run", "--rm", "-", input=text)
    assert sorted(done.stdout.splitlines()) == ["[m1/c0] first", "[m2/c0] second"]
    assert not {"m1", "m2"} & set(names(shared_instance))


def test_rm_removes_what_this_run_created(shared_instance: Instance) -> None:
    def settings(name: str) -> str:
        return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n---\n"

    claim = (
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: made}\n"
        "spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}\n---\n"
    )
    shared_instance.cli("apply", "-f", "-", input=settings("there"))
    using = pod("using", shell("echo x > /v/f"))
    using["spec"]["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]
    using["spec"]["volumes"] = [{"name": "v", "persistentVolumeClaim": {"claimName": "made"}}]
    text = settings("made") + settings("there") + claim + manifest(using)
    shared_instance.cli("run", "--rm", "-", input=text)
    left = shared_instance.cli("get", "pods,cm,pvc,pv", "-o", "name").stdout
    assert "made" not in left and "using" not in left and "persistentvolume" not in left
    assert "configmap/there\n" in left
    shared_instance.cli("delete", "cm", "there")


def test_one_failed_pod_of_several_makes_the_exit_code(shared_instance: Instance) -> None:
    text = manifest(pod("n1", shell("exit 0")), pod("n2", shell("exit 9")))
    done = shared_instance.cli("run", "--rm", "-", input=text, check=False)
    assert done.returncode == 9
    assert "pod n2 failed" in done.stderr and "pod n1 failed" not in done.stderr


def test_interrupt_deletes_gracefully(shared_instance: Instance) -> None:
    file = shared_instance.write("polite.yaml", manifest(pod("polite", shell(POLITE))))
    with Running(shared_instance, "run", file) as run:
        run.until_out("[c0] up")
        run.signal()
        assert run.end() == 130, run.err
        assert run.out.splitlines() == ["[c0] up", "[c0] bye"]
        assert "deleting polite; once more ends it at once" in run.err
        assert "Traceback" not in run.err
    assert "polite" not in names(shared_instance)


def test_second_interrupt_does_not_wait(shared_instance: Instance) -> None:
    deaf = pod("deaf", shell(DEAF), terminationGracePeriodSeconds=3600)
    with Running(shared_instance, "run", shared_instance.write("deaf.yaml", manifest(deaf))) as run:
        run.until_out("[c0] up")
        run.signal()
        run.until_err("once more ends it at once")
        run.signal()
        assert run.end() == 130, run.err
        assert "ending deaf at once" in run.err
    assert "deaf" not in names(shared_instance)


def test_interrupt_takes_all_pods_of_the_file(shared_instance: Instance) -> None:
    text = manifest(pod("i1", shell(POLITE)), pod("i2", shell(POLITE)))
    with Running(shared_instance, "run", shared_instance.write("both.yaml", text)) as run:
        run.until_out("[i1/c0] up")
        run.until_out("[i2/c0] up")
        run.signal(signal.SIGTERM)
        assert run.end() == 128 + signal.SIGTERM, run.err
    assert not {"i1", "i2"} & set(names(shared_instance))


def test_detached_prints_name_and_address_when_running(shared_instance: Instance) -> None:
    done = shared_instance.cli("run", "-d", "-", input=manifest(pod("d1"), pod("d2")))
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["d1", "d2"]
    for name, address in rows:
        status = shared_instance.pod(name)["status"]
        assert (status["phase"], status["podIP"]) == ("Running", address)
    assert rows[0][1] != rows[1][1]
    assert address_in(done.stderr) in done.stdout
    shared_instance.delete("d1", "d2")


def test_wait_ready_returns_when_the_pod_is_ready(shared_instance: Instance) -> None:
    probe = {"exec": {"command": ["test", "-e", "/ready"]}, "periodSeconds": 1}
    text = "sleep 1; touch /ready; sleep 1000"
    waits = pod("r1", shell(text, readinessProbe=probe))
    done = shared_instance.cli("run", "--wait=ready", "-", input=manifest(waits))
    assert done.stdout.startswith("r1  10.")
    conditions = {c["type"]: c["status"] for c in shared_instance.pod("r1")["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    shared_instance.delete("r1")
    failing = manifest(pod("r2", shell("exit 4", readinessProbe=probe)))
    assert (
        shared_instance.cli("run", "--wait=ready", "-", input=failing, check=False).returncode == 4
    )
    check_error(shared_instance.cli("run", "--wait=soon", "x", check=False), 2, "'soon'")
    check_error(shared_instance.cli("run", "--wait=ready", "--rm", "x", check=False), 2, "--rm")


def test_detached_pod_that_fails_at_once_is_told(shared_instance: Instance) -> None:
    wrong = shell()
    wrong["command"] = ["/no/such/program"]
    done = shared_instance.cli("run", "-d", "-", input=manifest(pod("nothere", wrong)), check=False)
    assert done.returncode != 0
    assert "/no/such/program" in done.stderr
    assert "Traceback" not in done.stderr
    shared_instance.delete("nothere")


def test_finished_pod_gives_way_to_the_next(shared_instance: Instance) -> None:
    text = manifest(pod("again", shell("echo $RANDOM; hostname")))
    shared_instance.cli("run", "-", input=text)
    first = shared_instance.pod("again")["metadata"]["uid"]
    assert shared_instance.cli("run", "-", input=text).stdout.splitlines()[1] == "[c0] again"
    assert shared_instance.pod("again")["metadata"]["uid"] != first


def test_running_pod_does_not_give_way(shared_instance: Instance) -> None:
    shared_instance.start_pod("taken", shell())
    uid = shared_instance.pod("taken")["metadata"]["uid"]
    # Nor does one that is created beside it.
    text = manifest(pod("beside"), pod("taken"))
    for verb in (["run", "-"], ["run", "-d", "-"], ["create", "-f", "-"]):
        done = shared_instance.cli(*verb, input=text, check=False)
        check_error(done, 1, "pod default/taken already exists (Running)", "minipod delete pod")
    assert shared_instance.pod("taken")["metadata"]["uid"] == uid
    assert "beside" not in names(shared_instance)
    shared_instance.delete("taken")


def test_namespace_of_the_command_line_is_for_pods_without_one(shared_instance: Instance) -> None:
    text = manifest(pod("here", shell("true")), pod("there", shell("true"), namespace="own"))
    shared_instance.cli("run", "-n", "given", "-", input=text)
    done, _ = shared_instance.call("get", {"kind": "pods"})
    where = {item["metadata"]["name"]: item["metadata"]["namespace"] for item in done["items"]}
    assert (where["here"], where["there"]) == ("given", "own")


def test_pod_deleted_by_somebody_else_ends_the_run(shared_instance: Instance) -> None:
    file = shared_instance.write("gone.yaml", manifest(pod("gone", shell(POLITE))))
    with Running(shared_instance, "run", file) as run:
        run.until_out("up")
        shared_instance.cli("delete", "pod", "gone", "--now")
        assert run.end() == 1, run.err
        assert "pod gone was deleted" in run.err


def test_scheduling_fields_give_a_warning(shared_instance: Instance) -> None:
    there = pod("sched", shell("true"), nodeSelector={"disk": "ssd"})
    done = shared_instance.cli("run", "--rm", "-", input=manifest(there))
    warning = next(line for line in done.stderr.splitlines() if line.startswith("warning:"))
    assert "<stdin>:" in warning and "spec.nodeSelector" in warning


@pytest.mark.parametrize("colour", [True, False])
def test_on_a_terminal_one_line_changes(shared_instance: Instance, colour: bool) -> None:
    file = shared_instance.write("tty.yaml", manifest(pod("tty", shell("echo there"))))
    env = {} if colour else {"NO_COLOR": "1"}
    with Terminal(shared_instance, "run", "--rm", file, env=env) as run:
        run.until("there")
        assert run.end() == 0
    assert (f"{ESCAPE}[36m[c0]" in run.screen) is colour
    assert f"{ESCAPE}[K" in run.screen  # the line of progress was taken away
    assert (f"{ESCAPE}[3" in run.screen) is colour
    assert "tty: Completed" not in run.screen


def test_control_bytes_of_a_manifest_do_not_reach_the_terminal(shared_instance: Instance) -> None:
    wrong = shell(FOREVER)
    wrong["command"] = ["/no/\x1b[31msuch\x07"]
    create(shared_instance, pod("bytes", wrong))
    shared_instance.until(
        "bytes", lambda seen: seen["status"].get("phase") in ("Failed", "Running")
    )
    for command in (["describe", "pod", "bytes"], ["events"], ["get", "pods"], ["get", "events"]):
        done = shared_instance.cli(*command)
        assert ESCAPE not in done.stdout + done.stderr, command
        assert "\x07" not in done.stdout + done.stderr, command
    assert "\\x1b[31msuch\\x07" in shared_instance.cli("events").stdout
    shared_instance.delete("bytes")
