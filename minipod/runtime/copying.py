# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies files and directories between this host and a running container, for ``minipod cp``.

It runs in the command's own process, with an fd of the container's root that the agent has opened: we join none of its
namespaces, and need nothing of its image. What is inside is hostile, and may change at any instant:

* A path in the container is resolved by ``openat2(RESOLVE_IN_ROOT)``; everything else goes name by name from directory
  fds, and no symbolic link is followed. So nothing outside of the container's root is read or written for it, and
  nothing outside of the destination on the host (kubectl CVE-2018-1002100, CVE-2019-1002101, CVE-2019-11246).
* What is read or written is looked at first by an ``O_PATH`` fd, and then is that very file: no device, FIFO or socket
  is ever opened, or made on the other side.
* On the container's side we act with its user's ids (``setfsuid(2)``), without capabilities unless that is root.
* A file is copied as far as it was long when it was opened; modes are kept but for the setuid, setgid and sticky bits.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from minipod import native
from minipod.errors import MinipodError, UsageError

MAX_DEPTH = 256
"""Directories inside each other; each takes three fds while we are in it."""
_IN_ROOT = native.RESOLVE_IN_ROOT | native.RESOLVE_NO_MAGICLINKS
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_CHUNK = 1 << 20
_REMEDIES = {
    errno.ENOSPC: "make room there, and copy again",
    errno.EDQUOT: "make room there, and copy again",
    errno.EROFS: "copy to a volume that can be written",
    errno.ELOOP: "a link is not followed here: name the place that it leads to",
}

Side = Callable[[], AbstractContextManager[None]]
"""In which files are looked up, read or made as one side's user."""


@dataclass(frozen=True, slots=True)
class Inside:
    """A running container.

    Attributes:
        name: for messages: ``web:``.
        root: an fd of its root directory, seen with its own mounts.
        cwd: where its relative paths begin.
        uid, gid: its user, by the host's numbers.
    """

    name: str
    root: int
    cwd: str
    uid: int
    gid: int

    @contextlib.contextmanager
    def side(self) -> Iterator[None]:
        """Act as the container's user."""
        native.set_fs_ids(self.uid, self.gid)
        try:
            yield
        finally:
            native.set_fs_ids(0, 0)

    def find(self, path: str, flags: int = 0) -> int:
        """Return an ``O_PATH`` fd of *path*, whose links lead nowhere outside."""
        with self.side():
            whole = os.path.join(self.cwd, path)
            return native.openat2(self.root, whole, os.O_PATH | flags, resolve=_IN_ROOT)


def copy_out(inside: Inside, source: str, target: str, warn: Callable[[str], None]) -> None:
    """Copy *source* of a container to *target* on the host; symbolic links are left out, as kubectl does.

    A file comes under its own name into a directory that is there; a directory's contents become those of *target*.

    Raises:
        MinipodError: it is not there, or could not be read or written. What was copied until then stays.
    """
    copy = _Copy(inside.side, nullcontext, inside.name + source, target, warn)
    with contextlib.ExitStack() as stack:
        with copy.words(copy.source):
            found = inside.find(source)
        stack.callback(os.close, found)
        directory, name = _host_place(copy, stack, target)
        copy.top(found, directory, name, "" if copy.is_directory(found) else _base(source))


def copy_in(source: str, inside: Inside, target: str, warn: Callable[[str], None]) -> None:
    """Copy *source* of the host to *target* in a container; it comes under its own name into a directory that is there.

    Symbolic links inside of a directory are copied as they are.

    Raises:
        MinipodError: it is not there, or could not be read or written. What was copied until then stays.
    """
    copy = _Copy(nullcontext, inside.side, source, inside.name + target, warn, links=True)
    with contextlib.ExitStack() as stack:
        with copy.words(copy.source):
            found = os.open(source, os.O_PATH | os.O_CLOEXEC)
        stack.callback(os.close, found)
        with copy.words(copy.target):
            directory, name = _inside_place(inside, target)
        stack.callback(os.close, directory)
        copy.top(found, directory, name, _base(source))


def _base(path: str) -> str:
    """Return the name under which *path* is copied into a directory; "" for one whose contents are meant."""
    name = os.path.basename(path.rstrip("/"))
    return "" if name in (".", "..") else name


def _host_place(copy: _Copy, stack: contextlib.ExitStack, target: str) -> tuple[int, str]:
    """Return the directory that *target* is, and ""; or the one that it is to be made in, and its name."""
    with copy.words(target):
        name = os.path.basename(target.rstrip("/"))
        try:
            mode = os.stat(target, follow_symlinks=target.endswith("/")).st_mode
        except FileNotFoundError:
            mode = 0
        if stat.S_ISLNK(mode):
            # Whoever may write there, a container with a hostPath say, must not choose what we write to.
            raise UsageError(
                f"cp: {target} is a symbolic link", f"name what it leads to, or {target}/"
            )
        if stat.S_ISDIR(mode):
            follow = 0 if target.endswith("/") else os.O_NOFOLLOW
            directory, name = os.open(target, _DIRECTORY | follow), ""
        else:
            directory = os.open(os.path.dirname(target.rstrip("/")) or ".", _DIRECTORY)
        stack.callback(os.close, directory)
        return directory, name


def _inside_place(inside: Inside, target: str) -> tuple[int, str]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return inside.find(target, os.O_DIRECTORY), ""
    parent, name = os.path.split(target.rstrip("/"))
    if name in ("", ".", ".."):
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    return inside.find(parent or ".", os.O_DIRECTORY), name


