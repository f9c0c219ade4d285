"""Batch norms that stop following the batch: they normalise by their running statistics, as `BatchNorm.eval()` does."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from types import MappingProxyType

from simulator.rewriting.edit import Edit
from simulator.rewriting.node import Node

_RUNNING_MEAN = ".running_mean"
_BATCHES_TRACKED = ".num_batches_tracked"


def learning_norms(edit: Edit) -> list[Node]:
    """Return the forward batch norms that use the batch's statistics and keep running ones, in execution order.

    A batch norm that keeps no running statistics uses those of the batch in eval mode too, and is none of them.
    """
    return [
        node
        for node in edit.nodes
        if node.kind == "native_batch_norm" and node.attrs.get("training") and _running_mean(edit, node) is not None
    ]


def freeze_batch_norms(edit: Edit, norms: Iterable[Node] | None = None) -> None:
    """Put the batch norms `norms` (forward nodes; all of them unless given) into eval mode, as a trace would show it.

    y = (x - running_mean) / sqrt(running_var + eps) * w + b: the running statistics are read and not written, the
    count of batches stays, and the batch's mean and 1/std are kept as empty tensors. Their backward then needs no
    sums over the batch for dx. Nodes that are no batch norm in training mode stay as they are.
    """
    wanted = None if norms is None else set(norms)
    chosen = [node for node in learning_norms(edit) if wanted is None or node in wanted]
    if not chosen:
        return
    counts = _counts_of(edit, chosen)
    edit.keep(lambda node: node not in counts)
    frozen = set(chosen)
    for node in chosen:
        node.attrs = MappingProxyType({**node.attrs, "training": False})
        node.mutates = ()
        y, *statistics = node.outputs
        empty = [
            edit.new(edit.layout((0,), edit.tensors[t].dtype), edit.storages[edit.tensors[t].storage].role)
            for t in statistics
        ]
        node.outputs = (y, *empty)
        for old, new in zip(statistics, empty, strict=True):
            edit.substitute(old, new)
    for node in edit.nodes:
        if node.kind == "native_batch_norm_backward" and node.forward in frozen:
            node.attrs = MappingProxyType({**node.attrs, "train": False})


def _running_mean(edit: Edit, norm: Node) -> str | None:
    """Return the name of the running mean that a batch norm updates."""
    names = (edit.storages[edit.tensors[t].storage].name for t in norm.mutates)
    return next((name for name in names if name.endswith(_RUNNING_MEAN)), None)


def _counts_of(edit: Edit, norms: Collection[Node]) -> set[Node]:
    """Return the ops that count the batches of `norms`: of each, the last one before it."""
    latest: dict[str, Node] = {}
    found: set[Node] = set()
    wanted = set(norms)
    for node in edit.nodes:
        for tensor in node.mutates:
            name = edit.storages[edit.tensors[tensor].storage].name
            if name.endswith(_BATCHES_TRACKED):
                latest[name.removesuffix(_BATCHES_TRACKED)] = node
        if node in wanted:
            mean = _running_mean(edit, node)
            assert mean is not None
            if count := latest.pop(mean.removesuffix(_RUNNING_MEAN), None):
                found.add(count)
    return found
