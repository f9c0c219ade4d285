"""Which product a row is, and how wide its operands are: what the work says beside loops and bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hwmodels.fpga.operators import Operator
from simulator.graph import ITEM_BYTES
from simulator.work import Floats, Work


@dataclass(frozen=True)
class Operands:
    """Widths of the rows' operands on an engine, shape (rows,) each.

    `first_bytes`, `second_bytes`, `out_bytes`: of one word to or from memory. `traffic_scale`: bytes of the engine's
    words over those of the graph's dtype. `rate`: MACs of one unit a clock, of operands this wide.
    """

    first_bytes: Floats
    second_bytes: Floats
    out_bytes: Floats
    traffic_scale: Floats
    rate: Floats


def operands(work: Work, operator: Operator, arithmetic: str) -> Operands:
    """Return the widths of the operands of every row.

    A float wider than the engine's word is a word of the engine. Parallel units pack MACs whose operands are both
    narrow enough (`Operator.packing`), and take whole numbers wider than their word in several passes. Bit-serial
    units of w bits take a MAC of a x b bits, of which the d x e leading ones are done, in (a*b - d*e) / w^2 clocks.
    """
    word = operator.bits / 8
    item = np.array([ITEM_BYTES.get(name, 4) for name in work.dtypes], dtype=np.float64)
    floating = np.array(["float" in name for name in work.dtypes], dtype=bool)
    own = np.where(floating, np.minimum(item, word), item)[work.dtype]
    bits = work.bits
    given = bits[:, :2] > 0
    annotated = np.where(given, np.ceil(bits[:, :2] / 8), own[:, None])
    widths = np.where(given, bits[:, :2], (own * 8)[:, None])
    return Operands(
        first_bytes=annotated[:, 0],
        second_bytes=annotated[:, 1],
        out_bytes=own,
        traffic_scale=own / item[work.dtype] if len(work.dtypes) else own,
        rate=_rate(widths, bits[:, 2:], operator, arithmetic),
    )


def _rate(widths: Any, done: Any, operator: Operator, arithmetic: str) -> Floats:
    if arithmetic == "bit-serial":
        a, b = np.minimum(widths, operator.bits).T
        d, e = np.minimum(done, widths).T
        serial: Floats = operator.bits**2 / np.maximum(a * b - np.minimum(d * e, a * b - 1), 1.0)
        return serial
    rate: Floats = 1.0 / np.ceil(widths / operator.bits).prod(axis=1)
    for width, macs in sorted(operator.packing.items(), reverse=True):
        rate[widths.max(axis=1, initial=0) <= width] = macs.value
    return rate
