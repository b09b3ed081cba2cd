# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command line makes of words and objects: all pure."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from minipod.cli import args, podtable
from minipod.cli.checks import Check, Result, admitting, dropping_chains, examine, in_child
from minipod.cli.describe import pod_lines
from minipod.cli.output import Table, check_format, dump, dump_objects, escape, painter
from minipod.cli.sizes import human_size
from minipod.config import Config
from minipod.durations import parse_duration
from minipod.errors import MinipodError, UsageError

Json = dict[str, Any]
NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0.9, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (49 * 3600, "2d1h"),
        (8 * 86400, "8d"),
        (729 * 86400, "729d"),
        (730 * 86400, "2y"),
        (731 * 86400, "2y1d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_human_duration(seconds: float, text: str) -> None:
    assert podtable.human_duration(seconds) == text


def test_age() -> None:
    assert podtable.age("2027-01-15T07:59:50Z", NOW) == "10s"
    assert podtable.age("2027-01-15T07:59:50.5+00:00", NOW) == "9s"
    assert podtable.age(None, NOW) == "<unknown>"
    assert podtable.age("yesterday", NOW) == "<unknown>"


def container(name: str = "a", restarts: int = 0, **state: Any) -> Json:
    return {"name": name, "state": state, "restartCount": restarts}


def running(name: str = "a", ready: bool = True, restarts: int = 0) -> Json:
    return container(name, restarts, running={"startedAt": "x"}) | {"ready": ready, "started": True}


def pod(phase: str, *containers: Json, **more: Any) -> Json:
    """Return a pod in *phase*; *more*: inits, sidecars (names), conditions, deleted, reason."""
    inits: list[Json] = more.get("inits", [])
    sidecars = more.get("sidecars", ())
    return {
        "kind": "Pod",
        "metadata": {
            "name": "web",
            "namespace": "default",
            "creationTimestamp": "2027-01-15T07:58:00Z",
            **({"deletionTimestamp": "x"} if more.get("deleted") else {}),
        },
        "spec": {
            "containers": [{"name": c["name"]} for c in containers] or [{"name": "a"}],
            "initContainers": [
                {
                    "name": c["name"],
                    **({"restartPolicy": "Always"} if c["name"] in sidecars else {}),
                }
                for c in inits
            ],
        },
        "status": {
            "phase": phase,
            "reason": more.get("reason"),
            "conditions": [
                {"type": kind, "status": status}
                for kind, status in more.get("conditions", {}).items()
            ],
            "containerStatuses": list(containers),
            "initContainerStatuses": inits,
        },
    }


ENDED = {"exitCode": 0, "reason": "Completed"}
WAITING = {"reason": "PodInitializing"}


@pytest.mark.parametrize(
    ("given", "ready", "status"),
    [
        (pod("Pending"), "0/1", "Pending"),
        (
            pod("Pending", container(waiting={"reason": "ContainerCreating"})),
            "0/1",
            "ContainerCreating",
        ),
        (pod("Running", running()), "1/1", "Running"),
        (pod("Running", running(), running("b", ready=False)), "1/2", "Running"),
        (
            pod("Running", running(), container("b", 3, waiting={"reason": "CrashLoopBackOff"})),
            "1/2",
            "CrashLoopBackOff",
        ),
        # kubectl walks the containers backwards: the first one's reason wins.
        (
            pod(
                "Running",
                container(waiting={"reason": "A"}),
                container("b", waiting={"reason": "B"}),
            ),
            "0/2",
            "A",
        ),
        (pod("Succeeded", container(terminated=ENDED)), "0/1", "Completed"),
        (
            pod("Failed", container(terminated={"exitCode": 3, "reason": "Error"})),
            "0/1",
            "Error",
        ),
        (pod("Failed", container(terminated={"exitCode": 3})), "0/1", "ExitCode:3"),
        (pod("Failed", container(terminated={"exitCode": 137, "signal": 9})), "0/1", "Signal:9"),
        (
            pod("Failed", container(terminated={"exitCode": 137, "reason": "OOMKilled"})),
            "0/1",
            "OOMKilled",
        ),
        (pod("Failed", reason="DeadlineExceeded"), "0/1", "DeadlineExceeded"),
        (
            pod("Running", container(terminated=ENDED), running("b"), conditions={"Ready": "True"}),
            "1/2",
            "Running",
        ),
        (pod("Running", container(terminated=ENDED), running("b")), "1/2", "NotReady"),
        (pod("Running", running(), deleted=True), "1/1", "Terminating"),
        (pod("Succeeded", container(terminated=ENDED), deleted=True), "0/1", "Completed"),
        (
            pod("Pending", inits=[container("i", running={}), container("j", waiting=WAITING)]),
            "0/1",
            "Init:0/2",
        ),
        (
            pod(
                "Pending", inits=[container("i", terminated=ENDED), container("j", waiting=WAITING)]
            ),
            "0/1",
            "Init:1/2",
        ),
        (
            pod("Pending", inits=[container("i", terminated={"exitCode": 1, "reason": "Error"})]),
            "0/1",
            "Init:Error",
        ),
        (
            pod("Pending", inits=[container("i", terminated={"exitCode": 1})]),
            "0/1",
            "Init:ExitCode:1",
        ),
        (
            pod("Pending", inits=[container("i", waiting={"reason": "CrashLoopBackOff"})]),
            "0/1",
            "Init:CrashLoopBackOff",
        ),
        (
            pod("Running", running(), inits=[running("s")], sidecars=("s",)),
            "2/2",
            "Running",
        ),
        (
            pod("Pending", inits=[running("s"), container("i", running={})], sidecars=("s",)),
            "1/2",
            "Init:1/2",
        ),
    ],
)
def test_status_as_kubectl_computes_it(given: Json, ready: str, status: str) -> None:
    row = podtable.pod_row(given, NOW)
    assert row[:3] == ["web", ready, status]


def test_a_row() -> None:
    restarted = running(restarts=3) | {
        "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2027-01-15T07:59:50Z"}}
    }
    given = pod("Running", restarted)
    given["status"]["podIP"] = "10.99.0.2"
    assert podtable.pod_row(given, NOW) == ["web", "1/1", "Running", "3 (10s ago)", "2m"]
    wide = podtable.pod_row(given, NOW, wide=True)
    assert wide == ["web", "1/1", "Running", "3 (10s ago)", "2m", "10.99.0.2", "<none>"]


