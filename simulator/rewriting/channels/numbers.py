"""From dimensions to numbers: strides, offsets, sizes of storages and attributes of a graph whose shapes have names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any

from simulator.errors import TrainwattError
from simulator.extent import Extent, evaluate, substitute
from simulator.graph import ITEM_BYTES, Layout, Op, Tensor
from simulator.rewriting.channels.dims import Dim, total
from simulator.rewriting.channels.walk import View, Walk
from simulator.rewriting.shapes import numel


class Numbers:
    """The numbers of a walked graph, its unknowns called by `names` (extents; numbers where they are fixed)."""

    def __init__(self, walk: Walk, names: Mapping[str, Extent]) -> None:
        self.walk, self.names = walk, names
        self.graph = walk.graph
        self._today = {str(called): walk.unknowns.value[name] for name, called in names.items()}
        self._sizes: dict[Dim, Extent] = {}
        self._laid: dict[tuple[int, tuple[Extent, ...]], tuple[Extent | None, ...] | None] = {}
        self._tensors: dict[int, Tensor] = {}
        self._layouts: dict[Layout, Layout] = {}

    def size(self, dim: Dim) -> Extent:
        """Return the size of a dimension by name."""
        found = self._sizes.get(dim)
        if found is None:
            found = self._sizes[dim] = substitute(total(self.walk.unknowns.resolve(dim)), self.names)
        return found

    # -- tensors ---------------------------------------------------------------------------------------------------

    def tensors(self) -> tuple[Tensor, ...]:
        """Return all tensors."""
        return tuple([self.tensor(number) for number in range(len(self.graph.tensors))])

    def tensor(self, number: int) -> Tensor:
        """Return a tensor. Raises `TrainwattError` where nothing says how it lies in memory."""
        found = self._tensors.get(number)
        if found is None:
            old = self.graph.tensors[number]
            dims = self.walk.dims.get(number)
            shape = old.shape if dims is None else tuple([self.size(dim) for dim in dims])
            dense = self._dense(old.layout, shape)
            view = self.walk.views.get(number)
            if dense is None and view is None and shape != old.shape:
                raise TrainwattError(
                    f"a tensor of shape {_text(old.shape)} and stride {_text(old.layout.stride)} whose widths change; "
                    "prune before the technique that makes it"
                )
            stride = old.layout.stride if dense is None and view is None else dense or (None,) * len(shape)
            known = [self._stride(number, d) if step is None else step for d, step in enumerate(stride)]
            offset = old.offset if view is None else self._offset(old, view)
            layout = Layout(shape, tuple(known), old.dtype)
            found = self._tensors[number] = Tensor(self._layouts.setdefault(layout, layout), old.storage, offset)
        return found

    def _offset(self, old: Tensor, view: View) -> Extent:
        """Return where a view begins. Raises `TrainwattError` where that is not where it began."""
        base, old_base = self.tensor(view.base), self.graph.tensors[view.base]
        if base.layout == old_base.layout and base.offset == old_base.offset:
            return old.offset
        offset = base.offset
        for d, places in view.shift:
            offset = offset + base.layout.stride[d] * self.size(places)
        if (today := substitute(offset, self._today)) != old.offset:
            raise TrainwattError(
                f"a tensor of shape {_text(old.shape)} that begins at element {old.offset}, not at {today}; "
                "trace the step again"
            )
        return offset

    def _stride(self, number: int, d: int) -> Extent:
        """Return the stride of a tensor's dimension `d` from the tensor that it is a view or a copy of."""
        stride = self.graph.tensors[number].layout.stride[d]
        view = self.walk.views.get(number)
        if view is not None and (follows := view.follows[d]) is not None:
            return self.tensor(view.base).layout.stride[follows[0]] * numel(map(self.size, follows[1]))
        source = self._makers.get(number, number)
        old = self.graph.tensors[source].layout.stride
        if source != number and d < len(old) and old[d] == stride:
            return self.tensor(source).layout.stride[d]
        return stride

    @cached_property
    def _makers(self) -> Mapping[int, int]:
        """The first operand of the op that makes a tensor."""
        makers: dict[int, int] = {}
        for op in self.graph.ops:
            for tensor in op.outputs:
                if op.inputs:
                    makers.setdefault(tensor, op.inputs[0])
        return makers

    def _dense(self, layout: Layout, shape: tuple[Extent, ...]) -> tuple[Extent | None, ...] | None:
        """Return the strides of `shape` in the order in which `layout` fills memory; None where it has gaps.

        A dimension of size 1 has the stride of a neighbour, or None.
        """
        key = (id(layout), shape)
        if key not in self._laid:
            self._laid[key] = _dense(layout, shape, self.graph.sizes)
        return self._laid[key]

    # -- storages --------------------------------------------------------------------------------------------------

    def storage_bytes(self) -> list[Extent]:
        """Return the size of every storage: that of the tensors that fill it.

        Raises `TrainwattError` where none does, or they disagree.
        """
        sizes: list[Extent] = [storage.size_bytes for storage in self.graph.storages]
        full: dict[int, Extent] = {}
        changed: dict[int, int] = {}
        for number, old in enumerate(self.graph.tensors):
            new = self._tensors[number]
            if new.layout.shape == old.layout.shape and old.storage not in full:
                if old.offset == 0 and _fills(old, sizes[old.storage]):
                    full[old.storage] = sizes[old.storage]
                continue
            changed.setdefault(old.storage, number)
            if old.offset == 0 and _fills(old, sizes[old.storage]):
                size = _extent_bytes(new)
                if full.setdefault(old.storage, size) != size:
                    raise TrainwattError(
                        f"a block of memory used as {_text(old.shape)} and as another shape, of sizes "
                        f"{full[old.storage]} and {size} bytes; their widths cannot change"
                    )
        for storage, number in changed.items():
            if storage not in full:
                shape = _text(self.graph.tensors[number].shape)
                raise TrainwattError(
                    f"a block of memory of {sizes[storage]} bytes of which only a part, {shape}, is seen; "
                    "its widths cannot change"
                )
        return [full.get(number, size) for number, size in enumerate(sizes)]

    # -- attributes ------------------------------------------------------------------------------------------------

    def attributes(self, padded: Mapping[int, Mapping[int, Extent]]) -> list[Mapping[str, Any]]:
        """Return the attributes of every op; `padded` are the entries of `pad` that change, by op.

        Ops that had one table still have one.
        """
        tables: dict[Any, Mapping[str, Any]] = {}
        result = []
        for index, op in enumerate(self.graph.ops):
            changes: dict[str, Any] = {}
            for name, value in self.walk.numbers.get(index, {}).items():
                changes[name] = tuple(map(self.size, value)) if isinstance(value, list) else self.size(value)
            if index in padded:
                changes["pad"] = tuple([padded[index].get(i, e) for i, e in enumerate(op.attrs["pad"])])
            if (count := self._mean_count(op)) is not None:
                changes["other"] = count
            if changes and "stride" in op.attrs and "size" in op.attrs:  # new_empty_strided and its like
                changes["stride"] = self._tensors[op.outputs[0]].layout.stride
            changes = {name: new for name, new in changes.items() if new != op.attrs[name]}
            if not changes:
                result.append(op.attrs)
                continue
            key = (id(op.attrs), tuple(changes.items()))
            if key not in tables:
                tables[key] = MappingProxyType({**op.attrs, **changes})
            result.append(tables[key])
        return result

    def _mean_count(self, op: Op) -> Extent | None:
        """Return by how many elements the gradient of a mean is divided, None for any other op."""
        if op.kind != "div" or op.forward is None or self.graph.ops[op.forward].kind != "mean":
            return None
        mean = self.graph.ops[op.forward]
        shape = self._tensors[mean.inputs[0]].layout.shape
        dims = {d % len(shape) for d in mean.attrs.get("dim") or range(len(shape))}
        return numel([e for d, e in enumerate(shape) if d in dims])


