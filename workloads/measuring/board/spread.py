# ruff: noqa: UP006, UP035
"""Sizes spread evenly over what networks have: none that a network names, so that between them all is near one.

Halton's sequence (Halton 1960) in the logarithms of channels, side and batch, or of rows and columns: each new point
falls where none is yet.
"""

from typing import Iterator, List, Tuple

ConvolutionSizes = Tuple[int, int, int, int, int, int, int]
DENSE, DEPTHWISE, FIRST = 160, 64, 16
"""So many sizes of each convolution; the first ones of a network see the channels of an image."""
MATRICES = 48
COLOURS = 3
MOST_MACS = 4e8
MOST_ELEMENTS = 2_500_000
"""Of the images or the result: what is larger takes time and says little more."""
PRIMES = (2, 3, 5, 7, 11, 13)
FILTERS = (1, 1, 3, 3, 3, 5)
TAPS = (3, 3, 5, 7)
STRIDES = (1, 1, 1, 2)
FIRST_FILTERS, FIRST_STRIDES = (3, 5, 7), (1, 2)


def spread_convolutions() -> List[Tuple[ConvolutionSizes, int]]:
    """Return sizes (c, k, h, r, stride, groups, dilation) and a batch of each: dense ones, depthwise ones, and first
    ones."""
    dense: List[Tuple[ConvolutionSizes, int]] = []
    depthwise: List[Tuple[ConvolutionSizes, int]] = []
    first: List[Tuple[ConvolutionSizes, int]] = []
    for u in _halton():
        c, k, h = _between(u[0], 3.0, 9.5), _between(u[1], 3.0, 10.0), _between(u[2], 1.0, 6.8)
        r, stride = FILTERS[int(u[3] * len(FILTERS))], STRIDES[int(u[4] * len(STRIDES))]
        batch = 2 ** int(u[5] * 6)
        if len(dense) < DENSE and r <= 2 * h and _quick(c, k, h, r, stride, batch):
            dense.append(((c, k, h, r, stride, 1, 1), batch))
        wide, r = _between(u[0], 4.0, 10.2), TAPS[int(u[3] * len(TAPS))]
        if len(depthwise) < DEPTHWISE and r <= h and batch * h * h * wide <= MOST_ELEMENTS:
            depthwise.append(((wide, wide, h, r, stride, wide, 1), batch))
        k, h = _between(u[0], 3.0, 6.6), _between(u[2], 4.5, 7.8)
        r, stride = FIRST_FILTERS[int(u[3] * len(FIRST_FILTERS))], FIRST_STRIDES[int(u[4] * len(FIRST_STRIDES))]
        if len(first) < FIRST and _quick(COLOURS, k, h, r, stride, batch):
            first.append(((COLOURS, k, h, r, stride, 1, 1), batch))
        if len(dense) == DENSE and len(depthwise) == DEPTHWISE and len(first) == FIRST:
            return dense + depthwise + first
    raise AssertionError("Halton's sequence has no end")


def spread_products() -> List[Tuple[int, int, int]]:
    """Return sizes (m, n, k) of products (m x k) (k x n)."""
    found: List[Tuple[int, int, int]] = []
    for u in _halton():
        m, n, k = (_between(share, 0.0, 12.0) for share in u[:3])
        if max(m * n, m * k, n * k) <= MOST_ELEMENTS and m * n * k <= MOST_MACS:
            found.append((m, n, k))
        if len(found) == MATRICES:
            return found
    raise AssertionError("Halton's sequence has no end")


def _quick(c: int, k: int, h: int, r: int, stride: int, batch: int) -> bool:
    out = -(-h // stride)
    elements = batch * max(h * h * c, out * out * k)
    return elements <= MOST_ELEMENTS and batch * out * out * k * c * r * r <= MOST_MACS


def _halton() -> Iterator[List[float]]:
    """Yield points of the unit cube; the first ones, which lie on a diagonal, are left out."""
    place = 20
    while True:
        point = []
        for prime in PRIMES:
            digits, share, value = place, 1.0, 0.0
            while digits:
                share /= prime
                value += share * (digits % prime)
                digits //= prime
            point.append(value)
        yield point
        place += 1


def _between(share: float, least: float, largest: float) -> int:
    """Return 2 to the power between two exponents, to the nearest whole number; from 32 on a multiple of 8."""
    value = 2.0 ** (least + share * (largest - least))
    return round(value) if value < 32 else 8 * round(value / 8)
