"""Structured pruning: whole channels go, and the network that is left is dense."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from simulator.errors import TrainwattError, unknown
from simulator.extent import evaluate
from simulator.graph import ITEM_BYTES, Graph
from simulator.rewriting.channels import Group, channel_graph
from simulator.rewriting.layers import choose
from simulator.techniques import Technique, check


@dataclass(frozen=True)
class StructuredPrune(Technique):
    """Train the network that is left when the share `ratio` of the channels of every group is gone.

    A group is what must change together: convolutions whose outputs are added up, a depthwise one and its input, and
    all that follows from them. Of its c channels max(minimum, round((1 - ratio) c)) stay (halves round up; counted in
    the units of `rewriting.channels.Group`, where a grouped convolution keeps its groups equal). Without `layers` the
    groups that convolutions make are pruned, else those that these layers make, linear ones included. `widths` sets the
    output channels of single layers, `layer1.0.conv1:24`, and so of their groups.

    Which channels go (those of lowest mean |w|) makes no difference to the cost of a step; what ranking them costs,
    `simulator.rewriting.pruning_cost` tells.

    Rajagopal and Bouganis, "'Now that I can see, I can improve': Enabling data-driven finetuning of CNNs on the edge",
    2020 (filters ranked by mean |w|, at least 2 left in a layer).
    """

    name: ClassVar[str] = "structured-prune"

    ratio: float = 0.5
    layers: tuple[str, ...] = ()
    widths: tuple[str, ...] = ()
    minimum: int = 2

    def __post_init__(self) -> None:
        check(0 <= self.ratio < 1, self, "ratio", "a share of channels in [0, 1)")
        check(self.minimum >= 1, self, "minimum", "a number of channels, at least 1")
        for entry in self.widths:
            layer, colon, width = entry.rpartition(":")
            check(bool(layer and colon and width.isdigit() and int(width)), self, "widths", "a list of LAYER:CHANNELS")

    def rewrite(self, graph: Graph) -> Graph:
        """Return the step of the pruned network.

        `meta["unpruned"]` says of each layer whose channels are fixed which op fixes them. Raises `TrainwattError`
        where no layer can be pruned, or a named one cannot, and says which op is in the way.
        """
        channels = channel_graph(graph)
        pruned = _counted(graph, channels.bind(self.sizes(channels.groups, channels.fixed)))
        return replace(pruned, meta={**pruned.meta, "unpruned": dict(channels.fixed)})

    def sizes(self, groups: Mapping[str, Group], fixed: Mapping[str, str]) -> dict[str, int]:
        """Return how many units every pruned group keeps, by its symbol.

        `fixed` says of layers that cannot be pruned what fixes them. Raises `TrainwattError` as `rewrite` does.
        """
        pruned = [group for group in groups.values() if group.convolution]
        if self.layers:
            for layer in fixed:
                if any(layer == pattern for pattern in self.layers):
                    raise _fixed(layer, fixed)
            names = [layer for group in groups.values() for layer in group.units]
            chosen = set(choose(names, "prunable layer", self.layers))
            pruned = [group for group in groups.values() if not chosen.isdisjoint(group.units)]
        if not pruned:
            reasons = [f"{layer} is fixed by {reason}" for layer, reason in fixed.items()][:1]
            why = " ".join([*reasons, *([f"and {len(fixed) - 1} layers more"] if len(fixed) > 1 else [])])
            raise TrainwattError(
                f"no convolution whose channels can be pruned ({why or 'there is none'}); "
                "prune before other techniques, or another network"
            )
        kept = {group.symbol: self._kept(group) for group in pruned}
        return {**kept, **self._given(groups, fixed)}

    def _kept(self, group: Group) -> int:
        least = math.ceil(self.minimum / min(group.units.values()))
        return min(group.size, max(least, math.floor((1 - self.ratio) * group.size + 0.5)))

    def _given(self, groups: Mapping[str, Group], fixed: Mapping[str, str]) -> dict[str, int]:
        """Return the units of the groups that `widths` names."""
        sizes: dict[str, tuple[int, str]] = {}
        for entry in self.widths:
            layer, _, width = entry.rpartition(":")
            made = [group for group in groups.values() if layer in group.units]
            if layer in fixed:
                raise _fixed(layer, fixed)
            if not made:
                raise unknown("prunable layer", layer, (name for group in groups.values() for name in group.units))
            if len(made) > 1:
                raise TrainwattError(
                    f"{layer} makes {len(made)} groups of channels, so one width does not tell theirs; give a ratio"
                )
            group, unit = made[0], made[0].units[layer]
            if int(width) % unit or int(width) > unit * group.size:
                multiple = f"a multiple of {unit} channels, " if unit > 1 else ""
                raise TrainwattError(f"{width} channels of {layer}; it keeps {multiple}at most {unit * group.size}")
            size, before = sizes.setdefault(group.symbol, (int(width) // unit, layer))
            if size != int(width) // unit:
                raise TrainwattError(f"{width} channels of {layer}; they go together with the {before} given too")
        return {symbol: size for symbol, (size, _) in sizes.items()}


def _fixed(layer: str, fixed: Mapping[str, str]) -> TrainwattError:
    return TrainwattError(f"the channels of {layer}, which are fixed by {fixed[layer]}; choose other layers")


def _counted(before: Graph, after: Graph) -> Graph:
    """Return `after` with the numbers of parameters in its `meta` less by what went."""
    trained = {s.name.removesuffix(".grad") for s in before.storages if s.role == "gradient"}
    dtypes = {t.storage: t.dtype for t in before.tensors}
    gone = {"parameters": 0, "trained_parameters": 0}
    for number, (old, new) in enumerate(zip(before.storages, after.storages, strict=True)):
        if old.role == "parameter" and old.size_bytes != new.size_bytes:
            fewer = evaluate(old.size_bytes, before.sizes) - evaluate(new.size_bytes, after.sizes)
            elements = fewer // ITEM_BYTES[dtypes[number]]
            gone["parameters"] += elements
            gone["trained_parameters"] += elements if old.name in trained else 0
    counts = {name: before.meta[name] - n for name, n in gone.items() if name in before.meta}
    return replace(after, meta={**after.meta, **counts})
