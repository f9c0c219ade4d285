"""Early instance filtering: a small network, trained along, picks the instances worth training on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from simulator.errors import TrainwattError
from simulator.extent import Extent, symbol
from simulator.graph import LOSS_LAYER, Graph, Phase, Share
from simulator.rewriting import aten, filters
from simulator.rewriting.compose import bring, forward_only
from simulator.rewriting.cursor import Cursor
from simulator.rewriting.edit import Edit
from simulator.rewriting.instances import (
    loss_op,
    presented,
    refuse_split,
    run_on,
    score,
    score_outputs,
    select,
    unused,
)
from simulator.rewriting.layers import layer_of
from simulator.rewriting.node import Node
from simulator.rewriting.optimizer_ops import Repeated, Update, repeat, updates
from simulator.techniques import Technique, check

NAME = "instance_filter"
"""The module of the filter inside the model; its network is `NET` in there."""

NET = f"{NAME}.net"

ENTROPY = 0.5
"""Nats above which a prediction is uncertain (a coin toss has 0.69). The paper gives no number."""


@dataclass(frozen=True)
class InstanceFilter(Technique):
    """Train on the share `keep` of each mini-batch that a filter network predicts to have a high loss.

    Of a mini-batch of N, with rho = `keep` and u = `uncertain` (at most 1 - rho):

    1. The filter runs on all N without gradients.
    2. The step runs on the rho N instances predicted high: forward, loss, backward.
    3. Instances predicted low, but with a prediction of high entropy, u N of them, pass forward without gradients:
       their losses only serve to train the filter.
    4. The filter is trained on these (rho + u) N: label high where loss >= T, cross-entropy weighted by class, and T
       follows so that the share predicted high rightly is the wanted one (eqs. 1-7). The optimizer updates both.

    In forward and backward of a training step of one instance, whose forward is the share f of it, and o_f and o_b of
    the filter: o_f + (rho + u)(o_f + o_b) + rho + u f. rho and u are what the data come to, in the expectation; peak
    memory is that of a mini-batch which is predicted high as a whole. `keep=1` is the beginning of training, when
    everything passes.

    `filter` is the file of the filter's own training step, made by `trainwatt trace NETWORK --classes 2 -o FILE`, or
    the name of one in `simulator/filters`; `auto` is the one there for the network's inputs (ResNet-8 for 3x32x32,
    ResNet-10 for 3x224x224). It is updated by the step's own optimizer.

    Wu, Wang, Shi, Hu, "Enabling On-Device CNN Training by Self-Supervised Instance Filtering and Error Map Pruning",
    IEEE TCAD 2020, arXiv:2007.03213.
    """

    name: ClassVar[str] = "instance-filter"

    keep: float = 0.3
    uncertain: float = 0.2
    filter: str = "auto"

    def __post_init__(self) -> None:
        check(0 < self.keep <= 1, self, "keep", "a share above 0 and at most 1")
        check(0 <= self.uncertain <= 1, self, "uncertain", "a share from 0 to 1")

    @property
    def judged(self) -> float:
        """The share of instances whose loss is known: those kept and those uncertain."""
        return min(1.0, self.keep + self.uncertain)

    @property
    def judges_more(self) -> bool:
        """Whether there are uncertain instances besides those kept."""
        return self.judged > self.keep

    def shares(self, whole: str, judged: str, kept: str) -> dict[str, Share]:
        """Return the dimensions `judged` and, a share of it, `kept`; what is judged and not kept is uncertain."""
        if not self.judges_more:
            return {kept: Share(whole, self.keep, varies=True)}
        return {
            judged: Share(whole, self.judged, varies=True),
            kept: Share(judged, self.keep / self.judged, varies=True),
        }

    def rewrite(self, graph: Graph) -> Graph:
        """Return the step with a filter; raises `TrainwattError` where there is none for the network's inputs."""
        refuse_split(graph, self.name)
        judged, kept = unused(graph, "judged"), unused(graph, "kept")
        edit = Edit(graph)
        _build(self, graph, edit, symbol(judged if self.judges_more else kept), symbol(kept))
        return edit.graph(shares=MappingProxyType(self.shares("batch", judged, kept)))


