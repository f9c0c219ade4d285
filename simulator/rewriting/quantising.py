"""Layers that compute with codes of few bits: their ops, as `workloads.techniques.parts.quantising` runs them.

x = step * code, step = max |x| / (2^(b-1) - 1), code = round(x / step), clamped. A convolution takes codes, and its
result is scaled by the product of both steps; what is saved for backward are codes, in integers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from simulator.bits import Pair, storage_dtype, with_bits
from simulator.errors import TrainwattError
from simulator.rewriting import aten
from simulator.rewriting.cursor import Cursor
from simulator.rewriting.edit import Edit
from simulator.rewriting.node import Node

Codes = tuple[int, int]
"""Codes and their step, a scalar: two tensors."""


@dataclass(frozen=True)
class Widths:
    """Bits of activations, weights and gradients; `by_sample` as in `quantise`.

    Where kernels `take_integers`, codes are made integers before they are multiplied, else only to be saved, and made
    floating-point again in backward: a simulation.
    """

    activations: int
    weights: int
    gradients: int
    by_sample: bool = False
    take_integers: bool = False


def quantise(at: Cursor, x: int, bits: int, *, by_sample: bool = False) -> Codes:
    """Add the ops that bring `x` into codes of `bits` bits, still floating-point; `by_sample`: max |x| is averaged."""
    attrs = {"ord": float("inf"), "dim": None, "keepdim": False, "dtype": None}
    layout = at.edit.tensors[x].layout
    if by_sample:
        dims = tuple(range(1, len(layout.shape)))
        norm = at.result(layout.shape[:1], layout.dtype)
        at.call("aten::linalg_vector_norm", [x], [norm], {**attrs, "dim": dims})
        step = at.result((), layout.dtype)
        at.call("aten::mean", [norm], [step], {"dtype": None})
    else:
        step = at.result((), layout.dtype)
        at.call("aten::linalg_vector_norm", [x], [step], attrs)
    aten.pointwise_(at, "div_.Tensor", step)
    aten.pointwise_(at, "clamp_min_", step, min=0.0)
    codes = aten.pointwise(at, "div.Tensor", x, step)
    aten.pointwise_(at, "round_", codes)
    top = 2 ** (bits - 1) - 1
    aten.pointwise_(at, "clamp_", codes, min=-top, max=top)
    return codes, step


def convert(at: Cursor, tensor: int, dtype: str) -> int:
    """Add a copy in another dtype."""
    attrs = {"dtype": dtype, "memory_format": None}
    return aten.pointwise(at, "_to_copy", tensor, dtype=dtype, attrs=attrs)


def scaled(at: Cursor, tensor: int, a: int, b: int) -> int:
    """Multiply a tensor in place by the product of two steps."""
    scale = aten.pointwise(at, "mul.Tensor", a, b)
    at.drop(scale)
    return aten.pointwise_(at, "mul_.Tensor", tensor, scale)


Product = Callable[[Cursor, int, int, "int | None", Pair], int]
"""Adds the weight gradient of codes dy and x, into a given tensor or a new one, annotated with the operands' bits."""

WeightGradient = Callable[[Cursor, Product, Codes, Codes, int], None]
"""From a product, codes of dy and of x, adds the gradient of a weight into the tensor given last."""


def plain_gradient(widths: Widths) -> WeightGradient:
    """Return the weight gradient that takes all bits."""

    def add(at: Cursor, product: Product, dy: Codes, x: Codes, out: int) -> None:
        product(at, dy[0], x[0], out, (widths.gradients, widths.activations))
        scaled(at, out, dy[1], x[1])

    return add


def convolutions(edit: Edit) -> list[Node]:
    """Return the forward convolutions of images that are no transposed ones, in order of execution."""
    return [
        n
        for n in edit.nodes
        if n.kind == "convolution"
        and n.phase == "forward"
        and len(edit.shape(n.inputs[1])) == 4
        and not n.attrs.get("transposed")
    ]


def quantise_convolution(edit: Edit, conv: Node, widths: Widths, weight_gradient: WeightGradient) -> None:
    """Let a forward convolution and its backward compute with codes.

    Raises `TrainwattError` where it does so already, or does not compute in float32.
    """
    check_plain(edit, conv, [f"convolution_grad_{part}" for part in ("input", "weight", "bias")])
    x, weight, *bias = conv.inputs
    y = conv.outputs[0]
    grads = {n.kind.rpartition("_")[2]: n for n in edit.backward_of(conv) if n.kind.startswith("convolution_grad_")}
    quantised = Operands(edit, conv, x, weight, widths)
    conv.inputs = quantised.multiplied
    conv.attrs = with_bits({"bias": None, **conv.attrs}, (widths.activations, widths.weights))
    at = cursor(edit.after(conv))
    quantised.rescale(at, y)
    if bias:
        aten.pointwise_(at, "add_.Tensor", y, aten.view(at, bias[0], (edit.shape(bias[0])[0], 1, 1)), alpha=1)
    conv.saved = quantised.save(at, for_weight="weight" in grads, for_input="input" in grads)
    if grads:
        _convolution_backward(edit, conv, grads, quantised, weight_gradient)


