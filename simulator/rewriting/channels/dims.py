"""Dimensions as unknowns: what a graph's ops say about which of them are equal, solved as it is said.

A dimension (`Dim`) is a row of pieces, one after the other along the dimension, whose sum is its size: a convolution's
output is one piece, a concatenation one for each operand, a flattened map `49*c` is `c` runs of 49, a grouped
convolution's output is the same piece once per group. Names that begin with `#` are unknowns; each has the value that
it has in the traced network, and every equation holds at these values. So solving never fails; in doubt it only makes
unknowns equal, multiples of another, or fixed to their values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import gcd

from simulator.extent import Extent, Poly, substitute, symbol

Dim = tuple[Extent, ...]

ONE: Dim = (1,)

_REPEATS = 4096  # pieces in a row up to which a repetition is written out


class Unclear(Exception):
    """What an op does to its dimensions cannot be told; the dimensions it touches are then fixed."""


def total(dim: Dim) -> Extent:
    """Return the size of a dimension."""
    size: Extent = 0
    for piece in dim:
        size = piece + size
    return size


def times(outer: Dim, inner: Dim) -> Dim:
    """Return two dimensions merged into one, `inner` running fastest."""
    if len(inner) == 1 and isinstance(inner[0], int):
        return tuple([piece * inner[0] for piece in outer])
    if len(outer) == 1 and isinstance(outer[0], int) and outer[0] * len(inner) <= _REPEATS:
        return inner * outer[0]
    return (total(outer) * total(inner),)


def divided(dim: Dim, factor: int) -> Dim | None:
    """Return the dimension that, with an inner one of size `factor`, merges into `dim`; None where there is none."""
    for piece in dim:
        if any(k % factor for k in ([piece] if isinstance(piece, int) else [k for _, k in piece.terms])):
            return None
    return tuple([piece // factor for piece in dim])


class Unknowns:
    """The unknowns of a graph and what is known of them. `context` says, for a reason, which op speaks."""

    def __init__(self) -> None:
        self.value: dict[str, int] = {}
        self.context = ""
        self._is: dict[str, Dim] = {}
        self._reason: dict[str, str] = {}

    # -- looking ---------------------------------------------------------------------------------------------------

    def fresh(self, value: int) -> Dim:
        """Return a new unknown; one of value 1 cannot shrink and is no unknown."""
        if value == 1:
            return ONE
        name = f"#{len(self.value)}"
        self.value[name] = value
        return (symbol(name),)

    def resolve(self, dim: Dim) -> Dim:
        """Return `dim` in terms of what is still unknown."""
        if not any(name in self._is for piece in dim for name in _names(piece)):
            return dim
        pieces: list[Extent] = []
        for piece in dim:
            pieces.extend(self._resolved(piece))
        return _joined(pieces)

    def _resolved(self, piece: Extent) -> Iterable[Extent]:
        known = [name for name in _names(piece) if name in self._is]
        if not known or isinstance(piece, int):
            return (piece,)
        if len(piece.terms) > 1 or len(known) > 1 or piece.terms[0][0].count(known[0]) > 1:
            return self.resolve((substitute(piece, {name: total(self._is[name]) for name in known}),))
        rest = substitute(piece, {known[0]: 1})
        before = self._is[known[0]]
        value = self._is[known[0]] = self.resolve(before)  # the next time it is a short way
        if value != before and (reason := self.why(before)):
            self._reason.setdefault(known[0], reason)
        return self.resolve(tuple([part * rest for part in value]))

    def original(self, extent: Extent) -> Extent:
        """Return what `extent` is in the traced network."""
        return substitute(extent, self.value)

    def free(self, dim: Dim) -> tuple[str, ...]:
        """Return the unknowns that `dim` depends on, in order."""
        return tuple(dict.fromkeys(name for piece in self.resolve(dim) for name in _names(piece) if name[0] == "#"))

    def why(self, dim: Dim) -> str:
        """Return what fixed an unknown of `dim`, empty where nothing did."""
        for piece in dim:
            for name in _names(piece):
                if reason := self._reason.get(name) or self.why(self._is.get(name, ())):
                    return reason
        return ""

    # -- saying ----------------------------------------------------------------------------------------------------

    def fix(self, dim: Dim, reason: str = "") -> None:
        """Fix all that `dim` depends on to its value."""
        for name in self.free(dim):
            self._is[name] = (self.value[name],)
            self._reason[name] = reason or self.context

    def equate(self, a: Dim, b: Dim) -> None:
        """Make two dimensions the same, piece by piece. Raises `Unclear` where they are not."""
        if a == b:
            return
        left, right = list(self.resolve(a)), list(self.resolve(b))
        while left and right:
            p, q = left.pop(0), right.pop(0)
            if p == q:
                continue
            v, w = self.original(p), self.original(q)
            if v == w:
                self._same(p, q)
            elif isinstance(v, int) and isinstance(w, int):
                # Cutting may say what the other piece is as well; equating resolves both again.
                if v < w:
                    first, second = self._cut(q, v)
                    right.insert(0, second)
                    self.equate((p,), (first,))
                else:
                    first, second = self._cut(p, w)
                    left.insert(0, second)
                    self.equate((first,), (q,))
            else:
                raise Unclear
            left, right = list(self.resolve(tuple(left))), list(self.resolve(tuple(right)))
        if left or right:
            raise Unclear

    def take(self, dim: Dim, size: int) -> tuple[Dim, Dim]:
        """Return the first `size` of a dimension and the rest. Raises `Unclear` where no piece can be cut there."""
        head: list[Extent] = []
        rest = list(self.resolve(dim))
        while size:
            if not rest:
                raise Unclear
            piece = rest.pop(0)
            value = self.original(piece)
            if not isinstance(value, int):
                raise Unclear
            if value > size:
                piece, after = self._cut(piece, size)
                value = size
                rest = [after, *self.resolve(tuple(rest))]
            head.append(piece)
            size -= value
        return self.resolve(tuple(head)), self.resolve(tuple(rest))

    def parts(self, dim: Dim, number: int) -> Dim:
        """Return one of `number` equal parts of a dimension, which are made the same.

        Raises `Unclear` where it has no such parts.
        """
        size = self.original(total(dim))
        if number == 1:
            return dim
        if not isinstance(size, int) or size % number:
            raise Unclear
        dim = self.resolve(dim)
        if len(dim) == 1 and (part := divided(dim, number)) is not None:
            return part
        part, rest = self.take(dim, size // number)
        for _ in range(number - 1):
            following, rest = self.take(rest, size // number)
            self.equate(part, following)
            part, rest = self.resolve(part), self.resolve(rest)
        return part

    # -- one piece -------------------------------------------------------------------------------------------------

    def _cut(self, piece: Extent, at: int) -> tuple[Extent, Extent]:
        if isinstance(piece, int):
            return at, piece - at
        if len(piece.terms) == 1 and len(piece.terms[0][0]) == 1:
            (name,), run = piece.terms[0]
            value = self.value[name]
            if at % run == 0:
                first, second = self.fresh(at // run), self.fresh(value - at // run)
                self._is[name] = (*first, *second)
                return first[0] * run, second[0] * run
            if at % value == 0:
                # No whole number of runs: as many of each run's elements.
                return symbol(name) * (at // value), symbol(name) * (run - at // value)
        raise Unclear

    def _same(self, p: Extent, q: Extent) -> None:
        """Make two resolved pieces of equal value the same."""
        if isinstance(p, int) or isinstance(q, int):
            self.fix((p, q))
            return
        if len(p.terms) == 1 and len(q.terms) == 1:
            p, q = _without_common(p.terms[0], q.terms[0])
            if isinstance(p, int) or isinstance(q, int):
                self.fix((p, q))
                return
        for this, other in ((p, q), (q, p)):
            name = _alone(this)
            names = _names(other)
            if name and name not in names and all(n[0] == "#" for n in names):
                self._is[name] = (other,)
                return
        (a, k), (b, m) = p.terms[0], q.terms[0]
        if len(p.terms) == len(q.terms) == len(a) == len(b) == 1 and a[0][0] == b[0][0] == "#":
            unit = self.fresh(self.value[a[0]] // m)[0]  # k a = m b with k, m coprime: a = m unit, b = k unit
            self._is[a[0]], self._is[b[0]] = (unit * m,), (unit * k,)
            return
        self.fix((p, q))


def _names(extent: Extent) -> tuple[str, ...]:
    if isinstance(extent, int):
        return ()
    if len(extent.terms) == 1:
        return extent.terms[0][0]
    return tuple(dict.fromkeys(name for monomial, _ in extent.terms for name in monomial))


def _alone(extent: Extent) -> str:
    """Return the unknown that `extent` consists of, empty where it is something else."""
    if isinstance(extent, Poly) and len(extent.terms) == 1:
        monomial, coefficient = extent.terms[0]
        if coefficient == 1 and len(monomial) == 1 and monomial[0][0] == "#":
            return monomial[0]
    return ""


def _without_common(p: tuple[tuple[str, ...], int], q: tuple[tuple[str, ...], int]) -> tuple[Extent, Extent]:
    """Return two products without the factors that both have."""
    (a, k), (b, m) = p, q
    common = gcd(k, m)
    left, right = list(a), list(b)
    for name in a:
        if name in right:
            left.remove(name)
            right.remove(name)
    return _product(left, k // common), _product(right, m // common)


def _product(names: Iterable[str], coefficient: int) -> Extent:
    product: Extent = coefficient
    for name in names:
        product = product * symbol(name)
    return product


def _joined(pieces: list[Extent]) -> Dim:
    """Return pieces with neighbouring numbers as one."""
    joined: list[Extent] = []
    for piece in pieces:
        if isinstance(piece, int) and joined and isinstance(joined[-1], int):
            joined[-1] += piece
        elif piece != 0:
            joined.append(piece)
    return tuple(joined)


def renamed(dim: Dim, names: Mapping[str, Extent]) -> Extent:
    """Return the size of a resolved dimension with its unknowns called by `names`."""
    return substitute(total(dim), names)
