"""`trainwatt estimate`."""

from __future__ import annotations

from typing import Any

import click

from analysis import completion
from analysis.commands.options import devices_named, techniques_of, trace_options, tracing_options
from analysis.group import OneOf
from analysis.source import graph_from
from simulator.errors import TrainwattError


@click.command(short_help="Estimate the cost of a training step.")
@click.argument("source", metavar="NETWORK|GRAPH|MODULE:CALLABLE", shell_complete=completion.networks)
@click.option(
    "--device",
    "-d",
    "device_names",
    metavar="DEVICE",
    multiple=True,
    shell_complete=completion.devices,
    help="Name or TOML file; several are compared.",
)
@click.option(
    "--power-mode",
    "modes",
    metavar="MODE",
    multiple=True,
    help="One for all devices, or one for each in their order.",
)
@tracing_options
@click.option(
    "--apply",
    "applied",
    metavar="TECHNIQUES",
    shell_complete=completion.techniques,
    help="Such as smd{p=0.5}.",
)
@click.option(
    "--unknown",
    type=OneOf(["stop", "list"]),
    default="stop",
    show_default=True,
    help="At an op without a work rule: stop, or count it as nothing and say so.",
)
@click.option("--top", metavar="N", type=click.IntRange(min=0), default=10, show_default=True, help="Layers to show.")
@click.option("--json", "json_path", metavar="PATH", help="Write the results as JSON ('-': to standard output).")
@click.option("--epochs", metavar="N", type=click.IntRange(min=1), help="Price a run of N epochs too.")
@click.option("--dataset-size", metavar="N", type=click.IntRange(min=1), help="Samples of an epoch.")
@click.option("--run", "run_path", metavar="FILE", help="Price the phases of a run file (TOML) instead of one step.")
@click.option("--design", metavar="auto|FILE", help="Of an FPGA: a design file (TOML), or the best for this step.")
@click.option("--above-idle", is_flag=True, help="Subtract the device's idle power from the energy.")
@click.option("--explain", "explained", metavar="LAYER", help="Derive the prices of a layer's ops step by step.")
@click.option("--csv", "csv_path", metavar="PATH", help="Write one row per op ('-': to standard output).")
@click.option("--timeline", "timeline_path", metavar="PATH", help="Write a trace for Perfetto or chrome://tracing.")
@click.option("--verbose", "-v", is_flag=True, help="Spell out the assumptions.")
def estimate(  # click passes options by name
    source: str,
    device_names: tuple[str, ...],
    modes: tuple[str, ...],
    applied: str | None,
    unknown: str,
    top: int,
    json_path: str | None,
    epochs: int | None,
    dataset_size: int | None,
    run_path: str | None,
    design: str | None,
    above_idle: bool,
    explained: str | None,
    csv_path: str | None,
    timeline_path: str | None,
    verbose: bool,
    **tracing: Any,
) -> None:
    """Estimate what one training step of a network, a stored graph, or your own model costs on a device.

    A model of your own is package.module:callable, something that returns a torch.nn.Module.
    """
    from analysis.estimate_command import counted, designed, document, price_run, priced, text, trainings
    from analysis.output import check_writable, write

    outputs = [path for path in (json_path, csv_path, timeline_path) if path is not None]
    if outputs.count("-") > 1:
        raise TrainwattError("'-' for several outputs; standard output takes one of --json, --csv, --timeline")
    for path in outputs:
        check_writable(path)
    options = trace_options(tracing)
    hardware = devices_named(device_names, modes)
    if len(hardware) > 1 and (csv_path or timeline_path):
        raise TrainwattError(
            f"{'--csv' if csv_path else '--timeline'} with {len(hardware)} devices; give one --device for it"
        )
    if (epochs is None) != (dataset_size is None):
        given, other = ("--epochs", "--dataset-size") if epochs else ("--dataset-size", "--epochs")
        raise TrainwattError(f"{given} without {other}; a run takes both")
    if run_path is not None:
        senseless = {
            "--apply": applied,
            "--epochs": epochs,
            "--design": design,
            "--explain": explained,
            "--csv": csv_path,
            "--timeline": timeline_path,
        }
        for option in (name for name, value in senseless.items() if value is not None):
            raise TrainwattError(f"{option} with --run; the run file says what is run, and only totals come out")
        price_run(graph_from(source, options), counted(hardware, above_idle), run_path, json_path, unknown)
        return
    techniques = techniques_of(applied)  # before the work of tracing
    graph, reasons = graph_from(source, options), []
    if design is not None:
        hardware, reasons = designed(graph, hardware, techniques, design, unknown)
    reports = priced(graph, counted(hardware, above_idle), techniques, unknown)
    runs = trainings(reports, epochs, dataset_size)

    if json_path:
        write(json_path, document(reports, runs))
    if csv_path:
        from analysis.opcsv import to_csv

        write(csv_path, to_csv(reports[0]))
    if timeline_path:
        from analysis.timeline import to_trace

        write(timeline_path, to_trace(reports[0]))
    if "-" not in outputs:
        click.echo(text(reports, runs, top=top, verbose=verbose))
        for lines in reasons:
            click.echo("\n" + lines)
        if explained is not None:
            from analysis.explained import explained as derived

            for report in reports:
                click.echo("\n" + derived(report, explained))
