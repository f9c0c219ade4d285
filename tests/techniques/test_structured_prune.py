"""Structured pruning: the pruned graph is the graph of the narrower network, and of the model that is really pruned."""

from __future__ import annotations

import csv
import gzip
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from simulator.errors import TrainwattError
from simulator.extent import evaluate
from simulator.graph import Graph
from simulator.memory import replay
from simulator.rewriting.channels import channel_graph
from simulator.rewriting.pruning_cost import scoring_graph
from simulator.techniques import apply, parse
from simulator.techniques.structured_prune import StructuredPrune
from simulator.work import work_of
from tests.techniques.agreement import assert_agree, both, sums
from tests.techniques.prunable import NETS
from workloads import trace
from workloads.losses import cross_entropy
from workloads.techniques.structured_prune import workload as really_pruned
from workloads.workload import Workload

SMALL: Mapping[str, tuple[int, ...]] = {
    "resnet18": (3, 32, 32),
    "resnet8-cifar": (3, 16, 16),  # shortcuts padded with zeros
    "mobilenetv2": (3, 32, 32),  # depthwise
    "squeezenet1.1": (3, 32, 32),  # concatenation, a convolution as classifier
    "googlenet": (3, 32, 32),
    "vgg11-cifar": (3, 32, 32),
    "pspnet-resnet18": (3, 64, 64),  # resampling
}


@cache
def plain(network: str, **options: Any) -> Graph:
    return trace(network, batch=4, input_shape=SMALL[network], **options)


@cache
def plain_net(name: str) -> Graph:
    return trace(NETS[name](), batch=4, classes=10, input_shape=(3, 16, 16))


def kept_widths(technique: StructuredPrune, graph: Graph) -> dict[str, int]:
    """Return the output channels that the layers keep which a technique may prune."""
    channels = channel_graph(graph)
    sizes = {**channels.graph.sizes, **technique.sizes(channels.groups, channels.fixed)}
    return {layer: evaluate(width, sizes) for layer, width in channels.widths.items() if layer not in channels.fixed}


def assert_same_ops(pruned: Graph, fresh: Graph) -> None:
    """Assert that two graphs have the same ops, attributes, shapes, strides, bytes, saved tensors and lifetimes."""
    assert pruned.ops == fresh.ops
    assert pruned.tensors == fresh.tensors
    assert pruned.storages == fresh.storages
    assert (pruned.smallest_batch, type(pruned.other)) == (fresh.smallest_batch, type(fresh.other))


def assert_same(pruned: Graph, fresh: Graph) -> None:
    """Assert that two graphs are the same, at their batch size and in the form that they have at batch 1."""
    assert_same_ops(pruned, fresh)
    if isinstance(pruned.other, Graph) and isinstance(fresh.other, Graph):
        assert_same_ops(pruned.other, fresh.other)
    assert pruned.sizes == fresh.sizes
    assert sums(pruned) == sums(fresh)  # MACs, FLOPs, traffic, saved bytes, peak memory
    for name in ("parameters", "trained_parameters"):
        assert pruned.meta[name] == fresh.meta[name]


# -- the oracle: a fresh trace of the network with these widths --------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "ratio"), [(name, 0.5) for name in SMALL] + [(name, 0.3) for name in SMALL if "psp" not in name]
)
def test_a_pruned_step_is_the_step_of_the_network_built_with_these_widths(network: str, ratio: float) -> None:
    technique = StructuredPrune(ratio)
    pruned = apply([technique], plain(network))
    fresh = trace(network, batch=4, input_shape=SMALL[network], widths=kept_widths(technique, plain(network)))
    assert_same(pruned, fresh)
    assert sums(pruned).macs < sums(plain(network)).macs


@pytest.mark.parametrize("ratio", [0.5, 0.25])
@pytest.mark.parametrize("name", NETS)
def test_linear_layers_groups_gates_shuffles_and_concatenations_are_pruned_alike(name: str, ratio: float) -> None:
    technique = StructuredPrune(ratio, layers=("*",))
    widths = kept_widths(technique, plain_net(name))
    fresh = trace(NETS[name](widths), batch=4, classes=10, input_shape=(3, 16, 16))
    assert_same(apply([technique], plain_net(name)), fresh)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adamw", "foreach": True},
        {"precision": "bf16"},
        {"channels_last": True},
        {"accumulate": 2},
        {"train": "last=3"},
        {"batch_norm": "eval"},
        {"rebatches": False},
    ],
    ids=lambda options: next(iter(options)),
)
def test_however_the_step_is_trained_it_is_pruned_alike(options: dict[str, Any]) -> None:
    technique = StructuredPrune(0.4)
    whole = trace("resnet8-cifar", batch=4, input_shape=(3, 16, 16), **options)
    widths = kept_widths(technique, whole)
    fresh = trace("resnet8-cifar", batch=4, input_shape=(3, 16, 16), widths=widths, **options)
    assert_same(apply([technique], whole), fresh)


