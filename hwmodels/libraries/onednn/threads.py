"""How oneDNN's weight-gradient kernels share the images of a batch among threads.

Each group of images beyond the first sums into a private copy of the weight gradient, so the number of groups decides
the scratchpad. The search is that of `balance` in oneDNN's src/cpu/x64/jit_avx512_common_conv_kernel.cpp and
`jit_avx512_core_1x1` (weights of the terms fitted there; equal on 97 % of 310 shapes at 2 threads).
"""

from __future__ import annotations

from typing import NamedTuple

from hwmodels.libraries.onednn.choice import Kernel
from hwmodels.libraries.onednn.geometry import Convolution, Machine


class _Partition(NamedTuple):
    """Into how many parts the work is cut: images, blocks of output channels, blocks of input channels."""

    images: int
    outputs: int
    inputs: int


def image_groups(conv: Convolution, kernel: Kernel, machine: Machine) -> int:
    """Return into how many groups the kernel splits the images (a direct kernel also their rows)."""
    return _Search(conv, kernel, machine).groups() if machine.threads > 1 else 1


class _Search:
    """The partition with the least memory traffic; another one if it computes less and costs hardly more traffic."""

    def __init__(self, conv: Convolution, kernel: Kernel, machine: Machine) -> None:
        self.conv, self.threads = conv, machine.threads
        self.pointwise = kernel.name == "pointwise"
        narrow = kernel.name == "narrow"
        self.block = machine.lanes
        self.input_block = conv.c if narrow else self.block
        self.input_blocks = 1 if narrow else _parts(conv.c, self.block)
        self.output_blocks = _parts(conv.k, self.block)
        self.by_rows = self.pointwise or (conv.dilation_h == 1 and conv.p > 9)
        self.units = conv.n * (max(1, conv.p // 9) if self.by_rows else 1)
        self.weight_cost = 12 if self.pointwise else 8

    def groups(self) -> int:
        most = min(self.threads, self.units)
        choices = [
            _Partition(images, outputs, min(self.threads // images // outputs, self.input_blocks))
            for images in range(1, most + 1)
            for outputs in range(1, min(self.threads // images, self.output_blocks) + 1)
        ]
        best = _Partition(1, 1, 1)
        least = self._traffic(best)
        for choice in choices:
            if self._traffic(choice) <= least:
                least, best = self._traffic(choice), choice
        if not self.pointwise:
            work = self._work(best)
            for choice in choices:
                less = self._work(choice) <= work and self._traffic(choice) < 1.1 * least
                if less or 4 * self._work(choice) <= 3 * work:
                    work, best = self._work(choice), choice
        if self.threads / 2 < best.images < self.threads:
            return most
        return best.images

    def _image_rows(self) -> tuple[int, int]:
        """Rows of input and output that are shared out with the images."""
        return (self.conv.h, self.conv.p) if self.by_rows else (1, 1)

    def _traffic(self, part: _Partition) -> int:
        conv = self.conv
        rows_in, rows_out = self._image_rows()
        inputs = _parts(conv.n * rows_in, part.images) * _parts(self.input_blocks, part.inputs) * self.input_block
        outputs = _parts(conv.n * rows_out, part.images) * _parts(self.output_blocks, part.outputs) * self.block
        weights = _parts(self.output_blocks, part.outputs) * _parts(self.input_blocks, part.inputs)
        return (
            inputs * (conv.h // rows_in) * conv.w // conv.stride_h // conv.stride_w
            + outputs * (conv.p // rows_out) * conv.q
            + self.weight_cost * weights * conv.taps * self.input_block * self.block
        )

    def _work(self, part: _Partition) -> int:
        rows = self._image_rows()[1]
        images = _parts(self.conv.n * rows, part.images)
        return images * _parts(self.output_blocks, part.outputs) * _parts(self.input_blocks, part.inputs)


def _parts(count: int, parts: int) -> int:
    return -(-count // parts)
