"""Channels-last memory format: the transform against a traced channels-last step, and strides by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from simulator.errors import TrainwattError
from simulator.extent import symbol
from simulator.graph import Graph, Layout
from simulator.rewriting.memory_format import channels_last, is_channels_last
from simulator.rewriting.shapes import contiguous
from simulator.rewriting.views import viewed
from simulator.techniques import apply, parse
from simulator.work import work_of
from tests.techniques.agreement import both, described, sums
from tests.techniques.real import random_workload, real_step
from workloads import trace

SMALL = {"input_shape": (3, 64, 64)}
NETWORKS = [
    ("lenet5", {}),
    ("resnet8-cifar", {"optimizer": "adam"}),
    ("resnet8-cifar", {"precision": "bf16", "foreach": True}),
    ("vgg11-cifar", {}),
    ("mobilenetv2", SMALL),
    ("squeezenet1.1", SMALL),
    ("googlenet", SMALL),
    ("pspnet-resnet18", SMALL),
]


@pytest.fixture(scope="module")
def step() -> Graph:
    return trace("resnet8-cifar", batch=4)


@pytest.mark.parametrize(("network", "options"), NETWORKS)
def test_the_transform_is_a_traced_channels_last_step_stride_by_stride(network: str, options: dict[str, Any]) -> None:
    transformed, ran = both("channels-last", network, batch=4, **options)
    assert described(transformed) == described(ran)
    assert sums(transformed) == sums(ran)  # peak memory and traffic to the byte


def test_the_twin_is_the_option_of_a_trace(step: Graph) -> None:
    assert described(apply(parse("channels-last"), step)) == described(
        trace("resnet8-cifar", batch=4, channels_last=True)
    )


@pytest.mark.parametrize(
    "text",
    [
        "channels-last,accumulate{steps=2}",
        "accumulate{steps=2},channels-last",
        "channels-last,sparse-update{last=3}",
        "sparse-update{last=3},channels-last",
        "freeze-bn,channels-last",
    ],
)
def test_it_composes_in_both_orders(text: str) -> None:
    transformed, ran = both(text, "resnet8-cifar", batch=4)
    assert described(transformed) == described(ran)
    assert sums(transformed) == sums(ran)


def test_no_arithmetic_changes(step: Graph) -> None:
    before, after = work_of(step), work_of(apply(parse("channels-last"), step))
    assert after.total(after.macs) == before.total(before.macs)
    assert all(op.runs == 1 for op in apply(parse("channels-last"), step).ops)


def test_the_convolutions_of_a_resnet_work_on_channels_last_tensors_only(step: Graph) -> None:
    graph = apply(parse("channels-last"), step).concrete()
    for op in graph.ops:
        if op.kind.startswith("convolution"):
            layouts = [graph.tensors[t].layout for t in (*op.inputs, *op.outputs)]
            assert all(layout.stride == channels_last(layout.shape) for layout in layouts if len(layout.shape) == 4)


def test_it_does_not_touch_its_input_and_commutes_with_rebatching(step: Graph) -> None:
    before = repr((step.ops, step.tensors, step.storages))
    technique = parse("channels-last")
    assert described(apply(technique, step).rebatch(7)) == described(apply(technique, step.rebatch(7)))
    assert repr((step.ops, step.tensors, step.storages)) == before


def test_it_is_given_once(step: Graph) -> None:
    with pytest.raises(TrainwattError, match="channels last already"):
        apply(parse("channels-last,channels-last"), step)
    with pytest.raises(TrainwattError, match="channels last already"):
        trace("lenet5", batch=2, techniques=parse("channels-last,channels-last"))


def test_a_part_of_a_channels_last_tensor_is_one_and_a_row_of_pixels_is_not() -> None:
    n = symbol("batch")
    assert is_channels_last(Layout((n, 3, 4, 5), (60, 1, 15, 3), "float32"))
    assert is_channels_last(Layout((n, 3, 4, 5), (120, 1, 30, 6), "float32"))  # channels 0:3 of 6
    assert not is_channels_last(Layout((n, 3, 4, 5), (60, 20, 5, 1), "float32"))
    assert not is_channels_last(Layout((n, 3, 4, 5), (3, 1, 0, 0), "float32"))  # one pixel, expanded


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.permutations(range(4)), st.data())
def test_views_have_the_strides_that_pytorch_gives_them_or_none(shape: list[int], order: Any, data: Any) -> None:
    order = [d for d in order if d < len(shape)]
    tensor = torch.empty([shape[d] for d in order]).permute([order.index(d) for d in range(len(shape))])
    numel = tensor.numel()
    first = data.draw(st.sampled_from([d for d in range(1, numel + 1) if numel % d == 0]))
    rest = numel // first
    second = data.draw(st.sampled_from([d for d in range(1, rest + 1) if rest % d == 0]))
    new = (first, second, rest // second)
    try:
        expected = tensor.view(new).stride()
    except RuntimeError:
        assert viewed(shape, tensor.stride(), new) is None
    else:
        found = viewed(shape, tensor.stride(), new)
        assert found is not None
        assert all(a == b for a, b, e in zip(found, expected, new, strict=True) if e > 1)


def test_a_view_may_merge_the_batch_with_another_dimension() -> None:
    n = symbol("batch")
    assert viewed((n, 6, 4), contiguous((n, 6, 4)), (n * 6, 4)) == (4, 1)
    assert viewed((n, 6, 2, 2), (24, 1, 12, 6), (n, 24)) is None
    assert viewed((n, 6, 1, 1), (6, 1, 6, 6), (n, 6)) == (6, 1)


def test_a_real_step_computes_the_same_in_channels_last_format() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))
    other = copy.deepcopy(model)
    plain, last = (
        real_step(t, random_workload(m, (3, 4, 4), 5)) for t, m in (("smd{p=0}", model), ("channels-last", other))
    )
    assert last.workload.inputs(4).is_contiguous(memory_format=torch.channels_last)
    for each in (plain, last):
        each.run(each.workload.inputs(8), each.workload.targets(8))
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, check_stride=False)
