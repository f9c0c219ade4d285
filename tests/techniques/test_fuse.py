"""Folding batch norm: the transform against the trace of the twin, numbers by hand, and real outputs."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.techniques import apply, parse
from simulator.work import work_of
from tests.techniques.agreement import assert_agree, both, described, sums
from tests.techniques.real import random_workload, real_step
from workloads import trace
from workloads.training.evaluation import in_eval_mode

SMALL = {"input_shape": (3, 64, 64)}
NETWORKS = [("resnet8-cifar", {}), ("vgg11-cifar", {}), ("mobilenetv2", SMALL), ("resnet18", SMALL)]
FROZEN = "sparse-update{last=2},freeze-bn{affine=false}"


@pytest.fixture(scope="module")
def step() -> Graph:
    return trace("resnet8-cifar", batch=4)


@pytest.mark.parametrize(("network", "options"), NETWORKS)
@pytest.mark.parametrize("last", [2, 5])
def test_the_transform_is_the_trace_of_the_twin_op_by_op(network: str, options: dict[str, Any], last: int) -> None:
    text = f"sparse-update{{last={last}}},freeze-bn{{affine=false}},fuse"
    transformed, ran = both(text, network, batch=4, **options)
    assert described(transformed) == described(ran)
    assert sums(transformed) == sums(ran)  # peak memory and traffic to the byte


@pytest.mark.parametrize(
    "text",
    [
        "freeze-bn{affine=false},sparse-update{last=1},fuse",
        "sparse-update{last=2},freeze-bn,fuse",
        "sparse-update{layers=layer1},freeze-bn{affine=false},fuse",  # folded norms above, which gradients pass
        "sparse-update{layers=layer1.0.conv1},freeze-bn{affine=false},fuse,accumulate{steps=2}",
        "sparse-update{layers=layer1.0.conv1},freeze-bn{affine=false},accumulate{steps=2},fuse",
        "sparse-update{layers=layer1.0.conv1},freeze-bn{affine=false},fuse,recompute{segments=3}",
        "sparse-update{layers=layer1.0.conv1},freeze-bn{affine=false},recompute{segments=3},fuse",
        FROZEN + ",channels-last,fuse",
        FROZEN + ",fuse,channels-last",
    ],
)
def test_it_composes(text: str) -> None:
    transformed, ran = both(text, "resnet8-cifar", batch=4)
    assert_agree(transformed, ran)
    assert sums(transformed) == sums(ran)


def test_a_folded_norm_leaves_a_bias_and_nothing_else(step: Graph) -> None:
    before, after = (apply(parse(text), step) for text in (FROZEN, FROZEN + ",fuse"))
    names = [{s.name for s in graph.storages if s.role in ("parameter", "buffer")} for graph in (before, after)]
    assert names[1] - names[0] == {
        f"{conv}.bias" for conv in ("conv1", *(f"layer{i}.0.conv{j}" for i in (1, 2, 3) for j in (1, 2)))
    } - {"layer3.0.conv2.bias"}
    assert {name for name in names[0] - names[1] if "bn1" in name} == {name for name in names[0] if "bn1" in name}
    # only layer3.0.conv2, which is trained, keeps its norm
    assert [op.layer for op in after.ops if op.kind == "native_batch_norm"] == ["layer3.0.bn2"]


def test_macs_stay_and_a_fused_activation_saves_a_pass_over_memory(step: Graph) -> None:
    texts = (FROZEN, FROZEN + ",fuse", FROZEN + ",fuse{activation=true}")
    work = [work_of(apply(parse(text), step)) for text in texts]
    assert len({w.total(w.macs) for w in work}) == 1
    traffic = [w.total(w.traffic_bytes) for w in work]
    # of conv1 and the first convolution of each of three blocks; each ReLU reads and writes its map of 4 bytes a number
    maps = 4 * (2 * 16 * 32 * 32 + 32 * 16 * 16 + 64 * 8 * 8)
    assert traffic[0] > traffic[1]
    assert traffic[1] - traffic[2] == 2 * 4 * maps


def test_it_does_not_touch_its_input_and_commutes_with_rebatching(step: Graph) -> None:
    frozen = apply(parse(FROZEN), step)
    before = repr((frozen.ops, frozen.tensors, frozen.storages))
    technique = parse("fuse")
    assert sums(apply(technique, frozen).rebatch(7)) == sums(apply(technique, frozen.rebatch(7)))
    assert repr((frozen.ops, frozen.tensors, frozen.storages)) == before


@pytest.mark.parametrize(
    "text",
    [
        "fuse",
        "freeze-bn{affine=false},fuse",  # the convolutions are trained
        "sparse-update{last=1},fuse",  # the norms follow the batch
        FROZEN + ",fuse,fuse",
    ],
)
def test_transform_and_twin_refuse_alike_where_nothing_can_be_folded(text: str, step: Graph) -> None:
    with pytest.raises(TrainwattError, match="without a frozen convolution and a frozen batch norm after it"):
        apply(parse(text), step)
    with pytest.raises(TrainwattError, match="without a frozen convolution and a frozen batch norm after it"):
        trace("resnet8-cifar", batch=2, techniques=parse(text))


def test_a_fused_activation_has_no_twin() -> None:
    with pytest.raises(TrainwattError, match="no runnable form in eager PyTorch"):
        trace("resnet8-cifar", batch=2, techniques=parse(FROZEN + ",fuse{activation=true}"))


def test_a_result_that_something_else_takes_too_is_not_folded() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return self.head((self.bn(y) + y).mean((2, 3)))

    workload = random_workload(Twice(), (3, 5, 5), 5)
    with pytest.raises(TrainwattError, match="fuse on a model without"):
        real_step("sparse-update{last=1},freeze-bn,fuse", workload)
    graph = trace(random_workload(Twice(), (3, 5, 5), 5), batch=2)
    with pytest.raises(TrainwattError, match="fuse on a step without"):
        apply(parse("sparse-update{last=1},freeze-bn{affine=false},fuse"), graph)


def test_a_real_folded_model_computes_the_same() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))
    for _ in range(3):
        model(torch.randn(8, 3, 4, 4) * 2 + 1)  # statistics worth folding
    workload = random_workload(copy.deepcopy(model), (3, 4, 4), 5)
    step = real_step("sparse-update{last=1},freeze-bn{affine=false},fuse", workload)
    assert isinstance(workload.model[1], nn.Identity)
    with in_eval_mode(model), in_eval_mode(workload.model):
        torch.testing.assert_close(workload.model(workload.inputs(8)), model(workload.inputs(8)))
    assert step.run(workload.inputs(8), workload.targets(8)) is not None
