"""How far an exploration is: points, their rate, the time left; on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import click

from simulator.units import show

_CLEAR = "\r\x1b[2K"


def shown(finished: Iterator[int], total: int) -> None:
    """Run through `finished`, which yields how many points more are finished, of so many in `total`, and show it.

    The clock starts at the first that are finished: processes take seconds to start, and say nothing of the speed.
    """
    terminal, begun, first, done = sys.stderr.isatty(), 0.0, 0, 0
    try:
        for points in finished:
            done += points
            if not begun:
                begun, first = time.monotonic(), done
            elif terminal and (seconds := time.monotonic() - begun) > 0:
                click.echo(f"{_CLEAR}{said(done, total, (done - first) / seconds)} ", nl=False, err=True)
    finally:
        if terminal:
            click.echo(_CLEAR, nl=False, err=True)


def said(done: int, total: int, rate: float) -> str:
    """Return how far it is; `rate` in points a second."""
    return f"{done:,} of {total:,} points, {rate:,.0f}/s, {show((total - done) / rate, 's')} left"
