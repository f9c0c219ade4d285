"""Which op of one graph is which op of another."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from simulator.work import Ints

Pair = tuple[int | None, int | None]


def align(before: Sequence[tuple[Hashable, Hashable]], after: Sequence[tuple[Hashable, Hashable]]) -> list[Pair]:
    """Return the places of two sequences in pairs, in order; what stands in one of them alone is paired with None.

    An item is what it is and how it looks. Items pair where they are the same thing; the pairs are a longest common
    subsequence, and among those one with as many items as possible that look the same too. O(n * m) in time and
    memory (a byte a cell) for what remains between equal beginnings and ends.
    """
    shorter = min(len(before), len(after))
    head = _equal(zip(before, after, strict=False))
    tail = min(_equal(zip(reversed(before), reversed(after), strict=False)), shorter - head)
    first, last = len(before) - tail, len(after) - tail
    middle = _aligned(before[head:first], after[head:last])
    return [
        *((i, i) for i in range(head)),
        *((None if i is None else head + i, None if j is None else head + j) for i, j in middle),
        *((first + i, last + i) for i in range(tail)),
    ]


def _equal(pairs: Iterable[tuple[object, object]]) -> int:
    """Return how many pairs at the beginning are of equals."""
    count = 0
    for a, b in pairs:
        if a != b:
            break
        count += 1
    return count


_UP, _DIAGONAL, _LEFT = 0, 1, 2


def _aligned(before: Sequence[tuple[Hashable, Hashable]], after: Sequence[tuple[Hashable, Hashable]]) -> list[Pair]:
    number: dict[Hashable, int] = {}

    def codes(items: Sequence[tuple[Hashable, Hashable]]) -> tuple[Ints, Ints]:
        things = [number.setdefault(thing, len(number)) for thing, _ in items]
        whole = [number.setdefault(item, len(number)) for item in items]
        return np.array(things, dtype=np.int64), np.array(whole, dtype=np.int64)

    (thing_a, whole_a), (thing_b, whole_b) = codes(before), codes(after)
    # A pair counts more than all looks together. best[j] is the highest count of before[:i] with after[:j].
    unit = min(len(before), len(after)) + 1
    best = np.zeros(len(after) + 1, dtype=np.int64)
    came = np.empty((len(before), len(after)), dtype=np.int8)
    for i in range(len(before)):
        pairs = thing_b == thing_a[i]
        diagonal = np.where(pairs, best[:-1] + unit + (whole_b == whole_a[i]), -1)
        up = best[1:]
        best = np.concatenate([best[:1], np.maximum.accumulate(np.maximum(up, diagonal))])
        # Between pairs what is left out of `before` comes first: the way back is through `after` while it can be.
        came[i] = np.where(best[1:] == diagonal, _DIAGONAL, np.where(best[1:] == best[:-1], _LEFT, _UP))
    found: list[Pair] = []
    i, j = len(before), len(after)
    while i and j:
        step = int(came[i - 1, j - 1])
        i, j = i - (step != _LEFT), j - (step != _UP)
        found.append((None if step == _LEFT else i, None if step == _UP else j))
    found.extend((None, k) for k in range(j - 1, -1, -1))
    found.extend((k, None) for k in range(i - 1, -1, -1))
    return found[::-1]
