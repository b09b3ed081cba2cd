# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of a container: their sources, their order, and what is said when something is missing."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from minipod.api import ConfigMap, Container, ObjectMeta, Pod, PodSpec, Secret, StoredObject
from minipod.api.objects import (
    ConfigMapEnvSource,
    ConfigMapKeySelector,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    FileKeySelector,
    ObjectFieldSelector,
    ResourceFieldSelector,
    SecretEnvSource,
    SecretKeySelector,
)
from minipod.api.quantity import parse_quantity
from minipod.plan.command import TooLong
from minipod.pods.downward import Place
from minipod.pods.envfile import MAX_FILE, find_key, read_below
from minipod.pods.environment import (
    File,
    NotConfigured,
    Sources,
    container_env,
    keep,
    kept,
    planned_env,
    prepared_env,
)
from minipod.pods.errors import CannotCreate

OBJECTS: dict[tuple[str, str], StoredObject] = {
    ("ConfigMap", "c"): ConfigMap(
        data={"B": "2", "A": "1", "x.y-z": "odd"}, binary_data={"N": "AA=="}
    ),
    ("ConfigMap", "d"): ConfigMap(data={"A": "d"}),
    ("Secret", "s"): Secret(data={"A": "c2VjcmV0", "BYTES": "/w==", "NUL": "AA=="}),
}
FILES: dict[tuple[str, str], File] = {("v", "dir/f"): b"K='from file'\n", ("v", "bad"): b"K=x\n"}


class Objects:
    def get(self, kind: str, namespace: str, name: str) -> StoredObject | None:
        return OBJECTS.get((kind, name)) if namespace == "ns" else None


SOURCES = Sources(
    objects=Objects(),
    place=Place(("10.0.0.1",), ("10.9.0.2", "fd00::2")),
    machine={"cpu": parse_quantity("4"), "memory": parse_quantity("1Gi")},
    files=FILES,
)


def pod(container: Container) -> Pod:
    meta = ObjectMeta(name="p", namespace="ns", uid="u", labels={"app": "web"})
    return Pod(metadata=meta, spec=PodSpec(containers=[container]))


def env(*variables: EnvVar, env_from: Sequence[EnvFromSource] = ()) -> dict[str, str]:
    container = Container(name="c", env=list(variables), env_from=list(env_from))
    return container_env(pod(container), container, SOURCES)


def key(name: str, key: str, optional: bool | None = None) -> EnvVarSource:
    return EnvVarSource(config_map_key_ref=ConfigMapKeySelector(name, key, optional))


def secret(name: str, key: str, optional: bool | None = None) -> EnvVarSource:
    return EnvVarSource(secret_key_ref=SecretKeySelector(name, key, optional))


def file(path: str, key: str, optional: bool | None = None) -> EnvVarSource:
    return EnvVarSource(file_key_ref=FileKeySelector("v", path, key, optional))


def test_variables_see_those_before_them() -> None:
    variables = [
        EnvVar("FIRST", "1"),
        EnvVar("SECOND", "$(FIRST)2"),
        EnvVar("EARLY", "$(LATE)"),
        EnvVar("LATE", "x"),
        EnvVar("FIRST", "$(FIRST)!"),
        EnvVar("ESCAPED", "$$(FIRST)"),
        EnvVar("IMAGE", "$(LANG)"),
        EnvVar("EMPTY"),
    ]
    container = Container(name="c", env=variables)
    wanted = {
        "FIRST": "1!",
        "SECOND": "12",
        "EARLY": "$(LATE)",
        "LATE": "x",
        "ESCAPED": "$(FIRST)",
        "IMAGE": "$(LANG)",  # the image's variables are not seen
        "EMPTY": "",
    }
    assert container_env(pod(container), container, SOURCES) == wanted
    assert prepared_env(pod(container), container) == wanted


