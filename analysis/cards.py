"""What there is to know about a device, a network, a technique or a stored graph, without an estimate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from analysis.summary import step_lines
from analysis.table import pairs, table
from simulator.graph import PHASES, ROLES, Graph


def graph_facts(graph: Graph) -> dict[str, Any]:
    """Return a stored graph in plain values: what it is, ops by phase, storages by role, dimensions."""
    from simulator.memory import peaks, storage_bytes

    phases = Counter(op.phase for op in graph.ops)
    sizes = storage_bytes(graph).tolist()
    roles = {
        role: {
            "storages": sum(s.role == role for s in graph.storages),
            "bytes": sum(size for size, s in zip(sizes, graph.storages, strict=True) if s.role == role),
        }
        for role in ROLES
    }
    kinds = Counter(op.kind for op in graph.ops)
    return {
        "meta": dict(graph.meta),
        "dimensions": dict(graph.sizes),
        "smallest_batch": graph.smallest_batch,
        "ops": len(graph.ops),
        "tensors": len(graph.tensors),
        "phases": {phase: phases[phase] for phase in PHASES if phases[phase]},
        "kinds": dict(kinds.most_common()),
        "storages": {role: facts for role, facts in roles.items() if facts["storages"]},
        "peak_bytes": int(peaks(graph, [graph.batch])[0]) if "batch" in graph.sizes else None,
    }


def graph_text(graph: Graph) -> str:
    """Return a stored graph as text."""
    from simulator.units import show

    facts = graph_facts(graph)
    dimensions = ", ".join(f"{name} {size}" for name, size in facts["dimensions"].items())
    ops = [
        ("", "ops"),
        *((phase, str(count)) for phase, count in facts["phases"].items()),
        ("total", str(facts["ops"])),
    ]
    storages = [("", "storages", "bytes")]
    storages += [(role, str(f["storages"]), show(f["bytes"], "byte")) for role, f in facts["storages"].items()]
    lines = step_lines(graph)
    lines.append(("dimensions", dimensions))
    if fixed := graph.meta.get("fixed_batch"):
        lines.append(("batch", f"fixed ({fixed})"))
    if facts["peak_bytes"] is not None:
        lines.append(("peak memory", show(facts["peak_bytes"], "byte") + " without kernel workspace"))
    return "\n\n".join(
        [
            pairs(lines),
            "ops by phase\n" + table(ops),
            "storages by role (over the whole step; they do not all live at once)\n" + table(storages),
        ]
    )


def _number(entry: Mapping[str, Any]) -> str:
    """Return a number of a card with how it is known and from where."""
    from simulator.units import show

    value, unit = entry["value"], entry.get("unit", "")
    return f"{show(value, unit) if unit else f'{value:g}'}  [{entry.get('kind', 'number')}: {entry['source']}]"


def card_text(card: Mapping[str, Any], indent: int = 0) -> str:
    """Return a card as text: nested tables indented, a number with its source on one line, a sentence on its own."""
    lines = []
    for key, value in card.items():
        pad = "  " * indent
        if isinstance(value, Mapping) and {"value", "source"} <= set(value):
            lines.append(f"{pad}{key}: {_number(value)}")
        elif value in ({}, (), []):
            continue
        elif isinstance(value, Mapping):
            lines += [f"{pad}{key}:", card_text(value, indent + 1)]
        elif isinstance(value, list | tuple) and any(" " in str(item) for item in value):
            lines += [f"{pad}{key}:", *(f"{pad}  - {item}" for item in value)]
        elif isinstance(value, list | tuple):
            lines.append(f"{pad}{key}: " + ", ".join(map(str, value)))
        else:
            lines.append(f"{pad}{key}: " + (f"{value:,}" if isinstance(value, int) else str(value)))
    return "\n".join(line for line in lines if line)
