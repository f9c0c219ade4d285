"""Completion of names on the command line."""

from __future__ import annotations

from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem

# click calls these with (context, parameter, incomplete).


def _starting(incomplete: str, names: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def networks(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete network names, then file names."""
    from workloads.catalog import cards

    return _starting(incomplete, cards()) or [CompletionItem(incomplete, type="file")]


def devices(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete device names, then file names."""
    from hwmodels.device import devices as names

    return _starting(incomplete, names()) or [CompletionItem(incomplete, type="file")]


def techniques(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the last technique of a list."""
    from simulator.techniques import techniques as known

    if incomplete.count("{") > incomplete.count("}"):
        return []
    before, comma, last = incomplete.rpartition(",")
    return [CompletionItem(before + comma + name) for name in known() if name.startswith(last)]


def shown(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete what `show` shows: devices and networks."""
    from hwmodels.device import devices as names
    from workloads.catalog import cards

    return _starting(incomplete, [*names(), *cards()]) or [CompletionItem(incomplete, type="file")]
