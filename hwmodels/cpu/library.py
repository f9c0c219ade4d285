"""How a library of CPU kernels computes: which algorithm a convolution gets, and what it does without vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Library:
    """What tells one library of kernels from another.

    `columns`: a convolution with a filter of more than one tap, or with a stride, is laid out as columns in memory and
    done as a matrix product, image by image; otherwise the loops of the convolution itself are tiled. `winograd`: 3x3
    filters of stride 1 and no dilation use Winograd's algorithm in forward and grad-input where that is faster.
    `scalar`: kernel classes that it has without vector instructions. `serial`: those that run on one core.
    """

    name: str
    columns: bool
    winograd: bool
    scalar: frozenset[str]
    serial: frozenset[str] = frozenset({"random"})


_SCALAR = frozenset({"gather", "interpolate", "random"})

LIBRARIES: Mapping[str, Library] = MappingProxyType(
    {
        library.name: library
        for library in (
            Library("onednn", columns=False, winograd=False, scalar=_SCALAR),
            Library("im2col", columns=True, winograd=False, scalar=_SCALAR | {"pool"}),
            Library("winograd", columns=True, winograd=True, scalar=_SCALAR | {"pool"}),
        )
    }
)
"""`onednn`: PyTorch on x86, tiled direct convolutions. `im2col`: columns and a BLAS, what ATen and oneDNN fall back to
on ARM cores without SVE. `winograd`: the same, with Winograd where it applies (MNN, NNPACK)."""
