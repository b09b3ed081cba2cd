# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes quantities: ``500m``, ``1.5``, ``64Mi``, ``2G``, ``1e3``.

The syntax is that of ``k8s.io/apimachinery/pkg/api/resource``: a signed decimal number, then a binary suffix
(Ki Mi Gi Ti Pi Ei), a decimal one (n u m k M G T P E), or an exponent. Values are exact; what Kubernetes
silently caps at 2^63-1 is refused here.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Context, Decimal

_QUANTITY = re.compile(
    r"(?P<number>[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:[eE](?P<exponent>[-+]?[0-9]+)|(?P<suffix>[A-Za-z]*))",
    re.ASCII,
)
_SCALES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", 1)},
    **{suffix + "i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", 1)},
}
_MISTAKES = {
    "K": "k or Ki",
    "KB": "k or Ki",
    "kB": "k or Ki",
    "ki": "Ki",
    "g": "G or Gi",
    "t": "T or Ti",
}
_LONGEST = 64
_MAX_EXPONENT = 40
_MAX = Decimal(2**63 - 1)
_EXACT = Context(prec=200)


def parse_quantity(text: str) -> Decimal:
    """Return the value of a quantity, exactly.

    Raises:
        ValueError: *text* is not a quantity, or beyond ±(2^63-1); words say what is wrong.
    """
    match = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise ValueError(
            f"{text[:_LONGEST]!a} is not a quantity: write one like 500m, 1.5, 64Mi or 2G"
        )
    exponent, suffix = match["exponent"], match["suffix"]
    if exponent is not None:
        if abs(int(exponent)) > _MAX_EXPONENT:
            raise ValueError(f"the exponent of {text!r} is out of range")
        scale = _EXACT.power(Decimal(10), int(exponent))
    elif suffix in _SCALES:
        scale = _SCALES[suffix]
    else:
        raise ValueError(f"{text!r} has the unknown suffix {suffix!r}: {_suffix_hint(suffix)}")
    value = _EXACT.multiply(Decimal(match["number"]), scale)
    if abs(value) > _MAX:
        raise ValueError(f"{text!r} is too large, the limit is 2^63-1")
    return value


def parse_cpu_millis(text: str) -> int:
    """Return a cpu quantity in thousandths of a CPU, rounded up.

    Raises:
        ValueError: as :func:`parse_quantity`.
    """
    return _ceiling(_EXACT.multiply(parse_quantity(text), Decimal(1000)))


def parse_bytes(text: str) -> int:
    """Return a memory or storage quantity in bytes, rounded up.

    Raises:
        ValueError: as :func:`parse_quantity`.
    """
    return _ceiling(parse_quantity(text))


def format_quantity(value: Decimal, *, binary: bool) -> str:
    """Return an amount as Kubernetes writes it: with the largest suffix that leaves a whole number.

    Args:
        binary: with Ki, Mi, Gi …, as memory is written; else with m, k, M, G …, as cpu is. What is finer than a
            thousandth, or than a byte, is rounded up.
    """
    if binary:
        number, step, suffixes = _ceiling(value), 1024, ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
    else:
        number, step = _ceiling(_EXACT.multiply(value, Decimal(1000))), 1000
        suffixes = ["m", "", "k", "M", "G", "T", "P", "E"]
    place = 0
    while number and number % step == 0 and place < len(suffixes) - 1:
        number, place = number // step, place + 1
    return f"{number}{suffixes[place]}" if number else "0"


def _ceiling(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_CEILING, _EXACT))


def _suffix_hint(suffix: str) -> str:
    if suffix in _MISTAKES:
        return f"write {_MISTAKES[suffix]}"
    if suffix.endswith("B") and suffix[:-1] in _SCALES:
        return f"write {suffix[:-1]}, without the B"
    return "known are n u m k M G T P E and Ki Mi Gi Ti Pi Ei"
