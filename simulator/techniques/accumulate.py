"""Gradient accumulation: several mini-batches make one update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from simulator.errors import TrainwattError
from simulator.graph import LOSS_LAYER, Graph
from simulator.rewriting import aten
from simulator.rewriting.copies import Copies, copied
from simulator.rewriting.edit import Edit
from simulator.rewriting.node import Node
from simulator.techniques import Technique, check


@dataclass(frozen=True)
class Accumulate(Technique):
    """Update the parameters once every `steps` mini-batches, by the mean of their gradients.

    One step of the graph is then `steps` passes (forward, loss, backward), each over a mini-batch of `batch` samples,
    and one update: it presents steps * batch samples, `meta["accumulate"]` says so. The first pass makes the gradients,
    which live to the end of the step; each further one adds its own in place. The loss of a pass is divided by
    `steps`, so that

        g = 1/steps * sum over passes of grad(mean loss of the pass)

    To train as with a batch of B in less memory, apply it to a step of batch B / steps: the gradients are the same,
    but for batch norm, whose statistics are those of each mini-batch.

    Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017, arXiv:1706.02677 (section 3: the
    loss of a worker's share is divided by the whole batch); Huang et al., "GPipe", NeurIPS 2019, arXiv:1811.06965
    (micro-batches one after another).
    """

    name: ClassVar[str] = "accumulate"

    steps: int = 4

    def __post_init__(self) -> None:
        check(self.steps >= 1, self, "steps", "a number of mini-batches, at least 1")

    def rewrite(self, graph: Graph) -> Graph:
        """Return the step of `steps` passes; raises `TrainwattError` where it has several already."""
        if self.steps == 1:
            return graph
        refuse_again(int(graph.meta.get("accumulate", 1)))
        edit = Edit(graph)
        passed = [node for node in edit.nodes if node.phase != "optimizer"]
        rest = [node for node in edit.nodes if node.phase == "optimizer"]
        if edit.nodes != passed + rest:
            raise TrainwattError(
                "accumulate on a step that updates parameters in between; it takes one update at its end"
            )
        edit.nodes = passed
        loss, computed = _divide_loss(edit)
        passed = list(edit.nodes)
        outputs = _held_through(edit, passed)
        sinks = _sinks(edit, passed)
        passes: list[tuple[list[Node], Copies]] = []
        for _ in range(self.steps - 1):
            copies = copied(edit, passed)
            passes.append((_summed(edit, passed, sinks, copies), copies))
        _let_go(edit, passed, outputs, {loss: computed}, [copies for _, copies in passes])
        edit.nodes = passed + [node for nodes, _ in passes for node in nodes] + rest
        return edit.graph(meta={**graph.meta, "accumulate": self.steps})


def refuse_again(passes: int) -> None:
    """Raise `TrainwattError` where a step accumulates over several passes already."""
    if passes != 1:
        raise TrainwattError(f"accumulate on a step of {passes} passes; give all of them to one accumulate")


def _divide_loss(edit: Edit) -> tuple[int, Node]:
    """Divide the loss by the number of passes, and its gradient; return its new storage and the op that computed it."""
    roots = [n for n in edit.nodes if n.kind == "ones_like" and n.phase == "backward" and n.forward is None]
    if len(roots) != 1:
        raise TrainwattError(f"accumulate on a step with {len(roots)} losses; it has one, of one number")
    (root,) = roots
    (loss,) = root.inputs
    before = edit.nodes[: edit.nodes.index(root)]
    computed = next(n for n in reversed(before) if loss in n.outputs)
    at = edit.before(root, phase="loss", layer=LOSS_LAYER)
    divided = aten.pointwise(at, "div.Tensor", loss)
    division = at.last
    users = [n for n in edit.nodes if root.outputs[0] in n.inputs]
    at = edit.after(root, layer=LOSS_LAYER, forward=division)
    gradient = aten.pointwise(at, "div.Tensor", root.outputs[0])
    root.inputs = (divided,)
    for node in users:
        node.inputs = tuple(gradient if t == root.outputs[0] else t for t in node.inputs)
    storage, old = edit.tensors[divided].storage, edit.tensors[loss].storage
    for holder in edit.holders(old):
        edit.hold_storage(storage, holder)
    edit.release_storage(old)
    return storage, computed


def _held_through(edit: Edit, passed: Sequence[Node]) -> list[int]:
    """Return the storages of a pass that variables of the program keep until backward is done: outputs and loss."""
    early = {edit.tensors[t].storage for n in passed if n.phase in ("forward", "loss") for t in n.outputs}
    return [s for s in sorted(early) if passed[-1] in edit.holders(s) and edit.storages[s].born >= 0]


def _sinks(edit: Edit, passed: Sequence[Node]) -> dict[Node, list[int]]:
    """Return, for each op after which the engine adds gradients into those of earlier passes, the gradients' tensors.

    The engine runs what adds to a parameter's gradient right after the autograd node that gives the last part of it,
    and after the sums that this node's other gradients go into.
    """
    made: dict[int, tuple[int, int]] = {}
    for index, node in enumerate(passed):
        for tensor in node.outputs:
            if edit.storages[edit.tensors[tensor].storage].role == "gradient":
                made[edit.tensors[tensor].storage] = index, tensor
    sinks: dict[Node, list[int]] = {}
    for index, tensor in sorted(made.values()):
        last = index
        while last + 1 < len(passed) and _goes_with(passed[index], passed[last + 1]):
            last += 1
        sinks.setdefault(passed[last], []).append(tensor)
    return sinks


def _goes_with(node: Node, later: Node) -> bool:
    """Tell whether `later` is of the same autograd node as `node`, or sums one of its gradients."""
    if later.phase != "backward":
        return False
    if later.forward is None:
        return later.kind in ("add", "add_")
    return later.forward is node.forward


def _summed(edit: Edit, passed: Sequence[Node], sinks: dict[Node, list[int]], copies: Copies) -> list[Node]:
    """Return the ops of a further pass in order: its gradients are temporary and added to those of the first."""
    nodes: list[Node] = []
    for node in passed:
        nodes.append(copies.node(node))
        for gradient in sinks.get(node, ()):
            storage = edit.storages[edit.tensors[gradient].storage]
            part = copies.tensor(gradient)
            number = edit.tensors[part].storage
            edit.storages[number] = replace(storage, role="temporary", name="", died=storage.born)
            layer = storage.name.removesuffix(".grad").rpartition(".")[0]
            operands = (gradient, part), (gradient,), (gradient,)
            nodes.append(Node("aten::add_.Tensor", "add_", "backward", layer, *operands, attrs={"alpha": 1}))
    return nodes


def _let_go(
    edit: Edit, passed: Sequence[Node], held: Sequence[int], losses: dict[int, Node], later: Sequence[Copies]
) -> None:
    """Let the variables that keep outputs and loss keep those of the next pass from when it has made them."""
    forward = [n for n in passed if n.phase == "forward"][-1]
    for here, there in zip([None, *later[:-1]], later, strict=True):
        for storage in held:
            number = storage if here is None else here.storages[storage]
            edit.release_storage(number)
            edit.hold_storage(number, there.node(losses.get(storage, forward)))
