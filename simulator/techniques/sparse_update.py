"""Training some layers, or some parameters, only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from simulator.graph import Graph
from simulator.rewriting.edit import Edit
from simulator.rewriting.freezing import freeze
from simulator.rewriting.layers import choose, layer_of, parameters, weight_layers
from simulator.techniques import Technique, check


@dataclass(frozen=True)
class SparseUpdate(Technique):
    """Train only the `last` weight layers, or those that `layers` match, or only `parameters=biases` of them.

    A weight layer owns a parameter of two or more dimensions; the norms that are registered after a chosen layer and
    before the next are trained with it where `last` chooses, so `last=4` is everything from the fourth-last weight
    layer on. Gradients flow down to the lowest trained parameter and no further; activations are saved only for
    gradients that are computed. Forward is unchanged.

    Cai et al., "TinyTL: Reduce Memory, Not Parameters for Efficient On-Device Learning", NeurIPS 2020,
    arXiv:2007.11622 (biases); Lin et al., "On-Device Training Under 256KB Memory", NeurIPS 2022, arXiv:2206.15472
    (layers).
    """

    name: ClassVar[str] = "sparse-update"

    last: int | None = None
    layers: tuple[str, ...] = ()
    parameters: Literal["all", "biases"] = "all"

    def __post_init__(self) -> None:
        check(self.last is None or self.last >= 1, self, "last", "a number of layers, at least 1")

    def rewrite(self, graph: Graph) -> Graph:
        """Return the step that trains what is chosen; raises `TrainwattError` where a layer does not exist."""
        names = list(parameters(graph))
        chosen = trained_names(self, names, weight_layers(graph))
        edit = Edit(graph)
        freeze(edit, [name for name in names if name not in chosen])
        return edit.graph()


def trained_names(technique: SparseUpdate, names: list[str], weighty: list[str]) -> set[str]:
    """Return which of the parameters `names`, in registration order, are trained.

    `weighty` are the weight layers in the same order.
    """
    owners = list(dict.fromkeys(layer_of(name) for name in names))
    if technique.last is not None:
        first = choose(weighty, "weight layers", last=technique.last)[0]
        owners = owners[owners.index(first) :]
    elif technique.layers:
        owners = choose(owners, "layers", technique.layers)
    return {
        name
        for name in names
        if layer_of(name) in owners and (technique.parameters == "all" or name.rpartition(".")[2].startswith("bias"))
    }
