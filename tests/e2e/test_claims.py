# SPDX-License-Identifier: GPL-3.0-or-later
"""PersistentVolumeClaims and PersistentVolumes: what they keep, how long, for whom, and how they are shown."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.features import requires
from tests.instance import TEST_IMAGE, Instance, Json
from tests.patience import patience

pytestmark = requires("root", "namespaces", "overlay", "nft", "veth", "cgroup:pids")


def claim(name: str = "c", size: str = "1Gi", **spec: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
            **spec,
        },
    }


def volume(name: str = "v", size: str = "1Gi", **spec: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, **spec},
    }


def pod(name: str, script: str, source: Json | None = None, **container: Any) -> Json:
    """Return a pod that runs *script* with a volume at /data, claim ``c`` unless *source* says otherwise."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "volumes": [{"name": "d", **(source or claimed())}],
            "containers": [
                {
                    "name": "a",
                    "image": TEST_IMAGE,
                    "command": ["sh", "-c", script],
                    "volumeMounts": [{"name": "d", "mountPath": "/data"}],
                    **container,
                }
            ],
        },
    }


def claimed(name: str = "c", **more: Any) -> Json:
    return {"persistentVolumeClaim": {"claimName": name, **more}}


def apply(here: Instance, *objects: Json, check: bool = True) -> subprocess.CompletedProcess[str]:
    text = "\n---\n".join(map(json.dumps, objects))
    return here.cli("apply", "-f", "-", input=text, check=check)


def get(here: Instance, kind: str, name: str) -> Json:
    found: Json = json.loads(here.cli("get", kind, name, "-o", "json").stdout)
    return found


def run(here: Instance, made: Json) -> str:
    """Run a pod to its end and return what it said."""
    apply(here, made)
    name = made["metadata"]["name"]
    ended = here.until(name, lambda p: p["status"].get("phase") in ("Succeeded", "Failed"))
    said = here.output(name)
    assert ended["status"]["phase"] == "Succeeded", (said, ended["status"])
    here.delete(name)
    return said


def clear(instance: Instance) -> None:
    for kind in ("pods", "pvc", "pv"):
        instance.cli("delete", kind, "--all")


@pytest.fixture
def here(shared_instance: Instance) -> Iterator[Instance]:
    """An instance without pods, claims and volumes; what was made for claims is gone with them."""
    clear(shared_instance)
    yield shared_instance
    clear(shared_instance)
    assert not list(Path(shared_instance.config.root_dir).glob("volumes/*"))


# ---- a directory per claim ------------------------------------------------------------------------------------


@pytest.mark.field(
    "Volume.persistentVolumeClaim",
    "PersistentVolumeClaimVolumeSource.claimName",
    "PersistentVolumeClaim.metadata",
    "PersistentVolumeClaim.spec",
)
def test_what_is_written_outlives_the_pod(here: Instance) -> None:
    apply(here, claim())
    run(here, pod("one", "echo kept >/data/file && id -u"))
    assert run(here, pod("two", "cat /data/file")) == "kept\n"
    # And the agent.
    here.cli("agent", "stop")
    assert run(here, pod("three", "cat /data/file")) == "kept\n"
    path = Path(
        get(here, "pv", get(here, "pvc", "c")["spec"]["volumeName"])["spec"]["local"]["path"]
    )
    assert (path / "file").read_text() == "kept\n"
    assert here.cli("delete", "pvc", "c").stdout == 'persistentvolumeclaim "c" deleted\n'
    apply(here, claim())
    assert run(here, pod("four", "ls /data")) == ""


def test_one_file_with_all(here: Instance) -> None:
    apply(here, claim(), pod("p", "echo x >/data/x; ls /data"))
    ended = here.until("p", lambda p: p["status"].get("phase") in ("Succeeded", "Failed"))
    assert ended["status"]["phase"] == "Succeeded"
    assert here.output("p") == "x\n"


