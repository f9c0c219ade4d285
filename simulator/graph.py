"""The training step as data: ops in execution order over tensors that share storages.

A graph holds what eager PyTorch does in one training step and nothing about any device. All types are frozen;
a change makes a new value. Numbers that depend on the batch are `Extent`s; `Graph.sizes` binds them.
"""

from __future__ import annotations

import math
import operator
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from simulator.errors import TrainwattError
from simulator.extent import Extent, evaluate

Phase = Literal["forward", "loss", "backward", "optimizer", "other"]
PHASES: tuple[Phase, ...] = ("forward", "loss", "backward", "optimizer", "other")

Role = Literal["input", "parameter", "buffer", "activation", "saved", "gradient", "optimizer-state", "temporary"]
ROLES: tuple[Role, ...] = (
    "parameter",
    "buffer",
    "optimizer-state",
    "gradient",
    "input",
    "saved",
    "activation",
    "temporary",
)

ROOT_LAYER = "<root>"
"""The layer of ops that the network's outermost module runs itself."""

LOSS_LAYER = "<loss>"
"""The layer of ops of the loss, outside any module."""

ITEM_BYTES: Mapping[str, int] = MappingProxyType(
    {
        "float32": 4,
        "float16": 2,
        "bfloat16": 2,
        "float64": 8,
        "int64": 8,
        "int32": 4,
        "int16": 2,
        "int8": 1,
        "uint8": 1,
        "bool": 1,
        "float8_e4m3fn": 1,
        "float8_e5m2": 1,
        "uint16": 2,
        "uint32": 4,
        "uint64": 8,
        "complex32": 4,
        "complex64": 8,
        "complex128": 16,
    }
)
"""Bytes of one element, by dtype name."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Shape (elements), stride (elements) and dtype of a tensor; shared by all tensors that look alike."""

    shape: tuple[Extent, ...]
    stride: tuple[Extent, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage: `layout`, starting `offset` elements into storage number `storage`."""

    layout: Layout
    storage: int
    offset: Extent = 0

    @property
    def shape(self) -> tuple[Extent, ...]:
        return self.layout.shape

    @property
    def dtype(self) -> str:
        return self.layout.dtype


@dataclass(frozen=True, slots=True)
class Storage:
    """A block of memory. All tensors that alias each other share one.

    `born` is the op that allocates it (-1: before the step), `died` the op after which eager PyTorch frees it
    (-1: before the first op, as last step's gradients; None: it outlives the step). `held` is the op until whose end
    the program itself (a variable, the autograd engine) keeps it, where that is longer than the ops that made its
    surroundings use it; what autograd saved is not in that, so it is what remains of the lifetime in a step that
    saves less (-1: no longer than its uses). `name` is that of the
    parameter, buffer, gradient, optimizer state or input it holds, empty otherwise.
    """

    size_bytes: Extent
    role: Role
    born: int
    died: int | None
    name: str = ""
    held: int = -1


@dataclass(frozen=True, slots=True)
class Op:
    """One ATen call. Tensors are numbers into `Graph.tensors`.

    `name` is the ATen name (`aten::add_.Tensor`), `kind` what the work rules know it by (`add_`; the three parts
    of a convolution's backward have kinds of their own). `layer` is the module path whose forward made it, or
    whose forward op it differentiates (`<root>` for the outermost module, `<loss>` in the loss, empty for neither).
    `outputs` are the tensors it returns, in-place ones included; `mutates` the inputs it writes; `saved` the tensors
    autograd keeps from it for backward. `forward` is the op that this one differentiates. `runs` is the expected
    number of executions per presented mini-batch.
    """

    name: str
    kind: str
    phase: Phase
    layer: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    mutates: tuple[int, ...] = ()
    saved: tuple[int, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    forward: int | None = None
    runs: float = 1.0

    def but(self, attrs: Mapping[str, Any] | None = None, runs: float | None = None) -> Op:
        """Return the op with other attributes or runs; graphs have many ops, and `dataclasses.replace` is slow."""
        return Op(
            *(self.name, self.kind, self.phase, self.layer, self.inputs, self.outputs, self.mutates, self.saved),
            self.attrs if attrs is None else attrs,
            self.forward,
            self.runs if runs is None else runs,
        )


@dataclass(frozen=True, slots=True)
class Share:
    """A dimension that is a share of another one: how many instances of a batch go some way.

    size = round(share * size of `of`), at least 1. Where `varies`, the data decide from step to step how many it
    is: each instance goes with probability `share`, on its own (a binomial count), `size` is the expectation, and the
    most that can occur is all of `of`. Raises `TrainwattError` unless 0 < share <= 1.
    """

    of: str
    share: float
    varies: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise TrainwattError(f"a share of {self.share} of dimension {self.of!r}; a share is above 0 and at most 1")

    def size(self, whole: Any) -> Any:
        """Return the size of the share of `whole`, an int or an array of ints (halves round up)."""
        if isinstance(whole, int):
            return max(1, math.floor(self.share * whole + 0.5))
        return np.maximum(1, np.floor(self.share * whole + 0.5).astype(np.int64))


@dataclass(frozen=True, slots=True)
class Untraceable:
    """Why a step cannot run at some batch size, in one line."""

    reason: str


_CHECKED: deque[tuple[object, object, object]] = deque(maxlen=8)
"""Ops, tensors and storages of the last graphs checked: re-batched or with another `meta` they stay valid."""


@dataclass(frozen=True, slots=True)
class Graph:
    """One training step.

    `sizes` binds the shared dimensions, `batch` first of all. Those named in `shares` follow from others, in that
    order; where `sizes` gives them no value of their own, construction binds them. The graph holds for every batch
    of at least `smallest_batch`. Where PyTorch does other things at batch 1 (layouts of size-1 dimensions), `other`
    is the graph of that form, or says why there is none.

    Raises `TrainwattError` on construction where an op, tensor or storage number points nowhere.
    """

    ops: tuple[Op, ...]
    tensors: tuple[Tensor, ...]
    storages: tuple[Storage, ...]
    sizes: Mapping[str, int]
    meta: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    smallest_batch: int = 1
    other: Graph | Untraceable | None = None
    shares: Mapping[str, Share] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if any(name not in self.sizes for name in self.shares):
            object.__setattr__(self, "sizes", MappingProxyType({**self.bound(self.sizes), **self.sizes}))
        parts = (self.ops, self.tensors, self.storages)
        if not any(all(map(operator.is_, parts, seen)) for seen in _CHECKED):
            self._check()
            _CHECKED.append(parts)

    def _check(self) -> None:
        n_ops, n_tensors, n_storages = len(self.ops), len(self.tensors), len(self.storages)
        used = {t for op in self.ops for ids in (op.inputs, op.outputs, op.mutates, op.saved) for t in ids}
        if used and not 0 <= min(used) <= max(used) < n_tensors:
            raise TrainwattError(f"an op names tensor {max(used)} or {min(used)}; there are {n_tensors}")
        for i, op in enumerate(self.ops):
            if op.forward is not None and not 0 <= op.forward < i:
                raise TrainwattError(f"op {i} ({op.name}) differentiates op {op.forward}; that is no earlier op")
        for i, tensor in enumerate(self.tensors):
            if not 0 <= tensor.storage < n_storages:
                raise TrainwattError(f"tensor {i} lies in storage {tensor.storage}; there are {n_storages}")
        for i, s in enumerate(self.storages):
            if not -1 <= s.born < n_ops or (s.died is not None and not s.born <= s.died < n_ops):
                raise TrainwattError(f"storage {i} lives from op {s.born} to {s.died}; there are {n_ops} ops")

    @property
    def batch(self) -> int:
        """The batch size that the graph is bound to: samples of one forward pass (of each, where they accumulate)."""
        return self.sizes["batch"]

    def rebatch(self, batch: int) -> Graph:
        """Return the same step at another batch size; nothing is traced again.

        Raises `TrainwattError` where the step does not exist at that size or the graph has no batch dimension.
        """
        if batch == self.sizes.get("batch"):
            return self
        if batch < 1:
            raise TrainwattError(f"batch {batch}; a batch has at least 1 sample")
        if fixed := self.meta.get("fixed_batch"):
            raise TrainwattError(f"no batch {batch} for a graph of fixed batch {self.batch} ({fixed}); trace it again")
        sizes = self.bound({**self.sizes, "batch": batch})
        if self.other is None or (batch > 1) == (self.smallest_batch > 1):
            return replace(self, sizes=sizes)
        if isinstance(self.other, Untraceable):
            raise TrainwattError(f"no step at batch {batch}; {self.other.reason}")
        sizes = self.other.bound({**self.other.sizes, "batch": batch})
        return replace(self.other, sizes=sizes, other=replace(self, other=None))

    def bound(self, sizes: Mapping[str, Any]) -> dict[str, Any]:
        """Return `sizes` (ints, or arrays of ints) with every share in it bound to its expectation."""
        found = dict(sizes)
        for name, share in self.shares.items():
            found[name] = share.size(found[share.of])
        return found

    def worst(self) -> Graph:
        """Return the step with every share that varies at the most that can occur: all of its whole."""
        sizes = dict(self.sizes)
        for name, share in self.shares.items():
            sizes[name] = sizes[share.of] if share.varies else share.size(sizes[share.of])
        return self if sizes == dict(self.sizes) else replace(self, sizes=MappingProxyType(sizes))

    def concrete(self) -> Graph:
        """Return the graph with every number evaluated at its sizes: all extents are ints, nothing re-batches."""
        sizes = self.sizes
        layouts: dict[Layout, Layout] = {}
        attrs = {id(op.attrs): op.attrs for op in self.ops}  # many ops share one table
        evaluated = {key: evaluate_attrs(table, sizes) for key, table in attrs.items()}

        def fixed(layout: Layout) -> Layout:
            if layout not in layouts:
                layouts[layout] = Layout(
                    tuple(evaluate(e, sizes) for e in layout.shape),
                    tuple(evaluate(e, sizes) for e in layout.stride),
                    layout.dtype,
                )
            return layouts[layout]

        return replace(
            self,
            ops=tuple(replace(op, attrs=evaluated[id(op.attrs)]) for op in self.ops),
            tensors=tuple(Tensor(fixed(t.layout), t.storage, evaluate(t.offset, sizes)) for t in self.tensors),
            storages=tuple(replace(s, size_bytes=evaluate(s.size_bytes, sizes)) for s in self.storages),
            meta={**self.meta, "fixed_batch": "its numbers were evaluated"},
            other=None,
        )


def evaluate_attrs(attrs: Any, sizes: Mapping[str, Any]) -> Any:
    """Return attributes with every extent in them evaluated at `sizes`."""
    if isinstance(attrs, Mapping):
        return {name: evaluate_attrs(value, sizes) for name, value in attrs.items()}
    if isinstance(attrs, list | tuple):
        return tuple(evaluate_attrs(value, sizes) for value in attrs)
    if isinstance(attrs, float | bool | str) or attrs is None:
        return attrs
    return evaluate(attrs, sizes)
