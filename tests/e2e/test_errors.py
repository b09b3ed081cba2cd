# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong, in words: one line and a remedy, or the lines of a manifest; nothing is created; no traceback."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.user import ESCAPE, PATIENCE, Running, check_error, create, manifest, pod, shell
from tests.instance import TEST_IMAGE, Instance

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
HEAD = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: refused\n"  # 4 lines
SPEC = f"spec:\n  containers:\n  - name: a\n    image: {TEST_IMAGE}\n"  # lines 5 to 8
GOOD = HEAD + SPEC

MANIFESTS = {
    "unknown field": (
        HEAD + "spec:\n  containers:\n  - name: a\n    imag: x\n",
        ['8: spec.containers[0].imag: unknown field, did you mean "image"?'],
    ),
    "wrong type": (GOOD + "    args: yes\n", ["9: spec.containers[0].args: "]),
    "number for text": (
        GOOD + "    env: [{name: A, value: 1}]\n",
        ["9: spec.containers[0].env[0].value: "],
    ),
    "duplicate key": (GOOD + f"    image: {TEST_IMAGE}\n", ["9: spec.containers[0].image: "]),
    "twice the same name": (
        GOOD + f"  - {{name: a, image: '{TEST_IMAGE}'}}\n",
        ["9: spec.containers[1].name: "],
    ),
    "not honoured": (
        GOOD + "    securityContext: {seLinuxOptions: {level: x}}\n  initContainers: []\n",
        [
            "9: spec.containers[0].securityContext.seLinuxOptions: known to Kubernetes but not"
            " honoured by minipod",
        ],
    ),
    "another kind": (
        "kind: Deployment\napiVersion: apps/v1\n",
        ["1: kind: Deployment is known to Kubernetes"],
    ),
    "image that is not there": (
        HEAD + "spec:\n  containers:\n  - name: a\n    image: localhost/nowhere:9\n",
        ["8: spec.containers[0].image: "],
    ),
    "host path that is not there": (
        GOOD + "  volumes: [{name: v, hostPath: {path: /no/such, type: Directory}}]\n",
        ["9: spec.volumes: "],
    ),
    "no YAML": ("a: [b\n", ["2: "]),
    "tab": ("a:\n\tb: 1\n", ["2: "]),
    "no object": ("just words\n", ["1: expected an object"]),
    "nothing": ("", ["1: no objects in it"]),
    "comments": ("# nothing\n---\n", ["1: no objects in it"]),
    "bad name": (GOOD.replace("refused", "Not_A_Name"), ["4: metadata.name: "]),
    "the same pod twice": (GOOD + "---\n" + GOOD, ["13: metadata.name: "]),
    "several at once": (
        HEAD
        + "spec:\n  nodeNam: x\n  containers:\n  - name: A B\n    image: 3\n    ports:\n    - containerPort: 99999\n",
        [
            "6: spec.nodeNam: unknown field",
            "8: spec.containers[0].name: ",
            "9: spec.containers[0].image: ",
            "11: spec.containers[0].ports[0].containerPort: ",
        ],
    ),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_manifest_is_refused_with_all_its_lines(shared_instance: Instance, case: str) -> None:
    text, wanted = MANIFESTS[case]
    file = shared_instance.write("pod.yaml", text)
    done = shared_instance.cli("run", file, check=False)
    assert (done.returncode, done.stdout) == (2, ""), done
    lines = done.stderr.splitlines()
    assert len(lines) == len(wanted), done.stderr
    for line, start in zip(lines, wanted, strict=True):
        assert line.startswith(f"{file}:{start}"), done.stderr
    assert shared_instance.call("get", {"kind": "pods"})[0]["items"] == []
    # All verbs that take a manifest say the same.
    for verb in (["plan"], ["create", "-f"]):
        again = shared_instance.cli(*verb, file, check=False)
        assert (again.returncode, again.stderr) == (2, done.stderr), verb


def test_one_bad_pod_keeps_the_good_ones_out(shared_instance: Instance) -> None:
    text = manifest(pod("good")) + "---\n" + GOOD + "    imagePullPolicyy: x\n"
    done = shared_instance.cli("run", "-", input=text, check=False)
    assert done.returncode == 2 and 'did you mean "imagePullPolicy"?' in done.stderr
    assert done.stderr.startswith("<stdin>:")
    assert shared_instance.call("get", {"kind": "pods"})[0]["items"] == []


def test_manifest_that_cannot_be_read(shared_instance: Instance) -> None:
    base = shared_instance.base
    (base / "binary.yaml").write_bytes(b"a: 1\n\xff\xfe\x00")
    (base / "big.yaml").write_text("# " + "x" * (1 << 20) + "\n")
    for name, words in (
        ("/no/such/pod.yaml", "/no/such/pod.yaml: no such file or directory"),
        ("/etc", "/etc: is a directory"),
        (str(base / "big.yaml"), "larger than 1 MiB"),
    ):
        check_error(shared_instance.cli("run", name, check=False), 2, words)
    done = shared_instance.cli("run", base / "binary.yaml", check=False)
    assert done.returncode == 2 and "binary.yaml:2: not UTF-8" in done.stderr
    (base / "nul.yaml").write_bytes(b"a: \x00\n")
    done = shared_instance.cli("run", base / "nul.yaml", check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "\x00" not in done.stderr


def test_hostile_file_name_and_field_steer_no_terminal(shared_instance: Instance) -> None:
    done = shared_instance.cli("run", "/no/\x1b[31mfile", check=False)
    check_error(done, 2, "\\x1b[31mfile")
    text = GOOD + '    "\\e[2J": 1\n'
    done = shared_instance.cli("run", "-", input=text, check=False)
    assert done.returncode == 2 and ESCAPE not in done.stderr, done


def test_port_of_the_host_that_is_taken(shared_instance: Instance) -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        busy = pod("busy", shell(ports=[{"containerPort": port}]), hostNetwork=True)
        done = shared_instance.cli("run", "-", input=manifest(busy), check=False)
    assert done.returncode == 2
    assert f"port {port}/TCP is taken on this host" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rnu"], "there is no verb 'rnu'; did you mean run?"),
        (["frobnicate"], "there is no verb 'frobnicate'"),
        (["get", "pods", "--bogus"], "no such option: --bogus"),
        (["run"], "FILE"),
        (["run", "a", "b"], "unexpected extra argument"),
        (["run", "-d", "--rm", "x"], "exclude each other"),
        (["image"], "image"),
        (["image", "frob"], "frob"),
        (["agent", "frob"], "frob"),
        (["--bogus"], "--bogus"),
        (["delete", "pod", "x", "--grace-period", "soon"], "--grace-period"),
        (["version", "-o", "xml"], "xml"),
        (["get"], "KIND"),
    ],
)
def test_wrong_usage(shared_instance: Instance, arguments: list[str], words: str) -> None:
    check_error(shared_instance.cli(*arguments, check=False), 2, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bridge = 3\n", "bridge must be a string"),
        ("brigde = 'x'\n", "unknown setting 'brigde'"),
        ("= no toml", "config.toml: "),
    ],
)
def test_wrong_config_file(shared_instance: Instance, text: str, words: str) -> None:
    file = shared_instance.write("config.toml", text)
    done = shared_instance.cli("get", "pods", check=False, env={"MINIPOD_CONFIG": str(file)})
    check_error(done, 2, str(file), words)


