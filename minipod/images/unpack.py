# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpacks one layer into a directory, in the form that overlayfs stacks (image-spec, layer.md; overlayfs.rst).

A layer is hostile input (CVE-2021-32760, CVE-2025-47290, CVE-2025-4517). Therefore: a parent is opened by
``openat2(RESOLVE_IN_ROOT)``, so that no symlink leads out; a leaf is made relative to that fd, exclusively and without
following; owner, mode and attributes are set on the fd of what was made. Names with ".." and devices are refused.

A directory that a layer uses without an entry for it is made as root's, 0755: a layer is unpacked once, for all images
that stack it, so there is no lower layer to ask.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from minipod.images.bounds import BadImage, Budget
from minipod.images.streams import CHUNK, Stream, write_all
from minipod.images.tar import DIRECTORY, FIFO, HARDLINK, REGULAR, SYMLINK, Entry, read_tar, show
from minipod.images.trees import remove_entry
from minipod.native import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV, openat2

OPAQUE = "trusted.overlay.opaque"
WHITEOUT = b".wh."
OPAQUE_MARKER = b".wh..wh..opq"

_IN_ROOT = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
_PATH_DIR = os.O_PATH | os.O_DIRECTORY
_READ_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_THE_IMAGES_FAULT = frozenset(
    {
        errno.EDQUOT,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EPERM,
        errno.EROFS,
    }
)

_CAPABILITY = b"security.capability"
_NAME_MAX = 255

_Path = tuple[bytes, ...]


def unpack(stream: Stream, root_fd: int, budget: Budget) -> None:
    """Unpack the uncompressed layer *stream* into the empty directory *root_fd*; the caller checks the stream's digest.

    Needs CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_SETFCAP; whiteouts CAP_MKNOD and CAP_SYS_ADMIN.
    What was unpacked before an error stays, for the caller to remove.

    Raises:
        BadImage: an entry is refused; the text names it.
        OSError: the machine says no, as with ENOSPC.
    """
    unpacker = _Unpacker(stream, root_fd)
    try:
        for entry in read_tar(stream):
            budget.spend_entry(entry.name)
            try:
                unpacker.add(entry)
            except OSError as error:
                if error.errno in _NOT_THE_IMAGES_FAULT:
                    raise
                raise BadImage(f"{show(entry.name)}: {error.strerror}") from error
        unpacker.set_directory_times()
    finally:
        unpacker.close()


