"""`trainwatt trace`."""

from __future__ import annotations

from typing import Any

import click

from analysis import completion
from analysis.commands.options import trace_options, tracing_options
from analysis.source import graph_from
from simulator.errors import TrainwattError


@click.command(short_help="Record a training step and store its graph.")
@click.argument("source", metavar="NETWORK|GRAPH|MODULE:CALLABLE", shell_complete=completion.networks)
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    required=True,
    help="Graph file to write (.graph, or .json uncompressed).",
)
@tracing_options
def trace(source: str, output: str, **tracing: Any) -> None:
    """Record one training step and store it as a graph, which estimates need neither PyTorch nor time for.

    A stored graph is not recorded again, only bound to another --batch and stored under another name.
    """
    from analysis.output import check_writable

    if output == "-":
        raise TrainwattError("cannot write a graph to standard output; give -o FILE")
    check_writable(output)
    graph = graph_from(source, trace_options(tracing))
    from simulator.io import save

    save(graph, output)
    click.echo(f"{output}: {len(graph.ops)} ops, batch {graph.batch}; 'trainwatt estimate {output}' prices it")
