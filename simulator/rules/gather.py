"""Ops that read or write elements at computed places: only what is picked counts, not the whole table."""

from __future__ import annotations

from typing import Any

import numpy as np

from simulator.rules import rule
from simulator.rules.counting import touched
from simulator.work import Call, Row


@rule(
    "embedding",
    "index",
    "_unsafe_index",
    "index_select",
    "gather",
    "take",
    "masked_select",
    "repeat_interleave",
)
def gather(call: Call) -> Row:
    """No FLOPs.

    Reads the picked elements (as many as come out) and the indices or mask, writes the result.
    """
    y = call.outputs[0]
    picked = y.numel * call.inputs[0].item_bytes
    return Row("gather", 0, picked + touched(call.inputs[1:]), touched(call.written))


@rule("embedding_dense_backward")
def embedding_backward(call: Call) -> Row:
    """1 add an element of dy.

    Reads dy and the indices, writes the full table (zeros where no index points).
    """
    dy = call.inputs[0]
    return Row("gather", dy.numel, touched(call.inputs), touched(call.written))


@rule("embedding_renorm_")
def embedding_renorm(call: Call) -> Row:
    """Rows that are looked up are scaled to a norm: 3 FLOPs an element; reads and writes those rows."""
    table, indices = call.inputs[0], call.inputs[1]
    picked = indices.numel * table.shape[-1]
    return Row("gather", 3 * picked, picked * table.item_bytes + indices.touched_bytes, picked * table.item_bytes)


@rule("_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(call: Call) -> Row:
    """1 add an element of each looked-up row. Reads those rows and the indices, writes the sums."""
    table, indices = call.inputs[0], call.inputs[1]
    picked = indices.numel * table.shape[-1]
    return Row("gather", picked, picked * table.item_bytes + touched(call.inputs[1:]), touched(call.written))


@rule("_embedding_bag_backward", "_embedding_bag_dense_backward")
def embedding_bag_backward(call: Call) -> Row:
    """1 add an element of each looked-up row. Reads dy and the indices, writes the full table."""
    dy, indices = call.inputs[0], call.inputs[1]
    return Row("gather", indices.numel * dy.shape[-1], touched(call.inputs), touched(call.written))


def _scatter(call: Call, count: Any, operands: Any, adds: bool) -> Row:
    """The row of writing `count` elements into `self`, in place or into a copy of it.

    `operands` are the bytes of indices and values. A sum also reads what it adds to. The copy costs a read
    and a write of all of `self`.
    """
    table = call.inputs[0]
    moved = count * table.item_bytes
    read = operands + (moved if adds else 0)
    flops = count if adds else 0
    if call.kind.endswith("_"):
        return Row("gather", flops, read, moved)
    return Row("gather", flops, operands + table.touched_bytes, touched(call.written))


@rule("index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put")
def index_put(call: Call) -> Row:
    """self[indices] = values, or += (1 add an element).

    As many elements as there are values or, where one value is spread, indices; of a boolean mask, all its
    elements (an upper bound).
    """
    indices, values = call.inputs[1:-1], call.inputs[-1]
    count: Any = values.numel
    for index in indices:
        count = np.maximum(count, index.numel)
    return _scatter(call, count, touched(call.inputs[1:]), bool(call.attrs.get("accumulate", False)))


@rule("scatter", "scatter_", "scatter_add", "scatter_add_", "scatter_reduce", "scatter_reduce_")
def scatter(call: Call) -> Row:
    """self[index] = src, or += (1 FLOP an element), for each element of index."""
    adds = "add" in call.kind or call.attrs.get("reduce") is not None
    return _scatter(call, call.inputs[1].numel, touched(call.inputs[1:]), adds)


@rule("index_add", "index_add_", "index_copy", "index_copy_", "index_reduce", "index_reduce_")
def index_rows(call: Call) -> Row:
    """self[index] = source, or += (1 FLOP an element), for each element of source."""
    return _scatter(call, call.inputs[2].numel, touched(call.inputs[1:]), "copy" not in call.kind)


@rule("index_fill", "index_fill_")
def index_fill(call: Call) -> Row:
    """self[index] = value along one dimension."""
    table, index = call.inputs[0], call.inputs[1]
    count = table.numel // table.shape[call.attrs["dim"]] * index.numel
    return _scatter(call, count, touched(call.inputs[1:]), False)


@rule("masked_scatter", "masked_scatter_")
def masked_scatter(call: Call) -> Row:
    """self[mask] = the next of source: as many elements as the mask has (an upper bound)."""
    mask = call.inputs[1]
    picked = mask.numel * call.inputs[2].item_bytes
    return _scatter(call, mask.numel, mask.touched_bytes + picked, False)


@rule("masked_scatter_backward")
def masked_scatter_backward(call: Call) -> Row:
    """Picks dy where the mask is true and fills up with zeros.

    Reads dy and mask, writes the gradient of source.
    """
    return Row("gather", 0, touched(call.inputs), touched(call.written))
