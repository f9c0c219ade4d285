"""What a device model says of a measured step: traced, treated with techniques, priced."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from analysis.calibration.rows import at, graph_of
from analysis.measurements.row import Row, settings_text
from simulator.cost import HardwareModel
from simulator.estimate import estimate
from simulator.graph import Graph
from simulator.techniques import apply, parse

APPLIED, FOUND = "apply", "found"
"""Parameters of a measured row: the techniques that were asked for, and with what the data decided of them."""


@dataclass(frozen=True)
class Predicted:
    """Of a presented mini-batch: seconds and joules; and the step's peak bytes."""

    latency_s: float
    energy_j: float
    peak_bytes: float


@dataclass
class Predictor:
    """Prices steps on `device`; a network is traced once for each of its settings."""

    device: HardwareModel
    graphs: dict[tuple[str, str], Graph] = field(default_factory=dict)
    known: dict[tuple[str, str, int | None], Predicted] = field(default_factory=dict)

    def step(self, row: Row) -> Predicted:
        """Return the prediction for a measured step.

        Raises `TrainwattError` where the step cannot be traced, a technique does not apply, or an op has no work rule.
        """
        key = (row.what, row.parameters, row.batch)
        if key not in self.known:
            settings = row.settings
            techniques = settings.get(FOUND, settings.get(APPLIED, ""))
            graph = at(self._graph(row), row)
            report = estimate(apply(parse(techniques), graph) if techniques else graph, self.device)
            passes = int(report.graph.meta.get("accumulate", 1))
            total, peak = report.total, float(report.memory.peak_bytes)
            self.known[key] = Predicted(total.latency_s / passes, total.energy_j / passes, peak)
        return self.known[key]

    def _graph(self, row: Row) -> Graph:
        """Return the step of a row without techniques, at some batch size."""
        plain = settings_text({k: v for k, v in row.settings.items() if k not in (APPLIED, FOUND)})
        if (row.what, plain) not in self.graphs:
            self.graphs[row.what, plain] = graph_of(row.what, replace(row, parameters=plain))
        return self.graphs[row.what, plain]
