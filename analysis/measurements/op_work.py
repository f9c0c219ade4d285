"""From measured ops to their work: what a row says of an op is enough to count it, without torch."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.measurements.row import Row
from simulator.errors import TrainwattError
from simulator.graph import Graph, Layout, Op, Storage, Tensor
from simulator.work import Work, work_of
from workloads.measuring.board.signatures import Operand, Signature, signature


def work_of_rows(rows: Sequence[Row]) -> Work:
    """Return the work of the ops that `rows` measured, one op a row, in order: every column has shape (rows,).

    Raises `TrainwattError`, with what the row says, for a row that is no op and for one whose kind or parameters do
    not say its operands (docs/measurements.md lists them).
    """
    ops: list[Op] = []
    tensors: list[Tensor] = []
    for row in rows:
        _add(_signature(row), row.what, ops, tensors)
    storages = [Storage(0, "temporary", -1, None) for _ in tensors]  # work does not ask for their sizes
    return work_of(Graph(tuple(ops), tuple(tensors), tuple(storages), {}))


def _signature(row: Row) -> Signature:
    where = f"measurement of {row.what} ({row.parameters})"
    if row.kind != "op":
        raise TrainwattError(f"{where} is a {row.kind}; only ops have a row of work")
    try:
        return signature(row.what, row.settings, row.batch)
    except ValueError as error:
        raise TrainwattError(f"{where}: {error}") from None


def _add(found: Signature, kind: str, ops: list[Op], tensors: list[Tensor]) -> None:
    """Append the op and its operands; the layouts are its own, so that no two ops share a row of work."""
    inputs = tuple(range(len(tensors), len(tensors) + len(found.inputs)))
    tensors += [Tensor(_layout(x), len(tensors) + i) for i, x in enumerate(found.inputs)]
    outputs = tuple(range(len(tensors), len(tensors) + len(found.outputs)))
    tensors += [Tensor(_layout(x), len(tensors) + i) for i, x in enumerate(found.outputs)]
    mutated = tuple(inputs[i] for i in found.mutates)
    if kind.endswith("_") and outputs:  # an op in place returns what it has written
        outputs = mutated
    ops.append(Op(f"aten::{kind}", kind, "other", "", inputs, outputs, mutated, attrs=found.attrs))


def _layout(operand: Operand) -> Layout:
    stride, step = [0] * len(operand.shape), 1
    for axis in (1, 3, 2, 0) if operand.channels_last else reversed(range(len(operand.shape))):
        if operand.stored[axis] == operand.shape[axis]:
            stride[axis] = step
            step *= operand.shape[axis]
    return Layout(operand.shape, tuple(stride), operand.dtype)
