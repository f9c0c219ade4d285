"""The FPGA engine: tiles, clocks, transfers and resources by hand."""

from __future__ import annotations

from typing import Any

import pytest

from hwmodels.device import device
from hwmodels.fpga.resources import bank_bram18, missing, resources_of
from hwmodels.fpga.timing import numbers_of, rows_of, seconds
from simulator.errors import TrainwattError
from tests.hwmodels.fpga_work import ZCU102, designed, work_of_nests


def timed(model: Any, *rows: dict[str, Any], bits: Any = None) -> Any:
    known = rows_of(work_of_nests(*rows, bits=bits), model.design)
    return seconds(known, numbers_of(model.design), clock=model.clock_hz, byte_per_s=model.byte_per_s)


LAYER = {"n": 2, "k": 64, "c": 48, "p": 56, "q": 56, "r": 3, "s": 3}


def test_forward_takes_whole_tiles_of_channels_and_the_fill_of_every_tile() -> None:
    # Tm = Tn = 16: 4 x 3 tiles of channels; 9*224 = 2016 words a tile hold 36 rows of 56: 2 x 1 tiles of positions
    # clocks = 2 * 12 * (56*56*9 + 2*40) = 679,296; words in = 2 * 4 * 48 * (56+2*2) * (56+2) = 1,336,320
    # 3 * 9 = 27 of 576 words a weight bank: weights once, 64*48*9 = 27,648; out 2 * 64 * 3136 = 401,408
    found = timed(ZCU102, {**LAYER, "part": "forward"}).tiles
    assert (found.mt[0], found.nt[0], found.tr[0], found.tc[0], found.rt[0], found.ct[0]) == (4, 3, 36, 56, 2, 1)
    assert found.compute[0] == 679_296
    assert (found.words_in[0], found.words_weight[0], found.words_out[0]) == (1_336_320, 27_648, 401_408)


def test_weights_that_do_not_stay_come_again_for_every_tile_and_image() -> None:
    found = timed(designed(weight_words=26), {**LAYER, "part": "forward"}).tiles
    assert found.words_weight[0] == 27_648 * 2 * 2


def test_grad_input_is_forward_with_channels_exchanged() -> None:
    there = timed(ZCU102, {**LAYER, "part": "forward", "k": 48, "c": 64}).tiles
    back = timed(ZCU102, {**LAYER, "part": "input"}).tiles
    assert back.compute[0] == there.compute[0]
    assert (back.words_in[0], back.words_out[0]) == (there.words_in[0], there.words_out[0])


def test_grad_input_of_a_strided_layer_writes_the_larger_map_and_skips_the_taps_that_meet_nothing() -> None:
    # stride 2: dx is 112 x 112 in 18-row tiles of 112 (2016 words): 7 tiles; clocks = 2 * 12 * (56*56*9 + 7*40)
    # halo ceil(3/2) - 1 = 1: words in = 2 * 3 * 64 * (56 + 7) * (56 + 1), out = 2 * 48 * 112 * 112
    found = timed(ZCU102, {**LAYER, "part": "input", "stride_h": 2, "stride_w": 2}).tiles
    assert found.compute[0] == 2 * 12 * (56 * 56 * 9 + 7 * 40)
    assert found.words_in[0] == 2 * 3 * 64 * 63 * 57
    assert found.words_out[0] == 2 * 48 * 112 * 112


def test_grad_weight_loads_inputs_and_errors_for_every_tile_and_stores_the_gradient_once() -> None:
    found = timed(ZCU102, {**LAYER, "part": "weight"}).tiles
    assert found.compute[0] == 679_296
    assert found.words_in[0] == 1_336_320
    assert found.words_weight[0] == 3 * 401_408  # errors, once for each of three tiles of inputs
    assert found.words_out[0] == 27_648


def test_groups_of_few_channels_share_the_engine() -> None:
    # depthwise, 96 channels: 16 groups at once on 16 x 16, 6 passes
    found = timed(ZCU102, {"kernel": "depthwise", "g": 96, "p": 14, "q": 14, "r": 3, "s": 3}).tiles
    assert found.together[0] == 16
    assert found.compute[0] == 6 * (14 * 14 * 9 + 40)


def test_a_fully_connected_layer_of_few_images_is_bound_by_its_weights() -> None:
    # 2 images, 512 -> 1000: 63 x 32 tiles of 2 + 40 clocks; 512,000 weights of 4 byte over 16 byte a clock: 128,000
    row = {"kernel": "gemm", "p": 2, "c": 512, "k": 1000}
    time = timed(ZCU102, row)
    assert time.tiles.compute[0] == 63 * 32 * 42
    assert time.stream[0] == pytest.approx(128_000 / 100e6)
    assert ZCU102.price(work_of_nests(row)).bound[0] == 2


def test_ping_pong_hides_the_smaller_and_a_single_buffer_hides_nothing() -> None:
    row = {**LAYER, "part": "forward"}
    double, single = timed(ZCU102, row), timed(designed(buffers=1), row)
    transfer = max(double.stream[0], double.memory[0])
    assert double.busy[0] == max(double.compute[0], transfer)
    assert single.busy[0] == pytest.approx(double.compute[0] + transfer)


