# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens a TCP connection: that it opens is all that is asked."""

from __future__ import annotations

from minipod.pods.probes.channel import ConnectError, connect
from minipod.pods.probes.outcome import Outcome, Verdict, failure


async def probe(host: str, port: int) -> Outcome:
    """Connect, and hang up."""
    try:
        async with connect(host, port):
            return Outcome(Verdict.SUCCESS)
    except ConnectError as error:
        return failure(str(error))
