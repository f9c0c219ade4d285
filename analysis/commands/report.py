"""`trainwatt report`."""

from __future__ import annotations

from typing import Any

import click

from analysis import completion
from analysis.commands.options import devices_named, techniques_of, trace_options, tracing_options
from analysis.source import graph_from
from simulator.errors import TrainwattError


@click.command(short_help="Write results as one interactive page.")
@click.argument("result", metavar="RESULT|NETWORK", shell_complete=completion.networks)
@click.option("--output", "-o", metavar="FILE", required=True, help="HTML file to write.")
@click.option(
    "--device",
    "-d",
    "names",
    metavar="DEVICE",
    multiple=True,
    shell_complete=completion.devices,
    help="Estimate RESULT, a network or stored graph, on it; several are compared.",
)
@click.option("--power-mode", "modes", metavar="MODE", multiple=True, help="One for all devices, or one for each.")
@click.option(
    "--apply", "applied", metavar="TECHNIQUES", shell_complete=completion.techniques, help="Such as smd{p=0.5}."
)
@tracing_options
def report(
    result: str, output: str, names: tuple[str, ...], modes: tuple[str, ...], applied: str | None, **tracing: Any
) -> None:
    """Write one HTML file to filter, sort and look at: it works offline, from disk, and loads nothing.

    RESULT is a folder of `explore`, JSON of `estimate` or `diff`, or a CSV table (of `estimate --csv`, or with columns
    measured and predicted). With --device it is what `estimate` takes, and the page has every op.
    """
    from analysis.output import check_writable, write
    from analysis.page.html import to_html

    if output == "-" or not output.endswith((".html", ".htm")):
        raise TrainwattError(f"page {output!r}; its name ends in .html")
    check_writable(output)
    options = trace_options(tracing)
    if names:
        from analysis.estimate_command import priced
        from analysis.page.estimated import report_page

        hardware, techniques = devices_named(names, modes), techniques_of(applied)
        page = report_page(priced(graph_from(result, options), hardware, techniques, "stop"))
    else:
        given = [*options.given(), *(["apply"] if applied else []), *(["power-mode"] if modes else [])]
        if given:
            raise TrainwattError(f"--{given[0].replace('_', '-')} without --device; stored results are as they are")
        from analysis.page.reading import page_of

        page = page_of(result)
    write(output, to_html(page))
    click.echo(f"{output}: open it in a browser")
