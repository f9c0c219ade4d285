"""The page of estimates: totals, layers, kernel classes, the memory at the peak, and the ops where they are known."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.opcsv import to_csv
from analysis.page.document import Chart, Page, Section, columns_of
from analysis.page.tables import ops_section, typed
from analysis.pictures.memory import held
from simulator.report import Report, to_json
from simulator.units import show


def report_page(reports: Sequence[Report]) -> Page:
    """Return the page of reports, op by op, with the memory held over time by role."""
    ops = [
        ops_section(
            typed(list(csv.DictReader(to_csv(report).splitlines()))),
            {name: values.tolist() for name, values in held(report, "role").items()},
            "Ops",
        )
        for report in reports
    ]
    return estimate_page(to_json(reports), ops)


def estimate_page(document: Mapping[str, Any], ops: Sequence[Section] = ()) -> Page:
    """Return the page of a document of `trainwatt estimate --json`; `ops` are sections for its results, if known."""
    results = document["results"]
    sections: list[Section] = []
    several = len(results) > 1
    if several:
        sections.append(_side_by_side(results))
    for number, result in enumerate(results):
        own = [*ops[number : number + 1], *_sections(result)]
        sections += [_titled(section, _called(result)) if several else section for section in own]
    first = results[0]
    facts = [] if several else _facts(first)
    title = f"One training step of {first['network'] or 'a network'}" + ("" if several else f" on {_called(first)}")
    notes = (
        () if several or not first["assumptions"] else (f"Rests on {len(first['assumptions'])} assumptions, below.",)
    )
    return Page(title, tuple(sections), tuple(facts), notes)


def _facts(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    shown = {
        "time": ("latency_s", "s"),
        "energy": ("energy_j", "J"),
        "peak memory": ("peak_bytes", "byte"),
        "MACs": ("macs", "MAC"),
    }
    facts = [("batch", str(result["batch"])), ("technique", result["technique"] or "none")]
    facts += [(name, show(result[key], unit)) for name, (key, unit) in shown.items() if result[key] is not None]
    if interval := result.get("interval_s"):
        low, high = show(interval["low"], "s"), show(interval["high"], "s")
        facts.append(("interval of the time", f"{low} to {high} ({interval['coverage']:.0%})"))
    return [*facts, ("fits", "yes" if result["fits"] else "no")]


def _side_by_side(results: Sequence[Mapping[str, Any]]) -> Section:
    names = (
        "network",
        "device",
        "mode",
        "batch",
        "technique",
        "latency_s",
        "energy_j",
        "macs",
        "traffic_bytes",
        "peak_bytes",
        "fits",
    )
    rows = [{name: result[name] for name in names} | {"device and mode": _called(result)} for result in results]
    return Section("Side by side", columns_of(rows), (Chart("bars", "device and mode", "latency_s"),), shown=names)


def _sections(result: Mapping[str, Any]) -> list[Section]:
    memory = result["memory"]
    holders = [
        {
            **holder,
            "op": (holder["op"] or {}).get("kind", "older than the step"),
            "layer": (holder["op"] or {}).get("layer", ""),
        }
        for holder in memory["holders"]
    ]
    roles = [{"role": role, "size_bytes": size} for role, size in memory["by_role"].items()]
    if memory["workspace_bytes"]:
        roles.append({"role": "workspace of the op", "size_bytes": memory["workspace_bytes"]})
    assumptions = [{"assumption": text} for text in result["assumptions"]]
    found = [
        _bars("Layers", result["layers"], "layer", "latency_s", "bound"),
        _bars("Kernel classes", result["kernels"], "kernel", "latency_s"),
        _bars("Phases", [{"phase": name, **totals} for name, totals in result["phases"].items()], "phase", "latency_s"),
        _bars("Memory at the peak", roles, "role", "size_bytes"),
        Section("Largest blocks at the peak", columns_of(holders), ()),
        Section("Assumptions", columns_of(assumptions), ()),
    ]
    return [section for section in found if section.columns]


def _bars(title: str, rows: Sequence[Mapping[str, Any]], by: str, quantity: str, colour: str = "") -> Section:
    return Section(title, columns_of(rows), (Chart("bars", by, quantity, colour),), sort=f"-{quantity}")


def _titled(section: Section, device: str) -> Section:
    from dataclasses import replace

    return replace(section, title=f"{device}: {section.title}")


def _called(result: Mapping[str, Any]) -> str:
    return f"{result['device']}, {result['mode']}" if result["mode"] else str(result["device"])
