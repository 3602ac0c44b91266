"""Kubernetes quantities (`500m`, `2Gi`, `1e3`) as exact numbers and back.

Behaviour is that of apimachinery's resource.Quantity: binary and decimal suffixes, decimal exponents, fractions rounded up.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

from pilvi.errors import UserError

__all__ = ["format_bytes", "format_milli", "parse_quantity", "quantity_bytes", "quantity_milli", "whole_mebibytes"]

_PATTERN = re.compile(
    r"(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+))(?:(?P<binary>[KMGTPE])i|[eE](?P<exponent>[+-]?\d{1,4})|(?P<decimal>[numkMGTPE]))?",
    re.ASCII,
)
_BINARY: dict[str, int] = {suffix: 1024 ** (power + 1) for power, suffix in enumerate("KMGTPE")}
_DECIMAL: dict[str, Fraction] = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    **{suffix: Fraction(1000 ** (power + 1)) for power, suffix in enumerate("kMGTPE")},
}


def parse_quantity(value: str | float) -> Fraction:
    """The exact value of a quantity. Raises UserError when `value` is not one.

    Numbers are accepted because YAML turns `cpu: 2` into one.
    """
    match = _PATTERN.fullmatch(str(value))
    if isinstance(value, bool) or match is None:
        raise UserError(f"{value!r} is not a quantity", hint="write a number with an optional suffix, for example 500m, 2, 4Gi or 20G")
    number = Fraction(match["number"].rstrip("."))
    if match["binary"]:
        return number * _BINARY[match["binary"]]
    if match["exponent"]:
        return number * _power_of_ten(int(match["exponent"]))
    return number * _DECIMAL[match["decimal"]] if match["decimal"] else number


def _power_of_ten(exponent: int) -> Fraction:
    return Fraction(10**exponent) if exponent >= 0 else Fraction(1, 10**-exponent)


def quantity_bytes(value: str | float) -> int:
    """A quantity of memory or storage in bytes, rounded up."""
    return math.ceil(parse_quantity(value))


def quantity_milli(value: str | float) -> int:
    """A quantity of processors in thousandths, rounded up."""
    return math.ceil(parse_quantity(value) * 1000)


def whole_mebibytes(size_bytes: int) -> int:
    """Bytes rounded up to a whole number of MiB."""
    return -(-size_bytes // _BINARY["M"]) * _BINARY["M"]


def format_bytes(size_bytes: int) -> str:
    """Bytes as a quantity with the largest binary suffix that divides them: 2147483648 is `2Gi`, 1000 is `1000`."""
    for suffix in reversed("KMGTPE"):
        if size_bytes and size_bytes % _BINARY[suffix] == 0:
            return f"{size_bytes // _BINARY[suffix]}{suffix}i"
    return str(size_bytes)


def format_milli(cpu_milli: int) -> str:
    """Thousandths as a quantity: 2000 is `2`, 1500 is `1500m`."""
    return str(cpu_milli // 1000) if cpu_milli % 1000 == 0 else f"{cpu_milli}m"
