# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an image is asked for, as whom, and through which proxy: the files and variables that say so."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from minipod.errors import MinipodError, UsageError
from minipod.images import builder
from minipod.images.bounds import Limits
from minipod.images.reference import is_pullable, parse_reference
from minipod.images.registry import credentials
from minipod.images.registry.credentials import Credentials
from minipod.images.registry.http import Patience
from minipod.images.registry.proxies import Proxies, from_environment
from minipod.images.registry.settings import Endpoint, Settings, endpoints
from minipod.images.registry.source import Access, RegistrySource
from tests.registries import fake_registry

DIGEST = "sha256:" + "a" * 64
IMAGE = builder.build_image([{"a": b"1"}])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "c" / "registries.conf.d").mkdir(parents=True)
    return Settings(str(tmp_path / "c"), str(tmp_path / "d"), str(tmp_path / "config.json"))


def conf(settings: Settings, text: str, name: str = "registries.conf") -> None:
    Path(settings.containers_dir, name).write_text(text)


def where(settings: Settings, reference: str) -> list[tuple[str, str]]:
    return [(e.host, e.path) for e in endpoints(settings, parse_reference(reference))]


# ---- registries.conf ----------------------------------------------------------------------------


def test_without_files(settings: Settings) -> None:
    assert where(settings, "busybox") == [("docker.io", "library/busybox")]
    assert where(settings, "quay.io/a/b:1") == [("quay.io", "a/b")]
    (endpoint,) = endpoints(settings, parse_reference("busybox"))
    assert endpoint.urls == ("https://registry-1.docker.io/v2/",)


def test_mirrors_and_places(settings: Settings) -> None:
    conf(
        settings,
        """
        unqualified-search-registries = ["quay.io"]
        [[registry]]
        prefix = "docker.io"
        [[registry.mirror]]
        location = "mirror.example:5000/hub"
        insecure = true
        [[registry.mirror]]
        location = "digests.example"
        pull-from-mirror = "digest-only"
        [[registry]]
        prefix = "docker.io/library"
        location = "own.example/lib"
        [[registry]]
        prefix = "*.wild.example"
        location = "tame.example/x"
        """,
    )
    mirrored = [("mirror.example:5000", "hub/a/b"), ("docker.io", "a/b")]
    assert where(settings, "a/b") == mirrored
    assert ("digests.example", "a/b") in where(settings, f"a/b@{DIGEST}")
    assert where(settings, "busybox") == [("own.example", "lib/busybox")], "the longest prefix"
    assert where(settings, "very.wild.example/a") == [("tame.example", "x/a")]
    assert where(settings, "wild.example/a") == [("wild.example", "a")]
    mirror, own = endpoints(settings, parse_reference("a/b"))
    assert (mirror.insecure, mirror.is_mirror) == (True, True)
    assert (own.insecure, own.is_mirror) == (False, False)
    assert [url.partition(":")[0] for url in mirror.urls] == ["https", "http"]


def test_later_files_win(settings: Settings) -> None:
    conf(settings, '[[registry]]\nlocation = "r.example"\nblocked = true\n')
    with pytest.raises(UsageError, match=r"r\.example is blocked"):
        where(settings, "r.example/a")
    conf(settings, '[[registry]]\nlocation = "r.example"\n', "registries.conf.d/50-mine.conf")
    assert where(settings, "r.example/a") == [("r.example", "a")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "registries.conf"),
        ("[registries.search]\nregistries = []\n", "version 1"),
        ("registry = 5", "must be tables"),
        ("[[registry]]\ninsecure = true\n", "neither prefix nor location"),
        ('[[registry]]\nlocation="a"\n[[registry.mirror]]\ninsecure=true\n', "no location"),
    ],
)
def test_files_that_are_wrong(settings: Settings, text: str, words: str) -> None:
    conf(settings, text)
    with pytest.raises(MinipodError, match=words):
        where(settings, "busybox")


def test_a_mirror_is_asked_first_and_may_fail(settings: Settings) -> None:
    with fake_registry() as mirror, fake_registry() as own:
        own.add(IMAGE)
        entry = (
            f'[[registry]]\nlocation="{own.host}"\n[[registry.mirror]]\nlocation="{mirror.host}"\n'
        )
        conf(settings, entry)
        auths = [{"auths": {own.host: {"username": "a", "password": "b"}}}]
        access = Access(settings, auths, {}, Patience(attempts=1))
        reference = parse_reference(f"{own.host}/team/app:1")
        with RegistrySource(reference, access, Limits()) as source:
            (root,) = source.roots()
            assert root.manifests[0].digest == IMAGE.manifest.digest
            assert root.names == (str(reference),)
        assert mirror.seen and own.seen
        mirror.add(IMAGE)
        count = len(own.seen)
        with RegistrySource(reference, access, Limits()) as source:
            source.roots()
        assert len(own.seen) == count, "the mirror had it"


# ---- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("busybox", True),
        ("localhost:5000/a", True),
        ("localhost/a:1", False),
        (DIGEST, False),
        ("a" * 64, False),
        ("Not A Name", False),
    ],
)
def test_what_a_registry_may_have(text: str, expected: bool) -> None:
    assert is_pullable(text) == expected


# ---- credentials --------------------------------------------------------------------------------


def encoded(user: str, password: str = "pw") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def found(settings: Settings, host: str, path: str = "a/b", *given: Any) -> list[str]:
    made = credentials.find(settings, given, Endpoint(host, path))
    return [each.user or each.identity_token for each in made]


