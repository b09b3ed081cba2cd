# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting the agent on demand: once, whole, and with its own words when it cannot."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from minipod.cli import start
from minipod.cli.client import AgentDown, call, connect
from minipod.config import Config
from minipod.errors import MinipodError

# Listens, says that it is ready, and answers every request with what it sees of itself.
PROGRAM = """
import json, os, socket, sys
option, place = sys.argv[-2:]
ready = int(place) if option == "--ready-fd" else os.open(place, os.O_WRONLY)
with open(os.environ["MINIPOD_ROOT_DIR"] + "/starts", "a") as file:
    print(os.getpid(), file=file)
listener = socket.socket(socket.AF_UNIX)
listener.bind(os.environ["MINIPOD_RUN_DIR"] + "/agent.sock")
listener.listen()
print("a line for the log", flush=True)
os.write(ready, b"ok\\n")
os.close(ready)
seen = {
    "env": dict(os.environ), "cwd": os.getcwd(), "stdin": os.readlink("/proc/self/fd/0"),
    "session": os.getsid(0) == os.getpid(), "fds": len(os.listdir("/proc/self/fd")),
}
while True:
    sock, _ = listener.accept()
    with sock:
        if sock.recv(65536):
            sock.sendall(json.dumps({"done": seen}).encode() + b"\\n")
"""


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    config = Config(root_dir=str(tmp_path / "root"), run_dir=str(tmp_path / "run"))
    yield config
    for pid in starts(config):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


@pytest.fixture
def agent_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a program in the agent's place."""

    def put(program: str) -> None:
        path = tmp_path / "agent.py"
        path.write_text(program)
        monkeypatch.setattr(start, "_command", lambda: [sys.executable, str(path)])

    return put


def starts(config: Config) -> list[int]:
    path = Path(config.root_dir, "starts")
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_the_agent_is_started(
    config: Config, agent_is: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent_is(PROGRAM)
    monkeypatch.setenv("PYTHONHOME_X", "x")
    monkeypatch.setenv("KEPT", "1")
    monkeypatch.setenv("MINIPOD_BRIDGE", "wrong0")
    start.ensure_agent(config).close()
    with call(config, {"verb": "x"}) as answer:
        seen = answer.finish()
    env = seen["env"]
    assert "PYTHONHOME_X" not in env
    assert env["KEPT"] == "1"
    assert env["MINIPOD_BRIDGE"] == config.bridge
    assert set(config.to_env()) <= set(env)
    assert (seen["cwd"], seen["stdin"], seen["session"]) == ("/", "/dev/null", True)
    assert seen["fds"] <= 6  # 0, 1, 2, the listener, and what listing them takes: nothing of ours
    log = Path(config.root_dir, "agent.log")
    assert log.read_text() == "a line for the log\n"
    modes = [stat.S_IMODE(os.stat(path).st_mode) for path in (log, config.run_dir, config.root_dir)]
    assert modes == [0o600, 0o700, 0o700]


def test_many_commands_start_one_agent(config: Config, agent_is: Callable[[str], None]) -> None:
    agent_is(PROGRAM)
    failures: list[BaseException] = []

    def command() -> None:
        try:
            start.ensure_agent(config).close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=command) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(starts(config)) == 1


def test_a_command_finds_a_running_agent(config: Config, agent_is: Callable[[str], None]) -> None:
    agent_is(PROGRAM)
    for _ in range(2):
        start.ensure_agent(config).close()
    connect(config, start=False).close()
    assert len(starts(config)) == 1


def test_what_the_agent_says_is_shown(config: Config, agent_is: Callable[[str], None]) -> None:
    status = MinipodError("the pod range clashes", "choose another").to_status()
    agent_is(
        f"import os, sys; os.write(int(sys.argv[-1]), {json.dumps(status)!r}.encode() + b'\\n')"
    )
    with pytest.raises(MinipodError) as caught:
        start.ensure_agent(config)
    assert (caught.value.what, caught.value.remedy) == ("the pod range clashes", "choose another")


def test_an_agent_that_dies_leaves_its_last_words(
    config: Config, agent_is: Callable[[str], None]
) -> None:
    os.makedirs(config.root_dir)
    Path(config.root_dir, "agent.log").write_text("an older line\n")
    agent_is("import sys; sys.exit('ImportError: no module')")
    with pytest.raises(MinipodError, match="before it was ready: ImportError: no module") as caught:
        start.ensure_agent(config)
    assert "older" not in caught.value.what
    assert f"{config.root_dir}/agent.log" in caught.value.remedy
    agent_is("pass")
    with pytest.raises(MinipodError) as caught:
        start.ensure_agent(config)
    assert caught.value.what == "the agent ended before it was ready"
    # The lock is free again, and a later try may succeed.
    agent_is(PROGRAM)
    start.ensure_agent(config).close()


def test_an_agent_that_hangs(
    config: Config, agent_is: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "_PATIENCE", 0.1)
    monkeypatch.setattr(start, "_READY_TIMEOUT", 0.2)
    agent_is("import time; time.sleep(60)")
    with pytest.raises(MinipodError, match="was not ready within"):
        start.ensure_agent(config)


