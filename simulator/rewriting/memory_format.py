"""Channels-last memory format: which tensors of a step take it on when its images and weights do.

A tensor (N, C, H, W) is channels last where its strides are (C*H*W, 1, W*C, C). Kernels follow the format of what they
are given (ATen, `suggest_memory_format`): the result is channels last as soon as one operand is. The exceptions are
listed here; they were read off real steps, as were the copies that reshaping makes where a format cannot be viewed.
"""

from __future__ import annotations

from collections.abc import Sequence

from simulator.errors import TrainwattError
from simulator.extent import Extent
from simulator.graph import Layout, Tensor
from simulator.rewriting import aten
from simulator.rewriting.cursor import Cursor
from simulator.rewriting.edit import Edit
from simulator.rewriting.node import Node
from simulator.rewriting.shapes import contiguous
from simulator.rewriting.views import viewed

PLAIN = frozenset(
    {
        "_log_softmax",
        "_log_softmax_backward_data",
        "_softmax",
        "_softmax_backward_data",
        "mean",
        "nll_loss2d_backward",
        "select_backward",
        "slice_backward",
        "sum",
    }
)
"""Ops whose results are contiguous whatever they are given."""

FOLLOWS_FIRST = frozenset({"native_batch_norm_backward"})
"""Ops whose results follow their first operand alone."""


def channels_last(shape: Sequence[Extent]) -> tuple[Extent, ...]:
    """Return the strides of a channels-last tensor (N, C, H, W)."""
    _, c, h, w = shape
    return (c * h * w, 1, w * c, c)


def is_channels_last(layout: Layout) -> bool:
    """Tell whether PyTorch takes a layout for channels last; it may be part of a larger tensor, so have gaps."""
    if len(layout.shape) != 4:
        return False
    (_, c, _, w), (_, inner, row, pixel) = layout.shape, layout.stride
    if inner != 1 or layout.stride == contiguous(layout.shape):
        return False
    if not (isinstance(c, int) and isinstance(w, int) and isinstance(row, int) and isinstance(pixel, int)):
        return False
    return pixel >= c and row >= pixel * w


def to_channels_last(edit: Edit) -> None:
    """Put images, weights and everything that follows from them into channels-last format, in every phase.

    Raises `TrainwattError` for a view of a channels-last tensor that this does not know.
    """
    _Formats(edit).follow()