def test_variables_that_grow_without_end() -> None:
    doubled = [
        EnvVar("V0", "x" * 1024),
        *(EnvVar(f"V{i}", f"$(V{i - 1})" * 2) for i in range(1, 40)),
    ]
    many = [EnvVar("A", "x" * 100_000), *(EnvVar(f"V{i}", "$(A)") for i in range(100))]
    for variables in (doubled, many):
        container = Container(name="c", env=variables)
        with pytest.raises(TooLong):
            container_env(pod(container), container, SOURCES)
        with pytest.raises(TooLong):
            prepared_env(pod(container), container)


def test_envfrom_that_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OBJECTS, ("ConfigMap", "big"), ConfigMap(data={"A": "x" * 1_000_000}))
    sources = [
        EnvFromSource(prefix=f"P{i}", config_map_ref=ConfigMapEnvSource(name="big"))
        for i in range(100)
    ]
    with pytest.raises(TooLong, match="together"):
        env(env_from=sources)


def test_envfrom_comes_first_and_the_later_source_wins() -> None:
    sources = [
        EnvFromSource(config_map_ref=ConfigMapEnvSource("c")),
        EnvFromSource(prefix="S_", secret_ref=SecretEnvSource("s", True)),
        EnvFromSource(config_map_ref=ConfigMapEnvSource("d")),
    ]
    OBJECTS["Secret", "s"] = Secret(data={"A": "c2VjcmV0"})
    made = env(EnvVar("B", "mine"), EnvVar("C", "$(A)$(S_A)$(N)"), env_from=sources)
    # Keys that no shell could name are variables too (KEP-4369); binaryData is not.
    assert made == {"A": "d", "B": "mine", "x.y-z": "odd", "S_A": "secret", "C": "dsecret$(N)"}


def test_single_keys() -> None:
    OBJECTS["Secret", "s"] = Secret(data={"A": "c2VjcmV0", "BYTES": "/w=="})
    made = env(
        EnvVar("X", value_from=key("c", "A")),
        EnvVar("Y", value_from=secret("s", "A")),
        EnvVar("Z", "$(X)-$(Y)"),
        EnvVar("R", value_from=secret("s", "BYTES")),
        EnvVar("GONE", value_from=key("c", "none", True)),
        EnvVar("GONE2", value_from=secret("none", "A", True)),
        EnvVar("SEES", "$(GONE)"),
    )
    assert made == {"X": "1", "Y": "secret", "Z": "1-secret", "R": "\udcff", "SEES": "$(GONE)"}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (key("none", "A"), 'configmap "none" not found'),
        (secret("none", "A"), 'secret "none" not found'),
        (key("c", "none"), "couldn't find key none in ConfigMap ns/c"),
        (key("c", "N"), "couldn't find key N in ConfigMap ns/c"),
        (
            file("dir/f", "none"),
            "environment variable key 'none' not found in file dir/f of volume v",
        ),
        (file("none", "K"), "not found in file none of volume v"),
        (file("bad", "K", True), "couldn't parse env file bad of volume v: the value on line 1"),
    ],
)
def test_what_is_missing_is_said(source: EnvVarSource, words: str) -> None:
    with pytest.raises(NotConfigured) as caught:
        env(EnvVar("X", value_from=source))
    assert words in caught.value.what


def test_a_missing_source_of_many() -> None:
    with pytest.raises(NotConfigured, match="not found"):
        env(env_from=[EnvFromSource(secret_ref=SecretEnvSource("none"))])
    assert env(env_from=[EnvFromSource(secret_ref=SecretEnvSource("none", True))]) == {}


def test_a_value_that_no_variable_can_hold_is_not_shown() -> None:
    OBJECTS["Secret", "nul"] = Secret(data={"K": "aGlkZGVuAA=="})
    with pytest.raises(NotConfigured) as caught:
        env(EnvVar("X", value_from=secret("nul", "K")))
    assert "NUL byte" in caught.value.what
    assert "hidden" not in str(caught.value)


