"""ATen ops to add to a graph under edit, with the results that PyTorch gives them.

Each function takes a place (`Cursor`) and tensor numbers, adds the op, and returns the number of its result. Names,
shapes, strides and attributes are those a trace shows, so that added and traced ops are priced alike. `saved` is given
where autograd is to keep something of the op.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from simulator.extent import Extent
from simulator.rewriting.cursor import Cursor
from simulator.rewriting.shapes import contiguous

Pair = tuple[int, int]


# -- elementwise -------------------------------------------------------------------------------------------------------


def pointwise(
    at: Cursor,
    name: str,
    *operands: int,
    dtype: str | None = None,
    saved: Iterable[int] = (),
    attrs: Mapping[str, Any] | None = None,
) -> int:
    """Add an elementwise op (`mul.Tensor`, `sigmoid`, `threshold_backward`) of operands that broadcast.

    The result is laid out as the first operand of the full shape, as far as that is dense, else contiguously.
    """
    tensors = at.edit.tensors
    shape = broadcast(*(at.edit.shape(t) for t in operands))
    like = next((t for t in operands if tensors[t].shape == shape), operands[0])
    layout = tensors[like].layout
    stride = layout.stride if layout.shape == shape and _dense(layout.shape, layout.stride) else None
    out = at.result(shape, dtype or tensors[operands[0]].dtype, stride)
    at.call(f"aten::{name}", operands, [out], attrs, saved=_and_result(saved, out))
    return out


RESULT = -1
"""In `saved`, the result of the op itself."""


def pointwise_(at: Cursor, name: str, target: int, *operands: int, saved: Iterable[int] = (), **attrs: Any) -> int:
    """Add an elementwise op that works in place on `target`: `add_.Tensor`, `mul_.Scalar`, `relu_`, `copy_`."""
    at.call(f"aten::{name}", (target, *operands), [target], attrs, mutates=[target], saved=_and_result(saved, target))
    return target


def compare(at: Cursor, name: str, *operands: int, **attrs: Any) -> int:
    """Add a comparison (`gt.Scalar`, `ge.Tensor`); the result is boolean."""
    return pointwise(at, name, *operands, dtype="bool", attrs=attrs)


def broadcast(*shapes: Sequence[Extent]) -> tuple[Extent, ...]:
    """Return the shape that shapes broadcast to."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(next((e for e in extents if e != 1), 1) for extents in zip(*padded, strict=True))


def filled(at: Cursor, name: str, shape: Iterable[Extent], dtype: str = "float32", **attrs: Any) -> int:
    """Add an op that makes a tensor from nothing: `zeros`, `ones`, `rand`, `full`, `empty.memory_format`."""
    shape = tuple(shape)
    out = at.result(shape, dtype)
    at.call(f"aten::{name}", [], [out], {"size": shape, **attrs})
    return out


def like(at: Cursor, name: str, tensor: int, dtype: str | None = None, **attrs: Any) -> int:
    """Add `zeros_like`, `ones_like`, `rand_like`, `empty_like` of a tensor."""
    return pointwise(at, name, tensor, dtype=dtype, attrs={"memory_format": None, **attrs})


# -- views -------------------------------------------------------------------------------------------------------------


def view(at: Cursor, tensor: int, shape: Iterable[Extent], name: str = "view") -> int:
    """Add a view of another shape of a contiguous tensor."""
    shape = tuple(shape)
    out = at.edit.view(tensor, at.edit.layout(shape, at.edit.tensors[tensor].dtype))
    at.call(f"aten::{name}", [tensor], [out], {"size": shape})
    return out


def t(at: Cursor, tensor: int) -> int:
    """Add the transpose of a matrix, a view."""
    layout = at.edit.tensors[tensor].layout
    out = at.edit.view(tensor, at.edit.layout(layout.shape[::-1], layout.dtype, layout.stride[::-1]))
    at.call("aten::t", [tensor], [out])
    return out


def permute(at: Cursor, tensor: int, dims: Sequence[int], name: str = "permute") -> int:
    """Add a view with dimensions in another order."""
    layout = at.edit.tensors[tensor].layout
    shape, stride = ([part[d] for d in dims] for part in (layout.shape, layout.stride))
    out = at.edit.view(tensor, at.edit.layout(shape, layout.dtype, stride))
    at.call(f"aten::{name}", [tensor], [out], {"dims": tuple(dims)})
    return out


def expand(at: Cursor, tensor: int, shape: Iterable[Extent]) -> int:
    """Add a view in which dimensions of size 1 are repeated, with stride 0."""
    shape, layout = tuple(shape), at.edit.tensors[tensor].layout
    missing = len(shape) - len(layout.shape)
    stride: list[Extent] = [
        st if old == new else 0 for old, new, st in zip(layout.shape, shape[missing:], layout.stride, strict=True)
    ]
    for extent in reversed(shape[:missing]):  # a new dimension of size 1 gets the stride of a contiguous tensor
        following = shape[len(shape) - len(stride)] if stride else 1
        stride.insert(0, 0 if extent != 1 else following * stride[0] if stride else 0)
    out = at.edit.view(tensor, at.edit.layout(shape, layout.dtype, stride))
    at.call("aten::expand", [tensor], [out], {"size": shape, "implicit": False})
    return out


