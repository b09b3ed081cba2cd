# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as it is shown: who does a step, its number, its words, and the manifest line that asked for it.

``MINIPOD_GOLDEN=write`` writes the expected texts (tests/unit/golden) anew.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minipod.api import Pod, load_manifests, members
from minipod.cli import planview
from minipod.cli.output import escape
from minipod.plan import Facts, compile_container, compile_sandbox
from minipod.plan import steps as s
from minipod.plan.explain import ContainerPlan, PodPlan, document, words_of
from minipod.plan.explain.words import kinds
from tests.unit.test_plan_checker import UID, V1, V2, context, execution, pod, run

TOP = Path(__file__).resolve().parent.parent.parent
GOLDEN = Path(__file__).parent / "golden"
MANIFEST = """\
apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  hostname: www
  hostIPC: true
  volumes:
    - name: data
      hostPath:
        path: /srv/data
    - name: tmp
      emptyDir:
        medium: Memory
  containers:
    - name: app
      image: img
      command: [sh, -c, "echo 'a b'"]
      tty: true
      workingDir: /work
      resources:
        limits:
          memory: 64Mi
      volumeMounts:
        - name: data
          mountPath: /data
        - name: tmp
          mountPath: /tmp
"""

Json = dict[str, Any]


def plan_of(one: Pod, lines: dict[str, int], source: str, facts: Facts = V2) -> PodPlan:
    """Return the plan of a pod on a machine of the tests."""
    around = context(one, {v.name: "directory" for v in one.spec.volumes if v.host_path})
    containers = tuple(
        ContainerPlan(
            each.name,
            each.container.image,
            compile_container(one, each.container, around, run(), facts),
        )
        for each in members(one)
    )
    name = f"{one.metadata.namespace}/{one.metadata.name}"
    return PodPlan(name, source, lines, compile_sandbox(one, around, facts), containers)


def plan_text(text: str, source: str, facts: Facts = V2) -> PodPlan:
    """Return the plan of the pod of a manifest."""
    (made,) = [d for d in load_manifests(text, source) if isinstance(d.object, Pod)]
    made.pod.metadata.uid = UID
    return plan_of(made.pod, made.lines, source, facts)


def explained(facts: Facts = V2) -> Json:
    """Return the document of the manifest above."""
    return document(plan_text(MANIFEST, "pod.yaml", facts))


def steps_with(words: str) -> list[Json]:
    """Return the steps that say *words*."""
    return [step for step in explained()["steps"] if words in step["step"]]


def every_kind() -> set[type]:
    """Return every kind of step that there is."""
    found = (getattr(s, name) for name in s.__all__)
    classes = {each for each in found if isinstance(each, type) and issubclass(each, s.Step)}
    return {each for each in classes if not inspect.isabstract(each)}


# ---- words ------------------------------------------------------------------------------------------------------


def test_every_kind_of_step_has_words() -> None:
    assert kinds() == every_kind()


@pytest.mark.parametrize("facts", [V1, V2], ids=["v1", "v2"])
def test_words_are_said_and_are_not_the_same_twice(facts: Facts) -> None:
    from tests.unit.test_plan_container import PODS

    seen: set[type] = set()
    by_what: dict[str, set[type]] = {}
    for one in PODS.values():
        made = plan_of(one, {}, "pod.yaml", facts)
        for _, plan in made.parts:
            launch = next(step for step in plan if isinstance(step, s.Launch))
            for step in (*plan, *launch.steps):
                words = words_of(step)
                assert words.what and words.why and words.rule
                assert words.what.isprintable() and words.why.isprintable()
                assert words.what != words.why and words.what != step.describe()
                by_what.setdefault(words.what, set()).add(type(step))
                seen.add(type(step))
    assert len(seen) > 30
    assert all(len(sorts) == 1 for sorts in by_what.values()), "two kinds that say the same"


