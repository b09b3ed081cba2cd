# SPDX-License-Identifier: GPL-3.0-or-later
"""Mutated plans against plan_validate(), under AddressSanitizer and UBSan: a bounded, repeatable round of it.

The target is tests/fuzz/plan.c, which says how to let libFuzzer have a go at it for longer.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from minipod.plan import steps as s
from tests.features import requires
from tests.instance import TOP
from tests.shimkit import finish, packed

SOURCES = ("tests/fuzz/plan.c", "native/plan.c")
ROUNDS = 150_000

# Every kind of operand, few strings, so that a mutation often hits something that matters.
PLANS = {
    "lists": (
        s.NewFilesystem(slot=9, type="tmpfs", options=("mode=0755", "size=1m")),
        s.NewOverlay(slot=9, lower=("/a", "/b"), upper="/u", work="/w", scratch="/s"),
        s.MaskPaths(root=9, paths=("/proc/a", "/proc/b")),
        s.ReadonlyPaths(root=9, paths=("/proc/a",)),
        *finish("/bin/true", "x", "y"),
    ),
    "blobs": (
        s.WriteFile(path="/f", root=9, content="some content"),
        s.SetIdentity(uid=1, gid=2, groups=(3, 4, 5)),
        s.LoadSeccomp(program=bytes(32), profile="-"),
        s.ExecPause(slot=5, argv=("a", "b")),
    ),
    "strings": (
        s.JoinCgroup(directory="/d"),
        s.Attach(slot=9, path="/p", root=9),
        s.Symlink(path="/p", target="/t", root=9),
        s.Sysctl(proc=9, name="a.b", value="1"),
        s.SetHostname(name="h"),
        s.LinkUp(name="lo"),
        s.Chdir(path="/"),
        *finish("/bin/true"),
    ),
    "numbers": (
        s.MakeUserNamespace(proc=9, slot=10, first=65536, count=65536),
        s.OwnFiles(uid=65536, gid=65536),
        s.EnterUserNamespace(slot=10),
        s.OpenTree(slot=9, path="/v", inside="a/b", users=10, attributes=("ro",)),
        s.NewOverlay(slot=9, lower=("/a",), scratch="/s", legacy=True, users=10),
        s.SetNs(pidfd=9, of="-", namespaces=("net",)),
        s.Mknod(path="/n", root=9, major=1, minor=3, owner=(1, 2)),
        s.OpenPty(slot=9, root=9, rows=24, columns=80),
        s.OwnStdio(uid=3),
        *finish("/bin/true"),
    ),
    "least": (s.Exec(candidates=(), argv=("a",), env=()),),
}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("fuzz") / "plan"
    flags = "-std=gnu17 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Werror -fsanitize=address,undefined"
    command = ["gcc", *flags.split(), "-fno-sanitize-recover=all", "-I", str(TOP / "native")]
    command += [*(str(TOP / source) for source in SOURCES), "-o", str(program)]
    subprocess.run(command, check=True)
    return program


@requires("tool:gcc")
@pytest.mark.parametrize("name", PLANS)
def test_mutated_plans(target: Path, tmp_path: Path, name: str) -> None:
    plan = tmp_path / name
    plan.write_bytes(packed("p/0", PLANS[name], log_path="/log", join="p/1"))
    done = subprocess.run(
        [target, str(ROUNDS), "2026", plan], capture_output=True, text=True, errors="replace"
    )
    assert done.returncode == 0, done.stderr
    accepted = int(done.stdout)
    # The original, and many mutants that are still in form: else the mutations are too wild to mean anything.
    assert ROUNDS // 100 < accepted < ROUNDS // 2
