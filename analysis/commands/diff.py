"""`trainwatt diff`."""

from __future__ import annotations

from typing import Any

import click

from analysis import completion
from analysis.commands.options import devices_named, techniques_of, trace_options, tracing_options
from analysis.group import OneOf
from analysis.source import graph_from
from simulator.errors import TrainwattError


@click.command(short_help="Show what a technique changes, op by op.")
@click.argument("before", metavar="NETWORK|GRAPH|MODULE:CALLABLE", shell_complete=completion.networks)
@click.argument("after", metavar="[NETWORK|GRAPH]", required=False, shell_complete=completion.networks)
@click.option(
    "--apply",
    "applied",
    metavar="TECHNIQUES",
    shell_complete=completion.techniques,
    help="Compare with the step that these make.",
)
@click.option(
    "--device", "-d", "name", metavar="DEVICE", shell_complete=completion.devices, help="Time and energy too."
)
@click.option("--power-mode", "mode", metavar="MODE", help="Of the device.")
@tracing_options
@click.option("--by", type=OneOf(["layer", "op"]), default="layer", show_default=True, help="Add up, or each op.")
@click.option("--top", metavar="N", type=click.IntRange(min=1), default=20, show_default=True, help="Changes to show.")
@click.option("--all", "everything", is_flag=True, help="Show all changes.")
@click.option("--unknown", type=OneOf(["stop", "list"]), default="stop", help="As of estimate.")
@click.option("--json", "json_path", metavar="PATH", help="Write the changes as JSON ('-': to standard output).")
def diff(
    before: str,
    after: str | None,
    applied: str | None,
    name: str | None,
    mode: str | None,
    by: str,
    top: int,
    everything: bool,
    unknown: str,
    json_path: str | None,
    **tracing: Any,
) -> None:
    """Show which ops a technique removes, adds and changes, or in which ops two graphs differ."""
    if (after is None) == (applied is None):
        given = "both a second graph and --apply" if after else "one graph and no technique"
        raise TrainwattError(f"{given} to compare; give a second graph or --apply")
    if mode is not None and name is None:
        raise TrainwattError("--power-mode without a device; give --device")
    from analysis.diff import diff as compare
    from analysis.difftext import diff_document, diff_text
    from analysis.estimate_command import dumped
    from analysis.output import check_writable, write
    from simulator.techniques import apply

    if json_path is not None:
        check_writable(json_path)
    techniques = techniques_of(applied)
    hardware = devices_named((name,), (mode,) if mode else ())[0] if name else None
    first = graph_from(before, trace_options(tracing))
    second = apply(techniques, first) if after is None else graph_from(after, trace_options(tracing))
    found = compare(first, second, hardware, unknown=unknown)
    if json_path is not None:
        write(json_path, dumped(diff_document(found, name)))
    if json_path != "-":
        click.echo(diff_text(found, by_op=by == "op", top=None if everything else top))
