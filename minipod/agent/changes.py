# SPDX-License-Identifier: GPL-3.0-or-later
"""The API's changes: create and apply what a manifest says, and delete."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

from minipod.agent.objects import ObjectTable, same
from minipod.agent.reads import Reads, plural
from minipod.agent.server import Call, Handler
from minipod.api import (
    AnyObject,
    Document,
    ManifestError,
    PersistentVolume,
    PersistentVolumeClaim,
    Pod,
    Problem,
    StoredObject,
    load_manifests,
    members,
)
from minipod.api.problems import Report
from minipod.api.registry import RULES
from minipod.api.validation.update import check_pod_update
from minipod.errors import AlreadyExists, NotFound, UsageError
from minipod.kinds import KINDS
from minipod.pods import hostports, names, resolve
from minipod.pods.manager import PodManager
from minipod.pods.ports import Tools
from minipod.pods.references import missing
from minipod.pods.worker import PodWorker
from minipod.suffix import generated

Json = dict[str, Any]

_USERS_FIRST = {"Pod": 0, "PersistentVolumeClaim": 2, "PersistentVolume": 3}
"""What is deleted when: a claim goes after its pods, a volume after its claim; all else is between."""


def read_documents(
    call: Call, tools: Tools, *, is_there: Callable[[Pod], object] = lambda pod: None
) -> list[Document]:
    """Return the checked documents of a request's manifest; everything that is wrong is reported at once.

    Whether this machine can run a pod is not asked of those that it runs: *is_there* tells.

    Raises:
        ManifestError: something is wrong.
    """
    source = call.text("source", "-")
    documents = load_manifests(
        call.text("manifest"), source, default_namespace=call.text("namespace", "default")
    )
    problems: list[Problem] = []
    first: set[tuple[str, str, str]] = set()
    for document in documents:
        found, lines = document.object, document.lines
        if isinstance(found, Pod) and not is_there(found):
            problems += names.preflight(found, tools.config, source, lines)
            problems += resolve.preflight(found, tools.images, source, lines, tools.config)
        key = found.kind, found.metadata.namespace, found.metadata.name
        if key[2] and key in first:
            what = f"{KINDS[found.kind].singular} {key[2]} is in this file twice"
            problems.append(Problem(source, lines.get("metadata.name", 1), "metadata.name", what))
        first.add(key)
    if problems:
        raise ManifestError(problems)
    return documents


class Changes:
    """Answers requests that change what there should be."""

    def __init__(self, objects: ObjectTable, manager: PodManager, reads: Reads) -> None:
        self._objects = objects
        self._manager = manager
        self._reads = reads

    def handlers(self) -> dict[str, Handler]:
        """Return the verbs that are answered here."""
        return {"create": self.create, "delete": self.delete}

    # ---- create and apply ----

    async def create(self, call: Call) -> Json:
        """Create the objects of a manifest: all, or none. Pods come last: they find what they refer to.

        With ``apply``, what is there takes the manifest's values, a pod that has ended too: only being made anew runs
        it again. With ``newPods`` pods that live are in the way, and with ``replaceFinished`` those that have ended or
        are being deleted give way.
        """
        asked = time.monotonic()
        tools, request = self._manager.tools, call.request
        asyncio.get_running_loop().run_in_executor(None, tools.runtime.cgroups.expect_moves)
        apply = bool(request.get("apply"))
        update = apply and not request.get("newPods")
        living = self._manager.staying if update else lambda pod: None
        documents = read_documents(call, tools, is_there=living)
        for document in documents:
            meta = document.object.metadata
            if not meta.name and meta.generate_name:
                meta.name = generated(meta.generate_name)
        problems: list[Problem] = []
        changes = self._object_changes(documents, problems, apply=apply)
        pods = [document for document in documents if isinstance(document.object, Pod)]
        there = {id(each): worker for each in pods if (worker := living(each.pod))}
        for each in pods:
            if worker := there.get(id(each)):
                problems += self._update_problems(each, worker)
        if problems:
            raise ManifestError(problems)
        new = [each for each in pods if id(each) not in there]
        self._check_ports(new)
        await self._make_room(new, replace=bool(request.get("replaceFinished")))
        # Once more: what gave way took its time, and nothing comes between this and the creation.
        self._check_ports(new)
        self._objects.put(*(found for found, change in changes if change != "unchanged"))
        results = [_result(found, change) for found, change in changes]
        warnings = [problem for document in documents for problem in document.warnings]
        for each in pods:
            if worker := there.get(id(each)):
                change = worker.update(each.pod, each.source, each.lines)
            else:
                await self._manager.check_free(each.pod, replace_finished=False)
                worker = self._manager.create(each.pod, each.source, each.lines, asked)
                change = "created"
                warnings += list(missing(each, self._objects))
            results.append(_result(worker.pod, change))
        return {"objects": results, "warnings": [str(warning) for warning in warnings]}

    async def _make_room(self, documents: list[Document], *, replace: bool) -> None:
        """See that no pod is in the way; those that have ended go, if they may."""
        old: list[PodWorker] = []
        for document in documents:
            worker = await self._manager.check_free(document.pod, replace_finished=replace)
            old += [worker] if worker else []
        for worker in old:
            worker.delete(None)
        for worker in old:
            await worker.gone.wait()

    def _check_ports(self, documents: list[Document]) -> None:
        """See that the ports of the host that new pods ask for are free.

        Raises:
            ManifestError: one is not.
        """
        problems: list[Problem] = []
        present = {(p.metadata.namespace, p.metadata.name): p for p in self._manager.active()}
        pods = [(each, each.pod) for each in documents]
        # One of the same name gives way, with its ports, or is the reason for a refusal by itself.
        giving = [present.pop((p.metadata.namespace, p.metadata.name), None) for _, p in pods]
        taken = list(present.values())
        for (document, pod), old in zip(pods, giving, strict=True):
            wrong, warnings = hostports.preflight(
                pod, taken, document.source, document.lines, replaces=old is not None
            )
            problems += wrong
            document.warnings += [each for each in warnings if each not in document.warnings]
            taken.append(pod)
        if problems:
            raise ManifestError(problems)

    def _update_problems(self, document: Document, worker: PodWorker) -> list[Problem]:
        """Return why a pod that lives cannot become what the manifest says."""
        report = Report(document.source, document.lines, document.lines.get("kind", 1))
        old, new = worker.pod, document.pod
        written = worker.record.lines.keys() | document.lines.keys()
        check_pod_update(old, new, written, report)
        images = {found.name: found.container.image for found in members(old)}
        for found in members(new):
            if images.get(found.name) != found.container.image:
                try:
                    resolve.find_image(self._manager.tools.images, found.container)
                except NotFound as error:
                    container = found.container
                    if not resolve.may_come(error, container.image, container.image_pull_policy):
                        report.error(f"{found.path}.image", str(error))
        return report.problems

    def _object_changes(
        self, documents: list[Document], problems: list[Problem], *, apply: bool
    ) -> list[tuple[StoredObject, str]]:
        """Return each object that is no pod with what becomes of it: created, configured or unchanged.

        *problems* gets why what is there cannot become what the manifest says.

        Raises:
            AlreadyExists: it is there, and this is no apply.
        """
        changes: list[tuple[StoredObject, str]] = []
        for document in documents:
            new = document.object
            if isinstance(new, Pod):
                continue
            meta = new.metadata
            old = self._objects.get(new.kind, meta.namespace, meta.name)
            if old is not None:
                RULES[new.kind].inherit(old, new)
            if old is None:
                changes.append((new, "created"))
            elif not apply:
                raise AlreadyExists(
                    f"{KINDS[new.kind].singular} {_full_name(new)} already exists",
                    "minipod apply -f changes what is there",
                )
            elif same(old, new):
                changes.append((old, "unchanged"))
            else:
                report = Report(document.source, document.lines, document.lines.get("kind", 1))
                RULES[new.kind].validate_update(old, new, report)
                problems += report.problems
                changes.append((new, "configured"))
        return changes

    # ---- delete ----

    async def delete(self, call: Call) -> Json:
        """Delete objects by name, by manifest, by selector, or all of a namespace."""
        request = call.request
        grace = request.get("gracePeriodSeconds")
        if grace is not None and (not isinstance(grace, int) or grace < 0):
            raise UsageError(f"grace period {grace!r} must be a number of seconds, at least 0")
        keys = list(dict.fromkeys(self._to_delete(call)))
        found, missing = self._find_all(keys)
        for each in found:
            if isinstance(each, PodWorker):
                each.delete(grace)
        deleted = []
        for each in found:
            if isinstance(each, PodWorker):
                if request.get("wait", True):
                    await each.gone.wait()
                deleted.append(f"pod/{each.pod.metadata.name}")
            else:
                # A pod of the same manifest may still need it on its way out: it waits for those before it.
                await self._remove(each, wait=bool(request.get("wait", True)))
                deleted.append(f"{KINDS[each.kind].singular}/{each.metadata.name}")
            await call.event({"deleted": deleted[-1]})
        if request.get("ignoreNotFound"):
            missing = []
        if missing and not request.get("allowMissing"):
            raise missing[0]
        return {"names": deleted, "missing": [error.to_status() for error in missing]}

    def _find_all(self, keys: list[tuple[str, str, str]]) -> tuple[list[Any], list[NotFound]]:
        """Return what is there of *keys*, and the errors of the others; one that is missing saves no other."""
        found: list[Any] = []
        missing: list[NotFound] = []
        for kind, namespace, name in keys:
            try:
                if kind == "Pod":
                    found.append(self._manager.worker(namespace, name))
                else:
                    found.append(self._reads.object(kind, namespace, name))
            except NotFound as error:
                missing.append(error)
        return found, missing

    async def _remove(self, found: StoredObject, *, wait: bool) -> None:
        """Remove an object; a claim or a volume that is in use goes when it is not any more."""
        if not isinstance(found, PersistentVolumeClaim | PersistentVolume):
            self._objects.remove(found.kind, found.metadata.namespace, found.metadata.name)
            return
        gone = asyncio.Event()
        key = found.kind, found.metadata.namespace, found.metadata.name

        def heard(*_: str) -> None:
            there = self._objects.get(*key)
            if there is None or there.metadata.uid != found.metadata.uid:
                gone.set()

        end = self._objects.subscribe(heard)
        try:
            self._manager.tools.storage.delete(found)
            if wait:
                await gone.wait()
        finally:
            end()

    def _to_delete(self, call: Call) -> Iterator[tuple[str, str, str]]:
        """Yield kind, namespace and name of what a request means, in the order of waiting."""
        request = call.request
        if request.get("manifest") is not None:
            documents = load_manifests(
                call.text("manifest"),
                call.text("source", "-"),
                default_namespace=call.text("namespace", "default"),
            )
            found = [document.object for document in documents]
            for each in sorted(found, key=lambda each: _USERS_FIRST.get(each.kind, 1)):
                yield each.kind, each.metadata.namespace, each.metadata.name
            return
        kind = plural(call.text("kind", "pods"))
        if kind.name == "Event":
            raise UsageError("events are not deleted", "they go by themselves after an hour")
        if names := request.get("names"):
            for name in names:
                yield kind.name, call.text("namespace", "default"), name
        elif request.get("all") or request.get("selector"):
            for data in self._reads.matching(call):
                yield kind.name, data["metadata"].get("namespace", ""), data["metadata"]["name"]
        else:
            raise UsageError(
                "nothing to delete is named", "name a pod, or use -f FILE, -l SELECTOR or --all"
            )


def _full_name(found: AnyObject) -> str:
    meta = found.metadata
    return f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name


def _result(found: AnyObject, change: str) -> Json:
    meta = found.metadata
    return {
        "kind": found.kind,
        "namespace": meta.namespace,
        "name": meta.name,
        "uid": meta.uid,
        "change": change,
    }
