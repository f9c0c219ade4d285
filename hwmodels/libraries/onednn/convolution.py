"""What a convolution allocates beside its result, for forward, input gradient and weight gradient.

oneDNN on plain (NCHW) tensors, in order: blocked copies of both operands, the blocked result and a scratchpad; the
kernel runs; operands' copies and scratchpad are freed; the plain result is allocated and the blocked one copied to it.
So there are two moments to look at, and the result itself exists only at the second. Blocks are as wide as a vector,
and padded channels are why a network of few channels needs multiples of its own tensors.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from hwmodels.libraries.onednn.choice import (
    Kernel,
    forward_kernel,
    grad_input_kernel,
    grad_weight_kernel,
    group_block,
    uses_onednn,
)
from hwmodels.libraries.onednn.geometry import Convolution, Machine, round_up
from hwmodels.libraries.onednn.threads import image_groups

PAGE = 4096

_ALIGNMENT = 128
"""oneDNN adds so many bytes to every buffer of its own, to align it."""

_LARGEST_COLUMNS = 1 << 20
"""The forward im2col works on a part of the image where its matrix would be larger."""


class Footprint(NamedTuple):
    """Bytes that an op holds beyond its operands: while its kernel computes, and beside its finished results."""

    computing: int
    finishing: int

    def beside(self, results: int) -> int:
        """Return the workspace of an op whose results, of so many bytes, are counted from its start."""
        return max(self.computing - results, self.finishing, 0)

    def with_more(self, held: int) -> Footprint:
        """Return the footprint with so many bytes more, held throughout."""
        return Footprint(self.computing + held, self.finishing + held)


def _throughout(result: int, extra: int) -> Footprint:
    """The footprint where the kernel writes right into the result."""
    return Footprint(result + extra, extra)


def forward(conv: Convolution, machine: Machine, has_bias: bool = False) -> Footprint:
    """Return what the forward pass holds; its result is y."""
    if not uses_onednn(conv, machine):
        return _throughout(conv.y_bytes, _native_forward(conv))
    if conv.channels_last:
        scratch = 0 if conv.depthwise else 24 + 2 * PAGE * machine.threads
        return _throughout(conv.y_bytes, _repacked_weights(conv, machine, "outputs") + scratch)
    kernel = forward_kernel(conv, machine)
    if kernel.name == "gemm":
        columns = 0 if conv.image_is_matrix else min(conv.columns_bytes, _LARGEST_COLUMNS) * machine.threads
        return Footprint(_buffer(columns) + conv.y_bytes, conv.y_bytes)
    if kernel.name in ("grouped", "grouped narrow"):
        images = conv.x_bytes if kernel.name == "grouped" else 0
        return Footprint(images + conv.weight_bytes + conv.y_bytes, conv.y_bytes)
    images = 0 if kernel.name == "narrow" else conv.blocked_x_bytes(kernel.block)
    scratch = _padded_bias(conv, kernel.block) if has_bias else 0
    if kernel.name == "pointwise":
        if conv.strided:  # the pixels that the stride leaves of one image
            gathered = round_up(conv.c, machine.lanes) * conv.p * conv.q
            scratch += _buffer(conv.item_bytes * gathered * machine.threads)
        scratch += _float32_sums(conv, conv.k, conv.p * conv.q, machine)
    y = conv.blocked_y_bytes(kernel.block)
    return Footprint(images + _blocked_weights(conv, kernel) + y + scratch, y)


def grad_input(conv: Convolution, machine: Machine) -> Footprint:
    """Return what the first half of the backward pass holds; its result has the bytes of x."""
    if not uses_onednn(conv, machine):
        return _throughout(conv.x_bytes, _native_grad_input(conv))
    if conv.channels_last:
        extra = _repacked_weights(conv, machine, "inputs") + _channels_last_scratch(conv, machine)
        return _throughout(conv.x_bytes, extra)
    kernel = grad_input_kernel(conv, machine)
    if kernel.name == "gemm":
        by_image = conv.p * conv.q // machine.threads < 512 and conv.n > 1 and not (conv.strided and conv.n < 4)
        columns = conv.columns_bytes * (machine.threads if by_image else 1)
        return Footprint(_buffer(columns) + conv.x_bytes, conv.x_bytes)
    if kernel.name == "brgemm":
        return _brgemm_grad_input(conv, machine)
    if kernel.name == "grouped":
        return Footprint(conv.y_bytes + conv.weight_bytes + conv.x_bytes, conv.x_bytes)
    scratch = _float32_sums(conv, conv.c, conv.h * conv.w, machine) if kernel.name == "pointwise" else 0
    x = conv.blocked_x_bytes(kernel.block)
    return Footprint(conv.blocked_y_bytes(kernel.block) + _blocked_weights(conv, kernel) + x + scratch, x)


def grad_weight(conv: Convolution, machine: Machine, has_bias: bool = False) -> Footprint:
    """Return what the second half of the backward pass holds; its results are the gradients of weights and bias.

    oneDNN computes the gradient of the bias, too, into a buffer of its own.
    """
    bias = conv.item_bytes * conv.k if has_bias else 0
    if not uses_onednn(conv, machine):
        return _throughout(conv.weight_bytes + bias, _native_grad_weight(conv))
    return _onednn_grad_weight(conv, machine, has_bias).with_more(bias)


def _onednn_grad_weight(conv: Convolution, machine: Machine, has_bias: bool) -> Footprint:
    kernel = grad_weight_kernel(conv, machine)
    if conv.channels_last:
        return _channels_last_grad_weight(conv, kernel, machine)
    if kernel.name == "gemm":
        by_image = conv.p * conv.q // machine.threads < 256 and (conv.n > 1 or conv.groups > 2)
        return Footprint(_gemm_sums(conv, machine.threads if by_image else 1) + conv.weight_bytes, conv.weight_bytes)
    if kernel.name == "grouped":
        x, weights, y = conv.x_bytes, conv.weight_bytes, conv.y_bytes
    else:
        x = 0 if kernel.name == "narrow" else conv.blocked_x_bytes(kernel.block)
        weights, y = _blocked_weights(conv, kernel), conv.blocked_y_bytes(kernel.block)
    scratch = _padded_bias(conv, kernel.block) if has_bias else 0
    if kernel.name == "pointwise" and conv.strided:
        scratch += _gathered_inputs(conv, machine)
    if machine.threads > 1 and kernel.name in ("pointwise", "direct", "narrow") and kernel.block == machine.lanes:
        scratch += _private_sums(conv, kernel, machine, weights, has_bias)
    if conv.half:  # weights summed in float32, and one transposed image of each operand per thread
        scratch += 2 * weights
        if kernel.name not in ("pointwise", "depthwise"):
            scratch += 2 * PAGE + 256 + machine.threads * (x + y) // conv.n
    return Footprint(y + x + weights + scratch, weights)


def _buffer(size: int) -> int:
    return size + _ALIGNMENT if size else 0


def _blocked_weights(conv: Convolution, kernel: Kernel) -> int:
    """Bytes of the weights in the kernel's layout."""
    if kernel.name == "depthwise":
        return conv.item_bytes * round_up(conv.groups, kernel.block) * conv.taps
    if kernel.name == "narrow":
        return conv.item_bytes * round_up(conv.k, kernel.block) * conv.c * conv.taps
    return conv.blocked_weight_bytes(kernel.block)


