"""Gradient accumulation: the transform against the trace of the twin, numbers by hand, and real steps."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.memory import replay
from simulator.run import epoch_steps, samples
from simulator.techniques import apply, parse
from simulator.work import work_of
from tests.techniques.agreement import both, described, sums
from tests.techniques.real import random_workload, real_step
from workloads import trace

SMALL = {"input_shape": (3, 64, 64)}
NETWORKS = [("lenet5", {}), ("resnet8-cifar", {}), ("squeezenet1.1", SMALL), ("resnet8-cifar", {"precision": "bf16"})]


@pytest.fixture(scope="module")
def lenet() -> Graph:
    return trace("lenet5", batch=4)


@pytest.mark.parametrize(("network", "options"), NETWORKS)
@pytest.mark.parametrize("text", ["accumulate{steps=2}", "accumulate{steps=3}"])
def test_the_transform_is_the_trace_of_the_twin_op_by_op(text: str, network: str, options: dict[str, Any]) -> None:
    transformed, ran = both(text, network, batch=4, **options)
    assert described(transformed) == described(ran)
    assert sums(transformed) == sums(ran)  # peak memory and traffic to the byte
    assert [op.layer for op in transformed.ops] == [op.layer for op in ran.ops]


def test_a_traced_accumulating_step_is_the_transformed_one() -> None:
    traced = trace("lenet5", batch=4, accumulate=3)
    transformed = apply(parse("accumulate{steps=3}"), trace("lenet5", batch=4))
    assert described(transformed) == described(traced)
    assert transformed.meta["accumulate"] == traced.meta["accumulate"] == 3


def test_an_lstm_agrees_in_everything_but_the_order_of_four_sums() -> None:
    transformed, ran = both("accumulate{steps=2}", "lstm", batch=4)
    assert sums(transformed) == sums(ran)
    assert sorted(map(str, described(transformed))) == sorted(map(str, described(ran)))


@pytest.mark.parametrize(
    "text",
    [
        "accumulate{steps=2},sparse-update{last=3}",
        "sparse-update{last=3},accumulate{steps=2}",
        "accumulate{steps=2},freeze-bn{affine=false}",
        "freeze-bn,accumulate{steps=2}",
    ],
)
def test_it_composes_in_both_orders(text: str) -> None:
    transformed, ran = both(text, "resnet8-cifar", batch=4)
    assert described(transformed) == described(ran)
    assert sums(transformed) == sums(ran)


@pytest.mark.parametrize("text", ["smd{p=0.5},accumulate{steps=2}", "accumulate{steps=2},smd{p=0.5}"])
def test_dropped_mini_batches_halve_every_op_of_it(text: str, lenet: Graph) -> None:
    plain, dropped = work_of(apply(parse("accumulate{steps=2}"), lenet)), work_of(apply(parse(text), lenet))
    assert dropped.total(dropped.macs) == plain.total(plain.macs) / 2


def test_k_passes_do_k_times_the_products_and_one_update(lenet: Graph) -> None:
    one, four = work_of(lenet), work_of(apply(parse("accumulate"), lenet))
    assert four.total(four.macs) == 4 * one.total(one.macs)
    graph = apply(parse("accumulate"), lenet)
    phases = [op.phase for op in graph.ops]
    assert phases.count("optimizer") == [op.phase for op in lenet.ops].count("optimizer")
    # in each of 3 further passes: one sum for each of 10 parameters, and a division of the loss and one of its gradient
    assert len(graph.ops) == 4 * (56 + 2) + 3 * 10 + 30


def test_gradients_live_from_the_first_pass_to_the_end(lenet: Graph) -> None:
    graph = apply(parse("accumulate{steps=2}"), lenet)
    gradients = [s for s in graph.storages if s.role == "gradient"]
    assert len(gradients) == 10
    assert all(s.died is None and s.born < 58 for s in gradients)


def test_a_quarter_of_the_batch_in_four_passes_takes_less_memory_for_the_same_samples() -> None:
    graph = trace("resnet8-cifar", batch=32)
    accumulated = apply(parse("accumulate{steps=4}"), graph.rebatch(8))
    assert replay(accumulated).peak_bytes < replay(graph).peak_bytes / 3
    assert samples(accumulated) == samples(graph) == 32
    assert epoch_steps(accumulated, 50_000) == epoch_steps(graph, 50_000)


def test_one_mini_batch_is_plain_training(lenet: Graph) -> None:
    assert apply(parse("accumulate{steps=1}"), lenet).ops == lenet.ops


def test_it_does_not_touch_its_input_and_commutes_with_rebatching(lenet: Graph) -> None:
    before = repr((lenet.ops, lenet.tensors, lenet.storages))
    technique = parse("accumulate{steps=2}")
    assert sums(apply(technique, lenet).rebatch(7)) == sums(apply(technique, lenet.rebatch(7)))
    assert repr((lenet.ops, lenet.tensors, lenet.storages)) == before


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("accumulate{steps=0}", "steps is a number of mini-batches, at least 1"),
        ("accumulate{steps=2},accumulate{steps=3}", "step of 2 passes; give all of them to one"),
    ],
)
def test_what_it_refuses(text: str, reason: str, lenet: Graph) -> None:
    with pytest.raises(TrainwattError, match=reason):
        apply(parse(text), lenet)


def test_the_twin_refuses_to_accumulate_twice() -> None:
    with pytest.raises(TrainwattError, match="give all of them to one"):
        trace("lenet5", batch=2, accumulate=2, techniques=parse("accumulate{steps=2}"))


def test_four_real_mini_batches_train_as_one_of_their_size() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    whole, parts = (random_workload(copy.deepcopy(model), (3, 2, 2), 5) for _ in range(2))
    plain, step = real_step("smd{p=0}", whole), real_step("accumulate{steps=4}", parts)
    inputs, targets = whole.inputs(16), whole.targets(16)
    for _ in range(3):
        plain.run(inputs, targets)
        found = [step.run(inputs[i : i + 4], targets[i : i + 4]) for i in range(0, 16, 4)]
    assert all(loss is not None and loss > 0.1 for loss in found)
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(a, b)
