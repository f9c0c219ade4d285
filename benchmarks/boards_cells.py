"""Networks of NAS-Bench-201 [Dong and Yang, ICLR 2020, arXiv:2001.00326] as runtimes execute them.

Three stages of five equal cells of 16, 32 and 64 channels, a residual block before the second and the third, a stem, a
mean and a classifier. A node of a cell is the sum of an op on every node before it; `none` is a product with zero. What
a runtime makes of the cell is `simulator.rewriting.deploying`, applied to the graph of one cell; all else of the
network is the same in each.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cache

from boards_rows import Rows

from analysis.claims.cpu_metrics import Step
from simulator.graph import Graph, Op
from simulator.rewriting.deploying import Runtime, deployed

STAGES = (16, 32, 64)
CELLS = 5
CONVOLUTIONS = {"nor_conv_3x3": 3, "nor_conv_1x1": 1}
BEFORE = "before"
"""Layer of the op that makes a cell's input."""
COLUMNS = ("network", "conv 3x3", "conv 1x1", "pool", "add", "sum", "relu", "mul", "clone")
"""Counts of a cell's ops that a linear model goes by; the first is 1. `sum` is 0 + x, with which Python's `sum` begins;
`clone` an identity, where a runtime makes it a layer; a chain of sums that is one op is one `add`."""


def edges(cell: str) -> tuple[tuple[int, int, str], ...]:
    """Return (from, to, op) of a cell such as `|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|`, in its order."""
    found = []
    for node, text in enumerate(cell.split("+"), start=1):
        for edge in text.strip("|").split("|"):
            op, _, source = edge.partition("~")
            found.append((int(source), node, op))
    return tuple(found)


def is_connected(cell: str) -> bool:
    """Tell whether the output depends on the input, over edges other than `none`."""
    reached = {0}
    for source, node, op in edges(cell):
        if op != "none" and source in reached:
            reached.add(node)
    return 3 in reached


def cell_graph(cell: str, identities: bool = False) -> Graph:
    """Return the forward pass of one cell on a map of 16 channels, as its module runs it, batch norm folded.

    The map comes from a sum in layer `BEFORE`, of which a ReLU may become part, as behind another cell; the stem's
    convolution takes one likewise. With `identities`, an edge that only passes its input on is an op, a copy, as
    TensorRT makes it a layer.
    """
    step = Step("float32")
    map_ = (1, 16, 32, 32)
    nodes = {0: step.op("forward", "add", (step.tensor(*map_), step.tensor(*map_)), map_, alpha=1)}
    step.ops[0] = replace(step.ops[0], layer=BEFORE)
    for source, node, op in edges(cell):
        x = nodes[source]
        if op in CONVOLUTIONS:
            taps = CONVOLUTIONS[op]
            x = step.op("forward", "relu", (x,), map_)
            weights = (step.tensor(16, 16, taps, taps), step.tensor(16))
            attrs = {"stride": (1, 1), "padding": (taps // 2, taps // 2), "dilation": (1, 1), "groups": 1}
            x = step.op("forward", "convolution", (x, *weights), map_, **attrs, transposed=False)
        elif op == "avg_pool_3x3":
            x = step.op("forward", "avg_pool2d", (x,), map_, kernel_size=(3, 3))
        elif op == "none":
            x = step.op("forward", "mul", (x,), map_)
        elif identities:
            x = step.op("forward", "clone", (x,), map_)
        nodes[node] = step.op("forward", "add", (nodes[node], x) if node in nodes else (x,), map_, alpha=1)
    return Graph(tuple(step.ops), tuple(step.tensors), tuple(step.storages), {"batch": 1})


@cache
def executed(cell: str, runtime: Runtime, identities: bool = False) -> tuple[str, ...]:
    """Return the ops of a deployed cell in order, as `COLUMNS` names them; `add 3` adds three operands."""
    graph = deployed(cell_graph(cell, identities), runtime, zero="layer")
    return tuple(_name(graph, op) for op in graph.ops if op.layer != BEFORE)


def _name(graph: Graph, op: Op) -> str:
    if op.kind == "convolution":
        taps = graph.tensors[op.inputs[1]].shape[-1]
        return f"conv {taps}x{taps}"
    if op.kind == "add" and len(op.inputs) != 2:
        return "sum" if len(op.inputs) == 1 else f"add {len(op.inputs)}"
    return {"avg_pool2d": "pool"}.get(op.kind, op.kind)


def counts(cell: str, runtime: Runtime, identities: bool = False) -> list[float]:
    """Return the numbers of `COLUMNS` of a cell."""
    ops = executed(cell, runtime, identities)
    found = Counter("add" if name.startswith("add") else name for name in ops)
    return [1.0, *(float(found[name]) for name in COLUMNS[1:])]


@dataclass(frozen=True)
class Networks:
    """Whole networks on images of `channels` x `size`, composed of rows that all share."""

    rows: Rows
    channels: int = 3
    size: tuple[int, int] = (32, 32)
    classes: int = 10

    def ops(self, cell: str, runtime: Runtime, identities: bool = False) -> list[int]:
        """Return the ops of the deployed network of a cell."""
        rows, (high, wide) = self.rows, self.size
        found = [rows.convolution(self.channels, STAGES[0], self.size, 3)]
        for i, channels in enumerate(STAGES):
            size = (high >> i, wide >> i)
            if i:
                found += self._reduction(channels // 2, channels, size)
            found += CELLS * [self._op(name, channels, size) for name in executed(cell, runtime, identities)]
        channels, size = STAGES[-1], (high >> 2, wide >> 2)
        found += [rows.norm(channels, size), rows.elementwise("relu", [(channels, *size)])]
        return [*found, rows.mean(channels, size), rows.linear(channels, self.classes)]

    def _op(self, name: str, channels: int, size: tuple[int, int]) -> int:
        if name.startswith("conv"):
            return self.rows.convolution(channels, channels, size, int(name[-1]))
        if name == "pool":
            return self.rows.pool(channels, size, 3)
        kind, _, operands = name.partition(" ")
        count = int(operands or (2 if kind == "add" else 1))
        return self.rows.elementwise("add" if kind == "sum" else kind, [(channels, *size)] * count)

    def _reduction(self, c: int, k: int, size: tuple[int, int]) -> list[int]:
        """Return the residual block that halves the map; the ReLU within is part of the convolution before it."""
        rows, before = self.rows, (c, 2 * size[0], 2 * size[1])
        return [
            rows.elementwise("relu", [before]),
            rows.convolution(c, k, size, 3, stride=2),
            rows.convolution(k, k, size, 3),
            rows.pool(c, size, 2, stride=2),
            rows.convolution(c, k, size, 1, bias=False),
            rows.elementwise("add", [(k, *size)] * 2),
        ]
