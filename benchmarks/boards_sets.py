"""The tables of measured inference, each with the device, the runtime and the networks that it is of.

In `--data`: `nasbench201/raspi4_pixel3_cifar10.csv.gz` (HW-NAS-Bench, via HayeonLee/HELP@45f70eb),
`nasbench201/tx2_inference.csv` (AbdeslemHMN/HW-NAS-Memetic), `nasbench201/pi5_pixel.csv.gz`
(roldebijvank/HW-NAS-Bench-360@a9b243e) and `accel_nasbench/mnasnet_space.csv.gz` (afzalxo/Accel-NASBench@4260357).

What a runtime does with products with zero and with equal ops was read off the networks that have them: the converter
of HW-NAS-Bench puts a zero into the weights of a convolution that leads nowhere else, LiteRT drops it, ONNX Runtime and
TorchMobile execute it, torch2trt makes it a constant and an identity a layer. TensorRT makes chains of ops over the
same elements one.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import boards_mnasnet
import numpy as np
from boards_cells import Networks, counts, is_connected
from boards_dpu import Dpu
from boards_energy import EnergyForTime
from boards_protocol import Board
from boards_rows import Rows

from hwmodels.cpu.model import Cpu
from hwmodels.device import device
from hwmodels.gpu.model import Gpu
from simulator.cost import HardwareModel
from simulator.rewriting.deploying import Runtime

Table = Sequence[dict[str, str]]

HW_NAS_BENCH = Runtime(zeros="scale", merges=False)
TENSORRT = Runtime(zeros="constant", merges=False, chains=True)
FRAMEWORKS = {
    "litert": ("LiteRT", Runtime(zeros="drop")),
    "onnx": ("ONNX Runtime", Runtime(zeros="run")),
    "torchmobile": ("TorchMobile", Runtime(zeros="run")),
}
PI5_AND_PIXEL = {"pi5": ("Raspberry Pi 5", "raspberry-pi-5"), "pixel": ("Pixel", "rock-5b")}
"""Boards of one table: what we call them, and the device that stands for each."""
DPU = "ZCU102 DPU"
FILES = (
    "nasbench201/raspi4_pixel3_cifar10.csv.gz",
    "nasbench201/tx2_inference.csv",
    "nasbench201/pi5_pixel.csv.gz",
    "accel_nasbench/mnasnet_space.csv.gz",
)


def read(folder: Path, name: str) -> Table | None:
    """Return the rows of a table, None where there is no such file."""
    path = folder / name
    if not path.is_file():
        return None
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def one_core(name: str) -> Cpu:
    """Return a device that runs on one of its cores."""
    model = device(name)
    assert isinstance(model, Cpu)
    return dataclasses.replace(model, cores=1, active_w=model.active_w / model.cores)


def compiled_tx2() -> Gpu:
    """Return a TX2 without a host that dispatches: an engine is one program."""
    model = device("jetson-tx2")
    assert isinstance(model, Gpu)
    return dataclasses.replace(model, launch_s=0.0)


def cells(
    name: str, base: HardwareModel, runtime: Runtime, found: Sequence[tuple[str, str]], identities: bool = False
) -> Board:
    """Return the board of (architecture, value in milli) pairs; those whose output depends on no input are left out."""
    networks = Networks(Rows())
    kept = [(cell, 1e-3 * float(value)) for cell, value in found if value and is_connected(cell)]
    measured = [networks.rows.measured(networks.ops(c, runtime, identities), value, c) for c, value in kept]
    return Board(name, base, measured, np.array([counts(cell, runtime, identities) for cell, _ in kept]))


def whole(found: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pairs whose cell has no edge `none`."""
    return [(cell, value) for cell, value in found if "none" not in cell]


def boards(folder: Path) -> Iterator[tuple[str, Callable[[], Board]]]:
    """Yield the name of every board whose table is in `folder`, and what makes it."""

    def of_cells(name: str, *rest: Any) -> tuple[str, Callable[[], Board]]:
        return name, partial(cells, name, *rest)

    if table := read(folder, FILES[0]):
        pi, phone = ([(r["arch_str"], r[f"{name}_latency_ms"]) for r in table] for name in ("raspi4", "pixel3"))
        pi4 = one_core("raspberry-pi-4b")
        yield of_cells("Raspberry Pi 4", pi4, HW_NAS_BENCH, pi)
        yield of_cells("Raspberry Pi 4, no `none`", pi4, HW_NAS_BENCH, whole(pi))
        yield of_cells("Pixel 3", one_core("rock-5b"), HW_NAS_BENCH, phone)
    if table := read(folder, FILES[1]):
        found = [(r["arch_str"], r["edgegpu_latency_ms"]) for r in table if r["dataset"].startswith("cifar")]
        yield of_cells("Jetson TX2, TensorRT", compiled_tx2(), TENSORRT, found, True)
    if table := read(folder, FILES[2]):
        of: dict[tuple[str, str], list[dict[str, str]]] = {}
        for row in table:
            if row["task"] == "cifar100" and row["status"] == "ok":
                of.setdefault((row["device"], row["framework"]), []).append(row)
        for (where, framework), rows in of.items():
            title, runtime = FRAMEWORKS[framework]
            board, base = PI5_AND_PIXEL[where]
            latency, energy = ([(r["arch_str"], r[n]) for r in rows] for n in ("lat_ms_median", "energy_mj"))
            yield of_cells(f"{board}, {title}", one_core(base), runtime, latency)
            if any(joules for _, joules in energy):
                yield of_cells(f"{board}, {title}, energy", EnergyForTime(one_core(base)), runtime, energy)
    if table := read(folder, FILES[3]):
        yield DPU, partial(dpu, table)


def dpu(table: Table) -> Board:
    """Return the networks of Accel-NASBench on the ZCU102."""
    rows = Rows()
    kept = [row for row in table if row["latency_zcu102_ms"]]
    listed = [boards_mnasnet.ops(rows, row) for row in kept]
    measured = [
        rows.measured(ops, 1e-3 * float(row["latency_zcu102_ms"]), row["id"])
        for ops, row in zip(listed, kept, strict=True)
    ]
    return Board(DPU, Dpu(), measured, np.array([boards_mnasnet.columns(one.work) for one in measured]))