def test_config_file_that_is_not_there(shared_instance: Instance) -> None:
    done = shared_instance.cli("get", "pods", check=False, env={"MINIPOD_CONFIG": "/no/such.toml"})
    check_error(done, 2, "/no/such.toml", "no such file")


@pytest.mark.parametrize(
    "verb", [["get", "pods"], ["run", "-"], ["image", "ls"], ["agent", "stop"], ["agent", "run"]]
)
def test_not_root(shared_instance: Instance, verb: list[str]) -> None:
    done = subprocess.run(
        [*NOBODY, sys.executable, "-m", "minipod", *verb],
        input=GOOD,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd="/",
        env=shared_instance.env,
    )
    check_error(done, 1, "must run as root", f"sudo minipod {' '.join(verb)}")


def test_without_root_what_needs_none_works(shared_instance: Instance) -> None:
    for verb in (["version"], ["--help"], ["run", "--help"]):
        command = [*NOBODY, sys.executable, "-m", "minipod", *verb]
        done = subprocess.run(
            command, capture_output=True, timeout=PATIENCE, cwd="/", env=shared_instance.env
        )
        assert (done.returncode, done.stderr) == (0, b""), done


def inside(instance: Instance, prepare: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``minipod get pods`` for an instance of its own, in namespaces that the shell script *prepare* changes."""
    elsewhere = instance.base / "elsewhere"
    places = {f"MINIPOD_{name}_DIR": str(elsewhere / name) for name in ("ROOT", "RUN", "LOG")}
    done = subprocess.run(
        [
            *("unshare", "--mount", "--net", "sh", "-ec", f'{prepare}\nexec "$@"', "sh"),
            *(sys.executable, "-m", "minipod", "get", "pods"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd="/",
        env={**instance.env, **places, **env},
    )
    assert not (elsewhere / "RUN" / "agent.sock").exists()
    return done


def test_no_nft(shared_instance: Instance) -> None:
    nobodys = shared_instance.write("nft", "not a program\n")
    nobodys.chmod(0o600)
    hide = (
        f'for d in /usr/sbin /usr/bin; do test ! -e $d/nft || mount --bind "{nobodys}" $d/nft; done'
    )
    done = inside(shared_instance, hide)
    check_error(done, 1, "there is no nft in", "install the package nftables")


def test_range_that_the_host_uses(shared_instance: Instance) -> None:
    link = (
        "ip link add mptx type bridge && ip addr add 10.200.7.1/16 dev mptx && ip link set mptx up"
    )
    done = inside(shared_instance, link, MINIPOD_POD_CIDR="10.200.0.0/16")
    check_error(done, 1, "10.200.0.0/16", "mptx", "MINIPOD_POD_CIDR")


@pytest.mark.parametrize("cidr", ["10.0.0.0", "10.200.0.0/31", "fd00::/64", "nonsense"])
def test_range_that_is_none(shared_instance: Instance, cidr: str) -> None:
    done = inside(shared_instance, ":", MINIPOD_POD_CIDR=cidr)
    check_error(done, done.returncode, cidr)
    assert done.returncode in (1, 2)


def test_no_overlay(shared_instance: Instance) -> None:
    # An overlay takes no overlay without a work directory of its own, and proc no directories at all.
    done = inside(shared_instance, ":", MINIPOD_ROOT_DIR="/proc/minipod")
    check_error(done, 1, "/proc/minipod", hint=done.stderr.count("\n") > 1)


def agent_pid(instance: Instance) -> int:
    """Return the pid of the agent, which is started if it does not run."""
    return int(instance.call("agent-status", {})[0]["pid"])


def kill_agent(instance: Instance) -> None:
    """Kill the agent as an out-of-memory killer would, and wait for its end."""
    pid = agent_pid(instance)
    process = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        assert select.select([process], [], [], PATIENCE)[0]
    finally:
        os.close(process)


def test_agent_gone_in_the_middle(shared_instance: Instance) -> None:
    create(
        shared_instance,
        pod("stays", shell("echo up; exec sleep 100000"), terminationGracePeriodSeconds=0),
    )
    shared_instance.wait("stays", "condition=Ready")
    before = shared_instance.pid("stays")
    file = shared_instance.write(
        "fg.yaml", manifest(pod("fg", shell("echo up; exec sleep 100000")))
    )
    with (
        Running(shared_instance, "logs", "-f", "stays") as logs,
        Running(
            shared_instance, "exec", "stays", "--", "sh", "-c", "echo in; exec sleep 100000"
        ) as execs,
        Running(shared_instance, "get", "pods", "-w") as watch,
        Running(shared_instance, "wait", "pod/stays", "--for=delete", "--timeout=10m") as wait,
        Running(shared_instance, "run", file) as run,
    ):
        logs.until_out("up")
        execs.until_out("in")
        watch.until_out("fg")
        run.until_out("up")
        kill_agent(shared_instance)
        for command in (logs, execs, watch, run):
            code = command.end()
            name = command.process.args
            assert code == 1, (name, command.err)
            assert "the agent went away in the middle of the answer" in command.err, name
            assert "hint: pods go on without it" in command.err, name
            assert "Traceback" not in command.err
        assert wait.end() == 1  # it was connected, or found nobody
        assert "Traceback" not in wait.err
    # The next command finds them as they were.
    assert shared_instance.cli("get", "pods").stdout.count("Running") == 2
    assert shared_instance.pid("stays") == before
    assert shared_instance.container("stays")["restartCount"] == 0
    shared_instance.delete("stays", "fg")


def test_root_directory_of_another_agent(shared_instance: Instance) -> None:
    pid = agent_pid(shared_instance)
    done = shared_instance.cli(
        "--run-dir", shared_instance.base / "run2", "get", "pods", check=False
    )
    check_error(
        done,
        1,
        f"another agent, pid {pid}, works on {shared_instance.config.root_dir}",
        "MINIPOD_RUN_DIR",
    )


def test_lock_that_somebody_holds(shared_instance: Instance) -> None:
    shared_instance.cli("agent", "stop")
    lock = Path(shared_instance.config.root_dir, "agent.lock")
    with lock.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = shared_instance.cli("get", "pods", check=False)
    check_error(done, 1, "another agent, pid ", "works on")
    shared_instance.cli("get", "pods")


def test_agent_that_cannot_write(shared_instance: Instance) -> None:
    done = shared_instance.cli("--run-dir", "/dev/null/x", "get", "pods", check=False)
    check_error(done, 1, "/dev/null/x/agent.sock: not a directory", "--run-dir")


# ---- the ends of output ----


def test_closed_pipe_is_quiet(shared_instance: Instance) -> None:
    create(shared_instance, *(pod(f"p{i}", shell("seq 20000")) for i in range(3)))
    for i in range(3):
        shared_instance.wait(f"p{i}", "jsonpath={.status.phase}=Succeeded")
    for command in (
        "get pods -o yaml",
        "logs p0",
        "describe pods",
        "events",
        "doctor",
        "--help",
        "plan -",
    ):
        script = f'"$1" -m minipod {command} | head -n 1; exit "${{PIPESTATUS[0]}}"'
        done = subprocess.run(
            ["bash", "-c", script, "bash", sys.executable],
            input=GOOD,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd="/",
            env=shared_instance.env,
        )
        assert done.stderr == "", command
        assert done.returncode in (0, 141), command
        assert len(done.stdout.splitlines()) == 1, command
    shared_instance.delete("p0", "p1", "p2")


def test_full_disk_under_the_output_is_an_error(shared_instance: Instance) -> None:
    with open("/dev/full", "w") as full:
        process = shared_instance.start("version", stdout=full, stderr=subprocess.PIPE)
        _, words = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert words.startswith(b"minipod: ") and words.endswith(b"no space left on device\n")


# ---- agent ----


def test_agent_status_and_stop_tell_of_the_pods(shared_instance: Instance) -> None:
    create(shared_instance, pod("one"), pod("over", shell("true")))
    shared_instance.wait("one", "condition=Ready")
    shared_instance.wait("over", "jsonpath={.status.phase}=Succeeded")
    pid = agent_pid(shared_instance)
    lines = shared_instance.cli("agent", "status").stdout.splitlines()
    status = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    assert (status["pid"], status["pods"]) == (str(pid), "2")
    assert (
        shared_instance.cli("agent", "stop").stdout
        == "the agent has stopped; 1 pod goes on running\n"
    )
    assert shared_instance.cli("agent", "stop").stdout == "the agent is not running\n"
    gone = shared_instance.cli("agent", "status", check=False)
    assert (gone.returncode, gone.stdout, gone.stderr) == (1, "the agent is not running\n", "")
    assert "one    1/1     Running" in shared_instance.cli("get", "pods").stdout
    assert agent_pid(shared_instance) != pid
    shared_instance.delete("one", "over")
    assert shared_instance.cli("agent", "stop").stdout == "the agent has stopped\n"


def test_plan_creates_nothing(shared_instance: Instance) -> None:
    text = manifest(pod("planned", volumes=[{"name": "v", "emptyDir": {}}]))
    done = shared_instance.cli("plan", "-", input=text)
    assert done.stdout.startswith("pod default/planned (<stdin>)")
    assert "clone3 sandbox" in done.stdout and f"CONTAINER c0 (image {TEST_IMAGE})" in done.stdout
    assert shared_instance.call("get", {"kind": "pods"})[0]["items"] == []
    assert done.stdout == shared_instance.cli("plan", "-", input=text).stdout


def test_what_is_no_image_is_called_by_its_name(shared_instance: Instance, tmp_path: Path) -> None:
    path = tmp_path / "notes.tar"
    path.write_text("no archive at all\n")
    done = shared_instance.cli("image", "load", path, check=False)
    check_error(done, 2, f"minipod: {path}: ", "cut off")
