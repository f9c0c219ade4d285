"""The device file of the CPU model: its fields, and the model they make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwmodels import reading
from hwmodels.cpu.card import card
from hwmodels.cpu.core import Core
from hwmodels.cpu.demand import Processor
from hwmodels.cpu.library import LIBRARIES
from hwmodels.cpu.memory import Cache, Dram
from hwmodels.cpu.model import Cpu, InStep
from hwmodels.libraries.onednn import OneDnn
from hwmodels.numbers import Number, derived
from simulator.errors import TrainwattError, unknown

DTYPES = ("float32", "float16", "bfloat16", "float64", "int8")
TEXTS = ("description", "processor", "unit", "kernel_library", "energy_scope", "default_mode")
LEVELS = ("L1", "L2", "L3")

_CACHE = {"size": "byte", "cores": "", "rate": "byte/cycle", "scaling": "", "energy": "J/byte"}
_FIELDS: Mapping[str, tuple[Mapping[str, str], tuple[str, ...]]] = {
    "memory": ({"total": "byte", "system": "byte", "runtime": "byte"}, ()),
    "compute": (dict.fromkeys(DTYPES, "FLOP/cycle"), DTYPES[1:]),
    "core": ({"vector_bits": "", "tile_rows": "", "tile_vectors": "", "fill": "", "hidden": ""}, ()),
    "bandwidth": ({"bus_width": "byte", "read": "byte/s", "write": "byte/s", "copy": "byte/s", "scaling": ""}, ()),
    "efficiency": ({"gemm": "", "vector": ""}, ()),
    "threads": ({"region": "s", "serial": ""}, ()),
    "launch": ({"time": "s"}, ()),
    "power": ({"static": "W", "active": "W"}, ()),
    "energy": ({**dict.fromkeys(DTYPES, "J/FLOP"), "traffic": "J/byte"}, DTYPES[1:]),
}
_STEP = {"dispatch": "s", "cache": ""}
_MODE = {"units": "", "clock": "Hz", "memory_clock": "Hz"}
_MAY_BE_ZERO = ("system", "runtime", "fill", "hidden", "region", "serial", "time", "active", "dispatch")
_AT_MOST_ONE = ("gemm", "vector", "hidden", "serial", "cache")
_WHOLE = ("units", "cores", "vector_bits", "tile_rows", "tile_vectors")
_TRANSFERS_PER_CLOCK = 2
"""Every device here has DDR memory: two transfers in one clock of the memory bus."""


def build(name: str, data: Mapping[str, Any], mode: str) -> Cpu:
    """Return the device `name` that a file's `data` describe, in `mode`."""
    texts, numbers = check(data)
    return model_of(name, texts, numbers, tuple(data["modes"]), mode)


def check(data: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Number]]:
    """Return the texts and the numbers of a device file, the numbers by dotted path.

    Raises `TrainwattError` where one is missing, unknown, impossible or without a source.
    """
    reading.known(data, ("model", *TEXTS, *_FIELDS, "step", "caches", "modes"), "")
    texts = {name: reading.text(data, name) for name in TEXTS}
    if texts["processor"] != "cpu":
        raise unknown("processor", texts["processor"], ["cpu"])
    if texts["kernel_library"] not in LIBRARIES:
        raise unknown("kernel_library", texts["kernel_library"], LIBRARIES)
    numbers: dict[str, Number] = {}

    def read(table: Mapping[str, Any], where: str, units: Mapping[str, str], optional: tuple[str, ...] = ()) -> None:
        limits = {"may_be_zero": _MAY_BE_ZERO, "at_most_one": _AT_MOST_ONE, "whole": _WHOLE}
        numbers.update(reading.numbers(table, where, units, optional, **limits))

    for where, (units, optional) in _FIELDS.items():
        read(reading.table(data, where), where, units, optional)
    if "step" in data:
        read(reading.table(data, "step"), "step", _STEP)
    caches, modes = reading.table(data, "caches"), reading.table(data, "modes")
    if not caches or tuple(caches) != LEVELS[: len(caches)]:
        raise TrainwattError(f"caches {', '.join(caches) or 'without a level'}; give L1, then L2 and L3 as there are")
    for level in caches:
        read(reading.table(caches, level, "caches."), f"caches.{level}", _CACHE)
    for mode in modes:
        read(reading.table(modes, mode, "modes."), f"modes.{mode}", _MODE)
    return texts, numbers


