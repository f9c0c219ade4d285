"""Bit widths that techniques annotate, from the graph through the work table to what hardware saves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.source import TraceOptions, graph_from
from simulator.bits import with_bits
from simulator.graph import Graph, Layout, Op, Storage, Tensor
from simulator.techniques import apply, parse
from simulator.work import Work, stack, work_of
from tests.hwmodels.fpga_work import designed


def product(**bits: Any) -> Work:
    layout = Layout((4, 4), (4, 1), "float32")
    op = Op("mm", "mm", "forward", "", (0, 1), (2,), attrs=with_bits({}, **bits) if bits else {})
    tensors = tuple(Tensor(layout, i) for i in range(3))
    storages = tuple(Storage(64, "activation", -1, None) for _ in range(3))
    return work_of(Graph((op,), tensors, storages, {"batch": 1}))


def test_bits_of_an_op_are_in_its_row_and_stay_there_in_a_stack() -> None:
    plain, narrow = product(), product(bits=(8, 6), done=(4, 2))
    assert plain.bits.tolist() == [[0, 0, 0, 0]]
    assert narrow.bits.tolist() == [[8, 6, 4, 2]]
    assert stack([plain, narrow]).bits.tolist() == [[0, 0, 0, 0], [8, 6, 4, 2]]


@pytest.fixture(scope="module")
def steps() -> dict[str, Work]:
    graph = graph_from("lenet5", TraceOptions(batch=4))
    return {text: work_of(apply(parse(text), graph) if text else graph) for text in ("", "quantize", "psg")}


def product_seconds(work: Work, **design: Any) -> float:
    seconds = designed(**design).price(work).seconds["compute"]
    return float(work.total(np.where(work.macs > 0, seconds, 0.0)))


def test_a_quantised_step_saves_on_units_that_pack_and_nothing_on_floating_point(steps: dict[str, Work]) -> None:
    def saved(**design: Any) -> float:
        return product_seconds(steps[""], **design) / product_seconds(steps["quantize"], **design)

    assert saved(precision="float32") == pytest.approx(1, abs=0.05)
    assert saved(precision="int16") == pytest.approx(2, abs=0.1)
    assert saved(precision="int16", arithmetic="bit-serial") == pytest.approx(4, abs=0.2)


def test_predicting_signs_of_gradients_saves_on_bit_serial_units_alone(steps: dict[str, Work]) -> None:
    for arithmetic, better in (("parallel", False), ("bit-serial", True)):
        design = {"precision": "int16", "arithmetic": arithmetic}
        assert (product_seconds(steps["psg"], **design) < 0.7 * product_seconds(steps[""], **design)) == better
