# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container executes, where, with which environment, and on which streams."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.errors import MinipodError
from tests.conftest import Images
from tests.features import requires
from tests.instance import Instance, Json

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def variables(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in pairs]


def ended(instance: Instance, name: str, container: Json, **spec: object) -> Json:
    """Run a pod of one container; return its terminated state, with what it wrote as "output"."""
    pod = instance.run_pod(name, container, **spec)
    state: Json = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    state["output"] = "" if state["reason"] == "StartError" else instance.output(name)
    instance.delete(name)
    return state


# ---- environment ----------------------------------------------------------------------------------------------


def test_environment(shared_instance: Instance, images: Images) -> None:
    image_env = ["PATH=/", "IMAGE=from the image", "REPLACED=by the manifest", "TERM=vt100"]
    shared_instance.load(images.probe("env", {"Env": image_env, "Cmd": ["env"]}))
    env = variables(
        ("A", "a"),
        ("B", "$(A)b"),
        ("C", "$(B)$(A) $(LATER) $(NONE) $(IMAGE) $(HOSTNAME) $(PATH)"),
        ("LATER", "later"),
        ("ESCAPED", "$$(A) $$$(A) $A $ $( $() $(A"),
        ("REPLACED", "yes"),
        ("EMPTY", ""),
        ("TEXT", "two\nlines\t'\"\\ = ü"),
        ("A", "again $(A)"),
    )
    state = ended(shared_instance, "env", {"image": "localhost/env:1", "env": env})
    assert json.loads(state["output"]) == {
        "PATH": "/",
        "IMAGE": "from the image",
        "TERM": "vt100",
        "HOSTNAME": "env",
        "HOME": "/root",
        "A": "again a",
        "B": "ab",
        "C": "aba $(LATER) $(NONE) $(IMAGE) $(HOSTNAME) $(PATH)",
        "LATER": "later",
        "ESCAPED": "$(A) $a $A $ $( $() $(A",
        "REPLACED": "yes",
        "EMPTY": "",
        "TEXT": "two\nlines\t'\"\\ = ü",
    }


def test_the_manifest_wins_over_the_runtimes_own(shared_instance: Instance) -> None:
    env = variables(("PATH", "/nowhere:/"), ("HOSTNAME", "h"), ("HOME", "/tmp"), ("TERM", "t"))
    shared_instance.start_pod("wins", {"env": env, "command": ["probe", "report", "hold"]})
    expected = {"PATH": "/nowhere:/", "HOSTNAME": "h", "HOME": "/tmp", "TERM": "t"}
    assert json.loads(shared_instance.first_line("wins"))["env"] == expected
    assert shared_instance.probe("wins", "env") == expected, "an executed command has the same"
    pid = shared_instance.pid("wins")
    outside = Path(f"/proc/{pid}/environ").read_text().split("\0")
    assert sorted(outside) == sorted(["", *(f"{n}={v}" for n, v in expected.items())])
    shared_instance.delete("wins")


# ---- command and arguments ------------------------------------------------------------------------------------


