"""Any two techniques, one after the other: a graph that holds together, or one line that says why not.

Pairs are found in the registry, each technique with its default parameters (or those in `SETTINGS`, where the
defaults do not suit so small a network).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.memory import replay
from simulator.rewriting.lifetimes import settle
from simulator.techniques import apply, parse, techniques
from simulator.work import work_of
from tests.techniques.agreement import assert_agree, both
from workloads import trace

SETTINGS = {
    "accumulate": "accumulate{steps=2}",
    "recompute": "recompute{segments=3}",
    "sparse-update": "sparse-update{last=3}",
}
"""Parameters for three blocks and eight weight layers."""

NAMES = sorted(techniques())


def text_of(name: str) -> str:
    return SETTINGS.get(name, name)


@cache
def plain(network: str) -> Graph:
    options = {"resnet8-cifar": {}, "mobilenetv2": {"input_shape": (3, 64, 64)}}[network]
    return trace(network, batch=6, **options)


@cache
def alone(network: str, name: str) -> Graph:
    """Return the step with one technique; raises where it does not apply by itself."""
    return apply(parse(text_of(name)), plain(network))


def applied(text: str, make: Callable[[], Graph]) -> Graph | None:
    """Return the graph that `make` returns; None where a technique says, in one line, that it does not apply."""
    reason = ""
    try:
        return make()
    except TrainwattError as error:
        reason = str(error)
    assert reason.count("\n") == 0, f"{text} says more than one line"
    assert ";" in reason, f"{text} does not say what would be right: {reason}"
    return None


def check_holds_together(graph: Graph) -> None:
    """Check that a graph is priced, re-batched and replayed, and that its lifetimes are those of its uses."""
    for batch in (graph.batch, 2, 11):
        if graph.meta.get("fixed_batch") and batch != graph.batch:
            continue
        at = graph.rebatch(batch)
        work = work_of(at)
        for column in (work.macs, work.flops, work.traffic_bytes):
            assert np.all(np.isfinite(column))
            assert np.all(np.asarray(column) >= 0)
        assert replay(at.worst()).peak_bytes > 0
    assert settle(graph.ops, graph.tensors, graph.storages) == graph.storages
    made = {i for i, s in enumerate(graph.storages) if s.born < 0}
    for op in graph.ops:
        taken = {graph.tensors[t].storage for t in (*op.inputs, *op.mutates)}
        assert taken <= made, f"{op.kind} in {op.layer} takes what no op has made"
        made |= {graph.tensors[t].storage for t in op.outputs}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("network", ["resnet8-cifar", "mobilenetv2"])
def test_a_technique_alone_gives_a_step_that_holds_together_or_says_why_not(name: str, network: str) -> None:
    graph = applied(text_of(name), lambda: alone(network, name))
    if graph is not None:
        check_holds_together(graph)


@pytest.mark.parametrize("second", NAMES)
@pytest.mark.parametrize("first", NAMES)
def test_one_technique_after_another_holds_together_or_says_why_not(first: str, second: str) -> None:
    graph = applied(text_of(second), lambda: apply(parse(text_of(second)), alone("resnet8-cifar", first)))
    if graph is not None:
        check_holds_together(graph)


FREE_OF_DATA = ("accumulate", "channels-last", "freeze-bn", "recompute", "sparse-update")
"""Techniques whose steps are the same for all data, so that any two can be traced together."""

TWINS = list(itertools.permutations(FREE_OF_DATA, 2))


@pytest.mark.parametrize(("first", "second"), TWINS, ids=map("-then-".join, TWINS))
def test_two_transforms_are_the_trace_of_two_twins_in_that_order(first: str, second: str) -> None:
    transformed, ran = both(f"{text_of(first)},{text_of(second)}", "resnet8-cifar", batch=4)
    assert_agree(transformed, ran, share=0)
