"""Ops that look alike: same kind, layouts and attributes, so the same work. A ResNet's 1,250 ops are 200 of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from simulator.graph import Graph, Op


class Alike(NamedTuple):
    """The ops of a graph that look alike, once. `keys`, one for each distinct op, hold in every graph that shares the
    layouts and attributes in `parts`, for as long as these live; `first` is the number of an op of each; `row_of_op`,
    shape (ops,), maps ops to them.
    """

    keys: list[tuple[Any, ...]]
    first: list[int]
    row_of_op: npt.NDArray[np.int64]


def alike(graph: Graph, ops: Sequence[int] | None = None) -> Alike:
    """Return which of the ops (of those numbered `ops`) look alike: same kind, layouts and attributes."""
    layout = list(map(id, [tensor.layout for tensor in graph.tensors]))
    at = layout.__getitem__
    place: dict[tuple[Any, ...], int] = {}
    first: list[int] = []
    rows: list[int] = []
    for i in range(len(graph.ops)) if ops is None else ops:
        op = graph.ops[i]
        inputs = op.inputs
        key = (
            op.kind,
            id(op.attrs),
            tuple(map(at, inputs)),
            tuple(map(at, op.outputs)),
            tuple(map(at, mutated(op))) if op.mutates else (),
            repeated(inputs) if len(inputs) > 1 and len(set(inputs)) < len(inputs) else (),
        )
        row = place.setdefault(key, len(first))
        if row == len(first):
            first.append(i)
        rows.append(row)
    return Alike(list(place), first, np.array(rows, dtype=np.int64))


def parts(graph: Graph, op: Op) -> tuple[Any, ...]:
    """Return the layouts and attributes that decide what `op` does."""
    return (op.attrs, *[graph.tensors[t].layout for t in (*op.inputs, *op.outputs, *op.mutates)])


def mutated(op: Op) -> tuple[int, ...]:
    """Return the tensors that an op writes beside its outputs."""
    return tuple([t for t in op.mutates if t not in op.outputs])


def repeated(tensors: tuple[int, ...]) -> tuple[int, ...]:
    """Return the positions at which a tensor is an operand again, as in x * x."""
    return tuple([i for i, t in enumerate(tensors) if t in tensors[:i]])
