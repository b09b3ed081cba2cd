# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m minipod.agent``: the agent as a process."""

import sys

from minipod.agent.main import main

sys.exit(main())
