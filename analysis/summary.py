"""A report as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from math import isfinite

from analysis.table import pairs, percent, shortened, table
from simulator.graph import Graph
from simulator.memory import Holder
from simulator.report import Report, parameters
from simulator.spread import over
from simulator.totals import Change, Totals
from simulator.units import show

_HEAD = ("latency", "share", "energy", "MACs", "FLOPs", "traffic")


def layer_name(layer: str) -> str:
    """Return what to call a layer; ops outside any module have none."""
    return layer or "<no layer>"


def header(report: Report) -> str:
    """Return what was estimated: network, step, device."""
    graph = report.graph
    lines = [*step_lines(graph), ("device", device_line(report))]
    return pairs(lines)


def step_lines(graph: Graph) -> list[tuple[str, str]]:
    """Return what the step is, as names and values."""
    meta = graph.meta
    count = parameters(graph)
    trained = meta.get("trained_parameters", count)
    size = f"{count:,} parameters" + (f", {trained:,} trained" if trained != count else "")
    if shape := meta.get("input_shape"):
        size += ", input " + "x".join(map(str, shape))
    step = [f"batch {graph.sizes.get('batch', '?')}"]
    if meta.get("accumulate", 1) != 1:
        step.append(f"{meta['accumulate']} micro-batches")
    step.extend(str(meta[key]) for key in ("optimizer", "loss", "precision") if meta.get(key))
    if meta.get("train", "all") != "all":
        step.append(f"trains {meta['train']}")
    if meta.get("batch_norm", "train") != "train":
        step.append(f"batch norm in {meta['batch_norm']} mode")
    step.extend(word for key, word in (("channels_last", "channels last"), ("foreach", "foreach")) if meta.get(key))
    lines = [("network", f"{meta.get('network', '<unnamed>')} ({size})"), ("step", ", ".join(step))]
    if meta.get("applied"):
        lines.append(("technique", str(meta["applied"])))
    return lines


def device_line(report: Report) -> str:
    """Return the device, its mode and its memory."""
    mode = f", mode {report.mode}" if report.mode else ""
    return f"{report.device}{mode}, {show(report.memory_bytes, 'byte')} for training"


def summary(report: Report, *, top: int, verbose: bool) -> str:
    """Return a report with its `top` slowest layers; `verbose` spells out the assumptions."""
    parts = [
        header(report),
        "cost by phase\n" + _split(report.phases, report.total),
        trust(report),
        "bound by      " + (", ".join(f"{k} {percent(v)}" for k, v in _largest(report.bounds)) or "nothing"),
        _layers(report, top),
        _kernels(report),
        energy(report),
        memory(report),
        spread(report),
    ]
    if report.baseline:
        parts.append(savings(report))
    parts.append(assumptions(report, verbose))
    return "\n\n".join(part for part in parts if part)


def trust(report: Report) -> str:
    """Return how far the time of a calibrated device is to be trusted; nothing of others."""
    lines = []
    if report.interval_s is not None:
        low, high, coverage = report.interval_s
        lines.append(f"interval      {show(low, 's')} to {show(high, 's')} ({coverage:.0%} of held-out measurements)")
    if report.extrapolated:
        worst = ", ".join(f"{why} ({percent(share)})" for why, share in list(report.extrapolated.items())[:3])
        whole = percent(sum(report.extrapolated.values()))
        lines.append(f"extrapolated  {whole} of the time is in ops outside of what was measured: {worst}")
    return "\n".join(lines)


def energy(report: Report) -> str:
    """Return what the energy covers, and its parts where the device tells them apart."""
    scope = str(report.hardware.card.get("energy_scope", "not said"))
    lines = [f"energy of {scope}"]
    whole = report.total.energy_j
    rows = [
        (name, show(joules, "J"), percent(joules / whole if whole else 0.0)) for name, joules in report.rails.items()
    ]
    return "\n".join([*lines, table(rows)]) if rows else lines[0]


def totals_side_by_side(reports: Sequence[Report]) -> str:
    """Return one column of totals for each device."""
    rows = [("", *(r.device + (f" {r.mode}" if r.mode else "") for r in reports))]
    rows.append(("latency", *(show(r.total.latency_s, "s") for r in reports)))
    if any(r.interval_s for r in reports):
        rows.append(("  interval", *(_interval(r) for r in reports)))
        rows.append(("  extrapolated", *(percent(sum(r.extrapolated.values())) for r in reports)))
    rows.append(("energy", *(joules(r.total.energy_j) for r in reports)))
    for phase in reports[0].phases:
        rows.append((f"  {phase}", *(show(r.phases[phase].latency_s, "s") for r in reports)))
    rows.append(("MACs", *(show(r.total.macs, "MAC") for r in reports)))
    rows.append(("traffic", *(show(r.total.traffic_bytes, "byte") for r in reports)))
    rows.append(("peak memory", *(show(r.memory.peak_bytes, "byte") for r in reports)))
    rows.append(("fits", *("yes" if r.fits else "no" for r in reports)))
    rows.append(("bound by", *((_largest(r.bounds) or [("nothing", 0.0)])[0][0] for r in reports)))
    return "\n".join([pairs(step_lines(reports[0].graph)), "", "devices", table(rows)])


def _interval(report: Report) -> str:
    if report.interval_s is None:
        return "-"
    low, high, _ = report.interval_s
    return f"{show(low, 's')} to {show(high, 's')}"


def joules(value: float) -> str:
    """Return an energy as text; a device may not know its own."""
    return show(value, "J") if isfinite(value) else "unknown"


def _largest(shares: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(shares.items(), key=lambda item: -item[1])


def _cells(totals: Totals, whole: Totals) -> tuple[str, ...]:
    return (
        show(totals.latency_s, "s"),
        percent(totals.latency_s / whole.latency_s if whole.latency_s else None),
        joules(totals.energy_j),
        show(totals.macs, "MAC"),
        show(totals.flops, "FLOP"),
        show(totals.traffic_bytes, "byte"),
    )


def _split(parts: Mapping[str, Totals], whole: Totals) -> str:
    rows: list[tuple[str, ...]] = [("", *_HEAD)]
    rows.extend((name, *_cells(totals, whole)) for name, totals in parts.items())
    rows.append(("total", *_cells(whole, whole)))
    return table(rows)


def _layers(report: Report, top: int) -> str:
    shown = list(report.layers.items())[:top]
    if not shown:
        return ""
    rows: list[tuple[str, ...]] = [("", *_HEAD, "bound by")]
    rows.extend(
        (shortened(layer_name(name)), *_cells(totals, report.total), report.layer_bounds[name])
        for name, totals in shown
    )
    rest = len(report.layers) - len(shown)
    if rest:
        others = sum((totals for _, totals in list(report.layers.items())[top:]), Totals())
        rows.append((f"{rest} others", *_cells(others, report.total), ""))
    return "slowest layers\n" + table(rows)


def _kernels(report: Report) -> str:
    shown = [(name, totals) for name, totals in report.kernels.items() if totals.latency_s > 0]
    if not shown:
        return ""
    rows = [("", *_HEAD), *((name, *_cells(totals, report.total)) for name, totals in shown)]
    return "by kernel class\n" + table(rows)


def memory(report: Report) -> str:
    """Return the peak: where it is, what holds it, whether it fits."""
    held, graph = report.memory, report.graph
    where = ""
    if held.peak_op >= 0:
        op = graph.ops[held.peak_op]
        where = f", at op {held.peak_op} ({op.kind}) of {layer_name(op.layer)} in {op.phase}"
    if report.fits:
        fit = f"fits, {show(report.spare_bytes, 'byte')} to spare"
    else:
        fit = f"does NOT fit, {show(-report.spare_bytes, 'byte')} too much"
    roles = [*_largest(held.by_role)]
    if held.workspace_bytes:
        roles.append(("kernel workspace", held.workspace_bytes))
    rows = [(role, show(size, "byte"), percent(size / held.peak_bytes)) for role, size in roles]
    lines = [f"peak memory {show(held.peak_bytes, 'byte')}{where}"]
    if report.reserved is not None:
        lines.append(f"  reserved by the caching allocator {show(report.reserved.reserved_bytes, 'byte')}")
    lines.append(f"  {fit}")
    if rows:
        lines += ["  held by", table([("", "", ""), *rows], indent=4).lstrip("\n")]
    if held.holders:
        largest = [(show(holder.size_bytes, "byte"), holder.role, _maker(holder)) for holder in held.holders]
        lines += ["  largest", table([("", "", ""), *largest], left=3, indent=4).lstrip("\n")]
    return "\n".join(lines)


def spread(report: Report) -> str:
    """Return how latency and energy vary from one mini-batch to the next, where that is left to chance."""
    if not report.stochastic:
        return ""
    rows: list[tuple[str, ...]] = [("", "expected", "executed", "mean", "std dev", "5 %", "50 %", "95 %")]
    for name, quantity, write in (("latency", "latency_s", lambda x: show(x, "s")), ("energy", "energy_j", joules)):
        varied = over([(getattr(report.step_cost, quantity), 1)])
        numbers = [getattr(report.total, quantity), getattr(report.executed, quantity), *astuple(varied)]
        rows.append((name, *map(write, numbers)))
    return "per presented mini-batch; executed: one in which every op runs that can\n" + table(rows)


def _maker(holder: Holder) -> str:
    if holder.name:
        return holder.name
    return f"made by op {holder.op} ({holder.op_kind}) of {layer_name(holder.layer)}"


def savings(report: Report) -> str:
    """Return baseline, result and change of each phase."""
    saved = report.savings
    if saved is None:
        return ""
    quantities = (("latency", "latency_s", "s"), ("energy", "energy_j", "J"), ("MACs", "macs", "MAC"))
    phases = (*saved.phases.items(), ("total", saved.total))
    parts = ["baseline (without techniques), with them, and the change"]
    rows: list[tuple[str, ...]] = [("", *(cell for title, _, _ in quantities for cell in (title, "with", "change")))]
    for name, changes in phases:
        cells: list[str] = [name]
        for _, column, unit in quantities:
            change = changes[column]
            cells += [show(change.baseline, unit), show(change.result, unit), change_text(change)]
        rows.append(tuple(cells))
    parts.append(table(rows))
    traffic, peak = saved.total["traffic_bytes"], saved.peak_bytes
    for title, change in (("traffic", traffic), ("peak memory", peak)):
        parts.append(
            f"  {title} {show(change.baseline, 'byte')} -> {show(change.result, 'byte')}, {change_text(change)}"
        )
    return "\n".join(parts)


def change_text(change: Change) -> str:
    """Return a change as a signed percentage of the baseline."""
    if change.saved_fraction is None:
        return "-" if not change.result else "new"
    return f"{-100 * change.saved_fraction:+.1f} %" if change.saved else "0.0 %"


def assumptions(report: Report, verbose: bool) -> str:
    """Return the number of assumptions, or all of them."""
    listed = report.assumptions
    if not verbose:
        return f"{len(listed)} assumptions; --verbose lists them"
    return "\n".join([f"{len(listed)} assumptions", *(f"  - {text}" for text in listed)])
