# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes quantities."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minipod.api import parse_bytes, parse_cpu_millis, parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", "0"),
        ("1", "1"),
        ("+1", "1"),
        ("-1", "-1"),
        ("1.5", "1.5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("500m", "0.5"),
        ("1u", "0.000001"),
        ("1n", "0.000000001"),
        ("1k", "1000"),
        ("1M", "1000000"),
        ("2G", "2000000000"),
        ("1T", "1e12"),
        ("1P", "1e15"),
        ("1E", "1e18"),
        ("1Ki", "1024"),
        ("64Mi", "67108864"),
        ("1.5Gi", "1610612736"),
        ("1Ti", str(2**40)),
        ("1Pi", str(2**50)),
        ("7Ei", str(7 * 2**60)),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("12e-2", "0.12"),
        ("1e+2", "100"),
        ("9223372036854775807", "9223372036854775807"),
    ],
)
def test_values(text: str, value: str) -> None:
    assert parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a quantity"),
        (" 1", "not a quantity"),
        ("1 Gi", "not a quantity"),
        ("--1", "not a quantity"),
        (".", "not a quantity"),
        ("1.2.3", "not a quantity"),
        ("0x10", "not a quantity"),
        ("\u0663", "not a quantity"),
        ("1\n", "not a quantity"),
        ("nan", "not a quantity"),
        ("1" * 1000, "not a quantity"),
        ("1K", "write k or Ki"),
        ("100MB", "write M, without the B"),
        ("1GiB", "write Gi, without the B"),
        ("1e", "unknown suffix"),
        ("1mm", "unknown suffix"),
        ("1e999999999", "out of range"),
        ("8Ei", "too large"),
        ("-1e20", "too large"),
    ],
)
def test_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("text", "millis"),
    [("1", 1000), ("500m", 500), ("0.1", 100), ("1u", 1), ("1.0001", 1001), ("0", 0)],
)
def test_cpu_is_rounded_up(text: str, millis: int) -> None:
    assert parse_cpu_millis(text) == millis


@pytest.mark.parametrize(
    ("text", "size"), [("64Mi", 64 << 20), ("100m", 1), ("1.5", 2), ("1e3", 1000)]
)
def test_bytes_are_rounded_up(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@settings(deadline=None)
@given(st.text())
def test_any_text_parses_or_is_a_value_error(text: str) -> None:
    try:
        parse_quantity(text)
    except ValueError as error:
        assert str(error).isprintable()


@settings(deadline=None)
@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_integers_are_themselves(number: int) -> None:
    assert parse_quantity(str(number)) == number
