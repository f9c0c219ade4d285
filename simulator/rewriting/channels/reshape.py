"""Merging and splitting dimensions: what `view` does to their identities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from simulator.extent import Extent, Poly, evaluate
from simulator.rewriting.channels.dims import ONE, Dim, Unclear, Unknowns, divided, times

_BATCH = 1_000_003  # a number of samples that is no product of other sizes


@dataclass(frozen=True, slots=True)
class Segment:
    """Dimensions of the old shape (by number) that become those of the new one, with no smaller such part."""

    old: tuple[int, ...]
    new: tuple[int, ...]


def segments(old: Sequence[Extent], new: Sequence[Extent]) -> list[Segment]:
    """Return how a shape falls into parts that are reshaped each on its own; sizes of 1 are in none.

    Raises `Unclear` where the element counts differ.
    """
    before = [(d, _magnitude(e)) for d, e in enumerate(old) if e != 1]
    after = [(d, _magnitude(e)) for d, e in enumerate(new) if e != 1]
    found: list[Segment] = []
    while before and after:
        a, b = [before.pop(0)], [after.pop(0)]
        while prod(size for _, size in a) != prod(size for _, size in b):
            smaller, rest = (a, before) if prod(s for _, s in a) < prod(s for _, s in b) else (b, after)
            if not rest:
                raise Unclear
            smaller.append(rest.pop(0))
        found.append(Segment(tuple(d for d, _ in a), tuple(d for d, _ in b)))
    if before or after:
        raise Unclear
    return found


def reshaped(unknowns: Unknowns, dims: Sequence[Dim], old: Sequence[Extent], new: Sequence[Extent]) -> list[Dim]:
    """Return the dimensions of a tensor of shape `old` viewed as `new`.

    Dimensions merge with the last running fastest. Where one is split, sizes that flattening gave it come off again;
    else the first of the new sizes stays what it is (a number of groups or heads) and the last follows the width.
    """
    result: list[Dim] = [ONE] * len(new)
    for segment in segments(old, new):
        sizes = [new[d] for d in segment.new]
        merged = unknowns.resolve(dims[segment.old[0]])
        for d in segment.old[1:]:
            merged = times(merged, unknowns.resolve(dims[d]))
        parts = [merged] if len(sizes) == 1 else _split(unknowns, merged, sizes)
        for d, part in zip(segment.new, parts, strict=True):
            result[d] = part
    return result


def _split(unknowns: Unknowns, dim: Dim, sizes: Sequence[Extent]) -> list[Dim]:
    """Return a dimension as several, the last running fastest."""
    if not unknowns.free(dim):
        return [(size,) for size in sizes]
    first, *rest = sizes
    if not rest:
        return [dim]
    if isinstance(first, Poly):
        (monomial, factor), *others = first.terms
        for piece in dim:
            if others or isinstance(piece, int) or any(name not in m for name in monomial for m, _ in piece.terms):
                raise Unclear
        quotients = [_over(piece, monomial) for piece in dim]
        inner = divided(tuple(quotients), factor)
        if inner is None:
            raise Unclear
        return [(first,), *_split(unknowns, inner, rest)]
    if all(isinstance(size, int) for size in rest):
        outer = divided(dim, prod(size for size in rest if isinstance(size, int)))
        if outer is not None:
            return [outer, *((size,) for size in rest)]
    return [(first,), *_split(unknowns, unknowns.parts(dim, first), rest)]


def _over(piece: Extent, monomial: tuple[str, ...]) -> Extent:
    """Return a piece divided by a product of names that all its terms have."""
    assert isinstance(piece, Poly)
    quotient: Extent = 0
    for names, coefficient in piece.terms:
        left = list(names)
        for name in monomial:
            left.remove(name)
        quotient = quotient + (Poly(((tuple(left), coefficient),)) if left else coefficient)
    return quotient


def _magnitude(extent: Extent) -> int:
    return extent if isinstance(extent, int) else int(evaluate(extent, _Sizes()))


class _Sizes(dict[str, int]):
    """Sizes for any dimension by name: large, and different ones different."""

    def __missing__(self, name: str) -> int:
        return _BATCH + sum(map(ord, name))
