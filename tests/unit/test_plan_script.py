# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans as scripts, without running one: every step can be written, and no word of others becomes a command."""

from __future__ import annotations

import inspect
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minipod.agent.shell import Handmade, own_names, parts, script, teardown
from minipod.agent.shell.quoting import comment, quote
from minipod.agent.shell.script import RENDERERS
from minipod.agent.shell.writer import Writer
from minipod.api import Container, EnvVar, Pod, Volume, VolumeMount
from minipod.api.objects import ConfigMapVolumeSource as Keys
from minipod.config import Config
from minipod.errors import UsageError
from minipod.plan import steps as s
from minipod.runtime.atomic import File
from tests.unit.test_plan_checker import V1, V2, pod
from tests.unit.test_plan_explain import plan_of

# What a shell could stumble over, if it were not quoted.
HOSTILE = (
    *(
        "$(touch /tmp/owned)",
        "`id`",
        "'; touch x; '",
        '"',
        "\\",
        "a\nb",
        "#",
        "~",
        "*",
        "!x",
        "-n",
        "{a,b}",
        "=x",
    ),
    *(
        "\x1b[2J",
        "\u202e",
        "\udcff",
        "\ud800",
        "END",
        "'$IFS'",
        "\\'",
        "a=b",
        "&& id",
        "$'\\n'",
        "",
    ),
)
texts = st.one_of(
    st.sampled_from(HOSTILE), st.text(st.characters(blacklist_characters="\0"), max_size=20)
)


def bash(text: str) -> list[bytes]:
    """Return the words that a script of bash prints, each ended by a NUL."""
    done = subprocess.run(["bash", "--norc", "-c", text], capture_output=True, check=True)
    assert done.stderr == b"", done.stderr
    return done.stdout.split(b"\0")[:-1]


