"""What a correction goes by: the class of an op, and its shape in octaves."""

from __future__ import annotations

import numpy as np

from simulator.work import KERNELS, PARTS, Floats, Work

SHAPE = ("operations", "traffic", "read per written", "rows", "k", "c", "taps", "stride")
"""Features of an op's shape, each the base-2 logarithm of: MACs + FLOPs; bytes read and written; bytes read over
bytes written; n p q (images times output positions, or rows of a product); output and input channels of a group;
r s; the stride."""


def shape_features(work: Work) -> Floats:
    """Return the shape of every row of `work` in octaves, shape (rows, len(SHAPE)) or (rows, points, len(SHAPE)).

    What a row does not have is 0: one iteration, no byte.
    """
    nest = work.nest
    columns = (
        work.macs + work.flops,
        work.traffic_bytes,
        np.maximum(work.read_bytes, 1.0) / np.maximum(work.written_bytes, 1.0),
        nest["n"] * nest["p"] * nest["q"],
        nest["k"],
        nest["c"],
        nest["r"] * nest["s"],
        nest["stride_h"],
    )
    floor = (1.0, 1.0, 2.0**-20, 1.0, 1.0, 1.0, 1.0, 1.0)
    filled = [np.log2(np.maximum(c, least)) for c, least in zip(columns, floor, strict=True)]
    return np.stack(np.broadcast_arrays(*filled), axis=-1)


def classes(work: Work) -> tuple[str, ...]:
    """Return the class of every row: its kernel class, with the part of a convolution, as in `convolution.weight`."""
    names = [f"{kernel}.{part}" if part else kernel for kernel in KERNELS for part in PARTS]
    return tuple(names[code] for code in (work.kernel * len(PARTS) + work.part).tolist())


def kernel_of(name: str) -> str:
    """Return the kernel class of a class."""
    return name.partition(".")[0]
