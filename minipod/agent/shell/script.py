# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as a script for bash: the same steps, by hand, with the programs of util-linux, iproute2 and nftables.

One renderer for every kind of step (``RENDERERS``); what a shell cannot do is said at the step and in the script's
head. The script makes everything under names of its own, so that it meets no minipod and no other script:
see :func:`own_names`.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from minipod.agent.shell import host, mounts, parts, privileges, process
from minipod.agent.shell.quoting import comment, quote, words
from minipod.agent.shell.writer import Function, Writer
from minipod.config import Config
from minipod.plan import steps as s
from minipod.plan.context import Facts
from minipod.plan.explain import PodPlan, words_of
from minipod.plan.explain.document import container_actor
from minipod.runtime.atomic import File

RENDERERS: dict[type[s.Step], Callable[[Any, Writer], None]] = {
    **process.RENDERERS,
    **mounts.RENDERERS,
    **privileges.RENDERERS,
    **host.RENDERERS,
}
"""How each kind of step is written; ``Launch`` and ``AttachNetwork`` need more and are written in :class:`_Script`."""

_PROGRAMS = (
    *("unshare", "nsenter", "setpriv", "setsid", "prlimit", "mount", "umount", "pivot_root"),
    *("findmnt", "mknod", "ip", "nft", "env", "tar", "sha256sum", "ldd", "chroot", "mkfifo"),
)
_ALWAYS_MISSING = (
    "restarts, probes, hooks and deadlines: a container that has ended has ended",
    "secrecy: what stands in variables and volumes stands in this script, and variables are for an instant in the "
    "arguments of env",
)


@dataclass(frozen=True, slots=True)
class Handmade:
    """What a script is made of.

    Attributes:
        plan: the pod's plan, compiled with :func:`own_names`.
        config: these names.
        cgroup: the cgroup above all others of it.
        facts: the machine that the plan was made on.
        inits: the containers whose end the next one waits for.
        files: by volume, what the agent would write into it beside the plan.
        group: the pod's ``fsGroup``.
        version: minipod's.
    """

    plan: PodPlan
    config: Config
    cgroup: str
    facts: Facts
    inits: frozenset[str]
    files: Mapping[str, Mapping[str, File]] = field(default_factory=dict)
    group: int | None = None
    version: str = ""


def own_names(config: Config, namespace: str, name: str) -> tuple[Config, str, str]:
    """Return the places and names of the script of a pod, its cgroup, and the uid for the pod: always the same."""
    key = f"{namespace}/{name}"
    number = hashlib.sha256(key.encode()).hexdigest()[:8]
    own = config._replace(
        root_dir=f"/var/lib/minipod-script/{number}",
        run_dir=f"/run/minipod-script/{number}",
        log_dir=f"/var/log/minipod-script/{number}",
        bridge=f"ms{number}",
        link_prefix="ms",
        pod_cidr=f"10.98.{int(number[:2], 16)}.0/24",
        nft_table=f"minipod_script_{number}",
    )
    return own, f"minipod-script-{number}", str(uuid.uuid5(uuid.NAMESPACE_URL, f"minipod:{key}"))


def script(made: Handmade) -> str:
    """Return the script that builds the pod.

    Raises:
        UsageError: the pod is one that cannot be built by a script.
    """
    return _Script(made).text()


def teardown(made: Handmade) -> str:
    """Return the script that removes what :func:`script` has made."""
    lines = [
        "#!/usr/bin/env bash",
        f"# Removes pod {comment(made.plan.name)}, which the script of `minipod plan -o sh` has built.",
        "set -eu -o pipefail",
        "SELF=$0",
        *_names(made),
        parts.COMMON.strip("\n"),
        parts.TEARDOWN.rstrip("\n"),
        "",
        '[ "$(id -u)" = 0 ] || die "run it as root"',
        'teardown || die "not all could be removed: run it again"',
    ]
    return "\n".join(lines) + "\n"


def _names(made: Handmade) -> list[str]:
    config, link = made.config, _link(made)
    hierarchies = words(each.directory for each in made.facts.hierarchies)
    return [
        "",
        "# Where everything of the pod is, and what it is called. Nothing else of this machine is touched, but that",
        "# IPv4 forwarding is turned on.",
        f"RUN={quote(config.run_dir)}",
        f"STATE={quote(config.root_dir)}",
        f"LOGS={quote(config.log_dir)}",
        f"CGROUP={quote(made.cgroup)}",
        f"HIERARCHIES=({hierarchies})",
        f"BRIDGE={quote(config.bridge) if link else chr(39) * 2}",
        f"LINK={quote(link.host_ifname) if link else chr(39) * 2}",
        f"TABLE={quote(config.nft_table)}",
    ]


def _link(made: Handmade) -> s.AttachNetwork | None:
    return next((step for step in made.plan.sandbox if isinstance(step, s.AttachNetwork)), None)


