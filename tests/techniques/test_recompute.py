"""Gradient checkpointing: the transform against the trace of the twin, numbers by hand, and real steps."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.memory import replay
from simulator.techniques import apply, parse
from simulator.techniques.recompute import Piece, Recompute, recomputed_pieces
from simulator.work import work_of
from tests.techniques.agreement import assert_agree, both, described, sums
from tests.techniques.real import random_workload, real_step
from workloads import trace
from workloads.techniques import make_step

SMALL = {"input_shape": (3, 64, 64)}
CASES = [
    ("recompute{segments=2}", "lenet5", {}),
    ("recompute{segments=3}", "resnet8-cifar", {}),
    ("recompute{segments=3}", "resnet8-cifar", {"precision": "bf16"}),
    ("recompute{segments=3}", "resnet8-cifar", {"batch_norm": "eval", "channels_last": True}),
    ("recompute", "resnet20-cifar", {}),
    ("recompute", "mobilenetv2", SMALL),
    ("recompute{segments=6}", "squeezenet1.1", SMALL),
    ("recompute{segments=10}", "vgg11", SMALL),
    ("recompute{segments=3}", "vit-tiny", {}),
    ("recompute{blocks=layer1.0|layer3.0}", "resnet8-cifar", {}),
    ("recompute{blocks=layer2.1-2|layer1.0-1|layer3.0-2}", "resnet20-cifar", {"precision": "bf16"}),
    ("recompute{blocks=features.1|features.4-7|features.17-18|classifier.1}", "mobilenetv2", SMALL),
    ("recompute{blocks=features.3-8|features.13}", "vgg11", SMALL),
]


def without_saved(graph: Graph) -> list[tuple[Any, ...]]:
    """Return the ops without what each has saved: a trace sees no more of a checkpoint than that its input is kept."""
    return [op[:-1] for op in described(graph)]


def of_some_size(graph: Graph) -> list[tuple[Any, ...]]:
    """Return the ops without those that make an empty tensor."""
    return [op for op in without_saved(graph) if op[0] != "empty"]


@pytest.fixture(scope="module")
def step() -> Graph:
    return trace("resnet8-cifar", batch=4)


@pytest.mark.parametrize(("text", "network", "options"), CASES)
def test_the_transform_is_the_trace_of_the_twin_op_by_op(text: str, network: str, options: dict[str, Any]) -> None:
    transformed, ran = both(text, network, batch=2, **options)
    assert without_saved(transformed) == without_saved(ran)
    assert sums(transformed) == sums(ran)  # peak memory and traffic to the byte
    assert [op.layer for op in transformed.ops] == [op.layer for op in ran.ops]


@pytest.mark.parametrize(
    "text",
    [
        "recompute{segments=3},accumulate{steps=2}",
        "accumulate{steps=2},recompute{segments=3}",
        "recompute{segments=3},sparse-update{last=2}",
        "sparse-update{last=2},recompute{segments=3}",
        "recompute{segments=3},sparse-update{last=4}",
        "sparse-update{last=4},recompute{segments=3}",
        "recompute{segments=3},sparse-update{layers=layer1}",
        "sparse-update{parameters=biases},recompute{segments=3}",
        "recompute{segments=3},sparse-update{parameters=biases}",
        "recompute{segments=3},freeze-bn",
        "freeze-bn{affine=false},recompute{segments=3}",
        "recompute{segments=3},channels-last",
        "channels-last,recompute{segments=3}",
        "recompute{blocks=layer1.0|layer3.0},accumulate{steps=2}",
        "accumulate{steps=2},recompute{blocks=layer1.0|layer3.0}",
        "sparse-update{last=4},recompute{blocks=layer2.0|layer3.0}",
        "freeze-bn,recompute{blocks=layer2.0}",
    ],
)
def test_it_composes_in_both_orders(text: str) -> None:
    transformed, ran = both(text, "resnet8-cifar", batch=4)
    assert_agree(transformed, ran)
    assert sums(transformed) == sums(ran)
    assert of_some_size(transformed) == of_some_size(ran)


def test_a_frozen_segment_is_not_run_again(step: Graph) -> None:
    graph = apply(parse("recompute{segments=3},sparse-update{last=1}"), step)
    assert not [op for op in graph.ops if op.phase == "backward" and op.kind == "convolution"]


def test_the_recomputed_segments_run_their_convolutions_once_more(step: Graph) -> None:
    before, after = work_of(step), work_of(apply(parse("recompute{segments=3}"), step))
    # layer1 and layer2, of a batch of 4: 2 convolutions 16 -> 16 at 32x32; 16 -> 32 and 32 -> 32 at 16x16, all 3x3
    again = 4 * 9 * (2 * 16 * 16 * 32 * 32 + (16 * 32 + 32 * 32) * 16 * 16)
    assert after.total(after.macs) - before.total(before.macs) == again


def test_only_the_inputs_of_segments_are_kept(step: Graph) -> None:
    graph = apply(parse("recompute{segments=3}"), step)
    last = max(i for i, op in enumerate(graph.ops) if op.phase == "forward")
    # between forward and backward the only maps of layer1 and layer2 in memory are the two that enter them
    alive = [s for s in graph.storages if 0 <= s.born <= last < (s.died if s.died is not None else last)]
    layers = [graph.ops[s.born].layer for s in alive if s.role == "saved"]
    assert [layer for layer in layers if layer.startswith(("layer1", "layer2"))] == ["layer1.0.bn2", "layer2.0.bn2"]


def test_batch_norm_updates_its_statistics_twice(step: Graph) -> None:
    graph = apply(parse("recompute{segments=3}"), step)
    updates = [op.phase for op in graph.ops if op.kind == "native_batch_norm" and op.layer == "layer1.0.bn1"]
    assert updates == ["forward", "backward"]


def test_a_deep_network_needs_less_than_half_of_the_memory() -> None:
    graph = trace("resnet32-cifar", batch=32)
    assert replay(apply(parse("recompute{segments=5}"), graph)).peak_bytes < replay(graph).peak_bytes / 2


def test_one_segment_is_plain_training(step: Graph) -> None:
    assert apply(parse("recompute{segments=1}"), step).ops == step.ops


def test_segments_are_cut_by_blocks_with_parameters_and_end_with_their_container() -> None:
    names = [f"features.{i}.weight" for i in (0, 2, 3, 5)] + ["stem.weight", "head.1.weight", "head.1.bias"]
    assert recomputed_pieces(Recompute(segments=2), names) == [Piece("features", 0, 3)]
    assert recomputed_pieces(Recompute(segments=5), names) == [
        Piece("features", 0, 2),
        Piece("features", 2, 3),
        Piece("features", 3, 5),
        Piece("features", 5, None),
    ]
    two = ["a.0.w", "a.1.w", "b.0.w", "b.1.w", "c.0.w", "c.1.w"]  # 3 blocks a segment: a.0 a.1 b.0 | b.1 c.0 c.1
    assert recomputed_pieces(Recompute(segments=2), two) == [Piece("a", 0, None), Piece("b", 0, 1)]


def test_named_blocks_end_where_the_next_of_their_container_begins() -> None:
    names = [f"features.{i}.weight" for i in (0, 2, 3, 5)] + ["stem.weight", "head.1.weight", "head.1.bias"]
    pieces = recomputed_pieces(Recompute(blocks=("head.1", "features.3-5", "features.0")), names)
    assert pieces == [Piece("features", 0, 2), Piece("features", 3, None), Piece("head", 1, None)]
    assert recomputed_pieces(Recompute(blocks=("0-2",)), ["0.w", "2.w", "3.w"]) == [Piece("", 0, 3)]


def test_segments_and_the_same_blocks_by_name_are_one_plan() -> None:
    graph = trace("resnet20-cifar", batch=2)
    by_name = apply(parse("recompute{blocks=layer1.0-2|layer2.0-2}"), graph)
    assert described(by_name) == described(apply(parse("recompute{segments=3}"), graph))


@pytest.mark.parametrize(("layer", "inside"), [("f.2", True), ("f.3.conv", True), ("f.4", False), ("g.2", False)])
def test_a_piece_holds_the_layers_of_its_children(layer: str, inside: bool) -> None:
    assert Piece("f", 2, 4).holds(layer) is inside


def test_it_does_not_touch_its_input_and_commutes_with_rebatching(step: Graph) -> None:
    before = repr((step.ops, step.tensors, step.storages))
    technique = parse("recompute{segments=3}")
    assert sums(apply(technique, step).rebatch(7)) == sums(apply(technique, step.rebatch(7)))
    assert repr((step.ops, step.tensors, step.storages)) == before


@pytest.mark.parametrize(
    ("text", "network", "reason"),
    [
        ("recompute{segments=9}", "resnet8-cifar", "segments=9 of 3 numbered blocks; give 1 to 3"),
        ("recompute", "lstm", "it takes a network with a Sequential of blocks"),
        ("recompute{blocks=layer1.7}", "resnet8-cifar", "no block 'layer1.7'; did you mean 'layer1.0'"),
        ("recompute{blocks=layer1.0|layer1.0}", "resnet8-cifar", "recompute of layer1.0; give each block once"),
        ("recompute{blocks=layer1.2-1}", "resnet20-cifar", "from their first to their last"),
        ("recompute{blocks=layer1.0-1|layer1.1-2}", "resnet20-cifar", "recompute of layer1.1-2; give each block once"),
    ],
)
def test_transform_and_twin_refuse_alike(text: str, network: str, reason: str) -> None:
    with pytest.raises(TrainwattError, match=reason):
        apply(parse(text), trace(network, batch=2))
    with pytest.raises(TrainwattError, match=reason):
        trace(network, batch=2, techniques=parse(text))


@pytest.mark.parametrize("blocks", ["layer1", "layer1.x", "layer1.0-", "layer1.0-layer1.1"])
def test_blocks_are_numbered(blocks: str) -> None:
    with pytest.raises(TrainwattError, match=r"blocks is a list such as layer1\.0\|features\.3-7"):
        parse(f"recompute{{blocks={blocks}}}")


def test_it_is_given_once(step: Graph) -> None:
    text = "recompute{segments=2},recompute{segments=3}"
    with pytest.raises(TrainwattError, match="give it once"):
        apply(parse(text), step)
    with pytest.raises(TrainwattError, match="recompute it once"):
        trace("resnet8-cifar", batch=2, techniques=parse(text))


def test_blocks_that_are_no_sequential_have_no_twin() -> None:
    class Looped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for block in self.blocks:
                x = block(x)
            return x

    workload = random_workload(Looped(), (4,), 4)
    with pytest.raises(TrainwattError, match=r"blocks \(a ModuleList\); it takes a torch\.nn\.Sequential"):
        make_step(parse("recompute"), workload, lambda p: torch.optim.SGD(p, lr=0.1))


def test_a_segment_that_begins_by_changing_its_input_is_refused() -> None:
    def block() -> nn.Module:
        return nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4))

    model = nn.Sequential(nn.Linear(4, 4), *(block() for _ in range(3)))
    graph = trace(random_workload(model, (4,), 4), batch=2)
    with pytest.raises(TrainwattError, match="changes its input in place"):
        apply(parse("recompute{segments=4}"), graph)


def test_real_gradients_are_those_of_plain_training_dropout_included() -> None:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(12, 12), nn.Dropout(0.5), nn.Tanh()) for _ in range(6)]
    model = nn.Sequential(nn.Flatten(), *blocks, nn.Linear(12, 5))
    gradients = []
    for text in ("smd{p=0}", "recompute{segments=3}"):
        workload = random_workload(copy.deepcopy(model), (3, 2, 2), 5)
        step = real_step(text, workload)
        torch.manual_seed(1)
        step.backward(workload.inputs(8), workload.targets(8))
        gradients.append([p.grad for p in workload.model.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
