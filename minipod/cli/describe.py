# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod describe``: an object in words, in kubectl's layout (``pkg/describe/describe.go``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from minipod.cli.options import SETTINGS, Namespace, Selector, complete_targets, session, verb

Json = dict[str, Any]

app = typer.Typer(**SETTINGS)

NONE = "<none>"
_STEP = "  "
# Not strftime's, which follow the locale.
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


@verb(
    app,
    "minipod describe pod web",
    "minipod describe pod/web -n demo",
    "minipod describe configmap settings",
)
def describe(
    ctx: typer.Context,
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="KIND [NAME]...|KIND/NAME...",
            help="Which pods, configmaps, secrets, pvc or pv; without a name all of them.",
            autocompletion=complete_targets,
        ),
    ],
    selector: Selector = "",
    namespace: Namespace = None,
) -> None:
    """Show all that is known of objects, with their events."""
    from minipod.cli.args import LASTING_KINDS, parse_groups
    from minipod.cli.get import complain, fetch, say_none

    groups = parse_groups(targets, LASTING_KINDS)
    where = session(ctx)
    within = where.namespace(namespace)
    request = {
        "verb": "get",
        "namespace": within,
        "names": [],
        "selector": selector,
        "watch": False,
    }
    missing: list[Json] = []
    items = [
        (kind, item)
        for kind, names in groups
        for item in fetch(where, {**request, "kind": kind, "names": names}, missing)
    ]
    if not items:
        complain(missing)
        say_none(within)
        return
    events = fetch(where, {**request, "kind": "events", "selector": ""})
    pods: list[Json] = []
    if any(kind == "persistentvolumeclaims" for kind, _ in items):
        pods = fetch(where, {**request, "kind": "pods", "selector": ""})
    for i, (kind, item) in enumerate(items):
        own = [
            e
            for e in events
            if e.get("involvedObject", {}).get("uid") == item["metadata"].get("uid")
        ]
        print("\n\n" * bool(i) + "\n".join(_lines(kind, item, own, pods)))
    complain(missing)


def _lines(kind: str, item: Json, events: Sequence[Json], pods: Sequence[Json]) -> list[str]:
    """Return the lines about an object; *pods* may be those that use it."""
    from minipod.cli.output import escape

    if kind == "pods":
        return pod_lines(item, events, time.time())
    from minipod.cli.describeconfig import config_map_lines, secret_lines
    from minipod.cli.describestorage import claim_lines, volume_lines

    show: dict[str, Callable[[Json], list[str]]] = {
        "secrets": secret_lines,
        "configmaps": config_map_lines,
        "persistentvolumeclaims": lambda claim: claim_lines(claim, pods),
        "persistentvolumes": volume_lines,
    }
    lines = show[kind](item)
    return [escape(line) for line in (*lines, "", *_events(events, time.time()))]


def pod_lines(pod: Json, events: Sequence[Json], now: float) -> list[str]:
    """Return the lines about *pod*, safe for a terminal; *now* is in seconds since the epoch."""
    from minipod.cli.describevolumes import volumes
    from minipod.cli.output import escape

    spec, status = pod.get("spec", {}), pod.get("status", {})
    lines = [
        *_head(pod),
        *_containers(
            "Init Containers",
            spec.get("initContainers", []),
            status.get("initContainerStatuses", []),
        ),
        *_containers("Containers", spec.get("containers", []), status.get("containerStatuses", [])),
        *_gates(spec.get("readinessGates", []), status.get("conditions", [])),
        *_containers(
            "Ephemeral Containers",
            spec.get("ephemeralContainers", []),
            status.get("ephemeralContainerStatuses", []),
        ),
        *_conditions(status.get("conditions", [])),
        *volumes(spec.get("volumes", [])),
        pair("QoS Class", status.get("qosClass"), 17),
        *_events(events, now),
    ]
    return [escape(line) for line in lines]


def _head(pod: Json) -> list[str]:
    meta, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
    phase = status.get("phase")
    if meta.get("deletionTimestamp"):
        phase = f"Terminating (since {meta['deletionTimestamp']})"
    pairs = [
        ("Name", meta["name"]),
        ("Namespace", meta.get("namespace")),
        ("UID", meta.get("uid")),
        ("Node", spec.get("nodeName") or status.get("hostIP")),
        ("Start Time", written_time(status.get("startTime"))),
    ]
    lines = [pair(name, value, 17) for name, value in pairs]
    lines += mapping("Labels", meta.get("labels", {}), "=", 17)
    lines += mapping("Annotations", meta.get("annotations", {}), ": ", 17)
    lines.append(pair("Status", phase, 17))
    lines += [
        pair(name, status[name.lower()], 17)
        for name in ("Reason", "Message")
        if status.get(name.lower())
    ]
    lines.append(pair("IP", status.get("podIP"), 17))
    lines.append("IPs:")
    lines += [f"{_STEP}IP:  {item['ip']}" for item in status.get("podIPs", [])] or [
        f"{_STEP}{NONE}"
    ]
    return lines


