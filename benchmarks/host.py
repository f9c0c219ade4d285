"""This machine's CPU: calibrated from single ops, held against whole steps and techniques that were never in the fit.

    python benchmarks/host.py --results FOLDER [--threads 1,2] [--repeats 12] [--json FILE|-]

For each number of threads: measures the designed set of ops (at most 10 minutes), fits `x86-avx512` to these rows and
no others, runs twelve networks at three batch sizes each, then every technique whose runnable form saves real work on
four networks, and prints how far off latency, peak memory and speedup are. What FOLDER has already is not measured
again. `quantize` and `psg` are left out: their runnable forms simulate integers in floats and take longer, not less.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from harness import arguments, publish

from analysis.calibration.fit import fit
from analysis.calibration.parameters import parameters_of
from analysis.calibration.rows import measured_ops
from analysis.calibration.writing import Calibrated
from analysis.measurements.command import measure_cases as measure_ops
from analysis.measurements.format import read
from analysis.validation.compare import compare
from analysis.validation.comparison import summaries
from analysis.validation.measure import measure_cases
from analysis.validation.report import csv_text, draw_all
from hwmodels.device import device
from simulator.files import write_atomic
from workloads.measuring.allocator import keep_freed_memory
from workloads.measuring.compared import ComparedCase
from workloads.measuring.host import this_host
from workloads.measuring.ops import op_cases

BASE = "x86-avx512"
OPS_LIMIT_S = 600.0
OP_REPEATS = 5
NETWORKS = {
    "lenet5": (16, 64, 256),
    "alexnet": (1, 2, 4),
    "vgg11-cifar": (4, 8, 16),
    "resnet8-cifar": (8, 16, 32),
    "resnet20-cifar": (4, 8, 16),
    "resnet18": (1, 2, 3),
    "resnet50": (1, 2, 3),
    "mobilenetv2": (1, 2, 4),
    "mnasnet": (1, 2, 4),
    "squeezenet1.1": (1, 2, 4),
    "googlenet": (1, 2, 3),
    "mcunet-like": (1, 2, 4),
}
"""Twelve networks, none in the fit, at batch sizes of steps below a second on one core."""
TREATED = {"resnet20-cifar": 8, "resnet18": 2, "mobilenetv2": 2, "vgg11-cifar": 8}
TECHNIQUES = (
    "accumulate{steps=2}",
    "channels-last",
    "early-exit",
    "error-map-prune{keep=0.5}",
    "freeze-bn",
    "fuse",
    "gradient-filter{patch=2,last=4}",
    "gradient-filter{patch=4}",
    "instance-filter",
    "low-rank-gradient{rank=4}",
    "ohem{keep=0.5}",
    "partial-domain-adaptation{classes=5}",
    "recompute{segments=3}",
    "slu",
    "smd{p=0.5}",
    "sparse-update{last=3}",
    "structured-prune{ratio=0.5}",
)


def ops_of(folder: Path, threads: int) -> Path:
    """Return the file of measured ops, which `FOLDER/ops-THREADS.csv` becomes."""
    path = folder / f"ops-{threads}.csv"
    keep_freed_memory()
    measure_ops(str(path), op_cases(), this_host(threads), OP_REPEATS, threads, OPS_LIMIT_S)
    return path


def calibrated(folder: Path, threads: int, ops: Path) -> Path:
    """Return the device file that is fitted to the ops, made anew where it is older than they are."""
    path = folder / f"host-{threads}.toml"
    if not path.exists() or path.stat().st_mtime < ops.stat().st_mtime:
        mode = f"{threads}-thread{'s' if threads > 1 else ''}"
        rows = [row for row in read(ops) if row.metric == "latency"]
        fitted = fit(parameters_of(BASE, mode), measured_ops(rows), f"{len(rows)} ops of {ops.name}")
        write_atomic(path, Calibrated(BASE, mode, f"{len(rows)} measured ops", fitted, None).text())
    return path


def figures(folder: Path, threads: int, repeats: int) -> list[dict[str, Any]]:
    """Return a row for each stage and each quantity that is compared, with so many threads."""
    begun = time.monotonic()
    ops = ops_of(folder, threads)
    measured = time.monotonic()
    model = device(calibrated(folder, threads, ops))
    fitted = time.monotonic()
    rows: list[dict[str, Any]] = [
        {"threads": threads, "quantity": "measuring ops", "seconds": measured - begun},
        {"threads": threads, "quantity": "fitting", "seconds": fitted - measured},
    ]
    steps = [ComparedCase(name, batch) for name, batches in NETWORKS.items() for batch in batches]
    treated = [ComparedCase(name, batch, TECHNIQUES) for name, batch in TREATED.items()]
    for stage, cases in (("steps", steps), ("techniques", treated)):
        start = time.monotonic()
        path = folder / f"{stage}-{threads}.csv"
        found, missing = measure_cases(str(path), cases, this_host(threads), repeats, threads)
        compared = compare(found, model)
        seconds = time.monotonic() - start
        write_atomic(folder / f"compared-{stage}-{threads}.csv", csv_text(compared.comparisons))
        draw_all(compared.comparisons, str(folder / f"{stage}-{threads}.png"))
        for one in summaries(compared.comparisons):
            signs = f"{one.sign_right} of {one.signs}" if one.signs else None
            rows.append(
                {
                    "threads": threads,
                    "quantity": f"{one.quantity} ({stage})",
                    "compared": one.count,
                    "mean %": 100 * one.mean_error,
                    "median %": 100 * one.median_error,
                    "worst %": 100 * abs(one.worst.error),
                    "worst at": f"{one.worst.what} {one.worst.batch} {one.worst.technique}".strip(),
                    "within 10 %": f"{one.close} of {one.count}",
                    "sign right": signs,
                    "spearman": one.correlation,
                }
            )
        rows.append({"threads": threads, "quantity": f"running {stage}", "seconds": seconds})
        rows += [{"threads": threads, "quantity": "left out", "reason": why} for why in (*missing, *compared.left_out)]
    return rows


def main() -> None:
    options = arguments(__doc__, results="host-results", threads="1,2", repeats=12)
    folder = Path(options.results)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row for threads in options.threads.split(",") for row in figures(folder, int(threads), options.repeats)]
    publish("this CPU: predicted from op-level rows, against real steps", rows, options.json)


if __name__ == "__main__":
    main()
