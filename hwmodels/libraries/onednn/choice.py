"""Which kernel computes a convolution: ATen's own or one of oneDNN's.

PyTorch's choice is `use_mkldnn` in aten/src/ATen/native/Convolution.cpp (agrees with `_select_conv_backend` on all of
1,414 shapes). oneDNN takes the first implementation of its list that accepts the problem; the conditions here are those
of the implementations' `init_conf` (src/cpu/x64/jit_*_conv_kernel.cpp), confirmed by what ONEDNN_VERBOSE names.
No Winograd kernel is among them: oneDNN selected none on any shape.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from hwmodels.libraries.onednn.geometry import Convolution, Machine, round_up

Name = Literal[
    "pointwise",  # one tap: a matrix product over blocked channels
    "direct",  # blocked images, weights and results
    "narrow",  # few input channels: the images stay plain, weights and results are blocked
    "depthwise",  # one channel a group
    "grouped",  # channels of a group are a multiple of the block
    "grouped narrow",  # few input channels in a group
    "brgemm",  # strided input gradients, on channels-last copies
    "gemm",  # im2col and a matrix product on plain tensors
]

_INT32_BYTES = (1 << 31) - 1
"""Direct weight-gradient kernels address at most so many bytes of an operand."""


class Kernel(NamedTuple):
    """An implementation, and the channel block of its layouts (1: plain)."""

    name: Name
    block: int = 1


GEMM = Kernel("gemm")


def uses_onednn(conv: Convolution, machine: Machine) -> bool:
    """Tell whether PyTorch gives the convolution to oneDNN; its own `slow_conv2d` does small ones at batch 1."""
    if conv.item_bytes != 4:
        return conv.half
    columns, rows = conv.kernel_shape[-1], conv.kernel_shape[-2]
    several = conv.strided or conv.dilated or conv.n >= 16 or columns != 1 or rows != 1 or machine.threads > 1
    large = conv.groups > 1 or (columns > 3 and rows > 3) or conv.n > 1 or conv.n * conv.c * conv.h * conv.w > 20480
    return several and large


def forward_kernel(conv: Convolution, machine: Machine) -> Kernel:
    """Return the kernel of the forward pass."""
    lanes = machine.lanes
    if conv.depthwise:
        return GEMM if _output_too_narrow(conv, 6 if machine.avx512 else 4) else Kernel("depthwise", lanes)
    too_narrow = _output_too_narrow(conv, 28 if machine.avx512 else 3)
    if conv.groups == 1:
        if _is_pointwise(conv):
            return Kernel("pointwise", lanes)
        if too_narrow or (not machine.avx512 and conv.c == 3 and conv.s == 11):
            return GEMM
        return Kernel("narrow" if conv.c < lanes else "direct", lanes)
    block = group_block(conv, machine)
    if block and not too_narrow:
        return Kernel("grouped", block)
    if conv.c_group < 8 and conv.k_group % 8 == 0 and not _output_too_narrow(conv, 3):
        return Kernel("grouped narrow", 8)
    return GEMM


def grad_input_kernel(conv: Convolution, machine: Machine) -> Kernel:
    """Return the kernel of the input gradient."""
    by_brgemm = conv.strided and not conv.dilated
    if conv.depthwise:
        if conv.half and by_brgemm:
            return Kernel("brgemm")
        too_narrow = _output_too_narrow(conv, 6 if machine.avx512 else 4)
        return GEMM if conv.dilated or too_narrow else Kernel("depthwise", machine.lanes)
    too_narrow = _input_too_narrow(conv, 28 if machine.avx512 else 8)
    if conv.groups == 1:
        if conv.strided:
            return GEMM if conv.dilated else Kernel("brgemm")
        if _is_pointwise(conv):
            return Kernel("pointwise", machine.lanes)
        return GEMM if too_narrow else Kernel("direct", machine.lanes)
    block = group_block(conv, machine)
    if block and not too_narrow and not (conv.strided and (conv.dilated or not machine.avx512)):
        return Kernel("grouped", block)
    return Kernel("brgemm") if by_brgemm and conv.c_group > 1 else GEMM


def grad_weight_kernel(conv: Convolution, machine: Machine) -> Kernel:
    """Return the kernel of the weight gradient (and bias gradient)."""
    if conv.depthwise:
        too_wide = conv.s > 3 or conv.stride_w > conv.s or conv.s > conv.w + conv.pad_w
        too_few_rows = conv.h < conv.r + -conv.pad_h % conv.stride_h
        bad = conv.dilated or too_wide or too_few_rows or _pads_whole_filter(conv)
        return GEMM if bad else Kernel("depthwise", machine.lanes)
    outreaches = conv.reach_w > conv.w or conv.reach_h > conv.h
    if conv.groups > 1:
        bad = conv.dilated or outreaches or _pads_whole_filter(conv)
        return GEMM if bad or group_block(conv, machine) < 8 else Kernel("grouped", 8)
    if _is_pointwise(conv):
        return Kernel("pointwise", machine.lanes)
    if _pads_whole_filter(conv) or (conv.s > 14 and not conv.half) or _exceeds_int32(conv, machine.lanes):
        return GEMM
    if machine.avx512 and (conv.c >= 16 or conv.c <= 3 or conv.half):
        if conv.c < 16:
            return GEMM if conv.dilated else Kernel("narrow", 16)
        hard = conv.strided or outreaches or conv.pad_h > conv.reach_h // 2 or conv.pad_w > 28
        return GEMM if conv.dilated and hard else Kernel("direct", 16)
    # AVX2 kernels; also on AVX-512 for 4 to 15 channels
    if conv.dilated or outreaches:
        return GEMM
    return Kernel("narrow" if not machine.avx512 and conv.c == 3 else "direct", 8)


def _is_pointwise(conv: Convolution) -> bool:
    """One tap without padding; a stride must divide the image, since the kernel gathers the images first."""
    return conv.taps == 1 and conv.unpadded and conv.h % conv.stride_h == 0 and conv.w % conv.stride_w == 0


def group_block(conv: Convolution, machine: Machine) -> int:
    """Return the channel block of a grouped convolution; 0 where none divides the group's channels."""
    for block in (16, 8, 4) if machine.avx512 else (8,):
        if conv.c_group % block == 0 and conv.k_group % block == 0:
            return block
    return 0


def _pads_whole_filter(conv: Convolution) -> bool:
    """Whether a whole filter may lie in the padding, which no direct kernel accepts."""
    return max(conv.pad_w, conv.pad_right) >= conv.reach_w or max(conv.pad_h, conv.pad_bottom) >= conv.reach_h


def _output_too_narrow(conv: Convolution, at_once: int) -> bool:
    """Whether the padding exceeds the output columns that a forward kernel computes at once."""
    return _pads_whole_filter(conv) or max(conv.pad_w, conv.pad_right) > min(conv.q, at_once)


def _input_too_narrow(conv: Convolution, at_once: int) -> bool:
    """Whether the filter overhangs more input columns than an input-gradient kernel computes at once."""
    return _pads_whole_filter(conv) or conv.reach_w - 1 - conv.pad_w > min(conv.w, at_once)


def _exceeds_int32(conv: Convolution, block: int) -> bool:
    """Whether an operand of the weight gradient, padded to the size of the image, is too large to address."""
    gradients = conv.item_bytes * conv.n * round_up(conv.k, block) * conv.h * conv.w
    return max(conv.blocked_x_bytes(block), gradients) > _INT32_BYTES