class _Formats:
    """The formats of a step's tensors as they change; `was` holds those that changed as they were before."""

    def __init__(self, edit: Edit) -> None:
        self.edit = edit
        self.was: dict[int, Tensor] = {}
        self.pooled: dict[Node, Node] = {}  # the change of strides that each is to differentiate first

    def follow(self) -> None:
        made = {t for node in self.edit.nodes for t in node.outputs if t not in node.mutates}
        for tensor in {t for node in self.edit.nodes for t in node.tensors} - made:
            storage = self.edit.storages[self.edit.tensors[tensor].storage]
            if storage.role != "input" or storage.name.startswith("input"):  # targets stay as they are
                self.convert(tensor)
        for node in list(self.edit.nodes):
            if node in self.pooled:
                self.unpool(node, self.pooled[node])
            if node.kind == "as_strided_" or not self.is_view(node):
                self.result(node)
            elif node.inputs[0] in self.was and node.outputs[0] != node.inputs[0]:
                self.view(node)

    def convert(self, tensor: int) -> None:
        """Make a contiguous tensor of four dimensions channels last."""
        layout = self.edit.tensors[tensor].layout
        if len(layout.shape) == 4 and layout.stride == contiguous(layout.shape):
            self.lay_out(tensor, channels_last(layout.shape), self.edit.tensors[tensor].offset)

    def lay_out(self, tensor: int, stride: Sequence[Extent], offset: Extent) -> None:
        old = self.was[tensor] = self.edit.tensors[tensor]
        self.edit.tensors[tensor] = Tensor(self.edit.layout(old.shape, old.dtype, stride), old.storage, offset)

    def is_view(self, node: Node) -> bool:
        sources = {self.edit.tensors[t].storage for t in node.inputs}
        return bool(node.outputs) and not node.mutates and self.edit.tensors[node.outputs[0]].storage in sources

    def result(self, node: Node) -> None:
        """Lay out what a node that is no view makes; what it works on in place stays as it is."""
        operands = [self.edit.tensors[t].layout for t in node.inputs if len(self.edit.shape(t)) == 4]
        if node.kind in FOLLOWS_FIRST:
            operands = operands[:1]
        formats = [is_channels_last(layout) for layout in operands]
        if not (all(formats) if node.kind == "cat" else any(formats)) or not formats:
            return
        if node.kind == "mean" and node.attrs.get("dim") == (-1, -2) and node.attrs.get("keepdim"):
            self.pool(node)
        elif node.kind not in PLAIN and node.attrs.get("memory_format") != "contiguous_format":
            for tensor in node.outputs:
                if tensor not in node.mutates:
                    self.convert(tensor)

    def view(self, node: Node) -> None:
        """Lay out a view of what changed; a copy goes before it where the format cannot be seen in its shape."""
        (source,), (out,) = node.inputs, node.outputs
        base, shape = self.edit.tensors[source], self.edit.shape(out)
        stride: Sequence[Extent] | None
        stride, offset = list(base.layout.stride), base.offset
        dim = node.attrs.get("dim", 0)
        if node.kind == "slice":
            offset = offset + stride[dim] * _first(node.attrs.get("start"), base.shape[dim])
            stride[dim] = stride[dim] * node.attrs.get("step", 1)
        elif node.kind == "expand" and len(shape) == len(stride):
            stride = [st if a == b else 0 for a, b, st in zip(base.shape, shape, stride, strict=True)]
        elif node.kind in ("permute", "transpose"):
            stride = [stride[d] for d in _order(node, len(stride))]
        elif node.kind == "squeeze" and isinstance(dim, int):
            if len(shape) < len(stride):
                del stride[dim]
        elif node.kind in ("view", "_unsafe_view"):
            stride = viewed(base.shape, stride, shape)
        else:
            raise TrainwattError(
                f"{node.kind} of a channels-last tensor in {node.layer or node.phase}; "
                "trace the step with channels_last instead"
            )
        if stride is None:
            self.reshape(node)
        else:
            self.lay_out(out, stride, offset)

    def reshape(self, node: Node) -> None:
        """Copy before `node`, as `torch.reshape` does; what held the original for its view now holds the copy."""
        (source,), (out,) = node.inputs, node.outputs
        at = self.edit.before(node, forward=node.forward)
        copy = aten.clone(at, source)
        number, original = self.edit.tensors[copy].storage, self.edit.tensors[source].storage
        node.name, node.kind, node.inputs = "aten::_unsafe_view", "_unsafe_view", (copy,)
        self.edit.tensors[out] = Tensor(self.edit.tensors[out].layout, number)
        for holder in self.edit.holders(original):
            self.edit.hold_storage(number, holder)
        self.edit.release_storage(original)
        self.edit.hold_storage(original, node)

    def pool(self, node: Node) -> None:
        """Give the result of adaptive pooling to one pixel, which runs as a mean, the format of its operand."""
        (pooled,) = node.outputs
        shape = self.edit.shape(pooled)
        stride = channels_last(shape)
        seen = self.edit.view(pooled, self.edit.layout(shape, self.edit.tensors[pooled].dtype, stride))
        self.edit.substitute(pooled, seen)
        self.was[seen] = self.edit.tensors[pooled]
        at = self.edit.after(node)
        attrs = {"size": shape, "stride": stride, "storage_offset": None}
        restrided = at.call("aten::as_strided_", [pooled], [seen], attrs, mutates=[seen])
        for first in self.edit.backward_of(node)[:1]:
            self.pooled[first] = restrided

    def unpool(self, first: Node, restrided: Node) -> None:
        """Add the gradient of the change of strides, which copies, before `first`, which differentiates the mean."""
        (gradient,) = first.inputs
        n, c, *_ = shape = self.edit.shape(gradient)
        dtype, stride = self.edit.tensors[gradient].dtype, self.edit.tensors[gradient].layout.stride
        at = self.edit.before(first, forward=restrided)
        with at.frame(gradient):
            flat = gradient
            for dim in (3, 2):
                layout = self.edit.layout(shape[:dim], dtype, stride[:dim])
                flat = at.call("aten::squeeze.dim", [flat], [self.edit.view(flat, layout)], {"dim": dim}).outputs[0]
            zeros = at.result((n * c,), dtype)
            at.call("aten::new_zeros", [flat], [zeros], {"size": (n * c,), "dtype": None})
            at.drop(zeros)
            target = _restrided(self.edit, at, zeros, (n, c), (c, 1))
            aten.pointwise_(at, "copy_", target, flat)
            result = _restrided(self.edit, at, zeros, shape, (c, 1, 1, 1))
        first.inputs = (result,)


def _restrided(edit: Edit, at: Cursor, tensor: int, shape: tuple[Extent, ...], stride: tuple[Extent, ...]) -> int:
    out = edit.view(tensor, edit.layout(shape, edit.tensors[tensor].dtype, stride))
    at.call("aten::as_strided", [tensor], [out], {"size": shape, "stride": stride, "storage_offset": 0})
    return out


def _first(start: Extent | None, extent: Extent) -> Extent:
    if start is None:
        return 0
    return start + extent if isinstance(start, int) and start < 0 else start


def _order(node: Node, rank: int) -> list[int]:
    """Return the old dimension at each new place of a permutation."""
    if node.kind == "permute":
        return [d % rank for d in node.attrs["dims"]]
    order = list(range(rank))
    a, b = node.attrs["dim0"], node.attrs["dim1"]
    order[a], order[b] = order[b], order[a]
    return order
