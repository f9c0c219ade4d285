"""What a correction goes by: what an op is, and its shape in octaves."""

from __future__ import annotations

import numpy as np

from simulator.rules import kinds
from simulator.work import KERNELS, PARTS, Floats, Work

SHAPE = (
    "operations",
    "traffic",
    "read per written",
    "images",
    "positions",
    "groups",
    "k",
    "c",
    "taps",
    "stride",
    "padding of k",
    "padding of c",
    "off chip",
    "channels last",
)
"""Features of an op's shape, each but the last two the base-2 logarithm of: MACs + FLOPs; bytes read and written; bytes
read over bytes written; images; output positions; groups; output and input channels of a group; r s; the stride.
Kernels compute channels in blocks of `BLOCK`: what they compute of k and c over what was asked counts `PADDING` times.
Then the share of the operands that have left all caches, times `OFF_CHIP`, less of small operands; and `LAST` where the
channels of images lie next to each other."""
BLOCK = 16.0
"""Channels that an AVX-512 register holds in fp32; tiles of GPUs and FPGAs are multiples of it."""
PADDING = 2.0
LAST = 6.0
"""So far apart are memory formats: other kernels run, but what shapes do to them is much alike."""
OFF_CHIP = 4.0
"""So many octaves are operands in a cache from those in memory, whose rates differ by a factor of four to sixteen."""


SMALL, LARGE = 14.0, 20.0
"""Where operands of 2^14 bytes are makes no difference beside launching the op; of 2^20 bytes it does."""


def shape_features(work: Work) -> Floats:
    """Return the shape of every row of `work` in octaves, shape (rows, len(SHAPE)) or (rows, points, len(SHAPE)).

    What a row does not have is 0: one iteration, no byte.
    """
    nest = work.nest
    k, c = (np.maximum(np.where(nest["g"] > 1, nest["g"], 1.0), nest[name]) for name in ("k", "c"))
    columns = (
        np.maximum(work.macs + work.flops, 1.0),
        np.maximum(work.traffic_bytes, 1.0),
        np.maximum(work.read_bytes, 1.0) / np.maximum(work.written_bytes, 1.0),
        nest["n"],
        nest["p"] * nest["q"],
        nest["g"],
        nest["k"],
        nest["c"],
        nest["r"] * nest["s"],
        nest["stride_h"],
        (np.ceil(k / BLOCK) * BLOCK / k) ** PADDING,
        (np.ceil(c / BLOCK) * BLOCK / c) ** PADDING,
    )
    filled = [np.log2(np.maximum(column, 2.0**-20)) for column in columns]
    away = np.maximum(work.off_chip, 0.0)
    large = np.clip((filled[1] - SMALL) / (LARGE - SMALL), 0.0, 1.0)
    last = LAST * work.channels_last
    by_row = (away, last) if work.macs.ndim == 1 else (away[:, None], last[:, None])
    filled += [OFF_CHIP * large * by_row[0], by_row[1]]
    return np.stack(np.broadcast_arrays(*filled), axis=-1)


def families(work: Work) -> tuple[str, ...]:
    """Return the family of every row: its kernel class, with the part of a convolution, as in `convolution.weight`."""
    names = [f"{kernel}.{part}" if part else kernel for kernel in KERNELS for part in PARTS]
    return tuple(names[code] for code in (work.kernel * len(PARTS) + work.part).tolist())


def classes(work: Work) -> tuple[str, ...]:
    """Return the class of every row: its kernel class with the kind of op, as in `elementwise.relu`; its family where
    the kind is not told."""
    names = list(kinds())
    known = zip(work.kernel.tolist(), work.kind.tolist(), families(work), strict=True)
    return tuple(f"{KERNELS[kernel]}.{names[kind]}" if kind >= 0 else family for kernel, kind, family in known)


def kernel_of(name: str) -> str:
    """Return the kernel class of a class or family."""
    return name.partition(".")[0]


def is_class(name: str) -> bool:
    """Tell whether there is such a kernel class, family or class."""
    kernel, _, of = name.partition(".")
    return kernel in KERNELS and (not of or of in PARTS or of in kinds())
