# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases as people run them: PostgreSQL and redis from a registry, with their own first processes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.user import Json, Running, Terminal, manifest, pod
from tests.instance import TOP, Instance
from tests.patience import patience

pytestmark = pytest.mark.requires("tool:docker-registry", "tool:mmdebstrap", "tool:psql")

EXAMPLE = TOP / "examples/registry/postgres.yaml"
START = patience(90)  # seconds for initdb, when others are at work
SCHEMA = "create table seed (word text); insert into seed values ('sown');"


def postgres(name: str, *more: Json, **spec: Any) -> Json:
    """Return a pod with PostgreSQL, which is ready when it answers; *more* are objects beside it."""
    container = {
        "name": "postgres",
        "image": "postgres:15",
        "env": [{"name": "POSTGRES_PASSWORD", "value": f"of {name}"}],
        "ports": [{"containerPort": 5432}],
        "readinessProbe": {
            "exec": {"command": ["pg_isready", "--username=postgres", "--host=127.0.0.1"]},
            "periodSeconds": 1,
        },
        **spec.pop("container", {}),
    }
    return pod(name, container, restartPolicy="Always", **spec)


def secret(name: str, **data: str) -> Json:
    meta = {"name": name}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": data}


def config_map(name: str, **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def psql(address: str, password: str, *statements: str, database: str = "postgres") -> str:
    """Return what the host's psql says, or its error."""
    command = ["psql", "--no-psqlrc", "-At", "-h", address, "-U", "postgres", "-d", database]
    for statement in statements:
        command += ["-c", statement]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=patience(60),
        env={**os.environ, "PGPASSWORD": password, "PGCONNECT_TIMEOUT": "30"},
    )
    return (done.stdout + done.stderr).strip()


def address(node: Instance, name: str) -> str:
    found: str = node.pod(name)["status"]["podIP"]
    return found


def ready(node: Instance, *names: str) -> None:
    for name in names:
        node.wait(name, "condition=Ready", START)


@pytest.fixture(scope="module")
def pair(hub_instance: Instance) -> Iterator[Instance]:
    """Two databases: ``one`` with little memory; ``two`` with its password in a file, and a schema of its own."""
    mounts = [
        {"name": "password", "mountPath": "/run/secrets/db"},
        {"name": "schema", "mountPath": "/docker-entrypoint-initdb.d"},
    ]
    env = {"POSTGRES_PASSWORD_FILE": "/run/secrets/db/password", "POSTGRES_DB": "shop"}
    second = {
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "volumeMounts": mounts,
    }
    volumes = [
        {"name": "password", "secret": {"secretName": "db"}},
        {"name": "schema", "configMap": {"name": "schema"}},
    ]
    limits = {"limits": {"memory": "96Mi", "cpu": "1"}}
    text = manifest(
        secret("db", password="of two"),
        config_map("schema", **{"1-seed.sql": SCHEMA}),
        postgres("one", container={"resources": limits}),
        postgres("two", container=second, volumes=volumes),
    )
    hub_instance.cli("create", "-f", "-", input=text)
    ready(hub_instance, "one", "two")
    yield hub_instance
    there = (
        "pod/one",
        "pod/two",
        "secret/db",
        "configmap/schema",
    )  # unless another test has cleared all
    hub_instance.cli("delete", *there, "--grace-period=0", "--ignore-not-found")


def test_two_side_by_side(pair: Instance) -> None:
    """Both on port 5432, each by the address of its pod, with data of its own."""
    one, two = address(pair, "one"), address(pair, "two")
    made = psql(one, "of one", "create table seen (x int)", "insert into seen values (1), (2)")
    assert made == "CREATE TABLE\nINSERT 0 2"
    assert psql(one, "of one", "table seen", "select inet_server_addr()") == f"1\n2\n{one}"
    assert "does not exist" in psql(two, "of two", "table seen")
    assert psql(two, "of two", "table seed", database="shop") == "sown"
    assert "password authentication failed" in psql(two, "of one", "select 1")


