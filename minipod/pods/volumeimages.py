# SPDX-License-Identifier: GPL-3.0-or-later
"""Gets the images of a pod's image volumes before its sandbox is made, with a kubelet's back-off."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from minipod.api.objects import ImageVolumeSource
from minipod.pods import backoff, pulling
from minipod.pods.core import PodCore
from minipod.pods.pulling import NoImage

LOOK = 10.0
"""Seconds until a missing image is looked for again in the store: nobody tells of one that is loaded."""


@dataclass
class _State:
    """Of one image: how often it could not be had, when that is tried again, and why it could not."""

    failures: int = 0
    next_pull: float = 0.0
    failure: tuple[str, str] = ("", "")
    task: asyncio.Task[None] | None = None
    pulled: bool = False


class VolumeImages:
    """The images that one pod's volumes are made of.

    Attributes:
        next_try: when :meth:`ready` is to be asked again, unless something happens before.
    """

    def __init__(self, core: PodCore) -> None:
        self._core = core
        self._images = {v.image.reference: v.image for v in core.pod.spec.volumes if v.image}
        self._states = {reference: _State() for reference in self._images}
        self._told = False
        self._complained: dict[str, str] = {}
        self.next_try: float | None = None

    def ready(self) -> bool:
        """Whether all are in the store; begins to pull what has to be, and says what cannot be had."""
        self.next_try = None
        missing, there = None, True
        for image in self._images.values():
            state = self._states[image.reference]
            if not self._is_there(image, state):
                there = False
                missing = missing or (state.failure if state.failure[0] else None)
        self._tell_containers(missing)
        return there

    async def close(self) -> None:
        """Give up the pulls that are under way."""
        tasks = [state.task for state in self._states.values() if state.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_there(self, image: ImageVolumeSource, state: _State) -> bool:
        core, name = self._core, image.reference
        policy = "IfNotPresent" if state.pulled else image.pull_policy
        try:
            if pulling.at_hand(core, name, policy) is not None:
                state.failure = ("", "")
                return True
        except NoImage as error:
            state.failure = error.waiting, error.what
            self._complain(name, error)
            self._look_at(core.now() + LOOK)
            return False
        if state.task is None and core.now() >= state.next_pull:
            state.task = core.spawn(self._pull(image, state))
        elif state.task is None:
            # Somebody may load it meanwhile.
            self._look_at(min(state.next_pull, core.now() + LOOK))
        return False

    async def _pull(self, image: ImageVolumeSource, state: _State) -> None:
        core = self._core
        try:
            await pulling.get_image(core, image.reference, image.pull_policy)
            state.pulled, state.failures = True, 0
        except NoImage as error:
            state.failure = error.waiting, error.what
            pulling.tell(core, image.reference, error)
            delay = min(backoff.MAXIMUM, backoff.INITIAL * 2**state.failures)
            state.failures, state.next_pull = state.failures + 1, core.now() + delay
        finally:
            state.task = None
            core.wake.set()

    def _look_at(self, when: float) -> None:
        self.next_try = when if self.next_try is None else min(self.next_try, when)

    def _tell_containers(self, missing: tuple[str, str] | None) -> None:
        """Have the containers say what they wait for; or that they wait for it no more."""
        if not missing and not self._told:
            return
        self._told = missing is not None
        for record in self._core.record.containers:
            if record.state == "waiting" and record.next_start is not None:
                record.reason, record.message = missing or ("ContainerCreating", "")

    def _complain(self, name: str, error: NoImage) -> None:
        """Tell what is missing, once, until something else is."""
        if self._complained.get(name) != error.what:
            self._complained[name] = error.what
            pulling.tell(self._core, name, error)
