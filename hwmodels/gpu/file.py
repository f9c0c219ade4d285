"""The device file of the GPU model: its fields, and the model they make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwmodels import reading
from hwmodels.gpu.chip import Chip
from hwmodels.gpu.model import Gpu
from hwmodels.numbers import Number, derived
from simulator.errors import TrainwattError
from simulator.units import show

DTYPES = ("float32", "float16", "bfloat16", "float64", "int8")
TENSOR_DTYPES = ("float16", "bfloat16", "tf32", "int8")
TEXTS = ("description", "energy_scope", "default_mode")

_TABLES: Mapping[str, tuple[Mapping[str, str], tuple[str, ...]]] = {
    "memory": ({"total": "byte", "system": "byte", "context": "byte"}, ()),
    "compute": (dict.fromkeys(DTYPES, "FLOP/cycle"), DTYPES[1:]),
    "tensor": (dict.fromkeys(TENSOR_DTYPES, "FLOP/cycle"), TENSOR_DTYPES),
    "cache": ({"l2": "byte", "l2_rate": "byte/cycle"}, ()),
    "bandwidth": ({"bus_width": "byte", "efficiency": ""}, ()),
    "kernels": ({"pipeline": "", "staging_slots": "", "fill_steps": "", "start": "s", "workspace": "byte"}, ()),
    "launch": ({"time": "s"}, ()),
    "power": ({"static": "W", "host": "W", "soc": "W"}, ()),
    "energy": ({**dict.fromkeys(DTYPES, "J/FLOP"), "traffic": "J/byte", "voltage_floor": ""}, DTYPES[1:]),
}
_MODE = {"units": "", "clock": "Hz", "memory_clock": "Hz", "host_cores": "", "host_clock": "Hz"}
_MAY_BE_ZERO = (
    "system",
    "context",
    "staging_slots",
    "fill_steps",
    "start",
    "workspace",
    "time",
    "host",
    "soc",
    "voltage_floor",
)
_AT_MOST_ONE = ("efficiency", "pipeline", "voltage_floor")
_WHOLE = ("units", "host_cores")
_OPTIONAL_TABLES = ("tensor",)
_TRANSFERS_PER_CLOCK = 2
"""Every board here has DDR memory: two transfers in one clock of the memory bus."""

_LINES = (
    "kernels choose their tiles, split sums and Winograd for the best time; heuristics of a library may do worse",
    "an op whose operands fit into the L2 cache finds them there; a matrix product or convolution does not",
    "depthwise convolutions and pools run as PyTorch's own loops over taps, at instruction counts written out",
    "a convolution with a bias adds it in a kernel of its own",
    "the host dispatches ops in order, at one time each; a view is free",
    "idle, host and SoC power are the same in all power modes; energy per FLOP follows the square of the voltage",
    "arithmetic outside multiply-accumulates runs at half the peak rate",
    "reserved memory is that of PyTorch's CUDA caching allocator over three steps, with the workspace of kernels",
)
"""What the model itself takes for granted of any GPU."""


def build(name: str, data: Mapping[str, Any], mode: str) -> Gpu:
    """Return the device `name` that a file's `data` describe, in `mode`.

    Raises `TrainwattError` for a field too many or too few, a wrong unit, an impossible number or no source.
    """
    texts, numbers = check(data)
    return model(name, texts, numbers, tuple(data["modes"]), mode)


def check(data: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Number]]:
    """Return the texts and the numbers of a device file, the numbers by dotted path."""
    reading.known(data, ("model", *TEXTS, *_TABLES, "modes"), "")
    texts = {name: reading.text(data, name) for name in TEXTS}
    numbers: dict[str, Number] = {}
    for table, (units, optional) in _TABLES.items():
        if table in data or table not in _OPTIONAL_TABLES:
            numbers.update(_numbers(reading.table(data, table), table, units, optional))
    modes = reading.table(data, "modes")
    for mode in modes:
        numbers.update(_numbers(reading.table(modes, mode, "modes."), f"modes.{mode}", _MODE, ()))
    return texts, numbers


def _numbers(
    entries: Mapping[str, Any], where: str, units: Mapping[str, str], optional: tuple[str, ...]
) -> dict[str, Number]:
    return reading.numbers(
        entries, where, units, optional, may_be_zero=_MAY_BE_ZERO, at_most_one=_AT_MOST_ONE, whole=_WHOLE
    )


def model(
    name: str, texts: Mapping[str, str], numbers: Mapping[str, Number], mode_names: tuple[str, ...], mode: str
) -> Gpu:
    """Return the model of checked texts and numbers, in `mode`."""
    default = texts["default_mode"]

    def of(table: str) -> dict[str, Number]:
        start = table + "."
        return {p[len(start) :]: n for p, n in numbers.items() if p.startswith(start) and "." not in p[len(start) :]}

    here, there = of(f"modes.{mode}"), of(f"modes.{default}")
    compute, tensor, cache, kernels = of("compute"), of("tensor"), of("cache"), of("kernels")
    bus, share = numbers["bandwidth.bus_width"], numbers["bandwidth.efficiency"]
    bandwidth = derived(
        _TRANSFERS_PER_CLOCK * here["memory_clock"].value * bus.value,
        "byte/s",
        f"{_TRANSFERS_PER_CLOCK} transfers a clock x {here['memory_clock']} x {bus}",
        here["memory_clock"],
        bus,
    )
    launch = _scaled(numbers["launch.time"], there["host_clock"], here["host_clock"], default, mode)
    energy = {dtype: _at_voltage(number, numbers, there, here, mode) for dtype, number in of("energy").items()}
    usable = _usable(of("memory"))
    chip = Chip(
        units=int(here["units"].value),
        clock_hz=here["clock"].value,
        flop_per_cycle={dtype: number.value for dtype, number in compute.items()},
        tensor_flop_per_cycle={dtype: number.value for dtype, number in tensor.items()},
        l2_bytes=cache["l2"].value,
        l2_byte_per_cycle=cache["l2_rate"].value,
        dram_byte_per_s=bandwidth.value,
        dram_share=share.value,
        pipeline=kernels["pipeline"].value,
        staging_slots=kernels["staging_slots"].value,
        fill_steps=kernels["fill_steps"].value,
        kernel_s=kernels["start"].value,
        workspace_bytes=kernels["workspace"].value,
    )
    power = of("power")
    return Gpu(
        name=name,
        mode=mode,
        chip=chip,
        launch_s=launch.value,
        static_w=power["static"].value,
        host_w=power["host"].value,
        soc_w=power["soc"].value,
        energy_j_per_flop={dtype: number.value for dtype, number in energy.items() if dtype in DTYPES},
        energy_j_per_byte=numbers["energy.traffic"].value,
        memory_bytes=usable.value,
        assumptions=_assumptions(numbers, here),
        card={
            "name": name,
            "description": texts["description"],
            "processor": "gpu",
            "unit": "SM",
            "mode": mode,
            "modes": list(mode_names),
            "default_mode": default,
            "energy_scope": texts["energy_scope"],
            "peaks": _entries(_peaks(compute, tensor, here)),
            "bandwidths": _entries({"peak": bandwidth, "bus_width": bus, "l2_rate": cache["l2_rate"]}),
            "caches": _entries({"l2": cache["l2"]}),
            "launch": _entries({"time": launch, "start": kernels["start"]}),
            "powers": _entries(power),
            "energies": _entries(energy),
            "efficiencies": _entries({"bandwidth": share, **{k: n for k, n in kernels.items() if k != "start"}}),
            "memory": _entries({**of("memory"), "usable": usable}),
            "clocks": _entries(here),
            "compute": _entries(compute),
            "tensor": _entries(tensor),
        },
    )


def _entries(table: Mapping[str, Number]) -> dict[str, object]:
    return {key: number.entry for key, number in table.items()}


def _scaled(time: Number, there: Number, here: Number, default: str, mode: str) -> Number:
    """Return a host's time of the default mode in this one: it follows the clock of its cores, inversely."""
    if here.value == there.value:
        return time
    formula = f"{time} in mode {default} x {there} / {here} of mode {mode}"
    return derived(time.value * there.value / here.value, time.unit, formula, time, there, here)