def _dense(layout: Layout, shape: tuple[Extent, ...], sizes: Mapping[str, int]) -> tuple[Extent | None, ...] | None:
    stride = layout.stride
    order = sorted((d for d, e in enumerate(layout.shape) if e != 1), key=lambda d: evaluate(stride[d], sizes))
    step: Extent = 1
    new_step: Extent = 1
    steps: list[tuple[Extent, Extent]] = [(step, new_step)]
    result: list[Extent | None] = list(stride)
    for d in order:
        if stride[d] != step:
            return None
        result[d] = new_step
        step, new_step = step * layout.shape[d], new_step * shape[d]
        steps.append((step, new_step))
    known = dict(steps)
    for d, extent in enumerate(layout.shape):
        if extent == 1:
            result[d] = known.get(stride[d])
    return tuple(result)


def _reach(tensor: Tensor) -> Extent:
    """Return one more than the last element of a tensor, from its first one."""
    reach: Extent = 1
    for extent, stride in zip(tensor.layout.shape, tensor.layout.stride, strict=True):
        reach = reach + (extent + -1) * stride
    return reach


def _extent_bytes(tensor: Tensor) -> Extent:
    return _reach(tensor) * ITEM_BYTES[tensor.dtype]


def _fills(tensor: Tensor, size_bytes: Extent) -> bool:
    return _extent_bytes(tensor) == size_bytes


def _text(extents: Sequence[Extent]) -> str:
    return "(" + ", ".join(map(str, extents)) + ")"
