"""Low-rank gradients: the transform, the runnable twin, and that they are the same step."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.memory import storage_bytes
from simulator.techniques import apply, parse
from simulator.work import work_of
from tests.techniques.agreement import assert_agree, both, described, sums
from tests.techniques.real import losses, random_workload, real_step
from workloads import trace
from workloads.catalog import build

SETTINGS: list[tuple[str, str, dict[str, Any]]] = [
    ("low-rank-gradient", "resnet8-cifar", {}),
    ("low-rank-gradient{rank=1,layers=layer2|fc}", "resnet8-cifar", {"optimizer": "adamw"}),
    ("low-rank-gradient{rank=8}", "mobilenetv2", {"optimizer": "adam", "input_shape": (3, 32, 32)}),
    ("low-rank-gradient{last=3}", "mobilenetv2", {"input_shape": (3, 32, 32)}),
    ("low-rank-gradient{rank=2,last=4}", "vgg11-cifar", {"optimizer": "adam"}),
    ("low-rank-gradient", "vgg11-cifar", {"optimizer": "sgd{momentum=0.9,nesterov=True,weight_decay=1e-4}"}),
    ("low-rank-gradient{rank=2}", "lenet5", {"optimizer": "rmsprop"}),
]


@pytest.mark.parametrize(("text", "network", "options"), SETTINGS)
def test_the_transform_is_the_trace_of_the_twin(text: str, network: str, options: dict[str, Any]) -> None:
    transformed, ran = both(text, network, **options)
    assert_agree(transformed, ran)
    assert described(transformed) == described(ran)
    assert sums(transformed).peak_bytes == sums(ran).peak_bytes


@pytest.mark.parametrize(
    "text",
    [
        "low-rank-gradient,sparse-update{last=3}",
        "sparse-update{last=3},low-rank-gradient",
        "low-rank-gradient,sparse-update{parameters=biases}",
        "smd{p=0.25},low-rank-gradient",
        "low-rank-gradient{last=4},smd{p=0.25,dropped_step=true}",
        "freeze-bn,low-rank-gradient",
    ],
)
def test_it_goes_with_other_techniques(text: str) -> None:
    transformed, ran = both(text, "resnet8-cifar", optimizer="adam")
    if "smd" in text:  # the trace of a step that runs shows no probabilities
        ran = apply([t for t in parse(text) if t.name == "smd"], ran)
    assert_agree(transformed, ran)


def two_layers() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 10))


def bytes_of(graph: Graph, role: str, part: str) -> int:
    sizes = storage_bytes(graph)
    return sum(int(sizes[i]) for i, s in enumerate(graph.storages) if s.role == role and part in s.name)


def test_macs_and_optimizer_state_by_hand() -> None:
    plain = trace(two_layers(), batch=4, input_shape=(3, 4, 4), classes=10, optimizer="adam")
    graph = apply(parse("low-rank-gradient{rank=3}"), plain)
    work = work_of(graph)
    # forward N m n; dgrad of the second layer; wgrad 2 N r (m + n), r = 3; merging 2 r m n.
    forward, dgrad = 4 * (32 * 48 + 10 * 32), 4 * 10 * 32
    wgrad, merging = 2 * 4 * 3 * ((32 + 48) + (10 + 32)), 2 * 3 * (32 * 48 + 10 * 32)
    assert work.total(work.macs) == forward + dgrad + wgrad + merging
    assert bytes_of(plain, "optimizer-state", "weight.exp_avg_sq") == 4 * (32 * 48 + 10 * 32)
    assert bytes_of(graph, "optimizer-state", "weight") == 2 * (4 * 3 * ((32 + 48) + (10 + 32)) + 4 * 2)
    assert bytes_of(graph, "gradient", "weight") == 4 * 3 * ((32 + 48) + (10 + 32))


def test_a_matrix_that_would_grow_keeps_its_gradient() -> None:
    graph = apply(parse("low-rank-gradient{rank=8}"), trace(two_layers(), batch=4, input_shape=(3, 4, 4), classes=10))
    assert bytes_of(graph, "gradient", "3.weight") == 4 * 10 * 32  # 8 (10 + 32) > 10 * 32
    assert bytes_of(graph, "gradient", "1.weight") == 4 * 8 * (32 + 48)


class Small(nn.Module):
    """A network with each kind of layer that takes part: convolutions of stride 2 and with bias, linear without."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.second = nn.Conv2d(8, 12, 3, dilation=2, padding=2, bias=False)
        self.last = nn.Linear(12, 10, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.second(self.first(x).relu()).relu().mean((2, 3)))  # type: ignore[no-any-return]


