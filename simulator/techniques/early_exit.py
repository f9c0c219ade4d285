"""Early exits, personalised on the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from simulator.errors import TrainwattError, unknown
from simulator.graph import LOSS_LAYER, Graph
from simulator.rewriting import aten
from simulator.rewriting.batch_norm import freeze_batch_norms
from simulator.rewriting.cursor import Cursor
from simulator.rewriting.edit import Edit
from simulator.rewriting.layers import layer_of, parameters
from simulator.rewriting.linear_head import Head, head_gradients, head_updates, pooled_head
from simulator.rewriting.losses import Losses, cross_entropies, cross_entropy_of, soft_cross_entropies
from simulator.rewriting.node import Node
from simulator.rewriting.optimizer_ops import Repeated, updates
from simulator.techniques import Technique, check


@dataclass(frozen=True)
class EarlyExit(Technique):
    """Attach exits to a trained network that stays as it is, and train the exits only.

    An exit takes what a module puts out (N, C, H, W), averages each map and ends in a linear layer of as many classes
    as the network has. `exits` are paths of modules (`layer2.0`), `count` chooses as many evenly from the network's
    blocks where none are given. Batch norms of the network use their running statistics; its backward, its updates and
    all it saved for them go.

    With `teacher=last` no labels are needed: the network runs to its end, and each exit learns its softmax output,
    loss = sum over exits of -mean over n of sum over k of p_nk log q_nk. With `teacher=labels` each exit learns the
    labels by cross-entropy, and forward ends at the deepest exit. Dropout stays as the step has it.

    Source: Leontiadis, Laskaridis, Venieris, Lane, "It's always personal: Using early exits for efficient on-device CNN
    personalisation", HotMobile 2021, arXiv:2102.01393. Of the paper only the abstract was seen (exits on a trained CNN,
    personalised semi-supervised with a later exit as the teacher). Assumed: the form of the exits, the last exit as
    teacher of all, equal weights of the exits' losses.
    """

    name: ClassVar[str] = "early-exit"

    exits: tuple[str, ...] = ()
    count: int = 3
    teacher: Literal["labels", "last"] = "last"

    def __post_init__(self) -> None:
        check(self.count >= 1, self, "count", "a number of exits, at least 1")
        check(len(set(self.exits)) == len(self.exits), self, "exits", "a list of different modules")

    def rewrite(self, graph: Graph) -> Graph:
        """Return the step that trains the exits.

        Raises `TrainwattError` where a module is not there, runs more than once or puts out no maps, and where the
        step is no classification by cross-entropy in one precision, or its optimizer works on many parameters at once.
        """
        if (precision := graph.meta.get("precision", "fp32")) != "fp32":
            raise TrainwattError(f"early-exit on a step in {precision}; trace it in fp32")
        edit = Edit(graph)
        loss = cross_entropy_of(edit)
        weights = [name for name, rank in parameters(graph).items() if rank == 4]
        taps = [_tap(edit, path) for path in exit_paths(self, [layer_of(name) for name in weights])]
        update = next(iter(updates(edit).values()))
        freeze_batch_norms(edit)
        heads = []
        for number, tap in enumerate(taps):
            at = edit.after(tap, layer=f"exits.{number}")
            at.runs = tap.runs
            heads.append(pooled_head(at, tap.outputs[0], loss.classes, at.layer))
        old = {node for node in edit.nodes if node.phase in ("loss", "backward", "optimizer")}
        deepest = max(heads, key=lambda head: edit.nodes.index(head.product))
        at = edit.after(edit.nodes[-1], phase="loss", layer=LOSS_LAYER)
        at.runs = deepest.product.runs
        logits = [head.logits for head in heads]
        if self.teacher == "last":
            logits.append(loss.logits)
            losses = soft_cross_entropies(at, logits)
        else:
            losses = cross_entropies(at, logits, loss)
            old |= _behind(edit, deepest.product)
        gradients = _trained(at, losses, heads, logits)
        after = at.last
        added: list[Repeated] = []
        for head in heads:
            added += head_updates(edit, update, head, gradients[head], after)
            after = added[-1].nodes[-1]
        edit.keep(lambda node: node not in old)
        for one in added:
            one.settle(edit, after)
        edit.sweep()
        return edit.graph()


def _tap(edit: Edit, path: str) -> Node:
    """Return the op that makes what module `path` puts out: the last of its ops, which run in one go."""
    ran = [node for node in edit.nodes if node.phase == "forward"]
    places = [i for i, node in enumerate(ran) if node.layer == path or node.layer.startswith(f"{path}.")]
    if not places:
        raise unknown("module", path, dict.fromkeys(node.layer for node in ran))
    if len(places) != places[-1] - places[0] + 1:
        raise TrainwattError(f"module {path!r} runs more than once; an exit takes one that runs once")
    tap = ran[places[-1]]
    if not tap.outputs or len(edit.shape(tap.outputs[0])) != 4:
        raise TrainwattError(f"module {path!r} puts out no maps (N, C, H, W); give one that does")
    return tap


def _behind(edit: Edit, last: Node) -> set[Node]:
    """Return the forward ops behind `last`, which ends forward: what they would use lives until then."""
    behind = [node for node in edit.nodes[edit.nodes.index(last) + 1 :] if node.phase == "forward"]
    made = {edit.tensors[t].storage for node in behind for t in node.outputs if t not in node.inputs}
    for storage in {edit.tensors[t].storage for node in behind for t in node.inputs} - made:
        if edit.storages[storage].born >= 0:
            edit.hold_storage(storage, last)
    return set(behind)


def _trained(at: Cursor, losses: Losses, heads: Sequence[Head], outputs: Sequence[int]) -> dict[Head, tuple[int, int]]:
    """Add the sum of the losses and its backward; returns the gradients of weight and bias of every head."""
    edit = at.edit
    order = sorted(heads, key=lambda head: edit.nodes.index(head.product), reverse=True)
    total = losses.total
    at.phase, at.layer = "backward", ""
    one = aten.pointwise(at, "ones_like", total, attrs={"dtype": None, "memory_format": "preserve_format"})
    at.layer = LOSS_LAYER
    of_logits = losses.backward(at, one)
    gradients = {head: head_gradients(at, head, of_logits[heads.index(head)]) for head in order}
    for tensor in (*outputs, total, one):
        edit.hold(tensor, at.last)
    return gradients


def exit_paths(technique: EarlyExit, layers: Sequence[str]) -> list[str]:
    """Return the modules that get an exit; `layers` are the convolutions in the order they are registered.

    Blocks are called as their convolutions up to the first number, `layer1.0` or `features.3`, else by the first
    name. Of b blocks the ones number i b / (count + 1), rounded up, i = 1..count, get one.
    """
    if technique.exits:
        return list(technique.exits)
    blocks = list(dict.fromkeys(_block(layer) for layer in layers))
    if technique.count > len(blocks):
        raise TrainwattError(f"count={technique.count} of {len(blocks)} blocks; give 1 to {len(blocks)}")
    return [blocks[math.ceil(i * len(blocks) / (technique.count + 1)) - 1] for i in range(1, technique.count + 1)]


def _block(layer: str) -> str:
    names = layer.split(".")
    first = next((i for i, name in enumerate(names) if name.isdigit()), 0)
    return ".".join(names[: first + 1])
