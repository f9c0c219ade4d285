"""`trainwatt explore`."""

from __future__ import annotations

import click

from analysis.group import OneOf
from simulator.errors import TrainwattError

SAMPLERS = ("model", "tpe", "nsga2", "nsga3")


@click.command(short_help="Price a whole space of choices, and find its front.")
@click.argument("space", metavar="[SPACE]", required=False)
@click.option("--output", "-o", "folder", metavar="FOLDER", help="Where results go; an unfinished run continues there.")
@click.option("--init", "example", metavar="FILE", help="Write a space with comments to begin from, and nothing else.")
@click.option("--workers", metavar="N", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.")
@click.option("--scheduler", metavar="ADDRESS", help="Price on the Dask cluster there (tcp://host:8786) instead.")
@click.option("--search", "points", metavar="N", type=click.IntRange(min=1), help="Search: price N points, not all.")
@click.option("--seed", metavar="N", type=click.IntRange(min=0), help="Seed of the search (default 0).")
@click.option("--sampler", type=OneOf(SAMPLERS), help="Who proposes points: model (default), or one of Optuna's.")
@click.option("--pareto", metavar="COLUMN,...", help="Objectives of the front (default: those of the file).")
@click.option("--within", metavar="COLUMN,...", help="A front for each value of these (default: as in the file).")
@click.option("--csv", is_flag=True, help="Write the points as CSV too.")
@click.option("--fresh", is_flag=True, help="Begin again where the folder holds results.")
def explore(
    space: str | None,
    folder: str | None,
    example: str | None,
    workers: int,
    scheduler: str | None,
    points: int | None,
    seed: int | None,
    sampler: str | None,
    pareto: str | None,
    within: str | None,
    csv: bool,
    fresh: bool,
) -> None:
    """Price every point of the space that the TOML file SPACE describes: networks, techniques, devices, batch sizes.

    Results are FOLDER/points.parquet, one row a point. Ctrl-C leaves what is finished; the same command goes on.
    --search N prices only so many points, chosen for the front of the objectives.
    """
    from analysis.explore.command import explore as explored
    from analysis.explore.command import write_example
    from analysis.explore.search.run import Plan

    if example is not None:
        if space is not None or folder is not None:
            raise TrainwattError("--init with a space or --output; it only writes an example")
        write_example(example)
        click.echo(f"{example}: 'trainwatt explore {example} -o FOLDER' explores it")
        return
    if space is None or folder is None:
        raise TrainwattError("no space or no --output; give both, or --init FILE for an example")
    if scheduler is not None and workers > 1:
        raise TrainwattError(f"--workers {workers} with --scheduler; the cluster has workers of its own")
    if points is None and (seed is not None or sampler is not None):
        raise TrainwattError(f"--{'sampler' if seed is None else 'seed'} without --search; give --search N")
    plan = None if points is None else Plan(points, seed or 0, sampler or SAMPLERS[0])
    click.echo(
        explored(
            space,
            folder,
            workers=workers,
            scheduler=scheduler,
            plan=plan,
            pareto=_words(pareto) or (),
            within=_words(within),
            csv=csv,
            fresh=fresh,
        )
    )


def _words(text: str | None) -> tuple[str, ...] | None:
    """Return what stands between commas, each once; None of None."""
    if text is None:
        return None
    return tuple(dict.fromkeys(word for piece in text.split(",") if (word := piece.strip())))
