"""GPU device files: what is read of them, what is said of a bad one, and what is on the card."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwmodels import device as module
from hwmodels.device import FOLDER, device, devices, modes
from hwmodels.gpu import file
from hwmodels.numbers import KINDS, Number
from simulator.errors import TrainwattError
from simulator.work import KERNELS, PARTS, Nest, Work

NAMES = [name for name in devices() if name.startswith("jetson") and not name.endswith("-cpu")]
TX2 = (FOLDER / "jetson-tx2.toml").read_text(encoding="utf-8")


def work_that_meets_every_number() -> Work:
    """Every kernel, part and dtype: much traffic, much arithmetic, and working sets of about the L2 cache."""
    dtypes = (*file.DTYPES, "int64")
    traffics = np.array([1e10, 1e6, 1e5, 1.6e5, 3.2e5, 6.4e5, 1.28e6, 2.56e6])
    shape = (len(KERNELS), len(dtypes), len(PARTS), len(traffics))
    kernel, dtype, part, kind = (found.ravel() for found in np.indices(shape))
    extent = np.array([40.0, 300.0, *[6.0] * 6])[kind]
    nest = {name: np.ones(kernel.size) for name in Nest._fields} | dict.fromkeys(("n", "k", "c", "p", "q"), extent)
    nest["r"] = nest["s"] = np.full(kernel.size, 3.0)
    macs = 9.0 * extent**5
    traffic = traffics[kind]
    return Work(
        kernel,
        dtype,
        dtypes,
        np.ones(kernel.size),
        macs,
        2.0 * macs + np.array([1e8, 1e8, *[1.0] * 6])[kind],
        traffic,
        traffic,
        nest,
        np.arange(kernel.size),
        np.ones(kernel.size),
        part=part,
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_a_kind_and_a_source(name: str) -> None:
    _, numbers = file.check(module._read(name)[1])
    for path, number in numbers.items():
        assert number.kind in KINDS, path
        assert len(number.source) >= 8, path
        assert not any(word in number.source for word in ("/work", "/tmp", "TODO", "[U]", "[V]", "[M]")), path
        if number.source.endswith("recalled"):
            assert number.kind == "assumed", path


@pytest.mark.parametrize("name", NAMES)
def test_every_number_of_the_file_changes_what_the_device_costs_or_holds(name: str) -> None:
    texts, numbers = file.check(module._read(name)[1])
    work = work_that_meets_every_number()
    shown = ("host_cores",)  # on the card only

    def outcome(changed: dict[str, Number], mode: str) -> tuple[Any, ...]:
        model = file.model(name, texts, changed, modes(name), mode)
        cost = model.price(work)
        assert cost.dispatch_s is not None
        card = {field: model.card["clocks"][field] for field in shown}  # type: ignore[index]
        times = (cost.latency_s.tobytes(), cost.energy_j.tobytes(), cost.dispatch_s.tobytes(), cost.waiting_w)
        return (*times, model.memory_bytes, json.dumps(card))

    base = {mode: outcome(numbers, mode) for mode in modes(name)}
    for path, number in numbers.items():
        smaller = number.value - 1 if path.endswith(("units", "host_cores")) else number.value * 0.7
        smaller = 1.0 if path == "kernels.workspace" else smaller
        changed = {**numbers, path: dataclasses.replace(number, value=smaller or 2.0)}
        assert any(outcome(changed, mode) != base[mode] for mode in modes(name)), path


@pytest.mark.parametrize(("name", "mode"), [(name, mode) for name in NAMES for mode in modes(name)])
def test_a_card_is_plain_json_and_every_value_on_it_has_unit_kind_and_source(name: str, mode: str) -> None:
    model = device(name, mode)
    card = json.loads(json.dumps(model.card))
    assert (card["name"], card["mode"], card["modes"]) == (name, mode, list(modes(name)))
    for group in ("peaks", "bandwidths", "caches", "launch", "powers", "energies", "efficiencies", "memory", "clocks"):
        for entry in card[group].values():
            assert set(entry) == {"value", "unit", "kind", "source"}
            assert entry["source"]
    assert card["memory"]["usable"]["value"] == model.memory_bytes


@pytest.mark.parametrize("name", NAMES)
def test_every_assumed_number_of_the_device_is_on_its_list_of_assumptions(name: str) -> None:
    model = device(name)
    _, numbers = file.check(module._read(name)[1])
    lines = "\n".join(model.assumptions)
    for path, number in numbers.items():
        if number.kind == "assumed" and not path.startswith("modes."):
            assert f"{path} {number}: {number.source}" in lines
    assert all("\n" not in line for line in model.assumptions)


def test_a_mode_scales_the_hosts_time_with_its_clock_and_the_energy_with_the_voltage() -> None:
    # MAXQ: host 1.2 of 2.0 GHz, GPU 0.85 of 1.3 GHz: V = 0.6 + 0.4 x 0.6538 = 0.8615
    full: Any = device("jetson-tx2")
    saving: Any = device("jetson-tx2", "MAXQ")
    assert saving.launch_s == pytest.approx(full.launch_s * 2.0 / 1.2)
    assert saving.energy_j_per_flop["float32"] == pytest.approx(13.6e-12 * 0.861538**2, rel=1e-5)


def test_the_context_and_the_system_are_not_for_training() -> None:
    assert device("jetson-tx2").memory_bytes == (7859 - 646 - 1100) * 2**20


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[cache]", "[cash]", "no field 'cash'"),
        ("staging_slots =", "staging_slot =", "kernels: no field 'staging_slot'; did you mean 'staging_slots'?"),
        ('"512 KiB"', '"512 GHz"', "cache.l2: '512 GHz' is no byte; write for example '1.5 GB'"),
        ("value = 0.6, kind", "value = 1.6, kind", "bandwidth.efficiency 1.6; no device is faster"),
        ('"1.495 W"', '"-1 W"', "power.static '-1 W'; it must be above 0"),
        ('"7859 MiB"', '"1700 MiB"', "memory.total 1.78 GB; it must be above the 1.83 GB"),
        ("units = { value = 2,", "units = { value = 1.5,", "modes.MAXN.units 1.5; it must be a whole number"),
    ],
)
def test_a_bad_file_is_refused_with_what_would_be_right(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in TX2
    path = tmp_path / "my-board.toml"
    path.write_text(TX2.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(TrainwattError) as error:
        device(path)
    assert str(error.value).startswith(f"my-board.toml: {expected}")


def test_a_board_without_tensor_cores_says_so_and_one_with_them_lists_their_rates() -> None:
    assert "there are no tensor cores" in device("jetson-nano").assumptions
    orin = device("jetson-orin-nx")
    assert "there are no tensor cores" not in orin.assumptions
    # 8 SMs x 918 MHz x 2048 FLOP a cycle
    assert orin.card["peaks"]["tensor float16"]["value"] == pytest.approx(15.04e12, rel=1e-3)  # type: ignore[index]
