"""What all benchmarks share: repeated timing, and printing as a table or as JSON."""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any


def arguments(description: str | None, **options: Any) -> argparse.Namespace:
    """Parse `--json FILE|-` and further options, given as name=default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON ('-': standard output)")
    for name, default in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    return parser.parse_args()


def cpu_seconds(function: Callable[[], Any], repeats: int) -> list[float]:
    """Return the CPU time of each of `repeats` calls; each pays for its own garbage, not for that of the one before."""
    times = []
    for _ in range(repeats):
        gc.collect()
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return times


def side_by_side(functions: Sequence[Callable[[], Any]], repeats: int) -> list[list[float]]:
    """Time several functions in turns, so that what else the machine does hits all of them alike."""
    rounds = [[cpu_seconds(function, 1)[0] for function in functions] for _ in range(repeats)]
    return [list(column) for column in zip(*rounds, strict=True)]


def spread(times: Sequence[float]) -> dict[str, float]:
    """Return median, minimum and maximum."""
    return {"median": statistics.median(times), "min": min(times), "max": max(times)}


def publish(title: str, rows: list[dict[str, Any]], where: str | None) -> None:
    """Print `rows` as a table, or write them as JSON."""
    document = {"benchmark": title, "rows": rows}
    if where == "-":
        print(json.dumps(document, indent=2))
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(column), *(len(line[i]) for line in cells)) for i, column in enumerate(columns)]
    print(title)
    for line in [columns, *cells]:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    if where:
        with open(where, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
