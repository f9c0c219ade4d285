"""The 56 features of perf4sight: sums over a network's convolutions of what three ways to convolve need.

Per convolution of ic to oc channels in groups, e = ic / groups, k x k taps, inputs of ip x ip, results of op x op and
bs images (of other shapes, k^2 and the like are areas and ip, op their square roots); x is the gradient of the input, w
that of the weights:

    tensors     oc*e*k^2   bs*oc*e*k^2   2*bs*ic*ip^2   2*bs*oc*op^2   their sum
    im2col      indices bs*op^2, x bs*ip^2; forward bs*op^2*k^2*ic, x bs*ip^2*k^2*ic, w bs*op^2*k^2*e; totals
    products    forward bs*oc*op^2*k^2*e, x bs*ic*ip^2*k^2*oc; twice the first and the second
    FFT         transformed operands and multiplications, of tiles of ip and op
    Winograd    of m = 4 and 3 results a tile and filters of r = 3 and 2, t = (m + r - 1)^2: operands, multiplications

The gradient of the input and FFT do not know of groups, as published. Everything but convolutions is left out.
[Rajagopal and Bouganis, "perf4sight: A toolflow to model CNN training performance on Edge GPUs", ICCVW 2021]
"""

from __future__ import annotations

import numpy as np

from simulator.graph import ITEM_BYTES
from simulator.work import KERNELS, PARTS, Floats, Work

_CONVOLUTIONS = (KERNELS.index("convolution"), KERNELS.index("depthwise"))
_FORWARD = (PARTS.index(""), PARTS.index("forward"))
_WINOGRAD = ((4, 3), (3, 2))


def summed_features(work: Work) -> Floats:
    """Return the features of a step at each of its points, shape (points, 56); `work` has columns (rows, points)."""
    rows = np.flatnonzero(np.isin(work.kernel, _CONVOLUTIONS) & np.isin(work.part, _FORWARD))
    times = np.bincount(work.row_of_op, weights=work.runs, minlength=len(work.kernel))[rows]
    nest = {name: column[rows] for name, column in work.nest.items()}
    item = np.array([ITEM_BYTES.get(d, 4) for d in work.dtypes], dtype=np.float64)[work.dtype[rows], None]
    bs, e, taps = nest["n"], nest["c"], nest["r"] * nest["s"]
    ic, oc = nest["g"] * nest["c"], nest["g"] * nest["k"]
    bias = oc * (work.flops[rows] > 2.0 * work.macs[rows])
    ip2 = (work.read_bytes[rows] / item - oc * e * taps - bias) / (bs * ic)
    op2 = nest["p"] * nest["q"]
    k, ip, op = np.sqrt(taps), np.sqrt(ip2), np.sqrt(op2)

    tensors = [oc * e * taps, bs * oc * e * taps, 2 * bs * ic * ip2, 2 * bs * oc * op2]
    index, index_x = bs * op2, bs * ip2
    unrolled = [bs * op2 * taps * ic, bs * ip2 * taps * ic, bs * op2 * taps * e]
    product, product_x = bs * oc * op2 * taps * e, bs * ic * ip2 * taps * oc
    found = [*tensors, sum(tensors), index, unrolled[0], index_x, *unrolled[1:], sum(unrolled), 2 * index + index_x]
    found += [product, product_x, 2 * product + product_x]
    found += _fft(bs, ic, oc, e, ip, op)
    for m, r in _WINOGRAD:
        t = float((m + r - 1) ** 2)
        over_i, over_o, over_k = (np.ceil(side / by) ** 2 for side, by in ((ip, m), (op, m), (k, r)))
        found += _sums(3 * bs * oc * t * over_i, 3 * bs * ic * t * over_o, 3 * bs * oc * e * t * over_i)
        forward, grad_x = bs * oc * e * over_i * over_k * t, bs * ic * oc * over_o * over_k * t
        found += _sums(forward, grad_x, bs * oc * e * over_i * np.ceil(op / r) ** 2 * t)
    return np.stack([times @ column for column in found], axis=1)


def _fft(bs: Floats, ic: Floats, oc: Floats, e: Floats, ip: Floats, op: Floats) -> list[Floats]:
    """Return the nine sizes of transformed operands and the four numbers of multiplications."""
    filters, images, results = (ip * (1 + ip) * operand for operand in (oc * e, bs * ic, bs * oc))
    filters_x, results_x = op * (1 + op) * oc * e, op * (1 + op) * bs * oc
    sizes = [filters, images, results, filters_x, results_x]
    totals = [filters + images, filters_x + results_x, images + results]
    transforms = bs * ic + bs * oc + oc * e
    log_i, log_o = np.log2(np.maximum(ip, 1.0)), np.log2(np.maximum(op, 1.0))
    forward = ip**2 * log_i * transforms + bs * oc * ic * ip**2
    grad_x = op**2 * log_o * transforms + bs * oc * ic * op**2
    weight = 2 * ip * log_i * transforms + bs * oc * ic * ip**2
    return [*sizes, *totals, sum(totals, np.zeros_like(bs)), forward, grad_x, weight, forward + grad_x + weight]


def _sums(forward: Floats, grad_x: Floats, weight: Floats) -> list[Floats]:
    """Return three columns, the sums of each two of them and of all."""
    return [forward, grad_x, weight, forward + grad_x, forward + weight, grad_x + weight, forward + grad_x + weight]
