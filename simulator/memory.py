"""Peak memory from the lifetimes of storages, exact to the byte.

live(i) = sum of size(s) over storages s with born(s) <= i and (died(s) is None or i <= died(s)), plus the
workspace of op i; the peak is the maximum over i. Allocator rounding and fragmentation are not part of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from types import MappingProxyType
from typing import Any

import numpy as np

from simulator.errors import TrainwattError
from simulator.extent import Monomial, Poly
from simulator.graph import ROLES, Graph, Storage
from simulator.work import Ints


@dataclass(frozen=True, slots=True)
class Holder:
    """A storage that is live at the peak. `op` made it (-1: it is older than the step), in `layer`."""

    name: str
    role: str
    size_bytes: int
    op: int
    op_kind: str
    layer: str


@dataclass(frozen=True)
class Memory:
    """The memory of one step, in bytes.

    `peak_bytes` is reached first at op `peak_op` (-1 in a graph without ops). `live_bytes`, shape (ops,), is
    what is held while each op runs, workspace included. `by_role` splits the peak, without
    `workspace_bytes`, by what the storages hold; `holders` are the five largest storages at the peak.
    `persistent_bytes` is what lives before, through and after the step (parameters, buffers, optimizer
    state, the batch).
    """

    peak_bytes: int
    peak_op: int
    live_bytes: Ints
    by_role: Mapping[str, int]
    workspace_bytes: int
    persistent_bytes: int
    holders: tuple[Holder, ...]


@dataclass(frozen=True, slots=True)
class _Columns:
    """Storages in columns. Sizes are `coefficients` (storages, monomials) @ the values of `monomials`.

    `born` is clipped to 0 and `end` is the first op after the storage's death; both index the ops.
    """

    monomials: tuple[Monomial, ...]
    coefficients: Ints
    born: Ints
    end: Ints
    role: Ints
    persistent: Ints


def _remembered(
    derive: Callable[[tuple[Storage, ...]], _Columns],
) -> Callable[[tuple[Storage, ...]], _Columns]:
    """Remember the columns of the last 32 graphs.

    Re-batching a graph keeps its tuple of storages, so the tuple's identity is the key; comparing or hashing
    two thousand storages by value would take longer than the replay.
    """
    last: OrderedDict[int, tuple[tuple[Storage, ...], _Columns]] = OrderedDict()

    @wraps(derive)
    def columns(storages: tuple[Storage, ...]) -> _Columns:
        found = last.get(id(storages))
        if found is None:
            # Keeping the tuple itself means that its id cannot come to belong to another one.
            found = last[id(storages)] = (storages, derive(storages))
            if len(last) > 32:
                last.popitem(last=False)
        return found[1]

    return columns


@_remembered
def _columns(storages: tuple[Storage, ...]) -> _Columns:
    never = np.iinfo(np.int64).max
    number: dict[Monomial, int] = {(): 0}
    rows: list[tuple[int, int, int]] = []
    for i, storage in enumerate(storages):
        terms = storage.size_bytes.terms if isinstance(storage.size_bytes, Poly) else (((), storage.size_bytes),)
        for monomial, coefficient in terms:
            rows.append((i, number.setdefault(monomial, len(number)), coefficient))
    coefficients = np.zeros((len(storages), len(number)), dtype=np.int64)
    if rows:
        i, j, value = np.array(rows, dtype=np.int64).T
        coefficients[i, j] = value
    born = np.array([s.born for s in storages], dtype=np.int64)
    end = np.array([never if s.died is None else s.died + 1 for s in storages], dtype=np.int64)
    code = {role: k for k, role in enumerate(ROLES)}
    return _Columns(
        monomials=tuple(number),
        coefficients=coefficients,
        born=np.maximum(born, 0),
        end=end,
        role=np.array([code[s.role] for s in storages], dtype=np.int64),
        persistent=np.flatnonzero((born == -1) & (end == never)),
    )


def _values(monomials: Sequence[Monomial], sizes: Mapping[str, int]) -> Ints:
    """Return the value of each monomial, shape (monomials,)."""
    values = np.ones(len(monomials), dtype=np.int64)
    for k, monomial in enumerate(monomials):
        for name in monomial:
            values[k] *= sizes[name]
    return values


def storage_bytes(graph: Graph) -> Ints:
    """Return the size of every storage at the graph's sizes, in bytes, shape (storages,)."""
    columns = _columns(graph.storages)
    return columns.coefficients @ _values(columns.monomials, graph.sizes)


def _live(columns: _Columns, amounts: Ints, ops: int) -> Ints:
    """Return the sum of `amounts` (storages, ...) over what is live in each op, shape (ops, ...)."""
    change = np.zeros((ops + 1, *amounts.shape[1:]), dtype=np.int64)
    _add(change, columns.born, amounts)
    _add(change, np.minimum(columns.end, ops), -amounts)
    live: Ints = np.cumsum(change[:-1], axis=0)
    return live


def _add(sums: Ints, at: Ints, amounts: Ints) -> None:
    """Add rows of `amounts` to the rows `at` of `sums`, in place; a row may be named several times."""
    order = np.argsort(at, kind="stable")
    places = at[order]
    first = np.flatnonzero(np.diff(places, prepend=-1))
    if first.size:
        sums[places[first]] += np.add.reduceat(amounts[order], first, axis=0)


