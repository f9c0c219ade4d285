"""`trainwatt calibrate`."""

from __future__ import annotations

from typing import Any

import click


@click.command(short_help="Fit a device to what was measured on it.")
@click.argument("path", metavar="MEASUREMENTS", type=click.Path())
@click.option("--base", metavar="DEVICE", required=True, help="Device to begin with: the same board, or its like.")
@click.option("--power-mode", "mode", metavar="MODE", help="It was measured in (default: that of the base).")
@click.option("--output", "-o", metavar="FILE", required=True, help="Device file to write, for --device.")
@click.option("--only", metavar="KEY=VALUE", multiple=True, help="Rows to use, such as threads=1.")
@click.option("--plot", metavar="PATH", help="Draw held-out predictions against measurements (.png, .svg, .pdf).")
@click.option("--json", "json_path", metavar="PATH", help="Write the errors as JSON ('-': to standard output).")
def calibrate(path: str, **options: Any) -> None:
    """Fit a device to measurements of ops, of training steps, or of both, and say how far off it is on what it has not
    seen.

    MEASUREMENTS is what `trainwatt measure` writes, on this machine or by its script on a board. The result is a device
    file like any other.
    """
    from analysis.calibration.command import calibrate_and_report

    calibrate_and_report(path, **options)
