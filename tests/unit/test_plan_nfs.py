# SPDX-License-Identifier: GPL-3.0-or-later
"""Network volumes: what is asked of the kernel for a server, a path and options."""

from __future__ import annotations

from dataclasses import replace

import pytest

from minipod.api import NFSVolumeSource, Volume
from minipod.plan import compile_sandbox
from minipod.plan import steps as s
from minipod.plan.context import NfsMount
from tests.unit.test_plan_checker import V2, check, context, launch_of, pod


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ((), ("addr=192.0.2.1", "vers=4.2")),
        (("soft", "rsize=4096"), ("addr=192.0.2.1", "soft", "rsize=4096", "vers=4.2")),
        (("nfsvers=4.1",), ("addr=192.0.2.1", "vers=4.1")),
    ],
)
def test_it_is_mounted_once_for_the_pod(given: tuple[str, ...], options: tuple[str, ...]) -> None:
    of = pod(volumes=[Volume("v", nfs=NFSVolumeSource("server", "/export"))])
    mount = NfsMount("192.0.2.1", "server:/export", given)
    launch = launch_of(compile_sandbox(of, replace(context(of), nfs={"v": mount}), V2))
    check(launch)
    kinds = [type(step) for step in launch.steps]
    (made,) = (x for x in launch.steps if isinstance(x, s.NewFilesystem) and x.type == "nfs")
    assert (made.name, made.options, made.source) == ("server:/export", options, "spec.volumes[0]")
    (attached,) = (x for x in launch.steps if isinstance(x, s.Attach) and x.path == "/volumes/v")
    assert attached.slot == made.slot and attached.no_symlinks
    # In the network of the host: the pod's own need not reach the server.
    assert launch.steps.index(made) < kinds.index(s.Unshare)
