"""Bit widths of operands, as annotations of ops that device models may price.

`Op.attrs["bits"]` of a convolution or matrix product is the pair (bits of its first operand, bits of its second); where
it is absent, operands have the width of their dtype. `Op.attrs["bits_done"]`, of the same form, says that the partial
products of so many leading bits of each operand exist already (bit-serial hardware) and need not be computed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from simulator.graph import Graph
from simulator.work import work_of

BITS, DONE = "bits", "bits_done"

Pair = tuple[int, int]


def with_bits(attrs: Mapping[str, Any], bits: Pair, done: Pair | None = None) -> Mapping[str, Any]:
    """Return the attributes of an op with its bit widths."""
    return MappingProxyType({**attrs, BITS: bits, **({} if done is None else {DONE: done})})


def bits_of(attrs: Mapping[str, Any]) -> Pair | None:
    """Return the bit widths of an op's operands, None where it has no annotation."""
    found = attrs.get(BITS)
    return None if found is None else (int(found[0]), int(found[1]))


def cost_factor(attrs: Mapping[str, Any], full: int = 32) -> float:
    """Return the cost of a MAC of an op relative to one of two operands of `full` bits.

        b1 b2 / full^2,  less  d1 d2 / full^2  for the leading bits d1, d2 that are done

    This is the convention of Fu et al., "FracTrain", NeurIPS 2020, arXiv:2012.13113. 1 for an op without annotation.
    """
    pair = bits_of(attrs)
    if pair is None:
        return 1.0
    done = attrs.get(DONE, (0, 0))
    return float(pair[0] * pair[1] - done[0] * done[1]) / full**2


def weighted_macs(graph: Graph, full: int = 32) -> float:
    """Return the MACs of a step with each weighted by its `cost_factor`, runs included."""
    work = work_of(graph)
    macs = work.macs[work.row_of_op]
    return float(sum(op.runs * m * cost_factor(op.attrs, full) for op, m in zip(graph.ops, macs, strict=True)))


def storage_dtype(bits: int) -> str:
    """Return the smallest signed integer dtype that holds numbers of `bits` bits."""
    return next((name for width, name in ((8, "int8"), (16, "int16")) if bits <= width), "int32")
