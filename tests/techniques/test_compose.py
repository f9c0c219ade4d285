"""Passes without gradients against real ones, and two networks in one step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from simulator.graph import Graph
from simulator.memory import replay
from simulator.rewriting.compose import bring, forward_only
from simulator.rewriting.edit import Edit
from tests.techniques.agreement import described, sums
from workloads import trace
from workloads.optimizers import optimizer_from
from workloads.sources import workload_from
from workloads.tracer import trace_step
from workloads.tracing.fake import faking
from workloads.tracing.step import Step


@dataclass(frozen=True)
class Prediction(Step):
    """A forward pass under `torch.no_grad`; its outputs live to its end."""

    def backward(self, inputs: Any, targets: Any, mark: Callable[[str], None] = lambda phase: None) -> None:
        mark("forward")
        with torch.no_grad():
            self.workload.forward(inputs)

    def update(self) -> None:
        pass


def predicted(network: str, shape: tuple[int, ...]) -> Graph:
    with faking() as mode:
        workload = workload_from(
            network,
            classes=None,
            input_shape=shape,
            widths=None,
            arguments={},
            loss="cross-entropy",
            channels_last=False,
            mode=mode,
        )
        workload.model.train()
        make_optimizer = optimizer_from("sgd", False)
        return trace_step(Prediction(workload, make_optimizer(workload.model.parameters())), 4, {}, rebatches=False)


@pytest.mark.parametrize(
    ("network", "shape"),
    [("resnet8-cifar", (3, 32, 32)), ("squeezenet1.1", (3, 64, 64)), ("mobilenetv2", (3, 64, 64)), ("lstm", (8, 64))],
)
def test_the_forward_pass_of_a_training_step_is_what_runs_without_gradients(
    network: str, shape: tuple[int, ...]
) -> None:
    ours, real = forward_only(trace(network, batch=4, input_shape=shape)), predicted(network, shape)
    assert described(ours) == described(real)
    assert sums(ours) == sums(real)
    assert list(replay(ours).live_bytes) == list(replay(real).live_bytes)
    assert not any(op.saved for op in ours.ops)


def test_the_forward_pass_holds_no_gradients_and_no_optimizer_state(step: Graph) -> None:
    roles = {storage.role for storage in forward_only(step).storages}
    assert roles == {"input", "parameter", "buffer", "activation"}
    assert {op.phase for op in forward_only(step).ops} == {"forward"}


def brought(step: Graph, prefix: str) -> Graph:
    edit = Edit(step)
    edit.nodes.extend(bring(edit, forward_only(step), prefix).nodes)
    return edit.graph()


def test_the_same_network_keeps_its_parameters(step: Graph) -> None:
    graph = brought(step, "")
    assert sum(s.role == "parameter" for s in graph.storages) == 4
    assert [op.layer for op in graph.ops[-5:]] == [op.layer for op in step.ops[:5]]


def test_another_network_brings_parameters_and_a_name_of_its_own(step: Graph) -> None:
    graph = brought(step, "other")
    names = [s.name for s in graph.storages if s.role == "parameter"]
    assert names[:4] == ["conv.weight", "conv.bias", "fc.weight", "fc.bias"]
    assert names[4:] == [f"other.{name}" for name in names[:4]]
    assert graph.ops[-5].layer == "other.conv"


def test_an_input_may_come_from_the_step(step: Graph) -> None:
    edit = Edit(step)
    images = next(i for i, s in enumerate(edit.storages) if s.name == "input0")
    edit.nodes[:0] = bring(edit, forward_only(step), "other", {"input0": images}).nodes
    graph = edit.graph()
    assert [s.name for s in graph.storages if s.role == "input"] == ["input0", "target0"]
