"""How well a few measured networks predict the others: the same random draws for every method.

    uncalibrated   the device model as it is
    MACs           t = a * MACs
    columns        t = sum of a_i * x_i over a few physical columns that the data set names, no a_i negative
    forest         random forest (100 trees, defaults of scikit-learn) on sums over the network and the same columns
    calibrated     `analysis.calibration`: log-factors on the prices of the deployed graph's ops, as priors and data
                   say; all groups of terms, none chosen by held-out points
    both           the geometric mean of columns and calibrated

MACs and columns minimise squared relative errors. Every draw is tested on all networks that it leaves; errors are
means over the draws of |predicted / measured - 1|, `spread_%` their standard deviation, `median_ratio` is predicted
over measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls
from scipy.sparse import csr_array
from scipy.stats import spearmanr

from analysis.calibration.fit import Terms, fit, seconds_on
from analysis.calibration.measured import Measured
from analysis.calibration.observed import Observed, observe
from simulator.cost import HardwareModel
from simulator.work import Floats, Ints


@dataclass(frozen=True)
class Board:
    """Networks measured on a device: `columns`, shape (points, columns), are those of the linear model; `base` is the
    device model. What is predicted is a time, or an energy in place of it (`EnergyForTime`)."""

    name: str
    base: HardwareModel
    measured: Sequence[Measured]
    columns: Floats


ALL_TERMS = Terms(numbers=False)
"""To hold points out says little where there are few: the spreads of all groups are left to the data, on all boards."""
Method = Callable[[Board, Observed, Floats, Ints], Floats]
"""From a board, its points, their sums and the points to fit to, to the prediction of every point."""


def sums(seen: Observed) -> Floats:
    """Return MACs, FLOPs, bytes read and written, and the number of ops of every point, shape (points, 5)."""
    work = seen.work
    table = np.column_stack([work.macs, work.flops, work.read_bytes, work.written_bytes, np.ones(len(work.kernel))])
    found: Floats = csr_array((seen.runs, seen.row, seen.start), shape=(len(seen), len(table))) @ table
    return found


def uncalibrated(board: Board, seen: Observed, totals: Floats, chosen: Ints) -> Floats:
    return seconds_on(board.base, seen)


def linear(columns: Floats, seen: Observed, chosen: Ints) -> Floats:
    """Return the prediction of non-negative coefficients that minimise the squared relative errors."""
    scale = np.maximum(np.abs(columns).max(axis=0), 1e-30)
    relative = (columns / scale)[chosen] / seen.seconds[chosen][:, None]
    found: Floats = (columns / scale) @ nnls(relative, np.ones(len(chosen)))[0]
    return found


def macs(board: Board, seen: Observed, totals: Floats, chosen: Ints) -> Floats:
    return linear(totals[:, :1], seen, chosen)


def columns(board: Board, seen: Observed, totals: Floats, chosen: Ints) -> Floats:
    return linear(board.columns, seen, chosen)


def forest(board: Board, seen: Observed, totals: Floats, chosen: Ints) -> Floats:
    from sklearn.ensemble import RandomForestRegressor

    features = np.hstack([totals, board.columns])
    trees = RandomForestRegressor(random_state=0).fit(features[chosen], seen.seconds[chosen])
    return np.asarray(trees.predict(features), dtype=np.float64)


def calibrated(board: Board, seen: Observed, totals: Floats, chosen: Ints) -> Floats:
    return seconds_on(fit(board.base, seen.select(chosen), terms=ALL_TERMS).model, seen)


METHODS: dict[str, Method] = {
    "uncalibrated": uncalibrated,
    "MACs": macs,
    "columns": columns,
    "forest": forest,
    "calibrated": calibrated,
}


def compare(board: Board, sizes: Sequence[int], seeds: int) -> Iterator[dict[str, Any]]:
    """Yield the error of each method at each number of points that leaves a fifth of them at least."""
    seen = observe(board.measured)
    totals = sums(seen)
    for size in sizes:
        if size > 0.8 * len(seen):
            continue
        draws = [np.random.default_rng(seed).permutation(len(seen)) for seed in range(seeds)]
        ratios = [_ratios(board, seen, totals, draw[:size], draw[size:]) for draw in draws]
        for name in ratios[0]:
            errors = [np.abs(found[name] - 1.0) for found in ratios]
            means = [float(error.mean()) for error in errors]
            ranks = [
                float(spearmanr(found[name] * seen.seconds[draw[size:]], seen.seconds[draw[size:]]).statistic)
                for found, draw in zip(ratios, draws, strict=True)
            ]
            yield {"data": board.name, "networks": len(seen), "points": size, "method": name,
                   "error_%": 100 * float(np.mean(means)), "spread_%": 100 * float(np.std(means)),
                   "within_10_%": 100 * float(np.mean([(error <= 0.1).mean() for error in errors])),
                   "median_ratio": float(np.mean([np.median(found[name]) for found in ratios])),
                   "spearman": float(np.mean(ranks))}  # fmt: skip


def _ratios(board: Board, seen: Observed, totals: Floats, chosen: Ints, rest: Ints) -> dict[str, Floats]:
    """Return predicted over measured of the points `rest` by each method, fitted to those `chosen`."""
    found = {name: method(board, seen, totals, chosen)[rest] for name, method in METHODS.items()}
    found["both"] = np.sqrt(found["columns"] * found["calibrated"])
    return {name: predicted / seen.seconds[rest] for name, predicted in found.items()}
