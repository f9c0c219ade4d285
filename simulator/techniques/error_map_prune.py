"""Error-map pruning: the backward of a convolution on its strongest output channels only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.rewriting import aten
from simulator.rewriting.cursor import Cursor
from simulator.rewriting.edit import Edit
from simulator.rewriting.layers import choose, forward_convolutions
from simulator.rewriting.node import Node
from simulator.techniques import Technique, check

_PARTS = _INPUT, _WEIGHT, _BIAS = "convolution_grad_input", "convolution_grad_weight", "convolution_grad_bias"


@dataclass(frozen=True)
class ErrorMapPrune(Technique):
    """Keep the share `keep` of the output channels of a convolution's error map; the others get no gradient.

    Of the n channels of the error map delta, (N, n, H, W), the k = max(minimum, round(keep * n)) with the largest

        S_j = g1 * N * sum |W_j| + g2 * sum over N, H, W of |delta_j|

    stay (eq. 11, summed over the mini-batch; kernels W_j are looked at only where g1 is not 0). grad-input,
    grad-weight and grad-bias run on delta and W gathered to k channels, so each costs k / n; the gradients of W and of
    the bias are then put into zeros. Which channels stay depends on the data, what it costs does not. Forward, what is
    saved for backward, and the update are as before. Convolutions with groups keep k channels of each group's n; of a
    depthwise one whole groups go, and with them channels of its grad-input. `last` or `layers` choose convolutions
    (all unless given).

    Wu, Wang, Shi, Hu, "Enabling On-Device CNN Training by Self-Supervised Instance Filtering and Error Map Pruning",
    IEEE TCAD 2020, arXiv:2007.03213.
    """

    name: ClassVar[str] = "error-map-prune"

    keep: float = 0.6
    last: int | None = None
    layers: tuple[str, ...] = ()
    g1: float = 0.0
    g2: float = 1.0
    minimum: int = 1

    def __post_init__(self) -> None:
        check(0 < self.keep <= 1, self, "keep", "a share above 0 and at most 1")
        check(self.last is None or self.last >= 1, self, "last", "a number of convolutions, at least 1")
        check(self.g1 >= 0, self, "g1", "a weight, at least 0")
        check(self.g2 >= 0, self, "g2", "a weight, at least 0")
        check(self.g1 + self.g2 > 0, self, "g2", "above 0 where g1 is 0")
        check(self.minimum >= 1, self, "minimum", "a number of channels, at least 1")

    def rewrite(self, graph: Graph) -> Graph:
        """Return the step with pruned backwards; raises `TrainwattError` where a convolution cannot be pruned."""
        edit = Edit(graph)
        convolutions = forward_convolutions(edit)
        chosen = choose([n.layer for n in convolutions], "convolutions", self.layers, self.last)
        pruned = [_prune(self, edit, conv) for conv in convolutions if conv.layer in chosen]
        return edit.graph() if any(pruned) else graph


@dataclass(frozen=True)
class Pruning:
    """How many channels of a convolution of `channels` outputs in `groups` stay.

    `kept` counts all that stay. Where `by_group`, whole groups of one channel go, else channels in each group.
    """

    channels: int
    groups: int
    kept: int

    @property
    def by_group(self) -> bool:
        return 1 < self.groups == self.channels

    @property
    def in_groups(self) -> bool:
        return 1 < self.groups < self.channels


def pruning(
    technique: ErrorMapPrune, layer: str, channels: int, inputs_per_group: int, groups: int, transposed: bool
) -> Pruning:
    """Return what `technique` keeps of a convolution; raises `TrainwattError`, naming `layer`, where it cannot."""
    if transposed:
        raise TrainwattError(f"error-map-prune on {layer!r}, a transposed convolution; choose others with layers=")
    if 1 < groups == channels and inputs_per_group > 1:
        raise TrainwattError(
            f"error-map-prune on {layer!r}, whose {groups} groups map {inputs_per_group} channels to 1; "
            "choose others with layers="
        )
    among = channels // groups if groups < channels else channels
    kept = min(among, max(technique.minimum, math.floor(technique.keep * among + 0.5)))
    return Pruning(channels, groups, kept * (channels // among))


def _prune(technique: ErrorMapPrune, edit: Edit, conv: Node) -> bool:
    """Let the backward of `conv` run on the channels that stay; tell whether that changes anything."""
    backward = edit.backward_of(conv)
    if not backward:
        return False  # neither the convolution nor anything below it is trained
    if other := next((n.kind for n in backward if n.kind not in _PARTS), None):
        raise TrainwattError(
            f"error-map-prune on {conv.layer!r}, whose backward has become {other}; prune first, or choose other layers"
        )
    x, weight = conv.inputs[:2]
    channels, per_group = (edit.shape(weight)[d] for d in (0, 1))
    assert isinstance(channels, int)
    assert isinstance(per_group, int)
    plan = pruning(technique, conv.layer, channels, per_group, conv.attrs["groups"], conv.attrs["transposed"])
    if plan.kept == channels:
        return False
    parts = {node.kind: node for node in backward}
    delta, attrs = backward[0].inputs[0], dict(backward[0].attrs)
    at = edit.before(backward[0], forward=conv)
    at.runs = backward[0].runs
    with at.frame(delta):
        kept = _strongest(technique, at, plan, delta, weight)
        small = aten.index_select(at, delta, 1, kept)
        filters = _channels(at, weight, 0, kept, copied=_INPUT in parts)
        if plan.by_group:
            x = _channels(at, x, 1, kept, copied=_WEIGHT in parts)
            attrs["groups"] = plan.kept
        operands = {_INPUT: (small, filters), _WEIGHT: (small, x), _BIAS: (small,)}
        gathered = {}
        for kind in (kind for kind in _PARTS if kind in parts):
            (out,) = parts[kind].outputs
            if kind != _INPUT or plan.by_group:
                dim, shape = 1 if kind == _INPUT else 0, edit.shape(out)
                compact = at.result((*shape[:dim], plan.kept, *shape[dim + 1 :]), edit.tensors[out].dtype)
                gathered[kind] = compact, out, dim
                out = compact
            aten.convolution_grad(at, kind.removeprefix("convolution_grad_"), out, operands[kind], attrs)
        for kind, (compact, out, dim) in gathered.items():
            if kind == _BIAS:
                at.call("aten::new_zeros", [weight], [out], {"size": (channels,)})
            else:
                at.call("aten::zeros_like", [weight if kind == _WEIGHT else conv.inputs[0]], [out])
            aten.pointwise_(at, "index_copy_", out, kept, compact, dim=dim)
            at.drop(compact)
    for node in backward:
        edit.remove(node)
    return True


def _strongest(technique: ErrorMapPrune, at: Cursor, plan: Pruning, delta: int, weight: int) -> int:
    """Add what chooses the channels that stay; returns their numbers, (kept,)."""
    edit = at.edit
    norms = []
    for tensor, weighed, dim in ((delta, technique.g2, 1), (weight, technique.g1, 0)):
        if weighed:
            size = aten.pointwise(at, "abs", tensor)
            others = [d for d in range(len(edit.shape(tensor))) if d != dim]
            norms.append(aten.reduce(at, "sum.dim_IntList", size, others))
            at.drop(size)
    if len(norms) > 1:
        # S / (g1 N), which has the same order
        aten.pointwise_(at, "mul_.Tensor", norms[0], other="g2 / (g1 * batch)")
        aten.pointwise_(at, "add_.Tensor", *norms, alpha=1)
    if plan.in_groups:
        per_group = plan.channels // plan.groups
        scores = aten.view(at, norms[0], (plan.groups, per_group))
        values, best = aten.topk(at, scores, plan.kept // plan.groups, is_sorted=False)
        first = at.result((plan.groups,), "int64")
        at.call("aten::arange.start_step", [], [first], {"start": 0, "end": plan.channels, "step": per_group})
        aten.pointwise_(at, "add_.Tensor", best, aten.unsqueeze(at, first, 1), alpha=1)
        norms.append(first)
        kept = aten.view(at, best, (plan.kept,))
    else:
        values, kept = aten.topk(at, norms[0], plan.kept, is_sorted=False)
    at.drop(values)
    for tensor in norms:  # variables of a function that returns here
        at.drop(tensor)
        edit.hold(tensor, at.last)
    return kept


def _channels(at: Cursor, tensor: int, dim: int, kept: int, *, copied: bool) -> int:
    """Add `kept` of the channels of `tensor`; as many at its front, a view, where only their number matters."""
    if copied:
        return aten.index_select(at, tensor, dim, kept)
    return aten.slice_(at, tensor, dim, 0, at.edit.shape(kept)[0])
