"""`trainwatt run`."""

from __future__ import annotations

from typing import Any

import click

from analysis import completion
from analysis.commands.options import techniques_of
from analysis.group import INTERRUPTED


@click.command(short_help="Train for real, plainly and with techniques.")
@click.argument("network", metavar="NETWORK|MODULE:CALLABLE", shell_complete=completion.networks)
@click.option(
    "--apply",
    "applied",
    metavar="TECHNIQUES",
    shell_complete=completion.techniques,
    help="Such as smd{p=0.5}.",
)
@click.option(
    "--dataset", metavar="NAME", default="digits", show_default=True, help="digits, or package.module:callable."
)
@click.option("--steps", metavar="N", type=click.IntRange(min=1), default=300, show_default=True, help="Mini-batches.")
@click.option(
    "--pretrain",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Mini-batches of plain training on negated inputs before, for fine-tuning from another domain.",
)
@click.option("--batch", "-b", metavar="N", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--optimizer", metavar="SPEC", default="sgd{momentum=0.9}", show_default=True)
@click.option("--lr", metavar="RATE", type=float, help="Learning rate (default 0.01, or that of --optimizer).")
@click.option("--seed", metavar="N", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--repeats", metavar="N", type=click.IntRange(min=1), default=1, show_default=True, help="Seeds, from --seed on."
)
@click.option("--input-size", metavar="N", type=click.IntRange(min=1), help="Side of the digits (default: network's).")
@click.option("--arg", "arguments", metavar="KEY=VALUE", multiple=True, help="Argument of the model.")
@click.option("--threads", metavar="N", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--no-baseline", is_flag=True, help="Leave plain training out.")
@click.option("--json", "json_path", metavar="PATH", help="Write the results as JSON ('-': to standard output).")
@click.pass_context
def run(ctx: click.Context, network: str, **options: Any) -> None:
    """Train a network on real data, plainly and with techniques, and compare what comes out.

    Ctrl-C ends the training, reports what was reached, and exits with 130.
    """
    from analysis.run_command import train_and_report

    if train_and_report(network, techniques_of(options.pop("applied")), **options):
        ctx.exit(INTERRUPTED)