def _padded_bias(conv: Convolution, block: int) -> int:
    """Bytes of the bias padded to whole blocks, where it does not fill them."""
    return conv.item_bytes * round_up(conv.k, block) + _ALIGNMENT if conv.k % block else 0


def _float32_sums(conv: Convolution, channels: int, pixels: int, machine: Machine) -> int:
    """Bytes of the float32 sums of one image, per thread, of a pointwise kernel on 16-bit tensors."""
    return _buffer(4 * round_up(channels, machine.lanes) * pixels * machine.threads) if conv.half else 0


def _gathered_inputs(conv: Convolution, machine: Machine) -> int:
    """Bytes of the strided pixels of one image, per thread, of at most 8 channel blocks."""
    channels = min(round_up(conv.c, machine.lanes), 8 * machine.lanes)
    return _buffer(conv.item_bytes * channels * conv.p * conv.q * machine.threads)


def _gemm_sums(conv: Convolution, images_at_once: int) -> int:
    """Bytes of im2col matrices and of four copies of the weight gradient for each image at work."""
    return _buffer(_buffer(conv.columns_bytes * images_at_once) + 4 * conv.weight_bytes * images_at_once)


def _private_sums(conv: Convolution, kernel: Kernel, machine: Machine, weights: int, has_bias: bool) -> int:
    """Bytes of the gradients that groups of images sum for themselves before they are added up."""
    scratch = 0
    bias = conv.item_bytes * round_up(conv.k, machine.lanes)
    groups = image_groups(conv, kernel, machine)
    if groups > 1:
        each = weights + (0 if kernel.name == "pointwise" else bias)
        scratch += (groups - 1) * each + 2 * PAGE + _ALIGNMENT
    odd_blocks = -(-conv.k // machine.lanes) % 2 == 1
    if has_bias and odd_blocks and (conv.n > 3 or (conv.n > 1 and conv.k <= machine.lanes)):
        scratch += 3 * PAGE + bias
    return scratch


# -- strided input gradients -------------------------------------------------------------------------------------------


def _brgemm_grad_input(conv: Convolution, machine: Machine) -> Footprint:
    """oneDNN's brgemm kernel works on channels-last copies, and its result is converted through one more temporary."""
    y = 0 if conv.k == 1 or conv.p * conv.q == 1 else conv.y_bytes
    same_layout = conv.c == 1 or conv.h * conv.w == 1
    if conv.groups == 1:
        weights = conv.item_bytes * round_up(conv.c, machine.lanes) * conv.k * conv.taps
    else:
        weights = conv.weight_bytes * (32 if conv.depthwise else 1)
    computing = y + weights + _brgemm_scratch(conv, machine)
    return Footprint(computing + conv.x_bytes, conv.x_bytes * (1 if same_layout else 2))


def _brgemm_scratch(conv: Convolution, machine: Machine) -> int:
    """Bytes of the brgemm kernel's scratchpad.

    Three pages; per thread two more and one image of the output gradient, extended by the taps that reach over its
    edges, in steps of four pages; where the stride does not divide the width, an output buffer.
    """
    rows, columns = conv.p, conv.q
    if conv.taps > 1:
        rows += (conv.reach_h - 1 - conv.pad_h) // conv.stride_h
        rows += max(0, (conv.h - 1 + conv.pad_h) // conv.stride_h - (conv.p - 1))
        columns += (conv.reach_w - 1 - conv.pad_w) // conv.stride_w
        columns += max(0, (conv.w - 1 + conv.pad_w) // conv.stride_w - (conv.q - 1))
    image = round_up(rows * columns * conv.k_group * conv.item_bytes, 4 * PAGE)
    buffer = PAGE * (1 + 4 * machine.threads) if conv.w % conv.stride_w else 0
    return 3 * PAGE + machine.threads * (24 + 2 * PAGE + image) + buffer


# -- channels-last -----------------------------------------------------------------------------------------------------


def _repacked_weights(conv: Convolution, machine: Machine, side: Literal["outputs", "inputs"]) -> int:
    """Bytes of the weights as channels-last kernels want them: the channels of one side padded to a vector."""
    if conv.depthwise:
        return conv.item_bytes * round_up(conv.groups, machine.lanes) * conv.taps
    if conv.groups > 1:
        return conv.blocked_weight_bytes(group_block(conv, machine) or machine.lanes)
    outputs = round_up(conv.k, machine.lanes) if side == "outputs" else conv.k
    inputs = round_up(conv.c, machine.lanes) if side == "inputs" else conv.c
    return conv.item_bytes * conv.taps * outputs * inputs


def _channels_last_scratch(conv: Convolution, machine: Machine) -> int:
    if conv.depthwise:
        return 0
    if not conv.strided:
        return 24 + (2 * PAGE + 128) * machine.threads
    return _buffer(conv.columns_bytes * machine.threads) if conv.dilated else _brgemm_scratch(conv, machine)


def _channels_last_grad_weight(conv: Convolution, kernel: Kernel, machine: Machine) -> Footprint:
    """Images are used in place; the blocked gradient goes through a plain copy to the channels-last result."""
    if kernel.name == "gemm" and conv.dilated:
        return Footprint(conv.weight_bytes + _gemm_sums(conv, machine.threads), 2 * conv.weight_bytes)
    if kernel.name == "gemm" and conv.strided and conv.groups == 1:
        kernel = Kernel("direct", machine.lanes)
    weights = _blocked_weights(conv, kernel._replace(block=machine.lanes))
    computing = weights
    if kernel.name == "pointwise" and conv.strided:
        computing += _gathered_inputs(conv, machine)
    if machine.threads > 1 and kernel.name in ("pointwise", "direct", "narrow"):
        copies = image_groups(conv, kernel, machine) - 1
        computing += copies * weights + (2 * PAGE + _ALIGNMENT if copies else 0)
    return Footprint(computing, weights + conv.weight_bytes)


# -- PyTorch's own kernels ---------------------------------------------------------------------------------------------


def _native_columns(conv: Convolution) -> int:
    """`slow_conv2d` unfolds the whole batch, `slow_conv_dilated2d` one image at a time."""
    if conv.dilated:
        return conv.columns_bytes
    return 0 if conv.image_is_matrix else conv.columns_bytes * conv.n


def _native_forward(conv: Convolution) -> int:
    """With groups the op runs once for each and concatenates what they return."""
    return conv.y_bytes if conv.groups > 1 else _native_columns(conv)


def _native_grad_input(conv: Convolution) -> int:
    if conv.groups > 1:
        return conv.x_bytes
    return conv.columns_bytes if conv.dilated else 0


def _native_grad_weight(conv: Convolution) -> int:
    if conv.groups > 1:
        slices = (conv.x_bytes + conv.y_bytes) // conv.groups if conv.n > 1 else 0
        return max(conv.weight_bytes, slices)
    return _native_columns(conv)
