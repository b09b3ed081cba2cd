# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.vm.prepare RELEASE…``: builds the tests' disks that are not there yet."""

from __future__ import annotations

import os
import signal
import sys

from tests.vm.image import image
from tests.vm.release import RELEASES


def main() -> None:
    """Build one after the other, as something that nobody is in a hurry for."""
    os.nice(10)
    # Not killed by it, but ended: what is half done is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for name in sys.argv[1:]:
        image(RELEASES[name])


if __name__ == "__main__":
    main()
