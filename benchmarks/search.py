"""How much of the exhaustive front a search finds with 2 % of the points: hypervolume, over many seeds.

Target: a median ratio of at least 0.99, with two and with three objectives, on a space of 22,464 points (3 networks x
48 technique settings x 13 device modes x 12 batch sizes), a front within each network.

The ratio is that of the hypervolume of what was found to that of all feasible points, averaged over the networks. The
reference is the worst feasible value of each objective, the scale from the best to it. `log` takes the logarithms of
the objectives: a factor counts the same anywhere. `linear` is easy: a handful of slow points sets its scale.
Every point that a sampler is told of counts; what it asks for is looked up among the exhaustive prices. `random` draws
as many points; the others are those of `--sampler`. `cpu_s` is what a search takes besides pricing.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from harness import arguments, publish

from analysis.explore.command import price_all
from analysis.explore.hypervolume import hypervolume
from analysis.explore.marking import marks, objectives
from analysis.explore.pareto import Floats
from analysis.explore.search.axes import Axes
from analysis.explore.search.observed import Observed, observed
from analysis.explore.search.run import Plan, search
from analysis.explore.space import Space, space_of
from analysis.explore.store import Store
from simulator.work import Ints

DOCUMENT = {
    "networks": ["resnet18", "mobilenetv2", "resnet20-cifar"],
    "batches": [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128],
    "techniques": [
        "none",
        "smd{p={0.25,0.5,0.75}}",
        "gradient-filter{patch={2,4,7},last={1,2,4,8}}",
        "sparse-update{last={1,2,4,6,8}}",
        "structured-prune{ratio={0.1,0.25,0.5,0.75}}",
        "quantize",
        "recompute{segments={2,4,8}}",
        "accumulate{steps={2,4}}",
        "freeze-bn",
        "gradient-filter{patch={2,4},last={2,4}},smd{p={0.25,0.5}}",
        "sparse-update{last={2,4}},smd{p={0.25,0.5}}",
        "structured-prune{ratio={0.25,0.5}},smd{p={0.25,0.5}}",
    ],
    "devices": [
        {"name": "jetson-nano", "modes": "all"},
        {"name": "jetson-tx2", "modes": "all"},
        {"name": "zcu102", "modes": "all"},
        *("raspberry-pi-4b", "raspberry-pi-5", "pynq-z2", "odroid-n2-plus"),
    ],
    "dataset_size": 50_000,
    "pareto": {"within": ["network"]},
}
OBJECTIVES = (("epoch_latency_s", "peak_bytes"), ("epoch_latency_s", "epoch_energy_j", "peak_bytes"))
SHARE, TARGET = 0.02, 0.99


def exhaustive(space: Space, folder: Path) -> pa.Table:
    """Price every point, or read it where an earlier run has."""
    store = Store(folder, space.digest(), space.chunks)
    store.open()
    price_all(space, store, workers=1)
    store.finish(marks(store, objectives(space.objectives), space.within))
    return pq.read_table(store.points)


def searched(space: Space, table: pa.Table, plan: Plan) -> tuple[Ints, float]:
    """Return the points that a search asks for, and its CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "results", plan.digest(space), plan.batches)
        store.open()
        begun = time.process_time()
        asked = list(
            search(space, store, plan, objectives(space.objectives), lambda points: lambda: table.take(points))
        )
        seconds = time.process_time() - begun
        assert sum(asked) == plan.points
        return np.concatenate([part["point"].to_numpy() for part in store.tables(["point"])]), seconds


def ratio(found: Ints, everything: Observed, group: Ints, scale: Callable[[Floats], Floats]) -> float:
    """Return the hypervolume of the points found over that of all, averaged over the groups."""
    ratios = []
    taken = np.isin(everything.points, found)
    for one in np.unique(group):
        inside = everything.feasible & (group == one)
        values = scale(everything.objectives)
        best, worst = values[inside].min(axis=0), values[inside].max(axis=0)
        values, reference = (values - best) / (worst - best), np.ones(values.shape[1])
        ratios.append(hypervolume(values[inside & taken], reference) / hypervolume(values[inside], reference))
    return float(statistics.mean(ratios))


def row(
    name: str, wanted: Sequence[str], logs: list[float], linears: list[float], cpu_s: list[float]
) -> dict[str, object]:
    return {
        "objectives": len(wanted),
        "sampler": name,
        "seeds": len(logs),
        "log_median": statistics.median(logs),
        "log_worst": min(logs),
        "linear_median": statistics.median(linears),
        "linear_worst": min(linears),
        "cpu_s": statistics.median(cpu_s),
        "target": TARGET,
        "met": bool(statistics.median(logs) >= TARGET and statistics.median(linears) >= TARGET),
        "worst_met": bool(min(*logs, *linears) >= TARGET),
    }


def main() -> None:
    options = arguments(__doc__, seeds=10, samplers="random,model,tpe,nsga2,nsga3", folder="")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        space = space_of(DOCUMENT)
        table = exhaustive(space, Path(options.folder or Path(temporary) / "all"))
        axes = Axes(space)
        for wanted in OBJECTIVES:
            aimed = replace(space, objectives=wanted)
            everything = observed(table, aimed, objectives(wanted))
            group, count = axes.group_of(everything.points), int(SHARE * space.points)
            for name in options.samplers.split(","):
                found = []
                for seed in range(options.seeds):
                    if name == "random":
                        drawn = np.random.default_rng(seed).choice(space.points, count, replace=False), 0.0
                    else:
                        drawn = searched(aimed, table, Plan(count, seed, name))
                    found.append(drawn)
                logs = [ratio(points, everything, group, np.log) for points, _ in found]
                linears = [ratio(points, everything, group, np.asarray) for points, _ in found]
                rows.append(row(name, wanted, logs, linears, [seconds for _, seconds in found]))
    publish(f"search with {SHARE:.0%} of {space.points} points", rows, options.json)


if __name__ == "__main__":
    main()
