"""One chunk of points as an Arrow table: inputs, prices, savings, and whether each point is feasible, or why not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]

from analysis.explore.accuracy import joined
from analysis.explore.boards import RESOURCES, boards
from analysis.explore.pricing import Prices
from analysis.explore.space import OPTIONS, Space
from simulator.work import Floats

TEXTS = ("network", *OPTIONS, "technique", "device", "mode", "design")
INTEGERS = ("batch", "peak_bytes", "needed_bytes", "samples", "epoch_steps", "run_steps")
SAVED = ("latency_s", "energy_j", "peak_bytes", "macs", "flops", "traffic_bytes")
NUMBERS = (
    "batch",
    "latency_s",
    "energy_j",
    "peak_bytes",
    "needed_bytes",
    "memory_bytes",
    "macs",
    "flops",
    "traffic_bytes",
    "samples",
    "epoch_steps",
    "epoch_latency_s",
    "epoch_energy_j",
    "run_steps",
    "run_latency_s",
    "run_energy_j",
    *RESOURCES,
    *(f"{name}_saved" for name in SAVED),
    "epoch_latency_s_saved",
    "epoch_energy_j_saved",
)
"""The numeric columns, which objectives may name. `X_saved` is the fraction of the baseline's X that is saved."""

_TEXT = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        ("point", pa.int64()),
        *((name, _TEXT) for name in TEXTS),
        *((name, pa.int64() if name in INTEGERS else pa.float64()) for name in NUMBERS),
        ("fits", pa.bool_()),
        ("feasible", pa.bool_()),
        ("reason", _TEXT),
    ]
)


def schema(space: Space) -> pa.Schema:
    """Return the columns of a space's points, the user's own among them."""
    return pa.schema([*SCHEMA, *((name, pa.float64()) for name in (space.known.columns if space.known else ()))])


def chunk_table(
    space: Space,
    number: int,
    texts: dict[str, str],
    memory_bytes: Floats,
    prices: Prices,
    baseline: Prices,
) -> pa.Table:
    """Return chunk `number`: `texts` are its network, options and technique, `memory_bytes` that of each device."""
    fields = schema(space)
    columns, before = _completed(prices, space.epochs), _completed(baseline, space.epochs)
    board = boards(space.devices)
    columns |= {"batch": np.array(space.batches), "memory_bytes": memory_bytes[:, None]}
    columns |= {name: board.resources[:, k : k + 1] for k, name in enumerate(RESOURCES)}
    with np.errstate(divide="ignore", invalid="ignore"):
        for name in (*SAVED, "epoch_latency_s", "epoch_energy_j"):
            # Nothing saved of nothing is no number, as where there is no baseline.
            saved = 1.0 - columns[name] / before[name]
            columns[f"{name}_saved"] = np.where(before[name] > 0, saved, np.nan)
    of_device = {
        "device": [d.name for d in space.devices],
        "mode": [d.mode for d in space.devices],
        "design": [d.design_text for d in space.devices],
    }
    if space.known:
        columns |= joined(space.known, texts, of_device, np.array(space.batches))
    shape = (len(space.devices), len(space.batches))
    flat = {name: np.broadcast_to(column, shape).reshape(-1) for name, column in columns.items()}
    exists = np.broadcast_to(np.array([not r for r in prices.reasons]), shape).reshape(-1)
    fits = exists & ~(flat["needed_bytes"] > flat["memory_bytes"])
    device = np.repeat(np.arange(shape[0]), shape[1])
    lacks = exists & np.array([bool(text) for text in board.lacking])[device]
    reason = _reasons(space, flat, fits, exists, prices.reasons)
    if lacks.any():
        reason = reason.also(board.lacking, np.where(lacks, device, -1))
    count = len(fits)
    arrays: dict[str, Any] = {
        "point": np.arange(count) + number * count,
        **{name: _constant(text, count) for name, text in texts.items()},
        **{name: _coded(names, device) for name, names in of_device.items()},
        "fits": pa.array(fits, mask=~exists),
        "feasible": pa.array(reason.codes == 0),
        "reason": _coded(reason.names, reason.codes),
    }
    for field in fields:
        name = field.name
        if name in arrays:
            continue
        unknown = np.isnan(flat[name])
        whole = np.where(unknown, 0, flat[name]).astype(np.int64) if name in INTEGERS else flat[name]
        arrays[name] = pa.array(whole, mask=unknown)
    return pa.table([arrays[name] for name in fields.names], schema=fields)


def _completed(prices: Prices, epochs: int | None) -> dict[str, Floats]:
    """Return the columns with those of an epoch and of a run: of a step, times the steps that each presents."""
    columns = dict(prices.columns)
    # As `simulator.run.presented`: what all epochs schedule is stretched together, and rounded once.
    passes = np.nan if epochs is None else float(epochs)
    columns["run_steps"] = np.maximum(np.rint(columns["scheduled_steps"] * passes * columns["stretch"]), 1.0)
    for begin in ("epoch", "run"):
        columns |= {f"{begin}_{name}": columns[name] * columns[f"{begin}_steps"] for name in ("latency_s", "energy_j")}
    return columns


class _Reasons:
    """Names of reasons, the empty one first, and a code for each point."""

    def __init__(self, names: list[str], codes: npt.NDArray[np.int64]) -> None:
        self.names, self.codes = names, codes

    def also(self, texts: Sequence[str], place: npt.NDArray[np.int64]) -> _Reasons:
        """Return the reasons with one more at each point: the text at `place`, shape (points,); none where it is -1."""
        pairs, codes = np.unique(np.stack([self.codes, place]), axis=1, return_inverse=True)
        more = [self.names[a] if b < 0 else "; ".join(filter(None, (self.names[a], texts[b]))) for a, b in pairs.T]
        names = list(dict.fromkeys(["", *more]))
        return _Reasons(names, np.array([names.index(text) for text in more])[codes.reshape(-1)])


def _reasons(
    space: Space,
    flat: dict[str, Floats],
    fits: npt.NDArray[np.bool_],
    exists: npt.NDArray[np.bool_],
    refused: Sequence[str],
) -> _Reasons:
    """Say why a point is infeasible: there is no such step, it does not fit, it is above a limit, or several."""
    checks = [("does not fit", exists & ~fits)] if space.must_fit else []
    checks += [(f"{name} above {limit:g}", exists & (flat[name] > limit)) for name, limit in space.limits]
    bits = sum((failed.astype(np.int64) << k for k, (_, failed) in enumerate(checks)), np.zeros(len(fits), np.int64))
    sets, codes = np.unique(np.concatenate([[0], bits]), return_inverse=True)
    names = ["; ".join(text for k, (text, _) in enumerate(checks) if int(s) >> k & 1) for s in sets]
    codes = codes.reshape(-1)[1:]
    if any(refused):
        said = list(dict.fromkeys(r for r in refused if r))
        of_batch = np.array([len(names) + said.index(r) if r else 0 for r in refused])
        codes = np.where(exists, codes, np.resize(of_batch, len(codes)))
        names += [f"refused: {text}" for text in said]
    return _Reasons(names, codes)


def _constant(text: str, count: int) -> Any:
    return _coded([text], np.zeros(count, dtype=np.int32))


def _coded(names: Sequence[str], codes: Any) -> Any:
    """Return a column of texts by code; a text that stands in the list twice is one."""
    distinct = list(dict.fromkeys(names))
    place = np.array([distinct.index(name) for name in names], dtype=np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(place[codes], pa.int32()), pa.array(distinct, pa.string()))
