# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod whose variables refer to objects, and a pod whose manifest changes: on a clock that stands still."""

from __future__ import annotations

from pathlib import Path

from minipod.api import ConfigMap, Container, ObjectMeta, from_dict, to_dict
from minipod.api.objects import ConfigMapEnvSource, EnvFromSource
from minipod.pods.update import differs
from tests.unit.test_plan_checker import pod
from tests.unit.test_pods_worker import IMAGE, World, of, one_container, world

__all__ = ["world"]


def refers(name: str = "app") -> Container:
    source = EnvFromSource(config_map_ref=ConfigMapEnvSource("c"))
    return Container(name=name, image="img", env_from=[source])


def config_map(namespace: str = "default") -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name="c", namespace=namespace), data={"A": "1"})


async def test_it_is_tried_as_soon_as_an_object_comes(world: World) -> None:
    worker = await world.run(pod(refers(), Container(name="other", image="img")))
    unsubscribe = world.objects.subscribe(
        lambda kind, space, name: worker.object_changed(kind, name)
    )
    app = of(worker)
    assert (app.state, app.attempt, app.reason) == ("waiting", -1, "CreateContainerConfigError")
    assert app.message == 'configmap "c" not found'
    assert of(worker, "other").state == "running"
    assert ("Warning", "Failed", 'Error: configmap "c" not found') in world.store.events
    world.objects.put(config_map("elsewhere"))
    await world.settle()
    assert app.state == "waiting"
    Path(worker.core.run_dir).mkdir(parents=True)
    world.objects.put(config_map(worker.pod.metadata.namespace))
    await world.settle()
    assert (app.state, app.attempt) == ("running", 0)
    unsubscribe()


async def test_nothing_is_tried_before_its_time(world: World) -> None:
    worker = await world.run(pod(refers()))
    count = len(world.store.events)
    worker.core.wake.set()
    await world.settle()
    assert len(world.store.events) == count
    await world.advance(worker, 10)
    assert len(world.store.events) == count + 2  # Pulled comes with each attempt


async def test_another_image_stops_and_starts_whatever_the_policy(world: World) -> None:
    world.images["new"] = IMAGE
    worker = await world.run(one_container(restart_policy="Never"))
    new = from_dict(to_dict(worker.pod), type(worker.pod))
    new.spec.containers[0].image = "new"
    lines = {"spec.containers[0].image": 7}
    assert worker.update(new, "p.yaml", lines) == "configured"
    await world.settle()
    assert world.shim.signals == [("app/0", 10)]  # SIGUSR1, the image's own
    world.shim.exits("app/0")
    await world.settle()
    app = of(worker)
    assert (app.state, app.attempt, app.renew) == ("running", 1, False)
    assert worker.update(new, "p.yaml", lines) == "unchanged"
    # The next end is an end.
    world.shim.exits("app/1")
    await world.settle()
    assert app.state == "ended"


async def test_one_that_waits_for_its_image_tries_the_new_one(world: World) -> None:
    worker = await world.run(pod(Container(name="app", image="none")))
    assert of(worker).state == "waiting"
    new = from_dict(to_dict(worker.pod), type(worker.pod))
    new.spec.containers[0].image = "img"
    worker.update(new, "p.yaml", {"spec.containers[0].image": 7})
    await world.settle()
    assert of(worker).state == "running"


async def test_what_the_agent_writes_is_no_difference(world: World) -> None:
    worker = await world.run()
    new = from_dict(to_dict(worker.pod), type(worker.pod))
    new.metadata.annotations = {}
    worker.pod.metadata.annotations["minipod.dev/x"] = "1"
    assert not differs(worker.pod, new, set())
    new.metadata.annotations = {"mine": "1"}
    assert worker.update(new, "p.yaml", {}) == "configured"
    assert worker.pod.metadata.annotations["minipod.dev/x"] == "1"
    assert worker.pod.metadata.annotations["mine"] == "1"
