"""Plans of recomputation against equal segments: time that they add to a step, at the same budget of live memory.

For each network and each budget (a share of the plain step's peak), `plan_extra` is the share of the step's time that
the cheapest plan adds, `segments_extra` what the cheapest of `recompute{segments=K}`, over all K, adds; empty where
none fits. Both are those of `estimate` on the device. `effects_s` is the CPU time to find what each run of blocks
does, `solve_s` that of the solver, `gap` what the solver leaves open, `peak_error` the replayed peak less the
solver's, in bytes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from harness import arguments, publish

from analysis.advise.remat_effects import effects
from analysis.advise.rematerialisation import cheapest, smallest
from hwmodels.device import device
from simulator.cost import HardwareModel
from simulator.errors import TrainwattError
from simulator.estimate import estimate
from simulator.graph import Graph
from simulator.rewriting.layers import parameters
from simulator.techniques.recompute import Recompute, numbered_blocks
from workloads import trace

NETWORKS = ("resnet18", "resnet50", "mobilenetv2", "vgg16")
SHARES = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


def by_segments(graph: Graph, model: HardwareModel) -> Iterator[tuple[int, float]]:
    """Yield peak memory and step time of recomputation in 2, 3, ... equal segments."""
    for segments in range(2, len(numbered_blocks(parameters(graph))) + 1):
        try:
            report = estimate(Recompute(segments=segments).rewrite(graph), model)
        except TrainwattError:
            continue
        yield report.memory.peak_bytes, report.total.latency_s


def rows(network: str, batch: int, model: HardwareModel) -> Iterator[dict[str, object]]:
    """Yield a row for each budget that a plan meets."""
    graph = trace(network, batch=batch, rebatches=False)
    plain = estimate(graph, model)
    before = plain.total.latency_s
    equal = list(by_segments(graph, model))
    start = time.process_time()
    made = effects(graph, model)
    found = time.process_time() - start
    least = smallest(made)
    for share in (*SHARES, least.peak_bytes / plain.memory.peak_bytes):
        budget = round(share * plain.memory.peak_bytes)
        start = time.process_time()
        plan = cheapest(made, budget)
        solved = time.process_time() - start
        if plan is None:
            continue
        report = estimate(plan.technique.rewrite(graph), model) if plan.technique else plain
        fitting = [latency for peak, latency in equal if peak <= budget]
        yield {
            "network": network,
            "budget": f"{share:.3f}",
            "budget_mb": budget / 1e6,
            "plan_extra": f"{report.total.latency_s / before - 1:.3%}",
            "segments_extra": f"{min(fitting) / before - 1:.3%}" if fitting else None,
            "recomputed": len(plan.chosen),
            "options": len(made.options),
            "effects_s": round(found, 2),
            "solve_s": round(solved, 2),
            "gap": plan.gap,
            "peak_error": report.memory.peak_bytes - plan.peak_bytes,
        }


def main() -> None:
    options = arguments(__doc__, device="jetson-nano", batch=32, networks=",".join(NETWORKS))
    model = device(options.device)
    found = [row for name in options.networks.split(",") for row in rows(name, options.batch, model)]
    publish(f"recomputation on {options.device}, batch {options.batch}", found, options.json)


if __name__ == "__main__":
    main()