def test_how_they_are_shown(here: Instance) -> None:
    apply(here, claim("c", "1Gi", storageClassName="fast"), claim("d", storageClassName=""))
    lines = here.cli("get", "pvc").stdout.splitlines()
    titles = "NAME STATUS VOLUME CAPACITY ACCESS MODES STORAGECLASS VOLUMEATTRIBUTESCLASS AGE"
    assert lines[0].split() == titles.split()
    bound = get(here, "pvc", "c")["spec"]["volumeName"]
    assert lines[1].split()[:7] == ["c", "Bound", bound, "1Gi", "RWO", "fast", "<unset>"]
    assert lines[2].split()[:3] == ["d", "Pending", "<unset>"]
    row = here.cli("get", "pv").stdout.splitlines()[1].split()
    expected = [bound, "1Gi", "RWO", "Delete", "Bound", "default/c", "fast", "<unset>"]
    assert row[:8] == expected
    assert here.cli("get", "pv", "-o", "wide").stdout.splitlines()[1].split()[-1] == "Filesystem"
    apply(here, pod("user", "true"))
    said = here.cli("describe", "pvc", "c").stdout
    for words in (f"Volume:        {bound}", "Status:        Bound", "Used By:       user"):
        assert words in said, said
    assert "ProvisioningSucceeded" in said
    said = here.cli("describe", "pv", bound).stdout
    assert "Claim:           default/c" in said and "LocalVolume (a persistent" in said, said
    assert "no storage class is set" in here.cli("describe", "pvc", "d").stdout


@pytest.mark.field("VolumeResourceRequirements.requests")
def test_a_claim_grows_and_does_not_shrink(here: Instance) -> None:
    apply(here, claim())
    assert apply(here, claim()).stdout == "persistentvolumeclaim/c unchanged\n"
    assert apply(here, claim("c", "2Gi")).stdout == "persistentvolumeclaim/c configured\n"
    assert get(here, "pvc", "c")["status"]["capacity"] == {"storage": "2Gi"}
    refused = apply(here, claim("c", "1Gi"), check=False)
    assert refused.returncode != 0 and "field can not be less than before: 2Gi" in refused.stderr
    changed = apply(here, claim("c", "2Gi", storageClassName="x"), check=False)
    assert "spec is immutable after creation" in changed.stderr


def test_the_plan_of_a_pod_whose_claim_is_not_there(here: Instance) -> None:
    device: Json = {"volumeMounts": [], "volumeDevices": [{"name": "d", "devicePath": "/dev/xvda"}]}
    for made in (pod("p", "true"), pod("p", "true", **device)):
        said = here.cli("plan", "-", input=json.dumps(made)).stdout
        assert "volumes/c" in said or "mknod /dev/xvda b 7 0" in said, said


# ---- in use ---------------------------------------------------------------------------------------------------


