# SPDX-License-Identifier: GPL-3.0-or-later
"""Where each mount of a container comes from: its plan, read backwards. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from minipod.api import Container, Pod
from minipod.plan import steps as s
from minipod.plan.volumes import clean


@dataclass(frozen=True, slots=True)
class MountOrigin:
    """Why a mount is there.

    Attributes:
        kind: ``image``, ``volume``, ``default``, ``hardening`` or ``unknown`` (the container made it itself, say).
        words: what it is.
        field: of the manifest, or "".
    """

    kind: str
    words: str
    field: str = ""


def mount_origins(
    pod: Pod, container: Container, steps: Iterable[s.Step]
) -> dict[str, MountOrigin]:
    """Return by mount point why there is a mount, for all that the plan of *container* makes."""
    result = {"/": MountOrigin("image", f"{container.image}, and its own changes")}
    inner = [step for launch in steps if isinstance(launch, s.Launch) for step in launch.steps]
    for step in inner:
        match step:
            case s.Attach() if step.path not in (".", "/"):
                result[clean(step.path)] = MountOrigin("default", "", step.source)
            case s.ReadonlyPaths():
                for path in step.paths:
                    result[clean(path)] = MountOrigin("hardening", "read-only", step.source)
            case s.MaskPaths():
                for path in step.paths:
                    result[clean(path)] = MountOrigin("hardening", "masked", step.source)
            case _:
                pass
    volumes = {volume.name: volume for volume in pod.spec.volumes}
    for mount in container.volume_mounts:
        point = clean(mount.mount_path)
        volume, planned = volumes.get(mount.name), result.get(point)
        kind = ", ".join(volume.sources()) if volume else "volume"
        words = f"volume {mount.name} ({kind})" + (f", {mount.sub_path}" if mount.sub_path else "")
        result[point] = MountOrigin("volume", words, planned.field if planned else "")
    return result
