# SPDX-License-Identifier: GPL-3.0-or-later
"""Running nft on a text, as one atomic transaction.

The text form rather than JSON, because nft says where a text is wrong and not where JSON is; the tool rather
than libnftables, because a process of its own cannot bring the agent down.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil

from minipod.config import HELPER_ENV
from minipod.errors import MinipodError

_PATH = HELPER_ENV["PATH"]
_ERROR = re.compile(r"^[^:\n]*:(?P<line>\d+):[\d-]+: Error: (?P<message>.*)$", re.MULTILINE)


class NftError(MinipodError):
    """nft refused a transaction; nothing of it was applied.

    Attributes:
        message: nft's own words.
        line: the line of *text*, from 1; 0 when nft named none.
        text: the whole text that was refused.
        exists: something that should be created is there.
        missing: something that should be changed is not there.
    """

    def __init__(self, output: str, text: str) -> None:
        found = _ERROR.search(output)
        self.message = found["message"] if found else output.strip() or "nft failed without a word"
        self.line = int(found["line"]) if found else 0
        self.text = text
        self.exists = os.strerror(errno.EEXIST) in self.message
        # Not only the end: nft may go on with "; did you mean table …".
        self.missing = os.strerror(errno.ENOENT) in self.message
        lines = text.splitlines()
        place = (
            f" in line {self.line}: {lines[self.line - 1].strip()}"
            if 0 < self.line <= len(lines)
            else ""
        )
        super().__init__(
            f"nft: {self.message}{place}",
            "check `nft list ruleset`, and that nf_tables is in the kernel",
        )


async def apply(text: str) -> None:
    """Run ``nft -f -`` on *text*.

    Raises:
        NftError: nft refused it; the ruleset is as it was.
        MinipodError: there is no nft.
    """
    process = await asyncio.create_subprocess_exec(
        _program(),
        "-f",
        "-",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        cwd="/",
        env=HELPER_ENV,
    )
    _, output = await process.communicate(text.encode())
    if process.returncode != 0:
        raise NftError(output.decode(errors="replace"), text)


async def listing(*what: str) -> str:
    """Return what ``nft -j list WHAT`` says, as JSON text.

    Raises:
        NftError: nft refused; there is no such table, say.
        MinipodError: there is no nft.
    """
    return await _output(_program(), "-j", "list", *what)


async def legacy_forward() -> str:
    """Return the rules of iptables' legacy FORWARD chain, which nft does not see; "" when nobody uses it."""
    program = shutil.which("iptables-legacy", path=_PATH)
    try:
        # The tables that the kernel has; asking iptables itself would make one.
        with open("/proc/net/ip_tables_names") as file:
            used = "filter" in file.read().split()
    except OSError:
        used = False
    if not used or program is None:
        return ""
    try:
        return await _output(program, "-w", "1", "-S", "FORWARD")
    except NftError:
        return ""


def _program() -> str:
    program = shutil.which("nft", path=_PATH)
    if program is None:
        raise MinipodError(f"there is no nft in {_PATH}", "install the package nftables")
    return program


async def _output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd="/",
        env=HELPER_ENV,
    )
    output, complaint = await process.communicate()
    if process.returncode != 0:
        raise NftError(complaint.decode(errors="replace"), " ".join(command))
    return output.decode(errors="replace")
