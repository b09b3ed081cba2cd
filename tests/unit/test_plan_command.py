# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container executes: ``$(VAR)``, command and args, the environment, the search along PATH."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minipod.api import Container
from minipod.plan.command import MAX_WORD, MAX_WORDS, TooLong, argv, candidates, environment, expand
from tests.unit.test_plan_checker import run

VARIABLES = {"VAR_A": "A", "VAR_B": "B", "VAR_C": "C", "VAR_REF": "$(VAR_A)", "VAR_EMPTY": ""}


# k8s.io/kubernetes/third_party/forked/golang/expansion/expand_test.go
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("$(VAR_A)", "A"),
        ("___$(VAR_B)___", "___B___"),
        ("___$(VAR_C)", "___C"),
        ("$(VAR_A)_$(VAR_B)_$(VAR_C)", "A_B_C"),
        ("$$(VAR_B)_$(VAR_A)", "$(VAR_B)_A"),
        ("$$(VAR_A)_$$(VAR_B)", "$(VAR_A)_$(VAR_B)"),
        ("f000-$$VAR_A", "f000-$VAR_A"),
        ("foo\\$(VAR_C)bar", "foo\\Cbar"),
        ("foo\\\\$(VAR_C)bar", "foo\\\\Cbar"),
        ("foo\\\\\\\\$(VAR_A)bar", "foo\\\\\\\\Abar"),
        ("$(VAR_A$(VAR_B))", "$(VAR_A$(VAR_B))"),
        ("$(VAR_A$(VAR_B)", "$(VAR_A$(VAR_B)"),
        ("$(VAR_REF)", "$(VAR_A)"),
        ("%%$(VAR_REF)--$(VAR_REF)%%", "%%$(VAR_A)--$(VAR_A)%%"),
        ("foo$(VAR_EMPTY)bar", "foobar"),
        ("foo$(VAR_Awhoops!", "foo$(VAR_Awhoops!"),
        ("f00__(VAR_A)__", "f00__(VAR_A)__"),
        ("$?_boo_$!", "$?_boo_$!"),
        ("$VAR_A", "$VAR_A"),
        ("$(VAR_DNE)", "$(VAR_DNE)"),
        ("$$$$$$(BIG_MONEY)", "$$$(BIG_MONEY)"),
        ("$$$$$$(VAR_A)", "$$$(VAR_A)"),
        ("$$$$$$$(GOOD_ODDS)", "$$$$(GOOD_ODDS)"),
        ("$$$$$$$(VAR_A)", "$$$A"),
        ("$VAR_A)", "$VAR_A)"),
        ("${VAR_A}", "${VAR_A}"),
        ("$(VAR_B)_______$(A", "B_______$(A"),
        ("$(VAR_C)_______$(", "C_______$("),
        ("$(VAR_A)foobarzab$", "Afoobarzab$"),
        ("foo-\\$(VAR_A", "foo-\\$(VAR_A"),
        ("--$($($($($--", "--$($($($($--"),
        ("$($($($($--foo$(", "$($($($($--foo$("),
        ("foo0--$($($($(", "foo0--$($($($("),
        ("$(foo$$var)", "$(foo$$var)"),
        ("\n$(VAR_A)\n", "\nA\n"),
        ("$(A\nB)", "$(A\nB)"),
    ],
)
def test_expand_as_kubernetes_does(text: str, expected: str) -> None:
    assert expand(text, VARIABLES) == expected


def reference(text: str, variables: dict[str, str]) -> str:
    """Expand as the kubelet's ``expansion.Expand`` does: read one operator after the other."""
    result, at = "", 0
    while at < len(text):
        if text[at] != "$" or at + 1 == len(text):
            result += text[at]
            at += 1
        elif text[at + 1] == "$":
            result += "$"
            at += 2
        elif text[at + 1] == "(" and ")" in text[at:]:
            end = text.index(")", at)
            name = text[at + 2 : end]
            result += variables.get(name, f"$({name})")
            at = end + 1
        else:
            result += text[at : at + 2]
            at += 2
    return result


@given(st.text("$()AB_ \\", max_size=24))
def test_expand_agrees_with_the_kubelets_reader(text: str) -> None:
    variables = {"A": "a", "B": "$(A)", "AB": "", "": "nothing"}
    assert expand(text, variables) == reference(text, variables)


