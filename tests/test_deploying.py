"""What a runtime executes of a network: by hand on small graphs, and against the forward pass it is made of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from simulator.graph import Graph
from simulator.rewriting.compose import forward_only
from simulator.rewriting.deploying import Runtime, deployed
from simulator.work import work_of
from workloads import trace

SHAPE = (8, 8, 8)


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul(0.0)


def normalised() -> nn.Module:
    return nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))


class Branches(nn.Module):
    """y = main(x) + 0 * side(x), and twice the same pooling of x."""

    def __init__(self, between: bool) -> None:
        super().__init__()
        self.main, self.side, self.none = normalised(), normalised(), Nothing()
        self.between = between
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        side = self.side(x)
        y = self.main(x) + self.none(torch.tanh(side) if self.between else side)
        y = y + nn.functional.avg_pool2d(x, 3, 1, 1) + nn.functional.avg_pool2d(x, 3, 1, 1)
        return self.head(y.mean((2, 3)))


class Straight(nn.Module):
    """Convolution, batch norm, ReLU, mean, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = normalised(), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.first(x)).mean((2, 3)))


def traced(model: nn.Module, batch: int = 1) -> Graph:
    return trace(model, batch=batch, input_shape=SHAPE, classes=10, batch_norm="eval", rebatches=batch > 1)


@pytest.fixture(scope="module")
def branches() -> Graph:
    return traced(Branches(between=False))


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in graph.ops if op.kind not in ("view", "t")]


def test_norm_and_activation_are_part_of_the_convolution() -> None:
    assert kinds(deployed(traced(Straight()), Runtime())) == ["convolution", "mean", "addmm"]


@pytest.mark.parametrize(
    ("runtime", "convolutions", "products", "sums", "pools"),
    [
        # executed as it is traced: main, side, 0 * side, and three sums of four terms
        (Runtime("run", merges=False), 2, 1, 3, 2),
        (Runtime("run"), 2, 1, 3, 1),
        # 0 * side is a constant, so side is dead
        (Runtime("constant", merges=False), 1, 0, 3, 2),
        # and a sum with zero is none
        (Runtime("drop", merges=False), 1, 0, 2, 2),
        (Runtime("drop"), 1, 0, 2, 1),
        # zero goes into the weights of side, which alone is multiplied
        (Runtime("scale", merges=False), 2, 0, 3, 2),
    ],
)
def test_runtimes_differ_in_products_with_zero_and_equal_ops(
    branches: Graph, runtime: Runtime, convolutions: int, products: int, sums: int, pools: int
) -> None:
    found = kinds(deployed(branches, runtime, zero="none"))
    counted = tuple(found.count(kind) for kind in ("convolution", "mul", "add", "avg_pool2d"))
    assert counted == (convolutions, products, sums, pools)


def test_zero_goes_into_no_weights_behind_another_op() -> None:
    found = kinds(deployed(traced(Branches(between=True)), Runtime("scale"), zero="none"))
    assert found.count("convolution") == 1
    assert "tanh" not in found


def test_a_product_is_with_zero_only_where_it_is_said(branches: Graph) -> None:
    assert kinds(deployed(branches, Runtime("drop"))) == kinds(deployed(branches, Runtime("run")))


def test_nothing_is_kept_for_backward_and_no_parameter_that_nothing_takes(branches: Graph) -> None:
    graph = deployed(branches, Runtime("drop"), zero="none")
    assert not [op for op in graph.ops if op.saved or op.phase != "forward"]
    assert not [s.name for s in graph.storages if s.role in ("parameter", "buffer") and s.name.startswith("side")]


@pytest.mark.parametrize("zeros", ["run", "constant", "drop", "scale"])
def test_no_runtime_does_more_than_the_forward_pass(branches: Graph, zeros: str) -> None:
    before = work_of(forward_only(branches))
    for merges in (False, True):
        work = work_of(deployed(branches, Runtime(zeros, merges), zero="none"))  # type: ignore[arg-type]
        assert work.total(work.macs) <= before.total(before.macs)
        assert work.total(work.traffic_bytes) < before.total(before.traffic_bytes)


class Sums(nn.Module):
    """Two chains of ops over the same elements; the result of the first is pooled too."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = normalised(), normalised(), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        y += self.b(x)
        y = torch.tanh(nn.functional.relu(y, inplace=True) + x)
        y = nn.functional.avg_pool2d(y, 3, 1, 1) + (y + torch.sigmoid(y) * x)
        return self.head(y.mean((2, 3)))


def test_a_chain_of_ops_over_the_same_elements_is_one_op_that_reads_each_of_their_operands_once() -> None:
    graph = traced(Sums())
    apart, chained = (deployed(graph, Runtime(chains=chains)) for chains in (False, True))
    kept = ["convolution", "convolution", "avg_pool2d", "mean", "addmm"]
    assert sorted(kinds(apart)) == sorted([*kept, "add_", "relu_", "add", "tanh", "sigmoid", "mul", "add", "add"])
    assert kinds(chained) == ["convolution", "convolution", "add", "avg_pool2d", "add", "mean", "addmm"]
    first, second = (op for op in chained.ops if op.kind == "add")
    assert len(first.inputs) == 3  # a(x), b(x), x
    assert not first.mutates
    assert set(second.inputs) == {*first.outputs, *chained.ops[3].outputs, first.inputs[-1]}
    # Maps of 8 x 8 x 8 floats: 5 sums and products of 3 operands and 3 functions of 2 are two ops of 4 operands
    before, after = (work_of(g) for g in (apart, chained))
    saved = before.total(before.traffic_bytes) - after.total(after.traffic_bytes)
    assert saved == (5 * 3 + 3 * 2 - 2 * 4) * 4 * 8**3
    assert before.total(before.macs) == after.total(after.macs)


class Gated(nn.Module):
    """A map times the sigmoid of its means."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((torch.tanh(x) * torch.sigmoid(x.mean((2, 3), keepdim=True))).mean((2, 3)))


def test_an_op_over_fewer_elements_is_no_part_of_a_chain() -> None:
    found = kinds(deployed(traced(Gated()), Runtime(chains=True)))
    assert found == ["mean", "sigmoid", "mul", "mean", "addmm"]


@pytest.mark.parametrize("batch", [1, 4])
def test_a_deployed_graph_re_batches_like_the_one_that_it_is_made_of(batch: int) -> None:
    whole = deployed(traced(Straight(), batch=2), Runtime()).rebatch(batch)
    work, again = work_of(whole), work_of(deployed(traced(Straight(), batch), Runtime()))
    assert kinds(whole) == ["convolution", "mean", "addmm"]
    assert work.total(work.macs) == again.total(again.macs)
    assert work.total(work.traffic_bytes) == again.total(again.traffic_bytes)