def test_the_longest_key_is_first(settings: Settings) -> None:
    auths = {
        "r.example": encoded("host"),
        "r.example/a": encoded("path"),
        "r.example/ab": encoded("other"),
        "https://r.example/v2/": encoded("url"),
        "*.example": encoded("star"),
        "*.*.example": encoded("stars"),
    }
    assert found(settings, "r.example", "a/b", {"auths": auths}) == ["url", "path", "host", "star"]
    assert found(settings, "r.example:5000", "a/b", {"auths": auths}) == []


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io"])
def test_the_names_of_docker_hub(settings: Settings, key: str) -> None:
    Path(settings.docker_config).write_text(json.dumps({"auths": {key: encoded("me")}}))
    assert found(settings, "docker.io", "library/busybox") == ["me"]
    assert found(settings, "quay.io") == []


def test_files_come_after_what_is_given(settings: Settings) -> None:
    for path, user in (
        (Path(settings.docker_config), "docker"),
        (Path(settings.containers_dir, "auth.json"), "podman"),
    ):
        path.write_text(json.dumps({"auths": {"r.example": encoded(user)}}))
    given = {"auths": {"r.example": {"identitytoken": "tok", "auth": ""}}}
    assert found(settings, "r.example", "a", given) == ["tok", "docker", "podman"]


def test_passwords_are_not_shown(settings: Settings) -> None:
    assert "pw" not in repr(Credentials("user", "pw", "pw"))
    assert Credentials("user", "a:b").basic == "Basic " + base64.b64encode(b"user:a:b").decode()
    Path(settings.docker_config).write_text("hunter2 {")
    with pytest.raises(MinipodError, match="is not JSON") as error:
        found(settings, "r.example")
    assert "hunter2" not in str(error.value)


def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Make ``docker-credential-test`` of a shell script, where helpers are looked for."""
    program = tmp_path / "docker-credential-test"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(credentials, "HELPER_PATH", f"{tmp_path}:/usr/bin:/bin")


def test_a_helper(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_OURS", "x")
    helper(
        tmp_path,
        monkeypatch,
        f"""[ "$1" = get ] || exit 3
        read server; env > {tmp_path}/env
        echo "{{\\"ServerURL\\":\\"$server\\",\\"Username\\":\\"$server\\",\\"Secret\\":\\"s\\"}}" """,
    )
    Path(settings.docker_config).write_text(json.dumps({"credHelpers": {"r.example": "test"}}))
    assert found(settings, "r.example") == ["r.example"]
    assert found(settings, "other.example") == []
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names - {"PWD", "_", "SHLVL"} == {"PATH", "HOME", "LC_ALL"}


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo credentials not found in native keychain; exit 1", []),
        ('echo \'{"Username":"<token>","Secret":"tok"}\'', ["tok"]),
    ],
)
def test_what_helpers_say(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    expected: list[str],
) -> None:
    helper(tmp_path, monkeypatch, script)
    Path(settings.docker_config).write_text(json.dumps({"credsStore": "test"}))
    assert found(settings, "r.example") == expected


@pytest.mark.parametrize(
    ("name", "script", "words"),
    [
        ("test", "exit 7", "exit code 7"),
        ("test", "echo nonsense", "docker-credential-test"),
        ("test", "echo '{}'", "neither Username nor Secret"),
        ("absent", "", "not found in"),
        ("../x", "", "is not a name"),
    ],
)
def test_helpers_that_fail(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    script: str,
    words: str,
) -> None:
    helper(tmp_path, monkeypatch, script)
    Path(settings.docker_config).write_text(json.dumps({"credsStore": name}))
    with pytest.raises(MinipodError, match=words):
        found(settings, "r.example")


def test_a_pull_secret_runs_no_helper(settings: Settings, tmp_path: Path) -> None:
    assert found(settings, "r.example", "a", {"credsStore": "absent", "credHelpers": {}}) == []
    assert os.listdir(tmp_path) == ["c"]


# ---- proxies ------------------------------------------------------------------------------------


def test_proxies() -> None:
    proxies = Proxies(
        from_environment(
            {
                "HTTPS_PROXY": "http://user:p%40ss@proxy.example:3128",
                "https_proxy": "",
                "http_proxy": "plain.example:8080",
                "NO_PROXY": "10.0.0.0/8, .inner.example,exact.example,with.example:5000,*.star.example",
                "HOME": "/root",
            }
        )
    )

    def port(host: str, scheme: str = "https", number: int = 443) -> int:
        proxy = proxies.find(scheme, host, number)
        return proxy.port if proxy else 0

    assert (port("quay.io"), port("quay.io", "http")) == (3128, 8080)
    assert port("localhost") == port("127.0.0.1") == port("::1") == 0
    assert (port("10.1.2.3"), port("11.1.2.3")) == (0, 3128)
    assert (port("a.inner.example"), port("inner.example")) == (0, 3128)
    assert port("exact.example") == port("sub.exact.example") == 0
    assert port("notexact.example") == 3128
    assert (port("with.example", number=5000), port("with.example")) == (0, 3128)
    assert port("x.star.example") == 0
    proxy = proxies.find("https", "quay.io", 443)
    assert proxy
    assert proxy.headers() == {
        "Proxy-Authorization": "Basic " + base64.b64encode(b"user:p@ss").decode()
    }


@pytest.mark.parametrize(
    "value", ["socks5://x:1", "https://user:pw@x:1", "http://:1", "http://x:port"]
)
def test_proxies_that_are_not_spoken_to(value: str) -> None:
    with pytest.raises(UsageError, match="HTTPS_PROXY: is not") as error:
        Proxies({"HTTPS_PROXY": value})
    assert "pw" not in str(error.value)
