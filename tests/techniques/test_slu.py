"""Selective layer update: the transform against the trace of the twin, numbers by hand, and real steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from simulator.errors import TrainwattError
from simulator.graph import Graph, Share
from simulator.memory import replay
from simulator.techniques import apply, parse
from simulator.techniques.slu import SelectiveLayerUpdate
from simulator.work import work_of
from tests.techniques.agreement import assert_agree, both, described, sums
from workloads import trace
from workloads.optimizers import optimizer_from
from workloads.sources import workload_from
from workloads.techniques import make_step, measured
from workloads.techniques.slu import _Combined
from workloads.tracing.step import Step
from workloads.training.counting import MacCounter

SMALL = {"input_shape": (3, 64, 64)}
NETWORKS = [("resnet20-cifar", {}), ("resnet32-cifar", {}), ("mobilenetv2", SMALL), ("resnet18", SMALL)]


@pytest.mark.parametrize(("network", "options"), NETWORKS)
@pytest.mark.parametrize("text", ["slu", "slu{execute=0.7,gate=6}"])
def test_the_transform_is_the_trace_of_the_twin(text: str, network: str, options: dict[str, Any]) -> None:
    transformed, ran = both(text, network, batch=5, rebatches=False, **options)
    assert_agree(transformed, ran)
    assert described(transformed) == described(ran)
    assert sums(transformed) == sums(ran)  # peak memory and traffic to the byte
    assert transformed.meta["parameters"] == ran.meta["parameters"]


def test_each_block_may_have_its_own_share() -> None:
    transformed, ran = both(
        "slu{shares=0.2|0.4|0.6|0.8|1.0|0.2}", "resnet20-cifar", batch=5, rebatches=False, optimizer="adam"
    )
    assert [transformed.sizes[f"executed{i}"] for i in range(6)] == [1, 2, 3, 4, 5, 1]
    assert_agree(transformed, ran)


@pytest.mark.parametrize(
    "text",
    [
        "smd{p=0.5},slu",
        "slu,smd{p=0.5}",
        "slu,sparse-update{layers=layer3|fc}",
        "sparse-update{parameters=biases},slu",
        "slu,gradient-filter{last=4}",
    ],
)
def test_it_composes_with_other_techniques(text: str) -> None:
    transformed, ran = both(text, "resnet20-cifar", batch=5, rebatches=False)
    if "smd" in text:  # a trace is of a batch that is not dropped
        assert {op.runs for op in transformed.ops} == {0.5}
        transformed = replace(transformed, ops=tuple(replace(op, runs=1.0) for op in transformed.ops))
    assert_agree(transformed, ran)


def _macs(graph: Graph, *layers: str) -> float:
    work = work_of(graph)
    macs = work.macs[work.row_of_op]
    return sum(
        float(m) * op.runs
        for op, m in zip(graph.ops, macs, strict=True)
        if not layers or any(op.layer == layer or op.layer.startswith(layer + ".") for layer in layers)
    )


def test_a_gated_block_costs_its_share_and_the_others_all() -> None:
    plain = trace("resnet20-cifar", batch=10)
    gated = apply(parse("slu{execute=0.4}"), plain)
    for layer in ("layer1.1", "layer1.2", "layer2.1", "layer2.2", "layer3.1", "layer3.2"):
        assert _macs(gated, layer) == pytest.approx(0.4 * _macs(plain, layer))
    for layer in ("conv1", "layer1.0", "layer2.0", "layer3.0", "fc"):
        assert _macs(gated, layer) == _macs(plain, layer)


def test_a_gate_costs_ten_macs_a_channel_and_810_more() -> None:
    # 1x1 convolution 10 C; LSTM 4 x 10 x (10 + 10) = 800; linear 10. Six gates, two each on 16, 32 and 64 channels:
    # 6 x 810 + 2 x 10 x (16 + 32 + 64) = 7,100 a sample, forward.
    gated = apply(parse("slu"), trace("resnet20-cifar", batch=4))
    forward = replace(gated, ops=tuple(op if op.phase == "forward" else replace(op, runs=0.0) for op in gated.ops))
    assert _macs(forward, "slu") == 4 * 7_100


def test_the_gates_of_resnet_74_cost_a_fortieth_of_a_percent() -> None:
    # With one gate after each of its 36 blocks, as published, 12 a stage: 12 x 10 x (16 + 32 + 64) + 36 x 810 = 42,600,
    # 0.025 % of 168 M. Ours are the 33 in front of blocks that keep their shape: 11 x 10 x 112 + 33 x 810 = 39,050.
    gated = apply(parse("slu"), trace("resnet74-cifar", batch=2))
    forward = replace(gated, ops=tuple(op if op.phase == "forward" else replace(op, runs=0.0) for op in gated.ops))
    assert _macs(forward, "slu") == 2 * 39_050
    assert round(100 * 42_600 / 167_953_024, 3) == 0.025


def test_e2_train_saves_what_its_factors_say() -> None:
    # Wang et al. 2019 as quoted by later work: 90.13 % = 1 - 2/3 (SMD) x 0.4 (SLU skips 60 %) x 0.37 (PSG, inferred).
    plain = trace("resnet74-cifar", batch=10)
    step = apply(parse("smd{p=0.5,stretch=1.3333333333333333},slu{execute=0.4}"), plain)
    gated = [f"layer{stage}.{i}" for stage in (1, 2, 3) for i in range(1, 12)]
    ratio = step.meta["stretch"] * _macs(step, *gated) / _macs(plain, *gated)
    assert ratio == pytest.approx(2 / 3 * 0.4)
    assert round(100 * (1 - ratio * 0.37), 2) == 90.13
    # Over the whole network, the blocks that always run and the gates cost more: 29 % are left of 27 %.
    assert step.meta["stretch"] * _macs(step) / _macs(plain) == pytest.approx(0.30, abs=0.01)


def test_memory_falls_with_the_share_and_the_worst_batch_needs_all() -> None:
    plain = trace("resnet20-cifar", batch=32)
    gated = apply(parse("slu{execute=0.25}"), plain)
    assert sums(gated).saved_bytes < 0.75 * sums(plain).saved_bytes
    assert replay(gated.worst()).peak_bytes > replay(plain).peak_bytes > replay(gated).peak_bytes
    assert gated.shares["executed0"] == Share("batch", 0.25, varies=True)


def test_it_commutes_with_rebatching() -> None:
    plain = trace("resnet20-cifar", batch=4)
    a = apply(parse("slu"), plain).rebatch(9)
    b = apply(parse("slu"), plain.rebatch(9))
    assert sums(a) == sums(b)


# Real steps


def _step(text: str, network: str = "resnet20-cifar") -> Step:
    torch.manual_seed(0)
    workload = workload_from(
        network,
        classes=None,
        input_shape=None,
        widths=None,
        arguments={},
        loss="cross-entropy",
        channels_last=False,
        mode=None,
    )
    workload.model.train()
    return make_step(parse(text) if text else (), workload, optimizer_from("sgd{lr=0.02}", foreach=False))


def _batch(samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, 3, 32, 32, generator=generator), torch.arange(samples) % 10


def test_where_every_instance_executes_gradients_are_those_of_pytorch() -> None:
    plain, gated = _step(""), _step("slu{execute=1.0}")
    with torch.no_grad():
        gated.workload.model.slu.decide.bias.fill_(100.0)
    inputs, targets = _batch(6)
    for step in (plain, gated):
        step.backward(inputs, targets)
    expected = dict(plain.workload.model.named_parameters())
    for name, parameter in gated.workload.model.named_parameters():
        if not name.startswith("slu."):
            torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-4, atol=1e-6)


def test_the_combination_has_the_gradients_of_its_formula() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 2, 3, 3, dtype=torch.double, requires_grad=True)
    index = torch.tensor([1, 3])
    mask = torch.zeros(5, dtype=torch.double).index_fill(0, index, 1).requires_grad_()
    y = torch.randn(2, 2, 3, 3, dtype=torch.double, requires_grad=True)
    weight = torch.randn(5, 2, 3, 3, dtype=torch.double)
    (weight * _Combined.apply(x, index, y, x.detach()[index], mask)).sum().backward()
    got = [t.grad for t in (x, y, mask)]
    x2, y2, mask2 = (t.detach().requires_grad_() for t in (x, y, mask))
    m = mask2.view(-1, 1, 1, 1)
    placed = x2.detach().index_copy(0, index, y2)  # block(x), and x where it does not run
    (weight * (m * placed + (1 - m) * x2)).sum().backward()
    for a, b in zip(got, (x2.grad, y2.grad, mask2.grad), strict=True):
        torch.testing.assert_close(a, b)


def test_real_steps_run_the_macs_of_the_graph_at_the_counts_drawn() -> None:
    step = _step("slu{execute=0.5}")
    inputs, targets = _batch(8)
    with MacCounter() as counter:
        step.run(inputs, targets)
    drawn = step.workload.model.slu.executed
    assert 0 < sum(drawn) < 48
    graph = apply(parse("slu{execute=0.5}"), trace("resnet20-cifar", batch=8))
    at_counts = replace(graph, sizes={**graph.sizes, **{f"executed{i}": n for i, n in enumerate(drawn)}})
    assert counter.macs == _macs(at_counts)


def test_training_keeps_near_the_share_wanted_and_measures_it() -> None:
    step = _step("slu{execute=0.5}")
    inputs, targets = _batch(8)
    losses = [float(step.run(inputs, targets)) for _ in range(12)]
    assert losses[-1] < losses[0]
    (found,) = measured(parse("slu{execute=0.5}"), step)
    assert isinstance(found, SelectiveLayerUpdate)
    assert len(found.shares) == 6
    assert 0.3 < found.execute < 0.7
    assert all(p.grad is not None for p in step.workload.model.slu.parameters())


def test_the_cost_of_executing_drives_the_share_to_the_one_wanted() -> None:
    step = _step("slu{execute=0.5,beta=10}")
    gates = step.workload.model.slu
    with torch.no_grad():
        gates.decide.bias.fill_(3.0)  # executes nearly all
    inputs, targets = _batch(8)
    before = float(gates.decide.bias.detach())
    step.run(inputs, targets)
    assert float(gates.decide.bias.detach()) < before


def test_an_evaluation_does_not_count_as_training() -> None:
    step = _step("slu")
    step.workload.model.eval()
    step.workload.forward(_batch(4)[0])
    assert step.workload.model.slu.presented == [0] * 6


# Refusals


@pytest.mark.parametrize(
    ("text", "network", "message"),
    [
        ("slu", "squeezenet1.1", "fewer than two residual blocks"),
        ("slu", "resnet8-cifar", "fewer than two residual blocks"),
        ("slu{shares=0.5|0.5}", "resnet20-cifar", "2 shares; the network has 6 gated blocks"),
        ("sparse-update{layers=fc},slu", "resnet20-cifar", "no gradient passes 'layer1.1'"),
    ],
)
def test_it_says_why_it_does_not_apply(text: str, network: str, message: str) -> None:
    graph = trace(network, batch=2, **({"input_shape": (3, 64, 64)} if network == "squeezenet1.1" else {}))
    with pytest.raises(TrainwattError, match=message):
        apply(parse(text), graph)


def test_the_twin_refuses_a_model_without_residual_blocks() -> None:
    with pytest.raises(TrainwattError, match="fewer than two residual blocks"):
        trace(
            nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten(), nn.Linear(48, 2)),
            batch=2,
            input_shape=(3, 4, 4),
            techniques=parse("slu"),
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slu{execute=0}", "execute is a share above 0, at most 1"),
        ("slu{shares=0.5|2.0}", "shares is shares above 0"),
        ("slu{gate=0}", "gate is a number of hidden units"),
        ("slu{beta=-1}", "beta is at least 0"),
    ],
)
def test_wrong_parameters_are_refused(text: str, message: str) -> None:
    with pytest.raises(TrainwattError, match=message):
        parse(text)


def test_it_refuses_what_it_does_not_know() -> None:
    with pytest.raises(TrainwattError, match="several micro-batches"):
        apply(parse("slu"), trace("resnet20-cifar", batch=2, accumulate=2))
    with pytest.raises(TrainwattError, match="contiguous float32"):
        apply(parse("slu"), trace("resnet20-cifar", batch=2, precision="bf16"))
    with pytest.raises(TrainwattError, match="a step whose batch may change"):
        apply(parse("slu"), trace("resnet20-cifar", batch=2, rebatches=False))
