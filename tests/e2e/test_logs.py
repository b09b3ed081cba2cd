# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod logs``: which lines, of which container and which run, and following them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.user import FOREVER, Running, check_error, create, pod, shell
from tests.instance import Instance

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z ")


@pytest.fixture(scope="module")
def pods(shared_instance: Instance) -> Instance:
    """The instance with ``counts`` (two containers, ended) and ``again`` (ended once, runs)."""
    script = "test -e /v/x && { echo second; exec sleep 100000; }; touch /v/x; echo first; exit 1"
    again = shell(script, volumeMounts=[{"name": "v", "mountPath": "/v"}])
    create(
        shared_instance,
        pod("counts", shell("seq 1 9", "up"), shell("seq 9 -1 7; echo low >&2", "down")),
        pod("again", again, restartPolicy="Always", volumes=[{"name": "v", "emptyDir": {}}]),
    )
    shared_instance.wait("counts", "jsonpath={.status.phase}=Succeeded")
    shared_instance.until("again", lambda seen: _restarts(seen) == 1 and _ready(seen))
    return shared_instance


def _restarts(seen: dict[str, object]) -> int:
    status = seen["status"]
    assert isinstance(status, dict)
    return int(status["containerStatuses"][0]["restartCount"])


def _ready(seen: dict[str, object]) -> bool:
    status = seen["status"]
    assert isinstance(status, dict)
    return bool(status["containerStatuses"][0]["ready"])


@pytest.mark.field("Container.name")
def test_of_the_first_container_or_a_named_one(pods: Instance) -> None:
    assert pods.cli("logs", "counts").stdout.split() == list("123456789")
    done = pods.cli("logs", "pod/counts", "-c", "down")
    assert sorted(done.stdout.split()) == ["7", "8", "9", "low"] and done.stderr == ""


def test_says_whose_log_it_is_when_nobody_was_named(pods: Instance) -> None:
    done = pods.cli("logs", "counts", "--tail=1")
    assert (done.stdout, done.stderr) == ("9\n", 'Defaulted container "up" out of: up, down\n')
    assert pods.cli("logs", "counts", "-c", "up", "--tail=1").stderr == ""


def test_of_all_containers(pods: Instance) -> None:
    done = pods.cli("logs", "counts", "--all-containers", "--prefix", "--tail", "2")
    lines = done.stdout.splitlines()
    assert lines[:2] == ["[pod/counts/up] 8", "[pod/counts/up] 9"]
    assert len(lines) == 4 and all(line.startswith("[pod/counts/down] ") for line in lines[2:])


@pytest.mark.parametrize(
    ("tail", "shown"), [("3", "789"), ("0", ""), ("-1", "123456789"), ("99", "123456789")]
)
def test_tail(pods: Instance, tail: str, shown: str) -> None:
    assert pods.cli("logs", "counts", f"--tail={tail}").stdout.split() == list(shown)


def test_timestamps(pods: Instance) -> None:
    lines = pods.cli("logs", "counts", "--timestamps").stdout.splitlines()
    assert [STAMP.sub("", line) for line in lines] == list("123456789")
    assert all(STAMP.match(line) for line in lines) and lines == sorted(lines)


def test_since(pods: Instance) -> None:
    # A log as of two hours ago, in its own file: the test need not grow old.
    uid = pods.pod("counts")["metadata"]["uid"]
    log = Path(pods.config.log_dir, f"default_counts_{uid}", "up", "0.log")
    before = log.read_text()
    old = (datetime.now(UTC) - timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S.000000000Z")
    log.write_text(f"{old} stdout F old\n{before}")
    try:
        assert "old" in pods.cli("logs", "counts").stdout.split()
        assert "old" in pods.cli("logs", "counts", "--since=3h").stdout.split()
        assert pods.cli("logs", "counts", "--since=1h30m").stdout.split() == list("123456789")
        third = STAMP.match(before.splitlines()[2])
        assert third
        done = pods.cli("logs", "counts", f"--since-time={third[0].strip()}")
        assert done.stdout.split()[-7:] == list("3456789")
    finally:
        log.write_text(before)


def test_previous(pods: Instance) -> None:
    assert pods.cli("logs", "again", "--previous").stdout == "first\n"
    assert pods.cli("logs", "again").stdout == "second\n"
    done = pods.cli("logs", "counts", "-c", "up", "-p", check=False)
    check_error(done, 1, "was not restarted: there is no previous log", hint=False)


def test_follow_ends_with_the_container(pods: Instance) -> None:
    create(pods, pod("speaks", shell("echo a; sleep 1; printf b")))
    pods.until("speaks", lambda seen: _ready(seen) or "finishedAt" in str(seen))
    with Running(pods, "logs", "-f", "speaks") as logs:
        logs.until_out("a\n")
        assert logs.end() == 0
        assert logs.out.replace("\n", "") == "ab" and logs.err == ""
    pods.delete("speaks")


def test_follow_goes_on_over_a_restart_and_is_interrupted(pods: Instance) -> None:
    with Running(pods, "logs", "-f", "again", "--tail=1") as logs:
        logs.until_out("second\n")
        logs.signal()
        assert logs.end() == 130
        assert logs.out == "second\n" and logs.err == ""


def test_output_is_as_the_container_wrote_it(pods: Instance) -> None:
    done = r"printf 'tab\there \033[31mred\n'; printf '\377\n'; head -c 40000 /dev/zero | tr '\0' x; echo"
    create(pods, pod("raw", shell(done)))
    pods.wait("raw", "jsonpath={.status.phase}=Succeeded")
    text = pods.cli("logs", "raw").stdout
    assert text == "tab\there \x1b[31mred\n\ufffd\n" + "x" * 40000 + "\n"
    pods.delete("raw")


def test_of_a_pod_that_has_not_started(pods: Instance) -> None:
    create(pods, pod("runs", shell(FOREVER)))
    pods.wait("runs", "condition=Ready")
    assert pods.cli("logs", "runs").stdout == ""
    pods.delete("runs")
    check_error(pods.cli("logs", "runs", check=False), 1, "pod default/runs not found")


def test_refuses(pods: Instance) -> None:
    done = pods.cli("logs", "counts", "-c", "nobody", check=False)
    check_error(done, 1, "pod default/counts has no container nobody", "it has: up, down")
    check_error(pods.cli("logs", "counts", "--tail=-5", check=False), 2, "--tail -5")
    check_error(pods.cli("logs", "counts", "--tail=x", check=False), 2, "'--tail'")
    check_error(pods.cli("logs", "counts", "--since=x", check=False), 2, "'x' is no duration")
    check_error(
        pods.cli("logs", "counts", "--since-time=x", check=False), 2, "RFC 3339", hint=False
    )
    check_error(pods.cli("logs", check=False), 2, "POD")
    both = pods.cli("logs", "counts", "-c", "up", "--all-containers", check=False)
    check_error(both, 2, "exclude each other")