def test_a_second_operand_of_an_elementwise_op_comes_over_the_second_stream() -> None:
    # add of two 16 MB tensors: three streams of 1.6 GB/s carry 16 MB each, two 32 MB in; one 48 MB
    add = {"kernel": "elementwise", "macs": 0, "read": 32e6, "written": 16e6}
    for streams, megabytes in ((3, 16), (2, 32), (1, 48)):
        assert timed(designed(streams=streams), add).stream[0] == pytest.approx(megabytes * 1e6 / 1.6e9)


# widths -------------------------------------------------------------------------


def test_an_engine_of_narrow_words_moves_fewer_bytes_of_the_same_floats() -> None:
    row = {"kernel": "elementwise", "macs": 0, "read": 32e6, "written": 32e6}
    assert timed(designed(precision="int16"), row).bytes[0] == 32e6
    assert timed(ZCU102, row).bytes[0] == 64e6


@pytest.mark.parametrize(
    ("precision", "bits", "faster"),
    [
        ("float32", (8, 8), 1),  # a float core multiplies one pair, however narrow
        ("int16", (16, 16), 1),
        ("int16", (8, 8), 2),
        ("int16", (8, 9), 1),  # both operands must be narrow
        ("int16", (4, 3), 4),
        ("int8", (8, 8), 1),
        ("int8", (4, 4), 2),
        ("int8", (16, 8), 1 / 2),  # the halves of the wider operand, one after the other
    ],
)
def test_macs_of_narrow_operands_pack_where_the_units_can(precision: str, bits: Any, faster: float) -> None:
    model, row = designed(precision=precision), {**LAYER, "part": "forward"}
    plain, packed = timed(model, row), timed(model, row, bits=[(*bits, 0, 0)])
    assert plain.compute[0] / packed.compute[0] == pytest.approx(faster)


def test_packed_macs_take_their_part_of_the_energy_of_a_unit() -> None:
    model, row = designed(precision="int16"), {**LAYER, "part": "forward"}
    plain, packed = (model.price(work_of_nests(row, bits=b)).rails["dsp"][0] for b in (None, [(8, 8, 0, 0)]))
    assert plain == pytest.approx(2 * packed)


def test_bit_serial_units_take_clocks_by_bits_and_reuse_what_is_done() -> None:
    model, row = designed(precision="int16", arithmetic="bit-serial"), {**LAYER, "part": "weight"}
    full = timed(model, row).compute[0]
    assert timed(model, row, bits=[(8, 8, 0, 0)]).compute[0] == pytest.approx(full / 4)
    assert timed(model, row, bits=[(16, 8, 10, 4)]).compute[0] == pytest.approx(full * (128 - 40) / 256)


# resources ----------------------------------------------------------------------


def test_the_engine_of_ef_train_takes_five_dsps_a_mac_and_its_banks_of_block_ram() -> None:
    # DSP 256 * 5 + 4 * 8 * 5/2 = 1360; BRAM of 32-bit words: weights 576 words = 2, x 256 x 2 = 1024;
    # inputs 2486 words = 5, x 16 x 2 = 160; outputs 2016 words = 4, x 16 x 2 = 128
    taken = ZCU102.resources
    assert (taken.dsp, taken.bram18) == (1360, 1024 + 160 + 128)


@pytest.mark.parametrize(
    ("words", "bits", "blocks"),
    [(32, 32, 0), (33, 32, 1), (512, 36, 1), (1024, 16, 1), (2048, 8, 1), (4096, 4, 1), (513, 32, 2), (2486, 32, 5)],
)
def test_a_bank_takes_the_fewest_block_rams_of_any_shape(words: int, bits: int, blocks: int) -> None:
    assert bank_bram18(words, bits) == blocks


def test_a_design_too_large_for_the_board_is_said_to_fail_by_the_resource_it_lacks() -> None:
    model = designed(device("zedboard"), tm=16, tn=16)
    assert model.missing[0] == "dsp 1,320 of 220"
    assert model.card["fits"].startswith("no: dsp 1,320 of 220, ")
    assert any(line.startswith("the design does not fit zedboard: dsp 1,320") for line in model.assumptions)


def test_maps_go_to_ultra_ram_where_block_ram_is_full() -> None:
    board: Any = device("zcu104")
    assert board.resources.uram == 64
    taken = resources_of(board.design.changed("a test", weight_words=32), board.board)
    assert (taken.uram, taken.bram18) == (0, 288)
    assert not missing(taken, board.board)


def test_engines_of_their_own_for_each_phase_take_their_dsps_and_save_no_time() -> None:
    one, three = ZCU102, designed(engines=3)
    assert three.resources.dsp == 3 * 1280 + 80
    row = {**LAYER, "part": "weight"}
    assert timed(three, row).busy[0] == timed(one, row).busy[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"buffers": 3}, "design.buffers 3; it is at most 2"),
        ({"streams": 4}, "design.streams 4; it is at most 3"),
    ],
)
def test_an_impossible_design_cannot_be_made(changes: dict[str, float], message: str) -> None:
    with pytest.raises(TrainwattError, match=message):
        ZCU102.design.changed("a test", **changes)
