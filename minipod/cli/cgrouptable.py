# SPDX-License-Identifier: GPL-3.0-or-later
"""Cgroups as a table: manifest, file, value, use; for v2 and v1 names. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from minipod.cli.inside import cut, size
from minipod.cli.output import Paint, escape

Json = dict[str, Any]
Row = tuple[str, str, str, str]  # what the manifest says, file, value, use

_NO_LIMIT = 1 << 62  # v1 writes PAGE_COUNTER_MAX for "none"


def lines(data: Json, before: Json | None, width: int, paint: Paint) -> Iterator[str]:
    """Yield the lines of a table per cgroup; *before* is an earlier answer, for rates."""
    earlier = {each["name"]: each for each in before["cgroups"]} if before else {}
    for number, each in enumerate(data["cgroups"]):
        if number:
            yield ""
        title = (
            f"{each['kind']} {each['name']}"
            if each["name"]
            else f"pod {data['namespace']}/{data['name']}"
        )
        yield cut(f"{escape(title)}  ({each['path']})", width)
        elapsed = data["time"] - before["time"] if before else 0.0
        found = list(rows(each, earlier.get(each["name"]), elapsed))
        titles: Row = ("MANIFEST", "FILE", "VALUE", "USE")
        # A use without a value stands in the place of the value, and does not widen it.
        widths = [max(len(row[i]) for row in (titles, *found)) for i in range(3)]
        for row in (titles, *found):
            yield from _lines_of(row, widths, width, paint)


def _lines_of(row: Row, widths: list[int], width: int, paint: Paint) -> Iterator[str]:
    """Yield a row as a line; what is used moves up to where no value is, or into a line of its own."""
    head = f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  "
    place = " " * len(head)
    if row[2]:
        head += f"{row[2]:<{widths[2]}}  "
    if len(head) + len(row[3]) <= width:
        yield _painted((head + row[3]).rstrip(), row, paint)
        return
    if row[2]:
        yield _painted(cut(head.rstrip(), width), row, paint)
        head = place
    room = max(20, width - len(head))
    for line in textwrap.wrap(row[3], room):
        yield _painted(head + line, row, paint)
        head = place


def _painted(line: str, row: Row, paint: Paint) -> str:
    return paint(line, "yellow") if row[3].endswith("!") else line


def rows(each: Json, before: Json | None, elapsed: float) -> Iterator[Row]:
    """Yield the rows of one cgroup. A use that ends in "!" is a limit that was hit."""
    files = _files(each)
    old = _files(before) if before and before["path"] == each["path"] else {}
    yield from _memory(each, files)
    yield from _cpu(each, files, old, elapsed)
    if "pids.max" in files:
        peak = f", peak {files['pids.peak']}" if "pids.peak" in files else ""
        hits = _numbers(files.get("pids.events", "")).get("max", 0)
        used = f"{files.get('pids.current', '?')} now{peak}" + (
            f", {hits} forks refused !" if hits else ""
        )
        yield _said(each, "limits", "pids"), "pids.max", files["pids.max"], used
    yield from _io(files, old, elapsed)
    yield from _pressure(files)


def _files(each: Json) -> dict[str, str]:
    """Return the values by file name; of a file that two hierarchies have, that of the controller's."""
    result: dict[str, str] = {}
    for hierarchy in sorted(each["hierarchies"], key=lambda h: bool(h["controllers"])):
        result |= hierarchy["files"]
        if hierarchy["version"] == 2 and "cpu.stat" in hierarchy["files"]:
            result["2:cpu.stat"] = hierarchy["files"]["cpu.stat"]
    return result


def _said(each: Json, which: str, name: str) -> str:
    """Return what the manifest says, ``limit 64Mi``; "-" for nothing."""
    value = each["manifest"].get(which, {}).get(name)
    return f"{name} {which.removesuffix('s')} {value if value is not None else '-'}"