@pytest.mark.field("Container.command", "Container.args", "Container.image", "PodSpec.containers")
def test_command_and_args(shared_instance: Instance, images: Images) -> None:
    """Kubernetes, "Define a Command and Arguments for a Container": the table of four, and expansion."""
    config = {"Entrypoint": ["/probe", "sleep"], "Cmd": ["1000"], "Env": ["PATH=/", "N=1"]}
    shared_instance.load(images.probe("entry", config))
    cases: list[tuple[Json, list[str]]] = [
        ({}, ["/probe", "sleep", "1000"]),
        ({"args": ["1001"]}, ["/probe", "sleep", "1001"]),
        ({"command": ["/probe", "signal-log"]}, ["/probe", "signal-log"]),
        ({"command": ["/probe"], "args": ["sleep", "1002"]}, ["/probe", "sleep", "1002"]),
        ({"command": ["probe", "sleep", "1003"]}, ["probe", "sleep", "1003"]),
        (
            {"args": ["$(V)$$(V)"], "env": variables(("V", "1004"))},
            ["/probe", "sleep", "1004$(V)"],
        ),
        (
            {"command": ["$(P)", "sleep", "1005"], "env": variables(("P", "/probe"))},
            ["/probe", "sleep", "1005"],
        ),
        # A variable of the image is none of the manifest's.
        ({"args": ["1006$(N)"]}, ["/probe", "sleep", "1006$(N)"]),
        ({"args": ["1007", ""]}, []),  # an empty word is a word: two arguments are one too many
    ]
    containers = [{"image": "localhost/entry:1", **container} for container, _ in cases]
    shared_instance.create("entry", *containers)
    shared_instance.until(
        "entry",
        lambda pod: all(
            set(s["state"]) & {"running", "terminated"}
            for s in pod["status"].get("containerStatuses", [{"state": {}}])
        ),
    )
    for number, (_, expected) in enumerate(cases):
        if expected:
            pid = shared_instance.pid("entry", f"c{number}")
            assert Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1] == expected
        else:
            shared_instance.until(
                "entry",
                lambda pod: "terminated" in pod["status"]["containerStatuses"][-1]["state"],
            )
            state = shared_instance.container("entry", f"c{number}")["state"]
            assert state["terminated"]["exitCode"] == 64, "probe's own word for wrong usage"
    shared_instance.delete("entry")


def test_nothing_to_execute(shared_instance: Instance, images: Images) -> None:
    shared_instance.load(images.probe("nothing", {"Entrypoint": None, "Cmd": None}))
    words = (
        r"nothing.yaml:1: .*neither the manifest nor image localhost/nothing:1 says what to execute"
    )
    with pytest.raises(MinipodError, match=words):
        shared_instance.create("nothing", {"image": "localhost/nothing:1"})
    with pytest.raises(MinipodError, match=words):
        shared_instance.create("nothing", {"image": "localhost/nothing:1", "args": []})
    state = ended(
        shared_instance, "args", {"image": "localhost/nothing:1", "args": ["/probe", "cwd"]}
    )
    assert state["output"] == '"/"\n', "args alone are the whole command"


