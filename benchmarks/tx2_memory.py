"""Tables of memory on a Jetson TX2: the replayed allocator against measured peaks, nothing of it fitted; and what the
system counts as used, which is that and what CUDA holds.

Gradients are dropped between steps, as the measured peaks say. Errors of allocated and reserved memory are
|replayed / measured - 1| in %; the boundary is the largest batch size of the table that fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tx2_data import FITTED_LEVELS, Rows, exact, only, rows
from tx2_steps import work_at

from analysis.calibration.baselines import Trees
from analysis.calibration.measured import Measured
from hwmodels.gpu.model import Gpu
from simulator.graph import Graph
from simulator.work import Floats

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

    Ours is a + b * reserved memory, of least squared relative errors, beside trees on the published features.
    """
    lines: list[dict[str, Any]] = []
    for network in dict.fromkeys(name for name, _ in table):
        parts = {True: [], False: []}  # type: dict[bool, list[tuple[Floats, Measured]]]
        for (name, level), one in table.items():
            good = np.flatnonzero(one.measured.ok & (one.measured.values[:, 2] > 0))
            if name == network and good.size:
                batches = one.measured.batch.tolist()
                # Trees do not care that these are MiB.
                values = np.maximum(one.measured.values[:, 2], 1.0)
                whole = Measured(work_at(graphs[name, level], batches), np.nan_to_num(values, nan=1.0), name)
                parts[level in FITTED_LEVELS].append((one.reserved[good], only(whole, good)))
        if not (parts[True] and parts[False]):
            continue
        (known, known_mib), (new, new_mib) = (
            (np.concatenate([r for r, _ in part]), np.concatenate([o.seconds for _, o in part]))
            for part in parts.values()
        )
        line = np.linalg.lstsq(np.stack([1.0 / known_mib, known / known_mib], 1), np.ones(known.size), rcond=None)[0]
        ours = np.abs((line[0] + line[1] * new) / new_mib - 1.0)
        trees = Trees().fit([one for _, one in parts[True]])
        theirs = np.abs(np.concatenate([trees.seconds(one) for _, one in parts[False]]) / new_mib - 1.0)
        lines.append(
            {
                "network": network,
                "predicted": new.size,
                "ours": 100 * float(ours.mean()),
                "trees": 100 * float(theirs.mean()),
                "published_trees": PUBLISHED.get(network),
            }
        )
    mean = {name: float(np.mean([line[name] for line in lines])) for name in ("ours", "trees")} if lines else {}
    return [*lines, {"network": "all", **mean, "published_trees": PUBLISHED["all"]}]
