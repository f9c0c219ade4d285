"""`trainwatt list`."""

from __future__ import annotations

import click

from analysis.group import OneOf


@click.command("list", short_help="List networks, devices, techniques or rules.")
@click.argument("what", type=OneOf(["networks", "devices", "techniques", "rules"]))
def list_(what: str) -> None:
    """List what there is."""
    click.echo({"networks": _networks, "devices": _device_list, "techniques": _technique_list, "rules": _rules}[what]())


def _networks() -> str:
    from analysis.table import table
    from workloads.catalog import cards

    rows = [("name", "parameters", "MACs a sample", "input", "classes")]
    for card in cards().values():
        shape = "x".join(map(str, card.input_shape))
        rows.append((card.name, f"{card.parameters:,}", f"{card.macs:,}", shape, str(card.classes)))
    return table(rows, indent=0)


def _device_list() -> str:
    from hwmodels.device import devices

    return "\n".join(devices())


def _technique_list() -> str:
    from analysis.table import pairs
    from simulator.techniques import syntax, techniques

    return pairs([(syntax(cls), (cls.__doc__ or "").strip().split("\n")[0]) for cls in techniques().values()])


def _rules() -> str:
    from simulator.rules import rules

    return "\n".join(sorted(rules()))
