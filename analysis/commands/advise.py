"""`trainwatt advise`."""

from __future__ import annotations

from typing import Any

import click

from analysis import completion
from analysis.commands.options import devices_named, trace_options, tracing_options
from analysis.group import OneOf
from analysis.source import graph_from
from simulator.errors import TrainwattError


@click.command(short_help="Choose what to train, how and at which batch size, for a budget.")
@click.argument("source", metavar="NETWORK|GRAPH|MODULE:CALLABLE", shell_complete=completion.networks)
@click.option("--device", "-d", metavar="DEVICE", required=True, shell_complete=completion.devices, help="One device.")
@click.option("--power-mode", "mode", metavar="MODE", help="Power mode of the device.")
@click.option("--memory", metavar="SIZE", help="Such as 1.5GB; what must fit (default: the device's memory).")
@click.option("--energy-per-step", metavar="ENERGY", help="Such as 5J.")
@click.option("--energy-per-epoch", metavar="ENERGY", help="Such as 2kJ.")
@click.option("--energy-per-run", metavar="ENERGY", help="Of all epochs.")
@click.option("--time-per-step", metavar="TIME", help="Such as 800ms.")
@click.option("--time-per-epoch", metavar="TIME", help="Such as 20min.")
@click.option("--time-per-run", metavar="TIME", help="Of all epochs.")
@click.option("--epochs", metavar="N", type=click.IntRange(min=1), help="Epochs of a run (default 1).")
@click.option("--dataset-size", metavar="N", type=click.IntRange(min=1), help="Samples of an epoch (default 10000).")
@click.option(
    "--objective",
    type=OneOf(["accurate", "fastest", "least-energy", "largest-batch"]),
    default="accurate",
    show_default=True,
    help="What to prefer among what meets the budgets.",
)
@click.option(
    "--accept",
    type=OneOf(["exact", "partial", "approximate", "changed"]),
    default="approximate",
    show_default=True,
    help="How far it may be from plain training.",
)
@click.option("--min-accuracy-kept", "kept", metavar="PERCENT", type=float, help="Published, of plain training's.")
@click.option("--techniques", "allowed", metavar="NAME,...", help="Use these techniques only.")
@click.option("--json", "json_path", metavar="PATH", help="Write the advice as JSON ('-': to standard output).")
@tracing_options
@click.pass_context
def advise(
    context: click.Context,
    /,
    source: str,
    device: str,
    mode: str | None,
    memory: str | None,
    epochs: int | None,
    dataset_size: int | None,
    objective: str,
    accept: str,
    kept: float | None,
    allowed: str | None,
    json_path: str | None,
    **given: Any,
) -> None:
    """Choose what to train, with which techniques, at which batch size, so that budgets are met; and say why.

    Without --batch the batch size is free, and as near to 32 as the budgets allow. Exits with 1 where nothing meets
    the budgets.
    """
    from analysis.advise.command import INFEASIBLE, answer, estimate_arguments, rules_of
    from analysis.output import check_writable, write

    if json_path is not None:
        check_writable(json_path)
    spans = [f"{quantity}_per_{span}" for quantity in ("energy", "time") for span in ("step", "epoch", "run")]
    limits = {"memory": memory, **{span.replace("_", " "): given.pop(span) for span in spans}}
    if all(limit is None for limit in limits.values()) and objective == "accurate":
        raise TrainwattError("no budget; give --memory, --energy-per-epoch, ... or another --objective")
    options = trace_options(given)
    (model,) = devices_named((device,), (mode,) if mode else ())
    rules = rules_of(accept, kept, objective, allowed)
    flags = {p.name: max(p.opts, key=len) for p in context.command.params if p.name is not None}
    words = estimate_arguments(source, device, mode, {name: (flags[name], value) for name, value in given.items()})
    graph = graph_from(source, options)
    advice, text, document = answer(graph, model, limits, (epochs, dataset_size), rules, options.batch is None, words)
    if json_path is not None:
        write(json_path, document)
    if json_path != "-":
        click.echo(text)
    if advice.chosen is None:
        context.exit(INFEASIBLE)
