"""The device file of the roofline model: its fields, and the model they make."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hwmodels import reading
from hwmodels.libraries.onednn import OneDnn
from hwmodels.numbers import Number, derived
from hwmodels.roofline import EFFICIENCIES, Roofline, assumptions
from simulator.errors import TrainwattError, unknown

PROCESSORS = ("cpu", "gpu", "fpga")
KERNEL_LIBRARIES = ("none", "onednn")
DTYPES = ("float32", "float16", "bfloat16", "float64", "int8")

_TEXTS = ("description", "processor", "unit", "kernel_library", "energy_scope", "default_mode")
_TABLES = ("memory", "compute", "bandwidth", "efficiency", "launch", "power", "energy", "modes", "kernels")
_MAY_BE_ZERO = {
    "memory": ("system", "runtime"),
    "efficiency": ("half_channels",),
    "launch": ("time",),
    "power": ("active",),
}
_AT_MOST_ONE = {"bandwidth": ("efficiency",), "efficiency": EFFICIENCIES}
_WHOLE = ("units", "host_cores", "vector_bits")
_TRANSFERS_PER_CLOCK = 2
"""Every device here has DDR memory: two transfers in one clock of the memory bus."""


def build(name: str, data: Mapping[str, Any], mode: str) -> Roofline:
    """Return the device `name` that a file's `data` describe, in `mode`."""
    texts, numbers = _check(data)
    return _build(name, texts, numbers, tuple(data["modes"]), mode)


def _fields(processor: str, kernel_library: str) -> dict[str, tuple[dict[str, str], tuple[str, ...]]]:
    """Return the numbers of every table of a device file: name to unit, and those that may be left out."""
    channels = "tile_channels" if processor == "fpga" else "half_channels"
    host = {"host_cores": "", "host_clock": "Hz"} if processor == "gpu" else {}
    optional = DTYPES[1:]
    kernels: dict[str, tuple[dict[str, str], tuple[str, ...]]]
    kernels = {"kernels": ({"vector_bits": ""}, ())} if kernel_library == "onednn" else {}
    return {
        "memory": ({"total": "byte", "system": "byte", "runtime": "byte"}, ()),
        "compute": (dict.fromkeys(DTYPES, "FLOP/cycle"), optional),
        "bandwidth": ({"bus_width": "byte", "efficiency": ""}, ()),
        "efficiency": ({**dict.fromkeys(EFFICIENCIES, ""), channels: ""}, ()),
        "launch": ({"time": "s"}, ()),
        "power": ({"static": "W", "active": "W"}, ()),
        "energy": ({**dict.fromkeys(DTYPES, "J/FLOP"), "traffic": "J/byte"}, optional),
        "modes": ({"units": "", "clock": "Hz", "memory_clock": "Hz", **host}, ()),
        **kernels,
    }


def _check(data: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Number]]:
    """Return the texts and the numbers of a device file, the numbers by dotted path."""
    reading.known(data, ("model", *_TEXTS, *_TABLES), "")
    texts = {name: reading.text(data, name) for name in _TEXTS}
    for name, known in (("processor", PROCESSORS), ("kernel_library", KERNEL_LIBRARIES)):
        if texts[name] not in known:
            raise unknown(name, texts[name], known)
    if texts["kernel_library"] == "onednn" and texts["processor"] != "cpu":
        raise TrainwattError(f"kernel_library 'onednn' of a {texts['processor']}; it is that of an x86 cpu")
    fields = _fields(texts["processor"], texts["kernel_library"])
    if "kernels" in data and "kernels" not in fields:
        raise TrainwattError(f"kernels of kernel_library {texts['kernel_library']!r}; leave out [kernels]")
    numbers: dict[str, Number] = {}
    for table, (units, optional) in fields.items():
        found = reading.table(data, table)
        if table != "modes":
            numbers.update(_numbers(found, table, table, units, optional))
            continue
        if not found:
            raise TrainwattError("no power mode; give at least one table [modes.NAME]")
        for mode in found:
            numbers.update(_numbers(reading.table(found, mode, "modes."), table, f"modes.{mode}", units, optional))
    return texts, numbers


def _numbers(
    found: Mapping[str, Any], table: str, where: str, units: Mapping[str, str], optional: tuple[str, ...]
) -> dict[str, Number]:
    return reading.numbers(
        found,
        where,
        units,
        optional,
        may_be_zero=_MAY_BE_ZERO.get(table, ()),
        at_most_one=_AT_MOST_ONE.get(table, ()),
        whole=_WHOLE,
    )


