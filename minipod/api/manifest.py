# SPDX-License-Identifier: GPL-3.0-or-later
"""From the text of a manifest to objects: the entry of this package."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from minipod.api import yaml
from minipod.api.objects import AnyObject, Pod
from minipod.api.problems import (
    NOT_HONOURED,
    ManifestError,
    Problem,
    Report,
    TooManyProblems,
    did_you_mean,
)
from minipod.api.registry import RULES
from minipod.api.schema import got, read_object
from minipod.kinds import KINDS

_TEMPLATE = "write its pod template as a Pod"
_LISTED = "put the objects into one list"
_NO_ACCESS = "remove it, there is no API to grant access to"
_NOT_HERE = {
    **dict.fromkeys(
        ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob"), _TEMPLATE
    ),
    **dict.fromkeys(("ReplicationController", "PodTemplate"), _TEMPLATE),
    **dict.fromkeys(
        ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"), _NO_ACCESS
    ),
    "StorageClass": "remove it, a claim of any class gets a directory",
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
    "List": _LISTED,
    "CustomResourceDefinition": "",
}


@dataclass(slots=True)
class Document:
    """One object of a manifest.

    Attributes:
        object: a pod or what pods use, checked, with its defaults.
        source: the name of the file.
        lines: the 1-based line of every path that the text has, ``spec.containers[0].image``.
        warnings: what is accepted and worth knowing, by line.
    """

    object: AnyObject
    source: str
    lines: dict[str, int]
    warnings: list[Problem] = field(default_factory=list)

    @property
    def pod(self) -> Pod:
        """Return the object, which the caller knows to be a pod."""
        assert isinstance(self.object, Pod), f"a {self.object.kind} is no pod"
        return self.object


def load_manifests(
    text: bytes | str, source: str, *, default_namespace: str = "default"
) -> list[Document]:
    """Return the objects of a manifest: YAML or JSON, one or several documents, Lists included.

    *source* is what problems call the text. Objects without a namespace get *default_namespace*.

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
        loader.problems.append(
            Problem(source, 1, "", "no objects in it: a manifest needs a Pod, say")
        )
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
        """Read one document: nothing, an object, or a List of them."""
        if isinstance(root, yaml.Scalar) and root.value is None:
            return
        if not isinstance(root, yaml.Mapping):
            self._report(root, "").error(
                "", f"expected an object with apiVersion and kind, got {got(root)}"
            )
            return
        kind = _text(root, "kind")
        if kind is not None and kind.removesuffix("List") in ("", *RULES) and kind not in RULES:
            self._list(root, kind)
        else:
            self._object(root, "")

    def _list(self, root: yaml.Mapping, kind: str) -> None:
        """Read a List, or one of a single kind (PodList), whose items need not say what they are."""
        report = self._report(root, "")
        item_kind = kind.removesuffix("List")
        version = RULES[item_kind].api_version if item_kind else "v1"
        self._api_version(root, kind, version, report)
        for key in root.entries:
            if key not in ("apiVersion", "kind", "metadata", "items"):
                report.error(yaml.join("", key), "unknown field in a list")
        entry = root.entries.get("items")
        if entry is None:
            report.error("items", "missing, and required")
        elif not isinstance(entry.value, yaml.Sequence):
            report.error("items", f"expected a list of objects, got {got(entry.value)}")
        else:
            for index, item in enumerate(entry.value.items):
                self._item(item, f"items[{index}]", item_kind)

    def _item(self, item: yaml.Node, prefix: str, kind: str) -> None:
        if not isinstance(item, yaml.Mapping):
            what = f"a {KINDS[kind].singular}" if kind else "an object"
            self._report(item, prefix).error("", f"expected {what}, got {got(item)}")
            return
        self._object(item, prefix, kind)

    def _object(self, root: yaml.Mapping, prefix: str, listed: str = "") -> None:
        """Read one object; *listed* is the kind of the list that it is in, if that has one."""
        report = self._report(root, prefix)
        before = len(self.problems)
        kind = self._kind(root, listed, report)
        if kind is None:
            return
        rules = RULES[kind]
        found = msgspec.convert(read_object(root, kind, report), rules.type)
        if KINDS[kind].namespaced:
            found.metadata.namespace = found.metadata.namespace or self._namespace
        rules.defaults(found)
        rules.validate(found, report)
        if len(self.problems) == before:
            rules.complete(found)
            warnings = sorted(report.warnings, key=lambda warning: warning.line)
            self.documents.append(Document(found, self._source, report.lines, warnings))

    def _kind(self, root: yaml.Mapping, listed: str, report: Report) -> str | None:
        """Check kind and apiVersion; return the kind as which the object can be read, or None."""
        kind = _text(root, "kind")
        if kind is None or kind == "":
            if not listed and not _is_given(root, "kind"):
                report.error("kind", f"missing, and required: one of {', '.join(RULES)}")
            # What else is wrong is said too, as of the kind that is most likely meant.
            return listed or ("Pod" if "spec" in root.entries else None)
        if kind in _NOT_HERE:
            hint = f": {_NOT_HERE[kind]}" if _NOT_HERE[kind] else ""
            report.error("kind", f"{kind} is {NOT_HONOURED}{hint}")
            return None
        if kind not in RULES:
            known = ", ".join(RULES)
            hint = did_you_mean(kind, [*RULES, "List", *_NOT_HERE]) or f", minipod knows {known}"
            report.error("kind", f"unknown kind {yaml.shown(kind)}{hint}")
            return None
        if listed and kind != listed:
            report.error("kind", f"a {listed}List holds no {kind}")
            return None
        self._api_version(root, kind, RULES[kind].api_version, report)
        return kind

    def _api_version(self, root: yaml.Mapping, kind: str, wanted: str, report: Report) -> None:
        version = _text(root, "apiVersion")
        if version:
            if version != wanted:
                what = f"a {kind} has apiVersion {wanted}, not {yaml.shown(version)}"
                report.error("apiVersion", what)
        elif not _is_given(root, "apiVersion"):
            report.error("apiVersion", f"missing, and required: {wanted}")

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
