# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as text: numbers, words, and the manifest line that asked for a step."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minipod.api import Pod, load_manifests
from minipod.plan import Facts, compile_container, compile_sandbox, render_text
from minipod.plan import steps as s
from tests.unit.test_plan_checker import V1, V2, context, execution, pod, run

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


def read() -> tuple[Pod, dict[str, int]]:
    """Return the pod of the manifest above, and where its fields are."""
    (document,) = load_manifests(MANIFEST, "pod.yaml")
    return document.pod, document.lines


def render(facts: Facts = V2) -> list[str]:
    """Return the lines of the sandbox and the container of that pod."""
    one, lines = read()
    around = context(one, {"data": "directory"})
    sandbox = compile_sandbox(one, around, facts)
    app = compile_container(one, one.spec.containers[0], around, run(), facts)
    text = render_text("sandbox", sandbox, lines, "pod.yaml") + "\n"
    return (text + render_text("container", app, lines, "pod.yaml")).splitlines()


def line_with(words: str) -> str:
    """Return the one line that has *words*."""
    (found,) = [line for line in render() if words in line]
    return found


@pytest.mark.parametrize(
    ("words", "origin"),
    [
        ("unshare mnt cgroup net uts", "pod.yaml:7: spec.hostIPC"),
        ("write /files/hostname", "pod.yaml:6: spec.hostname"),
        ("sethostname", "pod.yaml:6: spec.hostname"),
        ("make directory /srv/data", "pod.yaml:10: spec.volumes[0].hostPath"),
        ("fsmount tmpfs (mode=0777,size=", "pod.yaml:13: spec.volumes[1].emptyDir"),
        ("open_tree /srv/data", "pod.yaml:25: spec.containers[0].volumeMounts[0]"),
        ("move_mount it to /tmp", "pod.yaml:27: spec.containers[0].volumeMounts[1]"),
        ("fsmount overlay of 3 layer(s)", "pod.yaml:17: spec.containers[0].image"),
        ("execve", "pod.yaml:18: spec.containers[0].command"),
        ("open a pty", "pod.yaml:19: spec.containers[0].tty"),
        ("chdir /work", "pod.yaml:20: spec.containers[0].workingDir"),
        ("oom_score_adj", "pod.yaml:21: spec.containers[0].resources"),
        ("memory.max=67108864, memory.oom.group=1", "pod.yaml:21: spec.containers[0].resources"),
        ("clone3 app/0", "pod.yaml:16: spec.containers[0]"),
    ],
)
def test_a_step_names_the_line_that_asked_for_it(words: str, origin: str) -> None:
    shown = [line for line in render() if words in line and origin in line]
    assert shown and all(line.endswith(f"   # {origin}") for line in shown)


@pytest.mark.parametrize(
    "words", ["PR_SET_DUMPABLE", "setsid", "seccomp RuntimeDefault", "fsmount sysfs", "mask /proc"]
)
def test_a_default_names_no_line(words: str) -> None:
    found = [line for line in render() if words in line]
    assert found and not any("#" in line for line in found)


def test_the_working_directory_of_the_image_names_no_line() -> None:
    one, lines = read()
    del lines["spec.containers[0].workingDir"]
    one.spec.containers[0].working_dir = None
    steps = compile_container(
        one, one.spec.containers[0], context(one, {"data": "directory"}), run(), V2
    )
    text = render_text("t", steps, lines, "pod.yaml")
    (line,) = [line for line in text.splitlines() if "chdir /srv" in line]
    assert "#" not in line


def test_numbers_and_title() -> None:
    one, lines = read()
    steps = compile_sandbox(one, context(one, {"data": "directory"}), V2)
    first, *rest = render_text("the title", steps, lines, "pod.yaml").splitlines()
    assert first == "the title"
    outer = [line for line in rest if line[3:4] == "."]
    assert [int(line[:3]) for line in outer] == list(range(1, len(steps) + 1))
    launch = next(i for i, step in enumerate(steps) if isinstance(step, s.Launch))
    inner = [line.split()[0] for line in rest if line.startswith("     ")]
    made = steps[launch]
    assert isinstance(made, s.Launch)
    assert inner == [f"{launch + 1}.{i + 1}" for i in range(len(made.steps))]
    assert len(rest) == len(steps) + len(made.steps)


def test_a_command_is_shown_as_a_shell_takes_it() -> None:
    words = ("sh", "-c", "echo 'a b' $x", "", "two\nlines\t\x1b[31m", "\\'", "plain-1.0", "ü")
    described = s.Exec(candidates=(), argv=words, env=()).describe()
    assert described.startswith("execve sh -c ")
    assert described.isprintable()
    command = described.removeprefix("execve ")
    script = f"printf '%s\\0' {command}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == list(words)


@given(st.text())
@example("\ud800")
@example("\udcff\0\x9b")
def test_any_text_becomes_one_line(text: str) -> None:
    assert s.one_line(text).isprintable()
    assert s.Exec(candidates=(), argv=(text,), env=()).describe().isprintable()
    if text.isprintable():
        assert s.one_line(text) == text


def test_nothing_in_a_manifest_breaks_a_line_or_reaches_the_terminal() -> None:
    step = s.Attach(slot=0, path="/a\nb\x1b[2J\u2028", root=1)
    text = render_text("t", [step], {}, "")
    assert len(text.splitlines()) == 2
    assert text.splitlines()[1].isprintable()
    assert "/a\\nb\\x1b[2J\\xe2\\x80\\xa8" in text


def test_seccomp_and_environment_are_not_spelled_out() -> None:
    text = "\n".join(render())
    assert "LANG=C" not in text  # values may be secrets
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