def test_restarts_of_init_containers_count_only_while_they_work() -> None:
    init = container("i", 2, terminated=ENDED)
    assert podtable.summarize(pod("Running", running(restarts=1), inits=[init])).restarts == 1
    at_work = container("i", 2, running={})
    assert podtable.summarize(pod("Pending", inits=[at_work])).restarts == 2


def test_exit_code() -> None:
    def ended(code: int, at: str, name: str = "a") -> Json:
        return container(name, terminated={"exitCode": code, "finishedAt": at})

    assert podtable.exit_code(pod("Succeeded", ended(0, "1"))) == 0
    assert podtable.exit_code(pod("Failed", ended(3, "2"), ended(4, "1", "b"))) == 4
    assert podtable.exit_code(pod("Failed", ended(3, "1"), ended(4, "1", "b"))) == 3
    assert podtable.exit_code(pod("Failed", ended(0, "1"), ended(4, "2", "b"))) == 4
    assert podtable.exit_code(pod("Failed", reason="DeadlineExceeded")) == 1


def test_an_event_row() -> None:
    event = {
        "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": "web"},
        "type": "Warning",
        "reason": "BackOff",
        "message": "Back-off\n",
        "count": 3,
        "firstTimestamp": "2027-01-15T07:58:00Z",
        "lastTimestamp": "2027-01-15T07:59:50Z",
    }
    row = podtable.event_row(event, NOW)
    assert row == ["10s (x3 over 2m)", "Warning", "BackOff", "pod/web", "Back-off"]
    event["count"] = 1


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain äöü 漢", "plain äöü 漢"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x7f\x9b31m", "\\x7f\\x9b31m"),
        ("\u202eevil", "\\u202eevil"),
        ("\u200e\u061c\U000e0041", "\\u200e\\u061c\\U000e0041"),
        ("\N{WOMAN}\u200d\N{ROCKET}", "\N{WOMAN}\u200d\N{ROCKET}"),
        ("\udc80", "\\x80"),
        ("\ud800", "\\ud800"),
    ],
)
def test_escape(raw: str, shown: str) -> None:
    assert escape(raw) == shown


def test_escape_keeps_what_it_is_told_to() -> None:
    assert escape("a\nb\x1b", keep="\n") == "a\nb\\x1b"


