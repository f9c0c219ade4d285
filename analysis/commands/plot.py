"""`trainwatt plot`: pictures of results, one subcommand a kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from analysis import completion
from analysis.commands.options import devices_named, techniques_of, trace_options, tracing_options
from analysis.group import OneOf, PoliteGroup
from analysis.source import graph_from
from simulator.errors import TrainwattError

if TYPE_CHECKING:
    from simulator.report import Report


@click.group(cls=PoliteGroup, short_help="Draw results as pictures (.png, .svg, .pdf).")
def plot() -> None:
    """Draw results as a picture for a paper or a slide; the suffix of -o says of which kind (.png, .svg, .pdf)."""


output_option = click.option("--output", "-o", metavar="FILE", required=True, help="Picture: .png, .svg or .pdf.")
source_argument = click.argument("source", metavar="NETWORK|GRAPH|MODULE:CALLABLE", shell_complete=completion.networks)
device_option = click.option(
    "--device", "-d", "device", metavar="DEVICE", required=True, shell_complete=completion.devices, help="Or TOML file."
)
mode_option = click.option("--power-mode", "mode", metavar="MODE", help="Of the device.")
apply_option = click.option(
    "--apply", "applied", metavar="TECHNIQUES", shell_complete=completion.techniques, help="Such as smd{p=0.5}."
)


def of_a_step(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what names one step on one device, as of `trainwatt estimate`."""
    for option in (source_argument, device_option, mode_option, apply_option, output_option):
        command = option(command)
    return tracing_options(command)


def report_of(source: str, device: str, mode: str | None, applied: str | None, tracing: dict[str, Any]) -> Report:
    from simulator.estimate import estimate
    from simulator.techniques import apply

    techniques, hardware = techniques_of(applied), devices_named((device,), (mode,) if mode else ())[0]
    return estimate(apply(techniques, graph_from(source, trace_options(tracing))), hardware)


def _drawn(path: str) -> None:
    click.echo(f"{path} is drawn")


def _check(path: str) -> None:
    from analysis.output import check_picture

    check_picture(path)


@plot.command("front", short_help="A design space with its Pareto front.")
@click.argument("results", metavar="RESULTS")
@click.option(
    "--x", default="latency_s", show_default=True, metavar="COLUMN", help="Less is better; of max:COLUMN more."
)
@click.option("--y", default="energy_j", show_default=True, metavar="COLUMN", help="As --x.")
@click.option("--colour", default="technique", show_default=True, metavar="COLUMN", help="What colours tell apart.")
@click.option(
    "--where", metavar="COLUMN=VALUE", multiple=True, help="Only these points; several values: give it again."
)
@click.option("--linear", is_flag=True, help="Linear axes instead of logarithmic ones.")
@output_option
def front(results: str, x: str, y: str, colour: str, where: tuple[str, ...], linear: bool, output: str) -> None:
    """Draw the design space of RESULTS, a folder of `trainwatt explore`, with the front of two columns."""
    from analysis.explore.marking import objectives
    from analysis.pictures.design_space import draw
    from analysis.pictures.points import kept, read_points

    _check(output)
    across, up = objectives((x, y))
    draw(kept(read_points(results), where), output, x=across, y=up, colour=colour, log=not linear)
    _drawn(output)


@plot.command("savings", short_help="What techniques leave of time, energy, memory.")
@source_argument
@click.option(
    "--device",
    "-d",
    "names",
    metavar="DEVICE",
    multiple=True,
    shell_complete=completion.devices,
    help="Several are compared.",
)
@click.option("--power-mode", "modes", metavar="MODE", multiple=True, help="One for all devices, or one for each.")
@click.option(
    "--apply",
    "applied",
    metavar="TECHNIQUES",
    multiple=True,
    required=True,
    shell_complete=completion.techniques,
    help="Several are compared: give it again.",
)
@tracing_options
@output_option
def savings(
    source: str, names: tuple[str, ...], modes: tuple[str, ...], applied: tuple[str, ...], output: str, **tracing: Any
) -> None:
    """Draw what techniques leave of time, energy and memory of a step, on each device."""
    from analysis.pictures.savings import bars, draw

    _check(output)
    techniques = {text: techniques_of(text) for text in applied}
    hardware = devices_named(names, modes)
    graph = graph_from(source, trace_options(tracing))
    title = f"{graph.meta.get('network', source)}, batch {graph.batch}"
    draw(bars(graph, hardware, techniques), output, title=title)
    _drawn(output)


