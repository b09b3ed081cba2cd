# SPDX-License-Identifier: GPL-3.0-or-later
"""From the text of a manifest to pods: the entry of this package."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from minipod.api import yaml
from minipod.api.defaults import fill_defaults
from minipod.api.objects import Pod
from minipod.api.problems import (
    NOT_HONOURED,
    ManifestError,
    Problem,
    Report,
    TooManyProblems,
    did_you_mean,
)
from minipod.api.schema import got, read_object
from minipod.api.validation import validate

_TEMPLATE = "write its pod template as a Pod"
_NO_ACCESS = "remove it, there is no API to grant access to"
_DATA = "write the values into env, or use a hostPath volume"
_KINDS = {
    **dict.fromkeys(
        ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob"), _TEMPLATE
    ),
    **dict.fromkeys(("ReplicationController", "PodTemplate"), _TEMPLATE),
    **dict.fromkeys(
        ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"), _NO_ACCESS
    ),
    **dict.fromkeys(("ConfigMap", "Secret"), _DATA),
    **dict.fromkeys(
        ("PersistentVolume", "PersistentVolumeClaim", "StorageClass"), "use a hostPath volume"
    ),
    **dict.fromkeys(
        ("Service", "Endpoints", "EndpointSlice", "Ingress"), "reach the pod at its own address"
    ),
    "Namespace": "remove it, a namespace is there as soon as a pod names it",
    "NetworkPolicy": "",
    "HorizontalPodAutoscaler": "",
    "PodDisruptionBudget": "remove it, nothing evicts pods here",
    "LimitRange": "",
    "ResourceQuota": "",
    "Node": "",
    "List": "put the pods into one list",
    "PodList": "put the pods into one list",
    "CustomResourceDefinition": "",
}
_LISTS = ("List", "PodList")


@dataclass(slots=True)
class Document:
    """One pod of a manifest.

    Attributes:
        object: the pod, checked, with its defaults.
        source: the name of the file.
        lines: the 1-based line of every path that the text has, ``spec.containers[0].image``.
        warnings: what is accepted and worth knowing, by line.
    """

    object: Pod
    source: str
    lines: dict[str, int]
    warnings: list[Problem] = field(default_factory=list)


def load_manifests(
    text: bytes | str, source: str, *, default_namespace: str = "default"
) -> list[Document]:
    """Return the pods of a manifest: YAML or JSON, one or several documents, Lists included.

    *source* is what problems call the text. Pods without a namespace get *default_namespace*.

    Raises:
        ManifestError: something is wrong; it carries all problems of all documents, by line.
    """
    roots, yaml_problems = yaml.parse(text)
    loader = _Loader(source, default_namespace)
    loader.problems += [
        Problem(source, each.line, each.path, each.message) for each in yaml_problems
    ]
    try:
        for root in roots:
            loader.document(root)
    except TooManyProblems:
        last = loader.problems[-1].line
        loader.problems.append(Problem(source, last, "", "too many problems to go on"))
    if not loader.problems and not loader.documents:
        loader.problems.append(Problem(source, 1, "", "no objects in it: a manifest needs a Pod"))
    if loader.problems:
        raise ManifestError(sorted(loader.problems, key=lambda problem: problem.line))
    return loader.documents


class _Loader:
    """Collects the documents and the problems of one text."""

    def __init__(self, source: str, default_namespace: str) -> None:
        self.documents: list[Document] = []
        self.problems: list[Problem] = []
        self._source = source
        self._namespace = default_namespace

    def document(self, root: yaml.Node) -> None:
        """Read one document: nothing, a Pod, or a List of them."""
        if isinstance(root, yaml.Scalar) and root.value is None:
            return
        if not isinstance(root, yaml.Mapping):
            self._report(root, "").error(
                "", f"expected an object with apiVersion and kind, got {got(root)}"
            )
            return
        kind = _text(root, "kind")
        if kind in _LISTS:
            self._list(root, kind)
        else:
            self._object(root, "")

    def _list(self, root: yaml.Mapping, kind: str) -> None:
        report = self._report(root, "")
        self._api_version(root, kind, report)
        for key in root.entries:
            if key not in ("apiVersion", "kind", "metadata", "items"):
                report.error(yaml.join("", key), "unknown field in a list")
        entry = root.entries.get("items")
        if entry is None:
            report.error("items", "missing, and required")
        elif not isinstance(entry.value, yaml.Sequence):
            report.error("items", f"expected a list of pods, got {got(entry.value)}")
        else:
            for index, item in enumerate(entry.value.items):
                self._item(item, f"items[{index}]", kind == "PodList")

    def _item(self, item: yaml.Node, prefix: str, typed: bool) -> None:
        """Read an item; in a *typed* list, a PodList, items need not say what they are."""
        if not isinstance(item, yaml.Mapping):
            self._report(item, prefix).error("", f"expected a pod, got {got(item)}")
            return
        self._object(item, prefix, typed)

    def _object(self, root: yaml.Mapping, prefix: str, typed: bool = False) -> None:
        report = self._report(root, prefix)
        before = len(self.problems)
        if not self._kind(root, typed, report):
            return
        pod = msgspec.convert(read_object(root, "Pod", report), Pod)
        fill_defaults(pod, self._namespace)
        validate(pod, report)
        if len(self.problems) == before:
            warnings = sorted(report.warnings, key=lambda warning: warning.line)
            self.documents.append(Document(pod, self._source, report.lines, warnings))

    def _kind(self, root: yaml.Mapping, typed: bool, report: Report) -> bool:
        """Check kind and apiVersion; return whether the object can be read as a Pod."""
        kind = _text(root, "kind")
        if kind is None or kind == "":
            if not _is_given(root, "kind"):
                if typed:
                    return True
                report.error("kind", "missing, and required: minipod runs objects of kind Pod")
        elif kind in _KINDS:
            hint = f": {_KINDS[kind]}" if _KINDS[kind] else ""
            report.error("kind", f"{kind} is {NOT_HONOURED}{hint}")
            return False
        elif kind != "Pod":
            hint = (
                did_you_mean(kind, ["Pod", "List", *_KINDS]) or ", minipod runs objects of kind Pod"
            )
            report.error("kind", f"unknown kind {yaml.shown(kind)}{hint}")
            return False
        self._api_version(root, "Pod", report)
        return True

    def _api_version(self, root: yaml.Mapping, kind: str, report: Report) -> None:
        version = _text(root, "apiVersion")
        if version:
            if version != "v1":
                report.error("apiVersion", f"a {kind} has apiVersion v1, not {yaml.shown(version)}")
        elif not _is_given(root, "apiVersion"):
            report.error("apiVersion", "missing, and required: v1")

    def _report(self, root: yaml.Node, prefix: str) -> Report:
        lines = yaml.key_lines(root)
        return Report(self._source, lines, root.line, prefix, problems=self.problems)


def _text(root: yaml.Mapping, key: str) -> str | None:
    entry = root.entries.get(key)
    if (
        entry is None
        or not isinstance(entry.value, yaml.Scalar)
        or not isinstance(entry.value.value, str)
    ):
        return None
    return entry.value.value


def _is_given(root: yaml.Mapping, key: str) -> bool:
    entry = root.entries.get(key)
    if entry is None:
        return False
    return not isinstance(entry.value, yaml.Scalar) or entry.value.value not in (None, "")