def pair(name: str, value: object, width: int, indent: str = "") -> str:
    """Return ``Name:  value`` with the value in column *width*."""
    shown = NONE if value is None or value == "" else str(value)
    return f"{indent}{name + ':':<{width - len(indent)}}{shown}"


def written_time(timestamp: str | None) -> str | None:
    """Return an RFC 3339 *timestamp* as ``describe`` shows times: in RFC 1123's form, in the local time zone."""
    if not timestamp:
        return None
    try:
        local = datetime.fromisoformat(timestamp).astimezone()
    except ValueError:
        return timestamp
    return f"{_DAYS[local.weekday()]}, {local:%d} {_MONTHS[local.month - 1]} {local:%Y %H:%M:%S %z}"


def mapping(name: str, values: dict[str, Any], sign: str, width: int) -> list[str]:
    """Return the lines of a mapping, one entry each, the first one behind *name*."""
    texts = [f"{key}{sign}{values[key]}" for key in sorted(values)] or [NONE]
    return [pair(name, texts[0], width), *(" " * width + text for text in texts[1:])]


def _containers(title: str, containers: Sequence[Json], statuses: Sequence[Json]) -> list[str]:
    if not containers:
        return []
    by_name = {status["name"]: status for status in statuses}
    lines = [f"{title}:"]
    for container in containers:
        status = by_name.get(container["name"], {})
        lines.append(f"{_STEP}{container['name']}:")
        lines += [2 * _STEP + line for line in _container(container, status)]
    return lines


def _container(container: Json, status: Json) -> list[str]:
    ports = container.get("ports", [])
    pairs = [
        ("Container ID", status.get("containerID")),
        ("Image", container.get("image")),
        ("Image ID", status.get("imageID")),
        ("Port", ", ".join(f"{p.get('containerPort')}/{p.get('protocol', 'TCP')}" for p in ports)),
        (
            "Host Port",
            ", ".join(f"{p.get('hostPort', 0)}/{p.get('protocol', 'TCP')}" for p in ports),
        ),
    ]
    lines = [pair(name, value, 16) for name, value in pairs]
    for name, key in (("Command", "command"), ("Args", "args")):
        if container.get(key):
            lines += [
                f"{name}:",
                *(_STEP + line for word in container[key] for line in str(word).splitlines()),
            ]
    lines += _state("State", status.get("state", {}) or {"waiting": {}})
    if status.get("lastState"):
        lines += _state("Last State", status["lastState"])
    lines.append(pair("Ready", bool(status.get("ready")), 16))
    lines.append(pair("Restart Count", status.get("restartCount", 0), 16))
    for name, key in (("Limits", "limits"), ("Requests", "requests")):
        values = container.get("resources", {}).get(key, {})
        if values:
            width = max(16, *(len(key) + len(_STEP) + 3 for key in values))
            lines += [f"{name}:", *(pair(key, values[key], width, _STEP) for key in sorted(values))]
    for name, key in (
        ("Liveness", "livenessProbe"),
        ("Readiness", "readinessProbe"),
        ("Startup", "startupProbe"),
    ):
        if container.get(key):
            lines.append(pair(name, _probe(container[key]), 16))
    lines += _environment(container)
    lines += _mounts(container.get("volumeMounts", []))
    return lines


def _state(title: str, state: Json) -> list[str]:
    kind = next(
        (kind for kind in ("running", "terminated", "waiting") if state.get(kind) is not None),
        "waiting",
    )
    detail = state.get(kind) or {}
    lines = [pair(title, kind.capitalize(), 16)]
    shown = [
        ("Reason", "reason"),
        ("Message", "message"),
        ("Exit Code", "exitCode"),
        ("Signal", "signal"),
    ]
    lines += [
        pair(name, detail[key], 16, _STEP)
        for name, key in shown
        if detail.get(key) not in (None, "")
    ]
    if kind == "terminated" and "exitCode" not in detail:
        lines.append(pair("Exit Code", 0, 16, _STEP))
    times = [("Started", "startedAt"), ("Finished", "finishedAt")]
    return lines + [
        pair(name, written_time(detail[key]), 16, _STEP) for name, key in times if detail.get(key)
    ]


