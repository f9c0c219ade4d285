"""Comparisons as text, CSV and pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from analysis.measurements.row import read_settings
from analysis.table import percent, shortened, table
from analysis.validation.comparison import CLOSE, UNITS, Comparison, Summary, summaries
from simulator.units import show

_WHAT = ("quantity", "what", "batch", "technique", "threads", "unit")
COLUMNS = (*_WHAT, "measured", "spread", "predicted", "error", "low", "high")
_SHOWN = 40
"""So many rows of single ops are shown, those that are furthest off."""


def text(compared: Sequence[Comparison], left_out: Sequence[str]) -> str:
    """Return a table of each quantity, the summaries, and what was left out."""
    parts = []
    for quantity in UNITS:
        own = [one for one in compared if one.quantity == quantity]
        if own:
            parts.append(_table(quantity, own))
    if compared:
        parts.append("predicted against measured\n" + _summary_table(summaries(compared)))
    if left_out:
        parts.append("left out\n" + "\n".join(f"  {line}" for line in left_out))
    return "\n\n".join(parts)


def _table(quantity: str, compared: Sequence[Comparison]) -> str:
    few = quantity == "op latency" and len(compared) > _SHOWN
    shown = sorted(compared, key=lambda one: -abs(one.error))[:_SHOWN] if few else compared
    rows = [
        ("network" if quantity != "op latency" else "op", "batch", "with", "measured", "spread", "predicted", "error")
    ]
    for one in shown:
        spread = "-" if one.spread is None else percent(one.spread / one.measured)
        values = (_value(quantity, one.measured), spread, _value(quantity, one.predicted), f"{100 * one.error:+.1f} %")
        batch = "" if one.batch is None else str(one.batch)
        rows.append((shortened(one.what), batch, shortened(one.technique or "-", 36), *values))
    head = f"{quantity}, the {_SHOWN} of {len(compared)} that are furthest off" if few else quantity
    return f"{head}\n{table(rows)}"


def _value(quantity: str, value: float) -> str:
    return f"{value:.3f}" if quantity == "speedup" else show(value, UNITS[quantity])


def _summary_table(found: Sequence[Summary]) -> str:
    head = (
        "quantity",
        "compared",
        "mean error",
        "median",
        "worst",
        f"within {100 * CLOSE:.0f} %",
        "sign right",
        "Spearman",
    )
    rows = [head]
    for one in found:
        rows.append(
            (
                one.quantity,
                str(one.count),
                percent(one.mean_error),
                percent(one.median_error),
                percent(abs(one.worst.error)),
                percent(one.close / one.count),
                f"{one.sign_right} of {one.signs}" if one.quantity == "speedup" else "-",
                "-" if one.correlation is None else f"{one.correlation:.3f}",
            )
        )
    return table(rows)


def csv_text(compared: Sequence[Comparison]) -> str:
    """Return comparisons as CSV, a line each, in SI units."""
    held = io.StringIO()
    writer = csv.writer(held, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in compared:
        threads = read_settings(one.setting).get("threads", "")
        values = (one.measured, one.spread, one.predicted, one.error, one.low, one.high)
        numbers = ["" if value is None else repr(value) for value in values]
        writer.writerow(
            [one.quantity, one.what, one.batch or "", one.technique, threads, UNITS[one.quantity], *numbers]
        )
    return held.getvalue()


def draw_all(compared: Sequence[Comparison], path: str) -> list[str]:
    """Draw each quantity into a picture of its own beside `path`, its name before the suffix; return their paths."""
    from analysis.pictures.predicted_measured import Point, draw

    file, drawn = Path(path), []
    for quantity, unit in UNITS.items():
        points = [
            Point(
                group=one.technique.partition("{")[0] or one.what.partition(" ")[0],
                label=f"{one.what} {one.batch or ''} {one.technique}".strip(),
                measured=one.measured,
                predicted=one.predicted,
                low=one.low,
                high=one.high,
            )
            for one in compared
            if one.quantity == quantity
        ]
        if points:
            target = str(file.with_name(f"{file.stem}-{quantity.replace(' ', '-')}{file.suffix}"))
            draw(points, target, quantity=quantity, unit={"byte": "B", "1": ""}.get(unit, unit))
            drawn.append(target)
    return drawn
