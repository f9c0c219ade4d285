"""Sums over operands that the rules share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from simulator.work import Call, Operand


def names(text: str) -> tuple[str, ...]:
    """Return the names in `text`, which spaces separate."""
    return tuple(text.split())


def touched(operands: Iterable[Operand]) -> Any:
    """Return the bytes of the distinct elements of `operands`: what must move to read or write each once."""
    return sum(operand.touched_bytes for operand in operands)


def elements(operands: Iterable[Operand]) -> Any:
    """Return the number of elements of `operands`, expanded ones in full."""
    return sum(operand.numel for operand in operands)


def results(call: Call) -> tuple[Operand, ...]:
    """Return all outputs or, where the op returns nothing (`_foreach_add_`), all it writes."""
    return call.outputs or call.written


def equals(value: Any, number: float) -> bool:
    """Whether an attribute is this one number (an array of numbers, one per batch size, is not)."""
    return isinstance(value, int | float) and value == number


def product(extents: Sequence[Any]) -> Any:
    """Return the product of `extents`, which may be arrays; 1 for none."""
    total: Any = 1
    for extent in extents:
        total = total * extent
    return total


def pair(values: Any, dimensions: int = 2) -> tuple[Any, ...]:
    """Return a per-dimension attribute in full: `3` and `(3,)` mean 3 in each of `dimensions`."""
    listed = tuple(values) if isinstance(values, tuple | list) else (values,)
    return listed * dimensions if len(listed) == 1 else listed


def taps(call: Call, dimensions: int) -> Any:
    """Return the number of elements in a pooling window."""
    return product(pair(call.attrs["kernel_size"], dimensions))
