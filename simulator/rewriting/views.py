"""Strides of views, with extents in place of numbers."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.extent import Extent


def viewed(shape: Sequence[Extent], stride: Sequence[Extent], new: Sequence[Extent]) -> tuple[Extent, ...] | None:
    """Return the strides of a tensor seen in another shape of as many elements, None where that takes a copy.

    Both shapes are cut from the right into the smallest runs of dimensions of equal product. The old dimensions of a
    run must lie one after the other in memory (stride[i] == shape[i+1] * stride[i+1]); those of size 1 lie anywhere.
    """
    strides: list[Extent] = []
    i, j = len(shape), len(new)
    while j > 0:
        if new[j - 1] == 1:
            strides.append(strides[-1] * new[j] if strides else 1)
            j -= 1
            continue
        while i > 0 and shape[i - 1] == 1:
            i -= 1
        if i == 0:
            return None
        i, j = i - 1, j - 1
        step, reached, old, made = stride[i], shape[i] * stride[i], shape[i], new[j]
        strides.append(step)
        while old != made:
            if _less(old, made):
                i -= 1
                if i < 0 or (shape[i] != 1 and stride[i] != reached):
                    return None
                if shape[i] != 1:
                    old, reached = old * shape[i], shape[i] * stride[i]
            else:
                j -= 1
                if j < 0:
                    return None
                strides.append(strides[-1] * new[j + 1])
                made = made * new[j]
    return tuple(reversed(strides))


def _less(a: Extent, b: Extent) -> bool:
    """Tell whether `a` is to be multiplied to reach `b`: it has fewer dimensions in it, or is the smaller number."""
    return _size(a) < _size(b)


def _size(extent: Extent) -> tuple[int, int]:
    if isinstance(extent, int):
        return 0, extent
    return max(len(monomial) for monomial, _ in extent.terms), max(c for _, c in extent.terms)
