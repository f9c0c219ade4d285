"""`trainwatt claims`."""

from __future__ import annotations

import click


@click.command(short_help="Hold published numbers against ours.")
@click.argument("paper", required=False, metavar="[PAPER]")
@click.option("--missed", "missed_only", is_flag=True, help="Show only the claims that are missed.")
@click.option("--json", "json_path", metavar="PATH", help="Write one row a claim as JSON ('-': to standard output).")
def claims(paper: str | None, missed_only: bool, json_path: str | None) -> None:
    """Print each published number, ours, the error, and whether it is met, or missed and why.

    PAPER is one of the keys that the listing's files are called by, such as yang2023; without it, all papers.
    """
    import json

    from analysis.claims import claims as published
    from analysis.claims import judge_all
    from analysis.claims.report import rows, text
    from analysis.output import check_writable, progress_bar, write

    wanted = published(paper)
    if json_path:
        check_writable(json_path)
    with progress_bar("judging claims") as progress:
        verdicts = list(judge_all(wanted, progress))
    if json_path:
        write(json_path, json.dumps(rows(verdicts), indent=1, allow_nan=False, ensure_ascii=False))
    if json_path != "-":
        click.echo(text(verdicts, missed_only=missed_only))