@plot.command("roofline", short_help="The ops of a step under a device's roofline.")
@of_a_step
def roofline(source: str, device: str, mode: str | None, applied: str | None, output: str, **tracing: Any) -> None:
    """Draw a device's roofline with the ops of a step on it; `trainwatt show DEVICE --plot` draws it without."""
    from analysis.pictures.roofline import draw

    _check(output)
    report = report_of(source, device, mode, applied, tracing)
    if "peaks" not in report.hardware.card:
        raise TrainwattError(f"no peak rates on the card of {device!r}; choose another device")
    draw(report.hardware.card, output, report)
    _drawn(output)


@plot.command("memory", short_help="The memory held over a step.")
@of_a_step
@click.option("--by", type=OneOf(["role", "phase"]), default="role", show_default=True, help="What is stacked.")
def memory(
    source: str, device: str, mode: str | None, applied: str | None, output: str, by: Any, **tracing: Any
) -> None:
    """Draw the memory held over the time of a step, and what holds the peak."""
    from analysis.pictures.memory import draw

    _check(output)
    draw(report_of(source, device, mode, applied, tracing), output, by=by)
    _drawn(output)


@plot.command("layers", short_help="Time or energy layer by layer.")
@of_a_step
@click.option(
    "--quantity",
    type=OneOf(["latency_s", "energy_j", "macs", "traffic_bytes"]),
    default="latency_s",
    show_default=True,
    help="What is stacked by phase.",
)
@click.option("--top", metavar="N", type=click.IntRange(min=1), default=30, show_default=True, help="Layers to show.")
def layers(
    source: str,
    device: str,
    mode: str | None,
    applied: str | None,
    output: str,
    quantity: str,
    top: int,
    **tracing: Any,
) -> None:
    """Draw time, energy, MACs or traffic layer by layer, stacked by phase."""
    from analysis.pictures.layers import draw

    _check(output)
    draw(report_of(source, device, mode, applied, tracing), output, quantity=quantity, top=top)
    _drawn(output)


@plot.command("sensitivity", short_help="What each number of a device does to the result.")
@of_a_step
@click.option(
    "--by", type=float, default=0.1, show_default=True, metavar="FRACTION", help="How far numbers are varied."
)
@click.option("--top", metavar="N", type=click.IntRange(min=1), default=15, show_default=True, help="Numbers to show.")
def sensitivity(
    source: str, device: str, mode: str | None, applied: str | None, output: str, by: float, top: int, **tracing: Any
) -> None:
    """Draw what each number of the device file, varied up and down, does to time, energy and memory of a step."""
    from analysis.pictures.sensitivity import draw, text
    from analysis.pictures.sensitivity import sensitivity as vary
    from simulator.techniques import apply

    _check(output)
    techniques = techniques_of(applied)
    graph = apply(techniques, graph_from(source, trace_options(tracing)))
    found = vary(graph, device, mode, by=by)
    title = f"{graph.meta.get('network', source)}, batch {graph.batch}, on {found.device}, {found.mode}"
    draw(found, output, title=title, top=top)
    click.echo(text(found))
    _drawn(output)


@plot.command("measured", short_help="Predicted against measured values.")
@click.argument("table", metavar="TABLE.csv")
@click.option("--group", metavar="COLUMN", help="What colours tell apart (default: group, network or device).")
@click.option("--quantity", help="What was measured: a value of the column quantity, or text for the axes.")
@click.option("--unit", help="Its base unit, such as s, J or B (default: as the column unit says, or s).")
@output_option
def measured(table: str, group: str | None, quantity: str | None, unit: str | None, output: str) -> None:
    """Draw predicted against measured values: the columns predicted and measured (low, high) of a CSV table."""
    from analysis.pictures.measured_file import read_pairs
    from analysis.pictures.predicted_measured import draw

    _check(output)
    pairs = read_pairs(table, group=group, quantity=quantity, unit=unit)
    draw(pairs.points, output, quantity=pairs.quantity, unit=pairs.unit)
    _drawn(output)