# ---- the document -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "line", "field"),
    [
        ("unshare mnt cgroup net uts", 7, "spec.hostIPC"),
        ("write /files/hostname", 6, "spec.hostname"),
        ("sethostname", 6, "spec.hostname"),
        ("make directory /srv/data", 10, "spec.volumes[0].hostPath"),
        ("fsmount tmpfs (mode=0777,size=", 13, "spec.volumes[1].emptyDir"),
        ("open_tree /srv/data", 25, "spec.containers[0].volumeMounts[0]"),
        ("move_mount it to /tmp", 27, "spec.containers[0].volumeMounts[1]"),
        ("fsmount overlay of 3 layer(s)", 17, "spec.containers[0].image"),
        ("execve", 18, "spec.containers[0].command"),
        ("open a pty", 19, "spec.containers[0].tty"),
        ("chdir /work", 20, "spec.containers[0].workingDir"),
        ("oom_score_adj", 21, "spec.containers[0].resources"),
        ("memory.max=67108864, memory.oom", 21, "spec.containers[0].resources"),
        ("clone3 app/0", 16, "spec.containers[0]"),
    ],
)
def test_a_step_names_the_line_that_asked_for_it(words: str, line: int, field: str) -> None:
    origin = {"file": "pod.yaml", "line": line, "field": field}
    assert origin in [step["origin"] for step in steps_with(words)]


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ("PR_SET_DUMPABLE", "hardening"),
        ("setsid", "the launch order"),
        ("seccomp RuntimeDefault", "hardening"),
        ("mknod /null", "the OCI runtime specification"),
        ("mask /proc", "hardening"),
        ("fsmount sysfs", "minipod's layout"),
    ],
)
def test_a_default_names_its_rule_and_no_line(words: str, rule: str) -> None:
    found = steps_with(words)
    assert found and all(step["origin"] == {"default": rule} for step in found)


def test_what_is_not_written_names_the_field_and_no_line() -> None:
    (found,) = steps_with("capabilities: bounding set CHOWN")
    field = "spec.containers[0].securityContext.capabilities"
    assert found["origin"] == {"field": field, "default": "hardening"}


def test_actors_and_numbers() -> None:
    found = explained()
    assert [actor["name"] for actor in found["actors"]] == ["host", "pause", "container/app"]
    made = plan_text(MANIFEST, "pod.yaml")
    for actor in found["actors"]:
        own = [step for step in found["steps"] if step["actor"] == actor["name"]]
        assert [step["number"] for step in own] == list(range(1, len(own) + 1))
    # As a message about a failed step counts.
    launch = made.containers[0].steps[-1]
    assert isinstance(launch, s.Launch)
    own = [step for step in found["steps"] if step["actor"] == "container/app"]
    assert [step["step"] for step in own] == [step.describe() for step in launch.steps]
    assert [step["runs"] for step in found["steps"] if "runs" in step] == ["pause", "container/app"]
    host = [step["for"] for step in found["steps"] if step["actor"] == "host"]
    assert host == sorted(host, reverse=True) and set(host) == {"pause", "container/app"}


def test_arguments_are_json_and_nothing_is_binary() -> None:
    found = explained()
    assert json.loads(json.dumps(found)) == found
    (seccomp,) = [step for step in found["steps"] if step["kind"] == "LoadSeccomp"]
    assert seccomp["arguments"]["program"]["bytes"] == 16
    assert len(seccomp["arguments"]["program"]["sha256"]) == 64
    (launch,) = [step for step in found["steps"] if step.get("runs") == "pause"]
    assert "steps" not in launch["arguments"] and launch["arguments"]["kind"] == "SANDBOX"
    (cgroup,) = [
        step
        for step in found["steps"]
        if step["kind"] == "MakeCgroup" and step["arguments"]["path"].endswith("/app.0")
    ]
    write = {"controller": "memory", "file": "memory.max", "value": "67108864", "optional": False}
    assert write in cgroup["arguments"]["writes"]