def test_from_another_pod(pair: Instance) -> None:
    """A client in a pod reaches the other by its address, and is seen with its own."""
    question = f"psql -At -h {address(pair, 'two')} -U postgres -c 'select inet_client_addr()'"
    done = pair.exec("one", "env", "PGPASSWORD=of two", "sh", "-c", question)
    assert done.stdout.strip() == address(pair, "one"), done


def test_the_servers_user_and_what_it_keeps(pair: Instance) -> None:
    """As the image says: root prepares, then user postgres serves, and has no capabilities."""
    status = Path(f"/proc/{pair.pid('one', 'postgres')}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Name"] == "postgres"
    assert fields["Uid"].split() == ["999"] * 4 == fields["Gid"].split()
    assert int(fields["CapEff"], 16) == 0 and fields["Seccomp"] == "2"
    assert (
        "/var/lib/postgresql/data"
        in Path(f"/proc/{pair.pid('one', 'postgres')}/mounts").read_text()
    ), "what the image declares is a mount"


def test_psql_on_a_terminal(pair: Instance) -> None:
    command = ("exec", "-it", "two", "--", "psql", "--no-psqlrc", "-U", "postgres", "shop")
    with Terminal(pair, *command, size=(40, 100), env={"PAGER": "cat"}) as terminal:
        terminal.until("shop=# ")
        terminal.type("table seed;\r")
        terminal.until("sown")
        terminal.type("select pg_sleep(1000);\r")
        terminal.until("select pg_sleep")
        terminal.type("\x03")
        terminal.until("shop=# ")
        terminal.type("\\! stty size\r")
        terminal.until("40 100")
        terminal.type("\\q\r")
        assert terminal.end() == 0


def test_a_dump_goes_out_and_comes_in(pair: Instance, tmp_path: Path) -> None:
    dump = tmp_path / "dump.sql"
    dump.write_text(pair.exec("two", "pg_dump", "-U", "postgres", "-t", "seed", "shop").stdout)
    pair.cli("cp", dump, "one:/tmp/dump.sql")
    done = pair.exec("one", "psql", "-q", "-U", "postgres", "-f", "/tmp/dump.sql")
    assert done.returncode == 0, done
    assert psql(address(pair, "one"), "of one", "table seed") == "sown"


def test_top_sees_what_the_server_uses(pair: Instance) -> None:
    lines = pair.cli("top", "pod", "--containers").stdout.splitlines()
    memory = {line.split()[0]: line.split()[3] for line in lines[1:]}
    assert all(int(memory[name].removesuffix("Mi")) > 5 for name in ("one", "two")), lines


@pytest.mark.requires("cgroup:memory")
def test_a_query_that_takes_too_much_memory(pair: Instance) -> None:
    """The limit ends it: the process that asked, or the whole container on cgroup2. The other pod has not noticed."""
    greedy = (
        "select count(distinct s) from (select string_agg(repeat('x', 100000), '') s "
        "from generate_series(1, 4000) g group by g % 3) t"
    )
    one, two = address(pair, "one"), address(pair, "two")
    assert "connection" in psql(one, "of one", "set work_mem = '1GB'", greedy)
    end = time.monotonic() + START
    while (said := psql(one, "of one", "select 1")) != "1":
        assert time.monotonic() < end, said
        time.sleep(0.2)
    status = pair.container("one", "postgres")
    ended = status.get("lastState", {}).get("terminated", {}).get("reason")
    assert ended == "OOMKilled" or "was terminated by signal 9" in pair.output("one"), status
    assert address(pair, "one") == one and psql(two, "of two", "select 1") == "1"
    assert pair.container("two", "postgres")["restartCount"] == 0


