"""When storages are allocated and freed, derived from what ops use and what autograd saves.

Eager PyTorch frees a storage when nothing refers to it any more. Three things do:

    the ops that use it          until the last of them
    autograd, which saved it     until the last backward op of each op that saved it (its node then lets go)
    the program itself           until the op `Storage.held` (a variable; the engine, for gradients under way)

so died = the latest of these. The same rule gives back the frees observed in a trace, and gives those of a step that
was rewritten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from simulator.graph import Op, Storage, Tensor


def settle(ops: Sequence[Op], tensors: Sequence[Tensor], storages: Sequence[Storage]) -> tuple[Storage, ...]:
    """Return `storages` with `born` and `died` as `ops` make them.

    What was there before the step (`born` -1) stays so, and what outlives it (`died` None) or was freed before its
    first op (`died` -1) stays so too. A storage that no op makes or uses lives nowhere and keeps its numbers.
    """
    born: dict[int, int] = {}
    last: dict[int, int] = {}
    node_ends: dict[int, int] = {}
    for index, op in enumerate(ops):
        for tensor in (*op.inputs, *op.outputs, *op.mutates):
            used = tensors[tensor].storage
            born.setdefault(used, index)
            last[used] = index
        if op.forward is not None:
            node_ends[op.forward] = index
    for index, op in enumerate(ops):
        for tensor in op.saved:
            used = tensors[tensor].storage
            last[used] = max(last.get(used, -1), node_ends.get(index, -1))
    return tuple([_lived(storage, i, born, last) for i, storage in enumerate(storages)])


def _lived(storage: Storage, i: int, born: Mapping[int, int], last: Mapping[int, int]) -> Storage:
    begins = storage.born if storage.born < 0 else born.get(i, storage.born)
    ends = storage.died
    if ends is not None and ends >= 0 and i in last:
        ends = max(last[i], storage.held)
    if (begins, ends) == (storage.born, storage.died):
        return storage
    return Storage(storage.size_bytes, storage.role, begins, ends, storage.name, storage.held)
