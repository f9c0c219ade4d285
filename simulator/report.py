"""What a step costs on a device: totals, splits, peak memory, savings, and all of it as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from simulator.allocators.replaying import Reserved
from simulator.cost import Cost, HardwareModel
from simulator.graph import ITEM_BYTES, PHASES, Graph
from simulator.memory import Memory, storage_bytes
from simulator.schedule import Timeline, timeline
from simulator.spread import StepCost, drawn, executions, over, step_cost, stochastic, varies
from simulator.totals import QUANTITIES, SAVED_QUANTITIES, Change, OpColumns, Totals
from simulator.work import KERNELS, Floats, Ints, Work, work_of

SCHEMA = "trainwatt-estimate"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Saving:
    """What a technique changes: `total` and each phase by quantity (`SAVED_QUANTITIES`), and the peak."""

    total: Mapping[str, Change]
    phases: Mapping[str, Mapping[str, Change]]
    peak_bytes: Change


@dataclass(frozen=True)
class Report:
    """The cost of one training step of `graph` on the device of `hardware`.

    `work` and `cost` are columns over rows (`Work.row_of_op`). What adds up is expected per presented mini-batch,
    with shares of the batch at their expectation; `memory` is that of the worst mini-batch that can occur.
    `assumptions` are sentences on what the numbers take for granted. `baseline` is the report that savings are
    stated against.
    """

    graph: Graph
    hardware: HardwareModel
    work: Work
    cost: Cost
    timeline: Timeline
    memory: Memory
    assumptions: tuple[str, ...]
    baseline: Report | None = None

    @property
    def device(self) -> str:
        """The name of the device."""
        return self.hardware.name

    @property
    def mode(self) -> str | None:
        """The power mode of the device, if it has any."""
        mode = self.hardware.card.get("mode")
        return str(mode) if mode else None

    @property
    def memory_bytes(self) -> float:
        """What a training process can use on the device, in bytes."""
        return float(self.hardware.memory_bytes)

    @cached_property
    def ops(self) -> OpColumns:
        """The cost and work of each op, as often as it is expected to run."""
        return self._columns(self.work.runs)

    @cached_property
    def executed(self) -> Totals:
        """A mini-batch in which every op executes that can (one that is not dropped); shares at their expectation."""
        columns = self._columns(executions(self.work.runs))
        return Totals(*(float(getattr(columns, name).sum()) for name in QUANTITIES))

    @property
    def stochastic(self) -> bool:
        """Whether the cost of a mini-batch is left to chance."""
        return stochastic(self.graph)

    @cached_property
    def step_cost(self) -> StepCost:
        """Latency and energy of a presented mini-batch as random quantities; worked out when first asked for."""
        if not varies(self.graph):
            return step_cost(self.work, self.cost)
        sizes, weights = drawn(self.graph)
        work = work_of(self.graph, at=sizes, unknown="list" if self.work.missing else "stop")
        return step_cost(work, self.hardware.price(work), weights)

    def _columns(self, runs: Floats) -> OpColumns:
        row, work, cost = self.work.row_of_op, self.work, self.cost
        placed = timeline(cost, row, runs)
        waited = np.maximum(placed.step_s - placed.duration_s, 0.0)
        bound = cost.bound[row].astype(np.int64)
        if cost.dispatch_s is not None:
            bound[waited > placed.duration_s] = cost.limits.index("dispatch")
        return OpColumns(
            latency_s=placed.step_s,
            energy_j=cost.energy_j[row] * runs + cost.waiting_w * waited,
            macs=work.macs[row] * runs,
            flops=work.flops[row] * runs,
            read_bytes=work.read_bytes[row] * runs,
            written_bytes=work.written_bytes[row] * runs,
            bound=bound,
            kernel=work.kernel[row],
        )

    @cached_property
    def total(self) -> Totals:
        """The whole step."""
        return Totals(*(float(getattr(self.ops, name).sum()) for name in QUANTITIES))

    @cached_property
    def rails(self) -> Mapping[str, float]:
        """The energy of the step in joules by rail or by cause; nothing where the device does not tell them apart."""
        row, runs, cost = self.work.row_of_op, self.work.runs, self.cost
        found = {name: float((joules[row] * runs).sum()) for name, joules in cost.rails.items()}
        waiting = self.total.energy_j - sum(found.values())
        return {**found, "waiting for the host": waiting} if found and cost.waiting_w else found

    @cached_property
    def phases(self) -> Mapping[str, Totals]:
        """The step by phase, in the order of `PHASES`; phases without ops are absent."""
        found = self.split([op.phase for op in self.graph.ops])
        return {phase: found[phase] for phase in PHASES if phase in found}

    @cached_property
    def layers(self) -> Mapping[str, Totals]:
        """The step by layer (all phases together), the slowest first."""
        return _slowest_first(self.split([op.layer for op in self.graph.ops]))

    @cached_property
    def kinds(self) -> Mapping[str, Totals]:
        """The step by kind of op, the slowest first."""
        return _slowest_first(self.split([op.kind for op in self.graph.ops]))

    @cached_property
    def kernels(self) -> Mapping[str, Totals]:
        """The step by kernel class, the slowest first."""
        return _slowest_first(self.split([KERNELS[code] for code in self.ops.kernel.tolist()]))

    @cached_property
    def bounds(self) -> Mapping[str, float]:
        """The share of the step's time in ops that each limit bounds; the shares add up to 1."""
        time = np.bincount(self.ops.bound, weights=self.ops.latency_s, minlength=len(self.cost.limits))
        whole = time.sum()
        return {name: float(t / whole) for name, t in zip(self.cost.limits, time, strict=True) if t} if whole else {}

    @cached_property
    def layer_bounds(self) -> Mapping[str, str]:
        """What bounds most of each layer's time."""
        codes, names = _codes([op.layer for op in self.graph.ops])
        cells = np.bincount(
            codes * len(self.cost.limits) + self.ops.bound,
            weights=self.ops.latency_s,
            minlength=len(names) * len(self.cost.limits),
        ).reshape(len(names), len(self.cost.limits))
        return {name: self.cost.limits[int(row.argmax())] for name, row in zip(names, cells, strict=True)}

    @cached_property
    def reserved(self) -> Reserved | None:
        """What the caching allocator takes from the device, where the device has one; replayed when first asked for."""
        replayed = getattr(self.hardware, "reserved", None)
        return replayed(self.graph.worst()) if replayed is not None else None

    @property
    def needed_bytes(self) -> int:
        """What must fit into the device's memory: what its allocator reserves, or the peak where it has none."""
        return self.reserved.reserved_bytes if self.reserved is not None else self.memory.peak_bytes

    @property
    def fits(self) -> bool:
        """Whether what is needed is within the device's memory."""
        return self.needed_bytes <= self.memory_bytes

    @property
    def spare_bytes(self) -> float:
        """Memory left; negative by how much is lacking."""
        return self.memory_bytes - self.needed_bytes

    @cached_property
    def interval_s(self) -> tuple[float, float, float] | None:
        """Lower and upper end of the step's time and the share of steps within, where the device is calibrated."""
        found = getattr(self.hardware, "interval", None)
        if found is None:
            return None
        latency = self.total.latency_s
        return latency * float(found.low), latency * float(found.high), float(found.coverage)

    @cached_property
    def extrapolated(self) -> Mapping[str, float]:
        """The share of the step's time in ops outside of what the device was calibrated with, by reason; the largest
        first. Nothing where it is not calibrated."""
        found = getattr(self.hardware, "outside", None)
        reasons = found(self.work) if found is not None else {}
        time = np.bincount(self.work.row_of_op, weights=self.ops.latency_s, minlength=len(self.work.kernel))
        shares: dict[str, float] = {}
        for row, why in reasons.items():
            shares[why] = shares.get(why, 0.0) + float(time[row])
        whole = self.total.latency_s or 1.0
        return {why: t / whole for why, t in sorted(shares.items(), key=lambda item: -item[1]) if t}

    @property
    def network(self) -> str:
        """The name of the network, empty where the graph has none."""
        return str(self.graph.meta.get("network", ""))

    @property
    def technique(self) -> str | None:
        """The techniques applied, in the syntax of the command."""
        applied = self.graph.meta.get("applied")
        return str(applied) if applied else None

    @cached_property
    def savings(self) -> Saving | None:
        """What changed against the baseline; None without one."""
        return saving(self.baseline, self) if self.baseline else None

    def split(self, labels: Sequence[str]) -> dict[str, Totals]:
        """Return totals by label, one label per op, in order of first appearance."""
        codes, names = _codes(labels)
        columns = [
            np.bincount(codes, weights=getattr(self.ops, quantity), minlength=len(names)).tolist()
            for quantity in QUANTITIES
        ]
        return {name: Totals(*values) for name, *values in zip(names, *columns, strict=True)}