def _numbers(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _bytes(text: str) -> str:
    if not text.isdigit():
        return text  # "max"
    if int(text) >= _NO_LIMIT:
        return "none"
    return size(int(text)) if int(text) % 1024 == 0 and int(text) else text


def _memory(each: Json, files: dict[str, str]) -> Iterator[Row]:
    limit, request = _said(each, "limits", "memory"), _said(each, "requests", "memory")
    if "memory.current" in files:
        events = _numbers(files.get("memory.events", ""))
        use = f"{size(int(files['memory.current']))} now"
        if files.get("memory.peak", "").isdigit():
            use += f", peak {size(int(files['memory.peak']))}"
        yield limit, "memory.max", _bytes(files.get("memory.max", "-")), use
        yield request, "memory.min", _bytes(files.get("memory.min", "-")), ""
        slowed = f"{events['high']} times slowed down" if events.get("high") else ""
        yield "", "memory.high", _bytes(files.get("memory.high", "-")), slowed
        hit, killed = events.get("max", 0), events.get("oom_kill", 0)
        mark = " !" if hit or killed else ""
        words = f"max {hit}, oom {events.get('oom', 0)}, oom_kill {killed}{mark}"
        yield "", "memory.events", "", words
    elif "memory.usage_in_bytes" in files:
        use = f"{size(int(files['memory.usage_in_bytes']))} now"
        use += f", peak {size(int(files.get('memory.max_usage_in_bytes', '0')))}"
        most = files.get("memory.limit_in_bytes", "-")
        yield limit, "memory.limit_in_bytes", _bytes(most), use
        if files.get("memory.memsw.limit_in_bytes", most) != most:
            yield (
                "",
                "memory.memsw.limit_in_bytes",
                _bytes(files["memory.memsw.limit_in_bytes"]),
                "",
            )
        killed = _numbers(files.get("memory.oom_control", "")).get("oom_kill", 0)
        mark = " !" if killed else ""
        hits = files.get("memory.failcnt", "0")
        yield request, "-", "", ""
        yield "", "memory.failcnt", hits, f"oom_kill {killed}{mark}"


def _cpu(each: Json, files: dict[str, str], old: dict[str, str], elapsed: float) -> Iterator[Row]:
    used, was = _used(files), _used(old)
    use = f"{used / 1e9:.3f} s" if used is not None else ""
    if used is not None and was is not None and elapsed > 0:
        use += f", {max(0, round((used - was) / elapsed / 1e6))}m now"
    limit, request = _said(each, "limits", "cpu"), _said(each, "requests", "cpu")
    if "cpu.max" in files:
        yield limit, "cpu.max", " of ".join(files["cpu.max"].split()), use
        yield request, "cpu.weight", files.get("cpu.weight", "-"), ""
    elif "cpu.cfs_quota_us" in files:
        quota, period = files["cpu.cfs_quota_us"], files.get("cpu.cfs_period_us", "?")
        yield limit, "cpu.cfs_quota_us", "none" if quota == "-1" else f"{quota} of {period}", use
        yield request, "cpu.shares", files.get("cpu.shares", "-"), ""
    else:
        yield limit, "cpu.stat", "", use
    stat = _numbers(files.get("cpu.stat", ""))
    if "nr_throttled" in stat:
        throttled = stat.get("throttled_usec", stat.get("throttled_time", 0) // 1000)
        mark = " !" if stat["nr_throttled"] else ""
        yield (
            "",
            "cpu.stat",
            "",
            f"throttled in {stat['nr_throttled']} of {stat.get('nr_periods', 0)} periods, "
            f"{throttled / 1e3:.1f} ms{mark}",
        )


def _used(files: dict[str, str]) -> int | None:
    """Return the ns of cpu that were used."""
    if files.get("cpuacct.usage", "").isdigit():
        return int(files["cpuacct.usage"])
    usage = _numbers(files.get("2:cpu.stat", "")).get("usage_usec")
    return usage * 1000 if usage is not None else None


def _io(files: dict[str, str], old: dict[str, str], elapsed: float) -> Iterator[Row]:
    name = "io.stat" if "io.stat" in files else "blkio.throttle.io_service_bytes_recursive"
    if name not in files:
        return
    read, wrote = _transferred(files[name])
    use = f"{size(read)} read, {size(wrote)} written"
    if name in old and elapsed > 0:
        more = [
            now - then for now, then in zip((read, wrote), _transferred(old[name]), strict=True)
        ]
        use += f"; {size(round(more[0] / elapsed))}/s, {size(round(more[1] / elapsed))}/s now"
    yield "", name.removeprefix("blkio.throttle.").removesuffix("_recursive"), "", use


def _transferred(text: str) -> tuple[int, int]:
    """Return the bytes read and written of all devices: ``8:0 rbytes=1 wbytes=2``, or ``8:0 Read 1``."""
    read = wrote = 0
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[2].isdigit():
            read += int(words[2]) * (words[1] == "Read")
            wrote += int(words[2]) * (words[1] == "Write")
        for word in words[1:]:
            key, _, value = word.partition("=")
            read += int(value) if key == "rbytes" and value.isdigit() else 0
            wrote += int(value) if key == "wbytes" and value.isdigit() else 0
    return read, wrote


def _pressure(files: dict[str, str]) -> Iterator[Row]:
    for name in ("cpu", "memory", "io"):
        text = files.get(f"{name}.pressure", "")
        if not text:
            continue
        parts = []
        for line in text.splitlines():
            kind, *fields = line.split()
            values = dict(field.partition("=")[::2] for field in fields)
            parts.append(f"{kind} {values.get('avg10', '?')}/{values.get('avg60', '?')}%")
        yield "", f"{name}.pressure", "", ", ".join(parts)
