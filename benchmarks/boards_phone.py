"""Training steps on phones' four big cores with MNN, predicted from at most five batch sizes of the same network.

UbiquitousLearning/Benchmark-On-Device-Training@752659f. Each batch size is left out once and predicted from the others:

    affine        t = a + b * batch, neither negative, of least squared relative errors
    proportional  t = b * batch
    calibrated    log-factors on the prices of the ops of the traced training step, on a model of the phone
    chosen        affine or calibrated: which predicts the points at hand better, each from the others of them
    same power    energy alone: calibrated time x the mean power of the points that were fitted to

The networks are ours of the same names: MNN's SqueezeNet has other channels and fewer parameters, which a fit to one
network can make up for. SqueezeNet with 32 images on the Meizu is left out: it swaps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from boards_protocol import linear
from boards_sets import Table
from cpu_model import phone

from analysis.calibration.fit import fit, seconds_on
from analysis.calibration.measured import Measured
from analysis.calibration.observed import Observed, observe
from simulator.graph import Graph
from simulator.work import Floats, Ints, work_of

FILE = "phone_training/mnn_training_phone_cpu.csv"
NETWORKS = {
    "alexnet": "alexnet",
    "lenet": "lenet5",
    "squeezenet": "squeezenet1.1",
    "mobilenetv2": "mobilenetv2",
    "googlenet": "googlenet",
}
TIME, ENERGY = "train_ms_per_batch", "train_energy_J_per_batch_above_idle"
FORWARD = "infer_ms_mnn_session"
CANDIDATES = ("affine", "calibrated")
METHODS = ("proportional", *CANDIDATES, "chosen")
FEWEST = 4
"""Points that a network must have on a device."""


@cache
def step(name: str) -> Graph:
    """Return the training step of a network, with SGD and momentum."""
    from workloads.tracer import trace

    return trace(name, batch=2, optimizer="sgd{momentum=0.9}")


def groups(table: Table) -> dict[tuple[str, str], list[dict[str, str]]]:
    """Return the rows of each network on each device that has enough of them, without those that swap."""
    found: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for row in table:
        swaps = (row["network"].lower(), row["batch_size"]) == ("squeezenet", "32") and "MEIZU" in row["device"]
        if row["network"].lower() in NETWORKS and row[TIME] and not swaps:
            found[row["device"], row["network"]].append(row)
    return {key: rows for key, rows in found.items() if len(rows) >= FEWEST}


def seen_of(network: str, rows: list[dict[str, str]], column: str, unit: float) -> Observed:
    """Return the rows as points, with what is in `column` for their time."""
    graph = step(NETWORKS[network.lower()])
    works = [work_of(graph.rebatch(int(row["batch_size"]))) for row in rows]
    values = [np.float64(unit * float(row[column])) for row in rows]
    return observe([Measured(work, value, network) for work, value in zip(works, values, strict=True)])


def predicted(seen: Observed, batch: Floats, method: str, rest: Ints) -> Floats:
    """Return the prediction of every point, fitted to those of `rest`."""
    if method == "chosen":
        inner = seen.select(rest)
        errors = {m: np.abs(left_out(inner, batch[rest], m) / inner.seconds - 1.0).mean() for m in CANDIDATES}
        method = min(errors, key=lambda m: errors[m])
    if method == "calibrated":
        return seconds_on(fit(phone(), seen.select(rest)).model, seen)
    columns = np.column_stack([np.ones_like(batch), batch])
    return linear(columns if method == "affine" else batch[:, None], seen, rest)


def left_out(seen: Observed, batch: Floats, method: str) -> Floats:
    """Return the prediction of each point from all others."""
    points = np.arange(len(seen))
    return np.array([predicted(seen, batch, method, np.setdiff1d(points, [i]))[i] for i in points])


def times_forward(network: str, batch: int) -> float:
    """Return the time of a step over that of its forward pass, as the phone's model has it."""
    graph = step(NETWORKS[network.lower()]).rebatch(batch)
    work = work_of(graph)
    latency = phone().price(work).latency_s[work.row_of_op]
    forward = np.array([op.phase == "forward" for op in graph.ops])
    return float(latency.sum() / latency[forward].sum())


def phones(table: Table) -> Iterator[dict[str, Any]]:
    """Yield the errors of each network on each device, of time and where it was measured of energy."""
    for (where, network), rows in groups(table).items():
        batch = np.array([float(row["batch_size"]) for row in rows])
        start: dict[str, Any] = {"device": where, "network": network, "points": len(rows)}
        forward = [float(row[TIME]) / float(row[FORWARD]) for row in rows if row[FORWARD]]
        start["step/forward"] = float(np.median(forward)) if forward else None
        start["ours"] = times_forward(network, int(np.median(batch)))
        seen = seen_of(network, rows, TIME, 1e-3)
        time = {method: left_out(seen, batch, method) for method in METHODS}
        yield {**start, "what": "time", **_errors(time, seen.seconds)}
        powered = [i for i, row in enumerate(rows) if row[ENERGY]]
        if len(powered) < FEWEST:
            continue
        joules = seen_of(network, [rows[i] for i in powered], ENERGY, 1.0)
        energy = {m: left_out(joules, batch[powered], m) for m in METHODS}
        power = joules.seconds / seen.seconds[powered]
        others = (power.sum() - power) / (len(power) - 1)
        energy["same power"] = others * time["calibrated"][powered]
        yield {**start, "points": len(powered), "what": "energy above idle", **_errors(energy, joules.seconds)}


def _errors(predicted: dict[str, Floats], measured: Floats) -> dict[str, float]:
    """Return the mean and the largest error of each method, in percent."""
    found = {}
    for method, values in predicted.items():
        error = 100 * np.abs(values / measured - 1.0)
        found |= {f"{method}_%": float(error.mean()), f"{method}_worst_%": float(error.max())}
    return found
