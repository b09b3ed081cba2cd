# SPDX-License-Identifier: GPL-3.0-or-later
"""Signals by their names, as images and manifests write them."""

from __future__ import annotations

import re
import signal

_REAL_TIME = re.compile(r"RTM(?:IN\+|AX-)([0-9]{1,2})")


def parse_signal(name: str) -> int:
    """Return the number of an image's ``StopSignal``: "SIGQUIT", "QUIT", "3", "SIGRTMIN+3".

    What means no signal is SIGTERM, as nothing is: an image is hostile input.
    """
    short = name.upper().removeprefix("SIG")
    if re.fullmatch("[0-9]{1,2}", name):
        number = int(name)
    elif match := _REAL_TIME.fullmatch(short):
        offset = int(match[1])
        number = signal.SIGRTMIN + offset if "+" in short else signal.SIGRTMAX - offset
    else:
        number = signal.Signals.__members__.get(f"SIG{short}", signal.SIGTERM)
    return int(number) if 0 < number <= signal.SIGRTMAX else int(signal.SIGTERM)