class _Unpacker:
    """A layer being unpacked."""

    def __init__(self, stream: Stream, root_fd: int) -> None:
        self._stream = stream
        self._root = root_fd
        # Entries come directory by directory: the last parent is nearly always the next one's too.
        self._parent: _Path | None = None
        self._parent_fd = -1
        self._mtimes: dict[bytes, int] = {}

    def close(self) -> None:
        """Close what is held open."""
        if self._parent_fd >= 0:
            os.close(self._parent_fd)
        self._parent, self._parent_fd = None, -1

    def add(self, entry: Entry) -> None:
        """Make what *entry* says."""
        path = _components(entry.name, entry.name)
        if path and path[0].startswith(WHITEOUT + WHITEOUT) and path != (OPAQUE_MARKER,):
            self._stream.skip(
                entry.size
            )  # bookkeeping of aufs, which old versions of Docker left in layers
            return
        if any(part.startswith(WHITEOUT) for part in path[:-1]):
            raise BadImage(f"{show(entry.name)}: is below a whiteout")
        if not path:
            if entry.kind != DIRECTORY:
                raise BadImage(
                    f"{show(entry.name)}: a {entry.kind} in the place of the root directory"
                )
            self._finish_directory(self._root, b".", entry)
            self._mtimes[b"/".join(path)] = entry.mtime_ns
        elif path[-1].startswith(WHITEOUT):
            self._add_whiteout(path, entry)
        else:
            self._add_leaf(path, entry)

    def set_directory_times(self) -> None:
        """Set the times of the directories, which making their entries has changed."""
        for path, mtime in self._mtimes.items():
            above, _, leaf = path.rpartition(b"/")
            try:
                parent = openat2(self._root, above or b".", _PATH_DIR, resolve=_IN_ROOT)
            except OSError:
                continue  # a later entry has replaced it
            try:
                if stat.S_ISDIR(_lstat(parent, leaf or b".")):
                    os.utime(leaf or b".", ns=(mtime, mtime), dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                pass
            finally:
                os.close(parent)

    def _add_leaf(self, path: _Path, entry: Entry) -> None:
        if entry.kind not in (REGULAR, DIRECTORY, SYMLINK, HARDLINK, FIFO):
            raise BadImage(f"{show(entry.name)}: a {entry.kind} is refused in a layer")
        leaf, parent = path[-1], self._open_parent(path[:-1])
        if entry.kind == REGULAR:
            self._add_file(parent, leaf, entry)
        elif entry.kind == DIRECTORY:
            opaque = self._make_directory(parent, leaf)
            self._finish_directory(parent, leaf, entry, opaque=opaque)
            self._mtimes[b"/".join(path)] = entry.mtime_ns
        elif entry.kind == SYMLINK:
            self._add_symlink(parent, leaf, entry)
        elif entry.kind == HARDLINK:
            self._add_hardlink(parent, leaf, entry)
        else:
            self._add_fifo(parent, leaf, entry)

    def _add_file(self, parent: int, leaf: bytes, entry: Entry) -> None:
        fd = self._replacing(parent, leaf, lambda: os.open(leaf, _NEW_FILE, 0o600, dir_fd=parent))
        try:
            left = entry.size
            while left:
                data = self._stream.some(min(left, CHUNK))
                if not data:
                    raise BadImage(f"{show(entry.name)}: layer is cut off")
                left -= len(data)
                write_all(fd, data)
            # The owner first: chown(2) clears setuid, setgid and the capabilities.
            os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode)
            _set_xattrs(fd, entry)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _make_directory(self, parent: int, leaf: bytes) -> bool:
        """Make the directory unless it is there; return whether it takes the place of a whiteout."""
        try:
            os.mkdir(leaf, 0o700, dir_fd=parent)
        except FileExistsError:
            info = os.stat(leaf, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                return False
            self._remove(parent, leaf)
            os.mkdir(leaf, 0o700, dir_fd=parent)
            return stat.S_ISCHR(info.st_mode)
        return False

    def _finish_directory(
        self, parent: int, leaf: bytes, entry: Entry, *, opaque: bool = False
    ) -> None:
        fd = os.open(leaf, _READ_DIR, dir_fd=parent)
        try:
            os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode)
            _set_xattrs(fd, entry)
            if opaque:
                os.setxattr(fd, OPAQUE, b"y")
        finally:
            os.close(fd)

    def _add_symlink(self, parent: int, leaf: bytes, entry: Entry) -> None:
        if not entry.link:
            raise BadImage(f"{show(entry.name)}: symlink to nothing")
        self._replacing(parent, leaf, lambda: os.symlink(entry.link, leaf, dir_fd=parent))
        os.chown(leaf, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        os.utime(leaf, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _add_hardlink(self, parent: int, leaf: bytes, entry: Entry) -> None:
        target = _components(entry.link, entry.name)
        if not target:
            raise BadImage(f"{show(entry.name)}: hard link to the root directory")
        source = openat2(self._root, b"/".join(target[:-1]) or b".", _PATH_DIR, resolve=_IN_ROOT)
        try:
            info = os.stat(target[-1], dir_fd=source, follow_symlinks=False)
            if not (
                stat.S_ISREG(info.st_mode)
                or stat.S_ISLNK(info.st_mode)
                or stat.S_ISFIFO(info.st_mode)
            ):
                raise BadImage(
                    f"{show(entry.name)}: hard link to {show(entry.link)}, which is no file of this layer"
                )
            try:
                if os.path.samestat(info, os.stat(leaf, dir_fd=parent, follow_symlinks=False)):
                    return
            except FileNotFoundError:
                pass
            self._replacing(
                parent,
                leaf,
                lambda: os.link(
                    target[-1], leaf, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False
                ),
            )
        finally:
            os.close(source)

    def _add_fifo(self, parent: int, leaf: bytes, entry: Entry) -> None:
        self._replacing(parent, leaf, lambda: os.mkfifo(leaf, 0o600, dir_fd=parent))
        # By name: to open it would wait for a reader, there is no /proc here, and the name is ours since a moment ago.
        os.chown(leaf, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        os.chmod(leaf, entry.mode, dir_fd=parent)
        os.utime(leaf, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _add_whiteout(self, path: _Path, entry: Entry) -> None:
        hidden = path[-1].removeprefix(WHITEOUT)
        opaque = path[-1] == OPAQUE_MARKER
        bad_name = hidden in (b"", b".", b"..") or (hidden.startswith(WHITEOUT) and not opaque)
        if bad_name or entry.kind not in (REGULAR, HARDLINK):
            raise BadImage(f"{show(entry.name)}: invalid whiteout")
        self._stream.skip(entry.size)
        parent = self._open_parent(path[:-1])
        if opaque:
            _set_opaque(parent, b".")
            return
        try:
            os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
        except FileExistsError:
            # A whiteout speaks of the layers below: what this layer has under the name stays, and hides what is below.
            if stat.S_ISDIR(_lstat(parent, hidden)):
                _set_opaque(parent, hidden)

    def _replacing(self, parent: int, leaf: bytes, make: Callable[[], int | None]) -> int:
        """Call *make*, once more without what stood in its way; return the fd it gives, if any."""
        try:
            result = make()
        except FileExistsError:
            self._remove(parent, leaf)
            result = make()
        return -1 if result is None else result

    def _remove(self, parent: int, leaf: bytes) -> None:
        if not stat.S_ISREG(_lstat(parent, leaf)):
            # Its path may lead through what goes away; the fd stays open for the entry at hand.
            self._parent = None
        remove_entry(parent, leaf)

    def _open_parent(self, path: _Path) -> int:
        """Return an fd of the directory *path*, made when it is missing; good until the next call."""
        if path != self._parent:
            self.close()
            try:
                self._parent_fd = openat2(
                    self._root, b"/".join(path) or b".", _PATH_DIR, resolve=_IN_ROOT
                )
            except (FileNotFoundError, NotADirectoryError):
                self._parent_fd = self._make_parents(path)
            self._parent = path
        return self._parent_fd

    def _make_parents(self, path: _Path) -> int:
        above = os.open(".", _READ_DIR, dir_fd=self._root)
        try:
            for depth, name in enumerate(path, 1):
                below = self._open_or_make(above, path[:depth], name)
                above, done = below, above
                os.close(done)
            return os.dup(above)
        finally:
            os.close(above)

    def _open_or_make(self, above: int, path: _Path, name: bytes) -> int:
        joined, opaque = b"/".join(path), False
        try:
            # From the root only where there is a symlink: thousands of parts are walked once, not once for each.
            return os.open(name, _READ_DIR, dir_fd=above)
        except FileNotFoundError:
            pass
        except OSError:
            try:
                return openat2(self._root, joined, _PATH_DIR, resolve=_IN_ROOT)
            except FileNotFoundError:
                pass
            except NotADirectoryError:
                if not stat.S_ISCHR(_lstat(above, name)):
                    raise BadImage(
                        f"{show(joined)}: is not a directory, yet has entries below it"
                    ) from None
                os.unlink(name, dir_fd=above)
                opaque = True
        try:
            os.mkdir(name, 0o755, dir_fd=above)
        except FileExistsError as error:
            raise BadImage(
                f"{show(joined)}: is a symlink to nothing, yet has entries below it"
            ) from error
        fd = os.open(name, _READ_DIR, dir_fd=above)
        os.fchown(fd, 0, 0)
        os.fchmod(fd, 0o755)
        if opaque:
            os.setxattr(fd, OPAQUE, b"y")
        return fd


def _components(name: bytes, entry: bytes) -> _Path:
    """Return the parts of a path in a layer; a leading slash means the layer's root, as everywhere.

    Raises:
        BadImage: a part is "..": honest layers have none.
    """
    parts = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
    for part in parts:
        if part == b"..":
            raise BadImage(f'{show(entry)}: ".." in {show(name)}')
        if len(part) > _NAME_MAX:
            raise BadImage(
                f"{show(entry[:64])}…: a part of the path has more than {_NAME_MAX} bytes"
            )
    return parts


def _lstat(parent: int, leaf: bytes) -> int:
    return os.stat(leaf, dir_fd=parent, follow_symlinks=False).st_mode


def _set_opaque(parent: int, leaf: bytes) -> None:
    fd = os.open(leaf, _READ_DIR, dir_fd=parent)
    try:
        os.setxattr(fd, OPAQUE, b"y")
    finally:
        os.close(fd)


def keeps_xattr(name: bytes) -> bool:
    """Whether a layer may have the attribute: file capabilities and user attributes.

    What else a layer carries is the packing machine's, or an attack.
    """
    return name == _CAPABILITY or (
        name.startswith(b"user.") and not name.startswith(b"user.overlay.")
    )


def _set_xattrs(fd: int, entry: Entry) -> None:
    for name, value in filter(lambda item: keeps_xattr(item[0]), entry.xattrs.items()):
        try:
            os.setxattr(fd, name, value)
        except OSError as error:
            if name != _CAPABILITY and error.errno == errno.ENOTSUP:
                continue  # tmpfs has user attributes only since Linux 6.6
            raise BadImage(
                f"{show(entry.name)}: attribute {show(name)}: {error.strerror}"
            ) from error
