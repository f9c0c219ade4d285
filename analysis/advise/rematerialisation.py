"""The cheapest plan of recomputation that keeps a step within a memory budget, exactly.

With z(p) = 1 where option p (a run of blocks, `remat_effects`) is recomputed:

    minimise    sum over p of extra(p) z(p)
    subject to  base(t) + sum over p of change(p, t) z(p) <= budget      for every op t, run once or again
                sum over p that hold block b of z(p) <= 1                for every block b

a mixed-integer program in the manner of Checkmate (Jain et al., MLSys 2020, arXiv:1910.02653) and POET (Patil et al.,
ICML 2022, arXiv:2207.07697), solved by HiGHS through SciPy. Theirs decide about every op; these decide about runs of
blocks, each run again once at most, which is what `torch.utils.checkpoint` runs. Among such plans the answer is
the best one. Moving activations to flash or an SD card (POET's paging) is not part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from analysis.advise.remat_effects import Effects
from simulator.techniques.recompute import Recompute

TIME_LIMIT_S = 10.0

UNIT = 1e4
"""Bytes to a unit of the program: HiGHS keeps constraints to a millionth of one, far less than a byte."""

Extra = Literal["time", "energy"]


@dataclass(frozen=True)
class Plan:
    """Options to recompute, by number into `Effects.options`, with the peak memory and the extra cost of the step.

    `gap` is how far the cost may be from the best, as a share of it: 0 where the best is proven. `replayed` is the
    peak memory that the replay of the rewritten step found, where that was asked; a higher one than `peak_bytes` means
    that the options interact (`remat_effects`), and that a cheaper plan may exist.
    """

    chosen: tuple[int, ...]
    technique: Recompute | None
    peak_bytes: int
    extra_s: float
    extra_j: float
    gap: float = 0.0
    replayed: int | None = None

    @property
    def proven(self) -> bool:
        """Whether no plan with as little memory costs less."""
        return self.gap == 0 and self.replayed in (None, self.peak_bytes)


def cheapest(
    effects: Effects, budget_bytes: float, extra: Extra = "time", time_limit_s: float = TIME_LIMIT_S
) -> Plan | None:
    """Return the plan of least `extra` within `budget_bytes` of live memory; None where there is none.

    None also where `time_limit_s` passes before HiGHS finds one.
    """
    if not effects.options:
        return _plan(effects, ()) if effects.peak_bytes(()) <= budget_bytes else None
    base, change = effects.rows
    binding = base + np.maximum(change, 0).sum(axis=1) > budget_bytes
    costs = np.array([option.extra_s if extra == "time" else option.extra_j for option in effects.options])
    unit = costs.max() or 1.0
    return _solved(
        effects,
        costs / unit,
        np.concatenate([change[binding] / UNIT, _members(effects)]),
        np.concatenate([(budget_bytes - base[binding]) / UNIT, np.ones(effects.blocks)]),
        time_limit_s,
    )


def smallest(effects: Effects, time_limit_s: float = TIME_LIMIT_S) -> Plan:
    """Return a plan of the least peak memory that plans can reach, in as little time as that allows."""
    if not effects.options:
        return _plan(effects, ())
    base, change = effects.rows
    count = len(effects.options)
    # One variable more, the peak; it is minimised under peak - sum of changes >= base.
    rows = np.concatenate([np.column_stack([change / UNIT, -np.ones(len(base))]), _padded(_members(effects))])
    found = _milp(
        np.append(np.zeros(count), 1.0),
        rows,
        np.concatenate([-base / UNIT, np.ones(effects.blocks)]),
        np.append(np.ones(count), 0),
        time_limit_s,
    )
    chosen = () if found.x is None else tuple(np.flatnonzero(found.x[:count] > 0.5).tolist())
    least = min(effects.peak_bytes(chosen), effects.peak_bytes(()))
    return cheapest(effects, least, time_limit_s=time_limit_s) or _plan(effects, chosen)


def _solved(effects: Effects, costs: Any, rows: Any, most: Any, time_limit_s: float) -> Plan | None:
    found = _milp(costs, rows, most, np.ones(len(costs)), time_limit_s)
    if found.x is None:
        return None
    gap = float(found.mip_gap) if found.mip_gap is not None else 0.0
    return _plan(effects, tuple(np.flatnonzero(found.x > 0.5).tolist()), gap)


def _milp(costs: Any, rows: Any, most: Any, whole: Any, time_limit_s: float) -> Any:
    from scipy.optimize import Bounds, LinearConstraint, milp  # type: ignore[import-untyped]

    return milp(
        costs,
        constraints=LinearConstraint(rows, ub=most),
        integrality=whole,
        bounds=Bounds(0, np.where(whole, 1, np.inf)),
        options={"time_limit": time_limit_s, "mip_rel_gap": 0.0},
    )


def _plan(effects: Effects, chosen: tuple[int, ...], gap: float = 0.0) -> Plan:
    options = [effects.options[k] for k in chosen]
    return Plan(
        chosen,
        Recompute(blocks=tuple(option.text for option in options)) if options else None,
        effects.peak_bytes(chosen),
        sum(option.extra_s for option in options),
        sum(option.extra_j for option in options),
        gap,
    )


def _members(effects: Effects) -> Any:
    """Return which option holds which block, shape (blocks, options)."""
    held = np.zeros((effects.blocks, len(effects.options)))
    for k, option in enumerate(effects.options):
        held[list(option.blocks), k] = 1.0
    return held


def _padded(rows: Any) -> Any:
    return np.column_stack([rows, np.zeros(len(rows))])
