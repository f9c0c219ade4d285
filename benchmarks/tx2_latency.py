"""Time of training steps on a Jetson TX2 (and Nano): the GPU model against measurements.

`--data` is the folder of the measurements (latency.csv, layers.csv.gz), `--claims` a table of what is published on
gradient filtering. The two fitted constants of the model are fitted anew, by a
grid, to three networks at a time and the fourth predicted with them ("left out"); "file" is with those of the device
file, which were fitted to all four. Errors are |predicted / measured - 1|, means over batch sizes.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import arguments, publish
from tx2_steps import measured, step, structures, work_at

from analysis.claims.cpu_metrics import filtered_backward_speedup
from hwmodels.device import device
from hwmodels.gpu.chip import Chip
from hwmodels.gpu.model import Gpu
from simulator.estimate import estimate
from simulator.schedule import timeline
from simulator.techniques import apply
from simulator.techniques.structured_prune import StructuredPrune
from simulator.work import Work
from workloads.tracer import trace

GRID = {
    "fill_steps": (96.0, 128.0, 160.0, 192.0, 224.0, 256.0, 288.0, 320.0),
    "dram_share": (0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65),
}
FEW = 5
"""Batch sizes of a network that the grid is fitted to, spread over those measured."""


def predicted(gpu: Gpu, work: Work) -> np.ndarray[Any, Any]:
    """Return the time of the step at every batch size of `work`, in seconds."""
    placed = timeline(gpu.price(work), work.row_of_op, work.runs)
    end: np.ndarray[Any, Any] = (placed.start_s + placed.duration_s)[-1]
    return end


def candidates(gpu: Gpu) -> Iterable[Gpu]:
    """Return the model with every combination of the fitted constants."""
    for values in itertools.product(*GRID.values()):
        chip: Chip = replace(gpu.chip, **dict(zip(GRID, values, strict=True)))
        yield replace(gpu, chip=chip)


def main() -> None:
    options = arguments(__doc__, data="tx2", fit=1, claims="")
    tx2: Any = device("jetson-tx2")
    table = measured(options.data, "latency.csv", ("train_step_ms",))
    rows: list[dict[str, Any]] = []
    work, few, errors, time = {}, {}, {}, {}
    for network, sizes in table.items():
        batches = [b for b, (ok, _) in sizes.items() if ok]
        time[network] = np.array([sizes[b][1][0] for b in batches]) / 1e3
        graph = step(network)
        work[network] = work_at(graph, batches)
        chosen = sorted({round(i) for i in np.linspace(0, len(batches) - 1, FEW)})
        few[network] = work_at(graph, [batches[i] for i in chosen]), time[network][chosen]
        ratio = predicted(tx2, work[network]) / time[network]
        errors[network] = float(np.abs(ratio - 1).mean())
        rows += [
            {"network": network, "batch": b, "measured_ms": 1e3 * t, "predicted_ms": 1e3 * t * r, "ratio": r}
            for b, t, r in zip(batches, time[network], ratio, strict=True)
        ]
    publish("step time on a Jetson TX2, unpruned networks, constants of the device file", rows, options.json)
    left_out: dict[str, tuple[float, Any]] = {}
    if options.fit:
        found = [
            (gpu, {name: float(np.abs(np.log(predicted(gpu, w) / t)).mean()) for name, (w, t) in few.items()})
            for gpu in candidates(tx2)
        ]
        for network in (*table, ""):
            best = min(found, key=lambda entry: sum(e for name, e in entry[1].items() if name != network))[0]
            constants = {name: getattr(best.chip, name) for name in GRID}
            error = float(np.abs(predicted(best, work[network]) / time[network] - 1).mean()) if network else 0.0
            left_out[network] = error, constants
    summary = [
        {
            "network": network,
            "file_%": 100 * errors[network],
            **({"left_out_%": 100 * left_out[network][0], **left_out[network][1]} if left_out else {}),
        }
        for network in table
    ]
    mean: dict[str, Any] = {"network": "all (constants: fitted to all)", "file_%": 100 * np.mean(list(errors.values()))}
    if left_out:
        mean |= {"left_out_%": 100 * np.mean([left_out[n][0] for n in table]), **left_out[""][1]}
    publish("mean |error|", [*summary, mean], None)
    pruned(options.data, tx2)
    if options.claims:
        filtered(options.claims)
    nano = 1e3 * estimate(trace("resnet18", batch=8), device("jetson-nano")).total.latency_s
    row = {"measured_ms": 775.0, "predicted_ms": nano, "ratio": nano / 775.0}
    publish(
        "ResNet-18, batch 8, Jetson Nano (dusty-nv/jetson-inference@45da40a8, loading the data included)", [row], None
    )


def pruned(folder: str, tx2: Gpu) -> None:
    """Print how well the time of randomly pruned structures of ResNet-50 is met, and their speed-up over the whole."""
    rows: list[dict[str, Any]] = []
    whole = step("resnet50")
    modules = {op.layer.replace(".", "_"): op.layer for op in whole.ops if op.kind == "convolution"}
    base: dict[int, tuple[float, float]] = {}
    for level, widths in structures(folder, "resnet50", modules).items():
        sizes = measured(folder, "latency.csv", ("train_step_ms",), level)["resnet50"]
        batches = [b for b, (ok, _) in sizes.items() if ok]
        times = np.array([sizes[b][1][0] for b in batches]) / 1e3
        graph = apply([StructuredPrune(0.0, widths=widths)], whole) if level else whole
        found = predicted(tx2, work_at(graph, batches))
        if not level:
            base = dict(zip(batches, zip(times, found, strict=True), strict=True))
        common = [i for i, b in enumerate(batches) if b in base]
        gained = [abs((base[batches[i]][1] / found[i]) / (base[batches[i]][0] / times[i]) - 1) for i in common]
        rows.append(
            {
                "pruned_%": level,
                "batch_sizes": len(batches),
                "mean_error_%": 100 * float(np.abs(found / times - 1).mean()),
                "bias_%": 100 * float((found / times - 1).mean()),
                "speedup_error_%": 100 * float(np.mean(gained)),
            }
        )
    count = sum(row["batch_sizes"] for row in rows)
    weighted = {
        name: sum(row[name] * row["batch_sizes"] for row in rows) / count
        for name in ("mean_error_%", "bias_%", "speedup_error_%")
    }
    publish("ResNet-50, randomly pruned", [*rows, {"pruned_%": "all", "batch_sizes": count, **weighted}], None)


def filtered(path: str) -> None:
    """Print published speed-ups of gradient filtering in one backward on a Jetson Nano's GPU (Yang 2023, Fig. 6)."""
    rows = []
    with Path(path).open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["table"] == "Fig. 6 top" and row["device"].startswith("Jetson Nano GPU"):
                channels, high, wide = map(int, row["input"].split("x"))
                patch, published = int(row["patch"]), float(row["value"])
                found = filtered_backward_speedup("jetson-nano", channels, high, wide, patch)
                shape = {"input": row["input"], "patch": patch}
                rows.append({**shape, "published": published, "predicted": found, "ratio": found / published})
    ranks = [np.argsort(np.argsort([row[name] for row in rows])) for name in ("published", "predicted")]
    figures = {
        "rank_correlation": float(np.corrcoef(*ranks)[0, 1]),
        "median_log_error": float(np.median([abs(np.log(row["ratio"])) for row in rows])),
    }
    publish("backward speed-up by gradient filtering, Jetson Nano GPU, batch 32", [*rows, figures], None)


if __name__ == "__main__":
    main()
