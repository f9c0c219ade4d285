"""The command `trainwatt run`, from its options to its output."""

from __future__ import annotations

from typing import Any

import click

from analysis.output import check_writable, progress_bar, write
from analysis.source import check_network, is_graph_file, parse_arguments
from simulator.errors import TrainwattError
from simulator.techniques import Technique


def train_and_report(
    network: str,
    techniques: tuple[Technique, ...],
    *,
    arguments: tuple[str, ...],
    no_baseline: bool,
    json_path: str | None,
    **settings: Any,
) -> bool:
    """Train, print what came out or write it as JSON, and return whether the user interrupted it.

    `settings` are those of `analysis.running.Settings`. Raises `TrainwattError` for bad input.
    """
    if no_baseline and not techniques:
        raise TrainwattError("no baseline and no techniques; give --apply, or leave --no-baseline out")
    if json_path is not None:
        check_writable(json_path)
    if is_graph_file(network):
        raise TrainwattError(f"cannot train the stored graph {network!r}; give a network or package.module:callable")
    if ":" not in network:
        check_network(network)
    try:
        from analysis.run_report import report, to_json
        from analysis.running import Settings, run
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise TrainwattError(f"no PyTorch to train {network!r} with; install torch") from None
    choices = ([] if no_baseline else [()]) + ([techniques] if techniques else [])
    with progress_bar(f"training {network}") as progress:
        experiment = run(Settings(network, arguments=parse_arguments(arguments), **settings), choices, progress)
    if json_path is not None:
        write(json_path, to_json(experiment))
    if json_path != "-":
        click.echo(report(experiment))
    return experiment.interrupted
