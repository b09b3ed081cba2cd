# SPDX-License-Identifier: GPL-3.0-or-later
"""ConfigMaps and Secrets on the command line: they come, change, are shown, and go."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.features import requires
from tests.instance import TEST_IMAGE, Instance

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")

POD = f"""\
apiVersion: v1
kind: Pod
metadata: {{name: p}}
spec:
  restartPolicy: Never
  containers: [{{name: a, image: "{TEST_IMAGE}", command: [echo, hello]}}]
"""
CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: one}\n"
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {password: hunter-2}\n"


@pytest.fixture
def here(shared_instance: Instance) -> Instance:
    """An instance without objects."""
    for kind in ("pods", "configmaps", "secrets"):
        shared_instance.cli("delete", kind, "--all")
    return shared_instance


def test_a_file_of_several_kinds(here: Instance) -> None:
    file = str(here.write("all.yaml", "---\n".join((POD, CONFIG_MAP, SECRET))))
    said = here.cli("apply", "-f", file).stdout
    # What pods refer to comes before them.
    assert said == "configmap/settings created\nsecret/login created\npod/p created\n"
    assert here.cli("get", "cm").stdout.splitlines()[1].split()[:2] == ["settings", "1"]
    assert here.cli("get", "secrets").stdout.splitlines()[1].split()[:3] == ["login", "Opaque", "1"]
    assert here.cli("get", "configmap/settings", "-o", "name").stdout == "configmap/settings\n"
    said = here.cli("delete", "-f", file).stdout
    assert said == 'pod "p" deleted\nconfigmap "settings" deleted\nsecret "login" deleted\n'
    assert "No resources found" in here.cli("get", "cm").stderr


@pytest.mark.field("ConfigMap.immutable")
def test_apply_says_what_it_did(here: Instance) -> None:
    file = str(here.write("cm.yaml", CONFIG_MAP))
    assert here.cli("apply", "-f", file).stdout == "configmap/settings created\n"
    before = json.loads(here.cli("get", "cm", "settings", "-o", "json").stdout)
    assert here.cli("apply", "-f", file).stdout == "configmap/settings unchanged\n"
    assert json.loads(here.cli("get", "cm", "settings", "-o", "json").stdout) == before
    here.write("cm.yaml", CONFIG_MAP.replace("one", "two") + "immutable: true\n")
    assert here.cli("apply", "-f", file).stdout == "configmap/settings configured\n"
    after = json.loads(here.cli("get", "cm", "settings", "-o", "json").stdout)
    assert after["data"] == {"a": "two"}
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
    here.write("cm.yaml", CONFIG_MAP.replace("one", "three") + "immutable: true\n")
    refused = here.cli("apply", "-f", file, check=False)
    assert refused.returncode == 2
    assert f"{file}:4: data: field is immutable when `immutable` is set" in refused.stderr


def test_create_does_not_change(here: Instance) -> None:
    file = str(here.write("cm.yaml", CONFIG_MAP))
    here.cli("create", "-f", file)
    refused = here.cli("create", "-f", file, check=False)
    assert refused.returncode == 1
    assert "configmap default/settings already exists" in refused.stderr


def test_one_that_is_refused_keeps_all_from_coming(here: Instance) -> None:
    file = str(here.write("all.yaml", f"{CONFIG_MAP}---\n{SECRET}data: {{x: '?'}}\n"))
    refused = here.cli("apply", "-f", file, check=False)
    assert refused.returncode == 2
    assert "data.x: not base64" in refused.stderr
    assert "settings" not in here.cli("get", "cm", check=False).stdout


def test_delete_of_what_is_not_there(here: Instance) -> None:
    refused = here.cli("delete", "secret", "x", check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "secret default/x not found" in refused.stderr
    here.cli("delete", "secret", "x", "--ignore-not-found")


def test_a_secret_is_shown_in_base64_and_kept_for_root(here: Instance) -> None:
    here.cli("apply", "-f", str(here.write("s.yaml", SECRET)))
    shown = json.loads(here.cli("get", "secret", "login", "-o", "json").stdout)
    assert shown["data"] == {"password": "aHVudGVyLTI="}
    assert "stringData" not in shown
    for file in Path(here.config.root_dir).glob("state.db*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_made_from_the_command_line_and_described(here: Instance, tmp_path: Path) -> None:
    (tmp_path / "app.conf").write_text("level=info\n")
    words = ("create", "configmap", "settings", f"--from-file={tmp_path}/app.conf")
    assert here.cli(*words, "--from-literal=a=b").stdout == "configmap/settings created\n"
    shown = here.cli("describe", "cm", "settings").stdout
    assert "app.conf:\n----\nlevel=info\n" in shown
    here.cli("create", "secret", "generic", "login", "--from-literal=password=hunter-2")
    shown = here.cli("describe", "secret/login").stdout
    assert "password:  8 bytes" in shown
    assert "hunter-2" not in shown
    assert "aHVudGVyLTI" not in shown
    assert here.cli("create", "configmap", check=False).returncode == 2


@pytest.mark.field("Secret.immutable", "Secret.type")
def test_a_secrets_type_and_what_is_immutable(here: Instance) -> None:
    missing = SECRET + "type: kubernetes.io/tls\n"
    refused = here.cli("apply", "-f", str(here.write("s.yaml", missing)), check=False)
    assert "a secret of type kubernetes.io/tls needs" in refused.stderr
    kind = "type: kubernetes.io/basic-auth\n"
    file = str(here.write("s.yaml", SECRET + kind + "immutable: true\n"))
    assert here.cli("apply", "-f", file).stdout == "secret/login created\n"
    row = here.cli("get", "secrets").stdout.splitlines()[1].split()
    assert row[:3] == ["login", "kubernetes.io/basic-auth", "1"]
    here.write("s.yaml", SECRET.replace("hunter-2", "x") + kind + "immutable: true\n")
    refused = here.cli("apply", "-f", file, check=False)
    assert refused.returncode == 2
    assert "data: field is immutable when `immutable` is set" in refused.stderr
    shown = json.loads(here.cli("get", "secret", "login", "-o", "json").stdout)
    assert shown["data"] == {"password": "aHVudGVyLTI="}