def test_factor_gradients_are_projections_of_the_gradient_that_pytorch_makes() -> None:
    torch.manual_seed(1)
    model = Small().double()
    x, y = torch.randn(5, 3, 9, 9, dtype=torch.float64), torch.randint(10, (5,))
    F.cross_entropy(model(x), y).backward()
    full = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    step = real_step("low-rank-gradient{rank=2}", random_workload(model, (3, 9, 9), 10))
    loss = step.workload.loss(model(x), y)
    loss.backward()
    for name in ("first", "second", "last"):
        layer: Any = model.get_submodule(name)
        g = full[f"{name}.weight"].flatten(1)
        u, v = layer.weight_up_direction.flatten(1), layer.weight_down_direction.flatten(1)
        torch.testing.assert_close(u.T @ u, torch.eye(2, dtype=torch.float64))
        torch.testing.assert_close(v @ v.T, torch.eye(2, dtype=torch.float64))
        torch.testing.assert_close(layer.weight_up.grad.flatten(1), g @ v.T)
        torch.testing.assert_close(layer.weight_down.grad.flatten(1), u.T @ g)
        assert layer.weight.grad is None
    torch.testing.assert_close(model.first.bias.grad, full["first.bias"])


def test_gradients_of_inputs_are_those_of_the_plain_network() -> None:
    torch.manual_seed(1)
    model = Small().double()
    x = torch.randn(5, 3, 9, 9, dtype=torch.float64, requires_grad=True)
    (plain,) = torch.autograd.grad(model(x).square().sum(), x)
    real_step("low-rank-gradient{rank=2}", random_workload(model, (3, 9, 9), 10))
    (factored,) = torch.autograd.grad(model(x).square().sum(), x)
    torch.testing.assert_close(factored, plain)


def test_a_step_moves_the_weight_by_both_projections_and_its_decay() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 10, bias=False)).double()
    x, y = torch.randn(4, 3, 2, 2, dtype=torch.float64), torch.randint(10, (4,))
    weight = model[1].weight
    (g,) = torch.autograd.grad(F.cross_entropy(model(x), y), weight)
    before = weight.detach().clone()
    step = real_step("low-rank-gradient{rank=2}", random_workload(model, (3, 2, 2), 10), "sgd{lr=0.5,weight_decay=0.1}")
    step.run(x, y)
    layer: Any = model[1]
    u, v = layer.weight_up_direction, layer.weight_down_direction
    expected = (1 - 0.05) * before - 0.5 * (g @ v.T @ v + u @ u.T @ g)
    torch.testing.assert_close(layer.weight.detach(), expected)
    assert not layer.weight_up.any()
    assert not layer.weight_down.any()


@pytest.mark.parametrize("optimizer", ["sgd{momentum=0.9,lr=0.02}", "adam{lr=0.01}"])
def test_it_learns(optimizer: str) -> None:
    torch.manual_seed(0)
    workload = random_workload(build("resnet8-cifar", classes=10), (3, 16, 16), 10)
    found = losses(real_step("low-rank-gradient", workload, optimizer), 30)
    assert found[-1] < 0.5 * found[0]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("low-rank-gradient{rank=99}", {}, "leaves every gradient as it is; a matrix of m x n takes part where rank <"),
        ("low-rank-gradient{last=99}", {}, "last=99 of 8 trained linear layers and convolutions; give 1 to 8"),
        ("low-rank-gradient", {"foreach": True}, "many parameters in one op (_foreach_"),
        ("low-rank-gradient", {"precision": "bf16"}, "uses its weight as it is stored; trace in fp32"),
        ("low-rank-gradient", {"accumulate": 2}, "layer 'conv1' runs 2 times a step"),
    ],
)
def test_where_it_does_not_apply_it_says_why(text: str, options: dict[str, Any], message: str) -> None:
    graph = trace("resnet8-cifar", batch=4, **options)
    with pytest.raises(TrainwattError, match=re.escape(message)):
        apply(parse(text), graph)


def test_it_leaves_the_graph_it_is_given_alone() -> None:
    graph = trace("resnet8-cifar", batch=4)
    copy = Graph(graph.ops, graph.tensors, graph.storages, graph.sizes, graph.meta, graph.smallest_batch, graph.other)
    apply(parse("low-rank-gradient"), graph)
    assert graph == copy


def test_it_commutes_with_rebatching() -> None:
    graph = trace("resnet8-cifar", batch=4)
    assert apply(parse("low-rank-gradient"), graph).rebatch(9) == apply(parse("low-rank-gradient"), graph.rebatch(9))
    assert apply(parse("low-rank-gradient"), graph).rebatch(1) == apply(parse("low-rank-gradient"), graph.rebatch(1))
