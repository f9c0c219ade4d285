"""Undoing what recording does to gradient sums.

Where several branches send a gradient to one tensor, eager PyTorch's autograd engine adds in place into the
gradient that came first, if nothing else holds it. Under a dispatch mode it adds out of place. This puts the eager
behaviour back into a record, so that the memory of the sum is not counted twice.

Source of the condition: torch/csrc/autograd/input_buffer.cpp, `InputBuffer::accumulate` (the old gradient is dense,
is no view, and this is its last reference), observed to give the byte-exact peak of un-instrumented runs.
"""

from __future__ import annotations

from typing import Any

import torch

from workloads.tracing.recorder import Block, Call, Record, View

aten = torch.ops.aten


def restore_in_place_sums(record: Record) -> None:
    """Rewrite the engine's out-of-place sums in `record` as the in-place sums of an un-instrumented run."""
    made_by: dict[int, Any] = {}
    renamed: dict[int, int] = {}

    def current(number: int) -> int:
        while number in renamed:
            number = renamed[number]
        return number

    for index, call in enumerate(record.calls):
        made = call.new
        if _is_engine_sum(call, made_by):
            call.by_engine = True
            old = current(call.inputs[0][0])
            assert call.outputs[0] is not None
            new = call.outputs[0][0]
            block, sum_block = record.blocks[old], record.blocks[new]
            if _can_be_written(call, block, sum_block, index):
                renamed[new] = old
                block.died = sum_block.died
                if sum_block.role == "gradient":
                    block.role, block.name = sum_block.role, sum_block.name
                call.func, call.new, call.mutated = aten.add_.Tensor, [], [call.outputs[0]]
        # Read before `new` is emptied: a sum may be summed into again, by another node.
        for number in made:
            made_by[number] = (call.node, call.forward_seq)

    if renamed:
        _renumber(record, {n: current(n) for n in range(len(record.blocks))})


def _renumber(record: Record, merged: dict[int, int]) -> None:
    """Give the storages of `record` new numbers, without the ones merged into others."""
    kept = {old: new for new, old in enumerate(n for n in range(len(record.blocks)) if merged[n] == n)}
    number = {old: kept[merged[old]] for old in merged}

    def moved(view: View) -> View:
        return (number[view[0]], *view[1:])

    for call in record.calls:
        call.inputs = [moved(v) for v in call.inputs]
        call.outputs = [None if v is None else moved(v) for v in call.outputs]
        call.mutated = [moved(v) for v in call.mutated]
    record.saved = [(seq, moved(v)) for seq, v in record.saved]
    record.blocks = [record.blocks[old] for old in kept]


def _is_engine_sum(call: Call, made_by: dict[int, Any]) -> bool:
    """Tell a sum made by the engine from one that a backward formula makes: its first operand is another node's."""
    if call.func is not aten.add.Tensor or call.input_views is None or len(call.inputs) != 2 or len(call.new) != 1:
        return False
    if call.inputs[0][1] != call.inputs[1][1] or call.attrs.get("alpha") != 1:
        return False
    node = (call.node, call.forward_seq)
    return bool(made_by.get(call.inputs[0][0], node) != node)


def _can_be_written(call: Call, old: Block, new: Block, index: int) -> bool:
    assert call.input_views is not None
    return not call.input_views[0] and old.died == index and _is_dense(call.inputs[0]) and old.bytes == new.bytes


def _is_dense(view: View) -> bool:
    expected = 1
    for stride, extent in sorted((st, ex) for st, ex in zip(view[2], view[1], strict=True) if ex != 1):
        if stride != expected:
            return False
        expected *= extent
    return True
