"""The numbers of a convolution that decide which kernel runs it and what that kernel allocates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property


def round_up(count: int, block: int) -> int:
    """Return the smallest multiple of `block` that is not below `count`."""
    return -(-count // block) * block


@dataclass(frozen=True)
class Machine:
    """The CPU as the kernels see it: `lanes` float32 numbers in a vector (16: AVX-512, 8: AVX2), and threads."""

    lanes: int
    threads: int

    @property
    def avx512(self) -> bool:
        return self.lanes == 16


@dataclass(frozen=True)
class Convolution:
    """A two-dimensional convolution, images (N, C, H, W) to (N, K, P, Q). `c` and `k` count all groups.

    `kernel_shape` is that of the weights as PyTorch chooses by it, before a 3-d convolution is folded.
    """

    n: int
    c: int
    h: int
    w: int
    k: int
    r: int
    s: int
    stride_h: int
    stride_w: int
    pad_h: int
    pad_w: int
    dilation_h: int
    dilation_w: int
    groups: int
    item_bytes: int
    channels_last: bool
    kernel_shape: tuple[int, ...]

    @cached_property
    def p(self) -> int:
        """Output rows."""
        return (self.h + 2 * self.pad_h - self.reach_h) // self.stride_h + 1

    @cached_property
    def q(self) -> int:
        """Output columns."""
        return (self.w + 2 * self.pad_w - self.reach_w) // self.stride_w + 1

    @property
    def reach_h(self) -> int:
        """Rows that the dilated filter spans."""
        return self.dilation_h * (self.r - 1) + 1

    @property
    def reach_w(self) -> int:
        """Columns that the dilated filter spans."""
        return self.dilation_w * (self.s - 1) + 1

    @property
    def pad_bottom(self) -> int:
        """Rows below the image that the last output row reads."""
        return (self.p - 1) * self.stride_h + self.reach_h - self.h - self.pad_h

    @property
    def pad_right(self) -> int:
        """Columns right of the image that the last output column reads."""
        return (self.q - 1) * self.stride_w + self.reach_w - self.w - self.pad_w

    @property
    def c_group(self) -> int:
        return self.c // self.groups

    @property
    def k_group(self) -> int:
        return self.k // self.groups

    @property
    def taps(self) -> int:
        return self.r * self.s

    @property
    def unpadded(self) -> bool:
        return self.pad_h == 0 and self.pad_w == 0

    @property
    def strided(self) -> bool:
        return self.stride_h > 1 or self.stride_w > 1

    @property
    def dilated(self) -> bool:
        return self.dilation_h > 1 or self.dilation_w > 1

    @property
    def depthwise(self) -> bool:
        return self.groups > 1 and self.c_group == 1 and self.k_group == 1

    @property
    def half(self) -> bool:
        """Whether it computes in a 16-bit format."""
        return self.item_bytes == 2

    @cached_property
    def x_bytes(self) -> int:
        return self.item_bytes * self.n * self.c * self.h * self.w

    @cached_property
    def weight_bytes(self) -> int:
        return self.item_bytes * self.k * self.c_group * self.taps

    @cached_property
    def y_bytes(self) -> int:
        return self.item_bytes * self.n * self.k * self.p * self.q

    def blocked_x_bytes(self, block: int) -> int:
        """Bytes of the images in a layout whose channels come in blocks."""
        return self.item_bytes * self.n * round_up(self.c, block) * self.h * self.w

    def blocked_y_bytes(self, block: int) -> int:
        """Bytes of the outputs in a layout whose channels come in blocks."""
        return self.item_bytes * self.n * round_up(self.k, block) * self.p * self.q

    def blocked_weight_bytes(self, block: int) -> int:
        """Bytes of the weights with input and output channels (of each group) in blocks."""
        channels = self.groups * round_up(self.k_group, block) * round_up(self.c_group, block)
        return self.item_bytes * channels * self.taps

    @property
    def columns_bytes(self) -> int:
        """Bytes of the im2col matrix of one image and one group."""
        return self.item_bytes * self.c_group * self.taps * self.p * self.q

    @property
    def image_is_matrix(self) -> bool:
        """Whether the image is its own im2col matrix: one tap, each pixel once."""
        return self.taps == 1 and not self.strided and self.unpadded


def convolution(
    x: Sequence[int],
    weight: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    item_bytes: int,
    channels_last: bool = False,
) -> Convolution:
    """Return the convolution of images `x` with `weight` (both shapes), of one to three dimensions.

    One dimension runs as an image of height 1, as in PyTorch. Of three, depth is folded into the height: the
    sizes are right, the choice of the weight gradient's kernel is approximate.
    """
    dims = len(x) - 2
    stride, padding, dilation = (tuple(v) * dims if len(v) == 1 else tuple(v) for v in (stride, padding, dilation))
    if dims == 1:
        x, weight = (x[0], x[1], 1, x[2]), (weight[0], weight[1], 1, weight[2])
        stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)
    kernel_shape = tuple(weight[2:])
    if dims == 3:
        x, weight, stride, padding, dilation = _folded(x, weight, stride, padding, dilation)
    return Convolution(
        n=x[0],
        c=x[1],
        h=x[2],
        w=x[3],
        k=weight[0],
        r=weight[2],
        s=weight[3],
        stride_h=stride[0],
        stride_w=stride[1],
        pad_h=padding[0],
        pad_w=padding[1],
        dilation_h=dilation[0],
        dilation_w=dilation[1],
        groups=groups,
        item_bytes=item_bytes,
        channels_last=channels_last,
        kernel_shape=kernel_shape,
    )


def _folded(
    x: Sequence[int], weight: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[int, ...], ...]:
    """Return a 3-d convolution as a 2-d one with as many input and output rows."""
    depth = (x[2] + 2 * padding[0] - dilation[0] * (weight[2] - 1) - 1) // stride[0] + 1
    rows = (x[3] + 2 * padding[1] - dilation[1] * (weight[3] - 1) - 1) // stride[1] + 1
    taps, height, out = weight[2] * weight[3], x[2] * x[3], depth * rows
    if stride[1] == 1:
        pad, step = max(0, (out - 1 + taps - height + 1) // 2), 1
    else:
        pad, step = 0, max(1, (height - taps) // (out - 1)) if out > 1 else height
    return (
        (x[0], x[1], height, x[4]),
        (weight[0], weight[1], taps, weight[4]),
        (step, stride[2]),
        (pad, padding[2]),
        (1, dilation[2]),
    )
