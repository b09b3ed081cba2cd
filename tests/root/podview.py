# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod that runs, as plain values that can be compared with another one that was made in another way.

Looked at from inside, by tests/probe/probe.c, and from outside, by /proc and the cgroup files. What may differ is left
out here, and nowhere else.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minipod.config import Config
from tests import features

Json = dict[str, Any]

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
STATUS = (
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Umask",
)
DIFFERENT = ("keyring", "seccomp")
"""What the probe says of itself that a script cannot make the same; its head says so."""
LIMITS = re.compile(
    r"(cpu\.(shares|weight|max|cfs_quota_us|cfs_period_us)|memory\.(min|high|max|oom\.group|swap\.max|limit_in_bytes|"
    r"memsw\.limit_in_bytes|swappiness)|pids\.max|devices\.list|hugetlb\..*max|hugetlb\..*limit_in_bytes)"
)
VIRTUAL = {"proc", "sysfs", "tmpfs", "devpts", "mqueue", "overlay", "cgroup", "cgroup2"}


@dataclass(frozen=True)
class View:
    """One pod that runs, made in one way or the other.

    Attributes:
        config: its names.
        cgroup: the pod's cgroup.
        pids: of pause and of each container, by name, as the host has them.
        said: what the probe has said in each container.
    """

    config: Config
    cgroup: str
    pids: dict[str, int]
    said: dict[str, Json]

    def all(self) -> Json:
        """Return everything that is to be the same."""
        result: Json = {"namespaces": self.namespaces(), "network": self.network()}
        result["tree"] = self.tree()
        for name, pid in self.pids.items():
            if name != "pause":
                result[name] = {
                    "status": status(pid),
                    "mounts": self.mounts(pid),
                    "limits": Path(f"/proc/{pid}/limits").read_text(),
                    "oom": Path(f"/proc/{pid}/oom_score_adj").read_text(),
                    "env": self.plain(Path(f"/proc/{pid}/environ").read_bytes().decode()),
                    "words": Path(f"/proc/{pid}/cmdline").read_bytes().decode(),
                    "comm": Path(f"/proc/{pid}/comm").read_text(),
                    "cwd": os.readlink(f"/proc/{pid}/cwd"),
                    "fds": sorted(os.listdir(f"/proc/{pid}/fd")),
                    "cgroup": self.limits(f"{self.cgroup}/{name}.0"),
                    "files": self.files(pid),
                    "said": self.heard(name),
                }
        result["pod cgroup"] = self.limits(self.cgroup)
        own = status(self.pids["pause"])
        for each in (
            "Umask",
            "Ignored",
            "Blocked",
        ):  # what a shell does with signals, and what pause does
            del own[each]
        result["pause"] = {"status": own, "mounts": self.mounts(self.pids["pause"])}
        return result

    def plain(self, text: str) -> str:
        """Return *text* without what only says who made it: the uid, the address, the places."""
        network = self.config.pod_cidr.rsplit(
            ".", 2 if self.config.pod_cidr.endswith("/16") else 1
        )[0]
        text = re.sub(rf"\b{re.escape(network)}(\.\d+)+(/\d+)?", "<address>", text)
        text = text.replace(self.cgroup, "<cgroup>").replace(self.config.cgroup_parent, "<cgroups>")
        for place in (self.config.root_dir, self.config.run_dir, self.config.log_dir):
            text = text.replace(place, "<place>")
        return re.sub(
            r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uid>", text
        )

    def namespaces(self) -> dict[str, dict[str, str]]:
        """Return whose namespaces each process has: the first process in this list that is in it."""
        everyone = {"host": os.getpid(), **self.pids}
        result: dict[str, dict[str, str]] = {}
        for kind in NAMESPACES:
            first: dict[str, str] = {}
            for name, pid in everyone.items():
                result.setdefault(name, {})[kind] = first.setdefault(
                    os.readlink(f"/proc/{pid}/ns/{kind}"), name
                )
        return result

    def mounts(self, pid: int) -> list[str]:
        """Return the mounts of a process, by mount point: what, where, with which options, shared with whom."""
        result = []
        for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            _, _, _, root, point, options, *shared = before.split()
            kind, source, more = after.split(" ", 2)
            tags = [tag.partition(":")[0] for tag in shared]
            more = (
                re.sub(r"(lower|upper|work)dir\+?=[^,]*", "", more) if kind == "overlay" else more
            )
            more = ",".join(sorted(set(more.split(",")) - {""}))
            if kind not in VIRTUAL:  # the filesystem of the machine, somewhere below a place
                root, source, more = re.sub(r"^.*/volumes/", "<volumes>/", root), "", ""
            result.append(self.plain(f"{point} {options} {tags} {kind} {source} {root} {more}"))
        return sorted(result)

    def network(self) -> Json:
        """Return links, addresses, routes and sysctls of the pod."""
        inside = ["nsenter", f"--net=/proc/{self.pids['pause']}/ns/net", "--"]

        def run(*command: str) -> str:
            return subprocess.run(
                [*inside, *command], capture_output=True, text=True, check=True
            ).stdout

        if self.namespaces()["pause"]["net"] == "host":
            return {}
        links = [
            (
                link["ifname"],
                link["mtu"],
                sorted(link["flags"]),
                [a["local"] for a in link["addr_info"] if a["family"] == "inet"],
            )
            for link in json.loads(run("ip", "-j", "addr"))
        ]
        routes = [
            (r["dst"], r.get("gateway", ""), r["dev"])
            for r in json.loads(run("ip", "-4", "-j", "route"))
        ]
        sysctls = ["net.ipv4.ping_group_range", "net.ipv4.conf.all.route_localnet"]
        found: Json = json.loads(self.plain(json.dumps([links, routes])))
        return {"links": found, "sysctls": run("sysctl", *sysctls)}

    def limits(self, path: str) -> dict[str, str]:
        """Return what the files of a cgroup are set to."""
        result = {}
        for top in (
            Path("/sys/fs/cgroup").glob("*/")
            if not Path("/sys/fs/cgroup/cgroup.procs").exists()
            else [Path("/sys/fs/cgroup")]
        ):
            directory = top / path
            for file in directory.iterdir() if directory.is_dir() else ():
                if LIMITS.fullmatch(file.name) and not top.is_symlink():
                    with contextlib.suppress(OSError):
                        result[f"{top.name}/{file.name}"] = file.read_text()
        return result

    def tree(self) -> list[str]:
        """Return the pod's processes: the number that they have inside, their user, whose child they are, and words.

        Pause is minipod's program here and a shell there.
        """
        pids = {
            int(pid)
            for _, top, _ in features.cgroup_mounts()
            for file in (top / self.cgroup).rglob("cgroup.procs")
            for pid in file.read_text().split()
        }
        names = {pid: name for name, pid in self.pids.items()}
        result = []
        for pid in pids:
            text = Path(f"/proc/{pid}/status").read_text()
            inside = re.search(r"NSpid:\s+(.*)", text)[1].split()  # type: ignore[index]
            depth = len(inside) - 1
            user = re.search(r"Uid:\s+(\d+)", text)[1]  # type: ignore[index]
            number = inside[-1] if depth and names.get(pid) != "second" else "-"
            words = (
                "pause" if names.get(pid) == "pause" else Path(f"/proc/{pid}/cmdline").read_text()
            )
            number = number if number == "1" else "n"
            result.append(f"{names.get(pid, '?')} {depth} {number} {user} {words}")
        return sorted(result)

    def files(self, pid: int) -> dict[str, str]:
        """Return what is in the container's volumes and in /etc."""
        root = f"/proc/{pid}/root"
        result = {}
        for top in ("/conf", "/sec", "/facts", "/mem", "/work", "/shared", "/etc", "/dev"):
            for at, directories, files in os.walk(f"{root}{top}"):
                if at.endswith(("/dev/pts", "/dev/shm", "/dev/mqueue")):
                    continue
                for name in [*directories, *files]:
                    path = f"{at}/{name}"
                    found = os.lstat(path)
                    what = f"{found.st_mode:o} {found.st_uid}:{found.st_gid} {found.st_rdev}"
                    if os.path.islink(path):
                        what += f" -> {re.sub(r'^[.][.][0-9m][^/]*', '<made>', os.readlink(path))}"
                    elif os.path.isfile(path):
                        what += " " + self.plain(Path(path).read_text())
                    result[re.sub(r"/[.][.][0-9m][^/]*", "/<made>", path.removeprefix(root))] = what
        return result

    def heard(self, name: str) -> Json:
        """Return what the probe has said, without what may differ."""
        said = {key: value for key, value in self.said[name].items() if key not in DIFFERENT}
        # Numbers of namespaces and mounts, and measures: what of them is the same is compared from outside.
        for key in ("ns", "mounts", "ps", "status"):
            said.pop(key, None)
        for node in said["dev"].values():
            if isinstance(node, dict):
                node.pop("device", None)
                node.pop("inode", None)
        if self.namespaces()[name]["pid"] != name:  # numbers of the host, or of pause's namespace
            said["ids"] = {
                k: v for k, v in said["ids"].items() if k not in ("pid", "ppid", "pgid", "sid")
            }
        said["fds"] = [
            fd for fd in said.get("fds", []) if isinstance(fd, dict) and fd.get("fd", 0) > 2
        ]
        found: Json = json.loads(self.plain(json.dumps(said)))
        return found


def status(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    lines = dict(line.split(":", 1) for line in text.splitlines())
    wanted = {name: lines[name].strip() for name in STATUS}
    # glibc leaves its own two signals ignored in what posix_spawn(3) starts, as make does, and no tool of a shell can
    # reset them.
    ignored = int(lines["SigIgn"], 16) & ~(1 << 31 | 1 << 32)
    return wanted | {"Ignored": f"{ignored:016x}", "Blocked": lines["SigBlk"].strip()}


def flat(value: Any, at: str = "") -> set[str]:
    """Return everything in *value* as lines that say where it is."""
    if isinstance(value, dict):
        return {line for key, each in value.items() for line in flat(each, f"{at}.{key}")} | {at}
    if isinstance(value, list):
        return {line for each in value for line in flat(each, f"{at}[]")} | {
            f"{at} has {len(value)}"
        }
    return {f"{at}: {value!r}"}


def differences(minipod: Json, script: Json) -> list[str]:
    """Return what is in one and not in the other."""
    run, hand = flat(minipod), flat(script)
    return [
        *(f"- {line}" for line in sorted(run - hand)),
        *(f"+ {line}" for line in sorted(hand - run)),
    ]
