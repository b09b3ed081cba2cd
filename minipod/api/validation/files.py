# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for volumes of files: ConfigMaps, Secrets, the pod itself, and images.

Narrower than Kubernetes: of two items, one cannot be a file where the other needs a directory, and a resource has to
be that of a container which is there. A kubelet would find both out when the pod starts, and try for ever.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain

from minipod.api.objects import (
    DownwardAPIVolumeFile,
    ImageVolumeSource,
    KeyToPath,
    ProjectedVolumeSource,
    Volume,
    VolumeProjection,
)
from minipod.api.problems import Report
from minipod.api.validation.image import check_image, check_pull_policy
from minipod.api.validation.references import check_field_ref, check_resource_ref
from minipod.api.yaml import shown

MAX_MODE = 0o777
MAX_USER = 2**31 - 1
_MAX_NAME = 255
_MAX_PATH = 4096
_FIELDS = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)
_SOURCES = "configMap, secret or downwardAPI"

Item = KeyToPath | DownwardAPIVolumeFile


def check_files(volume: Volume, path: str, containers: Collection[str], report: Report) -> None:
    """Check the sources of *volume* that are files; *containers* are the names of the pod's."""
    if source := volume.config_map:
        at = f"{path}.configMap"
        _required(source.name, f"{at}.name", report)
        _items(source.items, at, (), report)
    if secret := volume.secret:
        at = f"{path}.secret"
        _required(secret.secret_name, f"{at}.secretName", report)
        _items(secret.items, at, (), report)
    if downward := volume.downward_api:
        at = f"{path}.downwardAPI"
        _items(downward.items, at, containers, report)
    if projected := volume.projected:
        at = f"{path}.projected"
        _projected(projected, at, containers, report)
    if files := volume.files:
        _mode(files.default_mode, f"{at}.defaultMode", report)
        _user(files.default_user, f"{at}.defaultUser", report)
    if image := volume.image:
        _image(image, f"{path}.image", report)


def _image(image: ImageVolumeSource, path: str, report: Report) -> None:
    check_image(image.reference, f"{path}.reference", report)
    check_pull_policy(image.pull_policy, f"{path}.pullPolicy", report)


def _required(name: str, path: str, report: Report) -> None:
    if not name:
        report.error(path, "missing, and required")


def _projected(
    projected: ProjectedVolumeSource, path: str, containers: Collection[str], report: Report
) -> None:
    places: list[tuple[str, str]] = []
    for index, source in enumerate(projected.sources):
        at = f"{path}.sources[{index}]"
        given = _given(source)
        if len(given) > 1:
            names = ", ".join(name for name, _ in given)
            report.error(at, f"has more than one source: keep one of {names}")
        elif not given and not report.is_bad(at) and not _says_something(at, report):
            report.error(at, f"has no source: give {_SOURCES}")
        for name, inner in given:
            if name != "downwardAPI":
                _required(getattr(inner, "name", ""), f"{at}.{name}.name", report)
            items = getattr(inner, "items", [])
            _each(items, f"{at}.{name}", containers, report)
            places += _places(items, f"{at}.{name}")
    _conflicts(places, report, duplicates=True)


def _given(source: VolumeProjection) -> list[tuple[str, object]]:
    parts = (
        ("configMap", source.config_map),
        ("secret", source.secret),
        ("downwardAPI", source.downward_api),
    )
    return [(name, part) for name, part in parts if part is not None]


def _says_something(path: str, report: Report) -> bool:
    """Whether something below *path* was refused, so that an empty object is no further mistake."""
    return any(each.startswith(f"{path}.") for each in report.bad)


def _items(items: Iterable[Item], path: str, containers: Collection[str], report: Report) -> None:
    _each(items, path, containers, report)
    _conflicts(_places(items, path), report)


def _each(items: Iterable[Item], path: str, containers: Collection[str], report: Report) -> None:
    for index, item in enumerate(items):
        at = f"{path}.items[{index}]"
        _path(item.path, f"{at}.path", report)
        if item.mode is not None:
            _mode(item.mode, f"{at}.mode", report)
        _user(item.user, f"{at}.user", report)
        if isinstance(item, KeyToPath):
            _required(item.key, f"{at}.key", report)
        else:
            _downward(item, at, containers, report)


def _downward(
    item: DownwardAPIVolumeFile, path: str, containers: Collection[str], report: Report
) -> None:
    if item.field_ref and item.resource_field_ref:
        report.error(path, "has both fieldRef and resourceFieldRef: keep one of them")
    elif item.field_ref:
        check_field_ref(item.field_ref, f"{path}.fieldRef", _FIELDS, report)
    elif item.resource_field_ref:
        at = f"{path}.resourceFieldRef"
        check_resource_ref(item.resource_field_ref, at, containers, report, named=True)
    else:
        report.error(path, "has neither fieldRef nor resourceFieldRef: give one of them")


def _path(value: str, path: str, report: Report) -> None:
    parts = value.split("/")
    if not value:
        report.error(path, "missing, and required")
    elif value.startswith("/"):
        report.error(path, f"{shown(value)} must be a relative path")
    elif ".." in parts:
        report.error(path, f"{shown(value)} must not contain ..")
    elif not clean(value):
        report.error(path, f"{shown(value)} names no file")
    elif clean(value)[0].startswith(".."):
        report.error(path, f"{shown(value)} must not begin with ..")
    elif len(value.encode()) > _MAX_PATH or max(len(x.encode()) for x in parts) > _MAX_NAME:
        what = f"is too long: {_MAX_PATH} bytes, and {_MAX_NAME} between slashes, are the limit"
        report.error(path, what)


def clean(path: str) -> tuple[str, ...]:
    """Return the parts of a relative path, without empty ones and ``.``."""
    return tuple(part for part in path.split("/") if part not in ("", "."))


def _places(items: Iterable[Item], path: str) -> Iterator[tuple[str, str]]:
    return ((f"{path}.items[{index}].path", item.path) for index, item in enumerate(items))


def _conflicts(
    places: Iterable[tuple[str, str]], report: Report, *, duplicates: bool = False
) -> None:
    """Report a file where another path has a directory, and with *duplicates* a file that is there twice."""
    files: dict[tuple[str, ...], str] = {}
    directories: dict[tuple[str, ...], str] = {}
    for path, value in places:
        parts = clean(value)
        above = [parts[:length] for length in range(1, len(parts))]
        if duplicates and parts in files:
            line = report.line(files[parts])
            report.error(path, f"file {shown(value)} is given twice, first on line {line}")
        taken = chain((files[each] for each in above if each in files), _at(directories, parts))
        if (other := next(taken, None)) is not None:
            what = f"{shown(value)} and the path on line {report.line(other)} cannot both be there"
            report.error(path, f"{what}: one is a file where the other has a directory")
        files.setdefault(parts, path)
        for each in above:
            directories.setdefault(each, path)


def _at(found: dict[tuple[str, ...], str], key: tuple[str, ...]) -> list[str]:
    return [found[key]] if key in found else []


def _mode(mode: int, path: str, report: Report) -> None:
    if not 0 <= mode <= MAX_MODE:
        report.error(path, f"must be 0000 to 0777 in octal (0 to 511), not {mode}")


def _user(user: int | None, path: str, report: Report) -> None:
    if user is not None and not 0 <= user <= MAX_USER:
        report.error(path, f"must be 0 to {MAX_USER}, not {user}")
