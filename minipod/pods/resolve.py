# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathers what a plan is compiled from: images, users, host paths, names. All I/O before compiling is here."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from minipod.api import Container, Pod, Problem, amounts, members, parse_bytes
from minipod.config import Config
from minipod.errors import MinipodError, NotFound
from minipod.images import Image, ImageStore, is_pullable
from minipod.plan import pod_cgroup
from minipod.plan.command import argv
from minipod.plan.context import ContainerContext, Demand, Link, PodContext
from minipod.plan.resources import demand as demand_of
from minipod.plan.security import effective
from minipod.plan.volumes import clean
from minipod.pods import hostports, names
from minipod.pods.admission import refusals
from minipod.pods.credentials import credentials
from minipod.pods.errors import ConfigError
from minipod.runtime import apparmor
from minipod.runtime.facts import hugepages_total
from minipod.runtime.filters import Filters
from minipod.runtime.hostdevices import host_devices
from minipod.runtime.runtime import host_path_type

_EXPECTED = {
    "Directory": "directory",
    "DirectoryOrCreate": "directory",
    "File": "file",
    "FileOrCreate": "file",
    "Socket": "socket",
    "CharDevice": "char",
    "BlockDevice": "block",
}
_MADE_ANYWAY = ("proc", "sys", "dev")  # in every container, whatever the image declares
_MAX_DECLARED_VOLUMES = 128
_CREATED = {"": "directory", "DirectoryOrCreate": "directory", "FileOrCreate": "file"}


def pod_directories(config: Config, pod: Pod) -> tuple[str, str]:
    """Return the pod's persistent directory and its log directory; named by the uid that we made."""
    meta = pod.metadata
    return (
        f"{config.root_dir}/pods/{meta.uid}",
        f"{config.log_dir}/{meta.namespace}_{meta.name}_{meta.uid}",
    )


def run_dir(config: Config, uid: str, sandbox: int) -> str:
    """Return the volatile directory of one of a pod's sandboxes."""
    return f"{config.run_dir}/pods/{uid}/{sandbox}"


def pod_context(
    config: Config,
    cgroup_parent: str,
    pod: Pod,
    sandbox: int,
    address: str,
    demand: Demand | None = None,
) -> PodContext:
    """Return the decisions for sandbox number *sandbox* of *pod*; *demand* is of all pods, of this one if not given.

    Raises:
        MinipodError: a host path is not what its volume says, or the host's resolv.conf cannot be used.
    """
    directory, logs = pod_directories(config, pod)
    link = None
    resolv_conf, warnings = names.resolver(pod)
    if made := hostports.link_of(config, pod, address):
        link = Link(
            made.owner,
            made.address,
            made.prefix_len,
            made.gateway,
            made.host_ifname,
            made.mac,
            made.ports,
        )
    return PodContext(
        run_dir=run_dir(config, pod.metadata.uid, sandbox),
        pod_dir=directory,
        log_dir=logs,
        cgroup=pod_cgroup(cgroup_parent, pod),
        parent=cgroup_parent,
        demand=demand or demand_of([pod]),
        bridge=config.bridge,
        hostname=names.hostname(pod, config.cluster_domain),
        hosts=names.hosts(pod, address, config.cluster_domain),
        resolv_conf=resolv_conf,
        warnings=tuple(warnings),
        link=link,
        host_paths=_host_paths(pod),
    )


def _host_paths(pod: Pod) -> dict[str, str]:
    result = {}
    for volume in pod.spec.volumes:
        source = volume.host_path
        if source is None:
            continue
        found = host_path_type(source.path)
        wanted = _EXPECTED.get(source.type, found)
        if not found and source.type in _CREATED:
            found = wanted = _CREATED[source.type]
        if found != wanted or not found:
            what = f"is a {found}" if found else "does not exist"
            raise MinipodError(
                f"volume {volume.name}: hostPath {source.path} {what}, but its type is {source.type}",
                f"create it, or use type {'DirectoryOrCreate' if wanted == 'directory' else 'File'}",
            )
        result[volume.name] = found
    return result


def find_image(images: ImageStore, container: Container) -> Image:
    """Return the image of *container*.

    Raises:
        NotFound: it is not in the store.
    """
    return find_reference(images, container.image)


def find_reference(images: ImageStore, reference: str) -> Image:
    """Return the image of a reference.

    Raises:
        NotFound: it is not in the store.
    """
    image = images.get(reference)
    if image is None:
        raise NotFound(
            f"image {reference} is not in the store",
            f"minipod image pull {reference}, or minipod image load FILE"
            if is_pullable(reference)
            else "load it with: minipod image load FILE",
        )
    return image


def volume_images(pod: Pod, images: ImageStore) -> dict[str, Image]:
    """Return the images of the pod's image volumes, by the volume's name.

    Raises:
        NotFound: one is not in the store.
    """
    return {
        volume.name: find_reference(images, volume.image.reference)
        for volume in pod.spec.volumes
        if volume.image
    }


def with_images(context: PodContext, images: Mapping[str, Image]) -> PodContext:
    """Return *context* with the layers of the image volumes, which only the making of a sandbox needs."""
    layers = {name: image.layers for name, image in images.items()}
    return replace(context, image_layers=layers)