def _probe(probe: Json) -> str:
    if exec_ := probe.get("exec"):
        what = f"exec {exec_.get('command', [])}"
    elif http := probe.get("httpGet"):
        scheme = str(http.get("scheme", "HTTP")).lower()
        what = (
            f"http-get {scheme}://{http.get('host', '')}:{http.get('port')}{http.get('path', '/')}"
        )
    elif tcp := probe.get("tcpSocket"):
        what = f"tcp-socket {tcp.get('host', '')}:{tcp.get('port')}"
    else:
        what = f"grpc <pod>:{probe.get('grpc', {}).get('port')} {probe.get('grpc', {}).get('service', '')}".rstrip()
    numbers = (
        f"delay={probe.get('initialDelaySeconds', 0)}s timeout={probe.get('timeoutSeconds', 1)}s "
        f"period={probe.get('periodSeconds', 10)}s #success={probe.get('successThreshold', 1)} "
        f"#failure={probe.get('failureThreshold', 3)}"
    )
    return f"{what} {numbers}"


def _environment(container: Json) -> list[str]:
    lines = []
    for source in container.get("envFrom", []):
        for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if key in source:
                optional = bool(source[key].get("optional"))
                prefix = f" with prefix '{source['prefix']}'" if source.get("prefix") else ""
                lines.append(
                    f"{_STEP}{source[key].get('name')}  {kind}{prefix}  Optional: {str(optional).lower()}"
                )
    if lines:
        lines.insert(0, "Environment Variables from:")
    variables = container.get("env", [])
    if not variables:
        return [*lines, pair("Environment", "", 16)]
    width = max(len(variable["name"]) for variable in variables) + len(_STEP) + 3
    return [
        *lines,
        "Environment:",
        *(pair(v["name"], _variable(v), width, _STEP) for v in variables),
    ]


def _variable(variable: Json) -> str:
    origin = variable.get("valueFrom")
    if not origin:
        return str(variable.get("value", ""))
    if field := origin.get("fieldRef"):
        return f" ({field.get('apiVersion', 'v1')}:{field.get('fieldPath')})"
    if field := origin.get("resourceFieldRef"):
        return f" ({field.get('containerName', '')}:{field.get('resource')})"
    for key, kind in (("secretKeyRef", "secret"), ("configMapKeyRef", "config map")):
        if field := origin.get(key):
            optional = f"  Optional: {str(bool(field.get('optional'))).lower()}"
            return (
                f"<set to the key '{field.get('key')}' in {kind} '{field.get('name')}'>{optional}"
            )
    if field := origin.get("fileKeyRef"):
        where = f"{field.get('path')}' of volume '{field.get('volumeName')}"
        return f"<set to the key '{field.get('key')}' in file '{where}'>"
    return NONE


def _mounts(mounts: Sequence[Json]) -> list[str]:
    if not mounts:
        return [pair("Mounts", "", 16)]
    lines = ["Mounts:"]
    for mount in sorted(mounts, key=lambda m: str(m.get("mountPath"))):
        options = ["ro" if mount.get("readOnly") else "rw"]
        if path := mount.get("subPath") or mount.get("subPathExpr"):
            options.append(f'path="{path}"')
        lines.append(
            f"{_STEP}{mount.get('mountPath')} from {mount.get('name')} ({','.join(options)})"
        )
    return lines


def _gates(gates: Sequence[Json], conditions: Sequence[Json]) -> list[str]:
    if not gates:
        return []
    found = {condition["type"]: condition["status"] for condition in conditions}
    names = [str(gate.get("conditionType")) for gate in gates]
    width = max(map(len, names)) + 2
    lines = ["Readiness Gates:", f"{_STEP}{'Type':<{width}}Status"]
    return lines + [f"{_STEP}{name:<{width}}{found.get(name, NONE)}" for name in names]


def _conditions(conditions: Sequence[Json]) -> list[str]:
    if not conditions:
        return []
    width = max(len(condition["type"]) for condition in conditions) + 2
    lines = ["Conditions:", f"{_STEP}{'Type':<{width}}Status"]
    for condition in conditions:
        why = ": ".join(str(condition[key]) for key in ("reason", "message") if condition.get(key))
        lines.append(f"{_STEP}{condition['type']:<{width}}{condition['status']:<8}{why}".rstrip())
    return lines


def _events(events: Iterable[Json], now: float) -> list[str]:
    from minipod.cli.podtable import event_age

    titles = ("Type", "Reason", "Age", "From", "Message")
    rows = [
        [
            str(event.get("type", "")),
            str(event.get("reason", "")),
            event_age(event, now),
            str((event.get("source") or {}).get("component") or "minipod"),
            str(event.get("message", "")).strip(),
        ]
        for event in events
    ]
    if not rows:
        return [pair("Events", "", 17)]
    table = [list(titles), ["-" * 4, "-" * 6, "-" * 4, "-" * 4, "-" * 7], *rows]
    widths = [max(len(row[i]) for row in table) + 2 for i in range(len(titles))]
    return [
        "Events:",
        *(
            _STEP
            + "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ),
    ]
