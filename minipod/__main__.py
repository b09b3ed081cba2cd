# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m minipod`` is ``minipod``."""

from __future__ import annotations

from minipod.cli.main import entry

entry()
