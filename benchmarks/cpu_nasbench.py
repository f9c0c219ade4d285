"""The CPU model held against measured inference of NAS-Bench-201 networks on a Raspberry Pi 4 and 5, batch 1, one core.

Needs a folder of measurements (`--data`): `raspi4_pixel3_cifar10.csv.gz` (HW-NAS-Bench, via HayeonLee/HELP@45f70eb) and
`pi5_pixel.csv.gz` (roldebijvank/HW-NAS-Bench-360@a9b243e). Networks [Dong and Yang, "NAS-Bench-201", ICLR 2020] without
`none` in their cell, every `--every`th; batch norm folded into the convolutions. The devices are as in their files but
for the number of cores; nothing was fitted to these rows. `spearman` is the rank correlation of latency, beside that of
the MACs; `median_ln` the median of ln(ours / measured), `around_it` the median distance from it; energy is above idle.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import math
import statistics
from pathlib import Path
from typing import Any

from harness import arguments, publish
from scipy.stats import spearmanr

from analysis.claims.cpu_metrics import Step
from hwmodels.cpu.model import Cpu
from hwmodels.device import device
from simulator.work import Work

STAGES = ((16, 32), (32, 16), (64, 8))
"""Channels and side of the maps of the three stages, of five cells each."""


class Network:
    """The ops of one network, added as they run."""

    def __init__(self, cell: str) -> None:
        self.step = Step("float32")
        x = self.convolution(self.step.tensor(1, 3, 32, 32), 3, 16, 32)
        for i, (channels, side) in enumerate(STAGES):
            if i:
                x = self.reduction(x, channels // 2, channels, side)
            for _ in range(5):
                x = self.cell(cell, x, channels, side)

    def convolution(self, x: int, c: int, k: int, side: int, taps: int = 3, stride: int = 1) -> int:
        """Add a convolution with the bias that a folded batch norm leaves."""
        step = self.step
        attrs = {"stride": (stride, stride), "padding": (taps // 2, taps // 2), "dilation": (1, 1), "groups": 1}
        inputs = (x, step.tensor(k, c, taps, taps), step.tensor(k))
        return step.op("forward", "convolution", inputs, (1, k, side, side), **attrs, transposed=False)

    def elementwise(self, kind: str, inputs: tuple[int, ...], channels: int, side: int) -> int:
        """Add an op over the elements of a map."""
        return self.step.op("forward", kind, inputs, (1, channels, side, side))

    def pool(self, x: int, channels: int, side: int, taps: int) -> int:
        """Add an average pooling."""
        return self.step.op("forward", "avg_pool2d", (x,), (1, channels, side, side), kernel_size=(taps, taps))

    def reduction(self, x: int, c: int, k: int, side: int) -> int:
        """Add the residual block between two stages, which halves the map."""
        first = self.convolution(self.elementwise("relu", (x,), c, 2 * side), c, k, side, stride=2)
        second = self.convolution(self.elementwise("relu", (first,), k, side), k, k, side)
        aside = self.convolution(self.pool(x, c, side, 2), c, k, side, taps=1)
        return self.elementwise("add", (second, aside), k, side)

    def cell(self, cell: str, x: int, channels: int, side: int) -> int:
        """Add a cell: each node is the sum of an op on every node before it."""
        nodes = [x]
        for node in cell.split("+"):
            made = []
            for edge in node.strip("|").split("|"):
                op, source = edge.split("~")
                made.append(self.edge(op, nodes[int(source)], channels, side))
            total = made[0]
            for other in made[1:]:
                total = self.elementwise("add", (total, other), channels, side)
            nodes.append(total)
        return nodes[-1]

    def edge(self, op: str, x: int, channels: int, side: int) -> int:
        """Add what is on an edge: ReLU and convolution, average pooling, or nothing."""
        if op == "skip_connect":
            return x
        if op == "avg_pool_3x3":
            return self.pool(x, channels, side, 3)
        activated = self.elementwise("relu", (x,), channels, side)
        return self.convolution(activated, channels, channels, side, taps=int(op[-1]))


def one_core(name: str) -> Cpu:
    """Return a device that runs on one of its cores."""
    model = device(name)
    assert isinstance(model, Cpu)
    return dataclasses.replace(model, cores=1, active_w=model.active_w / model.cores)


def compare(model: Cpu, works: list[Work], latency_s: list[float], energy_j: list[float]) -> dict[str, Any]:
    """Return how our latencies, and energies where measured, go with the measured ones."""
    ours, above_idle = [], []
    for work in works:
        cost = model.price(work)
        seconds = work.total(cost.latency_s)
        ours.append(float(seconds))
        above_idle.append(float(work.total(cost.energy_j) - model.static_w * seconds))
    errors = [math.log(a / b) for a, b in zip(ours, latency_s, strict=True)]
    middle = statistics.median(errors)
    row = {"networks": len(works), "spearman": float(spearmanr(ours, latency_s).statistic)}
    row["macs_spearman"] = float(spearmanr([w.total(w.macs) for w in works], latency_s).statistic)
    row |= {"median_ln": middle, "around_it": statistics.median(abs(e - middle) for e in errors)}
    if energy_j:
        row["energy_spearman"] = float(spearmanr(above_idle, energy_j).statistic)
        row["energy_median_ln"] = statistics.median(math.log(a / b) for a, b in zip(above_idle, energy_j, strict=True))
    return row


def measured(path: Path) -> list[dict[str, str]]:
    """Return the rows of a compressed table whose cells have no `none`."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if "none" not in row["arch_str"]]


def main() -> None:
    options = arguments(__doc__, data="", every=20)
    data, every = Path(options.data), options.every
    rows: list[dict[str, Any]] = []
    if (data / "raspi4_pixel3_cifar10.csv.gz").is_file():
        found = measured(data / "raspi4_pixel3_cifar10.csv.gz")[::every]
        works = [Network(row["arch_str"]).step.work() for row in found]
        seconds = [1e-3 * float(row["raspi4_latency_ms"]) for row in found]
        rows.append({"device": "raspberry-pi-4b", "framework": "not stated"} | compare(
            one_core("raspberry-pi-4b"), works, seconds, []
        ))  # fmt: skip
    if (data / "pi5_pixel.csv.gz").is_file():
        table = measured(data / "pi5_pixel.csv.gz")
        for framework in ("torchmobile", "onnx", "litert"):
            wanted = ("pi5", framework, "cifar100", "ok")
            found = [r for r in table if (r["device"], r["framework"], r["task"], r["status"]) == wanted][::every]
            works = [Network(row["arch_str"]).step.work() for row in found]
            seconds, joules = ([1e-3 * float(row[name]) for row in found] for name in ("lat_ms_median", "energy_mj"))
            rows.append({"device": "raspberry-pi-5", "framework": framework} | compare(
                one_core("raspberry-pi-5"), works, seconds, joules
            ))  # fmt: skip
    publish("inference of NAS-Bench-201 networks, batch 1, one core", rows or [{"device": "no data"}], options.json)


if __name__ == "__main__":
    main()
