"""Gradient filtering: the backward of a convolution on patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from simulator.graph import Graph
from simulator.rewriting.edit import Edit
from simulator.rewriting.filtered_convolution import Filtered, parts_of
from simulator.rewriting.filtering import Filter, filter_of, sizes
from simulator.rewriting.layers import choose, forward_convolutions
from simulator.rewriting.node import Node
from simulator.techniques import Technique, check


@dataclass(frozen=True)
class GradientFilter(Technique):
    """Compute the gradients of convolutions from the means of their error map over patches of `patch` x `patch`.

    For x (N, C, H, W), weight (K, C, h, w), error map dy (N, K, Ho, Wo), stride s and patch r, with P patches:

        means = mean of dy over r x r    sums = sum of x over (r s) x (r s)    theta = sum of weight over its taps
        dx[n, c] = sum over k of theta[k, c] means[n, k], the same throughout a patch                 N P C K MACs
        dweight[k, c] = sum over n and patches of means[n, k] sums[n, c], the same at every tap       N P C K MACs

    instead of N Ho Wo C K h w each (eqs. 2, 3 and 5; patches are complete, or cut off at the end of the map). y and
    dbias are exact, and `sums` is saved instead of x. Depthwise convolutions multiply channel by channel; a kernel
    dilated by at least a patch stays a kernel on the patches; stride, other groups and padding as `filter_of` says.
    `patch` 1 is no filtering: PyTorch's own op. At stride s the published operator, followed here, sums s * s times
    the pixels that the convolution pairs with an output.

    The filter changes the `last` convolutions, or those that `layers` match, or all; it freezes nothing. The published
    setting trains and filters the last layers: `sparse-update{last=5},gradient-filter{last=4}`.

    `variant` is how it is computed. `lean`: one product over the batch for each gradient, what nobody needs left out,
    theta taken in backward so that nothing is kept for it. `official`: as published, theta taken and kept in forward,
    a product for each image on copied theta, dx also where nobody needs it, dweight copied to every tap, both
    reductions also of convolutions that train nothing. `kernel`: the arithmetic of the paper's latency benchmark: dx
    stays on the patches (its consumer sees a view that costs nothing, of the full size), dweight on one tap, dbias is
    summed over the means; a cost of single layers and no training step, so it has no runnable form.

    Yang, Li, Marculescu, "Efficient On-device Training via Gradient Filtering", CVPR 2023, arXiv:2301.00330.
    """

    name: ClassVar[str] = "gradient-filter"

    patch: int = 4
    last: int | None = None
    layers: tuple[str, ...] = ()
    variant: Literal["lean", "official", "kernel"] = "lean"

    def __post_init__(self) -> None:
        check(self.patch >= 1, self, "patch", "the side of a patch, at least 1")
        check(self.last is None or self.last >= 1, self, "last", "a number of convolutions, at least 1")

    def rewrite(self, graph: Graph) -> Graph:
        """Return the step with filtered convolutions; raises `TrainwattError` where one cannot be filtered."""
        edit = Edit(graph)
        convolutions = forward_convolutions(edit)
        chosen = choose([n.layer for n in convolutions], "convolutions", self.layers, self.last)
        if self.patch == 1:
            return graph
        filtered = [
            Filtered(edit, conv, parts_of(edit, conv), plan_of(edit, conv, self.patch), self.variant)
            for conv in convolutions
            if conv.layer in chosen
        ]
        for convolution in reversed(filtered):  # as backward goes: each gets the error map that the one after it makes
            convolution.rewrite()
        return edit.graph()


def plan_of(edit: Edit, conv: Node, patch: int) -> Filter:
    """Return how the convolution `conv` of a graph is filtered; raises `TrainwattError` where it cannot be."""
    x, weight = (sizes(edit.shape(t)[skip:]) for t, skip in zip(conv.inputs, (1, 0), strict=False))
    geometry = (conv.attrs[name] for name in ("stride", "padding", "dilation", "groups", "transposed"))
    return filter_of(conv.layer, x, weight, *geometry, patch)