def test_a_table_aligns_and_grows(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("NAME", "READY")
    table.show([["a", "1/1"], ["long-name", "0/1"]])
    table.show([["b\x1b", "1/1"]])
    assert capsys.readouterr().out.splitlines() == [
        "NAME        READY",
        "a           1/1",
        "long-name   0/1",
        "b\\x1b       1/1",
    ]


def test_no_colours_elsewhere_than_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert painter(io.StringIO())("x", "red") == "x"
    assert painter(Terminal())("x", "red") == "\x1b[31mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert painter(Terminal())("x", "red") == "x"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert painter(Terminal())("x", "red") == "x"


def test_json_and_yaml_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    import yaml

    data = {
        "text": "a\nb",
        "control": "\x1b",
        "no": "no",
        "octal": "010",
        "empty": "",
        "list": [1, None],
    }
    data["again"] = data["list"]
    dump(data, "json")
    assert json.loads(capsys.readouterr().out) == data
    dump(data, "yaml")
    text = capsys.readouterr().out
    assert yaml.safe_load(text) == data
    assert "text: |-\n  a\n  b\n" in text
    assert "&" not in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    "char",
    "\x07\x1b\x7f\x85\x9b\u061c\u200b\u200e\u200f\u2028\u202e\u2067\u2069\u2060\ufeff\U000e0041",
    ids=ascii,
)
def test_yaml_has_nothing_that_steers_a_terminal(
    capsys: pytest.CaptureFixture[str], char: str
) -> None:
    import yaml

    harmless = "é\nü \N{WOMAN}\u200d\N{ROCKET}"
    texts = [char, f"é {char} end", f"lines\nof {char}\n", f"a: {char}", f"{char}\n  é {char}"]
    data = {"texts": texts, "ké" + char: {"deep": texts}, "last": harmless}
    dump(data, "yaml")
    shown = capsys.readouterr().out
    assert char not in shown
    assert yaml.safe_load(shown) == data
    dump(harmless.replace("\u200d", ""), "yaml")
    assert "é" in capsys.readouterr().out, "what is harmless stays as it is"