def raw(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


@settings(deadline=None, max_examples=60)
@given(st.lists(texts, min_size=1, max_size=8))
@example(list(HOSTILE))
def test_a_quoted_word_is_that_word(values: list[str]) -> None:
    quoted = [quote(value) for value in values]
    assert all(each.isascii() and each.isprintable() for each in quoted)
    assert bash(f"printf '%s\\0' {' '.join(quoted)}") == [raw(value) for value in values]


@given(texts)
@example("a\nrm -rf /")
def test_a_comment_is_one_line_of_ascii(text: str) -> None:
    found = comment(text)
    assert found.isascii() and (found == "" or found.isprintable())


def test_no_word_has_a_nul_byte() -> None:
    with pytest.raises(UsageError, match="NUL"):
        quote("a\0b")


# ---- steps ------------------------------------------------------------------------------------------------------


def test_every_kind_of_step_can_be_written() -> None:
    found = (getattr(s, name) for name in s.__all__)
    classes = {each for each in found if isinstance(each, type) and issubclass(each, s.Step)}
    kinds = {each for each in classes if not inspect.isabstract(each)}
    assert RENDERERS.keys() | {s.Launch, s.AttachNetwork} == kinds


def written(step: s.Step) -> str:
    """Return the commands of a step; the first of them prints its words and none does anything."""
    to = Writer("container/c", "c", V1, {})
    RENDERERS[type(step)](step, to)
    return "\n".join(line for function in to.functions for line in function.lines)


STUBS = """
set -f
BASH=bash SELF=self own=/own s1=/one LOG=log privileges=(p) directory=d REPLY=reply
say() { builtin printf '%s\\0' "$@"; }
for each in exec inside attach mkdir check within mount park mknod ln rm chmod mask protect ready; do
  eval "$each() { say \\"\\$@\\"; }"
done
printf() { shift; say "$@"; }
"""


@settings(deadline=None, max_examples=25)
@given(texts, texts)
@example("$(id)", "a\nb'")
def test_words_of_others_stay_words_in_every_step(one: str, two: str) -> None:
    path = f"/{one}"
    steps: list[tuple[s.Step, list[str]]] = [
        (s.Attach(slot=1, path=path, root=1), [path]),
        (s.OpenTree(slot=1, path=path, inside=two), [two] if two else []),
        (s.Mkdir(path=path, root=1, parents=True), [path]),
        (s.Mknod(path=path, root=1, major=1, minor=3), [path]),
        (s.Chdir(path=path), []),
        (s.MaskPaths(root=1, paths=(path, f"/{two}")), [path, f"/{two}"]),
        (s.Exec(candidates=(), argv=("sh", two), env=(f"A={one}",)), [f"A={one}", "sh", two]),
    ]
    for step, wanted in steps:
        text = written(step)
        assert text.isascii() and all(c.isprintable() or c == "\n" for c in text)
        said = bash(STUBS + text)
        for word in wanted:
            assert raw(word) in said, (step, text)


def test_what_env_cannot_execute_is_refused() -> None:
    with pytest.raises(UsageError, match="= in its name"):
        written(s.Exec(candidates=(), argv=("a=b",), env=()))


# ---- scripts ----------------------------------------------------------------------------------------------------


def handmade(of: Pod, **changes: Any) -> Handmade:
    config, cgroup, _ = own_names(Config(), "default", "web")
    plan = plan_of(of, {}, "pod\n.yaml", changes.pop("facts", V1))
    return Handmade(plan, config, cgroup, V1, frozenset(), **changes)


def hostile() -> Pod:
    mounts = [VolumeMount(name="v", mount_path=f"/m/{i}{x}") for i, x in enumerate(HOSTILE)]
    one = Container(
        name="app",
        image="$(id)\n`id`",
        command=["/bin/app", *HOSTILE],
        working_dir="/$(id)/\n'",
        env=[EnvVar(name=f"N{i}", value=x) for i, x in enumerate(HOSTILE)],
        volume_mounts=mounts,
    )
    return pod(one, volumes=[Volume(name="v", config_map=Keys(name="c"))])


PODS: dict[str, Callable[[], Pod]] = {
    "plain": pod,
    "hostile": hostile,
    "host": lambda: pod(host_network=True, host_pid=True, host_ipc=True),
    "shared": lambda: pod(share_process_namespace=True),
    "tty": lambda: pod(Container(name="app", image="i", command=["a"], tty=True, stdin=True)),
}


@pytest.mark.parametrize("name", PODS)
@pytest.mark.parametrize("facts", [V1, V2], ids=["v1", "v2"])
def test_a_script_is_one_that_bash_can_read(name: str, facts: Any) -> None:
    files = (
        {"v": {f"k{i}": File(raw(x), 0o644) for i, x in enumerate(HOSTILE)}}
        if name == "hostile"
        else {}
    )
    made = handmade(PODS[name](), facts=facts, files=files, group=5)
    for text in (script(made), teardown(made)):
        assert text.isascii()
        done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_shellcheck_has_nothing_to_say() -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("no shellcheck: install the package of this name")
    for name in ("plain", "hostile"):
        made = handmade(PODS[name]())
        for text in (script(made), teardown(made)):
            done = subprocess.run(["shellcheck", "-"], input=text, capture_output=True, text=True)
            assert (done.returncode, done.stdout) == (0, "")


def test_what_cannot_be_written_is_said_at_the_step_and_in_the_head() -> None:
    text = script(handmade(pod()))
    head, _, steps = text.partition("# ---- the steps")
    for words in (
        "seccomp",
        "session keyring",
        "PR_SET_DUMPABLE",
        "restarts, probes",
        "logs as the kubelet's",
    ):
        assert words in head
    for words in ("NOT IN THIS SCRIPT: seccomp", "NOT IN THIS SCRIPT: a session keyring"):
        assert words in steps


def test_a_user_namespace_is_refused() -> None:
    from minipod.plan.context import Users

    to = Writer("pause", "pause", V1, {})
    made = s.MakeUserNamespace(slot=1, proc=1, first=Users(65536).first, count=65536)
    with pytest.raises(UsageError, match="hostUsers"):
        RENDERERS[s.MakeUserNamespace](made, to)


def test_names_are_a_scripts_own() -> None:
    config, cgroup, uid = own_names(Config(), "default", "web")
    other, *_ = own_names(Config(), "default", "web2")
    own = (config.root_dir, config.run_dir, config.log_dir, config.bridge, config.nft_table, cgroup)
    assert not set(own) & set(Config()) and not set(own) & set(other)
    assert len(config.bridge) < 16 and own_names(Config(), "default", "web")[2] == uid


# ---- what the steps are made of ---------------------------------------------------------------------------------


def inside(root: Path, path: str, *strict: str) -> subprocess.CompletedProcess[str]:
    """Look *path* up below *root*, as the script does."""
    text = f"set -eu\nSELF=s\n{parts.COMMON}\n{parts.HELPERS}\n"
    text += f"inside {quote(str(root))} {quote(path)} {' '.join(strict)}\nprintf '%s' \"$REPLY\"\n"
    return subprocess.run(["bash", "-c", text], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/etc/hosts", "/etc/hosts"),
        ("/etc/../../../etc//./x", "/etc/x"),
        ("/up/passwd", "/passwd"),
        ("/abs/x", "/etc/x"),
        ("/chain/x", "/etc/x"),
        ("/out", "/etc/shadow"),
        ("/odd/x", "/a b\n/x"),
        ("/missing/../y", "/y"),
    ],
)
def test_a_path_never_leads_out_of_its_root(tmp_path: Path, path: str, found: str) -> None:
    for link, target in {
        "up": "../../../../..",
        "abs": "/etc",
        "chain": "sub/../abs",
        "out": "/etc/../../../etc/shadow",
        "odd": "a b\n",
    }.items():
        (tmp_path / link).symlink_to(target)
    (tmp_path / "sub").mkdir()
    (tmp_path / "etc").mkdir()
    done = inside(tmp_path, path)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}{found}"), done.stderr


def test_links_that_are_not_allowed_or_lead_to_themselves_are_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "etc").symlink_to("usr")
    assert "too many" in inside(tmp_path, "/loop/x").stderr
    assert "symbolic link" in inside(tmp_path, "/etc/x", "strict").stderr
    assert inside(tmp_path, "/usr/x", "strict").returncode == 0
