"""The workspace of every op of a graph, as a column."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwmodels.libraries.onednn import convolution, operators
from hwmodels.libraries.onednn.call import Call, is_contiguous
from hwmodels.libraries.onednn.choice import uses_onednn
from hwmodels.libraries.onednn.convolution import Footprint
from hwmodels.libraries.onednn.geometry import Convolution, Machine
from hwmodels.libraries.onednn.geometry import convolution as convolution_of
from simulator.errors import TrainwattError
from simulator.extent import evaluate
from simulator.graph import Graph, Layout, Op, evaluate_attrs
from simulator.work import Ints, Operand

VECTOR_BYTES = (32, 64)
"""AVX2 and AVX-512."""


@dataclass(frozen=True)
class OneDnn:
    """The kernel library of a PyTorch on x86: vectors of `vector_bytes` (64: AVX-512, 32: AVX2), and threads."""

    vector_bytes: int
    threads: int

    def __post_init__(self) -> None:
        if self.vector_bytes not in VECTOR_BYTES:
            raise TrainwattError(f"vectors of {self.vector_bytes} bytes; they have 32 (AVX2) or 64 (AVX-512)")
        if self.threads < 1:
            raise TrainwattError(f"{self.threads} threads; there is at least 1")

    def workspace_bytes(self, graph: Graph) -> Ints:
        """Return what the kernels of each op allocate beside the graph's storages, in bytes, shape (ops,)."""
        return _Column(graph, Machine(self.vector_bytes // 4, self.threads)).values()


def workspace_bytes(graph: Graph, *, vector_bytes: int = 64, threads: int = 1) -> Ints:
    """Return the workspace of every op at the graph's sizes, in bytes, shape (ops,).

    It is the most that an op holds at any moment beyond the storages that the graph counts as live in that op. Of a
    convolution's backward, which is one PyTorch op, each part holds what is left when its result is allocated.
    """
    return OneDnn(vector_bytes, threads).workspace_bytes(graph)


class _Column:
    """Evaluates each rule once for all ops that look alike."""

    def __init__(self, graph: Graph, machine: Machine) -> None:
        self.graph, self.machine = graph, machine
        self.operands: dict[int, Operand] = {}

    def values(self) -> Ints:
        found: dict[Any, int] = {}
        column = np.zeros(len(self.graph.ops), dtype=np.int64)
        for i, op in enumerate(self.graph.ops):
            rule = _RULES.get(op.kind)
            if rule is not None:
                layouts = self._layouts(op.inputs), self._layouts(op.outputs), self._layouts(self._forward(op))
                parts = self._parts(i)
                key = (op.kind, *(tuple(map(id, group)) for group in layouts), id(op.attrs), parts)
                if key not in found:
                    inputs, outputs, forward = (tuple(map(self._operand, group)) for group in layouts)
                    attrs = evaluate_attrs(op.attrs, self.graph.sizes)
                    found[key] = rule(Call(op.kind, inputs, outputs, attrs, forward, *parts), self.machine)
                column[i] = found[key]
        return column

    def _layouts(self, tensors: tuple[int, ...]) -> list[Layout]:
        return [self.graph.tensors[t].layout for t in tensors]

    def _forward(self, op: Op) -> tuple[int, ...]:
        """Return the operands of the convolution that `op` differentiates."""
        if op.forward is None or not op.kind.startswith("convolution_grad"):
            return ()
        forward = self.graph.ops[op.forward]
        return forward.inputs if forward.kind == "convolution" else ()

    def _parts(self, i: int) -> tuple[bool, bool]:
        """Tell whether op `i` shares its PyTorch op with a weight gradient before and a bias gradient after it."""
        op = self.graph.ops[i]
        if op.kind == "convolution_grad_bias":
            return self._same_backward(op, i - 1, "convolution_grad_weight"), False
        if op.kind == "convolution_grad_weight":
            return False, self._same_backward(op, i + 1, "convolution_grad_bias")
        return False, False

    def _same_backward(self, op: Op, i: int, kind: str) -> bool:
        if not 0 <= i < len(self.graph.ops):
            return False
        other = self.graph.ops[i]
        return other.kind == kind and other.inputs[0] == op.inputs[0] and other.forward == op.forward

    def _operand(self, layout: Layout) -> Operand:
        found = self.operands.get(id(layout))
        if found is None:
            sizes = self.graph.sizes
            shape = tuple(evaluate(extent, sizes) for extent in layout.shape)
            stride = tuple(evaluate(extent, sizes) for extent in layout.stride)
            found = self.operands[id(layout)] = Operand(shape, stride, layout.dtype)
        return found


# -- convolutions: PyTorch's side of the call --------------------------------------------------------------------------


def _geometry(call: Call, x: Operand, weight: Operand, channels_last: bool) -> Convolution:
    attrs = call.attrs
    return convolution_of(
        x.shape,
        weight.shape,
        attrs["stride"],
        attrs["padding"],
        attrs["dilation"],
        attrs["groups"],
        x.item_bytes,
        channels_last,
    )


def _copies(channels_last: bool, *operands: Operand) -> int:
    """Bytes of the contiguous copies that PyTorch makes, for the whole op, of operands laid out in other ways."""
    order = (0, 2, 3, 1) if channels_last else None
    return sum(int(o.bytes) for o in operands if not is_contiguous(o, order if len(o.shape) == 4 else None))


def _forward(call: Call, machine: Machine) -> int:
    """A transposed convolution runs as the input gradient of the convolution from its result to its input."""
    x, weight = call.inputs[:2]
    y = call.outputs[0]
    channels_last = x.channels_last or weight.channels_last
    if call.attrs["transposed"]:
        footprint = convolution.grad_input(_geometry(call, y, weight, channels_last), machine)
    else:
        conv = _geometry(call, x, weight, channels_last)
        footprint = convolution.forward(conv, machine, has_bias=len(call.inputs) > 2)
    return footprint.with_more(_copies(channels_last, x, weight)).beside(int(y.bytes))


def _grad_input(call: Call, machine: Machine) -> int:
    """The first half of the backward pass; its result is the only one there yet."""
    gradient, weight = call.inputs
    result = call.outputs[0]
    x = call.forward[0] if call.forward else result
    channels_last = x.channels_last or weight.channels_last
    if call.attrs["transposed"]:
        footprint = convolution.forward(_geometry(call, gradient, weight, channels_last), machine)
    else:
        footprint = convolution.grad_input(_geometry(call, x, weight, channels_last), machine)
    return footprint.with_more(_copies(channels_last, gradient, x, weight)).beside(int(result.bytes))


def _grad_weight(call: Call, machine: Machine) -> int:
    """The second half; the gradient of the bias is there at its end, but the graph counts it only in the next op."""
    gradient, x = call.inputs
    result = call.outputs[0]
    weight = call.forward[1] if call.forward else result
    held = _second_half(call, machine, gradient, x, weight, call.with_bias)
    bias = int(gradient.shape[1]) * gradient.item_bytes if call.with_bias else 0
    return Footprint(held.computing, held.finishing + bias).beside(int(result.bytes))


def _grad_bias(call: Call, machine: Machine) -> int:
    """What the second half has not freed yet. oneDNN computes the weights' gradient even if only the bias wants one."""
    if not call.forward:
        return 0
    gradient, (x, weight) = call.inputs[0], call.forward[:2]
    held = _second_half(call, machine, gradient, x, weight, True)
    if call.with_weight:
        return held.finishing
    if not uses_onednn(_geometry(call, gradient if call.attrs["transposed"] else x, weight, False), machine):
        return 0
    return Footprint(held.computing, held.finishing + int(weight.bytes)).beside(int(call.outputs[0].bytes))


def _second_half(
    call: Call, machine: Machine, gradient: Operand, x: Operand, weight: Operand, has_bias: bool
) -> Footprint:
    channels_last = x.channels_last or weight.channels_last
    transposed = call.attrs["transposed"]  # its bias belongs to what is the input of the convolution that runs
    conv = _geometry(call, gradient if transposed else x, weight, channels_last)
    held = convolution.grad_weight(conv, machine, has_bias and not transposed)
    return held.with_more(_copies(channels_last, gradient, x, weight))


_RULES: Mapping[str, Callable[[Call, Machine], int]] = {
    "convolution": _forward,
    "convolution_grad_input": _grad_input,
    "convolution_grad_weight": _grad_weight,
    "convolution_grad_bias": _grad_bias,
    "native_batch_norm": operators.batch_norm,
    "native_batch_norm_backward": operators.batch_norm_backward,
    "native_layer_norm_backward": operators.layer_norm_backward,
    "upsample_nearest2d": operators.upsample,
    "upsample_bilinear2d": operators.upsample,
    "upsample_bicubic2d": operators.upsample,
    "_scaled_dot_product_flash_attention_for_cpu": operators.attention,
    "_scaled_dot_product_flash_attention_for_cpu_backward": operators.attention_backward,
    "mkldnn_rnn_layer": operators.lstm,
    "mkldnn_rnn_layer_backward": operators.lstm_backward,
}
"""What each kind of op allocates, given the op and the machine."""