@given(st.text(), st.text())
@example("\ud800", "\udcff\0\x9b")
def test_any_text_becomes_one_line_and_json(name: str, value: str) -> None:
    assert s.one_line(name).isprintable()
    assert s.Exec(candidates=(), argv=(name,), env=()).describe().isprintable()
    if name.isprintable():
        assert s.one_line(name) == name
    launch = s.Launch(
        key="sandbox",
        kind="SANDBOX",
        steps=(s.Attach(slot=0, path=name, root=1), s.Exec(candidates=(), argv=(value,), env=())),
    )
    found = document(PodPlan(name, value, {}, (launch,), ()))
    json.dumps(found).encode("ascii")
    for width in (10, 80, 200):
        assert all(line == escape(line) for line in planview.render(found, width))


# ---- on the terminal --------------------------------------------------------------------------------------------


def golden(name: str, text: str) -> None:
    """Compare *text* with what stands in a file."""
    path = GOLDEN / name
    if os.environ.get("MINIPOD_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), "MINIPOD_GOLDEN=write tests/unit/test_plan_explain.py"


@pytest.mark.parametrize("width", [80, 200])
def test_the_smallest_example_as_it_is_shown(width: int) -> None:
    text = (TOP / "examples" / "hello.yaml").read_text()
    found = document(plan_text(text, "examples/hello.yaml"))
    lines = list(planview.render(found, width))
    assert all(len(line) <= width for line in lines if "/pods/" not in line)
    golden(f"plan-hello-{width}.txt", "\n".join(lines[:120]) + "\n")


@pytest.mark.parametrize("name", ["web", "init", "security", "configmap-volume"])
def test_other_examples_in_outline(name: str) -> None:
    path = f"examples/{name}.yaml"
    found = document(plan_text((TOP / path).read_text(), path))
    lines = [
        f"{step['actor']} {step['number']} {step['kind']}"
        + (f" {step['origin']['line']}" if "line" in step["origin"] else "")
        for step in found["steps"]
        if "field" in step["origin"]
    ]
    golden(f"plan-{name}.txt", "\n".join(lines) + "\n")


@pytest.mark.parametrize("width", [50, 80, 149, 150, 200, 500])
def test_a_line_is_no_wider_than_it_may_be(width: int) -> None:
    for line in planview.render(explained(), width):
        assert len(line) <= width or max(len(word) for word in line.split()) > width // 2, line


def test_colours_change_nothing_but_colours() -> None:
    def paint(text: str, colour: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if text else text

    for width in (80, 200):
        plain = list(planview.render(explained(), width))
        shown = list(planview.render(explained(), width, paint))
        assert any("\x1b" in line for line in shown)
        stripped = [line.replace("\x1b[1m", "").replace("\x1b[0m", "").rstrip() for line in shown]
        assert stripped == plain


def test_a_command_is_shown_as_a_shell_takes_it() -> None:
    words = ("sh", "-c", "echo 'a b' $x", "", "two\nlines\t\x1b[31m", "\\'", "plain-1.0", "ü")
    described = s.Exec(candidates=(), argv=words, env=()).describe()
    assert described.startswith("execve sh -c ")
    assert described.isprintable()
    command = described.removeprefix("execve ")
    script = f"printf '%s\\0' {command}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == list(words)


def test_seccomp_and_environment_are_not_spelled_out() -> None:
    text = "\n".join(planview.render(explained(), 100))
    assert "LANG=C" not in text
    assert "seccomp=" not in repr(run())


def test_launches_say_where_they_clone_to() -> None:
    one = pod(share_process_namespace=True)
    app = compile_container(one, one.spec.containers[0], context(one), run(), V1)[-1]
    assert app.describe() == "clone3 app/0, in the PID namespace of sandbox; in it:"
    assert (
        "in the PID namespace of app/0, in cgroup minipod/besteffort/pod"
        in execution(pod()).describe()
    )
    plain = compile_container(pod(), pod().spec.containers[0], context(pod()), run(), V2)[-1]
    assert plain.describe().startswith("clone3 app/0, in a new PID namespace, in cgroup minipod/")


def test_an_agent_that_only_runs_pods_never_loads_the_words() -> None:
    names = (
        "[n for n in sys.modules if n.startswith(('minipod.plan.explain', 'minipod.agent.shell'))]"
    )
    program = f"import sys, minipod.agent.main; print({names})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
