# SPDX-License-Identifier: GPL-3.0-or-later
"""The times that the C core tells of a launch: one for each step, in order, on the clock that we read, too."""

from __future__ import annotations

import time

from minipod.plan import steps as s
from tests.features import requires
from tests.shimkit import Kit, finish

pytest_plugins = ("tests.root.native_fixtures",)
pytestmark = requires("root", "namespaces")

STEPS = (
    s.Harden(),
    s.Unshare(namespaces=("uts",)),
    s.NewSession(),
    s.SetHostname(name="marked"),
    *finish("/bin/true"),
)


async def test_every_step_has_its_mark(kit: Kit) -> None:
    before = time.monotonic_ns()
    process = await kit.launch(STEPS, "p/0", timed=True)
    after = time.monotonic_ns()
    # asked for, begun, each step over; the last one is the exec, as the shim saw it
    assert len(process.marks) == 2 + len(STEPS)
    assert list(process.marks) == sorted(process.marks)
    assert before <= process.marks[0] and process.marks[-1] <= after
    await kit.exit("p/0")


async def test_a_launch_that_is_not_timed_has_none(kit: Kit) -> None:
    assert (await kit.launch(STEPS, "p/0")).marks == ()
    await kit.exit("p/0")


async def test_a_failure_tells_the_times_until_it(kit: Kit) -> None:
    nowhere = (s.Harden(), s.NewSession(), s.Chdir(path="/no/such/place"), *finish("/bin/true"))
    for broken in (nowhere, finish("/no/such/program")):
        failure = await kit.failure(broken, timed=True)
        assert (failure.step, len(failure.marks)) == (2, 2 + 2)


async def test_as_many_as_a_plan_may_have(kit: Kit) -> None:
    many = (*(s.Harden() for _ in range(4093)), *finish("/bin/true"))
    assert len(many) == 4096
    process = await kit.launch(many, "p/0", timed=True)
    assert len(process.marks) == 4098
    assert list(process.marks) == sorted(process.marks)
    await kit.exit("p/0")
