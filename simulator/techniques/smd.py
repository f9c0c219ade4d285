"""Stochastic mini-batch dropping."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from simulator.graph import Graph
from simulator.techniques import Technique, check


@dataclass(frozen=True)
class StochasticMiniBatchDropping(Technique):
    """Skip each presented mini-batch with probability `p`, forward, backward and update alike.

    Every op then runs (1 - p) times per presented mini-batch:

        runs' = (1 - p) * runs

    With `dropped_step` the optimizer steps on dropped batches too, with zero gradients: momentum and weight decay
    go on, and the ops of the optimizer keep their runs (what zeroed, not freed gradients do under torch 1).

    Peak memory stays, as a mini-batch that is not dropped needs all of it. To make up for the dropped batches, a
    schedule may present `stretch` times as many as plain training would: `meta["stretch"]`, which is a property of
    a run and not of the step. cost of a run = stretch * (1 - p) of plain training; with the schedule of the
    publication's code, stretch = 4/3 at p = 0.5, that is 2/3.

    Wang et al., "E2-Train: Training State-of-the-art CNNs with Over 80% Energy Savings", NeurIPS 2019,
    arXiv:1910.13349 (there p = 0.5).
    """

    name: ClassVar[str] = "smd"

    p: float = 0.5
    stretch: float = 1.0
    dropped_step: bool = False

    def __post_init__(self) -> None:
        check(0 <= self.p < 1, self, "p", "a probability in [0, 1)")
        check(self.stretch > 0, self, "stretch", "above 0")

    def rewrite(self, graph: Graph) -> Graph:
        """Return the step with the expected runs of the ops that a dropped batch skips scaled by 1 - p."""
        ops = tuple(
            [
                op if self.dropped_step and op.phase == "optimizer" else op.but(runs=op.runs * (1 - self.p))
                for op in graph.ops
            ]
        )
        if self.stretch == 1:
            return replace(graph, ops=ops)
        return replace(graph, ops=ops, meta={**graph.meta, "stretch": graph.meta.get("stretch", 1.0) * self.stretch})