def unsqueeze(at: Cursor, tensor: int, dim: int) -> int:
    """Add a view with one more dimension, of size 1, at `dim` (>= 0)."""
    layout = at.edit.tensors[tensor].layout
    step: Extent = 1 if dim == len(layout.shape) else layout.shape[dim] * layout.stride[dim]
    shape = (*layout.shape[:dim], 1, *layout.shape[dim:])
    out = at.edit.view(tensor, at.edit.layout(shape, layout.dtype, (*layout.stride[:dim], step, *layout.stride[dim:])))
    at.call("aten::unsqueeze", [tensor], [out], {"dim": dim})
    return out


def slice_(at: Cursor, tensor: int, dim: int, start: int, end: Extent) -> int:
    """Add the view `start:end` of dimension `dim`."""
    layout = at.edit.tensors[tensor].layout
    shape = (*layout.shape[:dim], end - start, *layout.shape[dim + 1 :])
    offset = at.edit.tensors[tensor].offset + layout.stride[dim] * start
    out = at.edit.view(tensor, at.edit.layout(shape, layout.dtype, layout.stride), offset)
    at.call("aten::slice.Tensor", [tensor], [out], {"dim": dim, "start": start, "end": end, "step": 1})
    return out


# -- copies and gathers ------------------------------------------------------------------------------------------------


def clone(at: Cursor, tensor: int, memory_format: str | None = "contiguous_format") -> int:
    """Add a copy, contiguous; with `memory_format=None` as dense tensors are laid out already."""
    layout = at.edit.tensors[tensor].layout
    keep = memory_format is None and _dense(layout.shape, layout.stride)
    out = at.result(layout.shape, layout.dtype, layout.stride if keep else None)
    at.call("aten::clone", [tensor], [out], {"memory_format": memory_format})
    return out


def contiguous_form(at: Cursor, tensor: int) -> int:
    """Add a copy where the tensor is not contiguous already; what `Tensor.contiguous` does."""
    layout = at.edit.tensors[tensor].layout
    strides = zip(layout.shape, layout.stride, contiguous(layout.shape), strict=True)
    return tensor if all(e == 1 or got == right for e, got, right in strides) else clone(at, tensor)


def index_select(at: Cursor, tensor: int, dim: int, index: int, saved: Iterable[int] = ()) -> int:
    """Add a copy of the entries of dimension `dim` that `index` (one dimension of int64) names."""
    shape = at.edit.shape(tensor)
    out = at.result((*shape[:dim], at.edit.shape(index)[0], *shape[dim + 1 :]), at.edit.tensors[tensor].dtype)
    at.call("aten::index_select", [tensor, index], [out], {"dim": dim}, saved=saved)
    return out


def cat(at: Cursor, tensors: Sequence[int], dim: int) -> int:
    """Add the concatenation of tensors along `dim`."""
    shape = list(at.edit.shape(tensors[0]))
    for tensor in tensors[1:]:
        shape[dim] = shape[dim] + at.edit.shape(tensor)[dim]
    out = at.result(shape, at.edit.tensors[tensors[0]].dtype)
    at.call("aten::cat", tensors, [out], {"dim": dim})
    return out


# -- reductions --------------------------------------------------------------------------------------------------------


def reduce(
    at: Cursor, name: str, tensor: int, dims: Sequence[int], *, keepdim: bool = False, dtype: str | None = None
) -> int:
    """Add `sum.dim_IntList`, `mean.dim`, `amax` over `dims` (>= 0)."""
    shape = at.edit.shape(tensor)
    kept = [1 if d in dims else e for d, e in enumerate(shape) if keepdim or d not in dims]
    out = at.result(kept, dtype or at.edit.tensors[tensor].dtype)
    at.call(f"aten::{name}", [tensor], [out], {"dim": tuple(dims), "keepdim": keepdim, "dtype": None})
    return out


def topk(at: Cursor, tensor: int, k: Extent, *, is_sorted: bool = True) -> tuple[int, int]:
    """Add the `k` largest along the last dimension; returns values and indices (int64)."""
    shape = (*at.edit.shape(tensor)[:-1], k)
    values, indices = at.result(shape, at.edit.tensors[tensor].dtype), at.result(shape, "int64")
    at.call("aten::topk", [tensor], [values, indices], {"k": k, "dim": -1, "largest": True, "sorted": is_sorted})
    return values, indices


