"""From records to a graph.

Two records of the same step at neighbouring batch sizes differ only in numbers that depend on the batch; each such
number becomes the line through its two values. A number that is not a line (the square of the batch) shows as a
product where it can: storage sizes and contiguous strides are computed from the shape, not fitted.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from math import prod
from types import MappingProxyType
from typing import Any

from simulator.errors import TrainwattError
from simulator.extent import Extent, affine, evaluate
from simulator.graph import ITEM_BYTES, Graph, Layout, Op, Role, Storage, Tensor
from simulator.rewriting.shapes import contiguous, numel
from workloads.tracing.recorder import Call, Record, View

VARIES = "batch-dependent"
"""What stands for a float attribute that differs between batch sizes; no cost depends on one."""


class Mismatch(Exception):
    """Two records are not of the same step: the reason, in words."""


def build_graph(first: Record, second: Record, batch: int, meta: Mapping[str, Any]) -> Graph:
    """Return the graph of a step recorded at `batch` and, in `second`, at `batch + 1`.

    The second record need not be in full: what the optimizer does is taken not to depend on the batch. Where it was
    made with what autograd saves elsewhere, its frees tell what the program itself holds (`Storage.held`). For a graph
    without a batch dimension both are of the same batch size. Raises `Mismatch` where the two differ in more
    than numbers.
    """
    return _Builder(first, second, batch).build(meta)


def same_numbers(graph: Graph, record: Record, batch: int) -> bool:
    """Tell whether `graph`, bound to `batch`, is what `record` (not in full) shows of that batch size."""
    try:
        recorded = build_graph(record, record, batch, {})
    except Mismatch:
        return False
    bound = Graph(graph.ops, graph.tensors, graph.storages, {**graph.sizes, "batch": batch}).concrete()
    n = len(recorded.ops)
    return (
        all(map(_same_op, bound.ops, recorded.ops))
        and bound.tensors[: len(recorded.tensors)] == recorded.tensors
        and [_lifetime(s, n) for s in bound.storages[: len(recorded.storages)]]
        == [_lifetime(s, n) for s in recorded.storages]
    )


def _same_op(a: Op, b: Op) -> bool:
    return (a.name, a.kind, a.layer, a.inputs, a.outputs, a.mutates, a.forward, a.attrs) == (
        (b.name, b.kind, b.layer, b.inputs, b.outputs, b.mutates, b.forward, b.attrs)
    )


def _lifetime(storage: Storage, ops: int) -> tuple[Any, ...]:
    """Return what the first `ops` ops show of a storage."""
    died = storage.died if storage.died is not None and storage.died < ops else None
    return storage.size_bytes, storage.born, died


class _Builder:
    def __init__(self, first: Record, second: Record, batch: int) -> None:
        self.first, self.second, self.batch = first, second, batch
        self.tensors: list[Tensor] = []
        self.numbers: dict[Any, int] = {}
        self.seen: dict[View, int] = {}
        self.layouts: dict[Any, Layout] = {}
        self.attrs: dict[Any, Mapping[str, Any]] = {}
        self.ops: list[Op] = []
        self.extent = lru_cache(maxsize=None)(self._extent)
        self.saved = _saved_for_backward(first)

    # -- numbers ---------------------------------------------------------------------------------------------------

    def _extent(self, a: int, b: int) -> Extent:
        return a if a == b else affine("batch", self.batch, a, b)

    def layout(self, a: View, b: View) -> Layout:
        key = (a[1], a[2], a[4], b[1], b[2])
        found = self.layouts.get(key)
        if found is None:
            if len(a[1]) != len(b[1]) or a[4] != b[4]:
                raise Mismatch(f"a tensor is {a[4]}{list(a[1])} at one batch size and {b[4]}{list(b[1])} at another")
            shape = tuple(map(self.extent, a[1], b[1]))
            stride = tuple(map(self.extent, a[2], b[2]))
            if stride != a[2] and contiguous(a[1]) == a[2] and contiguous(b[1]) == b[2]:
                stride = contiguous(shape)
            found = self.layouts[key] = Layout(shape, stride, str(a[4]).removeprefix("torch."))
        return found

    def tensor(self, a: View, b: View) -> int:
        if a[0] != b[0]:
            raise Mismatch("storages are shared differently at two batch sizes")
        layout = self.layout(a, b)
        key = (id(layout), a[0], a[3], b[3])
        number = self.numbers.get(key)
        if number is None:
            number = self.numbers[key] = self.seen[a] = len(self.tensors)
            self.tensors.append(Tensor(layout, a[0], self.extent(a[3], b[3])))
        return number

    def views(self, a: list[Any], b: list[Any]) -> tuple[int, ...]:
        if len(a) != len(b):
            raise Mismatch("an op has other operands at another batch size")
        return tuple([self.tensor(x, y) for x, y in zip(a, b, strict=True) if x is not None])

    def attributes(self, call: Call, other: Call, without: tuple[str, ...] = ()) -> Mapping[str, Any]:
        a = {k: v for k, v in call.attrs.items() if k not in without}
        b = {k: v for k, v in other.attrs.items() if k not in without}
        counts = {} if a == b else self._element_counts(call, other)
        key = (tuple(a.items()), tuple(b.values()), tuple(counts))
        try:
            found = self.attrs.get(key)
        except TypeError:
            raise TrainwattError(f"an op has an argument that cannot be stored: {a}") from None
        # True == 1 == 1.0 as keys, so the types must agree too
        if found is None or [type(v) for v in found.values()] != [type(v) for v in a.values()]:
            found = MappingProxyType({name: self._value(a[name], b.get(name), counts) for name in a})
            self.attrs[key] = found
        return found

    def _value(self, a: Any, b: Any, counts: Mapping[tuple[int, int], Extent]) -> Any:
        if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
            return tuple([self._value(x, y, counts) for x, y in zip(a, b, strict=True)])
        if isinstance(a, bool) or not isinstance(a, int) or not isinstance(b, int):
            return a if a == b else VARIES
        return counts.get((a, b)) or self.extent(a, b)

    def _element_counts(self, call: Call, other: Call) -> dict[tuple[int, int], Extent]:
        """Return the element counts of an op's tensors: a mean divides by one, which may be no line in the batch."""
        counts: dict[tuple[int, int], Extent] = {}
        for x, y in zip(call.inputs + call.outputs, other.inputs + other.outputs, strict=True):
            if x is not None and y is not None:
                counts[prod(x[1]), prod(y[1])] = numel(self.layout(x, y).shape)
        return counts

    # -- ops -------------------------------------------------------------------------------------------------------

    def build(self, meta: Mapping[str, Any]) -> Graph:
        calls, others = self.first.calls, self.second.calls
        if len(others) < len(calls):  # recorded without its optimizer
            others = others + calls[len(others) :]
        if [c.func for c in calls] != [c.func for c in others]:
            at = next((i for i, (x, y) in enumerate(zip(calls, others, strict=False)) if x.func is not y.func), -1)
            what = f"op {at} is {calls[at].func}" if at >= 0 else f"there are {len(calls)} ops"
            raise Mismatch(f"{what} at batch {self.batch} and not at {self.batch + 1}")
        saved = self._saved()
        last: list[int] = []
        for index, (call, other) in enumerate(zip(calls, others, strict=True)):
            forward = None if call.forward_seq is None else self.first.call_of_seq.get(call.forward_seq)
            layer = call.layer
            if forward is not None:
                layer = layer or calls[forward].layer
                # The engine sums gradients after a node is done; the sum differentiates nothing.
                forward = last[forward] if forward < index and not call.by_engine else None
            if call.func.name() == "aten::convolution_backward":
                self._split(call, other, layer, forward)
            else:
                self._add(call, other, layer, forward)
            last.append(len(self.ops) - 1)
        self._attach(saved, last)
        return Graph(
            tuple(self.ops),
            tuple(self.tensors),
            self._storages(last),
            {"batch": self.batch},
            MappingProxyType(dict(meta)),
        )

    def _add(self, call: Call, other: Call, layer: str, forward: int | None) -> None:
        inputs = self.views(call.inputs, other.inputs)
        outputs = self.views(call.outputs, other.outputs)
        mutates = self.views(call.mutated, other.mutated)
        if call.phase == "optimizer" and not layer:
            layer = self._layer_of_parameter(call)
        self.ops.append(
            Op(
                call.func.name(),
                call.func.name().partition("::")[2].partition(".")[0],
                call.phase,
                layer,
                inputs,
                outputs,
                mutates,
                attrs=self.attributes(call, other),
                forward=forward,
            )
        )

    def _attach(self, saved: Mapping[int, list[View]], last: list[int]) -> None:
        """Let each op save what autograd does; for a user's own function some of that is made by later ops."""
        for index, views in saved.items():
            if self.first.calls[index].func.name() == "aten::convolution_backward":
                continue  # split into ops that save nothing
            tensors = tuple(dict.fromkeys([self.seen[view] for view in views if view in self.seen]))
            self.ops[last[index]] = replace(self.ops[last[index]], saved=tensors)

    def _split(self, call: Call, other: Call, layer: str, forward: int | None) -> None:
        """Append a convolution's backward as separate grad-input, grad-weight and grad-bias ops."""
        grad, x, weight = self.views(call.inputs, other.inputs)
        operands = {"input": (grad, weight), "weight": (grad, x), "bias": (grad,)}
        attrs = self.attributes(call, other, without=("output_mask", "bias_sizes"))
        name = call.func.name()
        for part, wanted, a, b in zip(operands, call.attrs["output_mask"], call.outputs, other.outputs, strict=True):
            if wanted and a is not None and b is not None:
                out = self.tensor(a, b)
                kind = f"convolution_grad_{part}"
                self.ops.append(Op(name, kind, call.phase, layer, operands[part], (out,), attrs=attrs, forward=forward))

    def _layer_of_parameter(self, call: Call) -> str:
        """Return the layer whose parameter an optimizer op works on; none for an op over many."""
        if len(call.inputs) > 4:
            return ""
        for view in call.inputs:
            block = self.first.blocks[view[0]]
            if block.role in ("parameter", "gradient", "optimizer-state"):
                parameter = block.name if block.role == "parameter" else block.name.rpartition(".")[0]
                return parameter.rpartition(".")[0]
        return ""

    def _saved(self) -> dict[int, list[View]]:
        """Return for each call the tensors that autograd saves for it."""
        saved: dict[int, list[View]] = {}
        for sequence, view in self.saved:
            call = self.first.call_of_seq.get(sequence)
            if call is not None:
                saved.setdefault(call, []).append(view)
        return saved

    def _storages(self, last: list[int]) -> tuple[Storage, ...]:
        kept = {view[0] for _, view in self.saved}
        blocks, others = self.first.blocks, self.second.blocks
        product = {}  # the size of a storage that a tensor fills, from that tensor's shape
        for tensor in self.tensors:
            if tensor.storage not in product and tensor.offset == 0:
                product[tensor.storage] = numel(tensor.layout.shape) * ITEM_BYTES[tensor.layout.dtype]
        made = self._makers()
        used = _last_uses(self.ops, self.tensors, len(blocks))
        storages = []
        for number, block in enumerate(blocks):
            other = others[number] if number < len(others) else block
            size = self.extent(block.bytes, other.bytes)
            full = product.get(number, size)
            if full != size and _at(full, self.batch) == block.bytes and _at(full, self.batch + 1) == other.bytes:
                size = full
            role: Role = "saved" if block.role == "activation" and number in kept else block.role
            born = -1 if block.born < 0 else made.get(number, last[min(block.born, len(last) - 1)])
            died = None if block.died is None else last[block.died] if block.died >= 0 else -1
            if died is not None and died < born:
                died = born
            held = last[other.died] if other.died is not None and other.died >= 0 and born >= 0 else -1
            storages.append(Storage(size, role, born, died, block.name, held if held > used[number] else -1))
        return tuple(storages)

    def _makers(self) -> dict[int, int]:
        """Return the first op that returns a tensor in each storage (the parts of a split op make their own)."""
        made: dict[int, int] = {}
        for index, op in enumerate(self.ops):
            for number in op.outputs:
                made.setdefault(self.tensors[number].storage, index)
        return made


def _saved_for_backward(record: Record) -> list[tuple[int, View]]:
    """Return what was saved and not let go before any backward ran, as the input of a frozen checkpoint is."""
    backward = [i for i, call in enumerate(record.calls) if call.phase == "backward"]

    def needed(view: View) -> bool:
        block = record.blocks[view[0]]
        return block.died is None or bisect_right(backward, block.died) > bisect_left(backward, block.born)

    return [(sequence, view) for sequence, view in record.saved if needed(view)]


def _last_uses(ops: list[Op], tensors: list[Tensor], storages: int) -> list[int]:
    """Return the last op that uses each storage; of one made in forward, the last that does so before backward."""
    used = [-1] * storages
    forward = set()
    for index, op in enumerate(ops):
        early = op.phase in ("forward", "loss")
        for number in (*op.inputs, *op.outputs, *op.mutates):
            storage = tensors[number].storage
            if early:
                forward.add(storage)
            if early or storage not in forward:
                used[storage] = index
    return used


def _at(extent: Extent, batch: int) -> int:
    return int(evaluate(extent, {"batch": batch}))
