"""Peak memory against sums made by hand and against a replay that is too simple to be wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import TrainwattError
from simulator.extent import evaluate, symbol
from simulator.graph import Graph, Op, Role, Storage, Untraceable
from simulator.memory import peaks, replay, storage_bytes

# The hand-made step at batch b, in bytes. Always there: parameters 4*(108+4+2560+10) = 10728, momentum too,
# the loss sum 4, images 4*3*64*b = 768b, targets 8b.
#   op 1 (relu):                + conv 1024b + relu 1024b
#   op 14 (threshold_backward): + relu 1024b + its gradient 1024b + result 1024b + logits 40b + loss 4
#                               + gradients of the linear layer 10240 + 40
#   op 16 (grad_bias):          + result 1024b + logits 40b + loss 4 + all gradients 10728
PERSISTENT, PER_SAMPLE = 2 * 10728 + 4, 776


def test_the_peak_of_the_hand_made_step_is_its_hand_made_sum(step: Graph) -> None:
    memory = replay(step)
    assert memory.live_bytes[1] == PERSISTENT + (PER_SAMPLE + 2048) * 4
    assert memory.live_bytes[16] == PERSISTENT + (PER_SAMPLE + 1064) * 4 + 10732
    assert memory.peak_bytes == PERSISTENT + (PER_SAMPLE + 3112) * 4 + 10284 == 47296
    assert memory.peak_op == 14


def test_the_peak_is_split_by_role_to_the_byte(step: Graph) -> None:
    assert dict(replay(step).by_role) == {
        "parameter": 10728,
        "buffer": 4,
        "optimizer-state": 10728,
        "gradient": 10280,
        "input": 4 * 776,
        "saved": 4 * 1024,
        "activation": 4 * 40 + 4,
        "temporary": 4 * 2048,
    }


def test_the_largest_holders_come_first_and_say_who_made_them(step: Graph) -> None:
    holders = replay(step.rebatch(100)).holders
    assert [h.size_bytes for h in holders] == [102400, 102400, 102400, 76800, 10240]
    assert [(h.op, h.layer) for h in holders[:3]] == [(1, "relu"), (10, "fc"), (14, "relu")]
    assert (holders[3].name, holders[3].op) == ("input0", -1)


def test_gradients_of_the_last_step_are_gone_before_the_first_op(step: Graph) -> None:
    # 10728 bytes of old gradients die at -1; op 0 holds the persistent bytes, the batch and the conv's output
    assert replay(step).live_bytes[0] == PERSISTENT + (PER_SAMPLE + 1024) * 4


def test_what_outlives_the_step_is_persistent_and_its_own_gradients_are_not(step: Graph) -> None:
    assert replay(step).persistent_bytes == PERSISTENT + PER_SAMPLE * 4


def test_workspace_adds_to_its_op_only_and_can_move_the_peak(step: Graph) -> None:
    workspace = np.zeros(30, dtype=np.int64)
    workspace[0] = 40_000
    memory = replay(step, workspace)
    assert (memory.peak_op, memory.workspace_bytes) == (0, 40_000)
    assert memory.peak_bytes == 28660 + 40_000
    assert sum(memory.by_role.values()) == 28660
    assert memory.live_bytes[14] == 47296


def test_workspace_of_another_graph_is_refused(step: Graph) -> None:
    with pytest.raises(TrainwattError, match="30 ops"):
        replay(step, np.zeros(29, dtype=np.int64))


def test_expected_runs_do_not_change_the_peak(step: Graph) -> None:
    rarer = replace(step, ops=tuple(replace(op, runs=0.25) for op in step.ops))
    assert replay(rarer).peak_bytes == replay(step).peak_bytes


def test_a_graph_without_ops_holds_what_is_persistent() -> None:
    graph = Graph(
        (),
        (),
        (Storage(symbol("batch") * 3, "input", -1, None), Storage(9, "gradient", -1, -1)),
        {"batch": 5},
    )
    memory = replay(graph)
    assert (memory.peak_bytes, memory.peak_op, len(memory.live_bytes)) == (15, -1, 0)
    assert peaks(graph, [1, 2]).tolist() == [3, 6]


def test_peaks_at_many_batches_are_the_hand_made_line(step: Graph) -> None:
    batches = np.array([1, 2, 64, 10_000])
    assert peaks(step, batches).tolist() == (31744 + 3888 * batches).tolist()


def test_batch_one_takes_its_peak_from_the_graph_of_its_own(step: Graph) -> None:
    single = replace(step, storages=(*step.storages, Storage(1000, "temporary", 14, 14)), sizes={"batch": 1})
    graph = replace(step, smallest_batch=2, other=single)
    assert peaks(graph, [1, 2]).tolist() == [31744 + 3888 + 1000, 31744 + 2 * 3888]


def test_a_batch_without_a_step_has_no_peak(step: Graph) -> None:
    graph = replace(step, smallest_batch=2, other=Untraceable("batch norm needs two values"))
    with pytest.raises(TrainwattError, match="needs two values"):
        peaks(graph, [4, 1])
    with pytest.raises(TrainwattError, match="at least 1"):
        peaks(step, [4, 0])


@st.composite
def random_graphs(draw: st.DrawFn) -> Graph:
    count = draw(st.integers(1, 12))
    storages = []
    for _ in range(draw(st.integers(0, 15))):
        born = draw(st.integers(-1, count - 1))
        died = draw(st.none() | st.integers(born, count - 1))
        # sizes are affine in the batch, or in the batch times another dimension, and never negative
        size = draw(st.integers(0, 50)) + symbol("batch") * draw(st.integers(0, 50))
        size = (
            size
            + symbol("width") * draw(st.integers(0, 9))
            + symbol("batch") * symbol("width") * draw(st.integers(0, 9))
        )
        role: Role = draw(st.sampled_from(["saved", "temporary", "gradient"]))
        storages.append(Storage(size, role, born, died))
    ops = tuple(Op("aten::op", "op", "forward", "", (), ()) for _ in range(count))
    return Graph(ops, (), tuple(storages), {"batch": draw(st.integers(1, 40)), "width": draw(st.integers(1, 9))})


def naive_live(graph: Graph) -> list[int]:
    """The definition, word by word."""
    return [
        sum(
            evaluate(s.size_bytes, graph.sizes)
            for s in graph.storages
            if s.born <= i and (s.died is None or i <= s.died)
        )
        for i in range(len(graph.ops))
    ]


@given(random_graphs())
def test_the_replay_agrees_with_the_definition(graph: Graph) -> None:
    memory, live = replay(graph), naive_live(graph)
    assert memory.live_bytes.tolist() == live
    assert memory.peak_bytes == max(live) == sum(memory.by_role.values())
    assert live[memory.peak_op] == max(live)
    assert storage_bytes(graph).tolist() == [evaluate(s.size_bytes, graph.sizes) for s in graph.storages]


@given(random_graphs(), st.lists(st.integers(1, 10_000), min_size=1, max_size=8))
def test_peaks_at_many_batches_agree_with_one_replay_each(graph: Graph, batches: list[int]) -> None:
    assert peaks(graph, batches).tolist() == [max(naive_live(graph.rebatch(b))) for b in batches]
