"""`trainwatt power`."""

from __future__ import annotations

from typing import Any

import click


@click.command(short_help="Energy of a window of a power log.")
@click.argument("log", metavar="LOG", type=click.Path())
@click.option("--from", "from_s", metavar="S", type=float, help="Start, in seconds since the log's first sample.")
@click.option("--to", "to_s", metavar="S", type=float, help="End (default: that of the log).")
@click.option("--idle-from", "idle_from_s", metavar="S", type=float, help="Start of a stretch where nothing ran.")
@click.option("--idle-to", "idle_to_s", metavar="S", type=float, help="Its end; its mean power is subtracted too.")
@click.option("--rail", metavar="NAME", help="Show this rail only, and the total.")
@click.option("--kind", metavar="FORMAT", default="auto", help="Format of the log, where it is not recognised.")
@click.option(
    "--interval", "interval_s", metavar="S", type=float, help="Seconds between samples, if the log has no times."
)
@click.option("--json", "json_path", metavar="PATH", help="Write the result as JSON ('-': to standard output).")
@click.option("--join", metavar="FILE", help="Measurements that ran meanwhile, to each of which its energy is added.")
@click.option("--output", "-o", "output", metavar="FILE", help="Measurements with their energy, of --join.")
@click.option("--began", "began_s", metavar="S", type=float, help="Unix time of the log's first sample, for --join.")
def power(log: str, join: str | None, output: str | None, began_s: float | None, **options: Any) -> None:
    """Integrate a power log: duration, mean power and energy of each rail, with idle power subtracted if marked.

    Read are tegrastats, jtop (CSV), perf stat, powerstat, Joulescope and Monsoon (CSV), vcgencmd pmic_read_adc,
    xlnx_platformstats, sensors or hwmon files (INA226, INA3221), and readings of an INA219.
    """
    if join is not None or output is not None or began_s is not None:
        from analysis.measurements.join_command import join_and_report

        join_and_report(log, join, output, began_s, **options)
    else:
        from analysis.power.command import report_power

        report_power(log, **options)