@pytest.mark.parametrize(
    ("command", "name", "remedy"),
    [
        (["nowhere"], "ENOENT", "check the command and the image's PATH"),
        (["/nowhere"], "ENOENT", "check the command"),
        (["/tmp"], "EACCES", "not executable"),
        (["/etc/passwd"], "EACCES", "not executable"),
        (["hosts"], "EACCES", "not executable"),
        (["/etc/passwd/x"], "ENOTDIR|ENOENT", ""),
        (["/v/noformat"], "ENOEXEC", "check the image's architecture or the #! line"),
        (["/v/nointerpreter"], "ENOENT", "a script needs its interpreter"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_that_cannot_be_executed(
    shared_instance: Instance, command: list[str], name: str, remedy: str
) -> None:
    directory = shared_instance.base / "programs"
    directory.mkdir(exist_ok=True)
    for file, text in (("noformat", "no program\n"), ("nointerpreter", "#!/nowhere\n")):
        (directory / file).write_text(text)
        (directory / file).chmod(0o755)
    mount = [{"name": "v", "mountPath": "/v"}]
    volumes = [{"name": "v", "hostPath": {"path": str(directory)}}]
    container: Json = {"command": command, "volumeMounts": mount}
    container["env"] = variables(("PATH", "/etc:/bin"))
    state = ended(shared_instance, "cannot", container, volumes=volumes)
    assert (state["exitCode"], state["reason"]) == (128, "StartError")
    assert re.search(rf"\(execve {re.escape(command[0])}\): ({name}):", state["message"])
    assert "[cannot.yaml:1: spec.containers[0].command]" in state["message"]
    assert remedy in state["message"]


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_codes(shared_instance: Instance, code: int) -> None:
    state = ended(shared_instance, f"exit{code}", {"command": ["/probe", "exit", str(code)]})
    assert state["exitCode"] == code
    assert state["reason"] == ("Completed" if code == 0 else "Error")
    assert "signal" not in state


def test_end_by_a_signal(shared_instance: Instance) -> None:
    shared_instance.start_pod("signal", {"command": ["/probe", "sleep", "1000"]})
    os.kill(shared_instance.pid("signal"), 9)
    pod = shared_instance.until("signal", lambda pod: pod["status"]["phase"] == "Failed")
    state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["signal"], state["reason"]) == (137, 9, "Error")
    shared_instance.delete("signal")


# ---- working directory ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workdir_images(shared_instance: Instance, images: Images) -> Iterator[Instance]:
    files = (("private", None, ""), ("etc/file", b"", ""), ("link", None, "/tmp"))
    config = {"WorkingDir": "/image/dir", "Cmd": ["cwd"]}
    shared_instance.load(images.probe("workdir", config, *files))
    shared_instance.load(images.probe("workdir-user", {**config, "User": "someone"}, *files))
    yield shared_instance


@pytest.mark.field("Container.workingDir")
@pytest.mark.parametrize(
    ("directory", "expected"),
    [
        (None, "/image/dir"),
        ("/", "/"),
        ("/tmp", "/tmp"),
        ("/made/on/the/way", "/made/on/the/way"),
        ("/tmp/../made/./again/", "/made/again"),
        ("/link", "/tmp"),
        ("/link/below", "/tmp/below"),
    ],
)
@pytest.mark.parametrize("image", ["workdir", "workdir-user"])
def test_working_directory(
    workdir_images: Instance, image: str, directory: str | None, expected: str
) -> None:
    container = {"image": f"localhost/{image}:1"}
    if directory:
        container["workingDir"] = directory
    state = ended(workdir_images, "workdir", container)
    assert state["output"] == f'"{expected}"\n', state


def test_a_working_directory_that_is_made(shared_instance: Instance) -> None:
    shared_instance.start_pod("made", {"workingDir": "/made/deep"})
    for path in ("/made", "/made/deep"):
        seen = shared_instance.probe("made", "stat", path)
        assert (seen["type"], seen["mode"], seen["uid"], seen["gid"]) == ("dir", 0o755, 0, 0)
    assert shared_instance.probe("made", "cwd") == "/made/deep", "an executed command starts there"
    assert os.readlink(f"/proc/{shared_instance.pid('made')}/cwd") == "/made/deep"
    shared_instance.delete("made")


def test_working_directories_that_cannot_be(workdir_images: Instance) -> None:
    container = {"image": "localhost/workdir:1", "workingDir": "/etc/file"}
    state = ended(workdir_images, "notdir", container)
    assert (state["exitCode"], state["reason"]) == (128, "StartError")
    assert "spec.containers[0].workingDir" in state["message"] and "ENOTDIR" in state["message"]
    for path, words in (
        ("rel", "must be an absolute path"),
        ("/proc/1", "must not be on or under"),
    ):
        with pytest.raises(MinipodError, match=words):
            workdir_images.create("refused", {"workingDir": path})


def test_a_working_directory_that_is_closed_to_the_user(workdir_images: Instance) -> None:
    """As in runc, it is entered before the capabilities are given up: a directory of root's is no error."""
    directory = workdir_images.base / "closed"
    directory.mkdir(mode=0o700)
    container: Json = {"image": "localhost/workdir-user:1", "workingDir": "/v"}
    container["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]
    container["command"] = ["/probe", "read", "./x"]
    volumes = [{"name": "v", "hostPath": {"path": str(directory)}}]
    state = ended(workdir_images, "closed", container, volumes=volumes)
    assert json.loads(state["output"])["errno"] == errno.EACCES, "and then it can do nothing there"


# ---- terminal and standard input ------------------------------------------------------------------------------


@pytest.mark.field("Container.tty")
@pytest.mark.parametrize("uid", [0, 1000])
def test_terminal(shared_instance: Instance, images: Images, uid: int) -> None:
    name = f"tty{uid}"
    shared_instance.load(images.probe(name, {"User": str(uid), "Cmd": ["report", "hold"]}))
    shared_instance.start_pod(name, {"image": f"localhost/{name}:1", "tty": True})
    line = shared_instance.first_line(name)
    assert line.endswith("\r"), "as a terminal ends lines"
    report = json.loads(line)
    assert report["tty"]["isatty"] == [1, 1, 1]
    assert (report["tty"]["controlling"], report["tty"]["foreground"]) == (1, 1)
    assert report["fds"] == {"0": "/dev/pts/0", "1": "/dev/pts/0", "2": "/dev/pts/0"}
    assert report["env"]["TERM"] == "xterm"
    assert report["ids"]["sid"] == 1
    assert report["dev"].keys() >= {"console", "tty"}
    assert (report["dev"]["console"]["type"], report["dev"]["console"]["rdev"]) == (
        "char",
        [136, 0],
    )
    terminal = shared_instance.probe(name, "stat", "/dev/pts/0")
    assert (terminal["uid"], terminal["gid"], terminal["mode"]) == (uid, 5, 0o620)
    assert terminal["inode"] == report["dev"]["console"]["inode"]
    mounts = {m["target"]: m for m in report["mounts"]}
    assert (mounts["/dev/console"]["type"], mounts["/dev/console"]["root"]) == ("devpts", "/0")
    # What is written to the console is the container's output.
    assert shared_instance.probe(name, "write", "/dev/console", "by the console\n")["written"]
    shared_instance.until(name, lambda _: "by the console" in shared_instance.output(name))
    pid = shared_instance.pid(name)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert int(fields[4]) == os.makedev(136, 0), "tty_nr: it has that controlling terminal"
    # An executed command without a terminal has none, though the container has.
    assert shared_instance.probe(name, "tty")["isatty"] == [0, 0, 0]
    assert shared_instance.probe(name, "tty")["controlling"] == 0
    shared_instance.delete(name)


def test_without_a_terminal(shared_instance: Instance) -> None:
    shared_instance.start_pod("notty", {})
    report = json.loads(shared_instance.first_line("notty"))
    assert report["tty"]["isatty"] == [0, 0, 0]
    assert report["tty"]["controlling"] == 0
    assert "TERM" not in report["env"]
    assert "console" not in report["dev"]
    shared_instance.delete("notty")


@pytest.mark.field("Container.stdin")
def test_standard_input_that_is_kept_open(shared_instance: Instance) -> None:
    script = "echo before; read line; echo after $line; read line; echo never"
    shared_instance.start_pod("stdin", {"command": ["sh", "-c", script], "stdin": True})
    assert shared_instance.first_line("stdin") == "before"
    pid = shared_instance.pid("stdin")
    assert stat.S_ISFIFO(os.stat(f"/proc/{pid}/fd/0").st_mode)
    # It waits: this is the only line that it gets, and then it waits again.
    assert shared_instance.exec("stdin", "sh", "-c", "echo hello >/proc/1/fd/0").returncode == 0
    _, events = shared_instance.call("get", {"kind": "pods", "names": ["stdin"]})
    assert not events
    while "after hello" not in (text := shared_instance.output("stdin")):
        assert text == "before\n"
    assert "never" not in shared_instance.output("stdin")
    assert "running" in shared_instance.container("stdin")["state"]
    shared_instance.delete("stdin")


def test_standard_input_that_is_empty(shared_instance: Instance) -> None:
    state = ended(shared_instance, "nostdin", {"command": ["sh", "-c", "read line; echo ended $?"]})
    assert (state["output"], state["exitCode"]) == ("ended 1\n", 0)
    state = ended(shared_instance, "nostdin", {"command": ["/probe", "stdin-echo"], "stdin": False})
    assert (state["output"], state["exitCode"]) == ("", 0)


def test_streams_are_told_apart(shared_instance: Instance) -> None:
    command = ["sh", "-c", "echo out; echo err >&2"]
    shared_instance.run_pod("streams", {"command": command})
    _, events = shared_instance.call("logs", {"pod": "streams", "container": None})
    lines = {(event["log"]["stream"], event["log"]["text"]) for event in events}
    assert lines == {("stdout", "out"), ("stderr", "err")}
    shared_instance.delete("streams")