def _build(technique: InstanceFilter, graph: Graph, edit: Edit, judged: Extent, kept: Extent) -> None:
    step = list(edit.nodes)
    last = [node for node in step if node.phase == "backward"][-1]
    after = step[step.index(last) + 1]
    update = list(updates(edit).values())[-1]
    sources = presented(edit, graph, step)
    images = _images(edit, sources)
    net = filters.find(technique.filter, _numbers(edit.shape(images)[1:]))
    refuse_split(net, f"{technique.name} with filter {technique.filter}")
    network = _Filter(edit, net.rebatch(graph.batch), step[0].runs)

    high, unsure = network.predict(images, step[0], kept, judged - kept if technique.judges_more else None)
    noted = score_outputs(edit, step, technique.name)
    extra = score(edit, step, after, technique.name) if unsure is not None else None
    taken = select(network.at(step[0]), sources, high)
    run_on(edit, [*step, *noted.nodes], taken, kept)
    for tensor in taken.values():
        edit.hold(tensor, last)
    losses, rows = noted.losses, high
    if extra is not None and unsure is not None:
        taken = select(network.at(extra.nodes[0]), sources, unsure)
        run_on(edit, extra.nodes, taken, judged - kept)
        for tensor in taken.values():
            edit.hold(tensor, extra.nodes[-1])
        at = network.at(after, "loss", LOSS_LAYER)
        losses, rows = aten.cat(at, [noted.losses, extra.losses], 0), aten.cat(at, [high, unsure], 0)
        edit.hold(noted.losses, at.last)
    end = network.learn(images, rows, losses, after, judged, kept)
    returned = next(node for node in step if node.phase == "backward").inputs[:1]  # the loss
    for tensor in (high, *([] if unsure is None else [unsure]), rows, *returned):
        edit.hold(tensor, end)
    network.update(update)


def _images(edit: Edit, sources: Mapping[int, int]) -> int:
    """Return the tensor that the filter sees: the network's only input."""
    found = [tensor for storage, tensor in sources.items() if edit.storages[storage].name.startswith("input")]
    if len(found) != 1:
        raise TrainwattError(f"instance-filter on a network of {len(found)} inputs; its filter takes one")
    return found[0]


def _numbers(shape: Sequence[Extent]) -> tuple[int, ...]:
    assert all(isinstance(extent, int) for extent in shape)
    return tuple(extent for extent in shape if isinstance(extent, int))


