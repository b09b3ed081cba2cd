# SPDX-License-Identifier: GPL-3.0-or-later
"""The README's two commands on machines that have git, sudo and ssh, and nothing else; as a user who may use sudo.

With MINIPOD_TEST_VM_ALL=1 (make test-vm) only: with an emulated CPU it takes an hour each, most of it apt's.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm.image import Kind, image
from tests.vm.login import Login
from tests.vm.pods import ALL, SYSTEMS, in_vm
from tests.vm.recipe import TOP
from tests.vm.release import RELEASES

pytestmark = [in_vm, pytest.mark.requires("tool:ssh", "tool:ssh-keygen")]

BOOTSTRAP = "sudo apt-get update && sudo apt-get install -y make"
MINUTE = 60.0
HELLO = "Hello from a pod"


# Left out, not skipped: a skip would be a failure where skips are.
if ALL:

    @pytest.fixture(scope="module", params=SYSTEMS)
    def bare(request: pytest.FixtureRequest) -> Iterator[Login]:
        """A fresh machine with a copy of this checkout."""
        login = Login(image(RELEASES[request.param], Kind.BARE))
        try:
            login.copy_checkout()
            login.run("sudo dpkg --purge busybox-static")  # what its own boot is made of
            yield login
        finally:
            login.stop()

    def test_the_two_commands(bare: Login) -> None:
        assert BOOTSTRAP in (TOP / "README.md").read_text()
        absent = "for p in make gcc cc pip nft ip curl; do ! command -v $p || exit 1; done"
        bare.run(f'{absent}; test "$(id -u)" = 1000')
        bare.run(BOOTSTRAP, timeout=20 * MINUTE)
        first = bare.run("cd minipod && make run", timeout=60 * MINUTE).stdout.decode()
        assert HELLO in first
        second = bare.run("cd minipod && make run", timeout=10 * MINUTE).stdout.decode()
        assert HELLO in second and "installing" not in second and "filling" not in second
        bare.run("cd minipod && sudo .venv/bin/minipod doctor")
        refused = bare.run("cd minipod && .venv/bin/minipod get pods", check=False)
        assert refused.returncode == 1
        advice = refused.stdout.decode().splitlines()[-1].removeprefix("  hint: ")
        assert "hello" in bare.run(f"cd minipod && {advice}").stdout.decode()
        bare.run("cd minipod && make test-setup", timeout=60 * MINUTE)
        done = bare.run(
            "cd minipod && make test ARGS=tests/unit/test_layers.py", timeout=20 * MINUTE
        )
        assert " passed" in done.stdout.decode()