def test_an_agent_that_is_slow_is_waited_for(
    config: Config,
    agent_is: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(start, "_PATIENCE", 0.1)
    agent_is(f"import time; time.sleep(1)\n{PROGRAM}")
    start.ensure_agent(config).close()
    said = capsys.readouterr().err
    assert said == f"warning: the agent takes long to start (its log: {start.log_place(config)})\n"


def test_a_run_dir_that_others_can_write_to_is_refused(config: Config) -> None:
    os.makedirs(config.run_dir)
    os.chmod(config.run_dir, 0o777)
    with pytest.raises(MinipodError, match="only root can write"):
        start.ensure_agent(config)
    os.rmdir(config.run_dir)
    os.symlink("/tmp", config.run_dir)
    with pytest.raises(MinipodError, match="only root can write"):
        start.ensure_agent(config)


def test_nothing_is_started_unless_asked(config: Config, agent_is: Callable[[str], None]) -> None:
    agent_is(PROGRAM)
    with pytest.raises(AgentDown):
        connect(config, start=False)
    assert not os.path.exists(config.root_dir)


# Notes its arguments, and starts what stands behind "--" with the variables that are set for it.
SYSTEMD_RUN = """#!{python}
import json, os, subprocess, sys
split = sys.argv.index("--")
with open("{note}", "w") as file:
    json.dump(sys.argv[1:split], file)
env = dict(word[9:].split("=", 1) for word in sys.argv[1:split] if word.startswith("--setenv="))
log = open("{log}", "a")
process = subprocess.Popen(sys.argv[split + 1:], env=env, cwd="/", stdout=log, stderr=log)
process.returncode = 0
sys.exit({code})
"""


@pytest.fixture
def systemd(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], Path]:
    """Play systemd; the returned function takes systemd-run's exit code and returns where it notes its options."""

    def play(code: int) -> Path:
        note = tmp_path / "note"
        program = tmp_path / "bin" / "systemd-run"
        program.parent.mkdir(exist_ok=True)
        log = f"{config.root_dir}/agent.log"
        text = SYSTEMD_RUN.format(python=sys.executable, note=note, log=log, code=code)
        program.write_text(text)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        monkeypatch.setattr(start, "_SYSTEMD", str(tmp_path))
        monkeypatch.setattr(start, "Config", lambda: config)
        return note

    return play


def test_a_transient_service(
    config: Config, agent_is: Callable[[str], None], systemd: Callable[[int], Path]
) -> None:
    agent_is(PROGRAM)
    note = systemd(0)
    start.ensure_agent(config).close()
    options = json.loads(note.read_text())
    for option in (
        "--unit=minipod-agent",
        "--property=KillMode=process",
        "--property=Type=notify",
        "--property=TimeoutStartSec=300",
        f"--setenv=MINIPOD_RUN_DIR={config.run_dir}",
    ):
        assert option in options
    assert not any("PYTHONDONT" in option for option in options)
    assert sorted(os.listdir(config.run_dir)) == ["agent.sock", "start.lock"]


def test_systemd_waits_for_the_agent_as_long_as_a_command_does() -> None:
    unit = Path(start.__file__).parent.parent / "agent/minipod-agent.service"
    assert f"\nTimeoutStartSec={start._READY_TIMEOUT:.0f}\n" in unit.read_text()


def test_a_service_that_fails_says_why(
    config: Config, agent_is: Callable[[str], None], systemd: Callable[[int], Path]
) -> None:
    status = MinipodError("no nft here", "install it").to_status()
    agent_is(
        "import os, sys; os.write(os.open(sys.argv[-1], os.O_WRONLY), "
        f"{json.dumps(status)!r}.encode() + b'\\n')"
    )
    systemd(0)
    with pytest.raises(MinipodError, match="no nft here"):
        start.ensure_agent(config)


def test_systemd_that_refuses(
    tmp_path: Path, config: Config, systemd: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd(0)
    program = tmp_path / "bin" / "systemd-run"
    program.write_text("#!/bin/sh\necho 'Failed to start:' >&2; echo 'no bus' >&2; exit 1\n")
    with pytest.raises(MinipodError, match="could not start the agent: Failed to start: no bus"):
        start.ensure_agent(config)


def test_a_unit_that_is_there_already_is_started(
    tmp_path: Path,
    config: Config,
    agent_is: Callable[[str], None],
    systemd: Callable[[int], Path],
) -> None:
    agent_is(PROGRAM)
    note = systemd(0)
    program = tmp_path / "bin" / "systemd-run"
    program.write_text(
        "#!/bin/sh\necho 'Unit minipod-agent.service was already loaded' >&2; exit 1\n"
    )
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$@" > {note}\n')
    systemctl.chmod(0o755)
    with pytest.raises(MinipodError, match="ended right after its start"):
        start.ensure_agent(config)  # nothing listens: this systemctl only says that it did
    assert note.read_text() == "start minipod-agent\n"


def test_another_instance_is_no_service(
    config: Config,
    agent_is: Callable[[str], None],
    systemd: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent_is(PROGRAM)
    note = systemd(0)
    monkeypatch.setattr(start, "Config", Config)
    start.ensure_agent(config).close()
    assert not note.exists()
