"""Channel groups: what they are in networks, and the algebra of dimensions that finds them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from simulator.errors import TrainwattError
from simulator.extent import symbol
from simulator.graph import Graph
from simulator.io import load, save
from simulator.memory import replay
from simulator.rewriting.channels import Channels, channel_graph
from simulator.rewriting.channels.dims import Unclear, Unknowns, times, total
from simulator.rewriting.channels.reshape import Segment, reshaped, segments
from simulator.work import work_of
from tests.techniques.prunable import NETS
from workloads import trace

CATALOG = ["resnet8-cifar", "mcunet-like", "lenet5", "lstm"]


@cache
def step(name: str) -> Graph:
    if name in NETS:
        return trace(NETS[name](), batch=4, classes=10, input_shape=(3, 16, 16))
    return trace(name, batch=4)


@cache
def channels(name: str) -> Channels:
    return channel_graph(step(name))


# -- graphs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*CATALOG, *NETS])
def test_bound_to_the_widths_of_today_every_number_is_what_it_was(name: str) -> None:
    assert channels(name).bind({}) == step(name)
    named = channels(name).graph
    assert named.concrete().tensors == step(name).concrete().tensors
    assert [op.attrs for op in named.concrete().ops] == [op.attrs for op in step(name).concrete().ops]
    assert [s.size_bytes for s in named.concrete().storages] == [s.size_bytes for s in step(name).concrete().storages]


def test_the_graph_with_named_widths_is_priced_and_replayed_as_it_is() -> None:
    named = channels("mcunet-like").graph
    a, b = work_of(named), work_of(step("mcunet-like"))
    assert (a.total(a.macs), a.total(a.traffic_bytes)) == (b.total(b.macs), b.total(b.traffic_bytes))
    assert replay(named).peak_bytes == replay(step("mcunet-like")).peak_bytes


def test_the_graph_with_named_widths_is_stored_and_read_and_rebatches(tmp_path: Path) -> None:
    named = channels("resnet8-cifar").graph
    save(named, tmp_path / "named.graph")
    assert load(tmp_path / "named.graph") == named
    for batch in (1, 9):
        bound = named.rebatch(batch).concrete()
        assert bound.tensors == step("resnet8-cifar").rebatch(batch).concrete().tensors


def test_layers_whose_outputs_are_added_are_one_group_and_all_others_their_own() -> None:
    groups = channels("resnet8-cifar").groups
    assert [group.layers for group in groups.values()] == [
        ("conv1", "layer1.0.conv2"),
        ("layer1.0.conv1",),
        ("layer2.0.conv1",),
        ("layer2.0.conv2",),
        ("layer3.0.conv1",),
        ("layer3.0.conv2",),
    ]
    assert [group.size for group in groups.values()] == [16, 16, 32, 32, 64, 64]
    assert channels("resnet8-cifar").fixed == {"fc": "aten::_log_softmax in <loss>"}


def test_a_depthwise_convolution_is_in_the_group_of_its_input() -> None:
    layers = [group.layers for group in channels("mcunet-like").groups.values()]
    assert any(len(of) == 2 and of[0].endswith("0.0") for of in layers)


@pytest.mark.parametrize(
    ("net", "units"),
    [
        # The grouped convolution's inputs and outputs: 4 equal parts each; group norm's 2 are among them.
        ("ResNeXt", {"stem": {"stem": 1, "expand": 1}, "reduce": {"reduce": 4}, "grouped": {"grouped": 4}}),
        # Three groups in, three out, and 8 channels of each through the shuffle.
        ("ShuffleNet", {"stem": {"stem": 3, "expand": 3}, "reduce": {"reduce": 3, "depthwise": 3}}),
        # Half of the stem passes by and is shuffled with as many of each unit.
        ("ShuffleNet2", {"stem": {"stem": 2, "one": 1, "two": 1}}),
        ("Gated", {"stem": {"stem": 2}, "last": {"last": 1}}),
        ("SqueezeExcite", {"stem": {"stem": 1, "up": 1, "linear_up": 1}, "down": {"down": 1}}),
    ],
)
def test_parts_that_must_stay_equal_are_counted_in_units(net: str, units: dict[str, dict[str, int]]) -> None:
    groups = channels(net).groups
    assert {name: dict(groups[name].units) for name in units} == units


def test_a_layer_that_convolves_nothing_is_told_apart() -> None:
    assert not channels("SqueezeExcite").groups["linear_down"].convolution
    assert channels("SqueezeExcite").groups["down"].convolution


def test_what_passes_an_op_of_which_nothing_is_known_is_fixed_and_the_op_named() -> None:
    assert channels("Opaque").fixed["stem"] == "aten::pixel_shuffle in <root>"
    assert list(channels("Opaque").groups) == ["last"]
    assert not channels("lstm").groups


def test_padding_follows_the_widths_on_both_of_its_sides() -> None:
    bound = channels("resnet8-cifar").bind({"conv1": 9, "layer2_0_conv2": 20})
    pads = [op.attrs["pad"] for op in bound.ops if op.kind == "constant_pad_nd" and op.layer == "layer2.0"]
    assert pads == [(0, 0, 0, 0, 5, 6), (0, 0, 0, 0, -5, -6)]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"conv9": 3}, "no channel group 'conv9'; did you mean 'conv1'"),
        ({"conv1": 0}, "channel group 'conv1' of size 0; at least 1 channel stays"),
        (
            {"layer2_0_conv2": 6},
            "10 channels more enter the padding in layer2.0 than leave it; prune the layers before",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused_in_one_line(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(TrainwattError, match=message) as caught:
        channels("resnet8-cifar").bind(sizes)
    assert "\n" not in str(caught.value)


# -- dimensions --------------------------------------------------------------------------------------------------------


def test_equal_dimensions_are_one_unknown_and_fixing_one_fixes_both() -> None:
    u = Unknowns()
    a, b = u.fresh(6), u.fresh(6)
    u.equate(a, b)
    assert u.resolve(a) == u.resolve(b)
    u.fix(b, "a reason")
    assert u.resolve(a) == (6,)
    assert u.why(a) == "a reason"


def test_multiples_are_equal_where_a_common_unit_makes_them_so() -> None:
    u = Unknowns()
    (a,), (b,) = u.fresh(10), u.fresh(15)
    u.equate((a * 3,), (b * 2,))  # 3 a = 2 b: a = 2 unit, b = 3 unit
    (unit,) = u.free((a,))
    assert (u.resolve((a,)), u.resolve((b,))) == ((symbol(unit) * 2,), (symbol(unit) * 3,))
    assert u.value[unit] == 5


def test_concatenations_are_equal_piece_by_piece_in_their_order() -> None:
    u = Unknowns()
    a, b, c, d = u.fresh(4), u.fresh(6), u.fresh(6), u.fresh(4)
    u.equate((*a, *b), (*c, *d))  # |aaaa|bbbbbb| = |cccccc|dddd|: b = 2 + 4, c = 4 + 2
    assert u.resolve(c) == (*u.resolve(a), *u.resolve(b)[:1])
    assert u.resolve(d) == u.resolve(b)[1:]
    assert [u.original(total(u.resolve(x))) for x in (a, b, c, d)] == [4, 6, 6, 4]


def test_equal_parts_are_made_the_same_and_a_dimension_without_them_is_unclear() -> None:
    u = Unknowns()
    a, b = u.fresh(6), u.fresh(6)
    assert u.parts((*a, *b), 2) == u.resolve(b)
    assert u.resolve(a) == u.resolve(b)
    with pytest.raises(Unclear):
        u.parts(u.fresh(7), 2)


def test_a_dimension_of_one_cannot_shrink() -> None:
    assert Unknowns().fresh(1) == (1,)


def test_shapes_fall_into_the_smallest_parts_that_are_reshaped_alone() -> None:
    assert segments((2, 6, 5, 5), (2, 150)) == [Segment((0,), (0,)), Segment((1, 2, 3), (1,))]
    assert segments((4, 1, 6), (4, 2, 3)) == [Segment((0,), (0,)), Segment((2,), (1, 2))]
    with pytest.raises(Unclear):
        segments((4, 6), (4, 5))


def test_flattening_and_unflattening_give_the_channels_back() -> None:
    u = Unknowns()
    batch, c = symbol("batch"), u.fresh(6)
    flat = reshaped(u, [(batch,), c, (5,), (5,)], (batch, 6, 5, 5), (batch, 150))
    assert flat == [(batch,), (c[0] * 25,)]
    assert reshaped(u, flat, (batch, 150), (batch, 6, 5, 5)) == [(batch,), c, (5,), (5,)]
    rows = reshaped(u, [(batch,), (7,), c], (batch, 7, 6), (batch * 7, 6))
    assert rows == [(batch * 7,), c]


def test_a_split_keeps_the_number_of_groups_and_lets_their_size_follow() -> None:
    u = Unknowns()
    c = u.fresh(12)
    groups, size = reshaped(u, [c], (12,), (3, 4))
    assert groups == (3,)
    assert total(u.resolve(c)) == total(size) * 3


def test_the_last_of_merged_dimensions_runs_fastest() -> None:
    a = (symbol("a"),)
    assert times(a, (3,)) == (symbol("a") * 3,)
    assert times((3,), a) == (symbol("a"),) * 3
