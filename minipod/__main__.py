# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m minipod`` is ``minipod``."""

from __future__ import annotations

import sys

from minipod.cli.main import main

sys.exit(main())
