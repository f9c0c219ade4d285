"""Gradient filtering: the transform against its runnable twin, what it saves, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.memory import storage_bytes
from simulator.techniques import apply, parse
from simulator.techniques.gradient_filter import GradientFilter
from simulator.work import work_of
from tests.techniques.agreement import assert_agree, both, described, sums
from workloads import trace

SMALL = {"input_shape": (3, 64, 64), "batch": 2}
MIXED, SHUFFLED = "tests.techniques.filterable:Mixed", "tests.techniques.filterable:Shuffled"
ODD = {"input_shape": (3, 18, 18)}


@pytest.mark.parametrize(
    ("text", "network", "options"),
    [
        ("gradient-filter{patch=2}", "resnet8-cifar", {}),
        ("gradient-filter{patch=4,variant=official}", "resnet8-cifar", {}),
        ("gradient-filter{patch=3,last=9}", "mobilenetv2", SMALL),
        ("gradient-filter{patch=4,last=9,variant=official}", "mobilenetv2", SMALL),
        ("gradient-filter{patch=4}", "squeezenet1.1", SMALL),
        ("gradient-filter{patch=2,variant=official}", "squeezenet1.1", SMALL),
        ("gradient-filter{patch=2}", MIXED, ODD),
        ("gradient-filter{patch=4}", MIXED, {**ODD, "accumulate": 2}),
        ("gradient-filter{patch=2,variant=official}", MIXED, {**ODD, "accumulate": 2}),
        ("gradient-filter{patch=4,variant=official}", MIXED, ODD),
        ("gradient-filter{patch=4}", SHUFFLED, ODD),
        ("gradient-filter{patch=3,layers=second}", SHUFFLED, {**ODD, "precision": "bf16"}),
    ],
)
def test_the_transform_is_the_trace_of_the_twin(text: str, network: str, options: dict[str, Any]) -> None:
    transformed, ran = both(text, network, **options)
    assert_agree(transformed, ran)
    assert described(transformed) == described(ran)
    assert sums(transformed).peak_bytes == sums(ran).peak_bytes


@pytest.mark.parametrize("variant", ["lean", "official"])
@pytest.mark.parametrize(
    "text",
    [
        "sparse-update{{last=3}},gradient-filter{{patch=2,last=4,variant={}}}",
        "gradient-filter{{patch=2,last=4,variant={}}},sparse-update{{last=3}}",
        "sparse-update{{parameters=biases}},gradient-filter{{patch=2,last=3,variant={}}}",
        "gradient-filter{{patch=2,last=3,variant={}}},sparse-update{{parameters=biases}}",
        "smd{{p=0.25}},gradient-filter{{patch=2,variant={}}}",
    ],
)
def test_in_either_order_with_other_techniques_it_is_the_trace_of_both_twins(text: str, variant: str) -> None:
    transformed, ran = both(text.format(variant), "resnet8-cifar", batch=2)
    assert described(transformed) == described(ran)
    assert sums(transformed).peak_bytes == sums(ran).peak_bytes
    assert sums(transformed).saved_bytes == sums(ran).saved_bytes


def test_a_step_filtered_in_patches_of_one_is_the_step_itself() -> None:
    transformed, ran = both("gradient-filter{patch=1}", "resnet8-cifar", batch=2)
    plain = trace("resnet8-cifar", batch=2)
    assert described(transformed) == described(ran) == described(plain)


def layer_macs(graph: Graph, layer: str) -> float:
    work = work_of(graph)
    wanted = [i for i, op in enumerate(graph.ops) if op.layer == layer and op.phase == "backward"]
    return float(sum(work.macs[work.row_of_op[wanted]]))


@pytest.mark.parametrize("variant", ["lean", "official", "kernel"])
def test_the_products_of_a_layer_by_hand(variant: str) -> None:
    # a 3x3 convolution of 64 to 64 channels on 8x8 maps, batch 2: dx and dweight take 2 * 8*8 * 64*64 * 9 MACs each;
    # on 4 patches of 4x4, 2 * 4 * 64*64 each, 144 times fewer
    plain = trace("resnet8-cifar", batch=2)
    layer = [op.layer for op in plain.ops if op.kind == "convolution" and op.phase == "forward"][-1]
    filtered = apply(parse(f"gradient-filter{{patch=4,last=1,variant={variant}}}"), plain)
    assert layer_macs(plain, layer) == 2 * 2 * 64 * 64 * 64 * 9
    assert layer_macs(filtered, layer) == 2 * 2 * 4 * 64 * 64


def test_the_kernel_variant_writes_no_full_size_gradient() -> None:
    graph = apply(parse("gradient-filter{patch=4,variant=kernel}"), trace(MIXED, batch=4, **ODD)).concrete()
    for op in graph.ops:
        if op.phase == "backward" and op.kind.startswith("convolution_grad"):
            assert graph.tensors[op.outputs[0]].shape[2:] in ((), (5, 5), (3, 3), (1, 1))
    work = work_of(graph)
    lean = work_of(apply(parse("gradient-filter{patch=4}"), trace(MIXED, batch=4, **ODD)))
    assert work.total(work.traffic_bytes) < lean.total(lean.traffic_bytes)


def test_the_kernel_variant_has_no_runnable_form() -> None:
    with pytest.raises(TrainwattError, match=r"variant=kernel} has no runnable form.*use variant=lean"):
        trace("resnet8-cifar", batch=2, techniques=parse("gradient-filter{variant=kernel}"))


TUNED = "layer4.0.conv1|layer4.0.bn1|layer4.0.conv2|layer4.0.bn2|layer4.1|fc"
FILTERED = ("layer4.0.conv1", "layer4.0.conv2", "layer4.1")


def saved_kib(graph: Graph, rank: int) -> float:
    """KiB of the storages that autograd keeps of activations with tensors of `rank` dimensions."""
    size = storage_bytes(graph)
    kept = {t for op in graph.ops for t in op.saved if len(graph.tensors[t].shape) == rank}
    storages = {graph.tensors[t].storage for t in kept}
    return sum(int(size[s]) for s in storages if graph.storages[s].born >= 0) / 1024


def test_resnet18_keeps_what_the_published_operator_was_seen_to_keep() -> None:
    # Observed with saved-tensor hooks on the authors' code, last four convolutions of ResNet-18 at 224x224, batch norm
    # in training mode: 980 -> 896 -> 812 KiB per image in maps, plus 3584 KiB of theta whatever the batch.
    # 980: input 256x14x14 (196), and of each of four convolutions the output for batch norm and that of ReLU (98 each).
    batch = 2
    tuned = apply(parse(f"sparse-update{{layers={TUNED}}}"), trace("resnet18", batch=batch, rebatches=False))
    assert saved_kib(tuned, 4) == 980 * batch
    for patch, kib in ((2, 896), (4, 812)):
        filtered = GradientFilter(patch=patch, layers=FILTERED)
        official = apply([replace(filtered, variant="official")], tuned)
        assert saved_kib(official, 4) == kib * batch
        theta = 4 * (512 * 256 + 3 * 512 * 512) / 1024
        assert saved_kib(official, 2) - saved_kib(tuned, 2) == theta == 3584
        lean = apply([filtered], tuned)
        assert saved_kib(lean, 4) == kib * batch
        assert saved_kib(lean, 2) == saved_kib(tuned, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gradient-filter{patch=2,layers=up}", "'up', which is transposed; .*leave it out"),
        ("gradient-filter{patch=2,layers=grouped}", "'grouped' of 2 groups, 4 to 4 channels; groups are 1, or"),
        (
            "gradient-filter{patch=2,layers=valid}",
            "'valid' of padding 0: 10 outputs are 5 patches of 2, 12 inputs 6 of 2",
        ),
        ("gradient-filter{patch=2,layers=line}", "'line' of 1 dimensions; convolutions of 2"),
        ("gradient-filter{patch=2,layers=uneven}", r"dilation \(2, 1\); it is at least the patch along both axes"),
        ("gradient-filter{patch=2,layers=nothing}", "no convolutions 'nothing'"),
        ("gradient-filter{patch=2,last=9}", "last=9 of 5 convolutions"),
        ("gradient-filter{patch=0}", "patch=0; patch is the side of a patch, at least 1"),
        ("error-map-prune{layers=valid},gradient-filter{patch=2,layers=valid}", "another technique changed"),
    ],
)
def test_what_cannot_be_filtered_is_refused_by_transform_and_twin(text: str, message: str) -> None:
    network = "tests.techniques.filterable:Unfilterable"
    with pytest.raises(TrainwattError, match=message):
        apply(parse(text), trace(network, batch=2, input_shape=(3, 12, 12)))
    with pytest.raises(TrainwattError, match=message):
        trace(network, batch=2, input_shape=(3, 12, 12), techniques=parse(text))
