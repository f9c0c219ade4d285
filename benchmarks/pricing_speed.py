"""Time of pricing a stored ResNet-50 step: loading it, work table and liveness, and another device. One thread.

Limits: work, price and liveness of a traced step 10 ms; pricing it again on another device 1 ms; loading 50 ms.
CPU time; each call is timed alone, after one warm-up, with Python's cycle collector off as for `timeit`.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness import arguments, cpu_seconds, publish, spread

from hwmodels.device import device
from simulator.io import load, save
from simulator.memory import replay
from simulator.work import work_of
from workloads.tracer import trace


def main() -> None:
    options = arguments(__doc__, repeats=31)
    torch.set_num_threads(1)
    path = Path(tempfile.mkdtemp()) / "resnet50.graph"
    save(trace("resnet50", batch=32), path)
    nano, orin = device("jetson-nano"), device("jetson-agx-orin")
    held = load(path)
    work = work_of(held)

    def price_and_liveness() -> None:
        # a graph loaded afresh: nothing about it is remembered
        graph = fresh.pop()
        nano.price(work_of(graph))
        replay(graph)

    fresh = [load(path) for _ in range(options.repeats + 1)]
    tasks: list[tuple[str, Callable[[], Any], float]] = [
        ("load the graph file", lambda: load(path), 50),
        ("work, price and liveness of a fresh graph", price_and_liveness, 10),
        ("price the same work on another device", lambda: orin.price(work), 1),
    ]
    rows = []
    for name, function, limit_ms in tasks:
        function()
        gc.collect()
        gc.disable()
        times = [1e3 * t for t in cpu_seconds(function, options.repeats)]
        gc.enable()
        figures = spread(times)
        rows.append(
            {
                "what": name,
                "median_ms": figures["median"],
                "min_ms": figures["min"],
                "max_ms": figures["max"],
                "limit_ms": limit_ms,
                "ratio": figures["median"] / limit_ms,
                "met": figures["median"] <= limit_ms,
            }
        )
    publish(f"pricing a ResNet-50 step ({len(held.ops)} ops, {len(work.kernel)} distinct)", rows, options.json)


if __name__ == "__main__":
    main()