@given(st.text(max_size=40))
def test_text_without_dollars_is_left_alone(text: str) -> None:
    plain = text.replace("$", "")
    assert expand(plain, VARIABLES) == plain
    assert expand(plain.replace("(", "$$("), VARIABLES) == plain.replace("(", "$(")


# Kubernetes, "Define a Command and Arguments for a Container": image entrypoint [/ep], cmd [foo, bar].
@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [
        ([], [], ("/ep", "foo", "bar")),
        (["/c"], [], ("/c",)),
        ([], ["zoo"], ("/ep", "zoo")),
        (["/c"], ["zoo"], ("/c", "zoo")),
        (["/c", "x"], ["y", "z"], ("/c", "x", "y", "z")),
    ],
)
def test_command_and_args(command: list[str], args: list[str], expected: tuple[str, ...]) -> None:
    assert argv(Container(command=command, args=args), ("/ep",), ("foo", "bar"), {}) == expected


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "expected"),
    [((), (), ()), (("/ep",), (), ("/ep",)), ((), ("sh",), ("sh",))],
)
def test_images_with_less(
    entrypoint: tuple[str, ...], cmd: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert argv(Container(), entrypoint, cmd, {}) == expected


def test_only_the_manifests_words_are_expanded() -> None:
    variables = {"A": "a"}
    assert argv(Container(), ("$(A)",), ("$(A)",), variables) == ("$(A)", "$(A)")
    made = argv(Container(command=["$(A)"], args=["$(A)"]), (), (), variables)
    assert made == ("a", "a")
    assert argv(Container(args=["$(A)"]), ("$(A)",), (), variables) == ("$(A)", "a")


def test_the_environment_is_runtime_then_image_then_manifest() -> None:
    image = ("PATH=/i", "LANG=C", "X=a=b")
    made = environment(Container(), run(image_env=image, env={"LANG": "de", "MINE": "x"}), "web")
    assert made == {
        "PATH": "/i",
        "HOSTNAME": "web",
        "LANG": "de",
        "X": "a=b",
        "MINE": "x",
        "HOME": "/home/someone",
    }


@pytest.mark.parametrize(
    ("image", "manifest", "expected"),
    [
        ((), {}, "/home/someone"),
        (("HOME=/image",), {}, "/image"),
        (("HOME=/image",), {"HOME": "/mine"}, "/mine"),
        ((), {"HOME": ""}, ""),
    ],
)
def test_home(image: tuple[str, ...], manifest: dict[str, str], expected: str) -> None:
    made = environment(Container(), run(image_env=image, env=manifest), "web")
    assert made["HOME"] == expected


def test_defaults_of_the_runtime() -> None:
    made = environment(Container(tty=True), run(image_env=()), "web")
    assert made["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert (made["TERM"], made["HOSTNAME"]) == ("xterm", "web")
    assert "TERM" not in environment(Container(), run(), "web")
    mine = {"TERM": "vt100", "HOSTNAME": "other"}
    made = environment(Container(tty=True), run(env=mine), "web")
    assert (made["TERM"], made["HOSTNAME"]) == ("vt100", "other")


@pytest.mark.parametrize(
    ("program", "path", "expected"),
    [
        ("/bin/sh", "/usr/bin", ("/bin/sh",)),
        ("./run", "/usr/bin", ("./run",)),
        ("bin/run", "/usr/bin", ("bin/run",)),
        ("sh", "/a:/b", ("/a/sh", "/b/sh")),
        ("sh", "/a", ("/a/sh",)),
        ("sh", "", ()),
        ("sh", ":/a:", ("/a/sh",)),  # an empty entry means the working directory: never searched
        ("sh", "bin:/a:../b", ("/a/sh",)),  # nor one that depends on it
    ],
)
def test_candidates(program: str, path: str, expected: tuple[str, ...]) -> None:
    assert candidates(program, path) == expected


def test_words_that_grow_without_end() -> None:
    variables = {"A": "x" * (MAX_WORD // 2)}
    assert len(expand("$(A)$(A)", variables)) == MAX_WORD
    with pytest.raises(TooLong, match="has more than 131072 bytes"):
        expand("$(A)$(A)." * 100_000, variables)


def test_all_words_together_have_an_end() -> None:
    env = {"A": "x" * MAX_WORD}
    fitting = MAX_WORDS // MAX_WORD
    assert len(argv(Container(name="c", args=["$(A)"] * fitting), (), (), env)) == fitting
    with pytest.raises(TooLong, match="together"):
        argv(Container(name="c", command=["true"], args=["$(A)"] * fitting), (), (), env)
