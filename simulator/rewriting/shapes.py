"""What follows from the shape of a tensor."""

from __future__ import annotations

from collections.abc import Iterable

from simulator.extent import Extent


def numel(shape: Iterable[Extent]) -> Extent:
    """Return the number of elements of a shape."""
    count: Extent = 1
    for extent in shape:
        count = count * extent
    return count


def contiguous(shape: tuple[Extent, ...]) -> tuple[Extent, ...]:
    """Return the strides of a contiguous tensor."""
    stride: list[Extent] = []
    step: Extent = 1
    for extent in reversed(shape):
        stride.append(step)
        step = step * extent
    return tuple(reversed(stride))