def _build(
    name: str, texts: Mapping[str, str], numbers: Mapping[str, Number], mode_names: tuple[str, ...], mode: str
) -> Roofline:
    processor, unit, default = texts["processor"], texts["unit"], texts["default_mode"]

    def of(path: str) -> Number:
        return numbers[path]

    def in_table(table: str) -> dict[str, Number]:
        start = table + "."
        return {p[len(start) :]: n for p, n in numbers.items() if p.startswith(start) and "." not in p[len(start) :]}

    here, there = in_table(f"modes.{mode}"), in_table(f"modes.{default}")

    def scaled(number: Number, *clocks: str) -> Number:
        """The number of the default mode, scaled with the named clocks (inverse for a time)."""
        ratio = math.prod(here[c].value / there[c].value for c in clocks)
        if ratio == 1:
            return number
        factor = 1 / ratio if number.unit == "s" else ratio
        formula = f"{number} in mode {default} x {factor:.4g} for {' and '.join(clocks)} of mode {mode}"
        return derived(
            number.value * factor,
            number.unit,
            formula,
            number,
            *(t[c] for c in clocks for t in (here, there)),
        )

    units, clock = here["units"], here["clock"]
    peaks = {
        dtype: derived(
            units.value * clock.value * rate.value,
            "FLOP/s",
            f"{units} {unit}s x {clock} x {rate}",
            units,
            clock,
            rate,
        )
        for dtype, rate in in_table("compute").items()
    }
    bus, memory_clock, share = of("bandwidth.bus_width"), here["memory_clock"], of("bandwidth.efficiency")
    bandwidth = derived(
        _TRANSFERS_PER_CLOCK * memory_clock.value * bus.value,
        "byte/s",
        f"{_TRANSFERS_PER_CLOCK} transfers a clock x {memory_clock} x {bus}",
        memory_clock,
        bus,
    )
    effective = derived(bandwidth.value * share.value, "byte/s", f"{share} of {bandwidth}", bandwidth, share)
    clocks = {"gpu": ("host_clock",), "cpu": ("clock",), "fpga": ()}[processor]
    launch = scaled(of("launch.time"), *clocks)
    active = scaled(
        of("power.active"),
        *{"gpu": ("host_clock",), "cpu": ("clock", "units"), "fpga": ("clock",)}[processor],
    )
    memory = in_table("memory")
    usable = reading.usable_memory(memory)
    efficiency = in_table("efficiency")
    energy = in_table("energy")

    used = {p: n for p, n in numbers.items() if not p.startswith("modes.")}
    used.update({f"mode.{field}": number for field, number in here.items()})
    without = [dtype for dtype in DTYPES if dtype not in peaks]
    same_energy = [dtype for dtype in peaks if dtype not in energy]
    lines = [f"{path} {number}: {number.source}" for path, number in used.items() if number.kind == "assumed"]
    if without:
        lines.append(f"{', '.join(without)}: no rate of their own, taken to run at the float32 rate")
    if same_energy:
        lines.append(f"{', '.join(same_energy)}: no energy of their own, taken to cost what float32 costs")
    lines.append("any other dtype runs at the rate and the energy of float32")
    lines.extend(assumptions(processor, len(mode_names) > 1, texts["kernel_library"]))

    def entries(table: Mapping[str, Number]) -> dict[str, object]:
        return {key: number.entry for key, number in table.items()}

    card: dict[str, object] = {
        "name": name,
        "description": texts["description"],
        "processor": processor,
        "unit": unit,
        "mode": mode,
        "modes": list(mode_names),
        "default_mode": default,
        "kernel_library": texts["kernel_library"],
        "energy_scope": texts["energy_scope"],
        "peaks": entries(peaks),
        "bandwidths": entries({"peak": bandwidth, "effective": effective, "bus_width": bus}),
        "launch": entries({"time": launch}),
        "powers": entries({"static": of("power.static"), "active": active}),
        "energies": entries(energy),
        "efficiencies": entries({**efficiency, "bandwidth": share}),
        "memory": entries({**memory, "usable": usable}),
        "clocks": entries(here),
        "compute": entries(in_table("compute")),
        "kernels": entries(in_table("kernels")),
    }
    return Roofline(
        name=name,
        mode=mode,
        launch_overlaps=processor == "gpu",
        peak_flop_per_s={dtype: number.value for dtype, number in peaks.items()},
        efficiency={key: efficiency[key].value for key in EFFICIENCIES},
        half_channels=efficiency["half_channels"].value if processor != "fpga" else 0.0,
        tile_channels=efficiency["tile_channels"].value if processor == "fpga" else 0.0,
        peak_byte_per_s=bandwidth.value,
        bandwidth_efficiency=share.value,
        launch_s=launch.value,
        static_w=of("power.static").value,
        active_w=active.value,
        energy_j_per_flop={key: number.value for key, number in energy.items() if key != "traffic"},
        energy_j_per_byte=energy["traffic"].value,
        memory_bytes=usable.value,
        assumptions=tuple(lines),
        card=card,
        kernels=OneDnn(int(of("kernels.vector_bits").value) // 8, int(units.value))
        if texts["kernel_library"] == "onednn"
        else None,
    )
