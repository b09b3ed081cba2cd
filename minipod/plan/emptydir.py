# SPDX-License-Identifier: GPL-3.0-or-later
"""``emptyDir`` volumes that are filesystems of their own: in memory, and of huge pages."""

from __future__ import annotations

from minipod.api import Pod, Volume, members, parse_bytes
from minipod.plan import steps as s
from minipod.plan.context import Facts, PodContext
from minipod.plan.resources import pod_memory_limit
from minipod.plan.volumes import in_sandbox, propagates

_MODE = 0o777


def empty_dir_mode(volume: Volume) -> int:
    """Return the mode of an ``emptyDir``'s directory."""
    source = volume.empty_dir
    return _MODE if source is None or source.mode is None else source.mode


def empty_dir_mounts(
    pod: Pod, context: PodContext, facts: Facts, *, tree: int, mount: int
) -> list[s.NamespaceStep]:
    """Mount them below ``/volumes`` of the sandbox's root, which is in slot *tree*; *mount* is a free slot."""
    result: list[s.NamespaceStep] = []
    shared = {m.name for c in members(pod) for m in c.container.volume_mounts if propagates(m)}
    for i, volume in enumerate(pod.spec.volumes):
        if not in_sandbox(volume):
            continue
        source, path = f"spec.volumes[{i}].emptyDir", f"/volumes/{volume.name}"
        result += [
            s.Mkdir(path=path, root=tree, source=source),
            s.NewFilesystem(
                slot=mount,
                type=_filesystem(volume),
                options=_options(pod, context, volume, facts),
                source=source,
            ),
            s.Attach(slot=mount, path=path, root=tree, source=source),
        ]
        if volume.name in shared:
            result.append(s.SetMountAttributes(slot=mount, what=path, propagation="shared"))
    return result


def _filesystem(volume: Volume) -> str:
    assert volume.empty_dir is not None, "only these are mounted"
    return "tmpfs" if volume.empty_dir.medium == "Memory" else "hugetlbfs"


def _options(pod: Pod, context: PodContext, volume: Volume, facts: Facts) -> tuple[str, ...]:
    assert volume.empty_dir is not None, "only these are mounted"
    group, bits = pod.spec.security_context.fs_group, empty_dir_mode(volume)
    mode: tuple[str, ...] = (f"mode={bits:04o}",)
    if group is not None:
        mode = (
            f"mode={bits | 0o2770:04o}",
            f"gid={context.outside(group)}",
        )  # as runtime/ownership.py does
    if volume.empty_dir.medium != "Memory":
        page, limit = page_size(pod, volume.empty_dir.medium), volume.empty_dir.size_limit
        size = parse_bytes(limit) if limit else 0
        return (
            *mode,
            *((f"pagesize={page}",) if page else ()),
            *((f"size={size}",) if size else ()),
        )
    return *mode, f"size={tmpfs_bytes(pod, volume, facts)}"


def tmpfs_bytes(pod: Pod, volume: Volume, facts: Facts) -> int:
    """Return the size of a volume in memory: the least of its limit, the pod's, and the machine's memory.

    Source: the kubelet's ``calculateEmptyDirMemorySize``; 0 is no limit.
    """
    limit = volume.empty_dir.size_limit if volume.empty_dir else None
    sizes = (parse_bytes(limit) if limit else 0, pod_memory_limit(pod), facts.memory)
    return min(size for size in sizes if size > 0)


def page_size(pod: Pod, medium: str) -> int:
    """Return the bytes of a page of *medium*: what it names, else what the pod asks for, else 0.

    Source: the kubelet's ``getPageSize``.
    """
    if medium != "HugePages":
        return parse_bytes(medium.removeprefix("HugePages-"))
    prefix = "hugepages-"
    sizes = {
        parse_bytes(name.removeprefix(prefix))
        for member in members(pod)
        for name in member.container.resources.limits
        if name.startswith(prefix)
    }
    return sizes.pop() if len(sizes) == 1 else 0
