# SPDX-License-Identifier: GPL-3.0-or-later
"""Attaching to what runs under a shim: copies of its output, and who feeds its stdin."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.shimkit import LIMIT, Kit, joined, read_log, shell, until

pytest_plugins = ("tests.root.native_fixtures",)
pytestmark = pytest.mark.requires("root", "namespaces")
LOOP = "while read line; do echo got $line; echo err $line >&2; done; echo end"


class Reader:
    """Two pipes, as a client has them."""

    def __init__(self) -> None:
        (self.out, out), (self.err, err) = os.pipe(), os.pipe()
        self.theirs = (out, err)

    async def attach(self, kit: Kit, key: str = "p/0") -> int:
        try:
            async with asyncio.timeout(LIMIT):
                return await kit.shim.attach(key, *self.theirs)
        finally:
            for fd in self.theirs:
                os.close(fd)

    async def read(self) -> tuple[bytes, bytes]:
        """Return all that comes until the end of both."""

        def whole(fd: int) -> bytes:
            with open(fd, "rb") as file:
                return file.read()

        async with asyncio.timeout(LIMIT):
            out = await asyncio.to_thread(whole, self.out)
            return out, await asyncio.to_thread(whole, self.err)


async def test_copies_go_to_all_who_are_attached_and_to_the_log(kit: Kit) -> None:
    await kit.launch(shell(LOOP), keep_stdin=True)
    readers = [Reader(), Reader()]
    feeds = [await reader.attach(kit) for reader in readers]
    await kit.shim.end_stdin("p/0")
    os.write(feeds[0], b"one\n")
    os.close(feeds[0])
    os.write(feeds[1], b"two\n")
    os.close(feeds[1])  # the last one: now it ends
    for reader in readers:
        assert await reader.read() == (b"got one\ngot two\nend\n", b"err one\nerr two\n")
    assert (await kit.exit()).status == 0
    assert joined(read_log(kit.log_path())) == b"got one\ngot two\nend\n"


async def test_without_a_kept_stdin_there_is_nothing_to_feed(kit: Kit) -> None:
    await kit.launch(shell("sleep 0.2; echo x"))
    reader = Reader()
    assert await reader.attach(kit) == -1
    assert await reader.read() == (b"x\n", b"")


async def test_a_reader_that_is_gone_or_slow_loses_its_copy_and_nobody_waits(kit: Kit) -> None:
    await kit.launch(shell("read x; head -c 300000 /dev/zero | tr '\\0' a; echo"), keep_stdin=True)
    gone, slow, good = Reader(), Reader(), Reader()
    feeds = [await reader.attach(kit) for reader in (gone, slow, good)]
    os.close(gone.out)
    os.close(gone.err)
    reading = asyncio.ensure_future(good.read())
    os.write(feeds[2], b"go\n")
    for fd in feeds:
        os.close(fd)
    assert (await kit.exit()).status == 0
    out, _ = await slow.read()
    assert len(out) <= 65536, "no more than its pipe holds"
    assert len((await reading)[0]) <= 300001
    assert len(joined(read_log(kit.log_path()))) == 300001, "the log has all of it"


async def test_who_cannot_be_attached_to(kit: Kit) -> None:
    fds = kit.fds()
    with pytest.raises(ProcessLookupError):
        await Reader().attach(kit, "nobody/0")
    await kit.launch(shell("exit 0"))
    await kit.exit()
    with pytest.raises(ProcessLookupError):
        await Reader().attach(kit)
    await kit.shim.forget("p/0")
    await kit.fds_are(fds)


async def test_no_more_than_eight(kit: Kit) -> None:
    await kit.launch(shell("read x"), keep_stdin=True)
    feeds = [await Reader().attach(kit) for _ in range(8)]
    with pytest.raises(OSError, match="Too many users"):
        await Reader().attach(kit)
    for fd in feeds:
        os.close(fd)
    await kit.shim.end_stdin("p/0")
    await kit.exit()


async def test_readers_that_are_gone_leave_their_places(kit: Kit) -> None:
    """A container that is silent never finds out by writing who still listens."""
    await kit.launch(shell("read x; echo $x"), keep_stdin=True)
    for _ in range(12):
        reader = Reader()
        os.close(await reader.attach(kit))
        os.close(reader.out)
        os.close(reader.err)
    last = Reader()
    feed = await last.attach(kit)
    os.write(feed, b"heard\n")
    os.close(feed)
    assert (await last.read())[0] == b"heard\n"
    await kit.exit()


async def test_an_attach_that_is_refused_takes_no_place(kit: Kit) -> None:
    """Neither of its two: a reader with a full stderr and a free stdout gets nothing."""
    await kit.launch(shell("read x; echo $x; read x; echo $x; echo err >&2"), keep_stdin=True)
    readers = [Reader() for _ in range(8)]
    feeds = [await reader.attach(kit) for reader in readers]
    for reader in readers:
        os.close(reader.out)
    os.write(feeds[0], b"one\n")  # with which the places of stdout are free, those of stderr not
    await until(lambda: joined(read_log(kit.log_path())) or None)
    refused = Reader()
    with pytest.raises(OSError, match="Too many users"):
        await refused.attach(kit)
    assert await refused.read() == (b"", b""), "at once, while the container runs"
    os.write(feeds[0], b"two\n")
    for feed in feeds:
        os.close(feed)
    await kit.exit()
    for reader in readers:
        os.close(reader.err)
