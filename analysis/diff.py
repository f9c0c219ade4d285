"""What a technique changes in a training step, op by op."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from analysis.align import align
from analysis.opcsv import shapes
from simulator.cost import HardwareModel
from simulator.estimate import estimate
from simulator.graph import PHASES, Graph, Op
from simulator.memory import replay, storage_bytes
from simulator.totals import Change
from simulator.work import Floats, work_of

Kind = Literal["removed", "added", "changed", "same"]
WORK = ("macs", "flops", "traffic_bytes", "saved_bytes")
COST = ("latency_s", "energy_j")


@dataclass(frozen=True)
class Side:
    """One of two graphs in columns, shape (ops,): `columns` holds `WORK`, and with a device `COST`.

    What adds up is weighted with the op's expected runs; saved bytes are not.
    """

    graph: Graph
    columns: Mapping[str, Floats]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    peak_bytes: int

    def look(self, i: int) -> tuple[object, ...]:
        """Return all that is compared of op `i`."""
        numbers = tuple(str(column[i]) for column in self.columns.values())  # text: an energy may be unknown, NaN
        return (self.inputs[i], self.outputs[i], self.graph.ops[i].runs, numbers)


@dataclass(frozen=True, slots=True)
class OpChange:
    """An op before (its number in the first graph) and after (in the second); None where it is not."""

    kind: Kind
    before: int | None
    after: int | None


@dataclass(frozen=True)
class Diff:
    """Two graphs and which op of one is which of the other, in the order of the steps."""

    before: Side
    after: Side
    ops: tuple[OpChange, ...]

    @property
    def quantities(self) -> tuple[str, ...]:
        """What is compared."""
        return tuple(self.before.columns)

    @cached_property
    def changed(self) -> tuple[OpChange, ...]:
        """The ops that are not the same."""
        return tuple(op for op in self.ops if op.kind != "same")

    @cached_property
    def peak_bytes(self) -> Change:
        """The peak memory, without a device's kernel workspace."""
        return Change(self.before.peak_bytes, self.after.peak_bytes)

    @cached_property
    def total(self) -> Mapping[str, Change]:
        """Each quantity of the whole step."""
        return self.sums(self.ops)

    @cached_property
    def phases(self) -> Mapping[str, Mapping[str, Change]]:
        """Each quantity by phase, of phases that either step has."""
        parts = self._split(self.ops, "phase")
        return {phase: self.sums(parts[phase]) for phase in PHASES if phase in parts}

    @cached_property
    def layers(self) -> Mapping[str, tuple[OpChange, ...]]:
        """The ops that are not the same by layer, the layer that changes most first."""
        parts = self._split(self.changed, "layer")
        return dict(sorted(parts.items(), key=lambda part: self.weight(part[1]), reverse=True))

    def sums(self, ops: Sequence[OpChange]) -> dict[str, Change]:
        """Return each quantity of some ops, added up."""
        before = [op.before for op in ops if op.before is not None]
        after = [op.after for op in ops if op.after is not None]
        return {
            name: Change(float(column[before].sum()), float(self.after.columns[name][after].sum()))
            for name, column in self.before.columns.items()
        }

    def weight(self, ops: Sequence[OpChange]) -> tuple[float, ...]:
        """Return how much some ops change, to order by: time where there is a device, MACs, traffic, saved bytes."""
        sums = self.sums(ops)
        return tuple(
            abs(sums[name].saved) for name in ("latency_s", "macs", "traffic_bytes", "saved_bytes") if name in sums
        )

    def _split(self, ops: Sequence[OpChange], field: str) -> dict[str, tuple[OpChange, ...]]:
        parts: dict[str, list[OpChange]] = {}
        for op in ops:
            parts.setdefault(getattr(self.op(op), field), []).append(op)
        return {label: tuple(members) for label, members in parts.items()}

    def op(self, change: OpChange) -> Op:
        """Return the op itself, as it is after if it still is."""
        if change.after is not None:
            return self.after.graph.ops[change.after]
        assert change.before is not None
        return self.before.graph.ops[change.before]


def diff(before: Graph, after: Graph, device: HardwareModel | None = None, *, unknown: str = "stop") -> Diff:
    """Return what is different in `after`; with a device also in seconds and joules.

    Ops of one kind, layer and phase correspond in the order in which they run (`align`). Two that correspond are the
    same where their shapes, dtypes, expected runs and all quantities are. `unknown` as in `estimate`.
    """
    sides = side(before, device, unknown), side(after, device, unknown)
    keys = [[((op.kind, op.layer, op.phase), one.look(i)) for i, op in enumerate(one.graph.ops)] for one in sides]
    found = []
    for i, j in align(*keys):
        if i is None or j is None:
            kind: Kind = "added" if i is None else "removed"
        else:
            kind = "same" if keys[0][i] == keys[1][j] else "changed"
        found.append(OpChange(kind, i, j))
    return Diff(*sides, tuple(found))


def side(graph: Graph, device: HardwareModel | None, unknown: str) -> Side:
    """Return what is compared of a graph."""
    work = work_of(graph, unknown=unknown)
    row, runs = work.row_of_op, work.runs
    columns = {
        "macs": work.macs[row] * runs,
        "flops": work.flops[row] * runs,
        "traffic_bytes": work.traffic_bytes[row] * runs,
        "saved_bytes": saved_bytes(graph),
    }
    if device is not None:
        ops = estimate(graph, device, unknown=unknown).ops
        columns |= {name: getattr(ops, name) for name in COST}
    return Side(
        graph,
        columns,
        tuple(_typed(graph, op.inputs) for op in graph.ops),
        tuple(_typed(graph, op.outputs) for op in graph.ops),
        replay(graph.worst()).peak_bytes,
    )


def saved_bytes(graph: Graph) -> Floats:
    """Return what autograd keeps of each op for backward, in bytes, shape (ops,).

    That is every storage of the role `saved`, once: with the first op that has it saved, or else the op that made it.
    """
    keeper: dict[int, int] = {}
    for i, op in enumerate(graph.ops):
        for tensor in op.saved:
            keeper.setdefault(graph.tensors[tensor].storage, i)
    kept, sizes = np.zeros(len(graph.ops)), storage_bytes(graph)
    for number, storage in enumerate(graph.storages):
        if storage.role == "saved":
            kept[keeper.get(number, storage.born)] += sizes[number]
    return kept


def _typed(graph: Graph, tensors: tuple[int, ...]) -> str:
    """Return shapes with the dtypes that are not float32."""
    names = [graph.tensors[t].dtype for t in tensors]
    texts = shapes(graph, tensors).split()
    return " ".join(text if name == "float32" else f"{text}:{name}" for text, name in zip(texts, names, strict=True))
