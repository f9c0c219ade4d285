"""Measuring what is to be validated: each network without and with techniques in turns, kept in a file of rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.measurements.command import row_of
from analysis.measurements.format import read, write
from analysis.measurements.row import Row, settings_text
from analysis.validation.predictor import APPLIED, FOUND
from simulator.errors import TrainwattError

if TYPE_CHECKING:
    from workloads.measuring.case import Host, Value
    from workloads.measuring.compared import ComparedCase, Variant


REFUSED = "not_applicable"


@dataclass(frozen=True)
class _Of:
    """What a value was measured of, as `row_of` asks."""

    what: str
    batch: int | None
    parameters: dict[str, str]


def measure_cases(
    path: str,
    cases: Sequence[ComparedCase],
    host: Host,
    repeats: int,
    threads: int,
    time_limit_s: float = float("inf"),
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """Return the rows of all cases, measured where `path` has not all of them, and what is missing and why.

    Each case that was measured is in the file at once, in place of what was there of it: its variants ran in turns, and
    belong together. Raises `TrainwattError` where the file cannot be read or written.
    """
    deadline_s = time.monotonic() + time_limit_s
    kept = list(read(path)) if Path(path).exists() else []
    found, missing = [], []
    for number, case in enumerate(cases):
        own = rows_of(kept, case, host)
        if _complete(own, case):
            found += own
        elif time.monotonic() >= deadline_s:
            missing.append(f"{case.what} at batch {case.batch}: no time left; run it again to go on")
        else:
            try:
                variants = case.measure(repeats, threads, deadline_s)
            except TimeoutError as error:
                missing.append(f"{error}; run it again with more time")
            except (MemoryError, TrainwattError) as error:
                missing.append(f"{case.what} at batch {case.batch}: {error or 'does not fit into memory'}")
            else:
                measured = _rows(case, host, variants)
                kept = [row for row in kept if row not in own] + measured
                write(path, kept)
                found += measured
        progress((number + 1) / len(cases))
    refused = [f"{r.settings[APPLIED]} on {r.what}: {r.source}" for r in found if r.metric == REFUSED]
    return tuple(row for row in found if row.metric != REFUSED), (*refused, *missing)


def rows_of(rows: Sequence[Row], case: ComparedCase, host: Host) -> list[Row]:
    """Return the rows of a case that were measured on `host` with the same software."""
    software = settings_text(host.software)
    asked = {"", *case.techniques}
    return [
        row
        for row in rows
        if (row.what, row.batch, row.device, row.software) == (case.what, case.batch, host.device, software)
        and row.settings.get("optimizer") == case.optimizer
        and row.settings.get(APPLIED, "") in asked
    ]


def _complete(rows: Sequence[Row], case: ComparedCase) -> bool:
    return {row.settings.get(APPLIED, "") for row in rows} >= {"", *case.techniques}


def _rows(case: ComparedCase, host: Host, variants: Sequence[Variant]) -> list[Row]:
    """Return a row for each value, and one for each technique that does not apply, so that it is not tried again."""
    from workloads.measuring.case import Value

    def row(variant: Variant, value: Value) -> Row:
        parameters = {"optimizer": case.optimizer, "precision": "fp32"}
        if variant.technique:
            parameters |= {APPLIED: variant.technique, FOUND: variant.found}
        return row_of(_Of(case.what, case.batch, parameters), host, value)

    def refused(variant: Variant) -> Row:
        said = row(replace(variant, found=variant.technique), Value("step", "", REFUSED, 1.0))
        return replace(said, source=" ".join(variant.refused.split()))

    measured = [row(variant, value) for variant in variants for value in variant.values]
    return measured + [refused(variant) for variant in variants if variant.refused]
