# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches an image's layers ahead, several at once, while those that are there are unpacked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from minipod.images.documents import Descriptor

_PATIENCE = 10.0  # seconds until a thread that does not end is left behind


class Ahead:
    """Fetches with threads of its own; a context manager, at whose end nothing is fetched any more.

    Args:
        descriptors: what to fetch, in the order in which it is wanted.
        fetch: fetches one and returns its path.
        streams: how many at once.
        stop: makes what is being fetched fail, soon.
    """

    def __init__(
        self,
        descriptors: Iterable[Descriptor],
        fetch: Callable[[Descriptor], str],
        streams: int,
        stop: Callable[[], None],
    ) -> None:
        self._fetch = fetch
        self._todo = list({each.digest: each for each in descriptors}.values())
        self._promised = frozenset(each.digest for each in self._todo)
        self._paths: dict[str, str] = {}
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        self._stop = stop
        # Daemons: whatever they hang on, the process can end.
        self._threads = [
            threading.Thread(target=self._work, daemon=True)
            for _ in range(min(streams, len(self._todo)))
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        with self._changed:
            self._todo.clear()
        if error is not None:
            self._stop()
        for thread in self._threads:
            thread.join(_PATIENCE)

    def wait(self, descriptor: Descriptor) -> str:
        """Return the path of what was to be fetched; what was not is fetched now.

        Raises:
            Exception: what fetching it, or something else, has raised.
        """
        if descriptor.digest not in self._promised:
            return self._fetch(descriptor)
        with self._changed:
            self._changed.wait_for(lambda: self._failure or descriptor.digest in self._paths)
            if self._failure is not None:
                raise self._failure
            return self._paths[descriptor.digest]

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._todo or self._failure:
                    return
                descriptor = self._todo.pop(0)
            try:
                path = self._fetch(descriptor)
            except BaseException as error:
                with self._changed:
                    self._failure = self._failure or error
                    self._changed.notify_all()
                return
            with self._changed:
                self._paths[descriptor.digest] = path
                self._changed.notify_all()