class _Copy:
    """One copy under way."""

    def __init__(
        self,
        from_side: Side,
        to_side: Side,
        source: str,
        target: str,
        warn: Callable[[str], None],
        *,
        links: bool = False,
    ) -> None:
        self._from, self._to = from_side, to_side
        self.source, self.target = source, target
        self._warn = warn
        self._links = links

    @contextlib.contextmanager
    def words(self, where: str) -> Iterator[None]:
        """Turn an OSError into words about *where*."""
        try:
            yield
        except OSError as error:
            text = (error.strerror or str(error)).lower()
            remedy = _REMEDIES.get(error.errno or 0, "")
            raise MinipodError(f"cp: {where}: {text}", remedy) from error

    @staticmethod
    def is_directory(fd: int) -> bool:
        """Whether *fd* is a directory."""
        return stat.S_ISDIR(os.fstat(fd).st_mode)

    def top(self, source: int, directory: int, name: str, base: str) -> None:
        """Copy *source* as *name* of *directory*; "" stands for *base*, and if that is "" too, for its contents."""
        mode = os.fstat(source).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise MinipodError(
                f"cp: {self.source} is neither a file nor a directory", "read it with minipod exec"
            )
        if not name and not base:
            self._contents(source, directory, "", 0)
        else:
            self._entry(source, directory, name or base, "", 0)

    def _entry(self, source: int, directory: int, name: str, at: str, depth: int) -> None:
        info = os.fstat(source)
        if stat.S_ISDIR(info.st_mode):
            self._directory(source, directory, name, at, depth)
        elif stat.S_ISREG(info.st_mode):
            self._file(source, info, directory, name, at)
        elif stat.S_ISLNK(info.st_mode) and self._links:
            self._link(source, directory, name, at)
        else:
            kind = "symbolic link" if stat.S_ISLNK(info.st_mode) else "special file"
            self._warn(f"skipping {self.source}{at}: it is a {kind}")

    # ---- directories ----

    def _directory(self, source: int, directory: int, name: str, at: str, depth: int) -> None:
        made = True
        with self.words(self.target + at), self._to():
            try:
                os.mkdir(name, 0o700, dir_fd=directory)
            except FileExistsError:
                made = False
            flags = _DIRECTORY if not made else os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            inner = os.open(name, flags | os.O_NOFOLLOW, dir_fd=directory)
        try:
            self._contents(source, inner, at, depth)
            if made:
                with self.words(self.target + at), self._to():
                    os.fchmod(inner, os.fstat(source).st_mode & 0o777)
        finally:
            os.close(inner)

    def _contents(self, source: int, directory: int, at: str, depth: int) -> None:
        if depth == MAX_DEPTH:
            raise MinipodError(
                f"cp: {self.source}{at}: more than {MAX_DEPTH} directories inside each other",
                "copy its parts one after the other",
            )
        with self.words(self.source + at), self._from():
            listing = os.open(f"/proc/self/fd/{source}", os.O_RDONLY | os.O_DIRECTORY)
        try:
            with self.words(self.source + at):
                names = sorted(os.listdir(listing))
            for name in names:
                try:
                    with self._from():
                        entry = os.open(name, _LOOK, dir_fd=listing)
                except FileNotFoundError:  # it went meanwhile
                    continue
                try:
                    self._entry(entry, directory, name, f"{at}/{name}", depth + 1)
                finally:
                    os.close(entry)
        finally:
            os.close(listing)

    # ---- files ----

    def _file(self, source: int, info: os.stat_result, directory: int, name: str, at: str) -> None:
        with self.words(self.source + at), self._from():
            data = os.open(f"/proc/self/fd/{source}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with self.words(self.target + at), self._to():
                out, made = self._create(directory, name)
            try:
                self._pour(data, out, info.st_size, at)
                with self._to(), contextlib.suppress(PermissionError):  # an existing file's owner
                    os.fchmod(out, info.st_mode & 0o777)
            except BaseException:
                if made:
                    with self._to(), contextlib.suppress(OSError):
                        os.unlink(name, dir_fd=directory)
                raise
            finally:
                os.close(out)
        finally:
            os.close(data)

    def _pour(self, data: int, out: int, size: int, at: str) -> None:
        while size > 0:
            with self.words(self.source + at):
                chunk = memoryview(os.read(data, min(_CHUNK, size)))
            if not chunk:  # it was made shorter meanwhile
                return
            size -= len(chunk)
            with self.words(self.target + at):
                while chunk:
                    chunk = chunk[os.write(out, chunk) :]

    def _create(self, directory: int, name: str) -> tuple[int, bool]:
        """Open *name* for writing, empty; whether it was made. A link in a container gives way, as with tar."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        for _ in range(8):
            with contextlib.suppress(FileExistsError):
                return os.open(name, flags, 0o600, dir_fd=directory), True
            try:
                found = os.open(name, _LOOK, dir_fd=directory)
            except FileNotFoundError:
                continue
            try:
                mode = os.fstat(found).st_mode
                if stat.S_ISREG(mode):
                    again = os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC
                    return os.open(f"/proc/self/fd/{found}", again), False
            finally:
                os.close(found)
            if stat.S_ISLNK(mode) and self._links:
                os.unlink(name, dir_fd=directory)
                continue
            number = errno.ELOOP if stat.S_ISLNK(mode) else errno.EEXIST
            raise OSError(number, "there is something else, and no regular file")
        raise OSError(errno.EBUSY, "it changes all the time")

    def _link(self, source: int, directory: int, name: str, at: str) -> None:
        with self.words(self.target + at):
            leads_to = os.readlink("", dir_fd=source)
            with self._to():
                for _ in range(8):
                    try:
                        os.symlink(leads_to, name, dir_fd=directory)
                        return
                    except FileExistsError:
                        os.unlink(name, dir_fd=directory)
