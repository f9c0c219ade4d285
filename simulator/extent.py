"""Numbers that know which dimensions of the network they come from.

Every shape, stride, offset and byte count of a traced graph is an `Extent`: a plain int, or a polynomial with
integer coefficients over named dimensions such as the batch. Changing a dimension changes every number that
depends on it, so re-batching a graph is one binding, and a batch of 64 is never taken for 64 channels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from simulator.errors import TrainwattError

Monomial = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Poly:
    """A polynomial in named dimensions; never constant (a constant is an `int`).

    `terms` pairs each monomial (its dimension names, sorted, repeated for powers) with its coefficient,
    sorted, without zero coefficients. Build one with `symbol` and arithmetic.
    """

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: Extent) -> Extent:
        total = dict(self.terms)
        for monomial, coefficient in _terms(other):
            total[monomial] = total.get(monomial, 0) + coefficient
        return _extent(total)

    __radd__ = __add__

    def __mul__(self, other: Extent) -> Extent:
        product: dict[Monomial, int] = {}
        for left, a in self.terms:
            for right, b in _terms(other):
                monomial = tuple(sorted(left + right))
                product[monomial] = product.get(monomial, 0) + a * b
        return _extent(product)

    __rmul__ = __mul__

    def __neg__(self) -> Extent:
        return self * -1

    def __sub__(self, other: Extent) -> Extent:
        return self + (-other)

    def __rsub__(self, other: int) -> Extent:
        return -self + other

    def __floordiv__(self, divisor: int) -> Extent:
        """Divide exactly; raises `TrainwattError` where a coefficient is not a multiple of `divisor`."""
        if any(coefficient % divisor for _, coefficient in self.terms):
            raise TrainwattError(f"{self} is not divisible by {divisor}; only exact division keeps dimensions symbolic")
        return _extent({monomial: coefficient // divisor for monomial, coefficient in self.terms})

    def __str__(self) -> str:
        parts = []
        for monomial, coefficient in self.terms:
            factors = [*([str(coefficient)] if coefficient != 1 or not monomial else []), *monomial]
            parts.append("*".join(factors))
        return "+".join(parts)


Extent = int | Poly


def symbol(name: str) -> Poly:
    """Return the dimension called `name` as a number to compute with."""
    return Poly((((name,), 1),))


def affine(dimension: str, at: int, value: int, next_value: int, step: int = 1) -> Extent:
    """Return the extent that is `value` where `dimension` is `at` and `next_value` where it is `at + step`.

    Raises `TrainwattError` where the slope is not a whole number.
    """
    slope, rest = divmod(next_value - value, step)
    if rest:
        raise TrainwattError(f"{value} at {dimension}={at} and {next_value} at {at + step} lie on no integer line")
    return symbol(dimension) * slope + (value - slope * at) if slope else value


def evaluate(extent: Extent, sizes: Mapping[str, Any]) -> Any:
    """Return the value of `extent` with `sizes` bound to its dimensions.

    Sizes may be ints (the result is an int) or arrays of ints, one value per point (the result is an array).
    """
    if isinstance(extent, int):
        return extent
    total: Any = 0
    for monomial, coefficient in extent.terms:
        factor: Any = coefficient
        for name in monomial:
            factor = factor * sizes[name]
        total = total + factor
    return total


def substitute(extent: Extent, values: Mapping[str, Extent]) -> Extent:
    """Return `extent` with some of its dimensions replaced by other extents."""
    if isinstance(extent, int) or not any(name in values for monomial, _ in extent.terms for name in monomial):
        return extent
    total: Extent = 0
    for monomial, coefficient in extent.terms:
        term: Extent = coefficient
        for name in monomial:
            term = term * values.get(name, symbol(name))
        total = total + term
    return total


_TERM = re.compile(r"(?P<sign>[+-]?)(?P<body>[^+-]+)")


@lru_cache(maxsize=65536)
def parse_extent(text: str) -> Extent:
    """Read what `str` writes of an extent: `"12544*batch+64"`; raises `TrainwattError` on anything else."""
    total: Extent = 0
    rest = text.replace("+-", "-")
    if not rest or "".join(m.group(0) for m in _TERM.finditer(rest)) != rest:
        raise TrainwattError(f"{text!r} is no extent; one reads like '12544*batch+64'")
    for match in _TERM.finditer(rest):
        factor: Extent = -1 if match["sign"] == "-" else 1
        for piece in match["body"].split("*"):
            if piece.isdigit():
                factor = factor * int(piece)
            elif piece.isidentifier():
                factor = factor * symbol(piece)
            else:
                raise TrainwattError(f"{text!r} is no extent; one reads like '12544*batch+64'")
        total = total + factor
    return total


def _terms(extent: Extent) -> tuple[tuple[Monomial, int], ...]:
    return extent.terms if isinstance(extent, Poly) else (((), extent),)


def _extent(terms: Mapping[Monomial, int]) -> Extent:
    kept = tuple(sorted((m, c) for m, c in terms.items() if c))
    if not kept:
        return 0
    return kept[0][1] if len(kept) == 1 and not kept[0][0] else Poly(kept)
