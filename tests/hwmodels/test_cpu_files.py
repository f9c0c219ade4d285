"""Device files of the CPU model: numbers, cards, modes, and what is said of a bad file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwmodels import device as module
from hwmodels.cpu import file
from hwmodels.cpu.model import Cpu
from hwmodels.device import FOLDER, device, devices, modes
from hwmodels.numbers import KINDS, Number
from simulator.errors import TrainwattError
from simulator.graph import Graph, Layout, Op, Storage, Tensor
from tests.hwmodels.cpu_rows import convolution, product, work_of_rows

NAMES = [name for name in devices() if isinstance(device(name), Cpu)]
PI4 = (FOLDER / "raspberry-pi-4b.toml").read_text(encoding="utf-8")


def checked(name: str) -> tuple[dict[str, str], dict[str, Number]]:
    return file.check(module._read(name)[1])


def test_the_boards_of_the_field_are_there() -> None:
    boards = {"raspberry-pi-3b", "raspberry-pi-3b-plus", "raspberry-pi-4b", "raspberry-pi-5"}
    assert boards | {"jetson-nano-cpu", "odroid-n2-plus", "rock-5b", "x86-avx2"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_a_kind_and_a_source(name: str) -> None:
    for path, number in checked(name)[1].items():
        assert number.kind in KINDS, path
        assert len(number.source) >= 8, path
        assert not any(word in number.source for word in ("/work", "/tmp", "TODO", "[U]", "[V]", "[M]")), path
        if number.source.endswith("recalled") or "no measurement read" in number.source:
            assert number.kind == "assumed", path


@pytest.mark.parametrize("name", NAMES)
def test_every_number_of_the_file_changes_what_the_device_costs_or_holds(name: str) -> None:
    texts, numbers = checked(name)
    rows: list[dict[str, Any]] = []
    for dtype in file.DTYPES:
        rows += [product(512, 512, 512, dtype), product(4096, 4096, 4096, dtype), product(64, 3, 2, dtype)]
        rows += [{**convolution("forward", 8, 1, 1, 30, 30, groups=64), "dtype": dtype}]
        rows += [{"dtype": dtype, "flops": 1e9, "read": r, "written": w} for r, w in ((1e9, 0), (0, 1e9), (1e9, 1e9))]
        rows += [{"dtype": dtype, "flops": 1.0, "read": size, "written": size} for size in (5e4, 1.5e5, 4e5, 8e5)]
        rows += [{"dtype": dtype, "flops": 1.0, "read": size, "written": size} for size in (1.5e6, 2e6, 6e6, 1e7)]
        rows += [{"dtype": dtype, "flops": 2e7, "read": size, "written": size} for size in (1e5, 5e5, 2e6)]
    work = work_of_rows(rows)

    def outcome(changed: dict[str, Number], mode: str) -> tuple[Any, ...]:
        model = file.model_of(name, texts, changed, modes(name), mode)
        cost = model.price(work)
        prices = (cost.latency_s.tobytes(), cost.energy_j.tobytes())
        return *prices, model.memory_bytes, model.dram.peak_byte_per_s, model.step

    base = {mode: outcome(numbers, mode) for mode in modes(name)}
    for path, number in numbers.items():
        value = 2 * number.value if number.unit == "" and number.value >= 1 else 0.91 * number.value or 1.0
        if path.endswith(".scaling") or path == "bandwidth.copy":
            value = 0.91 * number.value
        if path.endswith((".cores", ".vector_bits")):
            value = number.value / 2 if number.value in (4, 8, 512) else 2 * number.value
        changed = {**numbers, path: dataclasses.replace(number, value=value)}
        assert any(outcome(changed, mode) != base[mode] for mode in modes(name)), path


@pytest.mark.parametrize("name", NAMES)
def test_a_card_is_plain_json_and_every_value_on_it_has_unit_kind_and_source(name: str) -> None:
    for mode in modes(name):
        model = device(name, mode)
        card = json.loads(json.dumps(model.card))
        assert (card["name"], card["mode"], card["modes"]) == (name, mode, list(modes(name)))
        assert all(isinstance(card[text], str) and card[text] for text in file.TEXTS)
        for group in ("peaks", "bandwidths", "launch", "powers", "energies", "efficiencies", "memory", "clocks",
                      "compute", "threads", "core", "caches"):  # fmt: skip
            for entry in card[group].values():
                assert set(entry) == {"value", "unit", "kind", "source"}
                assert entry["kind"] in KINDS
                assert entry["source"]
        assert card["memory"]["usable"]["value"] == model.memory_bytes
        assert card["bandwidths"]["effective"]["value"] <= card["bandwidths"]["peak"]["value"]


@pytest.mark.parametrize("name", NAMES)
def test_every_assumed_number_of_the_device_is_on_its_list_of_assumptions(name: str) -> None:
    lines = "\n".join(device(name).assumptions)
    for path, number in checked(name)[1].items():
        if number.kind == "assumed" and not path.startswith("modes."):
            assert f"{path} {number}: {number.source}" in lines


def test_a_mode_scales_dispatch_with_the_clock_and_active_power_with_clock_and_cores() -> None:
    full: Any = device("jetson-nano-cpu")
    small: Any = device("jetson-nano-cpu", "5W")
    assert (full.cores, small.cores) == (4, 2)
    assert small.dispatch_s == pytest.approx(full.dispatch_s * 1479 / 918)
    assert small.active_w == pytest.approx(full.active_w * 918 / 1479 / 2)
    assert small.dram.scaling - 1 == pytest.approx((full.dram.scaling - 1) / 3)
    assert small.card["peaks"]["float32"]["value"] == pytest.approx(2 * 0.918e9 * 8)


def test_only_a_device_with_onednn_counts_workspace() -> None:
    layout = Layout((4,), (1,), "float32")
    op = Op("aten::relu", "relu", "forward", "", (0,), (0,))
    graph = Graph((op, op), (Tensor(layout, 0),), (Storage(16, "activation", -1, None),), {"batch": 1})
    for name in NAMES:
        model: Any = device(name)
        assert np.all(model.workspace_bytes(graph) == 0)
        said = "kernel workspace is not counted" in model.assumptions
        assert said == (model.card["kernel_library"] != "onednn") == (model.kernels is None)


# errors ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[efficiency]", "[effciency]", "no field 'effciency'; did you mean 'efficiency'?"),
        ('processor = "cpu"', 'processor = "gpu"', "no processor 'gpu'; did you mean 'cpu'?"),
        ('kernel_library = "im2col"', 'kernel_library = "im2cool"', "no kernel_library 'im2cool'; did you mean"),
        ("[caches.L2]", "[caches.L3]", "caches L1, L3; give L1, then L2 and L3 as there are"),
        ('size = { value = "32 KiB"', 'size = { value = "32 MiB"', "caches of my-board shrink from level to level"),
        ('"2.326 GB/s"', '"5.5 GB/s"', "bandwidth.copy of my-board; what it moves must be within the memory's peak"),
        ('"2.326 GB/s"', '"3.5 GB/s"', "bandwidth.copy of my-board; copying reads and writes, it is at most either"),
        ('"3.943 GB/s"', '"39 GB/s"', "bandwidth.read of my-board; what it moves must be within the memory's peak"),
        ("hidden = { value = 0.5", "hidden = { value = 1.5", "core.hidden 1.5; no device is faster"),
        ("tile_rows = { value = 8", "tile_rows = { value = 8.5", "core.tile_rows 8.5; it must be a whole number"),
        ('"16 byte/cycle"', '"16 GB/s"', "caches.L1.rate: '16 GB/s' is no byte/cycle; write for example '16 B/cycle'"),
        ('"4 GiB"', '"400 MiB"', "memory.total 419 MB; it must be above the 472 MB that system and framework hold"),
        ("serial = {", "searial = {", "threads: no field 'searial'; did you mean 'serial'?"),
        ('clock = { value = "1.5 GHz"', 'clock = { value = "0 GHz"', "modes.1.5GHz.clock '0 GHz'; it must be above"),
    ],
)
def test_a_bad_file_is_refused_with_what_would_be_right(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in PI4
    path = tmp_path / "my-board.toml"
    path.write_text(PI4.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(TrainwattError) as error:
        device(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"my-board.toml: {expected}")
