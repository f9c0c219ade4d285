"""The frees that the rule derives are the frees that a trace observed."""

from __future__ import annotations

import pytest

from simulator.graph import Graph
from simulator.rewriting.edit import Edit
from simulator.rewriting.lifetimes import settle
from workloads import trace

NETWORKS = ("resnet8-cifar", "mobilenetv2", "squeezenet1.1", "googlenet", "vgg11-cifar", "vit-tiny", "lstm")


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("optimizer", ["sgd{momentum=0.9}", "adam"])
def test_derived_frees_are_the_observed_ones(network: str, optimizer: str) -> None:
    graph = trace(network, batch=2, optimizer=optimizer)
    for form in (graph, graph.other):
        if isinstance(form, Graph):
            assert settle(form.ops, form.tensors, form.storages) == form.storages


@pytest.mark.parametrize("network", ["resnet8-cifar", "mobilenetv2"])
def test_an_edit_without_a_change_gives_the_graph_back(network: str) -> None:
    graph = trace(network, batch=2)
    again = Edit(graph).graph()
    assert again.ops == graph.ops
    assert [(s.size_bytes, s.born, s.died) for s in again.storages] == [
        (s.size_bytes, s.born, s.died) for s in graph.storages
    ]


def test_sweeping_a_whole_step_takes_nothing_out() -> None:
    graph = trace("mobilenetv2", batch=2)
    edit = Edit(graph)
    edit.sweep()
    assert edit.graph().ops == graph.ops