def _at_voltage(
    energy: Number, numbers: Mapping[str, Number], there: Mapping[str, Number], here: Mapping[str, Number], mode: str
) -> Number:
    """Return an energy per FLOP at this mode's voltage: V = floor + (1 - floor) * clock / clock of the default mode."""
    floor = numbers["energy.voltage_floor"]
    if energy.unit != "J/FLOP" or here["clock"].value == there["clock"].value:
        return energy
    volt = floor.value + (1 - floor.value) * here["clock"].value / there["clock"].value
    formula = f"{energy} x {volt:.3g}^2 at {here['clock']} of mode {mode}, {there['clock']} in the default mode"
    return derived(energy.value * volt**2, energy.unit, formula, energy, floor, here["clock"], there["clock"])


def _usable(memory: Mapping[str, Number]) -> Number:
    held = memory["system"].value + memory["context"].value
    if memory["total"].value <= held:
        what = f"memory.total {memory['total']}; it must be above the {show(held, 'byte')}"
        raise TrainwattError(f"{what} that system and CUDA context hold")
    return derived(
        memory["total"].value - held,
        "byte",
        f"{memory['total']} less {memory['system']} of the system and {memory['context']} of the CUDA context",
        *memory.values(),
    )


def _peaks(
    compute: Mapping[str, Number], tensor: Mapping[str, Number], here: Mapping[str, Number]
) -> dict[str, Number]:
    """Return the peak rates in FLOP/s; those of tensor cores by `tensor DTYPE`."""
    units, clock = here["units"], here["clock"]
    rates = {**compute, **{f"tensor {dtype}": rate for dtype, rate in tensor.items()}}
    return {
        dtype: derived(
            units.value * clock.value * rate.value, "FLOP/s", f"{units} SMs x {clock} x {rate}", units, clock, rate
        )
        for dtype, rate in rates.items()
    }


def _assumptions(numbers: Mapping[str, Number], here: Mapping[str, Number]) -> tuple[str, ...]:
    """Return what is assumed of the device, one line each."""
    used = {path: number for path, number in numbers.items() if not path.startswith("modes.")}
    used |= {f"mode.{field}": number for field, number in here.items()}
    lines = [f"{path} {number}: {number.source}" for path, number in used.items() if number.kind == "assumed"]
    for what, table in (("rate", "compute"), ("energy", "energy")):
        without = [dtype for dtype in DTYPES if f"{table}.{dtype}" not in numbers]
        if without:
            lines.append(f"{', '.join(without)}: no {what} of their own, taken as that of float32")
    lines.append("any other dtype runs at the rate and the energy of float32")
    if not any(path.startswith("tensor.") for path in numbers):
        lines.append("there are no tensor cores")
    return (*lines, *_LINES)