def test_a_transformer_keeps_its_heads_and_narrows_them() -> None:
    whole = trace("vit-tiny", batch=2)
    layers = [op.layer for op in whole.ops if op.phase == "forward" and op.kind == "addmm"]
    given = ["patch_embed.proj:96"]
    given += [f"{layer}:288" for layer in layers if layer.endswith("qkv")]
    given += [f"{layer}:384" for layer in layers if layer.endswith("fc1")]
    pruned = apply([StructuredPrune(widths=tuple(given))], whole)
    assert_same(pruned, trace("vit-tiny", batch=2, widths={"patch_embed.proj": 96}))


# -- re-batching -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [7, 1])
@pytest.mark.parametrize("network", ["resnet8-cifar", "squeezenet1.1"])
def test_a_pruned_step_still_rebatches_and_the_order_does_not_matter(network: str, batch: int) -> None:
    technique = StructuredPrune(0.5)
    pruned = apply([technique], plain(network)).rebatch(batch)
    widths = kept_widths(technique, plain(network))
    fresh = trace(network, batch=batch, input_shape=SMALL[network], widths=widths)
    assert_same(pruned, fresh)
    assert_same(pruned, apply([technique], plain(network).rebatch(batch)))


# -- properties --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", SMALL)
def test_pruning_nothing_changes_nothing(network: str) -> None:
    assert_same(apply([StructuredPrune(0.0)], plain(network)), plain(network))


@pytest.mark.parametrize("network", ["resnet8-cifar", "mobilenetv2", "googlenet"])
def test_macs_traffic_and_memory_fall_with_the_ratio(network: str) -> None:
    series = [sums(apply([StructuredPrune(ratio / 10)], plain(network))) for ratio in range(0, 10, 2)]
    for quantity in ("macs", "flops", "saved_bytes", "traffic_bytes", "peak_bytes"):
        values = [getattr(one, quantity) for one in series]
        assert values == sorted(values, reverse=True), quantity
        assert values[-1] < values[0]


def test_two_channels_are_left_of_every_layer_and_a_minimum_above_the_width_prunes_nothing() -> None:
    widths = kept_widths(StructuredPrune(0.99), plain("resnet8-cifar"))
    assert set(widths.values()) == {2}
    assert_same(apply([StructuredPrune(0.9, minimum=64)], plain("resnet8-cifar")), plain("resnet8-cifar"))


def test_half_a_channel_rounds_up_and_a_grouped_convolution_keeps_its_groups_equal() -> None:
    assert kept_widths(StructuredPrune(0.5), plain_net("DenseNet"))["transition"] == 5
    # 24 channels in 4 groups are 6 units: 0.25 * 6 = 1.5 rounds to 2 of them.
    assert kept_widths(StructuredPrune(0.75), plain_net("ResNeXt"))["grouped"] == 8


def test_layers_choose_groups_and_without_them_linear_layers_stay() -> None:
    widths = kept_widths(StructuredPrune(0.5, layers=("layer1.0.conv1",)), plain("resnet8-cifar"))
    assert (widths["layer1.0.conv1"], widths["conv1"], widths["layer2.0.conv1"]) == (8, 16, 32)
    # One layer of a group stands for all of it.
    widths = kept_widths(StructuredPrune(0.5, layers=("layer1.0.conv2",)), plain("resnet8-cifar"))
    assert (widths["layer1.0.conv2"], widths["conv1"]) == (8, 8)
    assert kept_widths(StructuredPrune(0.5), plain_net("SqueezeExcite"))["linear_down"] == 6


def test_given_widths_override_the_ratio() -> None:
    technique = StructuredPrune(0.5, widths=("layer1.0.conv1:3", "layer1.0.conv2:12"))
    widths = kept_widths(technique, plain("resnet8-cifar"))
    assert (widths["layer1.0.conv1"], widths["conv1"], widths["layer3.0.conv1"]) == (3, 12, 32)
    assert parse(str(technique)) == (technique,)


@pytest.mark.parametrize("other", ["sparse-update{last=2}", "recompute{segments=2}", "gradient-filter", "psg"])
def test_pruning_before_or_after_another_technique_gives_the_same_cost(other: str) -> None:
    whole = plain("resnet18")
    first, second = (apply(parse(text), whole) for text in (f"structured-prune,{other}", f"{other},structured-prune"))
    assert sums(first) == sums(second)