def model_of(
    name: str, texts: Mapping[str, str], numbers: Mapping[str, Number], modes: tuple[str, ...], mode: str
) -> Cpu:
    """Return the model in `mode`: clocks and cores of the mode, rates measured in the default mode."""
    of = numbers.__getitem__
    here, there = ({f: of(f"modes.{m}.{f}") for f in _MODE} for m in (mode, texts["default_mode"]))
    cores, clock = here["units"], here["clock"]
    faster = clock.value / there["clock"].value
    bus = here["memory_clock"].value / there["memory_clock"].value

    def follows(path: str, factor: float, what: str) -> Number:
        """The number of the default mode, scaled for this one."""
        number = of(path)
        if factor == 1:
            return number
        formula = f"{number} in mode {texts['default_mode']} x {factor:.4g} for {what} of mode {mode}"
        return derived(number.value * factor, number.unit, formula, number)

    def scaling(path: str) -> float:
        """Rate with all cores of this mode over that of one."""
        return 1 + (of(path).value - 1) * (cores.value - 1) / max(there["units"].value - 1, 1)

    rates = {dtype: of(f"compute.{dtype}") for dtype in DTYPES if f"compute.{dtype}" in numbers}
    peak = derived(
        _TRANSFERS_PER_CLOCK * here["memory_clock"].value * of("bandwidth.bus_width").value,
        "byte/s",
        f"{_TRANSFERS_PER_CLOCK} transfers a clock x {here['memory_clock']} x {of('bandwidth.bus_width')}",
        here["memory_clock"],
        of("bandwidth.bus_width"),
    )
    measured = {f: follows(f"bandwidth.{f}", bus, "the memory clock") for f in ("read", "write", "copy")}
    dram = Dram(
        read_byte_per_s=measured["read"].value,
        write_byte_per_s=measured["write"].value,
        copy_byte_per_s=measured["copy"].value,
        scaling=scaling("bandwidth.scaling"),
        peak_byte_per_s=peak.value,
        energy_j_per_byte=of("energy.traffic").value,
    )
    levels = [level for level in LEVELS if f"caches.{level}.size" in numbers]
    caches = tuple(
        Cache(
            name=level,
            size_bytes=of(f"caches.{level}.size").value,
            instances=max(cores.value / of(f"caches.{level}.cores").value, 1.0),
            byte_per_s=of(f"caches.{level}.rate").value * clock.value,
            scaling=scaling(f"caches.{level}.scaling"),
            energy_j_per_byte=of(f"caches.{level}.energy").value,
            shared=of(f"caches.{level}.cores").value > 1,
        )
        for level in levels
    )
    core = Core(
        vector_bytes=of("core.vector_bits").value / 8,
        tile_rows=of("core.tile_rows").value,
        tile_vectors=of("core.tile_vectors").value,
        fill_cycles=of("core.fill").value,
        hidden=of("core.hidden").value,
        l1_bytes=caches[0].size_bytes,
        l1_byte_per_cycle=of("caches.L1.rate").value,
    )
    library = LIBRARIES[texts["kernel_library"]]
    launch, region = (follows(path, 1 / faster, "the clock") for path in ("launch.time", "threads.region"))
    in_step = InStep(of("step.dispatch").value / faster, of("step.cache").value) if "step.cache" in numbers else None
    active = follows("power.active", faster * cores.value / there["units"].value, "clock and cores")
    memory = {field: of(f"memory.{field}") for field in ("total", "system", "runtime")}
    usable = reading.usable_memory(memory)
    energies = {dtype: of(f"energy.{dtype}") for dtype in DTYPES if f"energy.{dtype}" in numbers}
    made = {"launch": launch, "region": region, "active": active, "usable": usable, "peak": peak, **measured}
    return Cpu(
        name=name,
        mode=mode,
        cores=int(cores.value),
        clock_hz=clock.value,
        processor=Processor(
            core=core,
            caches=caches,
            library=library,
            flop_per_cycle={dtype: rate.value for dtype, rate in rates.items()},
            gemm=of("efficiency.gemm").value,
            vector=of("efficiency.vector").value,
        ),
        dram=dram,
        serial=of("threads.serial").value,
        region_s=region.value,
        dispatch_s=launch.value,
        static_w=of("power.static").value,
        active_w=active.value,
        energy_j_per_flop={dtype: energy.value for dtype, energy in energies.items()},
        memory_bytes=usable.value,
        assumptions=assumptions(numbers, here, list(rates), list(energies), library.name, len(modes) > 1),
        card=card(name, texts, numbers, modes, mode, made),
        kernels=OneDnn(int(core.vector_bytes), int(cores.value)) if library.name == "onednn" else None,
        step=in_step,
    )


def assumptions(
    numbers: Mapping[str, Number],
    mode: Mapping[str, Number],
    rates: list[str],
    energies: list[str],
    library: str,
    several_modes: bool,
) -> tuple[str, ...]:
    """Return every assumed number, and what the model takes for granted, in one line each."""
    used = {path: number for path, number in numbers.items() if not path.startswith("modes.")}
    used |= {f"mode.{field}": number for field, number in mode.items()}
    without = [dtype for dtype in DTYPES if dtype not in rates]
    same_energy = [dtype for dtype in rates if dtype not in energies]
    lines: list[str | bool] = [
        *(f"{path} {number}: {number.source}" for path, number in used.items() if number.kind == "assumed"),
        bool(without) and f"{', '.join(without)}: no rate of their own, taken to run at the float32 rate",
        bool(same_energy) and f"{', '.join(same_energy)}: no energy of their own, taken to cost what float32 costs",
        "any other dtype runs at the rate and the energy of float32",
        f"convolutions are computed as library {library!r} does it",
        "kernel workspace is that of PyTorch 2.13 with oneDNN 3.12, one thread a core"
        if library == "onednn"
        else "kernel workspace is not counted",
        "what an op reads is in the nearest cache that holds all that it reads and writes",
        "an op of elements runs on as many cores as it has pieces of 32,768 elements",
        "a view costs nothing of its own; its share of the framework's work is in the launch time",
        several_modes and "idle power and energy per FLOP and byte are the same in all power modes",
        several_modes and "the measured bandwidths follow the memory clock alone",
    ]
    return tuple(line for line in lines if isinstance(line, str))