def test_a_claim_in_use_is_kept(here: Instance) -> None:
    apply(here, claim(), pod("user", "sleep 1000"))
    here.wait("user", "condition=Ready")
    deleting = here.start("delete", "pvc", "c", stdout=subprocess.PIPE)
    while "deletionTimestamp" not in get(here, "pvc", "c")["metadata"]:
        pass
    assert here.cli("get", "pvc").stdout.splitlines()[1].split()[1] == "Terminating"
    assert get(here, "pvc", "c")["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    assert here.exec("user", "touch", "/data/still").returncode == 0
    assert deleting.poll() is None
    here.delete("user")
    output, _ = deleting.communicate(timeout=patience(30))
    assert output == b'persistentvolumeclaim "c" deleted\n'


@pytest.mark.parametrize("together", [True, False], ids=["one file", "a file each"])
def test_a_volume_is_named_before_who_uses_it(here: Instance, together: bool) -> None:
    """As the files of tutorials do; each is deleted when it can be, and nothing waits for what comes after it."""
    made = [
        volume(hostPath={"path": str(here.base)}, storageClassName="s"),
        claim(storageClassName="s", volumeName="v"),
        pod("p", "sleep 1000"),
    ]
    apply(here, *made)
    here.wait("p", "condition=Ready")
    texts = ["\n---\n".join(map(json.dumps, made))] if together else list(map(json.dumps, made))
    files = [here.write(f"{i}.json", text) for i, text in enumerate(texts)]
    options = [word for file in files for word in ("-f", file)]
    done = here.cli("delete", *options)
    deleted = {'pod "p"', 'persistentvolumeclaim "c"', 'persistentvolume "v"'}
    assert set(done.stdout.splitlines()) == {f"{each} deleted" for each in deleted}


def test_a_pod_waits_for_its_claim(here: Instance) -> None:
    apply(here, pod("early", "ls /data"))
    words = 'persistentvolumeclaim "c" not found'
    waiting = here.until("early", lambda p: p["status"]["conditions"][0]["status"] == "False")
    scheduled = waiting["status"]["conditions"][0]
    assert (scheduled["type"], scheduled["reason"]) == ("PodScheduled", "Unschedulable")
    assert scheduled["message"] == words
    assert waiting["status"]["phase"] == "Pending"
    assert [e["message"] for e in here.events("early") if e["reason"] == "FailedScheduling"] == [
        words
    ]
    apply(here, claim())
    ended = here.until("early", lambda p: p["status"]["phase"] == "Succeeded")
    assert ended["status"]["conditions"][0]["status"] == "True"


@pytest.mark.field("PersistentVolumeClaimSpec.accessModes")
def test_one_pod_at_a_time(here: Instance) -> None:
    apply(here, claim(accessModes=["ReadWriteOncePod"]), pod("first", "sleep 1000"))
    here.wait("first", "condition=Ready")
    apply(here, pod("second", "echo mine"))
    waiting = here.until("second", lambda p: p["status"]["conditions"][0]["status"] == "False")
    assert "ReadWriteOncePod access mode" in waiting["status"]["conditions"][0]["message"]
    here.delete("first")
    here.until("second", lambda p: p["status"]["phase"] == "Succeeded")


@pytest.mark.field("PersistentVolumeClaimVolumeSource.readOnly")
def test_read_only(here: Instance) -> None:
    apply(here, claim())
    said = run(here, pod("r", "touch /data/x 2>&1; true", claimed(readOnly=True)))
    assert "Read-only file system" in said


def test_a_sub_path_of_a_claim(here: Instance) -> None:
    apply(here, claim())
    mounts = [{"name": "d", "mountPath": "/data", "subPath": "a/b"}]
    run(here, pod("s", "echo x >/data/file", volumeMounts=mounts))
    assert run(here, pod("t", "cat /data/a/b/file")) == "x\n"


def test_a_claim_belongs_to_the_pods_group(here: Instance) -> None:
    apply(here, claim())
    made = pod("g", "touch /data/x; ls -ln /data/x; ls -lnd /data")
    made["spec"]["securityContext"] = {"fsGroup": 4242, "runAsUser": 1000}
    file, top = run(here, made).splitlines()
    assert file.split()[2:4] == ["1000", "4242"]
    assert top.startswith("drwxrws") and top.split()[3] == "4242"


@requires("userns", "idmap")
def test_a_claim_in_a_user_namespace(here: Instance) -> None:
    apply(here, claim())
    made = pod("ns", "id -u; touch /data/x /data/../data/y; ls -ln /data/x")
    made["spec"]["hostUsers"] = False
    said = run(here, made).splitlines()
    assert said[0] == "0" and said[1].split()[2] == "0"
    # Another pod, with other ids on the host or none, finds the same owner.
    assert run(here, pod("plain", "ls -ln /data/x")).split()[2] == "0"


@pytest.mark.field(
    "Volume.ephemeral",
    "PersistentVolumeClaimTemplate.metadata",
    "PersistentVolumeClaimTemplate.spec",
)
def test_an_ephemeral_claim(here: Instance) -> None:
    template = {"metadata": {"labels": {"for": "me"}}, "spec": claim()["spec"]}
    source = {"ephemeral": {"volumeClaimTemplate": template}}
    apply(here, pod("eph", "echo x >/data/x; sleep 1000", source))
    here.wait("eph", "condition=Ready")
    made = get(here, "pvc", "eph-d")
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Pod", "eph")
    assert made["metadata"]["labels"] == {"for": "me"}
    here.delete("eph")
    while "eph-d" in here.cli("get", "pvc").stdout:
        pass


# ---- volumes that are there -----------------------------------------------------------------------------------


@pytest.fixture
def outside(here: Instance) -> Iterator[Path]:
    path = here.base / "outside"
    path.mkdir()
    yield path
    shutil.rmtree(path)


@pytest.mark.field(
    "PersistentVolume.metadata",
    "PersistentVolumeSpec.local",
    "PersistentVolumeSpec.hostPath",
    "PersistentVolumeSpec.storageClassName",
    "PersistentVolumeClaimSpec.storageClassName",
    "LocalVolumeSource.path",
)
@pytest.mark.parametrize("kind", ["local", "hostPath"])
def test_a_volume_of_the_administrator(here: Instance, outside: Path, kind: str) -> None:
    (outside / "file").write_text("of the host\n")
    source: Json = {kind: {"path": str(outside)}}
    made = volume(storageClassName="manual", **source)
    apply(here, made, claim(storageClassName="manual"))
    assert get(here, "pvc", "c")["spec"]["volumeName"] == "v"
    assert run(here, pod("p", "cat /data/file")) == "of the host\n"
    here.cli("delete", "pvc", "c")
    assert get(here, "pv", "v")["status"]["phase"] == "Released"
    assert (outside / "file").exists()
    here.cli("delete", "pv", "v")
    assert (outside / "file").exists()


@pytest.mark.field("LabelSelector.matchLabels", "LabelSelectorRequirement.key")
@pytest.mark.field("LabelSelectorRequirement.operator", "LabelSelectorRequirement.values")
@pytest.mark.field("PersistentVolumeSpec.accessModes", "PersistentVolumeSpec.capacity")
def test_the_volume_that_is_asked_for(here: Instance, outside: Path) -> None:
    tiers = {"small": ("gold", "1Mi"), "right": ("gold", "2Gi"), "large": ("lead", "2Gi")}
    made = []
    for name, (tier, size) in tiers.items():
        (outside / name).mkdir()
        (outside / name / "file").write_text(f"{name}\n")
        each = volume(name, size, local={"path": str(outside / name)})
        each["metadata"]["labels"] = {"tier": tier, "site": "here"}
        made.append(each)
    # Of the same labels, but not for many writers.
    made.append(volume("one", "2Gi", accessModes=["ReadOnlyMany"], local={"path": str(outside)}))
    made[-1]["metadata"]["labels"] = {"tier": "gold", "site": "here"}
    rule = {"key": "tier", "operator": "In", "values": ["gold", "silver"]}
    selector = {"matchLabels": {"site": "here"}, "matchExpressions": [rule]}
    apply(here, *made, claim(selector=selector))
    assert run(here, pod("p", "cat /data/file")) == "right\n"


@pytest.mark.field("PersistentVolumeClaimSpec.volumeName", "PersistentVolumeSpec.claimRef")
@pytest.mark.field("ObjectReference.name", "ObjectReference.namespace", "ObjectReference.uid")
@pytest.mark.field("PersistentVolumeSpec.persistentVolumeReclaimPolicy")
def test_volumes_that_are_kept_for_a_claim(here: Instance, outside: Path) -> None:
    reference = {"name": "c", "namespace": "default"}
    for name in ("mine", "named"):
        (outside / name).mkdir()
        (outside / name / "file").write_text(f"{name}\n")
    mine = volume("mine", "9Gi", local={"path": str(outside / "mine")}, claimRef=reference)
    mine["spec"]["persistentVolumeReclaimPolicy"] = "Delete"
    named = volume("named", local={"path": str(outside / "named")})
    apply(here, named, mine, claim("c"), claim("d", volumeName="named"))
    bound = get(here, "pv", "mine")["spec"]["claimRef"]
    assert bound["uid"] == get(here, "pvc", "c")["metadata"]["uid"]
    assert run(here, pod("c", "cat /data/file")) == "mine\n"
    assert run(here, pod("d", "cat /data/file", claimed("d"))) == "named\n"
    here.cli("delete", "pvc", "c", "d")
    # Nothing is removed that minipod did not make.
    kept = get(here, "pv", "mine")["status"]
    assert kept["phase"] == "Failed" and "only what it made itself" in kept["message"]
    assert (outside / "mine" / "file").exists()
    # What was bound to another claim is not given to one of the same name.
    apply(here, claim("c", storageClassName=""))
    assert get(here, "pvc", "c")["status"]["phase"] == "Pending"


@pytest.mark.field("ObjectReference.namespace", "ObjectReference.uid")
def test_volumes_that_are_kept_for_others(here: Instance, outside: Path) -> None:
    """A claim of the same name in another namespace, or one that was there before, is another claim."""
    (outside / "file").touch()
    for name, other in (("c", {"namespace": "other"}), ("d", {"uid": "before"})):
        reference = {"name": name, "namespace": "default", **other}
        apply(here, volume(name, local={"path": str(outside)}, claimRef=reference), claim(name))
        assert run(here, pod("p", "ls /data", claimed(name))) == ""


@pytest.mark.field("PersistentVolumeSpec.persistentVolumeReclaimPolicy")
def test_what_becomes_of_a_volume_without_its_claim(here: Instance) -> None:
    paths = {}
    for name in ("lost", "kept"):
        apply(here, claim(name))
        run(here, pod("writer", "echo kept >/data/file", claimed(name)))
        bound = get(here, "pv", get(here, "pvc", name)["spec"]["volumeName"])
        paths[name] = Path(bound["spec"]["local"]["path"])
        if name == "kept":
            bound["spec"]["persistentVolumeReclaimPolicy"] = "Retain"
            apply(here, bound)
    here.cli("delete", "pvc", "lost", "kept")
    while "lost" in (shown := here.cli("get", "pv").stdout):
        pass
    assert "Released" in shown
    assert not paths["lost"].exists()
    assert (paths["kept"] / "file").read_text() == "kept\n"
    here.cli("delete", "pv", bound["metadata"]["name"])
    shutil.rmtree(paths["kept"])


@pytest.mark.field("VolumeResourceRequirements.limits")
def test_the_most_that_is_wanted(here: Instance) -> None:
    """It is checked and kept; as in Kubernetes, volumes are chosen without a look at it."""
    amounts = {"requests": {"storage": "2Gi"}, "limits": {"storage": "3Gi"}}
    apply(here, claim(resources=amounts))
    assert get(here, "pvc", "c")["spec"]["resources"] == amounts
    amounts["limits"] = {"storage": "0"}
    refused = apply(here, claim("d", resources=amounts), check=False)
    assert "spec.resources.limits.storage: must be greater than zero" in refused.stderr


@pytest.mark.field("PodSecurityContext.fsGroupChangePolicy")
def test_when_a_claim_changes_its_group(here: Instance) -> None:
    apply(here, claim())
    user = {"fsGroup": 4242}
    script = "chown 0:0 /data/file; ls -ln /data/file"

    def group(policy: str, script: str = "ls -ln /data/file") -> str:
        made = pod("group", script)
        made["spec"]["securityContext"] = {**user, "fsGroupChangePolicy": policy}
        return run(here, made).split()[3]

    assert group("Always", f"touch /data/file; {script}") == "0"
    assert group("OnRootMismatch") == "0", "the top is right: the rest is not looked at"
    assert group("Always") == "4242"


def test_a_local_volume_that_is_not_there(here: Instance) -> None:
    apply(here, volume(local={"path": "/mpt/none"}), claim(), pod("p", "true"))
    request = {"kind": "events", "names": [], "for": "p", "namespace": "default"}
    while not (found := [e for e in here.events("p") if e["reason"] == "FailedMount"]):
        here.call("get", request)
    assert 'path "/mpt/none" does not exist' in found[0]["message"]


@pytest.mark.field("NFSVolumeSource.server")
def test_a_network_volume_whose_server_is_missing(here: Instance) -> None:
    source = {"nfs": {"server": "127.0.0.1", "path": "/export"}}
    apply(here, pod("nfs", "true", source))
    while not (found := [e for e in here.events("nfs") if e["reason"] == "FailedMount"]):
        pass
    assert "NFS server 127.0.0.1: " in found[0]["message"]
    assert get(here, "pod", "nfs")["status"]["phase"] == "Pending"


# ---- block devices --------------------------------------------------------------------------------------------


@pytest.mark.field(
    "Container.volumeDevices",
    "VolumeDevice.name",
    "VolumeDevice.devicePath",
    "PersistentVolumeClaimSpec.volumeMode",
)
@pytest.mark.skipif(
    not os.path.exists("/dev/loop-control"), reason="this machine lacks loop devices"
)
def test_a_block_device(here: Instance) -> None:
    apply(here, claim("c", "8Mi", volumeMode="Block"))
    device: Json = {"volumeMounts": [], "volumeDevices": [{"name": "d", "devicePath": "/dev/xvda"}]}
    script = "echo kept | dd of=/dev/xvda bs=512 conv=sync 2>/dev/null; head -n 1 /dev/xvda"
    assert run(here, pod("write", script, **device)) == "kept\n"
    script = "head -n 1 /dev/xvda; dd if=/dev/zero of=/dev/xvda bs=1M 2>&1 | grep -c 'No space'"
    assert run(here, pod("read", script, **device)) == "kept\n1\n"
    # Another device of the same kind is nobody's to use.
    script = "mknod /other b 7 255; head -c 1 /other 2>&1; true"
    assert "not permitted" in run(here, pod("other", script, **device))
    attached = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout
    assert str(here.base) not in attached
    read_only = pod(
        "ro", "dd if=/dev/zero of=/dev/xvda count=1 2>&1; true", claimed(readOnly=True), **device
    )
    assert "not permitted" in run(here, read_only)


@pytest.mark.skipif(
    not os.path.exists("/dev/loop-control"), reason="this machine lacks loop devices"
)
@pytest.mark.field("PersistentVolumeSpec.volumeMode", "EphemeralContainer.volumeDevices")
def test_a_block_device_of_the_host(here: Instance, outside: Path) -> None:
    """A claim of another mode does not get it; a container that comes later sees it, too."""
    (outside / "disk").write_bytes(b"of the host\n".ljust(1 << 20, b"\0"))
    command = ["losetup", "--find", "--show", str(outside / "disk")]
    disk = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        made = volume(volumeMode="Block", local={"path": disk}, storageClassName="manual")
        same = {"storageClassName": "manual"}
        apply(here, made, claim("files", **same), claim("c", volumeMode="Block", **same))
        assert get(here, "pvc", "c")["spec"]["volumeName"] == "v"
        device: Json = {"volumeDevices": [{"name": "d", "devicePath": "/dev/xvda"}]}
        apply(here, pod("p", "head -n 1 /dev/xvda; sleep 1000", volumeMounts=[], **device))
        assert here.first_line("p") == "of the host"
        late = {"name": "late", "image": TEST_IMAGE, "command": ["head", "-n", "1", "/dev/xvda"]}
        here.call("debug", {"pod": "p", "container": json.dumps({**late, **device})})
        assert here.first_line("p", "late") == "of the host"
        here.delete("p")
    finally:
        subprocess.run(["losetup", "--detach", disk], check=True)
