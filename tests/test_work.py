"""The work table: rows shared by like ops, many batch sizes and many graphs at once, operands read once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hwmodels.device import device
from simulator.errors import TrainwattError
from simulator.graph import Graph, Layout, Op, Storage, Tensor
from simulator.work import Nest, stack, work_of
from workloads.tracer import trace

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def graphs() -> tuple[Graph, ...]:
    return trace("resnet8-cifar", batch=8), trace("lenet5", batch=4, optimizer="adam", precision="bf16")


def test_the_like_blocks_of_a_deep_network_share_rows() -> None:
    shallow, deep = (trace(f"resnet{depth}-cifar", batch=8) for depth in (20, 56))
    rows = [len(work_of(graph).kernel) for graph in (shallow, deep)]
    assert len(deep.ops) > 2.5 * len(shallow.ops)
    assert rows[0] == rows[1]


def test_many_batch_sizes_at_once_are_each_of_them_alone(graphs: tuple[Graph, ...]) -> None:
    batches = [2, 8, 64, 512]
    together = work_of(graphs[0], batches)
    for point, batch in enumerate(batches):
        alone = work_of(graphs[0].rebatch(batch))
        for name in ("macs", "flops", "read_bytes", "written_bytes"):
            assert np.array_equal(getattr(together, name)[:, point], getattr(alone, name)), name


def test_a_batch_with_a_graph_of_its_own_is_priced_alone(graphs: tuple[Graph, ...]) -> None:
    with pytest.raises(TrainwattError, match="batch 1 has a graph of its own"):
        work_of(graphs[0], [1, 2])


@pytest.mark.parametrize("batches", [None, [2, 16]])
def test_stacked_graphs_are_priced_as_each_alone(graphs: tuple[Graph, ...], batches: list[int] | None) -> None:
    works = [work_of(graph, batches) for graph in graphs]
    nano = device("jetson-nano")
    both = nano.price(stack(works))
    alone = [nano.price(work) for work in works]
    assert np.allclose(both.latency_s, np.concatenate([cost.latency_s for cost in alone]), rtol=1e-12)
    assert np.allclose(both.energy_j, np.concatenate([cost.energy_j for cost in alone]), rtol=1e-12)
    stacked = stack(works)
    per_op = stacked.macs[stacked.row_of_op]
    assert np.array_equal(per_op, np.concatenate([work.macs[work.row_of_op] for work in works]))
    for name in Nest._fields:
        assert len(stacked.nest[name]) == sum(len(work.kernel) for work in works)


def test_tables_of_different_points_do_not_stack(graphs: tuple[Graph, ...]) -> None:
    with pytest.raises(TrainwattError, match="different points"):
        stack([work_of(graphs[0]), work_of(graphs[1], [2, 3])])
    with pytest.raises(TrainwattError, match="at least one"):
        stack([])


def _multiplication(left: int, right: int) -> Graph:
    layout = Layout((10,), (1,), "float32")
    return Graph(
        (Op("aten::mul.Tensor", "mul", "forward", "", (left, right), (2,)),),
        tuple(Tensor(layout, i) for i in range(3)),
        tuple(Storage(40, "activation", min(i, 0), None) for i in range(3)),
        {"batch": 1},
    )


def test_an_operand_given_twice_is_read_once() -> None:
    # x * y reads 2 x 40 bytes, x * x reads 40; both write 40
    assert work_of(_multiplication(0, 1)).read_bytes.tolist() == [80]
    assert work_of(_multiplication(0, 0)).read_bytes.tolist() == [40]


def test_an_op_without_a_rule_stops_or_is_listed() -> None:
    layout = Layout((10,), (1,), "float32")
    graph = Graph(
        (Op("aten::frobnicate", "frobnicate", "forward", "layer7", (0,), (0,)),),
        (Tensor(layout, 0),),
        (Storage(40, "input", -1, None),),
        {"batch": 1},
    )
    with pytest.raises(TrainwattError, match=r"no work rule for op 'frobnicate' \(aten::frobnicate in layer7\)"):
        work_of(graph)
    listed = work_of(graph, unknown="list")
    assert listed.missing == ("frobnicate",)
    assert listed.total(listed.flops) == 0
