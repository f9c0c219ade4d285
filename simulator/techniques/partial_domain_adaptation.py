"""Retraining for the classes that a device sees."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.rewriting.batch_norm import freeze_batch_norms, learning_norms
from simulator.rewriting.channels import channel_graph
from simulator.rewriting.edit import Edit
from simulator.rewriting.freezing import freeze
from simulator.rewriting.layers import layer_of, parameters, weight_layers
from simulator.rewriting.losses import cross_entropy_of
from simulator.rewriting.optimizer_ops import updates
from simulator.techniques import Technique, check
from simulator.techniques.sparse_update import SparseUpdate, trained_names


@dataclass(frozen=True)
class PartialDomainAdaptation(Technique):
    """Narrow the classifier to the `classes` that occur where the network is deployed, and retrain its last layers.

    The classifier, which is the last weight layer, keeps its first `classes` rows of K; the others go, with what loss
    and optimizer do about them. Of the network the last `last` weight layers are trained, with the norms registered
    behind the first of them. All below is frozen, its batch norms use their running statistics, and gradients do not
    reach it.

    Source: Rajagopal and Bouganis, "Low-Cost On-device Partial Domain Adaptation (LoCO-PDA): Enabling efficient CNN
    retraining on edge devices", 2022, arXiv:2203.00772. Of the paper only the abstract was seen (adaptation to the
    classes observed at deployment, up to 15.1 times less memory for retraining). Assumed: the classes seen are known
    and numbered first, inputs and labels of others do not occur, and the last layers are what is retrained. Making
    training data in the space of features, and keeping features instead of computing them again, are not modelled;
    pruning the network to the classes seen is what `structured-prune` does.
    """

    name: ClassVar[str] = "partial-domain-adaptation"

    classes: int = 10
    last: int = 1

    def __post_init__(self) -> None:
        check(self.classes >= 1, self, "classes", "a number of classes, at least 1")
        check(self.last >= 1, self, "last", "a number of layers, at least 1")

    def rewrite(self, graph: Graph) -> Graph:
        """Return the step that retrains the narrowed network.

        Raises `TrainwattError` where it is no classification by cross-entropy, has fewer classes or layers, or where
        its last weight layer does not make the logits.
        """
        ranks = parameters(graph)
        names, classifier = list(ranks), weight_layers(graph)[-1]
        weight = next(name for name in names if layer_of(name) == classifier and ranks[name] >= 2)
        if weight not in updates(Edit(graph)):
            raise TrainwattError(
                f"the step does not train the classifier {classifier} itself; apply partial-domain-adaptation first"
            )
        edit = Edit(_narrowed(graph, self.classes))
        chosen = trained_names(SparseUpdate(last=self.last), names, weight_layers(graph))
        trained = {layer_of(name) for name in chosen}
        freeze_batch_norms(edit, [norm for norm in learning_norms(edit) if norm.layer not in trained])
        freeze(edit, [name for name in names if name not in chosen])
        return edit.graph()


def _narrowed(graph: Graph, classes: int) -> Graph:
    """Return `graph` with `classes` classes."""
    before = cross_entropy_of(Edit(graph)).classes
    if classes > before:
        raise TrainwattError(f"classes={classes} of a network that tells {before}; give 1 to {before}")
    if classes == before:
        return graph
    # To the groups of channels the loss is what fixes the classes; as a part of forward it does not.
    ops = tuple([replace(op, phase="forward") if op.phase == "loss" else op for op in graph.ops])
    channels = channel_graph(replace(graph, ops=ops))
    classifier = weight_layers(graph)[-1]
    group = next((g for g in channels.groups.values() if tuple(g.units) == (classifier,)), None)
    if group is None:
        reason = channels.fixed.get(classifier, "other layers that go with it")
        raise TrainwattError(f"the width of the classifier {classifier} is fixed by {reason}; it cannot be narrowed")
    narrow = channels.bind({group.symbol: classes})
    phases = [op.phase for op in graph.ops]
    result = replace(narrow, ops=tuple([replace(op, phase=p) for op, p in zip(narrow.ops, phases, strict=True)]))
    if cross_entropy_of(Edit(result)).classes != classes:
        raise TrainwattError(f"the last weight layer {classifier} does not make the logits; narrow another network")
    return result