def test_fields_resources_and_files() -> None:
    field, resource = ObjectFieldSelector, ResourceFieldSelector
    made = env(
        EnvVar("L", value_from=EnvVarSource(field_ref=field(field_path="metadata.labels['app']"))),
        EnvVar("IPS", value_from=EnvVarSource(field_ref=field(field_path="status.podIPs"))),
        EnvVar("CPU", value_from=EnvVarSource(resource_field_ref=resource(resource="limits.cpu"))),
        EnvVar("F", value_from=file("dir/f", "K")),
        EnvVar("NO", value_from=file("none", "K", True)),
    )
    assert made == {"L": "web", "IPS": "10.9.0.2,fd00::2", "CPU": "4", "F": "from file"}


def test_a_plan_shows_no_secret_and_needs_nothing_to_be_there() -> None:
    OBJECTS["Secret", "s"] = Secret(data={"A": "c2VjcmV0"})
    container = Container(
        name="c",
        env=[
            EnvVar("X", value_from=secret("s", "A")),
            EnvVar("Y", value_from=key("none", "K")),
            EnvVar("Z", value_from=file("f", "K")),
        ],
        env_from=[
            EnvFromSource(secret_ref=SecretEnvSource("s")),
            EnvFromSource(secret_ref=SecretEnvSource("none")),
        ],
    )
    assert planned_env(pod(container), container, SOURCES) == {
        "A": "<key A of secret s>",
        "X": "<key A of secret s>",
        "Y": "<key K of configmap none>",
        "Z": "<key K of file f in volume v>",
    }


def test_what_a_run_got_is_kept_for_root(tmp_path: Path) -> None:
    path = tmp_path / "env-c"
    assert kept(str(path)) == {}
    for value in ("a\udcff\n", "b"):
        keep(str(path), {"X": value})
        assert kept(str(path)) == {"X": value}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keep(str(path), None)
    assert kept(str(path)) == {}
    with pytest.raises(CannotCreate, match="no such file"):
        keep(str(tmp_path / "none/env-c"), {"X": "1"})


# ---- files of variables ----


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("K='v'", "v"),
        ("\n# note\n  \n\tK='v' # more\n", "v"),
        ("A='K=no'\nK='a=b'", "a=b"),
        ("K='two\nlines'\n", "two\nlines"),
        ("A='x\nK='\nK='yes'", "yes"),
        ("K='\\n$(X)'", "\\n$(X)"),
        ("K='v'\r\n", "v"),
        ("K='first'\nK='second'", "first"),
        ("K= 'v'", ""),
        ("K=''", ""),
        ("L='v'", ""),
        ("", ""),
        ("K='v'\nrubbish", "v"),
    ],
)
def test_files_of_variables(text: str, expected: str) -> None:
    assert find_key(text.encode(), "K") == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rubbish", "line 1 has no ="),
        ("='v'", "line 1 has no name before the ="),
        ("\nK ='v'", "line 2 has white space before the ="),
        ("K=v", "the value on line 1 is not in single quotes"),
        ('K="v"', "not in single quotes"),
        ("K='v' x", "line 1 goes on behind the closing quote"),
        ("K='v", "the single quote on line 1 is not closed"),
        ("K='\0'", "NUL byte"),
    ],
)
def test_files_that_are_none(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        find_key(text.encode(), "K")


def test_files_are_read_where_they_should_be(tmp_path: Path) -> None:
    below = tmp_path / "volume"
    (below / "dir").mkdir(parents=True)
    (below / "dir/f").write_bytes(b"x")
    (tmp_path / "secret").write_bytes(b"host")
    (below / "link").symlink_to("dir/f")
    (below / "up").symlink_to("..")
    (below / "big").write_bytes(b"x" * (MAX_FILE + 1))
    os.mkfifo(below / "pipe")
    fd = os.open(below, os.O_PATH | os.O_DIRECTORY)
    try:
        assert read_below(fd, "dir/f") == b"x"
        assert read_below(fd, "none") is None
        assert read_below(fd, "dir/f/none") is None
        for path in ("link", "up/secret", "../secret"):
            with pytest.raises(OSError):
                read_below(fd, path)
        for path in ("pipe", "dir", "big"):
            with pytest.raises((ValueError, OSError)):
                read_below(fd, path)
    finally:
        os.close(fd)
