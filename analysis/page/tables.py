"""Pages of tables: ops of a step, predicted against measured values, and any other CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.opcsv import COLUMNS as OP_COLUMNS
from analysis.page.document import Chart, Column, Page, Section, column, columns_of
from analysis.pictures.measured_file import GROUPS
from simulator.errors import TrainwattError

_OPS_SHOWN = ("index", "name", "phase", "layer", "kernel", "latency_s", "energy_j", "flops", "read_bytes", "bound")


def typed(rows: Sequence[Mapping[str, str]]) -> tuple[Column, ...]:
    """Return rows of texts as columns; one in which all that is there is a number is numeric."""
    return tuple(column(name, _values([row[name] for row in rows])) for name in rows[0])


def _values(cells: Sequence[str]) -> list[Any]:
    try:
        found = [float(cell) if cell else None for cell in cells]
    except ValueError:
        return list(cells)
    return [None if value is None or not math.isfinite(value) else value for value in found]


def is_ops(names: Sequence[str]) -> bool:
    """Tell whether columns are those of `trainwatt estimate --csv`."""
    return set(OP_COLUMNS) <= set(names)


def ops_section(
    columns: tuple[Column, ...], held: Mapping[str, Sequence[int]] | None = None, title: str = "Ops"
) -> Section:
    """Return the section of the ops of a step; `held` is the memory during each op by what holds it, in bytes."""
    parts = tuple(column(f"{name}_bytes", list(values)) for name, values in (held or {}).items())
    stack = tuple(part.name for part in parts) or ("live_bytes",)
    return Section(
        title,
        (*columns, *parts),
        (
            Chart("bars", "layer", "latency_s", "phase"),
            Chart("area", "start_s", stack=stack),
            Chart("scatter", "flops", "latency_s", "kernel", log=True),
        ),
        shown=_OPS_SHOWN,
        sort="-latency_s",
    )


def table_page(path: str, rows: Sequence[Mapping[str, str]]) -> Page:
    """Return the page of a CSV table: of ops, of measured and predicted values, or of anything with two numbers."""
    columns = typed(rows)
    names = [found.name for found in columns]
    if is_ops(names):
        return Page(f"Ops of {path}", (ops_section(columns),))
    numeric = [found for found in columns if found.kind == "number" and any(v is not None for v in found.values)]
    if {"measured", "predicted"} <= {found.name for found in numeric}:
        quantities = dict.fromkeys(row.get("quantity", "") for row in rows)
        parts = [(name, [row for row in rows if row.get("quantity", "") == name]) for name in quantities]
        title = f"Predicted against measured: {path}"
        return Page(title, tuple(_measured(name or "Pairs", typed(own)) for name, own in parts))
    if len(numeric) < 2:
        raise TrainwattError(f"{path!r} has {len(numeric)} columns of numbers; a page of a table takes two or more")
    colour = next((found.name for found in columns if found.kind == "text"), "")
    chart = Chart("scatter", numeric[0].name, numeric[1].name, colour)
    return Page(f"Table {path}", (Section("Rows", columns, (chart,)),))


def _measured(title: str, columns: tuple[Column, ...]) -> Section:
    values = {found.name: found.values for found in columns}
    errors = [
        p / m - 1 if p is not None and m else None for p, m in zip(values["predicted"], values["measured"], strict=True)
    ]
    if "error" not in values:
        columns = (*columns, column("error", errors))
    known = [abs(error) for error in errors if error is not None]
    notes: tuple[str, ...] = ()
    if known:
        inside, mean = sum(error <= 0.1 for error in known), sum(known) / len(known)
        notes = (f"Mean |predicted / measured - 1| is {mean:.1%}; {inside} of {len(known)} are within 10 %.",)
    colour = next((name for name in GROUPS if name in values), "")
    return Section(
        title, columns, (Chart("scatter", "measured", "predicted", colour, log=True),), notes=notes, diagonal=True
    )


def diff_page(document: Mapping[str, Any]) -> Page:
    """Return the page of a document of `trainwatt diff --json`."""
    before, after = document["before"], document["after"]
    facts = [("network", str(before["network"])), ("technique", str(after["technique"] or "none"))]
    facts += [("device", str(document["device"] or "none"))]
    facts += [(name, str(count)) for name, count in document["counts"].items()]
    layers = columns_of([_flat(layer) for layer in document["layers"]])
    ops = columns_of([_op(op) for op in document["ops"]])
    quantity = next(name for name in ("latency_s", "macs") if name in document["total"])
    return Page(
        f"What {after['technique'] or 'the second graph'} changes",
        (
            Section("Layers", layers, (Chart("bars", "layer", f"baseline_{quantity}"),) if layers else ()),
            Section("Ops", ops, (Chart("bars", "layer", f"after_{quantity}", "change"),) if ops else ()),
        ),
        tuple(facts),
    )


def _flat(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes of a layer as one row: `baseline_latency_s`, `result_latency_s`."""
    row: dict[str, Any] = {}
    for name, value in layer.items():
        if isinstance(value, Mapping):
            row |= {f"{side}_{name}": value[side] for side in ("baseline", "result")}
        else:
            row[name] = value
    return row


def _op(op: Mapping[str, Any]) -> dict[str, Any]:
    """Return an op before and after as one row."""
    sides = {side: op[side] or {} for side in ("before", "after")}
    either = sides["after"] or sides["before"]
    row: dict[str, Any] = {
        "change": op["change"],
        **{name: either[name] for name in ("name", "kind", "layer", "phase")},
    }
    for side, found in sides.items():
        for name, value in found.items():
            if name not in row:
                row[f"{side}_{name}"] = value
    return row
