# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps that build a mount tree, as commands of mount(8). What is detached in a plan is parked in a directory here."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from minipod.agent.shell.quoting import quote, words
from minipod.agent.shell.writer import Writer, below, slot
from minipod.plan import steps as s

_EMPTY = re.compile(r".*/empty/[0-9]+")
"""What fills up an overlay that has too few layers (``plan/podvolumes.py``)."""
_RACES = "mounts by fd: paths are looked up by name, so nothing may change them meanwhile"


def layers_of(step: s.NewOverlay) -> list[str]:
    """Return the directories of the layers of images among those of an overlay, the top first."""
    return [path for path in step.lower if not _EMPTY.fullmatch(path)]


def make_private(step: s.MakePrivate, to: Writer) -> None:
    to.line(
        "# slave and not private: what the host mounts below a volume is seen with HostToContainer"
    )
    to.line("mount --make-rslave /")


def _park(number: int, to: Writer, kind: str = "") -> None:
    to.line(f"park {number}{f' {kind}' if kind else ''}")


def _reflag(attributes: tuple[str, ...], place: str, to: Writer) -> None:
    if attributes:
        to.line(f"mount -o remount,bind,{','.join(attributes)} {place}")


def new_filesystem(step: s.NewFilesystem, to: Writer) -> None:
    # Read-only in a second command: the first would make the whole filesystem so, wherever else it is mounted.
    first = tuple(name for name in step.attributes if name != "ro")
    options = ",".join((*first, *step.options))
    _park(step.slot, to)
    flags = f" -o {quote(options)}" if options else ""
    internal = " -i" if step.type == "nfs" else ""
    to.line(
        f"mount{internal} -t {quote(step.type)}{flags} {quote(step.name or step.type)} {slot(step.slot)}"
    )
    if "ro" in step.attributes:
        _reflag(step.attributes, slot(step.slot), to)


def new_overlay(step: s.NewOverlay, to: Writer) -> None:
    layers = [path.rpartition("/")[2] for path in layers_of(step)]
    others = [path for path in step.lower if _EMPTY.fullmatch(path)]
    _park(step.slot, to)
    to.line(f"stack {words(layers)}")
    options = "lowerdir=$LOWER"
    if step.upper:
        options += f",upperdir={step.upper},workdir={step.work}"
    elif others:
        options += "".join(f":{path}" for path in others)
    else:
        options += ":$RUN/nothing"  # a read-only overlay has two layers at least, and these may have become one
    to.line(f'(cd "$LAYERS" && mount -t overlay -o "{options}" overlay {slot(step.slot)})')
    _reflag(step.attributes, slot(step.slot), to)


def open_tree(step: s.OpenTree, to: Writer) -> None:
    to.lack(_RACES)
    source = quote(step.path)
    at = f'"{below(step.root)}"{source}'
    to.line(f"check {quote(step.type or 'any')} {at}")
    bind = "--rbind" if step.recursive else "--bind"
    if step.inside:
        # All of it first, so that the path in it is found as from a root of its own.
        _park(step.slot, to)
        to.line(f"mount {bind} {at} {slot(step.slot)}")
        to.line(f"within {step.slot} {quote(step.inside)} {bind}")
    else:
        to.line(f"if [ -d {at} ]; then park {step.slot}; else park {step.slot} file; fi")
        to.line(f"mount {bind} {at} {slot(step.slot)}")
    if step.propagation == "shared":
        to.lack("mountPropagation: Bidirectional: mounts of the container do not reach the host")
    if step.propagation == "private":
        to.line(f"mount --make-rprivate {slot(step.slot)}")
    _reflag(step.attributes, slot(step.slot), to)
    for name in step.recursive_attributes:
        to.line(f"reflag_all {slot(step.slot)} {name}")


def attach(step: s.Attach, to: Writer) -> None:
    if step.root < 0:
        to.line(f'mount --move {slot(step.slot)} "$own"{quote(step.path)}')
        to.line(f'export s{step.slot}="$own"{quote(step.path)}')
        return
    strict = " strict" if step.no_symlinks else ""
    create = step.create or "nothing"
    to.line(f'attach {step.slot} "{below(step.root)}" {quote(step.path)} {create}{strict}')


def set_mount_attributes(step: s.SetMountAttributes, to: Writer) -> None:
    _reflag(step.attributes, slot(step.slot), to)
    if step.propagation:
        to.line(f"mount --make-{step.propagation} {slot(step.slot)}")


def mkdir(step: s.Mkdir, to: Writer) -> None:
    to.line(f'inside "{below(step.root)}" {quote(step.path)}')
    parents = (
        '(umask 022 && mkdir -p "$REPLY")' if step.parents else f'mkdir -m {step.mode:04o} "$REPLY"'
    )
    to.line(parents)


def mknod(step: s.Mknod, to: Writer) -> None:
    kind = "b" if step.block else "c"
    to.line(f'inside "{below(step.root)}" {quote(step.path)}')
    to.line('rm -f "$REPLY"')
    to.line(f'mknod -m {step.mode:04o} "$REPLY" {kind} {step.major} {step.minor}')
    if step.owner != (0, 0):
        to.line(f'chown {step.owner[0]}:{step.owner[1]} "$REPLY"')


def symlink(step: s.Symlink, to: Writer) -> None:
    to.line(f'ln -s {quote(step.target)} "{below(step.root)}"{quote(step.path)}')


def write_file(step: s.WriteFile, to: Writer) -> None:
    at = f'"{below(step.root)}"{quote(step.path)}'
    to.line(f"printf '%s' {quote(step.content)} >{at}")
    to.line(f"chmod {step.mode:04o} {at}")


def mask_paths(step: s.MaskPaths, to: Writer) -> None:
    to.line(f'mask "{below(step.root)}" {words(step.paths)}')


def readonly_paths(step: s.ReadonlyPaths, to: Writer) -> None:
    to.line(f'protect "{below(step.root)}" {words(step.paths)}')


def pivot_root(step: s.PivotRoot, to: Writer) -> None:
    if to.is_pause:
        to.line(
            "# in a mount namespace of its own, so that this script keeps the one with the host's programs"
        )
        to.go_on("unshare --mount --propagation slave")
    to.line(
        "# the shell needs the host's programs for the steps that are left: so the main part of this"
    )
    to.line('# script does it at the very end (see "release"), when nothing is left but the exec')
    to.line(f"export ROOT={slot(step.slot)}")


RENDERERS: dict[type[s.Step], Callable[[Any, Writer], None]] = {
    s.MakePrivate: make_private,
    s.NewFilesystem: new_filesystem,
    s.NewOverlay: new_overlay,
    s.OpenTree: open_tree,
    s.Attach: attach,
    s.SetMountAttributes: set_mount_attributes,
    s.Mkdir: mkdir,
    s.Mknod: mknod,
    s.Symlink: symlink,
    s.WriteFile: write_file,
    s.MaskPaths: mask_paths,
    s.ReadonlyPaths: readonly_paths,
    s.PivotRoot: pivot_root,
}