def test_objects(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    one = pod("Running")
    dump_objects([one], "json", single=True)
    assert json.loads(capsys.readouterr().out) == one
    dump_objects([one], "json", single=False)
    whole = json.loads(capsys.readouterr().out)
    assert (whole["kind"], whole["items"]) == ("List", [one])
    dump_objects([one], "name", single=False)
    assert capsys.readouterr().out == "pod/web\n"


def test_formats() -> None:
    assert check_format("=json") == "json"
    assert check_format("") == ""
    with pytest.raises(UsageError, match="'xml'"):
        check_format("xml")


@pytest.mark.parametrize(
    ("words", "kind", "names"),
    [
        (["pods"], "pods", []),
        (["po", "a", "b"], "pods", ["a", "b"]),
        (["pod/a", "pods/b"], "pods", ["a", "b"]),
        (["events"], "events", []),
        (["ev", "x"], "events", ["x"]),
        (["all"], "pods", []),
    ],
)
def test_targets(words: list[str], kind: str, names: list[str]) -> None:
    assert args.parse_targets(words, ("pods", "events")) == (kind, names)


@pytest.mark.parametrize(
    "words", [[], ["service"], ["pod/a", "b"], ["pod/a", "event/b"], ["pod/"], ["events", "x"]]
)
def test_targets_refused(words: list[str]) -> None:
    kinds = ("pods", "events") if "event/b" in words else ("pods",)
    with pytest.raises(UsageError):
        args.parse_targets(words, kinds)


@pytest.mark.parametrize(
    ("words", "groups"),
    [
        (["pods,cm"], [("pods", []), ("configmaps", [])]),
        (["pods,cm", "a", "b"], [("pods", ["a", "b"]), ("configmaps", ["a", "b"])]),
        (["pod/a", "cm/b", "pod/c"], [("pods", ["a", "c"]), ("configmaps", ["b"])]),
        (["all"], [("pods", [])]),
        (["pod", "a"], [("pods", ["a"])]),
        (["pod/a"], [("pods", ["a"])]),
    ],
)
def test_targets_of_several_kinds(words: list[str], groups: list[tuple[str, list[str]]]) -> None:
    assert args.parse_groups(words, args.ALL_KINDS) == groups


@pytest.mark.parametrize("words", [[], ["pods,"], ["pods,x"], ["pod/a", "b"], ["pod/a", "x/b"]])
def test_targets_of_several_kinds_refused(words: list[str]) -> None:
    with pytest.raises(UsageError):
        args.parse_groups(words, args.ALL_KINDS)


def test_pod_name() -> None:
    assert args.pod_name("web") == args.pod_name("pod/web") == "web"
    for bad in ("", "service/web"):
        with pytest.raises(UsageError):
            args.pod_name(bad)


@pytest.mark.parametrize(
    ("text", "seconds"), [("5", 5), ("1.5s", 1.5), ("1h30m", 5400), ("100ms", 0.1), ("2m", 120)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5d", "-5s", "s", "1h-", "1 h"])
def test_durations_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_duration(text)


def test_manifests_refused(tmp_path: Path) -> None:
    big, binary = tmp_path / "big", tmp_path / "binary"
    big.write_bytes(b"#" * (1024 * 1024 + 1))
    binary.write_bytes(b"a\nb\n\xff")
    for path, why in (
        (tmp_path / "none", "no such file"),
        (tmp_path, "is a directory"),
        (big, "larger than 1 MiB"),
        (binary, "binary:3: not UTF-8"),
    ):
        with pytest.raises(UsageError, match=why) as caught:
            args.read_manifest(str(path))
        assert str(path) in caught.value.what


def test_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "pod.yaml"
    path.write_bytes(b"\xef\xbb\xbfkind: Pod\n")
    assert args.read_manifest(str(path)) == ("kind: Pod\n", str(path))


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (999, "999B"), (1032225, "1.03MB"), (2.5e9, "2.5GB")]
)
def test_sizes(size: float, text: str) -> None:
    assert human_size(size) == text


def test_describe() -> None:
    given = pod("Running", running(restarts=2))
    given["metadata"]["labels"] = {"b": "2", "a": "1"}
    given["spec"]["containers"][0] |= {
        "image": "busybox",
        "command": ["sh", "-c", "echo \x1b[2J\nexit"],
        "env": [
            {"name": "KEY", "value": "value"},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
        "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
        "resources": {"limits": {"memory": "64Mi"}},
        "livenessProbe": {"tcpSocket": {"port": 80}},
    }
    given["spec"]["volumes"] = [{"name": "data", "hostPath": {"path": "/srv"}}]
    event = {
        "metadata": {},
        "type": "Normal",
        "reason": "Started",
        "message": "up\x07",
        "lastTimestamp": "2027-01-15T07:59:50Z",
    }
    lines = pod_lines(given, [event], NOW)
    for expected in (
        "Labels:          a=1",
        "                 b=2",
        "Status:          Running",
        "    Restart Count:  2",
        "      echo \\x1b[2J",
        "      exit",
        "      KEY:  value",
        "      IP:    (v1:status.podIP)",
        "      /data from data (ro)",
        "      memory:       64Mi",
        "    Liveness:       tcp-socket :80 delay=0s timeout=1s period=10s #success=1 #failure=3",
        "    Type:          HostPath (bare host directory volume)",
        "    Path:          /srv",
        "  Normal  Started  10s   minipod  up\\x07",
    ):
        assert expected in lines
    assert pod_lines(given, [], NOW)[-1] == "Events:          <none>"


def test_chains_that_drop() -> None:
    chain = {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward"}
    ours = {"family": "inet", "table": "minipod", "name": "forward", "hook": "forward"}
    text = '{"nftables": [{"metainfo": {}}, {"chain": %s}, {"chain": %s}]}'
    import json

    drop = text % (json.dumps(chain | {"policy": "drop"}), json.dumps(ours | {"policy": "drop"}))
    assert dropping_chains(drop, "minipod") == ["ip filter FORWARD"]
    accept = text % (json.dumps(chain | {"policy": "accept"}), json.dumps(ours))
    assert dropping_chains(accept, "minipod") == []


def test_a_trial_in_a_child() -> None:
    def fail() -> None:
        raise OSError(1, "not today")

    def break_down() -> None:
        raise RuntimeError("oops")

    in_child(lambda: None)
    with pytest.raises(OSError, match="not today"):
        in_child(fail)
    with pytest.raises(OSError, match="oops"):
        in_child(break_down)


def test_a_check_that_raises_is_a_failure() -> None:
    def fail(config: Config) -> Result:
        raise FileNotFoundError(2, "no such file", "/x")

    def tell(config: Config) -> Result:
        raise MinipodError("it is so", "do this")

    result = examine(Check("x", fail, "load it"), Config())
    assert (result.level, result.remedy) == ("fail", "load it")
    assert examine(Check("x", tell, "else"), Config()) == Result("fail", "it is so", "do this")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["FORWARD"], "iptables -I FORWARD -i br0 -j ACCEPT; iptables -I FORWARD -o br0 -j ACCEPT"),
        (
            ["FORWARD", "DOCKER-USER"],
            "iptables -I DOCKER-USER -i br0 -j ACCEPT; iptables -I DOCKER-USER -o br0",
        ),
        (["FORWARD", "ufw-user-forward"], "ufw route allow in on br0; ufw route allow out on br0"),
    ],
)
def test_what_lets_packets_through_is_in_the_words_of_the_firewall(
    names: list[str], expected: str
) -> None:
    chains = [{"metainfo": {}}, *({"chain": {"name": name}} for name in names)]
    assert admitting(json.dumps({"nftables": chains}), "br0").startswith(expected)
