# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place that knows where an instance of minipod lives.

Every path, link name, subnet, nftables table and cgroup comes from a :class:`Config`, so that several
instances, and test runs, live side by side on one machine. Sources, later wins: the defaults, a TOML file
(``/etc/minipod/config.toml`` or ``$MINIPOD_CONFIG``), ``MINIPOD_*`` variables, command-line flags.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from minipod.errors import UsageError

HELPER_ENV = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL": "C"}
"""The environment of the host's programs that we run: nothing of whoever started the agent steers them."""

DEFAULT_FILE = "/etc/minipod/config.toml"


class Config(NamedTuple):
    """Where one instance of minipod keeps its state and what it calls its objects on the host.

    Attributes:
        root_dir: persistent state: ``state.db``, ``images/``, ``pods/<uid>/``.
        run_dir: volatile state: ``agent.sock``, ``pods/<uid>/``; 0700.
        log_dir: container logs, ``<ns>_<pod>_<uid>/<container>/<n>.log``.
        bridge: the name of the bridge link (15 bytes at most, see ``IFNAMSIZ``).
        link_prefix: the first letters of the host ends of the pods' veth pairs (1 to 4 letters).
        pod_cidr: the IPv4 range of the pods; its first address is the bridge's.
        nft_table: the name of the nftables tables (families inet and bridge).
        single_process_oom_kill: "true": out of memory kills one process of a container, not all of it (cgroup v2; a
            setting of the kubelet, too).
        cgroup_parent: the cgroup under which all pods live, relative to each hierarchy's root.
        cluster_domain: what the whole names of pods with a subdomain end in, as in a cluster.
        user_ids: the host's user and group ids for pods with ``hostUsers: false``, ``FIRST-LAST``; 65,536 for each pod.
            The default are those that systemd leaves to nobody (systemd.io/UIDS-GIDS).
        allowed_unsafe_sysctls: which sysctls beside Kubernetes' safe list a pod may set: names or patterns as
            ``net.core.*``, with commas between them.
        traces: how many starts of each container ``minipod trace`` remembers; "0": none, and no step is timed.
        containers_dir: where ``registries.conf``, ``certs.d`` and ``auth.json`` are, which Podman reads, too.
        docker_dir: where Docker's ``certs.d`` is.
        docker_config: the file that ``docker login`` writes; the default is that of the agent's user.
        image_gc_high_threshold_percent: how much of the images' file system may be used before images that no pod uses
            are removed; 100: never. This and the following are settings of the kubelet, too.
        image_gc_low_threshold_percent: how much of it is to be used then.
        image_minimum_gc_age: how long an image that has come is safe from that.
        image_maximum_gc_age: how long after its last use an image goes anyway; 0s: never.
        eviction_hard: thresholds below which all images go that no pod uses: ``imagefs.available<15%``, also
            ``inodesFree``, and ``nodefs``, where the root directory is.
    """

    root_dir: str = "/var/lib/minipod"
    run_dir: str = "/run/minipod"
    log_dir: str = "/var/log/pods"
    bridge: str = "minipod0"
    link_prefix: str = "mp"
    pod_cidr: str = "10.99.0.0/16"
    nft_table: str = "minipod"
    cgroup_parent: str = "minipod"
    cluster_domain: str = "cluster.local"
    single_process_oom_kill: str = "false"
    allowed_unsafe_sysctls: str = ""
    user_ids: str = "1879048192-2147352575"
    traces: str = "5"
    containers_dir: str = "/etc/containers"
    docker_dir: str = "/etc/docker"
    docker_config: str = "~/.docker/config.json"
    image_gc_high_threshold_percent: str = "85"
    image_gc_low_threshold_percent: str = "80"
    image_minimum_gc_age: str = "2m"
    image_maximum_gc_age: str = "0s"
    eviction_hard: str = (
        "imagefs.available<15%,nodefs.available<10%,imagefs.inodesFree<5%,nodefs.inodesFree<5%"
    )

    @property
    def socket(self) -> str:
        """The path of the agent's unix socket."""
        return f"{self.run_dir}/agent.sock"

    def to_env(self) -> dict[str, str]:
        """Return the config as ``MINIPOD_*`` variables, to hand it whole to another process."""
        return {f"MINIPOD_{name.upper()}": getattr(self, name) for name in SETTING_NAMES}


SETTING_NAMES = Config._fields
"""The names of all settings: of attributes, of the config file's keys, and with - for _ of the options."""


def load(env: Mapping[str, str] | None = None, **flags: str | None) -> Config:
    """Return the config from file, environment and *flags* (``None`` means not given).

    Raises:
        UsageError: the file cannot be read, is not TOML, or names an unknown setting.
    """
    env = os.environ if env is None else env
    values = _from_file(env.get("MINIPOD_CONFIG"))
    for name in SETTING_NAMES:
        if value := env.get(f"MINIPOD_{name.upper()}"):
            values[name] = value
    values.update({name: value for name, value in flags.items() if value is not None})
    return Config(**values)


def _from_file(named: str | None) -> dict[str, str]:
    path = Path(named or DEFAULT_FILE)
    if not named and not path.exists():
        return {}
    import tomllib  # only machines with a config file pay for the parser

    try:
        raw = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        why = (isinstance(error, OSError) and error.strerror) or str(error)
        raise UsageError(
            f"config file {path}: {why[:1].lower()}{why[1:]}",
            "mend the file or unset MINIPOD_CONFIG",
        ) from error
    for name, value in raw.items():
        if name not in SETTING_NAMES:
            raise UsageError(
                f"config file {path}: unknown setting {name!r}",
                f"known: {', '.join(sorted(SETTING_NAMES))}",
            )
        if not isinstance(value, str):
            raise UsageError(f"config file {path}: {name} must be a string", f'write {name} = "…"')
    return raw