def test_what_chooses_among_channels_itself_is_refused_before_pruning() -> None:
    with pytest.raises(TrainwattError, match=r"no convolution whose channels can be pruned .*prune before other"):
        apply(parse("error-map-prune,structured-prune"), plain("resnet18"))
    assert sums(apply(parse("structured-prune,error-map-prune"), plain("resnet18"))).macs > 0


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("technique", "message"),
    [
        (
            {"layers": ("fc",)},
            "the channels of fc, which are fixed by aten::_log_softmax in <loss>; choose other layers",
        ),
        ({"layers": ("conv7",)}, "no prunable layer 'conv7'; did you mean 'conv1'"),
        ({"widths": ("conv7:3",)}, "no prunable layer 'conv7'; did you mean"),
        ({"widths": ("fc:3",)}, "the channels of fc, which are fixed by"),
        ({"widths": ("conv1:17",)}, "17 channels of conv1; it keeps at most 16"),
        ({"widths": ("conv1:8", "layer1.0.conv2:9")}, "9 channels of layer1.0.conv2; they go together with the conv1"),
        ({"layers": ("layer2.0.conv2",), "ratio": 0.9}, "13 channels more enter the padding in layer2.0 than leave it"),
    ],
)
def test_what_cannot_be_pruned_is_refused_in_one_line(technique: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainwattError, match=re.escape(message)) as caught:
        apply([StructuredPrune(**technique)], plain("resnet8-cifar"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"ratio": 1.0}, "ratio=1.0; ratio is a share"),
        ({"minimum": 0}, "minimum=0"),
        ({"widths": ("conv1",)}, "widths=conv1; widths is a list of LAYER:CHANNELS"),
        ({"widths": ("conv1:0",)}, "LAYER:CHANNELS"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainwattError, match=re.escape(message)):
        StructuredPrune(**parameters)


def test_a_network_without_convolutions_is_refused_with_what_is_in_the_way() -> None:
    with pytest.raises(TrainwattError, match=r"no convolution whose channels can be pruned \(fc is fixed by"):
        apply([StructuredPrune()], trace("lstm", batch=2))


def test_what_an_unknown_op_fixes_is_named_and_the_rest_is_pruned() -> None:
    with pytest.raises(TrainwattError, match="the channels of stem, which are fixed by aten::pixel_shuffle in <root>"):
        apply([StructuredPrune(layers=("stem",))], plain_net("Opaque"))
    assert kept_widths(StructuredPrune(), plain_net("Opaque")) == {"last": 4}
    unpruned = apply([StructuredPrune()], plain_net("Opaque")).meta["unpruned"]
    assert unpruned == {"stem": "aten::pixel_shuffle in <root>", "fc": "aten::_log_softmax in <loss>"}


# -- the model that is really pruned -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.5, 0.3])
@pytest.mark.parametrize("network", ["resnet18", "mobilenetv2", "squeezenet1.1", "vgg11-cifar"])
def test_transform_and_really_pruned_model_agree_op_by_op(network: str, ratio: float) -> None:
    pytest.importorskip("torch_pruning")
    transformed, ran = both(f"structured-prune{{ratio={ratio}}}", network, input_shape=SMALL[network])
    assert_agree(transformed, ran, share=0)
    assert_same(transformed, ran)


def test_chosen_layers_and_widths_are_really_pruned_alike() -> None:
    pytest.importorskip("torch_pruning")
    text = "structured-prune{ratio=0.4,layers=layer2|layer4.0.conv1,widths=layer2.0.conv1:17}"
    assert_same(*both(text, "resnet18", input_shape=SMALL["resnet18"]))


def test_grouped_convolutions_are_really_pruned_alike() -> None:
    pytest.importorskip("torch_pruning")
    technique = StructuredPrune(0.5)
    ran = trace(_job(NETS["ResNeXt"]()), batch=4, techniques=[technique])
    assert_same(apply([technique], trace(_job(NETS["ResNeXt"]()), batch=4)), ran)


def _job(model: nn.Module) -> Workload:
    return Workload(
        model, lambda n: torch.randn(n, 3, 16, 16), lambda n: torch.arange(n) % 10, cross_entropy, {"network": "own"}
    )


def test_the_filters_of_lowest_mean_magnitude_go_and_what_is_left_is_unchanged() -> None:
    pytest.importorskip("torch_pruning")
    model = NETS["DenseNet"]()
    model.two.weight.requires_grad_(False)
    model.norm_one.eval()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    job = really_pruned(StructuredPrune(0.5), _job(model))
    assert {name: module.out_channels for name, module in model.named_modules() if isinstance(module, nn.Conv2d)} == {
        "stem": 6,
        "one": 3,
        "two": 4,
        "transition": 5,
    }
    scores = before["stem.weight"].abs().mean((1, 2, 3))
    strongest = scores.argsort(descending=True)[:6].sort().values
    assert torch.equal(model.stem.weight, before["stem.weight"][strongest])
    assert torch.equal(model.norm_one.weight, before["norm_one.weight"][strongest])
    assert not model.two.weight.requires_grad
    assert model.one.weight.requires_grad
    assert model.training
    assert not model.norm_one.training
    job.loss(job.forward(job.inputs(2)), job.targets(2)).backward()


