"""Predictive sign gradients: the transform against the trace of the twin, bit costs by hand, and real steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from simulator.bits import bits_of, cost_factor, weighted_macs, with_bits
from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.io import load, save
from simulator.techniques import apply, parse
from simulator.techniques.psg import PredictiveSignGradient
from simulator.work import work_of
from tests.techniques.agreement import assert_agree, both, described, sums
from workloads import trace
from workloads.optimizers import optimizer_from
from workloads.techniques import make_step, measured
from workloads.tracing.step import Step
from workloads.workload import Workload

SMALL = {"input_shape": (3, 64, 64)}
NETWORKS = [("resnet8-cifar", {}), ("mobilenetv2", SMALL), ("squeezenet1.1", SMALL)]


@pytest.mark.parametrize(("network", "options"), NETWORKS)
@pytest.mark.parametrize("text", ["psg{predicted=0}", "psg{activation_bits=10,gradient_bits=12,predicted=0}"])
def test_where_nothing_is_predicted_the_transform_is_the_trace_of_the_twin(
    text: str, network: str, options: dict[str, Any]
) -> None:
    transformed, ran = both(text, network, batch=3, **options)
    assert_agree(transformed, ran)
    assert described(transformed) == described(ran)
    assert sums(transformed) == sums(ran)


@pytest.mark.parametrize(
    "text", ["slu,psg{predicted=0}", "psg{predicted=0},slu", "psg{predicted=0},sparse-update{layers=layer3}"]
)
def test_it_composes_with_other_techniques(text: str) -> None:
    transformed, ran = both(text, "resnet20-cifar", batch=4, rebatches=False)
    assert_agree(transformed, ran)


def _by_kind(graph: Graph) -> dict[str, float]:
    work = work_of(graph)
    macs = work.macs[work.row_of_op]
    found: dict[str, float] = {}
    for op, m in zip(graph.ops, macs, strict=True):
        if "bits" in op.attrs:
            key = f"{op.kind} {bits_of(op.attrs)}"
            found[key] = found.get(key, 0) + float(m) * op.runs
    return found


def test_predicted_elements_are_not_computed_from_all_bits() -> None:
    plain = trace("resnet8-cifar", batch=2)
    found = _by_kind(apply(parse("psg{predicted=0.6}"), plain))
    forward = 2 * (12_239_488 - 640)  # all but the linear layer
    first = 2 * 16 * 27 * 1024  # the first convolution needs no gradient of its input
    assert found == {
        "convolution (8, 8)": forward,
        "convolution_grad_input (16, 8)": forward - first,
        "convolution_grad_weight (16, 8)": pytest.approx(0.4 * forward),
        "convolution_grad_weight (10, 4)": forward,
    }


def test_a_mac_costs_the_product_of_its_bits() -> None:
    assert cost_factor({}) == 1
    assert cost_factor(with_bits({}, (8, 8))) == 1 / 16
    assert cost_factor(with_bits({}, (16, 8), (10, 4))) == (128 - 40) / 1024
    assert cost_factor(with_bits({}, (8, 4)), full=8) == 0.5


@pytest.mark.parametrize(("reuse", "rest"), [("false", 128), ("true", 128 - 40)])
def test_the_bit_cost_of_a_step_by_hand(reuse: str, rest: int) -> None:
    # forward 8 x 8 = 64; gradient of the input 16 x 8 = 128; of the weight 10 x 4 = 40 for all, `rest` for 40 %;
    # of 32 x 32 = 1024 each. The linear layer (640 MACs, three times) stays whole.
    graph = apply(parse(f"psg{{predicted=0.6,reuse_msb={reuse}}}"), trace("resnet8-cifar", batch=1))
    conv, first = 12_239_488 - 640, 16 * 27 * 1024
    expected = (64 * conv + 128 * (conv - first) + (40 + 0.4 * rest) * conv) / 1024 + 3 * 640
    assert weighted_macs(graph) == pytest.approx(expected)


def test_bit_widths_survive_a_file(tmp_path: Any) -> None:
    graph = apply(parse("psg{reuse_msb=true}"), trace("resnet8-cifar", batch=2))
    save(graph, tmp_path / "psg.graph")
    assert weighted_macs(load(tmp_path / "psg.graph")) == weighted_macs(graph)
    assert load(tmp_path / "psg.graph").ops == graph.ops


def test_saved_inputs_of_convolutions_are_a_byte_an_element() -> None:
    graph = apply(parse("psg"), trace("resnet8-cifar", batch=2))
    for op in graph.ops:
        if op.kind == "convolution":
            assert {graph.tensors[t].dtype for t in op.saved if graph.tensors[t].shape} == {"int8"}


# Real steps


def _step(text: str, *layers: nn.Module) -> Step:
    torch.manual_seed(0)
    model = nn.Sequential(*layers) if layers else nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3, stride=2), nn.Flatten(),
        nn.Linear(54, 4),
    )  # fmt: skip
    workload = Workload(
        model, lambda n: torch.randn(n, 3, 8, 8), lambda n: torch.arange(n) % 4, nn.functional.cross_entropy
    )
    return make_step(parse(text) if text else (), workload, optimizer_from("sgd{lr=0.01}", foreach=False))


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(16) % 4


def test_with_many_bits_the_weights_see_the_signs_of_pytorchs_gradients() -> None:
    plain = _step("")
    signs = _step("psg{activation_bits=16,weight_bits=16,gradient_bits=16,msb_activation_bits=16,msb_gradient_bits=16}")
    for step in (plain, signs):
        step.backward(*_batch())
    for (name, a), b in zip(plain.workload.model.named_parameters(), signs.workload.model.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        if a.dim() == 4:
            assert (b.grad == a.grad.sign()).float().mean() > 0.98, name
        elif name != "0.bias":  # in front of a batch norm, a bias has no gradient but rounding
            # activations beyond the mean of the samples' greatest are clipped
            assert (b.grad - a.grad).norm() < 0.15 * a.grad.norm(), name


def test_with_few_bits_most_signs_are_right() -> None:
    plain, signs = _step(""), _step("psg")
    for step in (plain, signs):
        step.backward(*_batch())
    for a, b in zip(plain.workload.model.parameters(), signs.workload.model.parameters(), strict=True):
        if a.dim() == 4:
            assert a.grad is not None
            assert set(b.grad.unique().tolist()) <= {-1.0, 0.0, 1.0}
            assert (b.grad == a.grad.sign()).float().mean() > 0.85


def test_training_learns_and_the_predicted_share_is_measured() -> None:
    step = _step("psg")
    inputs, targets = _batch()
    losses = [float(step.run(inputs, targets)) for _ in range(15)]
    assert losses[-1] < 0.7 * losses[0]
    (found,) = measured(parse("psg"), step)
    assert isinstance(found, PredictiveSignGradient)
    assert 0.3 < found.predicted < 1
    lower = _step("psg{threshold=0.5}")
    lower.run(inputs, targets)
    assert measured(parse("psg"), lower)[0].predicted < found.predicted


def test_an_error_map_of_zeros_gives_zeros() -> None:
    step = _step("psg")
    inputs, _ = _batch()
    out = step.workload.forward(inputs)
    (0 * out).sum().backward()
    assert all(bool((p.grad == 0).all()) for p in step.workload.model.parameters())


# Refusals


def test_it_says_why_it_does_not_apply() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    with pytest.raises(TrainwattError, match="without convolutions"):
        apply(parse("psg"), trace(linear, batch=2, input_shape=(3, 8, 8)))
    with pytest.raises(TrainwattError, match="without convolutions"):
        _step("psg", nn.Flatten(), nn.Linear(192, 4))
    with pytest.raises(TrainwattError, match="computes with few bits already"):
        apply(parse("psg,psg"), trace("resnet8-cifar", batch=2))
    with pytest.raises(TrainwattError, match="computes with few bits already"):
        _step("psg,psg")
    with pytest.raises(TrainwattError, match="only float32 is quantised"):
        apply(parse("psg"), trace("resnet8-cifar", batch=2, precision="bf16"))
    with pytest.raises(TrainwattError, match="pads zeros same"):
        _step("psg", nn.Conv2d(3, 4, 3, padding="same"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("psg{activation_bits=1}", "activation_bits is 2 to 16 bits"),
        ("psg{gradient_bits=32}", "gradient_bits is 2 to 16 bits"),
        ("psg{msb_gradient_bits=17}", "msb_gradient_bits is 2 bits to all of gradient_bits"),
        ("psg{predicted=1}", r"predicted is a share in \[0, 1\)"),
    ],
)
def test_wrong_parameters_are_refused(text: str, message: str) -> None:
    with pytest.raises(TrainwattError, match=message):
        parse(text)


def test_it_does_not_touch_its_input() -> None:
    plain = trace("resnet8-cifar", batch=2)
    before = replace(plain)
    apply(parse("psg"), plain)
    assert plain == before
