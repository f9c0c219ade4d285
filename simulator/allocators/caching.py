"""PyTorch's CUDA caching allocator, replayed.

A request is rounded up to 512 bytes and served from the smallest free block that holds it. Requests of at most 1 MiB
share segments of 2 MiB; requests below 10 MiB share segments of 20 MiB; larger ones get a segment of their own, rounded
up to 2 MiB. A free block is split where what remains is worth it (512 bytes in small segments, more than 1 MiB in large
ones), and merged with free neighbours when freed. Segments stay with the process: that is what is reserved. When the
device has no room for a segment, unused segments are given back, and the request is tried again.

Source of the rules: c10/cuda/CUDACachingAllocator.cpp of PyTorch (constants kMinBlockSize, kSmallSize, kSmallBuffer,
kLargeBuffer, kMinLargeAlloc, kRoundLarge; functions round_size, get_allocation_size, should_split, best fit by size and
then address), unchanged in these points from version 1.4 to 2.13 with default settings.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field

MIB = 2**20
_GRAIN = 512
_SMALL = MIB
_SMALL_SEGMENT = 2 * MIB
_MIDDLE_SEGMENT = 20 * MIB
_LARGE = 10 * MIB
_LARGE_GRAIN = 2 * MIB


@dataclass(eq=False, slots=True)
class Block:
    """A piece of a segment, `size` bytes at `address`, with its neighbours in the segment."""

    address: int
    size: int
    small: bool
    free: bool = False
    before: Block | None = None
    after: Block | None = None


@dataclass
class CachingAllocator:
    """The state of the allocator: bytes `allocated` in blocks in use, `reserved` in segments, and the peaks of both.

    `limit_bytes` is what the device can give; None for no limit. `out_of_memory` is set once a request had no room.
    """

    limit_bytes: float | None = None
    allocated: int = 0
    reserved: int = 0
    peak_allocated: int = 0
    peak_reserved: int = 0
    out_of_memory: bool = False
    _free: dict[bool, list[tuple[int, int, Block]]] = field(default_factory=lambda: {True: [], False: []})
    _end: int = 0

    def allocate(self, size_bytes: int) -> Block | None:
        """Return a block for a request; None for a request of nothing, which takes nothing."""
        if size_bytes == 0:
            return None
        size = rounded(size_bytes)
        small = size <= _SMALL
        block = self._fitting(size, small) or self._segment(size, small)
        if block.size - size >= _GRAIN if small else block.size - size > _SMALL:
            rest = Block(block.address + size, block.size - size, small, True, block, block.after)
            if block.after is not None:
                block.after.before = rest
            block.after, block.size = rest, size
            self._insert(rest)
        block.free = False
        self.allocated += block.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return block

    def release(self, block: Block | None) -> None:
        """Take a block back."""
        if block is None:
            return
        self.allocated -= block.size
        block.free = True
        for neighbour in (block.before, block.after):
            if neighbour is not None and neighbour.free:
                self._take(neighbour)
                block = _merged(block, neighbour)
        self._insert(block)

    def _fitting(self, size: int, small: bool) -> Block | None:
        pool = self._free[small]
        at = bisect_left(pool, (size, -1))
        return pool.pop(at)[2] if at < len(pool) else None

    def _segment(self, size: int, small: bool) -> Block:
        segment = segment_bytes(size)
        if self.limit_bytes is not None and self.reserved + segment > self.limit_bytes:
            self._give_back()
            self.out_of_memory |= self.reserved + segment > self.limit_bytes
        block = Block(self._end, segment, small)
        self._end += segment
        self.reserved += segment
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        return block

    def _give_back(self) -> None:
        """Return segments that no block is used of to the device."""
        for small, pool in self._free.items():
            whole = [entry for entry in pool if entry[2].before is None and entry[2].after is None]
            self.reserved -= sum(size for size, _, _ in whole)
            self._free[small] = [entry for entry in pool if entry not in whole]

    def _insert(self, block: Block) -> None:
        insort(self._free[block.small], (block.size, block.address, block))

    def _take(self, block: Block) -> None:
        pool = self._free[block.small]
        del pool[bisect_left(pool, (block.size, block.address))]


def rounded(size_bytes: int) -> int:
    """Return the size of the block that a request of so many bytes takes."""
    return -(-size_bytes // _GRAIN) * _GRAIN


def segment_bytes(size: int) -> int:
    """Return the size of the segment that is taken from the device for a block of `size` bytes."""
    if size <= _SMALL:
        return _SMALL_SEGMENT
    if size < _LARGE:
        return _MIDDLE_SEGMENT
    return -(-size // _LARGE_GRAIN) * _LARGE_GRAIN


def _merged(a: Block, b: Block) -> Block:
    """Return two neighbours as one block."""
    first, second = (a, b) if a.address < b.address else (b, a)
    first.size += second.size
    first.after = second.after
    if second.after is not None:
        second.after.before = first
    first.free = True
    return first