def test_a_channel_of_added_layers_goes_by_the_sum_of_their_scores() -> None:
    pytest.importorskip("torch_pruning")
    model = NETS["ResNeXt"]()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    really_pruned(StructuredPrune(0.5), _job(model))
    scores = sum(before[f"{name}.weight"].abs().mean((1, 2, 3)) for name in ("stem", "expand"))
    kept = scores.argsort(descending=True)[:8].sort().values
    assert torch.equal(model.stem.weight, before["stem.weight"][kept])


def test_a_model_that_the_library_cannot_prune_is_refused() -> None:
    pytest.importorskip("torch_pruning")
    with pytest.raises(TrainwattError, match=r"torch-pruning cannot prune CifarResNet: .*graph transform only"):
        trace("resnet8-cifar", batch=2, techniques=[StructuredPrune()])


# -- ranking the filters -----------------------------------------------------------------------------------------------


def test_ranking_reads_every_filter_once_and_its_magnitudes_once() -> None:
    # LeNet-5: 6 filters of 1x5x5 and 16 of 6x5x5, 150 + 2400 = 2550 weights of 4 bytes. |w|: 2550 FLOPs; sums: 2550
    # and 22 divisions. Read: weights and magnitudes; written: magnitudes and 22 scores.
    work = work_of(scoring_graph(trace("lenet5", batch=2)))
    assert work.total(work.flops) == 2550 + 2550 + 22
    assert work.total(work.read_bytes) == 2 * 4 * 2550
    assert work.total(work.written_bytes) == 4 * 2550 + 4 * 22
    assert work.total(work.macs) == 0


def test_ranking_costs_less_on_a_pruned_network_and_fits_into_twice_its_weights() -> None:
    whole = plain("resnet18")
    costs = [work_of(scoring_graph(g)) for g in (whole, apply([StructuredPrune(0.5)], whole))]
    assert costs[1].total(costs[1].flops) < 0.3 * costs[0].total(costs[0].flops)
    assert replay(scoring_graph(whole)).peak_bytes < 2 * 4 * whole.meta["parameters"]


def test_a_step_without_convolutions_has_no_filters_to_rank() -> None:
    with pytest.raises(TrainwattError, match="no convolution whose filters could be scored"):
        scoring_graph(trace("lstm", batch=2))


# -- published structures ----------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]
FOLDERS = [
    Path(os.environ.get("TRAINWATT_DATA", ROOT / "data")),
    *(p / "shared/data" for p in (ROOT, ROOT.parent)),
]
LAYERS = next((p for folder in FOLDERS if (p := folder / "tx2/layers.csv.gz").exists()), None)


@cache
def _resnet50() -> Graph:
    return trace("resnet50", batch=2, input_shape=(3, 32, 32))


@pytest.mark.skipif(LAYERS is None, reason="the measured data (tx2/layers.csv.gz) is not there")
@pytest.mark.parametrize("level", [0, 10, 30, 50, 70, 90])
def test_resnet50_as_measured_on_a_jetson_tx2_is_a_pruned_graph_of_the_whole_one(level: int) -> None:
    # Rajagopal and Bouganis 2021 (arXiv 2108.05580): randomly pruned, until about `level` % of the parameters are gone.
    assert LAYERS is not None
    with gzip.open(LAYERS, "rt", newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if (row["network"], row["prune_pct"], row["type"]) == ("resnet50", str(level), "Conv2d")
        ]
    published = {
        row["name"]: tuple(int(float(row[column])) for column in ("in_ch", "out_ch", "k", "stride")) for row in rows
    }
    modules = {op.layer.replace(".", "_"): op.layer for op in _resnet50().ops if op.kind == "convolution"}
    widths = tuple(f"{modules[name]}:{shape[1]}" for name, shape in published.items())
    pruned = apply([StructuredPrune(0.0, widths=widths)], _resnet50())
    assert {
        op.layer.replace(".", "_"): (
            pruned.tensors[op.inputs[0]].shape[1],
            pruned.tensors[op.inputs[1]].shape[0],
            pruned.tensors[op.inputs[1]].shape[2],
            op.attrs["stride"][0],
        )
        for op in pruned.ops
        if op.kind == "convolution"
    } == published
