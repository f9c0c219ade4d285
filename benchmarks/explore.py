"""Speed of exploring a space: points a second, from stored graphs to the Parquet file with its front.

Target: a million points (10 networks x 100 technique settings x 20 device modes x 50 batch sizes) in 60 s on 2 cores.
`--points` takes part of it: fewer technique settings (every so-manieth of the hundred) on all the rest. What the
million would take is that time in proportion, named `extrapolated`. Tracing the networks is timed apart. Wall
time; `cpu_s` is what the processes took of the cores, which tells a slow program from a busy machine.

Beside it stands what memory bandwidth alone would allow: a point is a row of `row_bytes` in memory, which is written
once and read once, at the measured rate of a copy. `--memory` is what peak memory counts, as in a space file.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from harness import arguments, publish

from analysis.explore.chunks import trace_all
from analysis.explore.command import price_all
from analysis.explore.marking import marks, objectives
from analysis.explore.space import Space, space_of
from analysis.explore.store import Store
from analysis.explore.table import schema

NETWORKS = [
    *("resnet8-cifar", "resnet20-cifar", "lenet5", "alexnet", "resnet18"),
    *("squeezenet1.1", "mobilenetv2", "vgg16", "resnet50", "mcunet-like"),
]
DEVICES = [
    *({"name": name, "modes": "all"} for name in ("jetson-nano", "jetson-tx2", "raspberry-pi-4b", "raspberry-pi-3b")),
    *({"name": name, "modes": "all"} for name in ("zcu102", "zc706", "raspberry-pi-5", "zedboard")),
    *("pynq-z1", "pynq-z2", "kv260", "ultra96", "zcu104", "x86-avx2", "odroid-n2-plus", "rock-5b"),
]
TECHNIQUES = [
    "none",
    "gradient-filter{patch={2,4,7},last={1..8}}",
    "smd{p={0.05..0.95..0.05}}",
    "sparse-update{last={1..10}}",
    "structured-prune{ratio={0.1..0.9..0.1}}",
    "quantize",
    "recompute{segments={2..8}}",
    "accumulate{steps={2,4,8,16}}",
    "freeze-bn",
    "gradient-filter{patch={2,4},last={2,4}},smd{p={0.25,0.5}}",
    "sparse-update{last={2..5}},smd{p={0.25,0.5,0.75}}",
    "structured-prune{ratio={0.25,0.5}},smd{p={0.25,0.5}}",
]
MODES, BATCHES, SETTINGS, MILLION = 20, 50, 100, 1_000_000


def space(settings: int, memory: str = "kernels") -> Space:
    """Return the space with so many of its hundred technique settings; `memory` is what peak memory counts."""
    document = {
        "networks": NETWORKS,
        "batches": [f"1..{BATCHES}"],
        "techniques": TECHNIQUES,
        "devices": DEVICES,
        "dataset_size": 50_000,
        "memory": memory,
    }
    whole = space_of(document)
    hundred = whole.techniques[:SETTINGS]
    chosen = [hundred[i * len(hundred) // settings] for i in range(settings)]
    return replace(whole, techniques=tuple(dict.fromkeys(chosen)), devices=whole.devices[:MODES])


WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def cpu_s() -> float:
    """Return the CPU time of this process and of its processes that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in WHO)


def copy_byte_per_s(megabytes: int = 64, repeats: int = 10) -> float:
    """Return the bytes that one core copies a second, best of some repeats; a byte copied counts once."""
    source = np.ones(megabytes << 17)
    target = np.empty_like(source)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - start)
    return float(source.nbytes / min(seconds))


def row_bytes(explored: Space) -> int:
    """Return the bytes of a point in memory: 8 for a number, 4 for the code of a text, 1 for a flag."""
    widths = {"int64": 8, "double": 8, "bool": 1}
    return sum(widths.get(str(field.type), 4) for field in schema(explored))


def main() -> None:
    options = arguments(__doc__, points=50_000, workers=2, memory="kernels")
    each = len(NETWORKS) * MODES * BATCHES
    explored = space(max(1, min(SETTINGS, options.points // each)), options.memory)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "results", explored.digest(), explored.chunks)
        store.open()
        start = time.perf_counter()
        trace_all(explored, store)
        traced, cpu_before = time.perf_counter(), cpu_s()
        price_all(explored, store, options.workers)
        priced = time.perf_counter()
        store.finish(marks(store, objectives(explored.objectives), ()))
        finished, cpu = time.perf_counter(), cpu_s() - cpu_before
        size = store.points.stat().st_size
    seconds = finished - traced
    copied, width = copy_byte_per_s(), row_bytes(explored)
    row = {
        "points": explored.points,
        "networks": len(explored.sources),
        "techniques": len(explored.techniques),
        "device_modes": len(explored.devices),
        "batches": len(explored.batches),
        "workers": options.workers,
        "memory": options.memory,
        "load_average": os.getloadavg()[0],
        "trace_s": traced - start,
        "price_s": priced - traced,
        "front_and_merge_s": finished - priced,
        "cpu_s": cpu,
        "points_per_s": explored.points / seconds,
        "points_per_cpu_s": explored.points / cpu,
        "bytes_per_point": size / explored.points,
        "worker_bytes": 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
        "copy_byte_per_s": copied,
        "row_bytes": width,
        "points_per_s_of_bandwidth": copied / width,
        "extrapolated_s_for_a_million": seconds * MILLION / explored.points,
        "limit_s": 60,
    }
    row["met"] = row["extrapolated_s_for_a_million"] <= row["limit_s"]
    publish("exploring a space", [row], options.json)


if __name__ == "__main__":
    main()
