"""Batch norms in eval mode: the rewritten graph is the graph of a step traced with them in eval mode."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from torch import nn

from simulator.graph import Graph
from simulator.rewriting.batch_norm import freeze_batch_norms, learning_norms
from simulator.rewriting.edit import Edit
from tests.techniques.agreement import described, sums
from workloads import trace

SMALL: dict[str, dict[str, Any]] = {
    "resnet8-cifar": {},
    "mobilenetv2": {"input_shape": (3, 64, 64)},
    "googlenet": {"input_shape": (3, 32, 32)},
}


def frozen(graph: Graph) -> Graph:
    edit = Edit(graph)
    freeze_batch_norms(edit)
    return edit.graph()


def details(graph: Graph) -> list[tuple[Any, ...]]:
    """What `described` leaves out of each op: its attributes, layer, link, and what it writes, by name."""
    return [
        (op.attrs, op.layer, op.forward, [graph.storages[graph.tensors[t].storage].name for t in op.mutates])
        for op in graph.ops
    ]


def lives(graph: Graph) -> Counter[tuple[Any, ...]]:
    return Counter((s.size_bytes, s.role, s.born, s.died, s.name) for s in graph.storages)


@pytest.mark.parametrize("network", SMALL)
def test_freezing_all_batch_norms_gives_the_graph_of_a_step_traced_in_eval_mode(network: str) -> None:
    mine = frozen(trace(network, batch=4, **SMALL[network]))
    real = trace(network, batch=4, batch_norm="eval", **SMALL[network])
    assert described(mine) == described(real)
    assert details(mine) == details(real)
    assert lives(mine) == lives(real)
    assert sums(mine) == sums(real)


def test_only_the_batch_norms_given_are_frozen() -> None:
    graph = trace("resnet8-cifar", batch=4)
    edit = Edit(graph)
    first = learning_norms(edit)[0]
    freeze_batch_norms(edit, [first])
    result = edit.graph()
    assert len(graph.ops) - len(result.ops) == 1  # its count of batches
    modes = [op.attrs["training"] for op in result.ops if op.kind == "native_batch_norm"]
    assert modes == [False] + [True] * (len(modes) - 1)
    assert [op.attrs["train"] for op in result.ops if op.kind == "native_batch_norm_backward"] == modes[::-1]


def test_freezing_frozen_batch_norms_changes_nothing() -> None:
    graph = trace("resnet8-cifar", batch=4, batch_norm="eval")
    assert frozen(graph) == Edit(graph).graph()


def test_a_batch_norm_without_running_statistics_uses_those_of_the_batch_in_eval_mode_too() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten())
    graph = trace(model, batch=4, input_shape=(3, 8, 8), classes=4 * 36)
    assert frozen(graph) == Edit(graph).graph()
