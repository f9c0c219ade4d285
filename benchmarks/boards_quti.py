"""Inference that QuTiBench measured (RCL-lab/QutibenchWeb@66c3aaa): float32 on a TX2 in three modes, int8 on a DPU.

`lat-comp`, the time of computing alone, is the measurement. Rows of the TX2 above its peak are left out. Of the DPU,
with one image on one thread, there are two networks: they are predicted by the model as it is and as fitted to the
networks of another table.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any

import numpy as np
from boards_dpu import Dpu
from boards_networks import network
from boards_protocol import ALL_TERMS, Board
from boards_sets import Table

from analysis.calibration.baselines import nine
from analysis.calibration.fit import fit, seconds_on
from analysis.calibration.measured import Measured
from analysis.calibration.observed import Observed, observe
from hwmodels.device import device
from hwmodels.gpu.model import Gpu
from simulator.cost import HardwareModel
from simulator.graph import Graph
from simulator.rewriting.deploying import Runtime, deployed
from simulator.work import Work, work_of
from workloads.tracer import trace

FILE = "qutibench/experimental_data.csv"
MODES = {"maxn": "MAXN", "maxq": "MAXQ", "maxp": "MAXP_CORE_ALL"}
"""Our power modes by QuTiBench's; that its maxp has all cores is assumed (all Max-P have one GPU clock)."""
TENSORRT = Runtime(merges=False, chains=True)
VITIS_AI = Runtime(merges=False)


@cache
def forward(name: str, percent: float, runtime: Runtime) -> Graph | None:
    """Return the forward pass of a network as a runtime executes it, None where its definition is not known."""
    known = network(name, percent)
    if known is None:
        return None
    model, shape = known
    return deployed(trace(model, batch=2, input_shape=shape, classes=10, batch_norm="eval"), runtime)


def tx2(table: Table) -> dict[str, Callable[[], Board]]:
    """Return the name of the board of each power mode, and what makes it."""
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in table:
        if row["HWType"].startswith("TX2") and row["Datatype"] == "FP32":
            rows[row["Op mode"]].append(row)
    names = {mode: f"Jetson TX2, QuTiBench, {mode}" for mode in rows}
    return {names[mode]: partial(_in_mode, names[mode], mode, found) for mode, found in rows.items()}


def _in_mode(name: str, mode: str, rows: Table) -> Board:
    model = device("jetson-tx2", MODES[mode])
    assert isinstance(model, Gpu)
    measured = []
    for row in rows:
        graph = forward(row["NN_Topology"], float(row["PruningFactor"]), TENSORRT)
        if graph is None:
            continue
        work = work_of(graph.rebatch(int(row["batch/thread/stream"])))
        seconds = 1e-3 * float(row["lat-comp"].replace(",", ""))
        if 2e-12 * float(work.total(work.macs)) / seconds <= float(row["hw_peak_perf"]):
            measured.append(Measured(work, np.float64(seconds), row["NN_Topology"]))
    columns = np.array([nine(_wide(one.work))[0] for one in measured])
    return Board(name, dataclasses.replace(model, launch_s=0.0), measured, columns)


def _wide(work: Work) -> Work:
    """Return work with columns of shape (rows, 1)."""
    columns = {name: getattr(work, name)[:, None] for name in ("macs", "flops", "read_bytes", "written_bytes")}
    return dataclasses.replace(work, **columns, nest={name: column[:, None] for name, column in work.nest.items()})


def dpu(table: Table, space: Board | None) -> Iterator[dict[str, Any]]:
    """Yield ours over the measured of each network on the ZCU102's DPU; `space` is what to fit to."""
    seen: Observed | None = None if space is None else observe(space.measured)
    chosen = np.random.default_rng(0).permutation(0 if seen is None else len(seen))[:100]
    models: dict[str, HardwareModel] = {"uncalibrated": Dpu()}
    if seen is not None:
        models["calibrated"] = fit(Dpu(), seen.select(chosen), terms=ALL_TERMS).model
    for row in table:
        if row["HWType"] == "ZCU102-DPU" and row["batch/thread/stream"] == "1":
            graph = forward(row["NN_Topology"], float(row["PruningFactor"]), VITIS_AI)
            if graph is not None:
                seconds = 1e-3 * float(row["lat-comp"])
                one = Measured(work_of(graph.rebatch(1)), np.float64(seconds), row["NN_Topology"])
                found: Mapping[str, float] = {n: float(seconds_on(m, one)[0]) / seconds for n, m in models.items()}
                yield {"network": row["NN_Topology"], "measured_ms": 1e3 * seconds, **found}
