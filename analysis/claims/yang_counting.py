"""Costs as the gradient-filtering paper counts them, to hold its tables against; real costs are those of the graph.

Yang, Li, Marculescu, "Efficient On-device Training via Gradient Filtering", CVPR 2023, arXiv:2301.00330: Tables 2, 3
and 11 are per image, of the backward of the tuned convolutions and the classifier only. Memory there is that of the
inputs of the tuned convolutions and nothing else, though ReLU and batch norm keep most of them alive. FLOPs mix
conventions, 2 a MAC for grad-input and 1 + 1/k^2 for grad-weight; the formulas below reproduce Table 11 within 0.5 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from simulator.errors import TrainwattError
from simulator.graph import ITEM_BYTES, Graph
from simulator.rewriting.edit import Edit
from simulator.rewriting.filtering import sizes
from simulator.rewriting.layers import choose, forward_convolutions

Patches = int | Mapping[str, int]
"""The patch of every tuned convolution, or of those named, the others being unfiltered."""


@dataclass(frozen=True, slots=True)
class TunedConvolution:
    """A convolution whose weight is trained: x (C, H, W), y (K, Ho, Wo), `taps` of its kernel, patches of side r."""

    layer: str
    inputs: int
    outputs: int
    groups: int
    taps: int
    image_elements: int
    map_size: tuple[int, int]
    patch: int
    item_bytes: int

    @property
    def map_elements(self) -> int:
        """Ho * Wo."""
        return self.map_size[0] * self.map_size[1]

    @property
    def patches(self) -> int:
        """P = ceil(Ho / r) * ceil(Wo / r)."""
        return -(-self.map_size[0] // self.patch) * -(-self.map_size[1] // self.patch)

    @property
    def pairs(self) -> int:
        """Pairs of an input and an output channel: C / groups * K."""
        return self.inputs // self.groups * self.outputs

    @property
    def saved_bytes(self) -> int:
        """Bytes of x, or of its patches: C * H * W or C * P elements."""
        return self.item_bytes * self.inputs * (self.image_elements if self.patch == 1 else self.patches)

    def flops(self, *, first: bool) -> int:
        """Return the backward FLOPs; the `first` tuned convolution needs no grad-input.

        vanilla:  gx = 2 C/g K k^2 Ho Wo            gw = C/g K (k^2 Ho Wo + Ho Wo - 1)
        filtered: gx = P C (2 K/g - 1) + C/g K (k^2 - 1)    gw = C/g K (2 P - 1)    means = K Ho Wo
        """
        if self.patch == 1:
            of_x = 2 * self.pairs * self.taps * self.map_elements
            of_weight = self.pairs * (self.taps * self.map_elements + self.map_elements - 1)
            return of_weight if first else of_x + of_weight
        product = self.patches * self.inputs * (2 * self.outputs // self.groups - 1)
        theta = self.pairs * (self.taps - 1)
        of_weight = self.pairs * (2 * self.patches - 1) + self.outputs * self.map_elements
        return of_weight if first else product + theta + of_weight


def tuned_convolutions(graph: Graph, patch: Patches = 1, layers: Iterable[str] = ()) -> list[TunedConvolution]:
    """Return the tuned convolutions of a step that is not filtered, in execution order.

    They are those that `layers` match (names, modules around them, wildcards) or, without any, those with a gradient
    of their weight, as `sparse-update` leaves them. Raises `TrainwattError` where there are none, where a pattern or a
    name in `patch` matches none of them, or where a map has no fixed size.
    """
    edit = Edit(graph)
    convolutions = forward_convolutions(edit)
    if patterns := tuple(layers):
        names = set(choose([n.layer for n in convolutions], "convolutions", patterns))
    else:
        names = {n.layer for n in edit.nodes if n.kind == "convolution_grad_weight"}
    if not names:
        raise TrainwattError("no convolution whose weight has a gradient; name the tuned ones in layers")
    chosen = [n for n in convolutions if n.layer in names]
    if isinstance(patch, Mapping):
        for name in patch:
            choose([n.layer for n in chosen], "tuned convolutions", (name,))
    found = []
    for conv in chosen:
        x, y, weight = (sizes(edit.shape(t)[1:]) for t in (conv.inputs[0], conv.outputs[0], conv.inputs[1]))
        found.append(
            TunedConvolution(
                layer=conv.layer,
                inputs=x[0],
                outputs=y[0],
                groups=conv.attrs["groups"],
                taps=weight[1] * weight[2],
                image_elements=x[1] * x[2],
                map_size=(y[1], y[2]),
                patch=patch if isinstance(patch, int) else patch.get(conv.layer, 1),
                item_bytes=ITEM_BYTES[edit.tensors[conv.inputs[0]].dtype],
            )
        )
    return found


def yang_flops(graph: Graph, patch: Patches = 1, layers: Iterable[str] = ()) -> int:
    """Return the paper's backward FLOPs of one image; arguments as of `tuned_convolutions`.

    The sum over the tuned convolutions, plus 3 F classes for each linear layer with a bias (F inputs), which is always
    trained.
    """
    tuned = tuned_convolutions(graph, patch, layers)
    total = sum(conv.flops(first=i == 0) for i, conv in enumerate(tuned))
    for op in graph.ops:
        if op.kind == "addmm" and op.phase == "forward":
            features, classes = sizes(graph.tensors[op.inputs[2]].shape)
            total += 3 * features * classes
    return total


def yang_memory_bytes(graph: Graph, patch: Patches = 1, layers: Iterable[str] = ()) -> int:
    """Return the paper's memory of one image, in bytes; arguments as of `tuned_convolutions`."""
    return sum(conv.saved_bytes for conv in tuned_convolutions(graph, patch, layers))
