# SPDX-License-Identifier: GPL-3.0-or-later
"""The socket to the agent: one request per connection, JSON lines both ways, fds beside them.

The client sends ``{"verb": …}``; the agent answers ``{"event": …}`` lines and last ``{"done": …}`` or
``{"error": Status}``. Closing the connection cancels what was asked for.
"""

from __future__ import annotations

import _socket as socket  # socket itself makes enumerations of a thousand constants, which takes 3 ms
import json
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from minipod.errors import MinipodError

if TYPE_CHECKING:
    from minipod.config import Config

Json = dict[str, Any]

_CHUNK = 262144
_MAX_FDS = 8
_SUDO_PATH = (
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # secure_path of sudoers
)
_MAX_PATH = 107  # sockaddr_un has 108 bytes with the NUL: unix(7)


class AgentDown(MinipodError):
    """No agent runs, and none was to be started."""

    reason = "ServiceUnavailable"

    def __init__(self) -> None:
        super().__init__(
            "the agent is not running", "any command that needs it starts it: minipod get pods"
        )


class Call:
    """One request in progress. A context manager: leaving it cancels what is not done.

    Attributes:
        done: the agent's last word, or None before it came.
        fds: what the agent sent along; closed with the call unless taken out.
    """

    def __init__(self, sock: socket.socket, config: Config) -> None:
        self._sock = sock
        self._config = config
        self._rest = b""
        self._failure: MinipodError | None = None
        self.done: Json | None = None
        self.fds: list[int] = []

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection and the fds that nobody took."""
        self._sock.close()
        while self.fds:
            os.close(self.fds.pop())

    def fileno(self) -> int:
        """Return the socket's fd, for poll."""
        return self._sock.fileno()

    def send(self, message: Json, fds: Sequence[int] = ()) -> None:
        """Send one line, with *fds* beside it."""
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        # When the agent has ended the call already, its last word says why.
        with suppress(BrokenPipeError, ConnectionResetError):
            if fds:
                rights = struct.pack(f"{len(fds)}i", *fds)
                data = data[
                    self._sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]) :
                ]
            self._sock.sendall(data)

    def receive(self) -> list[Json]:
        """Wait for data and return the events that it completes; sets :attr:`done` at the end.

        Notes for the user are no events: they are shown.

        Raises:
            MinipodError: the agent's error, or it went away.
        """
        if self._failure:
            raise self._failure
        try:
            data = self._recv()
        except ConnectionResetError:
            data = b""
        if not data:
            from minipod.cli.start import log_place

            raise MinipodError(
                "the agent went away in the middle of the answer",
                f"pods go on without it; its log: {log_place(self._config)}",
            )
        *lines, self._rest = (self._rest + data).split(b"\n")
        events: list[Json] = []
        for line in lines:
            message = json.loads(line)
            if "error" in message:
                self._failure = MinipodError.from_status(message["error"])
                if not events:
                    raise self._failure
                break  # what happened before it is told before it
            if "done" in message:
                self.done = message["done"] or {}
                break
            if note := message["event"].get("note"):
                _show(note)
            else:
                events.append(message["event"])
        return events

    def _recv(self) -> bytes:
        # Not socket.recv_fds: it drops its flags, and an fd that is not close-on-exec from birth may leak.
        size = _MAX_FDS * struct.calcsize("i")
        data, ancillary, _, _ = self._sock.recvmsg(
            _CHUNK, socket.CMSG_SPACE(size), socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self.fds.extend(fd for (fd,) in struct.iter_unpack("i", payload))
        return data

    def __iter__(self) -> Iterator[Json]:
        """Yield the events until the agent is done."""
        while self.done is None:
            yield from self.receive()

    def finish(self) -> Json:
        """Skip the events that are left and return the agent's last word."""
        for _ in self:
            pass
        assert self.done is not None
        return self.done


def _show(note: str) -> None:
    from minipod.cli.output import escape

    print(escape(note), file=sys.stderr)


def call(
    config: Config,
    request: Json,
    fds: Sequence[int] = (),
    *,
    start: bool = True,
    timeout: float | None = None,
) -> Call:
    """Send *request* to the agent and return the call.

    Args:
        config: whose agent.
        request: ``{"verb": …}``.
        fds: file descriptors to send along; the caller keeps, and closes, its own.
        start: start the agent when none runs.
        timeout: seconds that any wait may take (``TimeoutError``), or None.

    Raises:
        AgentDown: none runs and *start* is false.
        MinipodError: it cannot be reached or started.
    """
    result = Call(connect(config, start=start), config)
    try:
        if timeout is not None:
            result._sock.settimeout(timeout)
        result.send(request, fds)
    except BaseException:
        result.close()
        raise
    return result


def connect(config: Config, *, start: bool = True) -> socket.socket:
    """Return a connection to the agent; see :func:`call`."""
    if sock := try_connect(config):
        return sock
    if not start:
        raise AgentDown
    if os.geteuid() != 0:
        raise must_be_root()
    from minipod.cli.start import ensure_agent

    return ensure_agent(config)


def try_connect(config: Config) -> socket.socket | None:
    """Return a connection to the agent, or None when nobody listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _connect(sock, config.socket)
        _check_peer(sock, config.socket)
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        return None
    except PermissionError:
        sock.close()
        raise must_be_root() from None
    except OSError as error:
        sock.close()
        why = (error.strerror or str(error)).lower()
        raise MinipodError(f"{config.socket}: {why}", "choose another --run-dir") from error
    except BaseException:
        sock.close()
        raise
    return sock


def _connect(sock: socket.socket, path: str) -> None:
    if len(os.fsencode(path)) <= _MAX_PATH:
        sock.connect(path)
        return
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{fd}/{name}")
    finally:
        os.close(fd)


def peer_pid(sock: socket.socket | Call) -> tuple[int, int]:
    """Return the process and the user at the other end (``SO_PEERCRED``, unix(7))."""
    inner = sock._sock if isinstance(sock, Call) else sock
    pid, uid, _ = struct.unpack("3i", inner.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid


def _check_peer(sock: socket.socket, path: str) -> None:
    # Whoever could put a socket there would be sent manifests, and the user's terminal.
    _, uid = peer_pid(sock)
    if uid not in (0, os.geteuid()):
        raise MinipodError(
            f"{path}: the process behind it belongs to uid {uid}, not to root",
            "choose another --run-dir",
        )


def must_be_root() -> MinipodError:
    """Return the error for a user who may not."""
    return MinipodError("must run as root", as_root(*sys.argv[1:]))


def as_root(*arguments: str) -> str:
    """Return the shell's command that runs minipod with *arguments* as root: by path where sudo knows no such name."""
    import shlex
    import shutil

    program = sys.argv[0]
    if not program.endswith("/minipod"):
        program = "minipod"  # started as a module: whoever does that knows how
    elif (known := shutil.which("minipod", path=_SUDO_PATH)) and os.path.samefile(known, program):
        program = "minipod"
    return shlex.join(("sudo", program, *arguments))