def container_context(
    pod: Pod,
    container: Container,
    image: Image,
    attempt: int,
    filters: Filters,
    env: Mapping[str, str] = MappingProxyType({}),
) -> ContainerContext:
    """Return the decisions for run number *attempt* of *container*; *env* is what the manifest gives it.

    Raises:
        ConfigError: it must not run as root and would.
        MinipodError: the image's user does not exist in it, its working directory is not acceptable, or the seccomp
            profile's file cannot be used.
    """
    config, security = image.config, effective(pod, container)
    who = credentials(pod, container, image)
    filter = filters.of(security)
    return ContainerContext(
        attempt=attempt,
        layers=image.layers,
        entrypoint=config.entrypoint,
        cmd=config.cmd,
        image_env=config.env,
        working_dir=_working_dir(image, container),
        declared_volumes=_declared_volumes(image, container),
        uid=who.uid,
        gid=who.gid,
        groups=who.groups,
        home=who.home,
        seccomp=filter.program,
        env=env,
        seccomp_profile=filter.profile,
        seccomp_flags=filter.flags,
        apparmor=apparmor.profile_of(security),
        devices=host_devices() if security.privileged else (),
    )


def _working_dir(image: Image, container: Container) -> str:
    """Return the image's working directory.

    Raises:
        MinipodError: it is not acceptable.
    """
    # A relative one is meant from the root, as with Docker, and would be looked up from there, too.
    given = image.config.working_dir
    directory = given and posixpath.normpath("/" + given.lstrip("/"))
    if f"{directory}/".startswith("/proc/"):
        # A working directory below /proc can lead out of the container (runc CVE-2024-21626).
        raise MinipodError(
            f"image {container.image} has its working directory below /proc",
            "set workingDir in the manifest",
        )
    return directory


def _declared_volumes(image: Image, container: Container) -> tuple[str, ...]:
    """Return the paths that the image declares to be volumes, parents first, but for those that every container has.

    Raises:
        MinipodError: there are too many.
    """
    paths = {clean(path) for path in image.config.volumes}
    kept = sorted(path for path in paths if path != "/" and path.split("/")[1] not in _MADE_ANYWAY)
    if len(kept) > _MAX_DECLARED_VOLUMES:
        raise MinipodError(
            f"image {container.image} declares {len(kept)} volumes, more than {_MAX_DECLARED_VOLUMES}",
            "use another image",
        )
    return tuple(kept)


def preflight(
    pod: Pod, images: ImageStore, source: str, lines: dict[str, int], config: Config
) -> list[Problem]:
    """Return everything that would keep *pod* from starting on this machine, before anything of it is created."""
    problems = []

    def add(path: str, error: MinipodError) -> None:
        problems.append(Problem(source, lines.get(path, lines.get("spec", 1)), path, str(error)))

    for path, error in refusals(pod, config):
        add(path, error)
    try:
        _host_paths(pod)
    except MinipodError as error:
        add("spec.volumes", error)
    for i, volume in enumerate(pod.spec.volumes):
        if volume.image:
            try:
                find_reference(images, volume.image.reference)
            except MinipodError as error:
                if not may_come(error, volume.image.reference, volume.image.pull_policy):
                    add(f"spec.volumes[{i}].image.reference", error)
    for path, missing in _hugepages(pod):
        add(path, missing)
    for found in members(pod):
        container, path = found.container, found.path
        try:
            image = find_image(images, container)
            _working_dir(image, container)
            credentials(pod, container, image)
        except ConfigError:
            pass  # as in Kubernetes: the pod is made, and its container waits
        except MinipodError as error:
            if not may_come(error, container.image, container.image_pull_policy):
                add(f"{path}.image", error)
            continue
        if not argv(container, image.config.entrypoint, image.config.cmd, {}):
            what = f"neither the manifest nor image {container.image} says what to execute"
            add(path, MinipodError(what, "set command"))
    return problems


def may_come(error: MinipodError, reference: str, policy: str) -> bool:
    """Whether an image is only not here yet: as in Kubernetes, the pod is made, and pulls it or waits."""
    return isinstance(error, NotFound) and policy != "Never" and is_pullable(reference)


def _hugepages(pod: Pod) -> Iterator[tuple[str, MinipodError]]:
    """Yield what is asked for in huge pages beyond those of this machine: a scheduler would find no node for it."""
    limits = amounts.of_pod(pod, "limits")
    for name in sorted(name for name in limits if name.startswith(amounts.HUGEPAGES)):
        size = name.removeprefix(amounts.HUGEPAGES)
        page, wanted = parse_bytes(size), amounts.whole(limits[name])
        if wanted > (there := hugepages_total(page)):
            owners = (each.path for each in members(pod) if name in each.container.resources.limits)
            path = f"{next(owners, 'spec')}.resources.limits"
            what = f"{amounts.text(name, limits[name])} in pages of {size}, this machine has {there >> 20}Mi"
            remedy = f"reserve {wanted // page} pages: /sys/kernel/mm/hugepages/hugepages-{page >> 10}kB/nr_hugepages"
            yield f"{path}.{name}", MinipodError(what, remedy)
