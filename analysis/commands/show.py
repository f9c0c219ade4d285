"""`trainwatt show`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from analysis import completion
from analysis.source import TraceOptions, graph_from, is_graph_file
from simulator.errors import TrainwattError, unknown


@click.command(short_help="Show a device, a network or a stored graph.")
@click.argument("name", metavar="DEVICE|NETWORK|GRAPH", shell_complete=completion.shown)
@click.option("--power-mode", "mode", metavar="MODE", help="Of a device.")
@click.option("--plot", metavar="PATH", help="Draw a device's roofline (.png, .svg or .pdf).")
@click.option("--json", "json_path", metavar="PATH", help="Write it as JSON ('-': to standard output).")
def show(name: str, mode: str | None, json_path: str | None, plot: str | None) -> None:
    """Show a device's numbers with their sources, a network's card, or what a stored graph holds."""
    from analysis.cards import card_text, graph_facts, graph_text

    facts: Mapping[str, Any]
    if not name.endswith(".toml") and is_graph_file(name):
        if mode is not None:
            raise TrainwattError(f"--power-mode for the stored graph {name!r}; only devices have power modes")
        graph = graph_from(name, TraceOptions())
        facts, text = graph_facts(graph), graph_text(graph)
    else:
        facts = _card(name, mode)
        text = card_text(facts)
        if "peaks" in facts:
            from analysis import roofs

            text += "\n\n" + roofs.text(facts)
            if plot is not None:
                from analysis.pictures.roofline import draw

                draw(facts, plot)
    if plot is not None and "peaks" not in facts:
        raise TrainwattError(f"--plot for {name!r}; only devices have a roofline")
    if json_path is None:
        click.echo(text)
        return
    import json

    from analysis.output import write
    from simulator.report import plain

    write(json_path, json.dumps(plain(facts), indent=1, allow_nan=False, ensure_ascii=False))


def _card(name: str, mode: str | None) -> Mapping[str, Any]:
    from dataclasses import asdict

    from hwmodels.device import device, devices
    from workloads.catalog import cards

    if name.endswith(".toml") or name in devices():
        found = device(name, mode)
        return {**found.card, "assumptions": list(found.assumptions)}
    networks = cards()
    if name not in networks:
        raise unknown(
            "device or network",
            name,
            [*devices(), *networks],
            "see 'trainwatt list devices' and 'list networks'",
        )
    if mode is not None:
        raise TrainwattError(f"--power-mode for the network {name!r}; only devices have power modes")
    return asdict(networks[name])
