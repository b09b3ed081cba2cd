# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's view of the pod network: which links should exist, and making it so.

The desired state is a dictionary of :class:`PodLink`; every nft transaction and every repair is derived from it.
Changes of the filter and of links each have one writer, which takes what has gathered while it was busy: many pods
that start at once share a few transactions.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec

from minipod.config import Config
from minipod.errors import MinipodError
from minipod.network import nft, ruleset
from minipod.network.addresses import PodLink, bridge_address, parse_range
from minipod.network.batch import Batcher

if TYPE_CHECKING:
    from minipod.network.bridge import HostLinks
    from minipod.network.elements import ElementSocket

P = ParamSpec("P")

_REMEDIES = {
    errno.EPERM: "run as root, with CAP_NET_ADMIN",
    errno.EOPNOTSUPP: "load the kernel modules: modprobe -a bridge veth",
    errno.EROFS: "/proc/sys is read-only here; the agent needs a writable one",
}


class Network:
    """The pod network of one instance, in the network namespace of the caller of :meth:`open`.

    Call :meth:`ensure` with the links of all live pods before the first :meth:`attach`: until then the ruleset is
    the one that a previous agent left, so that its pods go on talking.
    """

    def __init__(
        self, config: Config, host: HostLinks, sets: ElementSocket, thread: ThreadPoolExecutor
    ) -> None:
        """Use :meth:`open`."""
        self._config = config
        self._host = host
        self._sets = sets
        # One thread: the kernel serialises rtnetlink anyway (rtnl_lock), and the socket is not for sharing.
        self._thread = thread
        self._links: dict[str, PodLink] = {}
        self._attaching: dict[str, PodLink] = {}
        self._admitted: set[PodLink] = set()
        self._elements: Batcher[PodLink | None] = Batcher(self._write)
        self._removals: Batcher[str] = Batcher(self._remove)
        self._forwards = False
        self._closed = False

    @classmethod
    async def open(cls, config: Config) -> Network:
        """Check the pod range against the host, make the bridge, and the ruleset unless one is there.

        Raises:
            MinipodError: the range collides with a route or an address of the host, a name in *config* cannot be
                used, nft fails, or the kernel refuses.
        """
        ruleset.check_names(config)
        parse_range(config.pod_cidr)
        from minipod.network.bridge import HostLinks  # late: they import pyroute2, 0.1 s
        from minipod.network.elements import ElementSocket

        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="netlink")
        try:
            host = HostLinks(config)
        except OSError as error:
            thread.shutdown(wait=False)
            raise _at_edge(error) from error
        sets = ElementSocket(config.nft_table)
        network = cls(config, host, sets, thread)
        try:
            await network._job(host.check_range)
            await network._job(host.repair_bridge)
            await network._install()
        except OSError as error:
            await network.close()
            raise _at_edge(error) from error
        except BaseException:
            await network.close()
            raise
        return network

    def host_ip(self) -> str:
        """Return the address of the host: the default route's source, else the bridge's; renewed by ensure."""
        return self._host.uplink.address or str(bridge_address(parse_range(self._config.pod_cidr)))

    async def ensure(self, links: Iterable[PodLink]) -> None:
        """Make bridge, ruleset and ports right for exactly the pods of *links*, and those that are being attached.

        Ports of ours that belong to none of them are deleted.

        Raises:
            MinipodError: nft or the kernel refused.
        """
        self._links = {link.owner: link for link in links} | self._attaching
        try:
            # The filter first: no port is put into the bridge before its packets are checked.
            await self._elements.submit(None)
            await self._job(self._host.repair, self._wanted)
        except OSError as error:
            raise _at_edge(error) from error

    async def admit(self, link: PodLink) -> None:
        """Let a pod's packets through the filter, ahead of :meth:`attach`, while its namespace is still being made.

        Undone by :meth:`detach`.

        Raises:
            MinipodError: nft refused, or the owner or the address is attached already.
        """
        self._claim(link)
        await self._elements.submit(link)
        self._admitted.add(link)

    async def attach(self, link: PodLink, netns_fd: int, netlink_fd: int) -> None:
        """Connect a pod: a veth pair between the bridge and ``eth0`` in its namespace, with address and route.

        Undone whole when it fails or is cancelled. An earlier port of the same link is replaced.

        Args:
            link: from :func:`~minipod.network.addresses.pod_link`.
            netns_fd: the pod's network namespace.
            netlink_fd: a NETLINK_ROUTE socket made inside it; both fds stay the caller's, and must stay open.

        Raises:
            OSError: the kernel refused: errno, its words, and the request in the words of ip(8).
            MinipodError: nft refused, or the owner or the address is attached already.
        """
        self._claim(link)
        self._attaching[link.owner] = link
        try:
            # Fail closed: a pod gets no port before the filter knows it.
            if link not in self._admitted:
                await self._elements.submit(link)
            self._admitted.discard(link)
            await self._job(self._host.connect, link, netns_fd, netlink_fd, self._wanted)
        except BaseException as error:
            undo = asyncio.ensure_future(self.detach(link))
            await _settled(undo)
            if not undo.cancelled() and (failure := undo.exception()):
                error.add_note(f"and undoing it failed: {failure}")
            raise
        finally:
            self._attaching.pop(link.owner, None)

    async def detach(self, link: PodLink) -> None:
        """Delete the pod's port and its element; nothing happens when they are gone.

        Raises:
            OSError: the kernel refused.
            MinipodError: nft refused.
        """
        self._admitted.discard(link)
        if self._links.get(link.owner) == link:
            del self._links[link.owner]
        if any(other.address == link.address for other in self._links.values()):
            return  # the address, and all that is named by it, has a new owner
        results = await asyncio.gather(
            self._removals.submit(link.host_ifname),
            self._elements.submit(link),
            return_exceptions=True,
        )
        failures = [result for result in results if isinstance(result, BaseException)]
        for other in failures[1:]:
            failures[0].add_note(f"and: {other}")
        if failures:
            raise failures[0]

    async def teardown(self) -> None:
        """Remove the bridge, stray ports and the nft tables.

        Raises:
            MinipodError: pods are attached, nft or the kernel refused.
        """
        if self._links:
            raise MinipodError(
                f"{len(self._links)} pods are attached to {self._config.bridge}",
                "delete the pods first",
            )
        try:
            await self._job(self._host.remove_all)
        except OSError as error:
            raise _at_edge(error) from error
        finally:
            await nft.apply(ruleset.absent(self._config))

    async def close(self) -> None:
        """Wait for what is under way and close the socket; links and rules stay."""
        if self._closed:
            return
        self._closed = True
        await self._elements.close()
        await self._removals.close()
        await self._job(self._host.close)
        self._sets.close()
        self._thread.shutdown(wait=False)

    def _wanted(self) -> list[PodLink]:
        return list(self._links.values())

    def _claim(self, link: PodLink) -> None:
        if link.owner in self._attaching:
            raise MinipodError(f"{link.owner} is being attached", "wait for it")
        for other in self._links.values():
            if other != link and (other.owner == link.owner or other.address == link.address):
                raise MinipodError(
                    f"cannot attach {link.owner} at {link.address}: {other.owner} is attached at {other.address}",
                    "detach it first",
                )
        self._links[link.owner] = link

    async def _install(self) -> None:
        """Write the ruleset unless both tables are there; whatever is wrong with them, ensure replaces."""
        try:
            await nft.apply(ruleset.full(self._config, [], replace=False))
        except nft.NftError as error:
            if not error.exists:
                raise

    async def _write(self, changed: list[PodLink | None]) -> None:
        """Bring the sets to the desired state for *changed*; None stands for the whole ruleset."""
        links = {link for link in changed if link is not None}
        whole = None in changed or not await self._change(links)
        if whole:
            await nft.apply(ruleset.full(self._config, self._links.values()))
        await self._settle_ports(links, whole=whole)

    async def _change(self, links: set[PodLink]) -> bool:
        """Put the elements of *links* in or take them out; whether that could be done."""
        from minipod.network.elements import elements_of

        wanted = set(self._links.values())
        add = [element for link in links & wanted for element in elements_of(link)]
        remove = []
        if links - wanted:
            used = {(e.set, e.key): e.data for link in wanted for e in elements_of(link)}
            gone = [element for link in links - wanted for element in elements_of(link)]
            if any(used.get((e.set, e.key), e.data) != e.data for e in gone):
                return False  # another pod has waited for a port of the host: which of the two is there?
            remove = [element for element in gone if (element.set, element.key) not in used]
        try:
            await self._job(self._sets.change, add, remove)
        except OSError as error:
            # Somebody removed our table or set ("nft flush ruleset"), or a port of the host is still another pod's
            # there: nothing of it can be trusted.
            if error.errno not in (errno.ENOENT, errno.EEXIST, errno.EBUSY):
                raise _at_edge(error) from error
            return False
        return True

    async def _settle_ports(self, links: set[PodLink], *, whole: bool) -> None:
        """After a change of *links*, or of all: what ports of the host need besides their elements."""
        wanted = list(self._links.values())
        forwards = any(link.ports for link in wanted)
        if whole or forwards != self._forwards:
            await self._job(self._host.open_loopback, forwards)
            self._forwards = forwards
        kept = set(wanted)
        # Nothing was sent yet to a pod that is new, but to its UDP ports something may have been, in vain.
        if any(
            port.protocol == "UDP" or link not in kept for link in links for port in link.ports
        ) or (whole and forwards):
            await self._job(self._host.forget_stale_flows, wanted)

    async def _remove(self, names: list[str]) -> None:
        await self._job(self._host.remove, names)

    async def _job(self, function: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run *function* in the netlink thread; does not return, not even cancelled, before it has ended.

        The fds in *args* are the caller's, who may close them as soon as this is over.
        """
        loop = asyncio.get_running_loop()
        await _settled(
            loop.run_in_executor(self._thread, lambda: function(*args, **kwargs)), reraise=True
        )


async def _settled(future: asyncio.Future[None], *, reraise: bool = False) -> None:
    """Wait until *future* has ended, whatever happens to the waiting task; a cancellation is raised then."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    failure = asyncio.CancelledError() if future.cancelled() else future.exception()
    if cancelled is not None:
        raise cancelled
    if reraise and failure is not None:
        raise failure


def _at_edge(error: OSError) -> MinipodError:
    place = f"{error.filename}: " if error.filename else ""
    return MinipodError(
        f"pod network: {place}{error.strerror or error}", _REMEDIES.get(error.errno or 0, "")
    )
