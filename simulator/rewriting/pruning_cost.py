"""What it costs to rank the filters of a network before some are pruned."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from simulator.errors import TrainwattError
from simulator.extent import Extent
from simulator.graph import ITEM_BYTES, Graph, Layout, Op, Storage, Tensor
from simulator.rewriting.layers import layer_of
from simulator.rewriting.shapes import contiguous, numel


def scoring_graph(graph: Graph) -> Graph:
    """Return the graph that gives each filter of each convolution of a step its score, mean |w|, and nothing else.

    For a weight (K, C/groups, R, S): |w|, as large again, then its mean over all but the first dimension, (K). That is
    1 FLOP an element for each, and 1 a filter to divide; sorting K scores costs nothing beside it. All ops are of phase
    `other`; the parameters of the network are in memory throughout, the scores to the end.

    The criterion is that of Rajagopal and Bouganis 2020 (filters ranked by L1 / (C/groups R S)). Raises
    `TrainwattError` where the step runs no convolution.
    """
    weights: dict[int, tuple[int, str]] = {}  # by storage, so that one that runs twice is scored once
    for op in graph.ops:
        if op.kind == "convolution":
            storage = graph.tensors[op.inputs[1]].storage
            kept = graph.storages[storage]
            weights.setdefault(storage, (op.inputs[1], layer_of(kept.name) if kept.name else op.layer))
    if not weights:
        raise TrainwattError("no convolution whose filters could be scored; give a step of a network that has some")
    parameters = [i for i, s in enumerate(graph.storages) if s.role == "parameter" or i in weights]
    number = {storage: i for i, storage in enumerate(parameters)}
    storages = [replace(graph.storages[i], born=-1, died=None, held=-1) for i in parameters]
    tensors: list[Tensor] = []
    ops: list[Op] = []

    def made(shape: tuple[Extent, ...], dtype: str, died: int | None) -> int:
        storages.append(Storage(numel(shape) * ITEM_BYTES[dtype], "temporary", len(ops), died))
        tensors.append(Tensor(Layout(shape, contiguous(shape), dtype), len(storages) - 1))
        return len(tensors) - 1

    for storage, (weight, layer) in weights.items():
        tensor = graph.tensors[weight]
        tensors.append(replace(tensor, storage=number[storage]))
        source = len(tensors) - 1
        absolute = made(tensor.shape, tensor.dtype, len(ops) + 1)
        ops.append(Op("aten::abs", "abs", "other", layer, (source,), (absolute,)))
        dims = tuple(range(1, len(tensor.shape)))
        scores = made(tensor.shape[:1], tensor.dtype, None)
        attrs = MappingProxyType({"dim": dims, "keepdim": False, "dtype": None})
        ops.append(Op("aten::mean.dim", "mean", "other", layer, (absolute,), (scores,), attrs=attrs))
    return replace(graph, ops=tuple(ops), tensors=tuple(tensors), storages=tuple(storages), other=None)
