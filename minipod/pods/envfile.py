# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of variables (KEP-3721): ``NAME='value'`` lines, as in a shell; and how they are read safely.

A container wrote the file and may write it while we read: it is hostile input, of a bounded size.
"""

from __future__ import annotations

import os
import stat

from minipod.native import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2

MAX_FILE = 1024 * 1024
_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
_BLANK = " \t"


def read_below(directory: int, path: str) -> bytes | None:
    """Return the bytes of the regular file at *path* below the directory behind an fd; None when there is none.

    No symbolic link is followed, none of *path*'s directories either, and nothing that is no file is opened for long.

    Raises:
        ValueError: it is no regular file, or larger than :data:`MAX_FILE`.
        OSError: it cannot be read.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
    try:
        fd = openat2(directory, path, flags, resolve=_RESOLVE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("it is no regular file")
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ValueError(f"it is larger than {MAX_FILE} bytes")
    return data


def find_key(data: bytes, key: str) -> str:
    """Return the value of *key*, or ``""`` when it is not there; lines behind it are not looked at.

    The value is in single quotes, over several lines if need be, and is taken as it is. Blank lines and those that
    begin with ``#`` do not count, nor what follows ``#`` behind the value.

    Raises:
        ValueError: a line is none of these; words say which.
    """
    lines = data.decode(errors="surrogateescape").split("\n")
    number = 0
    while number < len(lines):
        line = lines[number].removesuffix("\r").lstrip(_BLANK)
        number += 1
        if not line or line.startswith("#"):
            continue
        name, sign, rest = line.partition("=")
        if not sign or not name:
            raise ValueError(
                f"line {number} has no {'name before the' if sign else ''} =".replace("  ", " ")
            )
        if name != name.rstrip(_BLANK):
            raise ValueError(f"line {number} has white space before the =")
        if rest[:1] in (" ", "\t"):
            value = ""  # as a shell has it: an empty value, and then a command
        else:
            value, number = _quoted(rest, lines, number)
        if name == key:
            if "\0" in value:
                raise ValueError("the value has a NUL byte")
            return value
    return ""


def _quoted(rest: str, lines: list[str], number: int) -> tuple[str, int]:
    """Return the value that begins with *rest*, and the number of the line behind it."""
    first = number
    if not rest.startswith("'"):
        raise ValueError(f"the value on line {number} is not in single quotes")
    rest, parts = rest[1:], []
    while "'" not in rest:
        if number >= len(lines):
            raise ValueError(f"the single quote on line {first} is not closed")
        parts.append(rest)
        rest = lines[number].removesuffix("\r")
        number += 1
    last, _, behind = rest.partition("'")
    behind = behind.strip(_BLANK)
    if behind and not behind.startswith("#"):
        raise ValueError(f"line {number} goes on behind the closing quote")
    return "\n".join([*parts, last]), number
