"""Tables of memory on a Jetson TX2: the replayed allocator against measured peaks, nothing of it fitted; and what the
system counts as used, which is that and what CUDA holds.

Gradients are dropped between steps, as the measured peaks say. Errors of allocated and reserved memory are
|replayed / measured - 1| in %; the boundary is the largest batch size of the table that fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tx2_data import FITTED_LEVELS, Rows, exact, rows
from tx2_steps import work_at

from analysis.calibration.baselines import Trees
from analysis.calibration.measured import Measured
from analysis.calibration.memory_used import Steps, fit_memory_used
from hwmodels.gpu.model import Gpu
from simulator.graph import Graph
from simulator.memory import storage_bytes
from simulator.work import Flags, Floats

MIB = 2**20
COLUMNS = ("torch_max_alloc_mib", "torch_max_reserved_mib", "os_mem_used_delta_mib")
PUBLISHED = {
    "resnet50": 1.8,
    "googlenet": 2.3,
    "mnasnet": 2.6,
    "squeezenet": 3.7,
    "resnet18": 6.5,
    "mobilenetv2": 3.3,
    "all": 3.4,
}
"""Errors in % of memory used by the published method (trees), replicated by others; "all" is of six networks."""


@dataclass(frozen=True)
class Replayed:
    """A network at one level: what was measured, and what the allocator's replay says, MiB, by batch size."""

    measured: Rows
    allocated: Floats
    reserved: Floats

    @property
    def errors(self) -> Floats:
        """Relative errors of allocated and reserved memory of steps that went well, shape (steps, 2)."""
        ok = self.measured.ok
        found = np.stack([self.allocated, self.reserved], axis=1)[ok]
        return found / self.measured.values[ok, :2] - 1.0


def replayed(folder: str, tx2: Gpu, graphs: Mapping[tuple[str, int], Graph]) -> dict[tuple[str, int], Replayed]:
    """Replay all steps of the table of memory whose structures are known."""
    found = {}
    for key, measured in rows(folder, "memory.csv", COLUMNS).items():
        if key in graphs:
            steps = [tx2.reserved(graphs[key].rebatch(int(batch))) for batch in measured.batch]
            allocated = np.array([step.allocated_bytes for step in steps]) / MIB
            found[key] = Replayed(measured, allocated, np.array([step.reserved_bytes for step in steps]) / MIB)
    return found


def unfitted(table: Mapping[tuple[str, int], Replayed], limit_mib: float) -> list[dict[str, Any]]:
    """Return errors and boundaries where structures are exact: ResNet-50 over all levels, others unpruned."""
    lines = []
    for network in dict.fromkeys(name for name, _ in table):
        some = {level: one for (name, level), one in table.items() if name == network and exact(name, level)}
        errors = 100 * np.abs(np.concatenate([one.errors for one in some.values()]))
        off = [_steps_off(one, limit_mib) for one in some.values()]
        lines.append(
            {
                "network": network,
                "levels": len(some),
                "steps": len(errors),
                "allocated_%": float(errors[:, 0].mean()),
                "worst_allocated_%": float(errors[:, 0].max()),
                "reserved_%": float(errors[:, 1].mean()),
                "worst_reserved_%": float(errors[:, 1].max()),
                "boundary_within_1": f"{sum(abs(o) <= 1 for o in off)} of {len(off)}",
                "worst_boundary": max(off, key=abs),
            }
        )
    return lines


def _steps_off(one: Replayed, limit_mib: float) -> int:
    """Return how many batch sizes of the list more than measured are said to run."""
    return int((one.reserved <= limit_mib).sum() - one.measured.ok.sum())


def used(table: Mapping[tuple[str, int], Replayed], graphs: Mapping[tuple[str, int], Graph]) -> list[dict[str, Any]]:
    """Return errors of the memory that the system counts as used, as in table (a) of latency: fitted to some levels.

    Ours is `fit_memory_used`, beside a + b * reserved memory, of least squared relative errors, and beside trees on the
    published features.
    """
    lines: list[dict[str, Any]] = []
    for network in dict.fromkeys(name for name, _ in table):
        parts = {
            of_fit: [
                _counted(one, graphs[name, level], name, level)
                for (name, level), one in table.items()
                if name == network and (level in FITTED_LEVELS) is of_fit and _is_counted(one).any()
            ]
            for of_fit in (True, False)
        }
        if not (parts[True] and parts[False]):
            continue
        known, new = _joined(parts[True]), _joined(parts[False])
        found = {
            "ours": fit_memory_used(known.steps, known.used_mib).bytes(new.steps),
            "line": _line(known, new),
            "trees": _by_trees(known, new),
        }
        errors = {name: 100 * float(np.abs(mib / new.used_mib - 1.0).mean()) for name, mib in found.items()}
        row = {"network": network, "fitted_to": known.used_mib.size, "predicted": new.used_mib.size}
        lines.append({**row, **errors, "published_trees": PUBLISHED.get(network)})
    names = ("ours", "line", "trees")
    mean = {name: float(np.mean([line[name] for line in lines])) for name in names} if lines else {}
    return [*lines, {"network": "all", **mean, "published_trees": PUBLISHED["all"]}]


@dataclass(frozen=True)
class Counted:
    """Steps whose used memory was measured, MiB: as `fit_memory_used` and as trees see them, and what is reserved."""

    steps: Steps
    work: tuple[Measured, ...]
    reserved_mib: Floats
    used_mib: Floats


def _is_counted(one: Replayed) -> Flags:
    found: Flags = one.measured.ok & (one.measured.values[:, 2] > 0)
    return found


def _counted(one: Replayed, graph: Graph, network: str, level: int) -> Counted:
    good = np.flatnonzero(_is_counted(one))
    sizes = zip(storage_bytes(graph), graph.storages, strict=True)
    parameters = sum(float(size) for size, storage in sizes if storage.role == "parameter") / MIB
    same = np.ones(good.size)
    steps = Steps(one.allocated[good], parameters * same, level * same.astype(np.int64))
    mib = one.measured.values[good, 2]
    # Trees do not care that these are MiB.
    work = Measured(work_at(graph, one.measured.batch[good].tolist()), mib, network)
    return Counted(steps, (work,), one.reserved[good], mib)


def _joined(parts: Sequence[Counted]) -> Counted:
    columns = (
        np.concatenate([getattr(part.steps, name) for part in parts])
        for name in ("allocated_bytes", "parameter_bytes", "graph")
    )
    reserved, mib = (np.concatenate([getattr(part, name) for part in parts]) for name in ("reserved_mib", "used_mib"))
    return Counted(Steps(*columns), tuple(one for part in parts for one in part.work), reserved, mib)


def _by_trees(known: Counted, new: Counted) -> Floats:
    trees = Trees().fit(known.work)
    return np.concatenate([trees.seconds(one) for one in new.work])


def _line(known: Counted, new: Counted) -> Floats:
    columns = np.stack([1.0 / known.used_mib, known.reserved_mib / known.used_mib], 1)
    coefficients = np.linalg.lstsq(columns, np.ones(len(columns)), rcond=None)[0]
    found: Floats = coefficients[0] + coefficients[1] * new.reserved_mib
    return found
