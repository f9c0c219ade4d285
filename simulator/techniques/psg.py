"""Predictive sign gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simulator.bits import Pair, with_bits
from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.rewriting import aten
from simulator.rewriting.cursor import Cursor
from simulator.rewriting.edit import Edit
from simulator.rewriting.quantising import Codes, Product, WeightGradient, Widths, convolutions, quantise_convolution
from simulator.techniques import Technique, check

MOST_BITS = 16


@dataclass(frozen=True)
class PredictiveSignGradient(Technique):
    """Quantise convolutions, and update their weights by the signs of gradients that few leading bits mostly predict.

    Forward multiplies activations and weights in codes of `activation_bits` and `weight_bits`; the gradient of the
    input takes gradients of `gradient_bits`. Of the gradient g of the weight, g_msb is computed from the leading
    `msb_activation_bits` and `msb_gradient_bits`, and

        sign(g_msb) where |g_msb| >= threshold * max |g_msb|, else sign(g)

    goes to the optimizer, which is unchanged; batch norms and linear layers keep real gradients. All of g_msb is
    computed, of g the share 1 - `predicted` (its op runs that much less often): hardware must be able to compute single
    elements of it. With `reuse_msb` (bit-serial hardware), the products of the leading bits are not computed again.
    `predicted` is decided by the data and `threshold`, which only the runnable form reads.

    Tensors are float32, as in a simulation, but what is saved for backward are codes, in integers; bit widths stand in
    the attributes of the ops (`simulator.bits`).

    Wang et al., "E2-Train: Training State-of-the-art CNNs with Over 80% Energy Savings", NeurIPS 2019,
    arXiv:1910.13349.
    """

    name: ClassVar[str] = "psg"

    activation_bits: int = 8
    weight_bits: int = 8
    gradient_bits: int = 16
    msb_activation_bits: int = 4
    msb_gradient_bits: int = 10
    predicted: float = 0.6
    threshold: float = 0.05
    reuse_msb: bool = False

    def __post_init__(self) -> None:
        for name in ("activation_bits", "weight_bits", "gradient_bits"):
            check(2 <= getattr(self, name) <= MOST_BITS, self, name, f"2 to {MOST_BITS} bits")
        for msb, whole in (("msb_activation_bits", "activation_bits"), ("msb_gradient_bits", "gradient_bits")):
            check(2 <= getattr(self, msb) <= getattr(self, whole), self, msb, f"2 bits to all of {whole}")
        check(0 <= self.predicted < 1, self, "predicted", "a share in [0, 1)")
        check(0 <= self.threshold <= 1, self, "threshold", "a share in [0, 1]")

    def rewrite(self, graph: Graph) -> Graph:
        """Return the step with quantised convolutions; raises `TrainwattError` where there are none."""
        edit = Edit(graph)
        found = convolutions(edit)
        if not found:
            raise TrainwattError("psg on a step without convolutions; it predicts the signs of their weight gradients")
        widths = Widths(self.activation_bits, self.weight_bits, self.gradient_bits, by_sample=True)
        for conv in found:
            quantise_convolution(edit, conv, widths, self._gradient())
        return edit.graph()

    def _gradient(self) -> WeightGradient:
        all_bits: Pair = (self.gradient_bits, self.activation_bits)
        leading_bits: Pair = (self.msb_gradient_bits, self.msb_activation_bits)

        def add(at: Cursor, product: Product, dy: Codes, x: Codes, out: int) -> None:
            scale = aten.pointwise(at, "mul.Tensor", dy[1], x[1])
            full = product(at, dy[0], x[0], None, all_bits)
            node = at.last
            node.runs *= 1 - self.predicted
            if self.reuse_msb:
                node.attrs = with_bits(node.attrs, all_bits, leading_bits)
            aten.pointwise_(at, "mul_.Tensor", full, scale)
            for codes in (dy[0], x[0]):
                aten.pointwise_(at, "div_.Tensor", codes)
                aten.pointwise_(at, "round_", codes)
            leading = product(at, dy[0], x[0], None, leading_bits)
            aten.pointwise_(at, "mul_.Tensor", scale)
            aten.pointwise_(at, "mul_.Tensor", leading, scale)
            limit = at.result((), "float32")
            attrs = {"ord": float("inf"), "dim": None, "keepdim": False, "dtype": None}
            at.call("aten::linalg_vector_norm", [leading], [limit], attrs)
            aten.pointwise_(at, "mul_.Tensor", limit)
            size = aten.pointwise(at, "abs", leading)
            sure = aten.compare(at, "ge.Tensor", size, limit)
            at.drop(size)
            at.call("aten::where.self", [sure, leading, full], [out])
            aten.pointwise_(at, "sign_", out)

        return add
