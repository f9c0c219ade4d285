"""Every op of multiply-accumulates as matrix products: `count` products of (m x k) by (k x n).

With the loops of `simulator.work.Nest`, b bytes an element, and P positions:

    part      tiled loops of the convolution                  columns and a product, image by image
    forward   n g of m = p q, n = k, k = c r s                the same
    input     n g of m = p q sh sw, n = c, k = k r s/(sh sw)  n g of m = p q, n = c r s, k = k, then summed into place
    weight    g of m = k, n = c r s, k = n p q                n g of m = k, n = c r s, k = p q

A filter of one tap and stride 1 needs no columns: its input is the matrix. Columns are n g c r s p q elements, written
once and read once. Matrix products, attention and recurrent cells are n products of (p x c) by (c x k).

Winograd's F(4x4, 3x3) computes 16 outputs of a 3x3 filter in 36 multiplications instead of 144: 36 products of
m = n ceil(p/4) ceil(q/4), n = k, k = c (forward; c and k change places in grad-input). Its transforms cost 156 FLOPs
for a tile of an input channel, 90 for a tile of an output channel, 72 for each of the k c filters. [Lavin and Gray,
"Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.3]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hwmodels.cpu.library import Library
from simulator.work import PARTS, Floats, Ints

_INPUT, _WEIGHT = PARTS.index("input"), PARTS.index("weight")
_TILE = 4
_POINTS = 36
_TRANSFORM_FLOPS = (156.0, 90.0, 72.0)


@dataclass(frozen=True)
class Products:
    """Columns: `count` products of (m x k) by (k x n); `grains` independent pieces beyond their tiles.

    `column_elements` are laid out in memory, `image_elements` of them at a time. `reuse` is how often a piece of the
    left matrix is the same memory: the taps of a convolution whose columns are not laid out.
    """

    count: Floats
    m: Floats
    n: Floats
    k: Floats
    column_elements: Floats
    image_elements: Floats
    reuse: Floats
    grains: Floats

    @property
    def macs(self) -> Floats:
        """Multiply-accumulates of all products."""
        return self.count * self.m * self.n * self.k


def products(nest: Mapping[str, Floats], part: Ints, convolution: Ints, library: Library) -> Products:
    """Return the products of the rows of `nest`; `convolution` is true where the row is one, shape as `part`."""
    n, g, k, c, p, q = (nest[name] for name in ("n", "g", "k", "c", "p", "q"))
    taps, strides = nest["r"] * nest["s"], nest["stride_h"] * nest["stride_w"]
    is_input, is_weight = part == _INPUT, part == _WEIGHT
    laid_out = convolution & (taps * strides > 1.0) & library.columns
    columns = np.where(laid_out, n * g * c * taps * p * q, 0.0)
    images = np.maximum(n, 1.0)
    one = np.ones_like(n)

    count = np.where(convolution, n * g, n)
    m, columns_of, depth = np.where(convolution, p * q, p), k, np.where(convolution, c * taps, c)
    if library.columns:
        m = np.where(is_weight, k, m)
        columns_of = np.where(is_input | is_weight, c * taps, columns_of)
        depth = np.where(is_input, k, np.where(is_weight, p * q, depth))
    else:
        count = np.where(is_weight, g, count)
        m = np.where(is_input, p * q * strides, np.where(is_weight, k, m))
        columns_of = np.where(is_input, c, np.where(is_weight, c * taps, columns_of))
        depth = np.where(is_input, k * taps / strides, np.where(is_weight, n * p * q, depth))
    overlapping = convolution & ~laid_out
    return Products(
        count=count,
        m=m,
        n=columns_of,
        k=depth,
        column_elements=columns,
        image_elements=columns / images,
        reuse=np.where(overlapping, np.maximum(taps / strides, 1.0), one),
        grains=np.where(is_weight & (count < n * g), images, one),
    )


def winograd_applies(nest: Mapping[str, Floats], part: Ints, convolution: Ints) -> Ints:
    """Return where Winograd's algorithm can be used, as booleans."""
    same = nest["stride_h"] * nest["stride_w"] * nest["dilation_h"] * nest["dilation_w"] == 1.0
    return convolution & same & (nest["r"] == 3.0) & (nest["s"] == 3.0) & (part != _WEIGHT)  # type: ignore[no-any-return]


def winograd_products(nest: Mapping[str, Floats], part: Ints) -> tuple[Products, Floats]:
    """Return the products of Winograd's algorithm and the FLOPs of its transforms."""
    swap = part == _INPUT
    inputs = np.where(swap, nest["k"], nest["c"])
    outputs = np.where(swap, nest["c"], nest["k"])
    tiles = nest["n"] * np.ceil(nest["p"] / _TILE) * np.ceil(nest["q"] / _TILE)
    groups, one = nest["g"], np.ones_like(tiles)
    data, inverse, filters = _TRANSFORM_FLOPS
    flops = groups * (tiles * (data * inputs + inverse * outputs) + filters * inputs * outputs)
    transformed = _POINTS * groups * tiles * (inputs + outputs) / 2.0  # both are written once and read once
    made = Products(
        count=_POINTS * groups,
        m=tiles,
        n=outputs,
        k=inputs,
        column_elements=transformed,
        image_elements=transformed,
        reuse=one,
        grains=one,
    )
    return made, flops