def _short(actor: str) -> str:
    """Return *actor* as it can stand in the names of functions and files."""
    return actor.replace("/", "_").replace("-", "_")


class _Script:
    def __init__(self, made: Handmade) -> None:
        self._made = made
        self._missing: dict[str, None] = dict.fromkeys(_ALWAYS_MISSING)
        self._functions: list[Function] = []

    def text(self) -> str:
        made = self._made
        build = self._writer("host", "build")
        number = 1
        for actor, steps in made.plan.parts:
            if actor != "pause":
                build.line("")
                build.line(f"# ==== {comment(actor)} ====")
            for step in steps:
                build.begin(number, step, *self._why(step))
                self._host_step(step, actor, build)
                number += 1
            if actor == "pause":
                for volume, files in made.files.items():
                    host.write_files(volume, files, made.group, build)
        build.functions[0].name = "build"
        build.functions[0].lines[:0] = self._prepare()
        functions = [*self._functions, *build.functions]
        return "\n".join([*self._head(), *self._shown(functions), *self._main(functions)]) + "\n"

    def _writer(self, actor: str, short: str) -> Writer:
        return Writer(actor, short, self._made.facts, self._missing)

    def _why(self, step: s.Step) -> tuple[str, str]:
        plan = self._made.plan
        line = plan.lines.get(step.source)
        origin = f"{plan.source}:{line}: {step.source}" if line else ""
        return words_of(step).why, origin

    def _host_step(self, step: s.Step, actor: str, to: Writer) -> None:
        made = self._made
        if isinstance(step, s.Launch):
            inits = {container_actor(name) for name in made.inits}
            self._inside(step, actor)
            host.launch(step, to, _short(actor), waits=actor in inits)
        elif isinstance(step, s.AttachNetwork):
            host.attach_network(step, to, made.config)
        else:
            RENDERERS[type(step)](step, to)

    def _inside(self, launch: s.Launch, actor: str) -> None:
        to = self._writer(actor, _short(actor))
        for hierarchy in made_in(launch, self._made.facts):
            to.line("# clone3 has put it there at its birth")
            to.line(f"echo 0 >{quote(f'{hierarchy}/{launch.into_cgroup}/cgroup.procs')}")
        for number, step in enumerate(launch.steps, 1):
            to.begin(number, step, *self._why(step))
            RENDERERS[type(step)](step, to)
        self._functions += to.functions

    # ---- the parts of the file --------------------------------------------------------------------------------

    def _head(self) -> list[str]:
        made, plan = self._made, self._made.plan
        images = sorted({each.image for each in plan.containers})
        lines = [
            "#!/usr/bin/env bash",
            f"# Pod {comment(plan.name)} of {comment(plan.source)}, built by hand: the plan of minipod {made.version}"
            " as commands.",
            "#",
            "#   bash SCRIPT                    with the images of this machine's minipod",
            "#   bash SCRIPT --images ARCHIVE   on a machine without minipod, with the archive that",
            f"#     minipod image save --format docker-archive -o ARCHIVE {comment(words(images))}",
            "#   has made where minipod is.",
            "#",
            "# It needs root, bash 4.4, util-linux, iproute2, nftables, tar, and coreutils with env -C (8.31).",
            "# It refuses to run twice, and takes down what it has made when something fails. The script that",
            "# removes the pod is that of `minipod plan -o sh --teardown`. Steps have the numbers of `minipod plan`.",
            f"# The plan was made on a machine of type {comment(made.facts.machine)}, for its cgroups (below).",
            "#",
            "# With --images all layers of an image are unpacked into one directory, the lower one of an overlay.",
            "#",
            "# It is for learning, not for programs that you do not trust. What minipod does and a shell cannot:",
            "#",
            *(f"#  * {comment(what)}" for what in self._missing),
            "#",
            "# shellcheck disable=SC2016,SC1003 # what stands in single quotes is meant as it stands there",
            "set -eu -o pipefail",
            "umask 077",
            "export LC_ALL=C",
            "# The newer interface of mount(8) takes no more than 256 characters of layers.",
            "export LIBMOUNT_FORCE_MOUNT2=always",
            'SELF=$(readlink -f -- "${BASH_SOURCE[0]}")',
            "export SELF",
            *_names(made),
        ]
        cidr = made.config.pod_cidr if _link(made) else ""
        lines += [
            f"CIDR={quote(cidr)}",
            f"STORE={quote(self._store())}",
            "TOOLS=$RUN/tools",
            f"POD={quote(self._pod_root())}",
            "export RUN STATE STORE TOOLS POD",
            "# The slots of the plan: where a mount is. What a process knows goes on to its next function by these.",
            f": {' '.join(self._slots())}",
            parts.COMMON.rstrip("\n"),
            parts.HELPERS.rstrip("\n"),
        ]
        return lines

    def _slots(self) -> list[str]:
        text = "\n".join(line for function in self._functions for line in function.lines)
        numbers = {int(found) for found in re.findall(r"\$s([0-9]+)\b", text)}
        return [f'"${{s{number}=}}"' for number in sorted(numbers)]

    def _pod_root(self) -> str:
        shim = next(step for step in self._made.plan.sandbox if isinstance(step, s.StartShim))
        return f"{shim.run_dir}/root"

    def _overlays(self) -> list[s.NewOverlay]:
        return [
            inner
            for _, steps in self._made.plan.parts
            for step in steps
            if isinstance(step, s.Launch)
            for inner in step.steps
            if isinstance(inner, s.NewOverlay)
        ]

    def _store(self) -> str:
        layers = [layer for overlay in self._overlays() for layer in mounts.layers_of(overlay)]
        return layers[0].rpartition("/")[0] if layers else ""

    def _prepare(self) -> list[str]:
        stacks = dict.fromkeys(
            words(layer.rpartition("/")[2] for layer in mounts.layers_of(overlay))
            for overlay in self._overlays()
        )
        return [
            "# The images, if they come in an archive; else they lie unpacked in minipod's store.",
            'if [ -n "${IMAGES-}" ]; then',
            *(f'  unpack "$IMAGES" {stack}' for stack in stacks if stack),
            "fi",
            'mkdir -p "$RUN/nothing"',
            "tools",
        ]

    def _shown(self, functions: list[Function]) -> list[str]:
        lines = [
            "",
            "# ---- the steps ---------------------------------------------------------------",
            "",
        ]
        for function in functions:
            lines.append(f"{function.name}() {{")
            lines += _indented(function.lines)
            lines += ["}", ""]
        return lines

    def _main(self, functions: list[Function]) -> list[str]:
        link = _link(self._made)
        where = f" at {link.address}" if link else ""
        up = f"pod {self._made.plan.name} is up{where}; its logs are below {self._made.config.log_dir}"
        layers = sorted(
            {layer for overlay in self._overlays() for layer in mounts.layers_of(overlay)}
        )
        names = [layer.rpartition("/")[2] for layer in layers]
        return [
            parts.TEARDOWN.strip("\n"),
            "",
            "main() {",
            '  if [ "${1-}" = --images ] && [ $# = 2 ]; then',
            '    IMAGES=$(readlink -f -- "$2")',
            '    [ -f "$IMAGES" ] || die "$2: no such file"',
            "    export IMAGES",
            "  elif [ $# -gt 0 ]; then",
            '    die "usage: bash ${SELF##*/} [--images ARCHIVE]"',
            "  fi",
            '  [ "$(id -u)" = 0 ] || die "run it as root"',
            f"  for each in {' '.join(_PROGRAMS)}; do",
            '    command -v "$each" >/dev/null || die "there is no $each on this machine"',
            "  done",
            '  for each in "$RUN" "$STATE"; do',
            '    [ ! -e "$each" ] || die "it is there already: remove it first (-o sh --teardown)"',
            "  done",
            '  for each in "${HIERARCHIES[@]}"; do',
            '    [ -d "$each" ] || die "there is no cgroup hierarchy $each: the plan is of a machine with others"',
            "  done",
            '  [ -z "$CIDR" ] || [ -z "$(ip -4 route show root "$CIDR")" ] || die "$CIDR is in use on this machine"',
            "  # shellcheck disable=SC2043 # there may be one",
            f"  for each in {words(names)}; do",
            '    [ -n "${IMAGES-}" ] || [ -d "$STORE/$each" ] || die "no image here: give an archive with --images"',
            "  done",
            "  trap 'teardown || :' EXIT",
            "  trap 'exit 130' INT",
            "  trap 'exit 143' TERM",
            '  mkdir -p "$RUN" "$STATE" "$LOGS"',
            "  # A mount namespace of this script's own: what it mounts goes with its processes.",
            '  unshare --mount --propagation slave -- "$BASH" "$SELF" build',
            "  trap - EXIT",
            f"  echo {quote(up)}",
            "}",
            "",
            parts.CLOSE.strip("\n"),
            "",
            "case ${1-} in",
            *(f"  {function.name}) {function.name} ;;" for function in functions),
            '  *) main "$@" ;;',
            "esac",
        ]


def _indented(lines: list[str]) -> Iterator[str]:
    """Yield *lines* as they stand in a function; a here-document keeps its columns."""
    document = False
    for line in lines:
        yield line if document or not line else f"  {line}"
        document = line.endswith("<<'END'") or (document and line != "END")


def made_in(launch: s.Launch, facts: Facts) -> list[str]:
    """Return the directories of the hierarchies in whose cgroup the process of *launch* is born."""
    home = facts.cgroup2
    return [home.directory] if launch.into_cgroup and home else []
