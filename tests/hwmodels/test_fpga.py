"""FPGA boards: physics that holds for every board, design and row; cards, explanations, files, the search."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hwmodels.device import FOLDER, device, modes
from hwmodels.fpga import best_design, design_file, design_for, with_design
from hwmodels.fpga.operators import OPERATORS
from hwmodels.fpga.resources import NAMES, usable
from hwmodels.numbers import KINDS
from simulator.errors import TrainwattError
from simulator.work import KERNELS, PARTS, Work
from tests.hwmodels.fpga_work import designed, work_of_nests

BOARDS = ("kv260", "pynq-z1", "pynq-z2", "ultra96", "vc707", "vc709", "zc706", "zcu102", "zcu104", "zedboard")
ALL: dict[tuple[str, str], Any] = {(name, mode): device(name, mode) for name in BOARDS for mode in modes(name)}
RESNET_LIKE = [
    {"n": 4, "k": k, "c": c, "p": p, "q": p, "r": r, "s": r, "stride_h": s, "stride_w": s, "part": part}
    for k, c, p, r, s in ((64, 3, 112, 7, 2), (64, 64, 56, 3, 1), (128, 64, 28, 3, 2), (512, 512, 7, 3, 1))
    for part in PARTS[1:]
] + [{"kernel": "norm", "macs": 0, "vector": 1e7, "read": 8e6, "written": 4e6}]

extents = st.integers(1, 600)
MULTIPLIED = ("convolution", "depthwise", "gemm", "attention", "rnn")


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    kernel = draw(st.sampled_from(KERNELS))
    found = {
        "kernel": kernel,
        "dtype": draw(st.sampled_from(("float32", "float16", "float64", "int8", "int64", "bool"))),
        "read": draw(st.floats(0, 1e9)),
        "written": draw(st.floats(0, 1e9)),
        "vector": draw(st.floats(0, 1e9)),
        "launches": draw(st.integers(1, 4)),
        "macs": 0,
    }
    if kernel in MULTIPLIED:
        found |= {name: draw(extents) for name in "kcpq"}
        found |= {name: draw(st.integers(1, 11)) for name in ("n", "r", "s", "stride_h", "stride_w", "dilation_h")}
        found["g"] = draw(st.sampled_from((1, 2, 32)))
        found["part"] = draw(st.sampled_from(PARTS)) if kernel in ("convolution", "depthwise") else ""
        del found["macs"]
    return found


bits = st.tuples(*[st.sampled_from((0, 2, 4, 8, 12, 16))] * 2, st.integers(0, 8), st.integers(0, 8))


@st.composite
def designs(draw: st.DrawFn) -> dict[str, Any]:
    precision = draw(st.sampled_from(sorted(OPERATORS)))
    serial = precision.startswith("int") and draw(st.booleans())
    return {
        "precision": precision,
        "arithmetic": "bit-serial" if serial else "parallel",
        **{name: draw(st.integers(1, 80)) for name in ("tm", "tn", "tr", "tc", "depth", "lanes", "lane_flops")},
        **{name: draw(st.integers(1, 5000)) for name in ("input_words", "weight_words")},
        "buffers": draw(st.integers(1, 2)),
        "streams": draw(st.integers(1, 3)),
        "stream_width": draw(st.sampled_from((4, 8, 16, 64))),
    }


models = st.builds(
    lambda board, design: designed(ALL[board], **design), st.sampled_from(sorted(ALL)), designs()
) | st.sampled_from(sorted(ALL)).map(ALL.__getitem__)


@settings(deadline=None)
@given(models, rows(), bits)
def test_no_op_beats_the_engine_or_the_memory_and_energy_is_at_least_that_at_rest(
    model: Any, row: dict[str, Any], width: Any
) -> None:
    work = work_of_nests(row, bits=[width])
    cost = model.price(work)
    latency, energy = cost.latency_s[0], cost.energy_j[0]
    assert np.isfinite([latency, energy]).all()
    if model.design.arithmetic == "parallel":
        most = max([1.0, *(number.value for number in model.design.operator.packing.values())])
        assert latency >= work.macs[0] / (model.design.mac_units * most * model.clock_hz) * (1 - 1e-9)
    narrow = min(1.0, model.design.word_bytes / 8)
    assert latency >= work.traffic_bytes[0] * narrow / model.card["bandwidths"]["peak"]["value"] * (1 - 1e-9)
    assert energy >= model.static_w * latency > 0
    assert sum(rail[0] for rail in cost.rails.values()) == pytest.approx(energy)
    assert cost.limits[cost.bound[0]] in ("compute", "stream", "memory", "launch")
    assert latency >= max(part[0] for part in cost.seconds.values()) * (1 - 1e-12)


@settings(deadline=None)
@given(models, rows(), st.sampled_from(("tm", "tn", "tr", "tc", "weight_words", "streams",
                                        "stream_width", "buffers", "lanes", "clock")), st.integers(1, 40))  # fmt: skip
def test_more_units_weights_streams_or_clock_are_never_slower(
    model: Any, row: dict[str, Any], what: str, more: int
) -> None:
    now = model.clock_hz if what == "clock" else model.design[what]
    larger = now * (1 + more / 10) if what == "clock" else now + more
    larger = min(larger, {"streams": 3, "buffers": 2}.get(what, larger))
    work = work_of_nests(row)
    if what in ("tr", "tc"):  # a larger tile may be cut to fit the input buffer in a worse way
        model = with_design(model, model.design.changed("a test", input_words=1e9))
    bigger = with_design(model, model.design.changed("a test", **{what: larger}))
    assert bigger.price(work).latency_s[0] <= model.price(work).latency_s[0] * (1 + 1e-9)


@settings(deadline=None)
@given(models, rows(), st.sampled_from(("n", "k", "c", "read", "written", "vector", "launches")), st.integers(1, 64))
def test_more_work_is_never_cheaper(model: Any, row: dict[str, Any], what: str, more: int) -> None:
    assume(what in row)
    less, most = (model.price(work_of_nests({**row, what: row[what] + extra})) for extra in (0, more))
    assert most.latency_s[0] >= less.latency_s[0] * (1 - 1e-9)
    assert most.energy_j[0] >= less.energy_j[0] * (1 - 1e-9)


@settings(deadline=None, max_examples=30)
@given(models, st.lists(rows(), min_size=1, max_size=5), st.lists(st.integers(1, 64), min_size=1, max_size=3))
def test_pricing_many_batch_sizes_at_once_equals_pricing_one_by_one(
    model: Any, many: list[dict[str, Any]], batches: list[int]
) -> None:
    alone = [work_of_nests(*({**row, "n": batch} for row in many)) for batch in batches]
    columns = ("macs", "flops", "read_bytes", "written_bytes")
    together = dataclasses.replace(
        alone[0],
        **{name: np.stack([getattr(work, name) for work in alone], axis=1) for name in columns},
        nest={name: np.stack([work.nest[name] for work in alone], axis=1) for name in alone[0].nest},
    )
    cost = model.price(together)
    for j, work in enumerate(alone):
        one = model.price(work)
        np.testing.assert_allclose(cost.latency_s[:, j], one.latency_s, rtol=1e-12)
        np.testing.assert_allclose(cost.energy_j[:, j], one.energy_j, rtol=1e-12)
        assert cost.bound[:, j].tolist() == one.bound.tolist()


@settings(deadline=None, max_examples=50)
@given(models, rows(), bits)
def test_an_explanation_ends_with_the_latency_that_is_charged(model: Any, row: dict[str, Any], width: Any) -> None:
    work = work_of_nests({"kernel": "copy", "macs": 0}, row, bits=[(0, 0, 0, 0), width])
    lines = model.explain(work, 1)
    assert [label for label, _ in lines[-3:]] == ["latency", "energy", "bound"]
    assert float(lines[-3][1].split("= ")[1].removesuffix(" s")) == pytest.approx(model.price(work).latency_s[1])
    assert all("\n" not in text for line in lines for text in line)


def test_a_view_costs_nothing_and_a_work_without_rows_has_no_cost() -> None:
    view = work_of_nests({"kernel": "view", "macs": 0, "launches": 0})
    for model in ALL.values():
        cost = model.price(view)
        assert (cost.latency_s[0], cost.energy_j[0], cost.limits[cost.bound[0]]) == (0, 0, "none")
        assert model.price(work_of_nests()).latency_s.shape == (0,)


@pytest.mark.parametrize("name", BOARDS)
def test_the_design_of_a_boards_file_fits_the_board(name: str) -> None:
    assert ALL[name, "100MHz"].missing == ()
    assert ALL[name, "100MHz"].card["fits"] == "yes"


@pytest.mark.parametrize("name", BOARDS)
def test_a_card_is_plain_json_and_every_assumed_number_is_listed(name: str) -> None:
    model = device(name)
    card = json.loads(json.dumps(model.card))
    assert (card["name"], card["modes"]) == (name, list(modes(name)))
    entries = [e for group in card.values() if isinstance(group, dict) for e in group.values() if isinstance(e, dict)]
    assert len(entries) > 30
    for entry in entries:
        assert entry["kind"] in KINDS
        assert len(entry["source"]) >= 8
        assert not any(word in entry["source"] for word in ("/work", "/tmp", "[U]", "[V]", "[M]"))
        if entry["source"].endswith("recalled") or "no measurement read" in entry["source"]:
            assert entry["kind"] == "assumed"
    of_file = [card[group] for group in ("design", "board", "launch", "powers", "energies", "efficiencies")]
    for entry in (e for group in of_file for e in group.values() if isinstance(e, dict) and e["kind"] == "assumed"):
        assert any(line.endswith(entry["source"]) for line in model.assumptions)


def test_a_board_with_a_design_is_a_frozen_value_that_can_be_sent_to_another_process() -> None:
    for model in ALL.values():
        assert pickle.loads(pickle.dumps(model)) == model
        hash(model)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('precision = "float32"', 'precision = "float23"', "no precision 'float23'; did you mean 'float32'"),
        ('arithmetic = "parallel"', 'arithmetic = "serial"', "no arithmetic 'serial'; did you mean 'bit-serial'"),
        ('arithmetic = "parallel"', 'arithmetic = "bit-serial"', "bit-serial arithmetic of float32; whole numbers"),
        ("tm = {", "tmm = {", "design: no field 'tmm'; did you mean 'tm'"),
        ("tn = { value = 16", "tn = { value = 0", "design.tn 0; it must be above 0"),
        ("usable_dsp = { value = 0.8", "usable_dsp = { value = 1.8", "board.usable_dsp 1.8; no device is faster"),
        ("dsp = { value = 2520", "dsp = { value = 25.5", "board.dsp 25.5; it must be a whole number"),
        ('value = "4 GiB"', 'value = "64 MiB"', "memory.total 67.1 MB; it must be above the 67.1 MB that is held"),
    ],
)
def test_a_bad_file_is_refused_with_what_would_be_right(tmp_path: Path, old: str, new: str, expected: str) -> None:
    text = (FOLDER / "zcu102.toml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(TrainwattError) as error:
        device(path)
    assert str(error.value).startswith(f"mine.toml: {expected}")


# designs ------------------------------------------------------------------------


def test_the_best_design_beats_every_design_of_a_coarse_grid_that_fits() -> None:
    board, work = ALL["zcu104", "100MHz"], work_of_nests(*RESNET_LIKE)
    best, lines = best_design(work, board)
    fastest = float(best.price(work).latency_s.sum())
    tried = 0
    for tm in (4, 8, 16, 32, 64):
        for tn in (1, 4, 8, 16, 32):
            for words in (32, 128, 576):
                other = designed(board, tm=tm, tn=tn, tr=9, tc=112, input_words=1260, weight_words=words)
                if usable(other.resources, other.board):
                    tried += 1
                    assert fastest <= float(other.price(work).latency_s.sum()) * 1.0002
    assert tried > 20
    assert usable(best.resources, best.board)
    assert not best.missing
    assert any(line.startswith("binding resource: ") and line.split()[2].rstrip(",") in NAMES for line in lines)
    assert sum(line.startswith("convolution ") for line in lines) == 3


def test_a_narrower_precision_gives_a_faster_best_design() -> None:
    work = work_of_nests(*RESNET_LIKE)
    time = [
        float(best_design(work, designed(ALL["zedboard", "100MHz"], precision=name))[0].price(work).latency_s.sum())
        for name in ("float32", "float16", "int16", "int8")
    ]
    assert time == sorted(time, reverse=True)
    assert time[0] > 3 * time[2]


def test_a_board_on_which_nothing_fits_says_so() -> None:
    board = designed(ALL["zedboard", "100MHz"], lanes=64)
    with pytest.raises(TrainwattError, match="no float32 design fits the usable part of zedboard"):
        best_design(work_of_nests(*RESNET_LIKE), board)


def test_a_design_comes_from_a_file_or_from_a_search_and_must_fit(tmp_path: Path) -> None:
    work, board = work_of_nests(*RESNET_LIKE), ALL["zcu102", "100MHz"]
    path = FOLDER / "zc706.toml"
    model, lines = design_for(board, str(path), work)
    assert model.design == design_file(path)
    assert model.name == "zcu102"
    assert "Tm x Tn = 12 x 12" in lines[0]
    assert lines[1].startswith("takes of zcu102: dsp 32%, bram18 43%, lut ")
    assert design_for(board, "auto", work)[0].design.description == "searched for this step"
    with pytest.raises(TrainwattError, match="does not fit zedboard, it takes dsp 800 of 220"):
        design_for(ALL["zedboard", "100MHz"], str(path), work)
    with pytest.raises(TrainwattError, match=r"no file 'nowhere\.toml'; give a TOML file"):
        design_for(board, "nowhere.toml", work)
    with pytest.raises(TrainwattError, match="a design for raspberry-pi-4b; designs are for FPGA boards"):
        design_for(device("raspberry-pi-4b"), "auto", work)


def test_a_clock_of_the_designs_own_replaces_that_of_the_mode() -> None:
    assert designed(ALL["zcu102", "150MHz"]).clock_hz == 150e6
    assert designed(ALL["zcu102", "150MHz"], clock=200e6).clock_hz == 200e6


def test_work_of_many_batch_sizes_has_no_one_best_design() -> None:
    one = work_of_nests(*RESNET_LIKE)
    many: Work = dataclasses.replace(one, macs=np.stack([one.macs, one.macs], axis=1))
    with pytest.raises(TrainwattError, match="give work of one batch size"):
        best_design(many, ALL["zcu102", "100MHz"])
