# SPDX-License-Identifier: GPL-3.0-or-later
"""Who a container runs as: an image's or a manifest's user, looked up in the image's own passwd and group files.

The files are hostile input: they are read from the layers, without a mount, without following a symlink, up to a bound
(CVE-2022-31030, CVE-2024-40635). A line that makes no sense does not count.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from minipod.errors import MinipodError, NotFound, UsageError
from minipod.images.catalog import Image
from minipod.native import RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS, openat2

MAX_ID = (1 << 31) - 1
MAX_FILE = 10 << 20

_OPAQUE = "trusted.overlay.opaque"
_NUMBER = re.compile(r"[0-9]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_RESOLVE = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS


@dataclass(frozen=True, slots=True)
class Identity:
    """What a process's credentials are to be.

    Attributes:
        uid: the user.
        gid: the primary group.
        groups: the groups that the image's group file adds, sorted, without the primary one.
        home: the home directory; absolute.
    """

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


@dataclass(frozen=True, slots=True)
class _User:
    name: str
    uid: int
    gid: int
    home: str


def parse_id(text: str) -> int:
    """Return the uid or gid that *text* is the decimal number of; the only parser for them.

    Raises:
        UsageError: it is no number from 0 to 2^31-1.
    """
    if not _NUMBER.fullmatch(text) or len(text) > 10 or int(text) > MAX_ID:
        raise UsageError(
            f"user or group id {text[:40]!r} is not from 0 to {MAX_ID}", "use a smaller id"
        )
    return int(text)


def resolve_user(image: Image, user: str) -> Identity:
    """Return the identity that *user* means in *image*.

    As containerd does: digits are a number, all else is a name; an empty *user* is 0; a user's supplementary groups are
    those of ``/etc/group`` that list their name, also when *user* gives a group. A number that is not in the files
    stands for itself, with group 0 and the home ``/``.

    Args:
        image: whose files are read.
        user: empty, ``name``, ``uid``, ``name:group`` or ``uid:gid``; also mixed.

    Raises:
        NotFound: the image has no such user or group.
        UsageError: *user* is not written like that, or a number is out of range.
        MinipodError: a file is too large, or cannot be read.
    """
    name, colon, group = user.partition(":")
    if _CONTROL.search(user) or ":" in group or (colon and not group):
        raise UsageError(f"invalid user {user!r}", "write it as user, uid, user:group or uid:gid")
    name = name or "0"
    uid = parse_id(name) if _NUMBER.fullmatch(name) else None
    found = next(
        (u for u in _users(image) if (u.uid == uid if uid is not None else u.name == name)), None
    )
    if found is None:
        if uid is None:
            raise NotFound(
                f"user {name!r} is not in /etc/passwd of image {image.reference}",
                "use a numeric uid",
            )
        found = _User("", uid, 0, "/")
    gid, groups = found.gid, set()
    wanted_gid = parse_id(group) if _NUMBER.fullmatch(group) else None
    named_gid: int | None = None
    for group_name, group_gid, members in _groups(image):
        if found.name and found.name in members:
            groups.add(group_gid)
        if named_gid is None and group_name == group:
            named_gid = group_gid
    if group and wanted_gid is None and named_gid is None:
        raise NotFound(
            f"group {group!r} is not in /etc/group of image {image.reference}", "use a numeric gid"
        )
    if group:
        gid = wanted_gid if wanted_gid is not None else named_gid or 0
    return Identity(found.uid, gid, tuple(sorted(groups - {gid})), found.home)


def _users(image: Image) -> Iterator[_User]:
    for fields in _lines(image, "passwd", 6):
        uid, gid = _id_or_none(fields[2]), _id_or_none(fields[3])
        if fields[0] and uid is not None and gid is not None:
            home = (
                fields[5] if fields[5].startswith("/") and not _CONTROL.search(fields[5]) else "/"
            )
            yield _User(fields[0], uid, gid, home)


def _groups(image: Image) -> Iterator[tuple[str, int, frozenset[str]]]:
    for fields in _lines(image, "group", 3):
        gid = _id_or_none(fields[2])
        if fields[0] and gid is not None:
            members = fields[3].split(",") if len(fields) > 3 else []
            yield fields[0], gid, frozenset(member.strip() for member in members)


def _id_or_none(text: str) -> int | None:
    try:
        return parse_id(text)
    except UsageError:
        return None


def _lines(image: Image, name: str, least: int) -> Iterator[list[str]]:
    """Yield the colon-separated lines of ``/etc/<name>`` that have at least *least* fields."""
    try:
        data = _read(image.layers, name)
    except OSError as error:
        raise MinipodError(
            f"image {image.reference}: /etc/{name}: {error.strerror or error}", "load it again"
        ) from error
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.rstrip("\r").split(":")
        if len(fields) >= least and not line.startswith("#"):
            yield fields


def _read(layers: Sequence[str], name: str) -> bytes:
    """Return ``/etc/<name>`` as a container of these layers (bottom first) reads it; nothing when there is none."""
    for layer in reversed(layers):
        root = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            data = _read_from(root, name)
        finally:
            os.close(root)
        if data is not None:
            return data
    return b""


def _read_from(root: int, name: str) -> bytes | None:
    """Return the file as one layer has it: empty when the layer hides it, None when a layer below may have it."""
    for path in ("etc", f"etc/{name}"):
        try:
            # O_NONBLOCK: opening a FIFO would wait. A whiteout, as any device, is opened as a path only.
            fd = openat2(root, path, os.O_PATH | os.O_NOFOLLOW, resolve=_RESOLVE)
        except FileNotFoundError:
            hides_below = _is_opaque(root, ".") or (path != "etc" and _is_opaque(root, "etc"))
            return b"" if hides_below else None
        except OSError:
            return b""
        mode = os.fstat(fd).st_mode
        os.close(fd)
        if not (stat.S_ISDIR(mode) if path == "etc" else stat.S_ISREG(mode)):
            return b""
    fd = openat2(root, f"etc/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, resolve=_RESOLVE)
    with open(fd, "rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise OSError(f"has more than {MAX_FILE} bytes")
    return data


def _is_opaque(root: int, path: str) -> bool:
    fd = openat2(root, path, os.O_RDONLY | os.O_DIRECTORY, resolve=_RESOLVE)
    try:
        return os.getxattr(fd, _OPAQUE) == b"y"
    except OSError:
        return False
    finally:
        os.close(fd)
