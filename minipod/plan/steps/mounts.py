# SPDX-License-Identifier: GPL-3.0-or-later
"""Namespace steps that build a mount tree, all by fd (``mount_namespaces(7)``, ``fsopen(2)``, ``open_tree(2)``)."""

from __future__ import annotations

from dataclasses import dataclass, field

from minipod.plan.steps.base import NamespaceStep, Record

MOUNT_ATTRIBUTES = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8}
PROPAGATIONS = {"private": 1 << 18, "slave": 1 << 19, "shared": 1 << 20}
"""``MS_PRIVATE`` and so on (``mount_namespaces(7)``)."""


def _attribute_bits(names: tuple[str, ...]) -> int:
    return sum(MOUNT_ATTRIBUTES[name] for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class MakePrivate(NamespaceStep):
    """Cut the propagation of mounts between this mount namespace and the one that it was copied from."""

    def describe(self) -> str:
        return "mount --make-rprivate /"

    def record(self) -> Record:
        return Record("PROPAGATION", numbers=((1 << 18) | 16384,))


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFilesystem(NamespaceStep):
    """Make a filesystem as a detached mount (``fsopen``, ``fsconfig``, ``fsmount``).

    *name* is the first column of ``/proc/mounts``, which for a network filesystem says where it is; else the type.
    """

    slot: int
    type: str
    options: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    name: str = ""

    def describe(self) -> str:
        options = ",".join(self.attributes + self.options)
        what = f"{self.type} {self.name}" if self.name else self.type
        return f"fsmount {what}" + (f" ({options})" if options else "")

    def record(self) -> Record:
        numbers = (_attribute_bits(self.attributes), len(self.options))
        strings = (self.type, self.options, self.name)
        return Record("FS", out=self.slot, strings=strings, numbers=numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOverlay(NamespaceStep):
    """Make a container's root filesystem: the image's layers below, a directory of its own above.

    *users* is the slot of a user namespace in which the layers' ids are shown (with *legacy* only: an idmapped mount
    has to lie somewhere). *lower* is topmost first. Without *upper* it cannot be written, and takes two layers at
    least. *legacy* mounts through ``mount(2)`` on *scratch* (Linux before 6.5).
    """

    slot: int
    lower: tuple[str, ...]
    scratch: str
    upper: str = ""
    work: str = ""
    attributes: tuple[str, ...] = ()
    legacy: bool = False
    users: int = -1

    def describe(self) -> str:
        above = f"upper dir {self.upper}" if self.upper else "read-only"
        mapped = ", layers idmapped" if self.users >= 0 else ""
        return f"fsmount overlay of {len(self.lower)} layer(s){mapped}, {above}"

    def record(self) -> Record:
        return Record(
            "OVERLAY",
            flags=("LEGACY",) if self.legacy else (),
            in_=self.users,
            out=self.slot,
            strings=(self.lower, self.upper, self.work, self.scratch),
            numbers=(_attribute_bits(self.attributes), len(self.lower)),
        )


FILE_TYPES = {
    "": 0,
    "socket": 0o140000,
    "file": 0o100000,
    "block": 0o060000,
    "directory": 0o040000,
    "char": 0o020000,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTree(NamespaceStep):
    """Take a mount source as a detached tree (``open_tree`` with ``OPEN_TREE_CLONE``), private, never by path again.

    *root* is the slot below which *path* lies, or -1 for the process's own root. *type* is checked on the same fd.
    *inside* is a path in it that is taken instead, resolved without ever leaving it, and made when missing.
    *recursive_attributes* are set on the mounts below, too. *users* is the slot of a user namespace in which its ids
    are shown (not those of mounts below). *written* is what the manifest says for *inside*, when that has variables.
    """

    slot: int
    path: str
    root: int = -1
    type: str = ""
    recursive: bool = False
    attributes: tuple[str, ...] = ()
    recursive_attributes: tuple[str, ...] = ()
    inside: str = ""
    written: str = ""
    propagation: str = "private"
    users: int = -1

    def describe(self) -> str:
        return self._words(self.inside)

    def told(self) -> str:
        return self._words(self.written or self.inside)

    def _words(self, path: str) -> str:
        what = [
            "rbind" if self.recursive else "bind",
            *self.attributes,
            *(f"r{name}" for name in self.recursive_attributes),
        ]
        if self.users >= 0:
            what.append("idmap")
        if self.propagation != "private":
            what.append(f"r{self.propagation}")
        inside = f", in it {path}" if path else ""
        return f"open_tree {self.path}{inside} ({','.join(what)})"

    def record(self) -> Record:
        flags = (("RECURSIVE",) if self.recursive else ()) + (
            ("IN_PLACE",) if self.root >= 0 else ()
        )
        numbers = (
            _attribute_bits(self.attributes),
            FILE_TYPES[self.type],
            _attribute_bits(self.recursive_attributes),
            PROPAGATIONS[self.propagation],
        )
        strings = (self.path, self.inside)
        return Record(
            "OPEN_TREE",
            flags,
            in_=self.users,
            out=self.slot,
            root=self.root,
            strings=strings,
            numbers=numbers,
        )


_CREATE: dict[str, tuple[str, ...]] = {
    "": (),
    "directory": ("CREATE_DIR",),
    "file": ("CREATE_FILE",),
    "same": ("CREATE_DIR", "CREATE_FILE"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attach(NamespaceStep):
    """Put a detached mount at *path* below the slot *root* (-1: this mount namespace's own root).

    *create* is what to make when there is no mount point: "", "directory", "file", or "same" as the mount is.
    """

    slot: int
    path: str
    root: int
    create: str = ""
    no_symlinks: bool = False

    def describe(self) -> str:
        return f"move_mount it to {self.path}"

    def record(self) -> Record:
        flags = _CREATE[self.create]
        flags += ("NO_SYMLINKS",) if self.no_symlinks else ()
        return Record("ATTACH", flags, in_=self.slot, root=self.root, strings=(self.path,))


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMountAttributes(NamespaceStep):
    """Change an attached mount (``mount_setattr``), once everything inside it is in place."""

    slot: int
    what: str
    attributes: tuple[str, ...] = ()
    propagation: str = ""

    def describe(self) -> str:
        names = (*self.attributes, *((self.propagation,) if self.propagation else ()))
        return f"mount_setattr {','.join(names)} on {self.what}"

    def record(self) -> Record:
        propagation = PROPAGATIONS[self.propagation] if self.propagation else 0
        numbers = (_attribute_bits(self.attributes), propagation)
        return Record("SETATTR", in_=self.slot, numbers=numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mkdir(NamespaceStep):
    """Make a directory below the slot *root*; with *parents* as ``mkdir -p``."""

    path: str
    root: int
    mode: int = 0o755
    parents: bool = False

    def describe(self) -> str:
        return f"mkdir {'-p ' if self.parents else ''}{self.path} (mode {self.mode:04o})"

    def record(self) -> Record:
        flags = ("EXIST_OK",) if self.parents else ()
        return Record("MKDIR", flags, root=self.root, strings=(self.path,), numbers=(self.mode,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mknod(NamespaceStep):
    """Make a device node, of *owner* (uid, gid)."""

    path: str
    root: int
    major: int
    minor: int
    mode: int = 0o666
    block: bool = False
    owner: tuple[int, int] = (0, 0)

    def describe(self) -> str:
        kind = "b" if self.block else "c"
        whose = f", owner {self.owner[0]}:{self.owner[1]}" if self.owner != (0, 0) else ""
        return f"mknod {self.path} {kind} {self.major} {self.minor} (mode {self.mode:04o}{whose})"

    def record(self) -> Record:
        kind = FILE_TYPES["block" if self.block else "char"]
        owner = self.owner[0] << 32 | self.owner[1]
        numbers = (kind | self.mode, self.major, self.minor, owner)
        return Record("MKNOD", root=self.root, strings=(self.path,), numbers=numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Symlink(NamespaceStep):
    """Make a symbolic link."""

    path: str
    target: str
    root: int

    def describe(self) -> str:
        return f"symlink {self.path} -> {self.target}"

    def record(self) -> Record:
        return Record("SYMLINK", root=self.root, strings=(self.path, self.target))


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteFile(NamespaceStep):
    """Make a new file with this content."""

    path: str
    root: int
    content: str = field(repr=False)
    mode: int = 0o644

    def describe(self) -> str:
        return f"write {self.path} ({len(self.content.encode())} bytes, mode {self.mode:04o})"

    def record(self) -> Record:
        blob = self.content.encode()
        return Record(
            "WRITE_FILE", root=self.root, strings=(self.path, blob), numbers=(self.mode, len(blob))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskPaths(NamespaceStep):
    """Hide paths: /dev/null over a file, an empty read-only tmpfs over a directory; absent ones are skipped."""

    root: int
    paths: tuple[str, ...]
    on_proc: bool = False

    def describe(self) -> str:
        return f"mask {' '.join(self.paths)}"

    def record(self) -> Record:
        flags = ("PROC",) if self.on_proc else ()
        return Record(
            "MASK", flags, root=self.root, strings=(self.paths,), numbers=(0, len(self.paths))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadonlyPaths(NamespaceStep):
    """Make paths read-only by a bind mount of themselves; absent ones are skipped."""

    root: int
    paths: tuple[str, ...]
    on_proc: bool = False

    def describe(self) -> str:
        return f"make read-only {' '.join(self.paths)}"

    def record(self) -> Record:
        flags = ("PROC",) if self.on_proc else ()
        return Record(
            "READONLY", flags, root=self.root, strings=(self.paths,), numbers=(0, len(self.paths))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PivotRoot(NamespaceStep):
    """Make the mount in *slot* the root of this mount namespace and detach the old one."""

    slot: int

    def describe(self) -> str:
        return "pivot_root into it and detach the old root"

    def record(self) -> Record:
        return Record("PIVOT_ROOT", in_=self.slot)
