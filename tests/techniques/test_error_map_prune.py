"""Error-map pruning: the transform against its runnable twin, its gradients against masked ones, numbers by hand."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.memory import replay
from simulator.techniques import apply, parse
from simulator.techniques.error_map_prune import ErrorMapPrune
from simulator.work import work_of
from tests.techniques.agreement import assert_agree, both, described
from workloads import trace
from workloads.techniques.error_map_prune import workload
from workloads.workload import Workload

SMALL = {"input_shape": (3, 64, 64)}


@pytest.mark.parametrize(
    ("text", "network", "options"),
    [
        ("error-map-prune", "resnet8-cifar", {}),
        ("error-map-prune{keep=0.3,g1=0.5}", "resnet8-cifar", {}),
        ("error-map-prune{keep=0.5}", "mobilenetv2", SMALL),
        ("error-map-prune{keep=0.25,minimum=3,layers=features.1*}", "mobilenetv2", SMALL),
        ("error-map-prune{keep=0.4,g1=1,g2=0}", "squeezenet1.1", SMALL),
        ("error-map-prune{keep=0.7,last=4}", "squeezenet1.1", SMALL),
        ("error-map-prune{keep=0.5,last=4}", "googlenet", SMALL),
        ("error-map-prune{last=5}", "resnet18", {**SMALL, "precision": "bf16"}),
        ("sparse-update{last=3},error-map-prune{keep=0.5}", "resnet18", SMALL),
        ("error-map-prune{keep=0.5},sparse-update{last=3}", "resnet18", SMALL),
        ("error-map-prune,smd{p=0.25}", "resnet8-cifar", {}),
        ("smd{p=0.25},error-map-prune", "resnet8-cifar", {}),
    ],
)
def test_the_transform_agrees_with_its_twin(text: str, network: str, options: dict[str, Any]) -> None:
    transformed, ran = both(text, network, **options)
    if "smd" in text:  # its twin drops whole steps, so that those it traces run in full
        assert {op.runs for op in transformed.ops} == {0.75}
        assert described(transformed) == described(ran)
        return
    assert_agree(transformed, ran)
    if not text.endswith("sparse-update{last=3}"):  # in the other order a view, which costs nothing, is one too few
        assert described(transformed) == described(ran)
        assert replay(transformed).peak_bytes == replay(ran).peak_bytes


# By hand


def macs(graph: Graph, kind: str) -> float:
    work = work_of(graph)
    return float(sum(work.macs[work.row_of_op[i]] * op.runs for i, op in enumerate(graph.ops) if op.kind == kind))


def test_half_of_four_channels_halve_the_weight_gradient(step: Graph) -> None:
    # batch 4, 3x8x8 to 4x8x8 by 3x3: 4 * 4 * 64 * 27 = 27,648 MACs; the first layer has no grad-input
    graph = apply(parse("error-map-prune{keep=0.5}"), step)
    assert macs(step, "convolution_grad_weight") == 27_648
    assert macs(graph, "convolution_grad_weight") == 13_824
    assert macs(graph, "convolution") == 27_648


@pytest.mark.parametrize(("keep", "kept"), [(0.6, 2), (0.65, 3), (0.01, 1), (0.99, 4)])
def test_the_kept_count_is_rounded_and_at_least_the_minimum(step: Graph, keep: float, kept: int) -> None:
    graph = apply((ErrorMapPrune(keep=keep),), step)
    assert macs(graph, "convolution_grad_weight") == 27_648 * kept / 4
    assert macs(apply((ErrorMapPrune(keep=0.01, minimum=9),), step), "convolution_grad_weight") == 27_648


def test_keeping_everything_changes_no_op(step: Graph) -> None:
    assert apply(parse("error-map-prune{keep=1}"), step).ops == step.ops


def test_what_is_saved_stays_whole(step: Graph) -> None:
    graph = apply(parse("error-map-prune{keep=0.5}"), step)
    assert [len(op.saved) for op in graph.ops if op.saved] == [len(op.saved) for op in step.ops if op.saved]


def test_a_whole_training_step_costs_f_plus_the_unpruned_part_of_the_backward() -> None:
    # EMP = f + (1 - f)(1 - s), s = prunable share of the backward * (1 - alpha); all channels of ResNet-8 (16, 32, 64)
    # times 0.75 are whole numbers
    plain = trace("resnet8-cifar", batch=4)
    work = work_of(plain)
    total, forward = work.total(work.macs), macs(plain, "convolution") + macs(plain, "addmm")
    backward = sum(macs(plain, f"convolution_grad_{part}") for part in ("input", "weight"))
    f, prunable = forward / total, backward / (total - forward)
    pruned = work_of(apply(parse("error-map-prune{keep=0.75}"), plain))
    assert pruned.total(pruned.macs) / total == pytest.approx(f + (1 - f) * (1 - prunable * 0.25), rel=1e-12)


def test_the_published_arithmetic_of_whole_training_is_reproduced() -> None:
    # Wu et al. 2020: backward reduced by 62.22 % is 41.7 % of whole training (Fig. 9); f from the OHEM points of Fig. 6
    f = 0.3284
    assert (1 - (f + (1 - f) * (1 - 0.6222))) * 100 == pytest.approx(41.7, abs=0.15)


# Gradients


def masked(conv: nn.Conv2d, x: torch.Tensor, delta: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor | None]:
    """Return the gradients that autograd gives where the error map is zero outside `mask`."""
    parameters = [p for p in (x, conv.weight, conv.bias) if p is not None]
    return list(torch.autograd.grad(conv(x), parameters, delta * mask.view(1, -1, 1, 1)))


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("g1", "g2"), [(0.0, 1.0), (2.0, 0.5), (1.0, 0.0)])
def test_its_gradients_are_those_of_the_masked_error_map(groups: int, bias: bool, g1: float, g2: float) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 6, 3, padding=1, groups=groups, bias=bias)
    pruned = nn.Conv2d(6, 6, 3, padding=1, groups=groups, bias=bias)
    pruned.load_state_dict(plain.state_dict())
    technique = ErrorMapPrune(keep=0.34, g1=g1, g2=g2)
    twin = workload(technique, Workload(pruned, lambda n: torch.rand(n, 6, 5, 5), lambda n: None, lambda a, b: a))
    x, delta = torch.randn(4, 6, 5, 5, requires_grad=True), torch.randn(4, 6, 5, 5)
    scores = g1 * 4 * plain.weight.abs().sum((1, 2, 3)) + g2 * delta.abs().sum((0, 2, 3))
    one_of_three, two_of_six = scores.view(2, 3).argmax(1) + torch.tensor([0, 3]), scores.topk(2).indices
    strongest = one_of_three if groups == 2 else two_of_six
    expected = masked(plain, x, delta, torch.zeros(6).index_fill(0, strongest, 1.0))
    parameters = [p for p in (x, pruned.weight, pruned.bias) if p is not None]
    found = torch.autograd.grad(twin.model(x), parameters, delta)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("padding", ["same", "valid", (2, 1)])
def test_keeping_all_channels_of_the_pruned_form_gives_the_gradients_of_pytorch(padding: Any) -> None:
    from workloads.techniques import error_map_prune as twin

    conv = nn.Conv2d(4, 8, 3, padding=padding, dilation=2)
    x = torch.randn(2, 4, 9, 9, requires_grad=True)
    expected = torch.autograd.grad(conv(x).sin().sum(), [x, *conv.parameters()])
    rule = twin._Rule(0.0, 1.0, twin.Pruning(8, 1, 8))
    y = twin._conv_forward(conv, rule, x, conv.weight, conv.bias)
    for a, b in zip(torch.autograd.grad(y.sin().sum(), [x, *conv.parameters()]), expected, strict=True):
        torch.testing.assert_close(a, b)


# Refusals


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("error-map-prune{keep=0}", "error-map-prune with keep=0.0; keep is a share above 0 and at most 1"),
        ("error-map-prune{g2=0}", "error-map-prune with g2=0.0; g2 is above 0 where g1 is 0"),
        ("error-map-prune{minimum=0}", "minimum is a number of channels, at least 1"),
        ("error-map-prune{last=0}", "last is a number of convolutions, at least 1"),
        ("error-map-prune{layers=fc}", "no convolutions 'fc'"),
    ],
)
def test_wrong_parameters_are_answered_in_one_line(step: Graph, text: str, message: str) -> None:
    with pytest.raises(TrainwattError, match=re.escape(message)):
        apply(parse(text), step)


def test_convolutions_that_cannot_be_pruned_are_refused_with_the_reason() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.narrow = nn.Conv2d(4, 2, 3, groups=2)
            self.up = nn.ConvTranspose2d(2, 4, 3)
            self.head = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.up(self.narrow(x)).mean((2, 3)))

    plain = trace(Odd(), batch=2, input_shape=(4, 8, 8))
    for layer, reason in (("narrow", "whose 2 groups map 2 channels to 1"), ("up", "a transposed convolution")):
        text = parse(f"error-map-prune{{layers={layer}}}")
        with pytest.raises(TrainwattError, match=reason):
            apply(text, plain)
        with pytest.raises(TrainwattError, match=reason):
            trace(Odd(), batch=2, input_shape=(4, 8, 8), techniques=text)


def test_training_with_pruned_error_maps_still_learns() -> None:
    from workloads.optimizers import optimizer_from
    from workloads.techniques import make_step

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 2))
    x = torch.randn(32, 1, 8, 8)
    y = (x.mean((1, 2, 3)) > 0).long()
    made = Workload(model, lambda n: x[:n], lambda n: y[:n], nn.functional.cross_entropy)
    step = make_step(parse("error-map-prune{keep=0.4}"), made, optimizer_from("sgd{lr=0.05,momentum=0.9}", False))
    losses = [float(step.run(x, y)) for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]


def test_a_convolution_is_pruned_once() -> None:
    twice = parse("error-map-prune{layers=conv1},error-map-prune{layers=conv1|layer1}")
    with pytest.raises(TrainwattError, match="'conv1', whose backward has become abs"):
        apply(twice, trace("resnet8-cifar", batch=4))
    with pytest.raises(TrainwattError, match="'conv1', which is pruned already"):
        trace("resnet8-cifar", batch=4, techniques=twice)
