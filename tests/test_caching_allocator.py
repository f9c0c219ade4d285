"""PyTorch's CUDA caching allocator: sizes by hand, and what holds for any sequence of requests."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from simulator.allocators.caching import MIB, CachingAllocator, rounded, segment_bytes
from simulator.allocators.replaying import replay_steps
from simulator.graph import Graph
from simulator.memory import replay


def test_sizes_follow_the_rules() -> None:
    assert [rounded(n) for n in (1, 512, 513)] == [512, 512, 1024]
    # small segment up to 1 MiB, 20 MiB below 10 MiB, own segment in steps of 2 MiB from there
    assert [segment_bytes(n) // MIB for n in (512, MIB, MIB + 512, 10 * MIB - 512, 10 * MIB, 11 * MIB)] == [
        2,
        2,
        20,
        20,
        10,
        12,
    ]


def test_small_requests_share_a_segment_and_large_ones_have_their_own() -> None:
    allocator = CachingAllocator()
    for _ in range(4):
        allocator.allocate(MIB // 2)
    assert (allocator.allocated, allocator.reserved) == (2 * MIB, 2 * MIB)
    allocator.allocate(1)
    assert allocator.reserved == 4 * MIB
    allocator.allocate(33 * MIB)
    assert allocator.reserved == (4 + 34) * MIB


def test_a_freed_block_is_used_again_and_neighbours_merge() -> None:
    allocator = CachingAllocator()
    blocks = [allocator.allocate(5 * MIB) for _ in range(4)]
    assert allocator.reserved == 20 * MIB
    for block in (blocks[0], blocks[2], blocks[1], blocks[3]):
        allocator.release(block)
    # 20 MiB in one piece again: a request below 10 MiB finds room, twice
    allocator.allocate(9 * MIB)
    allocator.allocate(9 * MIB)
    assert (allocator.allocated, allocator.reserved) == (18 * MIB, 20 * MIB)


def test_what_remains_of_a_large_block_is_split_off_only_above_one_mebibyte() -> None:
    allocator = CachingAllocator()
    block = allocator.allocate(11 * MIB)  # a segment of 12 MiB: 1 MiB remains, too little
    assert block is not None
    assert block.size == 12 * MIB


def test_unused_segments_are_given_back_before_memory_is_out() -> None:
    allocator = CachingAllocator(limit_bytes=40 * MIB)
    allocator.release(allocator.allocate(30 * MIB))
    allocator.allocate(36 * MIB)
    assert (allocator.reserved, allocator.out_of_memory) == (36 * MIB, False)
    allocator.allocate(36 * MIB)
    assert allocator.out_of_memory


@given(st.lists(st.tuples(st.integers(0, 40 * MIB), st.integers(0, 30)), max_size=60))
def test_reserved_covers_allocated_and_everything_can_be_freed(requests: list[tuple[int, int]]) -> None:
    allocator = CachingAllocator()
    held = []
    for size, freed in requests:
        held.append(allocator.allocate(size))
        if freed < len(held):
            allocator.release(held.pop(freed))
        in_use = [block for block in held if block is not None]
        assert allocator.allocated == sum(block.size for block in in_use) <= allocator.reserved
        spans = sorted((block.address, block.address + block.size) for block in in_use)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    for block in held:
        allocator.release(block)
    assert allocator.allocated == 0


def test_a_replayed_step_needs_at_least_its_live_tensors(step: Graph) -> None:
    reserved = replay_steps(step)
    assert replay(step).peak_bytes <= reserved.allocated_bytes <= reserved.reserved_bytes
    assert not reserved.out_of_memory
    assert replay_steps(step, limit_bytes=MIB).out_of_memory