def avg_pool2d(
    at: Cursor,
    tensor: int,
    kernel: Pair,
    stride: Pair | None = None,
    padding: Pair = (0, 0),
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
    saved: Iterable[int] = (),
) -> int:
    """Add average pooling of images (N, C, H, W)."""
    stride = stride or kernel
    n, c, h, w = at.edit.shape(tensor)
    sizes = [
        _pooled(extent, k, s, p, ceil_mode) for extent, k, s, p in zip((h, w), kernel, stride, padding, strict=True)
    ]
    out = at.result((n, c, *sizes), at.edit.tensors[tensor].dtype)
    attrs = {
        "kernel_size": kernel,
        "stride": stride,
        "padding": padding,
        "ceil_mode": ceil_mode,
        "count_include_pad": count_include_pad,
        "divisor_override": divisor,
    }
    at.call("aten::avg_pool2d", [tensor], [out], attrs, saved=saved)
    return out


def _pooled(extent: Extent, kernel: int, stride: int, padding: int, ceil_mode: bool) -> int:
    assert isinstance(extent, int), "a map whose size is no number"
    span = extent + 2 * padding - kernel
    count = -(-span // stride) + 1 if ceil_mode else span // stride + 1
    if ceil_mode and (count - 1) * stride >= extent + padding:
        count -= 1  # the last window must start inside the map or its left padding
    return count


# -- products ----------------------------------------------------------------------------------------------------------


def mm(at: Cursor, a: int, b: int, saved: Iterable[int] = ()) -> int:
    """Add the product of two matrices."""
    out = at.result((at.edit.shape(a)[0], at.edit.shape(b)[1]), at.edit.tensors[a].dtype)
    at.call("aten::mm", [a, b], [out], saved=saved)
    return out


def bmm(at: Cursor, a: int, b: int, saved: Iterable[int] = ()) -> int:
    """Add the products of two batches of matrices."""
    (n, m, _), (_, _, k) = at.edit.shape(a), at.edit.shape(b)
    out = at.result((n, m, k), at.edit.tensors[a].dtype)
    at.call("aten::bmm", [a, b], [out], saved=saved)
    return out


def addmm(at: Cursor, bias: int, a: int, b: int, saved: Iterable[int] = ()) -> int:
    """Add a product of two matrices plus a row of biases, as `torch.nn.Linear` runs it (after `t` of its weight)."""
    out = at.result((at.edit.shape(a)[0], at.edit.shape(b)[1]), at.edit.tensors[a].dtype)
    at.call("aten::addmm", [bias, a, b], [out], {"beta": 1, "alpha": 1}, saved=saved)
    return out


def convolution(
    at: Cursor,
    x: int,
    weight: int,
    bias: int | None = None,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    saved: Iterable[int] = (),
) -> int:
    """Add a convolution of images (N, C, H, W) with weights (K, C/groups, R, S)."""
    n, _, *extents = at.edit.shape(x)
    k, _, *taps = at.edit.shape(weight)
    sizes: list[Extent] = [
        (e + 2 * p - d * (r - 1) - 1) // s + 1
        for e, r, s, p, d in zip(extents, taps, stride, padding, dilation, strict=True)
    ]
    out = at.result((n, k, *sizes), at.edit.tensors[x].dtype)
    attrs = {"bias": None} if bias is None else {}
    attrs |= convolution_attrs(stride, padding, dilation, groups)
    at.call("aten::convolution", [x, weight, *([] if bias is None else [bias])], [out], attrs, saved=saved)
    return out


def convolution_attrs(stride: Pair, padding: Pair, dilation: Pair, groups: int) -> dict[str, Any]:
    """Return the attributes of a convolution and of the parts of its backward."""
    return {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "transposed": False,
        "output_padding": (0, 0),
        "groups": groups,
    }


def convolution_grad(at: Cursor, part: str, out: int, operands: Sequence[int], attrs: Mapping[str, Any]) -> int:
    """Add one part (`input`, `weight` or `bias`) of a convolution's backward, making `out`.

    Operands are (dy, weight), (dy, x) and (dy,) in turn.
    """
    at.call("aten::convolution_backward", operands, [out], attrs, kind=f"convolution_grad_{part}")
    return out


# -- help --------------------------------------------------------------------------------------------------------------


def _dense(shape: Sequence[Extent], stride: Sequence[Extent]) -> bool:
    """Tell whether a layout fills its memory without gaps or overlap, in any order of dimensions."""
    order = sorted((d for d, e in enumerate(shape) if e != 1), key=lambda d: _magnitude(stride[d]))
    step: Extent = 1
    for d in order:
        if stride[d] != step:
            return False
        step = step * shape[d]
    return True


def _magnitude(extent: Extent) -> tuple[int, int]:
    """Order strides: those that grow with a dimension come after those that do not."""
    if isinstance(extent, int):
        return 0, extent
    return max(len(m) for m, _ in extent.terms), sum(c for _, c in extent.terms)


def _and_result(saved: Iterable[int], out: int) -> tuple[int, ...]:
    return tuple(out if t == RESULT else t for t in saved)


def sum_into(at: Cursor, tensor: int, dims: Sequence[int], out: int) -> None:
    """Add the sum of a tensor over `dims` into tensor `out`."""
    attrs: dict[str, Any] = {"dim": tuple(dims), "keepdim": False, "dtype": None}
    at.call("aten::sum.dim_IntList", [tensor], [out], attrs)
