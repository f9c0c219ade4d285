"""Device files: names, modes, cards, and what is said of a bad file."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwmodels import device as module
from hwmodels import roofline_file
from hwmodels.device import FOLDER, device, devices, modes
from hwmodels.numbers import KINDS, Number, derived
from simulator.errors import TrainwattError
from simulator.work import KERNELS, Nest, Work
from tests.hwmodels.roofline_devices import DATA, FILES

NAMES = FILES
MODES = [(name, mode) for name in NAMES for mode in modes(name)]
NANO = (DATA / "jetson-nano-roofline.toml").read_text(encoding="utf-8")


def work_that_meets_every_number() -> Work:
    """Every kernel at every dtype, three times: much arithmetic, much traffic, and nothing but a launch."""
    dtypes = (*roofline_file.DTYPES, "int64")
    shape = (len(KERNELS), len(dtypes), 3)
    kernel, dtype, kind = (part.ravel() for part in np.indices(shape))
    n = kernel.size
    macs = np.where(kind == 0, 1e12, 0.0)
    nest = {name: np.full(n, 20.0) for name in Nest._fields}
    traffic = np.where(kind == 1, 1e12, 0.0)
    return Work(kernel, dtype, dtypes, np.ones(n), macs, 2.5 * macs, traffic, traffic, nest, np.arange(n), np.ones(n))


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_device_is_the_name_of_its_file(name: str) -> None:
    assert device(name).name == Path(name).stem


@pytest.mark.parametrize("name", devices())
def test_a_built_in_device_is_found_by_its_name(name: str) -> None:
    assert device(name).name == name == device(FOLDER / f"{name}.toml").name


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_a_kind_and_a_source(name: str) -> None:
    data = module._read(name)[1]
    _, numbers = roofline_file._check(data)
    assert len(numbers) >= 15
    for path, number in numbers.items():
        assert number.kind in KINDS, path
        assert len(number.source) >= 8, path
        assert not any(word in number.source for word in ("/work", "/tmp", "TODO", "[U]", "[V]", "[M]")), path


@pytest.mark.parametrize("name", NAMES)
def test_what_is_recalled_or_taken_for_granted_is_called_assumed(name: str) -> None:
    _, numbers = roofline_file._check(module._read(name)[1])
    for path, number in numbers.items():
        if number.source.endswith("recalled") or "no measurement read" in number.source:
            assert number.kind == "assumed", path


@pytest.mark.parametrize("name", NAMES)
def test_every_number_of_the_file_changes_what_the_device_costs_or_holds(name: str) -> None:
    texts, numbers = roofline_file._check(module._read(name)[1])
    work = work_that_meets_every_number()

    def outcome(changed: dict[str, Number], mode: str) -> tuple[Any, ...]:
        model: Any = roofline_file._build(name, texts, changed, modes(name), mode)
        cost = model.price(work)
        cores = model.card["clocks"].get("host_cores", {}).get("value")  # on the card only
        return (cost.latency_s.tobytes(), cost.energy_j.tobytes(), model.memory_bytes, cores)

    base = {mode: outcome(numbers, mode) for mode in modes(name)}
    for path, number in numbers.items():
        changed = {**numbers, path: dataclasses.replace(number, value=number.value * 0.91 or 1.0)}
        assert any(outcome(changed, mode) != base[mode] for mode in modes(name)), path


@pytest.mark.parametrize(("name", "mode"), MODES)
def test_a_card_is_plain_json_and_every_value_on_it_has_unit_kind_and_source(name: str, mode: str) -> None:
    model = device(name, mode)
    card = json.loads(json.dumps(model.card))
    assert (card["name"], card["mode"], card["modes"]) == (Path(name).stem, mode, list(modes(name)))
    assert all(isinstance(card[text], str) and card[text] for text in (*roofline_file._TEXTS, "mode"))
    groups = (
        "peaks",
        "bandwidths",
        "launch",
        "powers",
        "energies",
        "efficiencies",
        "memory",
        "clocks",
        "compute",
    )
    for group in groups:
        for entry in card[group].values():
            assert set(entry) == {"value", "unit", "kind", "source"}
            assert entry["kind"] in KINDS
            assert entry["source"]
    assert card["memory"]["usable"]["value"] == model.memory_bytes


@pytest.mark.parametrize("name", NAMES)
def test_every_assumed_number_of_the_device_is_on_its_list_of_assumptions(name: str) -> None:
    model = device(name)
    _, numbers = roofline_file._check(module._read(name)[1])
    lines = "\n".join(model.assumptions)
    for path, number in numbers.items():
        if number.kind == "assumed" and not path.startswith("modes."):
            assert f"{path} {number}: {number.source}" in lines
    assert all("\n" not in line for line in model.assumptions)


def test_a_precision_without_a_rate_of_its_own_is_on_the_list_of_assumptions() -> None:
    nano = device(DATA / "jetson-nano-roofline.toml")
    assert "bfloat16, int8: no rate of their own, taken to run at the float32 rate" in nano.assumptions


def test_a_number_computed_from_others_is_as_good_as_the_worst_of_them() -> None:
    good, bad = Number(2, "W", "measured", "a"), Number(3, "s", "assumed", "b")
    assert derived(6, "J", "2 W x 3 s", good, bad, good) == Number(6, "J", "assumed", "2 W x 3 s; a; b")


def test_only_active_units_count_for_the_peak() -> None:
    # 15W of the AGX Orin: TPC mask 248 leaves 3 TPC x 2 SM x 128 cores x 2 x 0.42075 GHz = 646.3 GFLOP/s
    peak = device("jetson-agx-orin", "15W").card["peaks"]["float32"]  # type: ignore[index]
    assert peak["value"] == pytest.approx(646.272e9)
    assert "6 SMs x 421 MHz x 256 FLOP/cycle" in peak["source"]


def test_the_memory_of_a_process_is_the_total_less_system_and_framework() -> None:
    assert device("jetson-tx2").memory_bytes == (7859 - 646 - 1100) * 2**20


def test_the_power_modes_of_the_nano_are_in_the_order_of_the_file() -> None:
    assert modes("jetson-nano") == ("5W", "MAXN")
    assert device("jetson-nano").card["mode"] == "MAXN"


# errors ------------------------------------------------------------------------


def message(name: str | Path, mode: str | None = None) -> str:
    with pytest.raises(TrainwattError) as error:
        device(name, mode)
    assert "\n" not in str(error.value)
    return str(error.value)


def message_for(tmp_path: Path, text: str) -> str:
    path = tmp_path / "my-board.toml"
    path.write_text(text, encoding="utf-8")
    return message(path)


def test_an_unknown_device_names_the_closest_one() -> None:
    assert message("jetson_nan").startswith("no device 'jetson_nan'; did you mean 'jetson-nano'")


def test_an_unknown_power_mode_lists_those_there_are() -> None:
    assert message("jetson-nano", "12W") == "no power mode '12W' of jetson-nano; there is 5W, MAXN"


def test_a_file_that_is_not_there_is_said_to_be_missing() -> None:
    assert (
        message("nowhere/board.toml") == "no file 'nowhere/board.toml'; give a device's TOML file or one of its names"
    )


@pytest.mark.parametrize("name", ["", "..", "../devices/jetson-nano", "devices/", "*"])
def test_a_name_that_is_no_device_is_an_error_of_one_line(name: str) -> None:
    assert message(name).startswith("no ")


def test_a_users_own_file_is_a_device(tmp_path: Path) -> None:
    path = tmp_path / "my-board.toml"
    path.write_text(NANO.replace('"921.6 MHz"', '"460.8 MHz"'), encoding="utf-8")
    mine: Any = device(str(path))
    assert mine.name == "my-board"
    assert mine.peak_flop_per_s["float32"] == pytest.approx(0.5 * 235.9296e9)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[efficiency]", "[effciency]", "no field 'effciency'; did you mean 'efficiency'?"),
        ("depthwise =", "depthwize =", "efficiency: no field 'depthwize'; did you mean 'depthwise'?"),
        ("host_clock =", "host_clok =", "modes.5W: no field 'host_clok'; did you mean 'host_clock'"),
        ("energy_scope =", "energyscope =", "no field 'energyscope'; did you mean 'energy_scope'"),
        ('"0.128 ms"', '"25.6 GHz"', "launch.time: '25.6 GHz' is no s; write for example '12.3 ms'"),
        ('"0.128 ms"', "nan", "launch.time: nan is no s; write for example '12.3 ms'"),
        ('"0.128 ms"', "true", "launch.time: True is no s; write for example '12.3 ms'"),
        ('"1.75 W"', '"-1.75 W"', "power.static '-1.75 W'; it must be above 0"),
        ('"1.75 W"', "0", "power.static 0; it must be above 0"),
        (
            "value = 0.9,",
            "value = 1.2,",
            "efficiency.convolution 1.2; no device is faster than its own peak, it is at most 1",
        ),
        (
            'value = "1.75 W", kind',
            'value = "1.75 W", knd',
            "power.static: no field 'knd'; did you mean 'kind'?",
        ),
        ('value = "1.75 W", ', "", "power.static has no value; it must be"),
        (
            'kind = "measured"',
            'kind = "guessed"',
            "memory.total has kind 'guessed'; it is one of datasheet, measured, fitted, assumed",
        ),
        (
            'default_mode = "MAXN"',
            'default_mode = "MAX"',
            "no power mode 'MAX'; default_mode is one of 5W, MAXN",
        ),
        ('processor = "gpu"', 'processor = "tpu"', "no processor 'tpu'; did you mean 'gpu' or 'cpu'?"),
        (
            'processor = "gpu"',
            'processor = "cpu"',
            "modes.5W: no field 'host_cores'; there is clock, memory_clock, units",
        ),
        ('processor = "gpu"', "processor = 3", "processor 3; it must be text"),
        ('kernel_library = "none"', 'kernel_library = "cudnn"', "no kernel_library 'cudnn'; there is none"),
        (
            "host_cores = { value = 2,",
            "host_cores = { value = 2.5,",
            "modes.5W.host_cores 2.5; it must be a whole number",
        ),
        (
            '"3964 MiB"',
            '"964 MiB"',
            "memory.total 1.01 GB; it must be above the 1.78 GB that system and framework hold",
        ),
        ('unit = "SM"\n', "", "no text 'unit'; give unit = \"...\""),
    ],
)
def test_a_bad_file_is_refused_with_what_would_be_right(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in NANO
    assert message_for(tmp_path, NANO.replace(old, new, 1)).startswith(f"my-board.toml: {expected}")


def test_a_missing_field_is_named_with_how_to_write_it(tmp_path: Path) -> None:
    text = "\n".join(line for line in NANO.splitlines() if not line.startswith("gemm"))
    expected = "my-board.toml: no field 'efficiency.gemm'; give gemm = { value = ..., kind = ..., source = ... }"
    assert message_for(tmp_path, text) == expected


def test_a_file_without_power_modes_is_refused(tmp_path: Path) -> None:
    assert "no table [modes]" in message_for(tmp_path, NANO[: NANO.index("[modes.")])
    assert "at least one table [modes.NAME]" in message_for(tmp_path, NANO[: NANO.index("[modes.")] + "[modes]\n")


def test_a_number_without_a_source_is_refused(tmp_path: Path) -> None:
    number = 'static = { value = "1.75 W", kind = "measured", source = "" }'
    lines = [number if line.startswith("static") else line for line in NANO.splitlines()]
    assert "power.static has no source; say where" in message_for(tmp_path, "\n".join(lines))


def test_a_bare_number_is_refused(tmp_path: Path) -> None:
    lines = ["static = 1.75" if line.startswith("static") else line for line in NANO.splitlines()]
    assert message_for(tmp_path, "\n".join(lines)).startswith("my-board.toml: power.static is 1.75; it must be { value")


@pytest.mark.parametrize("part", [0.1, 0.37, 0.5, 0.77, 0.9])
def test_a_torn_file_is_an_error_of_one_line_with_its_name(tmp_path: Path, part: float) -> None:
    assert message_for(tmp_path, NANO[: int(part * len(NANO))]).startswith("my-board.toml")


def test_a_file_that_is_no_text_is_an_error_of_one_line_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "my-board.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert message(path).startswith("my-board.toml is no TOML (")


def test_listing_devices_reads_no_file_and_importing_needs_no_heavy_package() -> None:
    code = (
        "import sys; from hwmodels.device import devices; assert len(devices()) >= 11; "
        "heavy = {'tomllib', 'torch', 'pandas', 'matplotlib', 'workloads', 'analysis'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=FOLDER.parent.parent)
