"""Clocks of an op on the engine: tiles, pipelined compute, transfers.

The engine runs a product of M output channels, N input channels, R x C output positions and K taps (n images, g
groups). With `mt = ceil(M/tm)`, `nt = ceil(N/tn)`, `rt`, `ct` tiles of rows and columns, f groups packed side by side:

    compute = n * ceil(g/f) * mt * nt * (R*C*K + rt*ct*depth)           clocks          [Zhang et al., FPGA 2015]
    in      = n * g * mt * N * (s*R + rt*h) * (s*C + ct*h)              words
    weights = g * M*N*K,  times n*rt*ct where nt*K > weight_words       words
    out     = n * g * M * R*C                                           words

with stride s (at most K', the reach of the taps: what no tap meets is not loaded) and halo h = K' - s. grad-input is
the same product with M and N exchanged (EF-Train's unified kernel: transposed, rotated weights), R x C the larger
map, s -> 1/s, h = ceil(K'/s) - 1: each position takes only the taps that meet it. grad-weight adds the outer product
of tm errors and tn inputs each clock into the gradient tile at one tap; R x C are positions of the errors, which are
loaded nt times, the inputs mt times, and the gradient is stored once. A matrix product is one of 1 tap with its rows
as positions. [Tang et al., EF-Train, ACM TODAES 27(5), 2022]

Transfers share `streams`, and all of them the memory. Edge tiles run their own positions only. Arrays are
(rows,), (rows, points), or (designs, rows).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.work import PARTS, Floats, Work


@dataclass(frozen=True)
class Products:
    """Rows as the engine sees them. `m` outputs, `k` inputs a group; `scale`: MACs of a row over those of its nest."""

    n: Floats
    g: Floats
    m: Floats
    k: Floats
    rows: Floats
    columns: Floats
    positions: Floats
    taps: Floats
    stride_h: Floats
    stride_w: Floats
    halo_h: Floats
    halo_w: Floats
    is_weight: Any
    scale: Floats


@dataclass(frozen=True)
class Tiles:
    """How products fall into tiles, and what these cost: `compute` clocks, and words of each transfer."""

    mt: Any
    nt: Any
    tr: Any
    tc: Any
    rt: Any
    ct: Any
    together: Any
    stays: Any
    compute: Any
    words_in: Any
    words_weight: Any
    words_out: Any


def products(work: Work) -> Products:
    """Return the rows of `work` as products; a row without MACs is one of scale 0."""
    nest = {name: np.maximum(column, 1.0) for name, column in work.nest.items()}
    is_input, is_weight = (work.part == PARTS.index(name) for name in ("input", "weight"))
    if work.macs.ndim > 1:
        is_input, is_weight = is_input[:, None], is_weight[:, None]
    n, g, k, c, p, q, r, s = (nest[name] for name in "ngkcpqrs")
    sh, sw = nest["stride_h"], nest["stride_w"]
    reach_h, reach_w = nest["dilation_h"] * (r - 1) + 1, nest["dilation_w"] * (s - 1) + 1
    step_h, step_w = np.minimum(sh, reach_h), np.minimum(sw, reach_w)
    return Products(
        n=n,
        g=g,
        m=np.where(is_input, c, k),
        k=np.where(is_input, k, c),
        rows=np.where(is_input, p * sh, p),
        columns=np.where(is_input, q * sw, q),
        positions=p * q,
        taps=r * s,
        stride_h=np.where(is_input, 1 / sh, step_h),
        stride_w=np.where(is_input, 1 / sw, step_w),
        halo_h=np.where(is_input, np.ceil(reach_h / sh) - 1, reach_h - step_h),
        halo_w=np.where(is_input, np.ceil(reach_w / sw) - 1, reach_w - step_w),
        is_weight=is_weight,
        scale=work.macs / (n * g * k * c * p * q * r * s),
    )


def tiles(
    what: Products, *, tm: Any, tn: Any, tr: Any, tc: Any, input_words: Any, weight_words: Any, depth: Any
) -> Tiles:
    """Return tiles, clocks and words of products on designs; see this module for the equations."""
    mt, nt = np.ceil(what.m / tm), np.ceil(what.k / tn)
    together = np.maximum(np.minimum(np.floor(tm / what.m), np.floor(tn / what.k)), 1.0)
    together = np.minimum(together, what.g)

    # Columns first: all of them where a row of the tile fits both buffers; then as many rows as fit.
    reach_h = np.maximum(what.stride_h + what.halo_h, 1.0)
    widest = np.floor((input_words / reach_h - what.halo_w) / what.stride_w)
    wide = np.maximum(np.minimum(np.minimum(what.columns, tc), widest), 1.0)
    ct = np.ceil(what.columns / wide)
    in_columns = np.maximum(what.stride_w * wide + what.halo_w, 1.0)
    tallest = np.floor((input_words / in_columns - what.halo_h) / what.stride_h)
    tall = np.maximum(np.minimum(np.minimum(what.rows, np.floor(tr * tc / wide)), tallest), 1.0)
    rt = np.ceil(what.rows / tall)

    passes = what.n * np.ceil(what.g / together) * mt * nt
    compute = passes * (what.positions * what.taps + rt * ct * depth) * what.scale

    maps_in = np.maximum(what.stride_h * what.rows + rt * what.halo_h, 1.0)
    maps_in = maps_in * np.maximum(what.stride_w * what.columns + ct * what.halo_w, 1.0)
    images = what.n * what.g
    words_in = images * mt * what.k * maps_in
    weights = what.g * what.m * what.k * what.taps
    stays = nt * what.taps <= weight_words
    again = np.where(stays, 1.0, what.n * rt * ct)
    out = images * what.m * what.rows * what.columns
    errors = out * nt
    return Tiles(
        mt=mt,
        nt=nt,
        tr=tall,
        tc=wide,
        rt=rt,
        ct=ct,
        together=together,
        stays=stays,
        compute=compute,
        words_in=words_in * what.scale,
        words_weight=np.where(what.is_weight, errors, weights * again) * what.scale,
        words_out=np.where(what.is_weight, weights, out) * what.scale,
    )


def streamed(first: Any, second: Any, out: Any, streams: Any) -> Any:
    """Return the bytes of the busiest of 1 to 3 streams, given those of both inputs and of the output."""
    apart = np.maximum(np.maximum(first, second), out)
    in_and_out = np.maximum(first + second, out)
    return np.where(streams >= 3, apart, np.where(streams >= 2, in_and_out, first + second + out))
