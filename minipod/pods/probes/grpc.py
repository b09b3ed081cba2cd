# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls the standard gRPC health service (``grpc.health.v1.Health/Check``).

The words are those of ``k8s.io/kubernetes/pkg/probe/grpc``. The two messages of the service have one field each: they
are written and read here by hand: ``HealthCheckRequest{string service = 1}``, ``HealthCheckResponse{status = 1}``.
"""

from __future__ import annotations

from urllib.parse import unquote

from minipod.pods.probes.channel import ConnectError, connect, join_host_port
from minipod.pods.probes.http import VERSION, HTTPError
from minipod.pods.probes.outcome import Outcome, Verdict, failure

_STATUS = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_CODES = (
    "OK Canceled Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists PermissionDenied "
    "ResourceExhausted FailedPrecondition Aborted OutOfRange Unimplemented Internal Unavailable "
    "DataLoss Unauthenticated"
)
_UNIMPLEMENTED = 12


async def probe(host: str, port: int, service: str, *, tls: bool) -> Outcome:
    """Ask the health service about *service*; the certificate of a TLS server is not verified."""
    from minipod.pods.probes.http2 import exchange

    where = join_host_port(host, port)
    headers = [
        (":method", "POST"),
        (":scheme", "https" if tls else "http"),
        (":authority", where),
        (":path", "/grpc.health.v1.Health/Check"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", f"kube-probe/{VERSION}"),
    ]
    connected = False
    try:
        async with connect(host, port, tls=tls, protocols=("h2",)) as channel:
            connected = True
            answer = await exchange(channel, headers, _frame(_request(service)))
    except (ConnectError, HTTPError, OSError) as error:
        if not connected:
            return failure(f'error: failed to connect service at "{where}": {error}')
        return failure(
            f"error: health rpc probe failed: rpc error: code = Unavailable desc = {error}"
        )
    return _judge(answer.headers, bytes(answer.body))


def timed_out(host: str, port: int, limit: str) -> Outcome:
    """Return what a call is that was not done within *limit*."""
    where = join_host_port(host, port)
    text = f'timeout: failed to connect service "{where}" or to complete health rpc within {limit}'
    return failure(text)


def _judge(headers: dict[str, str], body: bytes) -> Outcome:
    code = headers.get("grpc-status", "")
    if not (code.isascii() and code.isdecimal() and len(code) < 4):
        status = headers.get(":status", "")[:3]
        desc = f"unexpected HTTP status code received from server: {status}"
        return failure(f"error: health rpc probe failed: rpc error: code = Unknown desc = {desc}")
    message = unquote(headers.get("grpc-message", ""))[:500]
    if int(code) == _UNIMPLEMENTED:
        what = "this server does not implement the grpc health protocol (grpc.health.v1.Health)"
        return failure(f"error: {what}: {message}")
    if int(code):
        names = dict(enumerate(_CODES.split()))
        name = names.get(int(code), f"Code({code})")
        return failure(f"error: health rpc probe failed: rpc error: code = {name} desc = {message}")
    try:
        status_number = _response(_unframe(body))
    except (ValueError, IndexError):
        desc = "the server's answer is no HealthCheckResponse"
        return failure(f"error: health rpc probe failed: rpc error: code = Internal desc = {desc}")
    if status_number == 1:
        return Outcome(Verdict.SUCCESS, "service healthy")
    shown = _STATUS[status_number] if status_number < len(_STATUS) else str(status_number)
    return failure(f'service unhealthy (responded with "{shown}")')


def _frame(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def _unframe(body: bytes) -> bytes:
    if len(body) < 5 or body[0] or len(body) != 5 + int.from_bytes(body[1:5], "big"):
        raise ValueError("not one uncompressed message")
    return body[5:]


def _request(service: str) -> bytes:
    raw = service.encode()
    return b"\x0a" + _varint(len(raw)) + raw if raw else b""


def _varint(number: int) -> bytes:
    result = bytearray()
    while number > 0x7F:
        result.append(number & 0x7F | 0x80)
        number >>= 7
    result.append(number)
    return bytes(result)


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[place]
        place += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return number, place
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _response(data: bytes) -> int:
    """Return the field ``status``; fields that we do not know are skipped, as protobuf has it."""
    status = place = 0
    while place < len(data):
        tag, place = _read_varint(data, place)
        match tag & 7:
            case 0:
                value, place = _read_varint(data, place)
                if tag >> 3 == 1:
                    status = value
            case 1:
                place += 8
            case 2:
                length, place = _read_varint(data, place)
                place += length
            case 5:
                place += 4
            case _:
                raise ValueError("a field of a kind that there is not")
    return status
