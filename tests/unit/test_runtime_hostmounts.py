# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the kernel's table of mounts."""

from __future__ import annotations

from pathlib import Path

from minipod.runtime.hostmounts import HostMount, host_mounts, mount_of

TABLE = """\
1 0 8:1 / / rw shared:1 - ext4 /dev/sda rw
2 1 0:5 / /proc rw,nosuid - proc proc rw
3 1 0:6 / /srv/with\\040space rw master:7 - tmpfs none rw
4 1 0:7 / /srv/x rw shared:2 master:1 propagate_from:3 - tmpfs none rw
5 4 0:8 / /srv/x rw - tmpfs none rw
"""


def test_the_table() -> None:
    assert host_mounts(TABLE) == [
        HostMount("/", True, False),
        HostMount("/proc", False, False),
        HostMount("/srv/with space", False, True),
        HostMount("/srv/x", True, True),
        HostMount("/srv/x", False, False),
    ]


def test_which_mount_a_path_is_on(tmp_path: Path) -> None:
    mounts = host_mounts(TABLE)
    assert mount_of("/none/such", mounts) is mounts[0]
    assert mount_of("/srv/xy", mounts) is mounts[0]
    assert mount_of("/srv/x/y", mounts) is mounts[4], "the last one covers the others"
    assert mount_of("/srv/with space", mounts) is mounts[2]
    (tmp_path / "link").symlink_to("/srv/x/inside")
    assert mount_of(str(tmp_path / "link"), mounts) is mounts[4]
