"""Frozen batch norm: the transform against the trace of the twin and of eval mode, and real steps."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.techniques import apply, parse
from tests.techniques.agreement import both, described, sums
from tests.techniques.real import losses, random_workload, real_step
from workloads import trace

SMALL = {"input_shape": (3, 64, 64)}
NETWORKS = [("resnet8-cifar", {}), ("vgg11-cifar", {}), ("mobilenetv2", SMALL), ("googlenet", SMALL)]


@pytest.fixture(scope="module")
def step() -> Graph:
    return trace("resnet8-cifar", batch=4)


@pytest.mark.parametrize(("network", "options"), NETWORKS)
@pytest.mark.parametrize("text", ["freeze-bn", "freeze-bn{affine=false}"])
def test_the_transform_is_the_trace_of_the_twin_op_by_op(text: str, network: str, options: dict[str, Any]) -> None:
    transformed, ran = both(text, network, batch=4, **options)
    assert described(transformed) == described(ran)
    assert sums(transformed) == sums(ran)  # peak memory and traffic to the byte


def test_freezing_all_norms_is_tracing_them_in_eval_mode(step: Graph) -> None:
    traced = trace("resnet8-cifar", batch=4, batch_norm="eval")
    assert described(apply(parse("freeze-bn"), step)) == described(traced)


@pytest.mark.parametrize(
    "text",
    [
        "freeze-bn{layers=layer1|layer2.0.bn1}",
        "freeze-bn{layers=*bn2,affine=false}",
        "freeze-bn{layers=layer1},freeze-bn{layers=layer2}",
        "freeze-bn{affine=false},sparse-update{last=2}",
        "sparse-update{last=2},freeze-bn{affine=false}",
        "sparse-update{parameters=biases},freeze-bn",
    ],
)
def test_some_norms_can_be_frozen_and_it_composes(text: str) -> None:
    transformed, ran = both(text, "resnet8-cifar", batch=4)
    assert described(transformed) == described(ran)
    assert sums(transformed) == sums(ran)


def test_no_statistics_are_updated_and_none_of_the_batch_are_saved(step: Graph) -> None:
    graph = apply(parse("freeze-bn"), step)
    changed = {graph.storages[graph.tensors[t].storage].role for op in graph.ops for t in op.mutates}
    assert "buffer" not in changed
    # mean and 1/std of the batch, 4 bytes each: 3 norms of 16 channels, 2 of 32 and 2 of 64
    assert sums(step).saved_bytes - sums(graph).saved_bytes == 2 * 4 * (3 * 16 + 2 * 32 + 2 * 64)


def test_without_affine_no_gradient_of_scale_or_shift_is_left(step: Graph) -> None:
    names = {s.name for s in apply(parse("freeze-bn{affine=false}"), step).storages if s.role == "gradient"}
    assert names == {s.name for s in step.storages if s.role == "gradient" and ".bn" not in f".{s.name}"}


def test_it_does_not_touch_its_input_and_commutes_with_rebatching(step: Graph) -> None:
    before = repr((step.ops, step.tensors, step.storages))
    technique = parse("freeze-bn{affine=false}")
    assert sums(apply(technique, step).rebatch(7)) == sums(apply(technique, step.rebatch(7)))
    assert repr((step.ops, step.tensors, step.storages)) == before


@pytest.mark.parametrize(
    ("text", "network", "reason"),
    [
        ("freeze-bn", "lenet5", "without batch norm in training mode"),
        ("freeze-bn,freeze-bn", "resnet8-cifar", "without batch norm in training mode"),
        ("freeze-bn{layers=bn7}", "resnet8-cifar", "no batch norms 'bn7'"),
    ],
)
def test_transform_and_twin_refuse_alike(text: str, network: str, reason: str) -> None:
    with pytest.raises(TrainwattError, match=reason):
        apply(parse(text), trace(network, batch=2))
    with pytest.raises(TrainwattError, match=reason):
        trace(network, batch=2, techniques=parse(text))


def test_a_real_step_leaves_the_statistics_and_the_affine_parameters_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))
    norm = copy.deepcopy(model[1].state_dict())
    found = losses(real_step("freeze-bn{affine=false}", random_workload(model, (3, 4, 4), 5), "sgd{lr=0.1}"), 30)
    assert found[-1] < found[0] / 2
    for key, value in model[1].state_dict().items():
        torch.testing.assert_close(value, norm[key])
