"""Sparse update: the transform against the trace of the twin, saved bytes by hand, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.techniques import apply, parse
from simulator.work import work_of
from tests.techniques.agreement import both, described, sums
from tests.techniques.real import losses, random_workload, real_step
from workloads import trace

SMALL = {"input_shape": (3, 64, 64)}
NETWORKS = [("lenet5", {}), ("resnet8-cifar", {"optimizer": "adam"}), ("vgg11-cifar", {}), ("mobilenetv2", SMALL)]


@pytest.fixture(scope="module")
def lenet() -> Graph:
    return trace("lenet5", batch=4)


@pytest.mark.parametrize(("network", "options"), NETWORKS)
@pytest.mark.parametrize("text", ["sparse-update{last=2}", "sparse-update{last=4}", "sparse-update{parameters=biases}"])
def test_the_transform_is_the_trace_of_the_twin_op_by_op(text: str, network: str, options: dict[str, Any]) -> None:
    transformed, ran = both(text, network, batch=4, **options)
    assert described(transformed) == described(ran)
    assert sums(transformed) == sums(ran)  # peak memory and traffic to the byte


@pytest.mark.parametrize(
    "text",
    [
        "sparse-update{layers=layer1.0.conv1|fc}",
        "sparse-update{layers=layer2}",
        "sparse-update{layers=*bn2}",
        "sparse-update{last=3,parameters=biases}",
        "sparse-update{last=4},sparse-update{last=2}",
        "sparse-update{last=4},sparse-update{parameters=biases}",
    ],
)
def test_any_layers_can_be_chosen_and_it_composes_with_itself(text: str) -> None:
    transformed, ran = both(text, "resnet8-cifar", batch=4)
    assert described(transformed) == described(ran)
    assert sums(transformed) == sums(ran)


def test_it_is_the_scope_of_a_trace(lenet: Graph) -> None:
    for last in (1, 3):
        traced = trace("lenet5", batch=4, train=f"last={last}")
        assert described(apply(parse(f"sparse-update{{last={last}}}"), lenet)) == described(traced)


def test_training_the_last_linear_layer_saves_its_input_and_what_the_loss_needs(lenet: Graph) -> None:
    # of a batch of 4: the input of classifier.4 (84 numbers), the logarithms of 10 probabilities, and the total weight
    assert sums(apply(parse("sparse-update{last=1}"), lenet)).saved_bytes == 4 * (4 * 84 + 4 * 10 + 1)


def test_training_its_bias_alone_does_not_save_its_input(lenet: Graph) -> None:
    text = "sparse-update{last=1,parameters=biases}"
    assert sums(apply(parse(text), lenet)).saved_bytes == 4 * (4 * 10 + 1)


def test_the_macs_of_the_last_layer_are_its_wgrad_on_top_of_the_forward_pass(lenet: Graph) -> None:
    work = work_of(apply(parse("sparse-update{last=1}"), lenet))
    assert work.total(work.macs) == 4 * (416_520 + 84 * 10)


def test_optimizer_state_and_gradients_of_frozen_parameters_vanish(lenet: Graph) -> None:
    graph = apply(parse("sparse-update{last=2}"), lenet)
    for role, ending in (("gradient", "grad"), ("optimizer-state", "momentum_buffer")):
        names = {s.name for s in graph.storages if s.role == role}
        assert names == {f"classifier.{i}.{kind}.{ending}" for i in (2, 4) for kind in ("weight", "bias")}
    assert sum(s.role == "parameter" for s in graph.storages) == 10


def test_training_everything_changes_nothing(lenet: Graph) -> None:
    assert apply(parse("sparse-update{last=5}"), lenet).ops == lenet.ops


def test_it_does_not_touch_its_input_and_commutes_with_rebatching(lenet: Graph) -> None:
    before = repr((lenet.ops, lenet.tensors, lenet.storages))
    technique = parse("sparse-update{last=2}")
    assert sums(apply(technique, lenet).rebatch(7)) == sums(apply(technique, lenet.rebatch(7)))
    assert repr((lenet.ops, lenet.tensors, lenet.storages)) == before


@pytest.mark.parametrize("text", ["smd{p=0.25},sparse-update{last=1}", "sparse-update{last=1},smd{p=0.25}"])
def test_it_commutes_with_dropping_mini_batches(text: str, lenet: Graph) -> None:
    graph = apply(parse(text), lenet)
    assert {op.runs for op in graph.ops} == {0.75}
    assert described(graph) == described(apply(parse("sparse-update{last=1}"), lenet))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sparse-update{last=0}", "last is a number of layers, at least 1"),
        ("sparse-update{last=6}", "last=6 of 5 weight layers; give 1 to 5"),
        ("sparse-update{layers=conv9}", "no layers 'conv9'"),
        ("sparse-update{last=1},sparse-update{layers=features}", "nothing would be left to train"),
    ],
)
def test_what_it_refuses(text: str, reason: str, lenet: Graph) -> None:
    with pytest.raises(TrainwattError, match=reason):
        apply(parse(text), lenet)


def test_a_layer_without_a_bias_leaves_nothing_to_train() -> None:
    graph = trace("resnet8-cifar", batch=2)
    with pytest.raises(TrainwattError, match="nothing would be left to train"):
        apply(parse("sparse-update{layers=conv1,parameters=biases}"), graph)
    with pytest.raises(TrainwattError, match="nothing is left to train"):
        trace("resnet8-cifar", batch=2, techniques=parse("sparse-update{layers=conv1,parameters=biases}"))


def test_an_optimizer_that_updates_all_parameters_in_one_op_is_refused() -> None:
    graph = trace("lenet5", batch=2, foreach=True)
    with pytest.raises(TrainwattError, match="trace the step without foreach"):
        apply(parse("sparse-update{last=1}"), graph)


def test_a_real_step_changes_the_chosen_layers_only() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 5))
    before = [p.detach().clone() for p in model.parameters()]
    found = losses(real_step("sparse-update{last=1}", random_workload(model, (3, 2, 2), 5), "sgd{lr=0.1}"), 50)
    assert found[-1] < found[0]
    assert [torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)] == [True, True, False, False]
