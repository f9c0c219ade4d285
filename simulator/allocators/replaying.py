"""Training steps replayed through the caching allocator."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from simulator.allocators.caching import Block, CachingAllocator
from simulator.graph import Graph
from simulator.memory import storage_bytes
from simulator.work import Ints


@dataclass(frozen=True)
class Reserved:
    """Peaks in bytes over the replayed steps: blocks in use, segments taken, and whether the device had room."""

    allocated_bytes: int
    reserved_bytes: int
    out_of_memory: bool


def replay_steps(
    graph: Graph,
    workspace_bytes: Ints | None = None,
    *,
    steps: int = 3,
    limit_bytes: float | None = None,
    keep_gradients: bool = False,
) -> Reserved:
    """Run `steps` training steps of `graph` through PyTorch's CUDA caching allocator and return the peaks.

    Parameters, buffers and inputs are there before the first step; optimizer state appears where the first step first
    uses it; gradients of one step are dropped when the next begins (`zero_grad`). `workspace_bytes`, shape (ops,), is
    taken while an op runs. Later steps find the segments of earlier ones, so reserved memory can still grow in them.

    `keep_gradients` is `zero_grad(set_to_none=False)`, the default up to PyTorch 1.13: gradients of the first step
    stay, later ones are added to them and freed at once.
    """
    size = [int(s) for s in storage_bytes(graph)]
    born: dict[int, list[int]] = defaultdict(list)
    died: dict[int, list[int]] = defaultdict(list)
    last = len(graph.ops) - 1
    late: dict[int, None] = {}
    before = []
    for i, storage in enumerate(graph.storages):
        if storage.born >= 0:
            born[storage.born].append(i)
            died[last + 1 if storage.died is None else storage.died].append(i)
        elif storage.role == "optimizer-state":
            late[i] = None
        elif storage.died is None:
            before.append(i)
    allocator = CachingAllocator(limit_bytes)
    for i in before:
        allocator.allocate(size[i])
    held: dict[int, Block | None] = {}
    kept = {i for i in died[last + 1] if keep_gradients and graph.storages[i].role == "gradient"}
    for step in range(steps):
        for i in died[last + 1]:
            if i in held and i not in kept:
                allocator.release(held.pop(i))
        for index, op in enumerate(graph.ops):
            if late:
                for tensor in op.inputs:
                    if (state := graph.tensors[tensor].storage) in late:
                        del late[state]
                        allocator.allocate(size[state])
            added = []
            for i in born.get(index, ()):
                block = allocator.allocate(size[i])
                if step and i in kept:
                    added.append(block)
                else:
                    held[i] = block
            if workspace_bytes is not None and workspace_bytes[index]:
                allocator.release(allocator.allocate(int(workspace_bytes[index])))
            for block in added:
                allocator.release(block)
            for i in died.get(index, ()):
                allocator.release(held.pop(i))
    return Reserved(allocator.peak_allocated, allocator.peak_reserved, allocator.out_of_memory)
