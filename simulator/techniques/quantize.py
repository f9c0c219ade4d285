"""Quantised training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.rewriting.autocast import autocast
from simulator.rewriting.edit import Edit
from simulator.rewriting.quantised_linear import linears, quantise_linear
from simulator.rewriting.quantising import Widths, convolutions, plain_gradient, quantise_convolution
from simulator.techniques import Technique, check

HALVES = ("float16", "bfloat16")


@dataclass(frozen=True)
class Quantize(Technique):
    """Let convolutions and linear layers compute with whole numbers of few bits, or in 16 bits, forward and backward.

    With `dtype=float16` or `bfloat16` the step runs in mixed precision, as `rewriting.autocast` says; `bits` and
    `gradient_bits` are then of no use. Otherwise each layer multiplies codes of `bits` bits of input and weight,

        x = step code,  step = max |x| / (2^(bits-1) - 1),  code = round(x / step),

    its backward pass codes of `gradient_bits` bits of the gradient and those of input and weight that forward saved.
    Results are scaled to float32, which is what all else computes in (batch norm, activations, weights as the optimizer
    sees them). With `dtype=int8`, kernels take integers: 1 byte an operand, results scaled as they are written. With
    `dtype=simulated`, they take the codes in float32, which is what the runnable form does on any device; what is saved
    for backward is integers in both. Bit widths stand in the attributes of the ops (`simulator.bits`).

    A layer's input is often the result of a ReLU or the operand of another op that saves it in float32 as well; the
    codes are then saved beside it, so that memory need not fall with 8 bits.

    Micikevicius et al., "Mixed Precision Training", ICLR 2018, arXiv:1710.03740 (16 bits); Banner et al., "Scalable
    Methods for 8-bit Training of Neural Networks", NeurIPS 2018, arXiv:1805.11046 (there gradients of weights are of
    more bits); Yang et al., "Training High-Performance and Large-Scale Deep Neural Networks with Full 8-bit Integers"
    (WAGEUBN), Neural Networks 2020, arXiv:1909.02384.
    """

    name: ClassVar[str] = "quantize"

    bits: int = 8
    gradient_bits: int = 8
    dtype: Literal["int8", "simulated", "float16", "bfloat16"] = "int8"

    def __post_init__(self) -> None:
        if self.dtype in HALVES:
            return
        most = 8 if self.dtype == "int8" else 16
        for name in ("bits", "gradient_bits"):
            check(2 <= getattr(self, name) <= most, self, name, f"2 to {most} bits where dtype is {self.dtype}")

    def rewrite(self, graph: Graph) -> Graph:
        """Return the step with quantised layers; raises `TrainwattError` where there are none, or quantised ones."""
        edit = Edit(graph)
        if self.dtype in HALVES:
            if graph.meta.get("accumulate", 1) != 1:
                raise TrainwattError(
                    "quantize to 16 bits of several micro-batches; apply it to a step with accumulate=1"
                )
            autocast(edit, self.dtype)
            return edit.graph()
        widths = Widths(self.bits, self.bits, self.gradient_bits, take_integers=self.dtype == "int8")
        images, rows = convolutions(edit), linears(edit)
        if not images and not rows:
            raise TrainwattError("quantize on a step without convolutions and linear layers; it makes these cheaper")
        for conv in images:
            quantise_convolution(edit, conv, widths, plain_gradient(widths))
        for linear in rows:
            quantise_linear(edit, linear, widths)
        return edit.graph()