class _Filter:
    """The filter's part of the step: `net` is its own training step, `runs` how often the step runs."""

    def __init__(self, edit: Edit, net: Graph, runs: float) -> None:
        self.edit, self.net, self.runs = edit, net, runs
        self.weight = self._buffer("weight", (2,))
        self.threshold = self._buffer("threshold", ())
        self.learnt: Sequence[Node] = ()

    def _buffer(self, name: str, shape: tuple[int, ...]) -> int:
        layout = self.edit.layout(shape, "float32")
        return self.edit.new(layout, "buffer", f"{NAME}.{name}", persistent=True)

    def at(self, before: Node, phase: Phase = "forward", layer: str = "") -> Cursor:
        cursor = self.edit.before(before, phase=phase, layer=layer)
        cursor.runs = self.runs
        return cursor

    def predict(self, images: int, before: Node, kept: Extent, unsure: Extent | None) -> tuple[int, int | None]:
        """Add the prediction for `images` before node `before`.

        Returns the numbers of the instances predicted high, (kept,), and of those unsure, (unsure,).
        """
        edit = self.edit
        nodes, _ = self._brought(forward_only(self.net), {"input0": edit.tensors[images].storage}, before)
        at = self.at(before)
        with at.frame():
            chances = aten.pointwise(at, "_log_softmax", nodes[-1].outputs[0], attrs={"dim": 1, "half_to_float": False})
            layout = edit.tensors[chances].layout
            column = edit.layout(layout.shape[:1], layout.dtype, layout.stride[:1])
            low, high = edit.view(chances, column), edit.view(chances, column, 1)
            at.call("aten::unbind.int", [chances], [low, high], {"dim": 1})
            mask = aten.compare(at, "gt.Tensor", high, low)
            index = _places(at, mask, kept)
            if unsure is None:
                return index, None
            terms = aten.pointwise_(at, "mul_.Tensor", aten.pointwise(at, "exp", chances), chances)
            negative_entropy = aten.reduce(at, "sum.dim_IntList", terms, [1])
            doubtful = aten.compare(at, "lt.Scalar", negative_entropy, other=-ENTROPY)
            others = aten.compare(at, "bitwise_not", mask)
            aten.pointwise_(at, "bitwise_and_.Tensor", doubtful, others)
            doubted = _places(at, doubtful, unsure)
            for temporary in (terms, doubtful, others):
                at.drop(temporary)
        return index, doubted

    def learn(self, images: int, rows: int, losses: int, before: Node, judged: Extent, kept: Extent) -> Node:
        """Add the filter's own training on the instances `rows` of `images`, of these `losses`, and its threshold.

        Returns the last op.
        """
        edit = self.edit
        at = self.at(before)
        seen = aten.index_select(at, images, 0, rows)
        above = aten.compare(at, "ge.Tensor", losses, self.threshold)
        labels = aten.pointwise(at, "_to_copy", above, dtype="int64", attrs={"dtype": "int64"})
        step = Graph(
            tuple(op for op in self.net.ops if op.phase in ("forward", "loss", "backward")),
            self.net.tensors,
            self.net.storages,
            self.net.sizes,
        )
        sources = {edit.tensors[tensor].storage: tensor for tensor in (seen, labels)}
        inputs = {"input0": edit.tensors[seen].storage, "target0": edit.tensors[labels].storage}
        nodes, variables = self._brought(step, inputs, before)
        self.learnt = nodes
        run_on(edit, nodes, sources, judged)
        self._weigh(nodes)
        at = self.at(before, "other")
        caught = aten.slice_(at, labels, 0, 0, kept)
        count = at.result((), "int64")
        at.call("aten::sum", [caught], [count], {"dtype": None})
        enough = aten.compare(at, "ge.Scalar", count)
        factor = aten.pointwise(at, "_to_copy", enough, dtype="float32", attrs={"dtype": "float32"})
        aten.pointwise_(at, "mul_.Tensor", factor)
        aten.pointwise_(at, "add_.Tensor", factor, alpha=1)
        aten.pointwise_(at, "mul_.Tensor", self.threshold, factor)
        for tensor in (seen, losses, labels, count, factor):
            edit.hold(tensor, at.last)
        for storage in variables:
            edit.hold_storage(storage, at.last)
        return at.last

    def _weigh(self, nodes: Sequence[Node]) -> None:
        """Let the filter's cross-entropy weigh its classes."""
        mean = loss_op(nodes, "instance-filter")
        scores, targets = mean.inputs
        mean.inputs, mean.saved = (scores, targets, self.weight), (*mean.saved, self.weight)
        for node in nodes:
            if node.forward is mean:
                gradient, scores, targets, total = node.inputs
                node.inputs = (gradient, scores, targets, self.weight, total)

    def update(self, template: Update) -> None:
        """Let the step's optimizer update the filter, last of all."""
        edit = self.edit
        gradients = {
            edit.storages[edit.tensors[t].storage].name: t
            for node in self.learnt
            for t in node.outputs
            if edit.storages[edit.tensors[t].storage].role == "gradient"
        }
        tensors = {tensor.storage: i for i, tensor in reversed(list(enumerate(edit.tensors)))}
        parameters = [s for s in self.net.storages if s.role == "parameter"]
        numbers = {s.name: i for i, s in enumerate(edit.storages) if s.role == "parameter"}
        made: list[Repeated] = []
        for storage in parameters:
            name = f"{NET}.{storage.name}"
            after = [node for node in edit.nodes if node.phase == "optimizer"][-1]
            parameter, gradient = tensors[numbers[name]], gradients[f"{name}.grad"]
            made.append(repeat(edit, template, name, parameter, gradient, after, layer_of(name)))
        for repeated in made:
            repeated.settle(edit, made[-1].nodes[-1])

    def _brought(self, step: Graph, inputs: Mapping[str, int], before: Node) -> tuple[Sequence[Node], list[int]]:
        """Add the ops of `step` before a node; returns them and the storages that its variables keep to its end."""
        brought = bring(self.edit, step, NET, inputs)
        for node in brought.nodes:
            node.runs = self.runs
        place = self.edit.nodes.index(before)
        self.edit.nodes[place:place] = brought.nodes
        return brought.nodes, [s for s in brought.storages.values() if brought.nodes[-1] in self.edit.holders(s)]


def _places(at: Cursor, mask: int, count: Extent) -> int:
    """Add the search for the true entries of `mask` (batch,), which are `count`; returns their numbers (count,)."""
    found = at.result((count, 1), "int64", (1, count))
    at.call("aten::nonzero", [mask], [found])
    flat = at.edit.view(found, at.edit.layout((count,), "int64", (1,)))
    at.call("aten::view", [found], [flat], {"size": (count,)})
    return flat