def _codes(labels: Sequence[str]) -> tuple[Ints, list[str]]:
    number: dict[str, int] = {}
    codes = [number.setdefault(label, len(number)) for label in labels]
    return np.array(codes, dtype=np.int64), list(number)


def _slowest_first(parts: Mapping[str, Totals]) -> dict[str, Totals]:
    return dict(sorted(parts.items(), key=lambda part: -part[1].latency_s))


def saving(baseline: Report, report: Report) -> Saving:
    """Return what `report` saves against `baseline`, in total, by phase (of either) and of the peak."""

    def changes(before: Totals, after: Totals) -> dict[str, Change]:
        return {name: Change(getattr(before, name), getattr(after, name)) for name in SAVED_QUANTITIES}

    none = Totals()
    return Saving(
        total=changes(baseline.total, report.total),
        phases={
            phase: changes(baseline.phases.get(phase, none), report.phases.get(phase, none))
            for phase in PHASES
            if phase in baseline.phases or phase in report.phases
        },
        peak_bytes=Change(baseline.memory.peak_bytes, report.memory.peak_bytes),
    )


def parameters(graph: Graph) -> int:
    """Return the number of parameters: elements of the storages that hold them."""
    item: dict[int, int] = {}
    for tensor in graph.tensors:
        item.setdefault(tensor.storage, ITEM_BYTES[tensor.dtype])
    sizes = storage_bytes(graph)
    return sum(int(sizes[i]) // item.get(i, 4) for i, s in enumerate(graph.storages) if s.role == "parameter")


def to_json(reports: Report | Iterable[Report]) -> dict[str, Any]:
    """Return reports as one document of plain values, which docs/report-format.md describes.

    A number that is not known (not finite) is None. `json.dumps(..., allow_nan=False)` writes the document.
    """
    listed = [reports] if isinstance(reports, Report) else list(reports)
    return {"schema": SCHEMA, "version": VERSION, "results": [_result(report) for report in listed]}


def _result(report: Report) -> dict[str, Any]:
    graph, memory = report.graph, report.memory
    layers = report.layers
    result = {
        "network": report.network,
        "device": report.device,
        "mode": report.mode,
        "batch": graph.sizes.get("batch"),
        "technique": report.technique,
        "parameters": parameters(graph),
        "step": {key: value for key, value in graph.meta.items() if key not in ("network", "applied")},
        **_quantities(report.total),
        "peak_bytes": memory.peak_bytes,
        "phases": {phase: _quantities(t) for phase, t in report.phases.items()},
        "layers": [{"layer": name, **_quantities(t), "bound": report.layer_bounds[name]} for name, t in layers.items()],
        "kinds": [{"kind": name, **_quantities(t)} for name, t in report.kinds.items()],
        "kernels": [{"kernel": name, **_quantities(t)} for name, t in report.kernels.items()],
        "bounds": dict(report.bounds),
        "memory": {
            "peak_bytes": memory.peak_bytes,
            "peak_op": _op(graph, memory.peak_op),
            "persistent_bytes": memory.persistent_bytes,
            "workspace_bytes": memory.workspace_bytes,
            "reserved_bytes": report.reserved.reserved_bytes if report.reserved is not None else None,
            "by_role": dict(memory.by_role),
            "holders": [
                {
                    "name": holder.name,
                    "role": holder.role,
                    "size_bytes": holder.size_bytes,
                    "op": _op(graph, holder.op),
                }
                for holder in memory.holders
            ],
        },
        "fits": report.fits,
        "device_memory_bytes": report.memory_bytes,
        "spare_bytes": report.spare_bytes,
        "savings": _savings(report.savings) if report.savings else None,
        "interval_s": _interval(report.interval_s),
        "extrapolated": dict(report.extrapolated),
        "spread": _spread(report) if report.stochastic else None,
        "assumptions": list(report.assumptions),
    }
    return {key: plain(value) for key, value in result.items()}


def _interval(found: tuple[float, float, float] | None) -> dict[str, float] | None:
    return None if found is None else dict(zip(("low", "high", "coverage"), found, strict=True))


def _op(graph: Graph, index: int) -> dict[str, Any] | None:
    if index < 0:
        return None
    op = graph.ops[index]
    return {"index": index, "name": op.name, "kind": op.kind, "layer": op.layer, "phase": op.phase}


def _quantities(totals: Totals) -> dict[str, float]:
    return {name: getattr(totals, name) for name in (*QUANTITIES, "traffic_bytes")}


def _spread(report: Report) -> dict[str, Any]:
    """Return how the cost varies from one mini-batch to the next."""
    cost = report.step_cost
    return {
        "executed": _quantities(report.executed),
        "latency_s": asdict(over([(cost.latency_s, 1)])),
        "energy_j": asdict(over([(cost.energy_j, 1)])),
    }


def _savings(savings: Saving) -> dict[str, Any]:
    return {
        **{name: change_form(c) for name, c in savings.total.items()},
        "peak_bytes": change_form(savings.peak_bytes),
        "phases": {
            phase: {name: change_form(c) for name, c in changes.items()} for phase, changes in savings.phases.items()
        },
    }


def change_form(change: Change) -> dict[str, float | None]:
    """Return a change as plain values."""
    return {name: getattr(change, name) for name in ("baseline", "result", "saved", "saved_fraction")}


def plain(value: Any) -> Any:
    """Return `value` as JSON can hold it, with None for a number that is not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    return value if value is None or isinstance(value, bool | int | str) else str(value)
