"""`trainwatt validate`."""

from __future__ import annotations

from typing import Any

import click

from analysis import completion


@click.command(short_help="Compare predictions with what is measured.")
@click.option("--networks", metavar="NAMES", help="To run on this machine, such as resnet18,mobilenetv2.")
@click.option(
    "--apply",
    "applied",
    metavar="TECHNIQUES",
    multiple=True,
    shell_complete=completion.techniques,
    help="Run each network with it too, in turns; may be given several times.",
)
@click.option("--batches", metavar="N,N", default="8", show_default=True)
@click.option("--measurements", metavar="FILE", help="Compare with these rows instead, and run nothing.")
@click.option(
    "--device",
    "-d",
    "device_name",
    metavar="DEVICE",
    default="host",
    show_default=True,
    shell_complete=completion.devices,
    help="That predicts: the TOML file of 'trainwatt calibrate', or a name; host: x86 cores, not fitted.",
)
@click.option("--power-mode", "mode", metavar="MODE", help="Of the device, such as 2-threads.")
@click.option("--output", "-o", "path", metavar="FILE", help="CSV of what is measured; what it has is not run again.")
@click.option("--csv", "csv_path", metavar="PATH", help="Write the comparison as CSV ('-': to standard output).")
@click.option("--plot", "plot_path", metavar="PATH", help="Draw it: PATH-latency.png and so on (.png, .svg, .pdf).")
@click.option("--repeats", metavar="N", type=click.IntRange(min=1), default=12, show_default=True)
@click.option("--threads", metavar="N", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--time-limit", "time_limit_s", metavar="S", type=click.FloatRange(min=0, min_open=True), help="Stop after it."
)
def validate(networks: str | None, applied: tuple[str, ...], **options: Any) -> None:
    """Predict training steps, run them on this machine, and say how far off the predictions are.

    Steps without and with techniques run in turns. With --measurements, recorded rows are compared instead, of this or
    any other machine: whole steps, peak memory, energy, single ops. docs/validate.md says what is compared.
    """
    from analysis.validation.command import validate_and_report

    validate_and_report(networks, applied, **options)
