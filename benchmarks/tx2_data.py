"""The tables measured on a Jetson TX2: rows, the structures of pruned networks, and both as a fit sees them.

`FOLDER` holds latency.csv, memory.csv and layers.csv.gz; networks that are not known here are skipped. Structures are
exact for ResNet-50 and for what is not pruned; other networks' pruned ones were drawn anew and are not quite those that
were measured.
"""

from __future__ import annotations

import csv
import gzip
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tx2_steps import step, work_at

from analysis.calibration.measured import Measured
from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.techniques import apply
from simulator.techniques.structured_prune import StructuredPrune
from simulator.work import KERNELS, PARTS, Floats, Ints, Work, work_of

FITTED_LEVELS = (0, 30, 50, 70, 90)
"""Pruning levels that the published method was fitted to; the others are predicted."""


def exact(network: str, level: int) -> bool:
    """Tell whether the table of layers has the very structure that was measured."""
    return level == 0 or network == "resnet50"


@dataclass(frozen=True)
class Rows:
    """What was measured of one network and level: columns by batch size, means over repetitions."""

    batch: Ints
    ok: np.ndarray[Any, np.dtype[np.bool_]]
    values: Floats
    """Shape (batches, columns)."""


def rows(folder: str, name: str, columns: tuple[str, ...]) -> dict[tuple[str, int], Rows]:
    """Return the rows of a table by network and level; steps whose memory was swapped are left out."""
    found: dict[tuple[str, int], dict[int, list[tuple[bool, list[float]]]]] = defaultdict(lambda: defaultdict(list))
    with (Path(folder) / name).open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row.get("suspect_swap") != "True":
                values = [float(row[column] or "nan") for column in columns]
                key = row["network"], int(row["prune_pct"])
                found[key][int(row["batch_size"])].append((row["ok"] == "True", values))
    return {
        key: Rows(
            np.array(sorted(sizes)),
            np.array([all(ok for ok, _ in sizes[b]) for b in sorted(sizes)]),
            np.array([np.mean([v for _, v in sizes[b]], axis=0) for b in sorted(sizes)]),
        )
        for key, sizes in sorted(found.items())
    }


def graphs(folder: str, networks: Sequence[str]) -> dict[tuple[str, int], Graph]:
    """Return the steps of networks at all levels whose structures are in the table of layers.

    A network that is not known here is skipped, with a line that says so; one whose convolutions differ from the
    table's is taken at level 0 only.
    """
    found = {}
    tables = _structures(folder)
    for network in networks:
        try:
            whole = step(network)
        except TrainwattError as error:
            print(f"{network} skipped: {error}", file=sys.stderr)
            continue
        found[network, 0] = whole
        levels = tables.get(network, {0: ()})
        layers = _matched(whole, levels[0])
        for level, convolutions in levels.items():
            if not (level and layers):
                continue
            widths = tuple(
                f"{layer}:{outputs}"
                for layer, (_, outputs, *_), (_, before, *_) in zip(layers, convolutions, levels[0], strict=True)
                if outputs != before
            )
            found[network, level] = apply([StructuredPrune(0.0, widths=widths)], whole)
    return found


def _structures(folder: str) -> dict[str, dict[int, list[tuple[str, int, int, int]]]]:
    """Return name, outputs, kernel and height of the result of each convolution, by network and level."""
    found: dict[str, dict[int, list[tuple[str, int, int, int]]]] = defaultdict(lambda: defaultdict(list))
    with gzip.open(Path(folder) / "layers.csv.gz", "rt", newline="") as file:
        for row in csv.DictReader(file):
            if row["type"] == "Conv2d":
                sizes = (int(float(row[name])) for name in ("out_ch", "k", "out_h"))
                found[row["network"]][int(row["prune_pct"])].append((row["name"], *sizes))
    return found


def _matched(graph: Graph, table: Sequence[tuple[str, int, int, int]]) -> list[str]:
    """Return our layers of the convolutions of a table, by name or else by order; none where they do not look alike."""
    work = work_of(graph)
    forward = [
        (op.layer, row)
        for op, row in zip(graph.ops, work.row_of_op, strict=True)
        if KERNELS[work.kernel[row]] in ("convolution", "depthwise") and PARTS[work.part[row]] == "forward"
    ]
    outputs = work.nest["g"] * work.nest["k"]
    shapes = np.stack([outputs, work.nest["r"], work.nest["p"]], axis=1).astype(int).tolist()
    ours = {layer: tuple(shapes[row]) for layer, row in forward}
    named = {layer.replace(".", "_"): layer for layer in ours}
    layers = [named.get(name, "") for name, *_ in table]
    if not all(layers):
        layers = list(ours)
    alike = len(layers) == len(table) and all(ours[a] == b[1:] for a, b in zip(layers, table, strict=True))
    return layers if alike else []


def measured_steps(folder: str) -> tuple[dict[tuple[str, int], Measured], dict[tuple[str, int], Graph]]:
    """Return times and graphs of all networks and levels that were measured and whose structures are known."""
    table = rows(folder, "latency.csv", ("train_step_ms",))
    known = graphs(folder, sorted({network for network, _ in table}))
    found = {}
    for (network, level), graph in known.items():
        if (network, level) in table:
            one = table[network, level]
            batches = one.batch[one.ok].tolist()
            if batches:
                seconds = one.values[one.ok, 0] / 1e3
                found[network, level] = Measured(work_at(graph, batches), seconds, network, f"{level} %")
    return found, known


def only(measured: Measured, points: Ints) -> Measured:
    """Return some of the points of a measurement."""
    work = measured.work
    columns = {name: getattr(work, name)[:, points] for name in ("macs", "flops", "read_bytes", "written_bytes")}
    some: Work = replace(work, **columns, nest={name: column[:, points] for name, column in work.nest.items()})
    return replace(measured, work=some, seconds=measured.seconds[points])