def replay(graph: Graph, workspace_bytes: Ints | None = None) -> Memory:
    """Replay one step of `graph` and return its memory.

    `workspace_bytes`, shape (ops,), is what kernels allocate inside each op beyond the graph's storages. How
    often an op is expected to run does not matter: a step that does run needs all its memory. Raises
    `TrainwattError` where the workspace is not one number per op.
    """
    ops = len(graph.ops)
    if workspace_bytes is not None and workspace_bytes.shape != (ops,):
        raise TrainwattError(f"workspace of shape {workspace_bytes.shape}; the graph has {ops} ops")
    columns, size = _columns(graph.storages), storage_bytes(graph)
    persistent = int(size[columns.persistent].sum())
    if not ops:
        live, peak_op, here = size[:0], -1, columns.persistent
    else:
        live = _live(columns, size, ops)
        if workspace_bytes is not None:
            live = live + workspace_bytes
        peak_op = int(np.argmax(live))
        here = np.flatnonzero((columns.born <= peak_op) & (peak_op < columns.end))
    by_role = np.zeros(len(ROLES), dtype=np.int64)
    np.add.at(by_role, columns.role[here], size[here])
    largest = here[np.argsort(-size[here], kind="stable")[:5]]
    return Memory(
        peak_bytes=int(live[peak_op]) if ops else persistent,
        peak_op=peak_op,
        live_bytes=live,
        by_role=MappingProxyType({role: int(held) for role, held in zip(ROLES, by_role, strict=True) if held}),
        workspace_bytes=0 if workspace_bytes is None or not ops else int(workspace_bytes[peak_op]),
        persistent_bytes=persistent,
        holders=tuple(_holder(graph, int(i), int(size[i])) for i in largest if size[i]),
    )


def _holder(graph: Graph, i: int, size: int) -> Holder:
    storage = graph.storages[i]
    op = graph.ops[storage.born] if storage.born >= 0 else None
    return Holder(storage.name, storage.role, size, storage.born, op.kind if op else "", op.layer if op else "")


def held_bytes(graph: Graph, batches: Sequence[int] | Ints) -> Ints:
    """Return what is live in each op (without workspace) at each of `batches`, in bytes, shape (ops, batches).

    Shares that vary are at the most that can occur. `graph` must be of the form that steps of all `batches` have.
    """
    columns = _columns(graph.storages)
    sizes = worst_sizes(graph, np.asarray(batches, dtype=np.int64))
    values = np.ones((len(columns.monomials), len(batches)), dtype=np.int64)
    for k, monomial in enumerate(columns.monomials):
        for name in monomial:
            values[k] *= sizes[name]
    # What is live is a sum over storages: summed by monomial first, as there are fewer of them than batch sizes.
    return _live(columns, columns.coefficients, len(graph.ops)) @ values


def worst_sizes(graph: Graph, batches: Ints) -> dict[str, Any]:
    """Return the graph's sizes at each of `batches`, shape (batches,), with every share that varies at its most."""
    sizes: dict[str, Any] = {**graph.sizes, "batch": batches}
    for name, share in graph.shares.items():
        sizes[name] = sizes[share.of] if share.varies else share.size(sizes[share.of])
    return sizes


def peaks(graph: Graph, batches: Sequence[int] | Ints) -> Ints:
    """Return the peak memory of `graph` (without workspace) at each of `batches`, in bytes, shape (batches,).

    The memory held during an op is a polynomial in the batch size (a line, in most graphs), so the peak is
    the highest of a set of lines: exact, and no replay is repeated. Raises `TrainwattError` where the step
    does not exist at one of the batch sizes. Dimensions that are shares of the batch are rounded, so a graph with some
    is added up at each size, at the most that can occur.
    """
    wanted = np.asarray(batches, dtype=np.int64)
    found = np.zeros(wanted.shape, dtype=np.int64)
    # Rebatching checks the sizes and gives batch 1 its own graph, where it has one; the extremes stand
    # for the others.
    for places in (np.flatnonzero(wanted <= 1), np.flatnonzero(wanted > 1)):
        if len(places):
            graph.rebatch(int(wanted[places].min()))
            form = graph.rebatch(int(wanted[places].max()))
            if form.shares and form.ops:
                found[places] = held_bytes(form, wanted[places]).max(axis=0)
            else:
                found[places] = _peaks(form, wanted[places])
    return found


def _peaks(graph: Graph, batches: Ints) -> Ints:
    columns = _columns(graph.storages)
    # Bind every dimension but the batch: what remains is one coefficient for each power of the batch.
    powers = [sum(name == "batch" for name in monomial) for monomial in columns.monomials]
    rest = [tuple(name for name in monomial if name != "batch") for monomial in columns.monomials]
    by_power = np.zeros((len(columns.coefficients), max(powers) + 1), dtype=np.int64)
    for k, value in enumerate(_values(rest, graph.sizes)):
        by_power[:, powers[k]] += columns.coefficients[:, k] * value
    if graph.ops:
        lines = _live(columns, by_power, len(graph.ops))
        # A line that another one dominates in every coefficient is never the highest: no batch is negative.
        lines = lines[_undominated(lines)] if lines.shape[1] <= 2 else np.unique(lines, axis=0)
    else:
        lines = by_power[columns.persistent].sum(axis=0, keepdims=True)
    best = np.full(batches.shape, np.iinfo(np.int64).min, dtype=np.int64)
    for line in lines:
        height = np.zeros_like(batches)
        for coefficient in line[::-1]:
            height = height * batches + coefficient
        np.maximum(best, height, out=best)
    return best


def _undominated(lines: Ints) -> Ints:
    """Return which of the lines (lines, at most 2 powers), each once, no other line exceeds in all coefficients."""
    order = np.lexsort(tuple(lines.T))[::-1]  # steepest first, then highest
    below = np.maximum.accumulate(lines[order, 0])
    kept = np.ones(len(lines), dtype=bool)
    kept[1:] = lines[order[1:], 0] > below[:-1]
    return order[kept]
