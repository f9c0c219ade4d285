"""Online hard example mining."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

from simulator.extent import Poly, symbol
from simulator.graph import LOSS_LAYER, Graph, Share
from simulator.rewriting import aten
from simulator.rewriting.edit import Edit
from simulator.rewriting.instances import (
    loss_op,
    mean_of_each,
    per_instance,
    presented,
    redirect,
    refuse_split,
    run_on,
    score,
    select,
    unused,
)
from simulator.techniques import Technique, check


@dataclass(frozen=True)
class OnlineHardExampleMining(Technique):
    """Train on the share `keep` of each mini-batch that has the largest losses.

    With `forward=twice` a pass without gradients over all N instances gives their losses; the round(keep * N) largest
    are chosen, and the step runs on these: f N + keep N in units of a training step of one instance, whose forward
    pass is f of it. `forward=once` counts as Wu et al. do, f N + (1 - f) keep N: one forward pass over all, which
    saves all its activations, and a backward on those chosen. Eager PyTorch has no such step (backward of a
    batched forward is as large as the forward), so this form exists in the simulator only.

    Shrivastava, Gupta, Girshick, "Training Region-based Object Detectors with Online Hard Example Mining", CVPR 2016,
    arXiv:1604.03540; as the baseline of Wu et al. 2020, arXiv:2007.03213.
    """

    name: ClassVar[str] = "ohem"

    keep: float = 0.3
    forward: Literal["once", "twice"] = "twice"

    def __post_init__(self) -> None:
        check(0 < self.keep <= 1, self, "keep", "a share above 0 and at most 1")

    def rewrite(self, graph: Graph) -> Graph:
        """Return the step on the hardest instances; raises `TrainwattError` where instances have no losses."""
        refuse_split(graph, self.name)
        edit = Edit(graph)
        name = unused(graph, "kept")
        (_once if self.forward == "once" else _twice)(edit, graph, symbol(name))
        return edit.graph(shares=MappingProxyType({**graph.shares, name: Share("batch", self.keep)}))


def _twice(edit: Edit, graph: Graph, kept: Poly) -> None:
    step = list(edit.nodes)
    scoring = score(edit, step, step[0], OnlineHardExampleMining.name)
    at = edit.after(scoring.nodes[-1], phase="loss", layer=LOSS_LAYER)
    at.runs = step[0].runs
    _, hardest = aten.topk(at, scoring.losses, kept, is_sorted=False)
    last = [node for node in step if node.phase == "backward"][-1]
    at = edit.before(step[0], phase="forward", layer="")
    at.runs = step[0].runs
    taken = select(at, presented(edit, graph, step), hardest)
    run_on(edit, step, taken, kept)
    for tensor in (hardest, *taken.values()):
        edit.hold(tensor, last)


def _once(edit: Edit, graph: Graph, kept: Poly) -> None:
    mean = loss_op(edit.nodes, OnlineHardExampleMining.name)
    loss = mean.outputs[0]
    scalar = edit.tensors[loss].layout
    backward = [node for node in edit.nodes if node.phase == "backward"]
    followers = [node for node in edit.nodes if loss in node.inputs]
    losses = per_instance(edit, mean)
    at = edit.after(mean)
    at.runs = mean.runs
    if len(edit.shape(losses)) > 1:
        losses = mean_of_each(at, losses)
    largest, _ = aten.topk(at, losses, kept, is_sorted=False)
    averaged = at.result(scalar.shape, scalar.dtype)
    at.call("aten::mean", [largest], [averaged], {"dtype": None})
    for node in followers:
        node.inputs = tuple(averaged if t == loss else t for t in node.inputs)
    # Backward sees the chosen instances' part of what forward made; that itself stays whole.
    early = {t for n in edit.nodes if n.phase in ("forward", "loss") for t in n.tensors}
    tensors = {t: edit.tensors[t] for t in early}
    storages = {tensor.storage: edit.storages[tensor.storage] for tensor in tensors.values()}
    redirect(edit, backward, {s: s for s in storages}, {"batch": kept})
    edit.resize(backward, {"batch": kept})
    for t, tensor in tensors.items():
        edit.tensors[t] = tensor
    for s, storage in storages.items():
        edit.storages[s] = storage