def check_plain(edit: Edit, node: Node, kinds: Collection[str]) -> None:
    """Raise `TrainwattError` unless a layer computes in float32 and its backward ops are of `kinds`."""
    dtype = edit.tensors[node.inputs[0]].dtype
    strange = next((n.kind for n in edit.backward_of(node) if n.kind not in kinds), None)
    if "bits" in node.attrs:
        raise TrainwattError(f"layer {node.layer!r} computes with few bits already; quantise it once")
    if dtype != "float32":
        raise TrainwattError(f"layer {node.layer!r} computes in {dtype}; only float32 is quantised")
    if strange:
        raise TrainwattError(
            f"backward of {node.layer!r} has a {strange!r}; quantise it before what changes its gradients"
        )


def cursor(at: Cursor) -> Cursor:
    """Return a place whose ops run as often as the one it is at."""
    at.runs = at.anchor.runs
    return at


class Operands:
    """The codes of a layer's operands: made in front of it, saved behind it, taken again in backward."""

    def __init__(self, edit: Edit, node: Node, x: int, weight: int, widths: Widths) -> None:
        self.edit, self.widths, self.x = edit, widths, x
        at = cursor(edit.before(node))
        x_codes = quantise(at, x, widths.activations, by_sample=widths.by_sample)
        weight_codes = quantise(at, weight, widths.weights)
        self.codes = [x_codes, weight_codes]
        self.integers = [-1, -1]
        self.bits = (widths.activations, widths.weights)
        if widths.take_integers:
            self.integers = [convert(at, c[0], storage_dtype(b)) for c, b in zip(self.codes, self.bits, strict=True)]

    @property
    def multiplied(self) -> tuple[int, int]:
        """The tensors that the layer multiplies."""
        if self.widths.take_integers:
            return self.integers[0], self.integers[1]
        return self.codes[0][0], self.codes[1][0]

    def rescale(self, at: Cursor, y: int) -> None:
        scaled(at, y, self.codes[0][1], self.codes[1][1])

    def save(self, at: Cursor, *, for_weight: bool, for_input: bool) -> tuple[int, ...]:
        """Add what makes the codes that are wanted for backward integers; returns what is to be saved."""
        saved: list[int] = []
        for i, wanted in enumerate((for_weight, for_input)):
            if wanted:
                if self.integers[i] < 0:
                    self.integers[i] = convert(at, self.codes[i][0], storage_dtype(self.bits[i]))
                saved += [self.integers[i], self.codes[i][1]]
        for tensor in (self.x, *(t for codes in self.codes for t in codes if not self.widths.take_integers)):
            self.edit.hold(tensor, at.anchor)
        return tuple(saved)

    def again(self, at: Cursor, operand: int) -> Codes:
        """Return the codes of x (0) or the weight (1) as backward multiplies them."""
        codes, step = self.integers[operand], self.codes[operand][1]
        return (codes if self.widths.take_integers else convert(at, codes, "float32")), step

    def gradient(self, at: Cursor, dy: int) -> Codes:
        """Return the gradient in codes."""
        codes, step = quantise(at, dy, self.widths.gradients)
        if self.widths.take_integers:
            codes = convert(at, codes, storage_dtype(self.widths.gradients))
        return codes, step


def _convolution_backward(
    edit: Edit, conv: Node, grads: dict[str, Node], operands: Operands, weight_gradient: WeightGradient
) -> None:
    first, widths = next(iter(grads.values())), operands.widths
    at = cursor(edit.before(first, forward=conv))
    incoming, attrs = first.inputs[0], first.attrs
    shapes = {"input": edit.shape(conv.inputs[0]), "weight": edit.shape(conv.inputs[1])}

    def gradient(at: Cursor, part: str, a: int, b: int, out: int, bits: Pair) -> int:
        # The shape of what is sought is handed over as a tensor of that shape and of no memory.
        empty = at.result((1,), "float32")
        at.call("aten::new_empty", [a], [empty], {"size": (1,)})
        aten.expand(at, empty, shapes[part])
        aten.convolution_grad(at, part, out, [a, b], with_bits(attrs, bits))
        at.edit.hold(empty, at.last)
        at.drop(empty)
        return out

    def product(at: Cursor, a: int, b: int, out: int | None, bits: Pair) -> int:
        out = at.result(shapes["weight"], "float32") if out is None else out
        return gradient(at, "weight", a, b, out, bits)

    with at.frame(incoming):
        dy = operands.gradient(at, incoming)
        if node := grads.get("input"):
            weight, step = operands.again(at, 1)
            gradient(at, "input", dy[0], weight, node.outputs[0], (widths.gradients, widths.weights))
            at.drop(weight)
            scaled(at, node.outputs[0], dy[1], step)
        if node := grads.get("weight"):
            with at.frame():
                weight_gradient(at, product, dy, operands.again(at, 0), node.outputs[0])
        if node := grads.get("bias"):
            aten.sum_into(at, incoming, (0, 2, 3), node.outputs[0])
    for node in grads.values():
        edit.remove(node)