def test_a_claim_survives_crashes_and_pods(node: Instance) -> None:
    """The example, hardened: killed inside, then deleted with grace, then made anew on the same claim."""
    text = EXAMPLE.read_text()
    password = "correct horse"
    node.cli("create", "-f", EXAMPLE)
    ready(node, "database")
    table = "create table kept as select generate_series(1, 1000) n"
    assert psql(address(node, "database"), password, table) == "SELECT 1000"
    os.kill(node.pid("database", "postgres"), signal.SIGKILL)
    node.until("database", lambda it: it["status"]["containerStatuses"][0]["restartCount"] == 1)
    ready(node, "database")
    assert psql(address(node, "database"), password, "select count(*) from kept") == "1000"
    assert "automatic recovery in progress" in node.output("database")
    with Running(node, "logs", "-f", "database") as logs:
        node.cli("delete", "pod", "database")
        logs.end()
    assert "received fast shutdown request" in logs.out, "SIGINT, as the image wants"
    assert logs.out.endswith("database system is shut down\n")
    node.cli("create", "-f", "-", input=text.rpartition("---\n")[2])
    ready(node, "database")
    assert psql(address(node, "database"), password, "select count(*) from kept") == "1000"
    assert "database system was shut down at" in node.output("database"), "no recovery was needed"


@pytest.mark.requires("userns", "idmap")
def test_in_a_user_namespace(node: Instance) -> None:
    """Its root is nobody outside; user postgres is another nobody, on the claim's disk the number that the pod sees."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "c"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    mounts = {"volumeMounts": [{"name": "d", "mountPath": "/var/lib/postgresql/data"}]}
    volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]
    made = postgres("nobody", container=mounts, volumes=volumes, hostUsers=False)
    node.cli("create", "-f", "-", input=manifest(claim, made))
    ready(node, "nobody")
    assert psql(address(node, "nobody"), "of nobody", "select 1") == "1"
    pid = node.pid("nobody", "postgres")
    first = int(Path(f"/proc/{pid}/uid_map").read_text().split()[1])
    assert first >= 65536 and os.stat(f"/proc/{pid}").st_uid == first + 999
    volume = node.get("pvc", "c")["spec"]["volumeName"]
    where = Path(node.get("pv", volume)["spec"]["local"]["path"])
    assert (where / "PG_VERSION").stat().st_uid == 999


def test_last_words_of_a_server_that_refuses(node: Instance) -> None:
    wants = {"env": [], "terminationMessagePolicy": "FallbackToLogsOnError"}
    node.cli("create", "-f", "-", input=manifest(postgres("mute", container=wants)))
    found = node.until(
        "mute", lambda it: it["status"]["containerStatuses"][0].get("lastState", {}) != {}
    )
    ended = found["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (1, "Error")
    assert "superuser password is not specified" in ended["message"]


# ---- redis ---------------------------------------------------------------------------------------

CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], 6379), timeout=30) as server:
    server.sendall(b"INCR visits\\r\\nCLIENT INFO\\r\\n")
    print(server.makefile("rb").readline())
    print("addr=" + server.getsockname()[0])
"""


def test_redis_and_a_client_in_python(node: Instance) -> None:
    """From pod to pod; the server has limits, a read-only root, and the image's volume to write to."""
    server = {
        "name": "redis",
        "image": "redis:7",
        "args": ["--protected-mode", "no", "--save", ""],
        "resources": {"limits": {"memory": "64Mi", "cpu": "200m"}},
        "securityContext": {"readOnlyRootFilesystem": True},
        "readinessProbe": {"tcpSocket": {"port": 6379}, "periodSeconds": 1},
    }
    node.cli("create", "-f", "-", input=manifest(pod("cache", server)))
    ready(node, "cache")
    client = {
        "name": "client",
        "image": "python:3.11",
        "command": ["python", "-c", CLIENT, address(node, "cache")],
    }
    for count in (1, 2):
        done = node.cli("run", "--rm", "-", input=manifest(pod("client", client)))
        assert f"b':{count}\\r\\n'" in done.stdout, done
    pid = node.pid("cache", "redis")
    assert "\nUid:\t999\t999\t999\t999\n" in Path(f"/proc/{pid}/status").read_text()
    assert node.exec("cache", "redis-cli", "save").stdout == "OK\n"
    listed = node.exec("cache", "ls", "-l", "/data/dump.rdb").stdout.split()
    assert listed[0] == "-rw-------" and listed[2:4] == ["redis", "redis"], listed
    node.cli("delete", "pod", "cache")
