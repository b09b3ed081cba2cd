# SPDX-License-Identifier: GPL-3.0-or-later
"""The API's verb ``plan``: what would be done for a manifest, or what was done for a pod. Nothing is done.

Plans are compiled just as for execution, from the same machine and the same store; only what a pod gets when it is
made (uid, address, number of its sandbox) are examples, or another pod's (``like``), to be compared with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import msgspec

from minipod import __version__
from minipod.agent.changes import read_documents
from minipod.agent.server import Call, Handler
from minipod.api import (
    ConfigMap,
    Document,
    EphemeralContainer,
    Pod,
    Secret,
    StoredObject,
    Volume,
    member,
    members,
)
from minipod.config import Config
from minipod.errors import UsageError
from minipod.plan import compile_container, compile_sandbox, process_key
from minipod.plan.context import ContainerContext, Demand, PodContext, Users
from minipod.plan.resources import allocatable
from minipod.plan.steps import Step
from minipod.pods import claims, environment, resolve
from minipod.pods.contents import files_of
from minipod.pods.downward import Place
from minipod.pods.manager import PodManager
from minipod.pods.worker import PodWorker
from minipod.runtime.atomic import File, checked
from minipod.runtime.userids import parse_ids

if TYPE_CHECKING:
    from minipod.plan.explain import PodPlan

_UID = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a pod gets only when it is made.

    Attributes:
        uid: the pod's.
        address: in the pods' network.
        sandbox: the number of its sandbox.
        attempts: the number of the run of each container; 0 of those that are not named.
        first_id: the first of the host's ids of its user namespace, if it has one.
        images: the ids of the images that containers run; of others, what their references mean.
        demand: what all pods ask for together; this one alone when it is not known.
        config, cgroup: other names and places than this instance's own.
        secrets: the plan is to be carried out, so values of Secrets are in it.
    """

    uid: str
    address: str
    first_id: int
    sandbox: int = 0
    attempts: Mapping[str, int] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    demand: Demand | None = None
    config: Config | None = None
    cgroup: str = ""
    secrets: bool = False


