"""`trainwatt measure`."""

from __future__ import annotations

from typing import Any

import click


@click.command(short_help="Time ops and training steps on this machine.")
@click.option("--output", "-o", "path", metavar="FILE", help="CSV or .parquet to add rows to; what it has is kept.")
@click.option("--ops", is_flag=True, help="Single ops: a designed set of kinds and sizes.")
@click.option("--steps", metavar="NETWORKS", help="Whole training steps, such as resnet18,mobilenetv2.")
@click.option("--batches", metavar="N,N", default="1,8", show_default=True, help="Of the steps.")
@click.option("--repeats", metavar="N", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--threads", metavar="N", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--time-limit", "time_limit_s", metavar="S", type=click.FloatRange(min=0, min_open=True), help="Stop after it."
)
@click.option("--device", "-d", metavar="NAME", default="", help="What this machine is called (default: its model).")
@click.option("--power-mode", metavar="MODE", default="", help="It is in (default: the frequency governor).")
@click.option(
    "--power",
    metavar="METER",
    default="none",
    show_default=True,
    help="Sample power meanwhile: auto, or a meter's name.",
)
@click.option(
    "--emit-script", "script", metavar="PY", help="Write a script that measures on a board, and measure nothing."
)
def measure(path: str | None, script: str | None, **options: Any) -> None:
    """Measure latency and peak memory on this machine, as rows that docs/measurements.md describes.

    Rows are added as they come. Run again with the same file, it goes on where it was. --emit-script writes one file
    that does the same on a board with Python 3.6 and PyTorch 1.4 or newer, and nothing else.
    """
    from analysis.measurements.command import emit_and_report, measure_and_report

    if script is not None:
        emit_and_report(script, path)
    else:
        measure_and_report(path, **options)
