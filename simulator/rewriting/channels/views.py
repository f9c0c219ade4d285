"""Dimensions of ops that rearrange: views, slices, concatenation, padding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from simulator.graph import Layout, Op
from simulator.rewriting.channels.dims import Dim, Unclear
from simulator.rewriting.channels.reshape import reshaped, segments
from simulator.rewriting.channels.walk import Padding, View, Walk, rule
from simulator.rewriting.shapes import contiguous, numel

_RESHAPES = ("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten")


def _sizes(given: Any, dims: list[Dim]) -> list[Dim]:
    """Return the attribute of a shape: -1 stays."""
    return [(-1,) if isinstance(e, int) and e == -1 else dim for e, dim in zip(given, dims, strict=True)]


def _of_forward_input(walk: Walk, op: Op, tensor: int, *kinds: str) -> list[Dim] | None:
    """Return the dimensions of the input of the op that `op` differentiates, where `tensor` is its gradient."""
    if op.forward is None:
        return None
    forward = walk.graph.ops[op.forward]
    if kinds and forward.kind not in kinds:
        return None
    return next((walk.of(t) for t in forward.inputs if walk.shape(t) == walk.shape(tensor)), None)


@rule(*_RESHAPES)
def view(walk: Walk, index: int, op: Op) -> None:
    """Another shape of the same elements; a gradient gets the one that the forward view started from."""
    source, out = op.inputs[0], op.outputs[0]
    dims = _of_forward_input(walk, op, out, *_RESHAPES)
    if dims is None:
        dims = reshaped(walk.unknowns, walk.of(source), walk.shape(source), walk.shape(out))
    follows: list[tuple[int, tuple[Dim, ...]] | None] = [None] * len(dims)
    for segment in segments(walk.shape(source), walk.shape(out)):
        for n, d in enumerate(segment.new):
            follows[d] = (segment.old[-1], tuple([dims[inner] for inner in segment.new[n + 1 :]]))
    walk.give(out, dims, View(source, tuple(follows)))
    if "size" in op.attrs:
        walk.numbers[index] = {"size": _sizes(op.attrs["size"], dims)}


@rule("expand")
def expand(walk: Walk, index: int, op: Op) -> None:
    """Sizes of 1 repeat; in a gradient, to what was summed over."""
    source, out = op.inputs[0], op.outputs[0]
    missing = len(walk.shape(out)) - len(walk.shape(source))
    repeated = _of_forward_input(walk, op, out) or [(e,) for e in walk.shape(out)]
    dims, follows = [], []
    for d, (size, dim) in enumerate(zip(walk.shape(out), repeated, strict=True)):
        stays = d >= missing and walk.shape(source)[d - missing] == size
        dims.append(walk.of(source)[d - missing] if stays else dim)
        follows.append((d - missing, ()) if stays else None)
    walk.give(out, dims, View(source, tuple(follows)))
    walk.numbers[index] = {"size": _sizes(op.attrs["size"], dims)}


@rule("new_empty_strided", "as_strided_")
def restrided(walk: Walk, index: int, op: Op) -> None:
    """The same shape with other strides: room for a gradient as its parameter lies, other strides for sizes of 1."""
    source, out = op.inputs[0], op.outputs[0]
    if walk.shape(source) != walk.shape(out) or op.attrs.get("storage_offset"):
        raise Unclear
    walk.give(out, walk.of(source))
    walk.numbers[index] = {"size": list(walk.of(source))}


@rule("as_strided")
def from_row(walk: Walk, index: int, op: Op) -> None:
    """Elements in one row as a shape, which undoes `as_strided_` in a gradient."""
    source, out = op.inputs[0], op.outputs[0]
    if op.attrs.get("storage_offset") or len(walk.shape(source)) > 1 or not _in_row(walk.graph.tensors[out].layout):
        raise Unclear
    dims = reshaped(walk.unknowns, walk.of(source), walk.shape(source), walk.shape(out))
    walk.give(out, dims)
    walk.numbers[index] = {"size": list(dims)}


@rule("new_zeros")
def zeros(walk: Walk, index: int, op: Op) -> None:
    """Zeros as large as what the forward op took, or `self` in one row, or of a size that the program made."""
    source, out = op.inputs[0], op.outputs[0]
    dims = _of_forward_input(walk, op, out)
    if dims is None:
        elements = (numel(walk.shape(source)),)
        same = walk.shape(out) == elements
        dims = reshaped(walk.unknowns, walk.of(source), walk.shape(source), elements) if same else []
    walk.give(out, dims or [(e,) for e in walk.shape(out)])
    walk.numbers[index] = {"size": list(dims or walk.of(out))}


def _in_row(layout: Layout) -> bool:
    """Tell whether a layout is contiguous; the stride of a size of 1 is of no matter."""
    full = contiguous(layout.shape)
    return all(e == 1 or st == c for e, st, c in zip(layout.shape, layout.stride, full, strict=True))


@rule("t", "transpose", "permute")
def permute(walk: Walk, index: int, op: Op) -> None:
    """The same dimensions in another order."""
    source = op.inputs[0]
    order = list(range(len(walk.shape(source))))
    if op.kind == "permute":
        order = [d % len(order) for d in op.attrs["dims"]]
    elif op.kind == "t":
        order.reverse()
    else:
        a, b = op.attrs["dim0"], op.attrs["dim1"]
        order[a], order[b] = order[b], order[a]
    view = View(source, tuple((d, ()) for d in order))
    walk.give(op.outputs[0], [walk.of(source)[d] for d in order], view)


@rule("unsqueeze", "squeeze", "unsqueeze_", "squeeze_")
def unit_dimensions(walk: Walk, index: int, op: Op) -> None:
    """Dimensions of size 1 come and go; all others stay in order."""
    source, out = op.inputs[0], op.outputs[0]
    kept = [d for d, size in enumerate(walk.shape(source)) if size != 1]
    view = View(source, tuple((kept.pop(0), ()) if size != 1 else None for size in walk.shape(out)))
    walk.give(out, reshaped(walk.unknowns, walk.of(source), walk.shape(source), walk.shape(out)), view)


@rule("select", "unbind")
def select(walk: Walk, index: int, op: Op) -> None:
    """One place of a dimension, which is then no width, or each of its places."""
    source, rank = op.inputs[0], len(walk.shape(op.inputs[0]))
    d = op.attrs.get("dim", 0) % rank
    walk.unknowns.fix(walk.of(source)[d])
    places = range(len(op.outputs)) if op.kind == "unbind" else (op.attrs["index"],)
    for place, out in zip(places, op.outputs, strict=True):
        position = place if place >= 0 else place + walk.shape(source)[d]
        view = View(source, tuple((i, ()) for i in range(rank) if i != d), ((d, (position,)),))
        walk.give(out, [dim for i, dim in enumerate(walk.of(source)) if i != d], view)


@rule("slice")
def slice_(walk: Walk, index: int, op: Op) -> None:
    """A run of a dimension; `start` and `end` fall between its pieces."""
    source, out = op.inputs[0], op.outputs[0]
    dims = list(walk.of(source))
    d = op.attrs["dim"] % len(dims)
    step, size = op.attrs.get("step", 1), walk.shape(source)[d]
    start = op.attrs.get("start") or 0
    end = op.attrs.get("end")
    shift: tuple[tuple[int, Dim], ...] = ()
    if walk.shape(out)[d] != size:
        if not walk.unknowns.free(dims[d]):
            dims[d] = (walk.shape(out)[d],)
            first = start if not isinstance(start, int) or start >= 0 else start + size
            shift = ((d, (first,)),)
        elif step == 1 and isinstance(size, int) and isinstance(start, int) and isinstance(end, int | None):
            lower = start if start >= 0 else start + size
            upper = size if end is None else min(end if end >= 0 else end + size, size)
            head, rest = walk.unknowns.take(dims[d], lower)
            dims[d], tail = walk.unknowns.take(rest, upper - lower)
            numbers: dict[str, Dim | list[Dim]] = {"start": head if start >= 0 else _negative((*dims[d], *tail))}
            if end is not None and end <= size:
                numbers["end"] = (*head, *dims[d]) if end >= 0 else _negative(tail)
            walk.numbers[index] = numbers
            shift = ((d, head),)
        else:
            raise Unclear
    elif end is not None and end == size:
        walk.numbers[index] = {"end": dims[d]}
    walk.give(out, dims, View(source, tuple((i, ((step,),) if i == d else ()) for i in range(len(dims))), shift))


def _negative(dim: Dim) -> Dim:
    return tuple([piece * -1 for piece in dim])


@rule("slice_backward", "select_backward")
def scatter(walk: Walk, index: int, op: Op) -> None:
    """The gradient of a part to that of the whole; `start` and `end` are those of the forward slice."""
    forward = walk.forward(op, op.kind.removesuffix("_backward"))
    dims = walk.of(forward.inputs[0])
    walk.equate(walk.of(op.inputs[0]), walk.of(forward.outputs[0]))
    walk.give(op.outputs[0], dims)
    assert op.forward is not None
    bounds = {k: v for k, v in walk.numbers.get(op.forward, {}).items() if op.attrs.get(k) == forward.attrs.get(k)}
    walk.numbers[index] = {**bounds, "input_sizes": list(dims)}


@rule("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes")
def split(walk: Walk, index: int, op: Op) -> None:
    """Runs of a dimension; those of equal size stay equal, and one that is smaller than `split_size` fixes all."""
    source = op.inputs[0]
    d = op.attrs.get("dim", 0) % len(walk.shape(source))
    sizes = [walk.shape(out)[d] for out in op.outputs]
    equal = len(set(sizes)) == 1
    if "split_size" in op.attrs and not equal:
        raise Unclear
    rest = walk.of(source)[d]
    part = walk.unknowns.parts(rest, len(sizes)) if equal else ()
    runs: list[Dim] = []
    for out, size in zip(op.outputs, sizes, strict=True):
        if not isinstance(size, int):
            raise Unclear
        run = part
        if not equal:
            run, rest = walk.unknowns.take(rest, size)
        dims = [run if i == d else dim for i, dim in enumerate(walk.of(source))]
        shift = ((d, tuple(piece for one in runs for piece in one)),) if runs else ()
        walk.give(out, dims, View(source, tuple((i, ()) for i in range(len(dims))), shift))
        runs.append(run)
    walk.numbers[index] = {"split_size": runs[0]} if "split_size" in op.attrs else {"split_sizes": runs}


@rule("cat")
def cat(walk: Walk, index: int, op: Op) -> None:
    """Operands one after the other along `dim`."""
    operands = [t for t in op.inputs if walk.shape(t) != (0,)]
    dims = list(walk.of(operands[0]))
    d = op.attrs.get("dim", 0) % len(dims)
    joined: Dim = ()
    for tensor in operands:
        own = walk.of(tensor)
        walk.equate([*own[:d], *own[d + 1 :]], [*dims[:d], *dims[d + 1 :]])
        joined = (*joined, *own[d])
    dims[d] = joined
    walk.give(op.outputs[0], dims)


@rule("index_select", *(f"index_{verb}{end}" for verb in ("copy", "add", "fill") for end in ("", "_")))
def places(walk: Walk, index: int, op: Op) -> None:
    """Some places of a dimension, which is then no width (samples, not channels), read or written."""
    target, numbers, *source = op.inputs
    d = op.attrs["dim"] % len(walk.shape(target))
    walk.unknowns.fix(walk.of(target)[d])
    chosen = list(walk.of(target))
    chosen[d] = walk.of(numbers)[0]
    for tensor in source:
        if walk.shape(tensor):  # not the one value to fill in
            walk.equate(walk.of(tensor), chosen)
    walk.give(op.outputs[0], chosen if op.kind == "index_select" else walk.of(target))


@rule("stack")
def stack(walk: Walk, index: int, op: Op) -> None:
    """Operands of one shape side by side in a new dimension."""
    dims = list(walk.of(op.inputs[0]))
    for tensor in op.inputs[1:]:
        walk.equate(walk.of(tensor), dims)
    dims.insert(op.attrs.get("dim", 0) % (len(dims) + 1), (len(op.inputs),))
    walk.give(op.outputs[0], dims)


@rule("constant_pad_nd")
def pad(walk: Walk, index: int, op: Op) -> None:
    """Zeros around; a padded width is another width, and the padding what lies between (`Padding`)."""
    source, out, pads = op.inputs[0], op.outputs[0], op.attrs["pad"]
    original = _of_forward_input(walk, op, out, "constant_pad_nd")
    dims = list(walk.of(source))
    for n in range(len(pads) // 2):
        before, after = pads[2 * n : 2 * n + 2]
        d = len(dims) - 1 - n
        size = walk.shape(out)[d]
        undone = [p for p in walk.paddings if (p.op, p.entry) == (op.forward, 2 * n)]
        if before == after == 0:
            continue
        if original is not None and undone:
            walk.unknowns.equate(dims[d], undone[0].outside)
            dims[d] = original[d]
            walk.paddings.append(replace(undone[0], op=index))
        elif not walk.unknowns.free(dims[d]):
            dims[d] = (size,)
        elif isinstance(size, int) and isinstance(before, int) and isinstance(after, int) and min(before, after) >= 0:
            padded = walk.unknowns.fresh(size)
            walk.paddings.append(Padding(index, 2 * n, dims[d], padded, before, after))
            dims[d] = padded
        else:
            raise Unclear
    walk.give(out, dims)


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(walk: Walk, index: int, op: Op) -> None:
    """The channels of each group in turn; the number of groups stays."""
    x = walk.of(op.inputs[0])
    part = walk.unknowns.parts(x[1], op.attrs["groups"])
    walk.give(op.outputs[0], [x[0], tuple([piece * op.attrs["groups"] for piece in part]), *x[2:]])
