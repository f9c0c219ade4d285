"""Time of the pricing models: a ResNet-50 step on each, and many batch sizes in one call. CPU time, one thread.

Limits: 2 ms to price a step once its work table exists; 1,000 batch sizes on one device in one call at least 50 times
faster than one by one, work table included. `--batches N` takes fewer, `--device NAME` one device alone.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from harness import arguments, cpu_seconds, publish, spread

from hwmodels.device import device
from simulator.schedule import timeline
from simulator.work import work_of
from workloads.tracer import trace

DEVICES = ("raspberry-pi-4b", "raspberry-pi-5", "jetson-nano", "jetson-agx-orin", "zcu102")
SAMPLE = 20
"""Batch sizes priced one by one; the time of the others is taken to be the same."""


def main() -> None:
    options = arguments(__doc__, repeats=21, batches=1000, device="")
    torch.set_num_threads(1)
    graph = trace("resnet50", batch=32)
    work = work_of(graph)
    batches = list(range(2, options.batches + 2))
    rows: list[dict[str, Any]] = []
    for name in [options.device] if options.device else DEVICES:
        model = device(name)
        model.price(work)
        once = spread([1e3 * t for t in cpu_seconds(lambda model=model: model.price(work), options.repeats)])

        start = time.process_time()
        many = work_of(graph, batches)
        timeline(model.price(many), many.row_of_op, many.runs).step_s.sum(axis=0)
        together = time.process_time() - start

        start = time.process_time()
        for batch in batches[:: max(1, len(batches) // SAMPLE)][:SAMPLE]:
            one = work_of(graph.rebatch(batch))
            timeline(model.price(one), one.row_of_op, one.runs).step_s.sum(axis=0)
        apart = (time.process_time() - start) / min(SAMPLE, len(batches)) * len(batches)
        rows.append(
            {
                "device": name,
                "price_ms": once["median"],
                "min_ms": once["min"],
                "max_ms": once["max"],
                "limit_ms": 2.0,
                "batches": len(batches),
                "together_s": together,
                "one_by_one_s": apart,
                "speedup": apart / together,
                "limit": 50.0,
                "met": once["median"] <= 2.0 and apart / together >= 50.0,
            }
        )
    publish(f"pricing models ({len(graph.ops)} ops, {len(work.kernel)} distinct)", rows, options.json)


if __name__ == "__main__":
    main()