class Planning:
    """Answers requests for plans."""

    def __init__(self, manager: PodManager) -> None:
        self._manager = manager
        self._tools = manager.tools

    def handlers(self) -> dict[str, Handler]:
        """Return the verb that is answered here."""
        return {"plan": self.plan}

    async def plan(self, call: Call) -> dict[str, Any]:
        """Return the plans of a manifest's pods, or of the pod that ``pod`` names.

        With ``like`` they get uid, address and numbers of that pod. With ``script`` the answer is two scripts
        instead, that build a manifest's one pod by hand and remove it.
        """
        if call.request.get("script"):
            return self._scripts(call)
        space = call.text("namespace", "default")
        like, name = call.text("like", ""), call.text("pod", "")
        owner = self._manager.worker(space, like or name) if like or name else None
        whose = self._identity(owner) if owner else self._example()
        if name:
            return {"plans": [self._of_pod(self._manager.worker(space, name), whose)]}
        documents = read_documents(call, self._tools)
        objects = _Planned(documents, self._tools.objects)
        return {
            "plans": [
                self._of_manifest(document, whose, objects)
                for document in documents
                if isinstance(document.object, Pod)
            ]
        }

    def _of_manifest(
        self, document: Document, whose: Identity, objects: environment.Lookup
    ) -> dict[str, Any]:
        pod = document.pod
        pod.metadata.uid = whose.uid
        pod.metadata.name = pod.metadata.name or pod.metadata.generate_name or ""
        return self._explained(
            self._plan(pod, document.source, document.lines, whose, objects, running=False)
        )

    def _of_pod(self, worker: PodWorker, whose: Identity) -> dict[str, Any]:
        core, record = worker.core, worker.record
        pod = msgspec.structs.replace(
            core.with_resources(),
            metadata=msgspec.structs.replace(core.pod.metadata, uid=whose.uid),
        )
        # What it runs: its image's tag may mean another one by now.
        images = {each.name: each.image_id for each in record.containers if each.image_id}
        own, objects = replace(whose, images=images), self._tools.objects
        return self._explained(
            self._plan(pod, record.source, record.lines, own, objects, running=True)
        )

    # ---- scripts ----------------------------------------------------------------------------------------------

    def _scripts(self, call: Call) -> dict[str, Any]:
        from minipod.agent import shell

        documents = read_documents(call, self._tools)
        pods = [document for document in documents if isinstance(document.object, Pod)]
        if len(pods) != 1:
            raise UsageError(
                f"a script is of one pod, and {call.text('source', '-')} has {len(pods)}",
                "write each pod to a file of its own",
            )
        tools, objects, pod = self._tools, _Planned(documents, self._tools.objects), pods[0].pod
        meta = pod.metadata
        meta.name = meta.name or meta.generate_name or ""
        config, cgroup, meta.uid = shell.own_names(tools.config, meta.namespace, meta.name)
        whose = replace(
            self._example(config), uid=meta.uid, config=config, cgroup=cgroup, secrets=True
        )
        plan = self._plan(pod, pods[0].source, pods[0].lines, whose, objects, running=False)
        made = shell.Handmade(
            plan,
            config,
            cgroup,
            tools.runtime.facts,
            frozenset(m.name for m in members(pod) if m.kind == "init" and not m.is_sidecar),
            {v.name: self._files(pod, v, objects) for v in pod.spec.volumes if v.files},
            pod.spec.security_context.fs_group,
            __version__,
        )
        return {"script": shell.script(made), "teardown": shell.teardown(made)}

    def _files(self, pod: Pod, volume: Volume, objects: environment.Lookup) -> dict[str, File]:
        def look(kind: str, name: str) -> ConfigMap | Secret | None:
            found = objects.get(kind, pod.metadata.namespace, name)
            return found if isinstance(found, ConfigMap | Secret) else None

        return checked(files_of(pod, volume, look, allocatable(self._tools.runtime.facts)))

    # ---- plans ------------------------------------------------------------------------------------------------

    @staticmethod
    def _explained(plan: PodPlan) -> dict[str, Any]:
        from minipod.plan.explain import document

        return document(plan)

    def _plan(
        self,
        pod: Pod,
        source: str,
        lines: Mapping[str, int],
        whose: Identity,
        objects: environment.Lookup,
        *,
        running: bool,
    ) -> PodPlan:
        # Not before somebody asks: an agent that only runs pods never needs the words.
        from minipod.plan.explain import ContainerPlan, PodPlan

        context = self._context(pod, whose)
        containers = []
        for found in members(pod):
            image, run = self._run(pod, found.name, context, whose, objects)
            steps: tuple[Step, ...] = compile_container(
                pod, found.container, context, run, self._tools.runtime.facts
            )
            containers.append(ContainerPlan(found.name, image, steps))
        sandbox = compile_sandbox(pod, context, self._tools.runtime.facts)
        name = f"{pod.metadata.namespace}/{pod.metadata.name}"
        return PodPlan(name, source, lines, sandbox, tuple(containers), running)

    # ---- what plans are compiled from -------------------------------------------------------------------------

    def _example(self, config: Config | None = None) -> Identity:
        config = config or self._tools.config
        address = str(ip_network(config.pod_cidr)[2])
        return Identity(_UID, address, parse_ids(config.user_ids)[0])

    def _identity(self, worker: PodWorker) -> Identity:
        pod, record, tools = worker.pod, worker.record, self._tools
        example = self._example()
        users = None if pod.spec.host_users else tools.user_ids.of(pod.metadata.uid)
        return Identity(
            pod.metadata.uid,
            record.address or example.address,
            users.first if users else example.first_id,
            max(0, record.sandbox),
            {each.name: max(0, each.attempt) for each in record.containers},
            demand=tools.demands.total(),
        )

    def _context(self, pod: Pod, whose: Identity) -> PodContext:
        tools = self._tools
        address = "" if pod.spec.host_network else whose.address
        config, cgroup = whose.config or tools.config, whose.cgroup or tools.cgroup_parent
        context = resolve.pod_context(config, cgroup, pod, whose.sandbox, address, whose.demand)
        if not pod.spec.host_users:
            context = replace(context, users=Users(whose.first_id))
        context = resolve.with_images(context, resolve.volume_images(pod, tools.images))
        return claims.with_examples(context, tools.storage, pod)

    def _run(
        self,
        pod: Pod,
        name: str,
        context: PodContext,
        whose: Identity,
        objects: environment.Lookup,
    ) -> tuple[str, ContainerContext]:
        """Return what a container's image is called, and the decisions about its run."""
        tools, runtime = self._tools, self._tools.runtime
        container = member(pod, name).container
        known = tools.images.get(whose.images[name]) if name in whose.images else None
        image = known or resolve.find_image(tools.images, container)
        address = context.link.address if context.link else runtime.network.host_ip()
        sources = environment.Sources(
            objects=objects,
            place=Place((runtime.network.host_ip(),), (address,)),
            machine=allocatable(runtime.facts),
        )
        values = environment.container_env if whose.secrets else environment.planned_env
        env = values(pod, container, sources)
        attempt = whose.attempts.get(name, 0)
        run = resolve.container_context(pod, container, image, attempt, tools.filters, env)
        if isinstance(container, EphemeralContainer) and (of := container.target_container_name):
            run = replace(run, target=process_key(of, whose.attempts.get(of, 0)))
        return container.image or image.reference or image.digest, run


class _Planned:
    """The objects as they would be with those of a manifest, for :class:`~minipod.pods.environment.Sources`."""

    def __init__(self, documents: list[Document], there: environment.Lookup) -> None:
        self._own = {
            (
                each.object.kind,
                each.object.metadata.namespace,
                each.object.metadata.name,
            ): each.object
            for each in documents
        }
        self._there = there

    def get(self, kind: str, namespace: str, name: str) -> StoredObject | None:
        found = self._own.get((kind, namespace, name))
        return (
            self._there.get(kind, namespace, name)
            if found is None or isinstance(found, Pod)
            else found
        )
