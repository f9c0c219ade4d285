# ruff: noqa: UP006, UP035, UP045
"""The designed set of ops: kinds and sizes of CNN training steps, enough to tell apart what decides about their time.

Each is measured twice: with operands `warm`, the same from call to call, and `cold`, out of the caches (see `timing`).
"""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from workloads.measuring.board.signatures import Shape, signature
from workloads.measuring.board.spread import COLOURS, spread_convolutions, spread_products


class Case(NamedTuple):
    """An op to be measured, as a row of measurements says it."""

    kind: str
    parameters: Dict[str, Any]
    batch: Optional[int]
    phase: str


OPERANDS = ("warm", "cold")

CONVOLUTION = ("c", "k", "h", "r", "stride", "groups", "dilation")
CONVOLUTIONS: List[Tuple[Shape, Shape]] = [
    # c, k, h, r, stride, groups, dilation; batches
    *(((16, 16, 32, 3, 1, 1, 1), (1, 8, 32)), ((32, 32, 16, 3, 1, 1, 1), (1, 32))),
    *(((64, 64, 8, 3, 1, 1, 1), (1, 8, 32)),),
    *(((128, 128, 4, 3, 1, 1, 1), (1, 32)), ((64, 64, 56, 3, 1, 1, 1), (1, 4, 16))),
    *(((128, 128, 28, 3, 1, 1, 1), (1, 4, 16)),),
    *(((256, 256, 14, 3, 1, 1, 1), (1, 4, 16)), ((512, 512, 7, 3, 1, 1, 1), (1, 4, 16))),
    *(((64, 128, 56, 3, 2, 1, 1), (1, 8)),),
    *(((128, 256, 28, 3, 2, 1, 1), (1, 8)), ((256, 512, 14, 3, 2, 1, 1), (1, 8))),
    # the first layer of a network
    *(((3, 64, 224, 7, 2, 1, 1), (1, 4, 16)), ((3, 32, 224, 3, 2, 1, 1), (1, 8))),
    *(((3, 64, 224, 3, 1, 1, 1), (1, 4)),),
    *(((3, 16, 32, 3, 1, 1, 1), (1, 32)), ((64, 64, 224, 3, 1, 1, 1), (1,))),
    *(((1, 6, 28, 5, 1, 1, 1), (1, 32)), ((1, 32, 28, 3, 1, 1, 1), (8,))),
    # 5 x 5, and odd numbers of channels
    *(((64, 192, 27, 5, 1, 1, 1), (1, 8)), ((6, 16, 14, 5, 1, 1, 1), (1, 32))),
    *(((24, 40, 28, 3, 1, 1, 1), (1, 8)),),
    *(((72, 112, 14, 3, 1, 1, 1), (1, 8)), ((160, 160, 14, 3, 2, 1, 1), (1, 8))),
    # 1 x 1
    *(((64, 256, 56, 1, 1, 1, 1), (1, 8)), ((256, 64, 56, 1, 1, 1, 1), (1, 8))),
    *(((512, 2048, 7, 1, 1, 1, 1), (1, 8)),),
    *(((1024, 256, 14, 1, 1, 1, 1), (1, 8)), ((256, 512, 56, 1, 2, 1, 1), (1, 8))),
    *(((16, 96, 112, 1, 1, 1, 1), (1, 4)),),
    *(((96, 24, 56, 1, 1, 1, 1), (1, 8)), ((24, 144, 56, 1, 1, 1, 1), (1, 8))),
    *(((40, 240, 28, 1, 1, 1, 1), (1, 8)),),
    *(((112, 672, 14, 1, 1, 1, 1), (1, 8)), ((576, 96, 14, 1, 1, 1, 1), (1, 8))),
    *(((160, 960, 7, 1, 1, 1, 1), (1, 8, 32)),),
    *(((960, 320, 7, 1, 1, 1, 1), (1, 8)), ((320, 1280, 7, 1, 1, 1, 1), (1, 8))),
    *(((960, 240, 1, 1, 1, 1, 1), (1, 8)),),
    # depthwise
    *(((32, 32, 112, 3, 1, 32, 1), (1, 8)), ((96, 96, 112, 3, 2, 96, 1), (1, 4))),
    *(((144, 144, 56, 3, 1, 144, 1), (1, 8)),),
    *(((576, 576, 14, 3, 1, 576, 1), (1, 8)), ((960, 960, 7, 3, 1, 960, 1), (1, 8, 32))),
    *(((72, 72, 56, 5, 2, 72, 1), (1, 8)),),
    *(((240, 240, 28, 5, 1, 240, 1), (1, 8)), ((672, 672, 14, 5, 2, 672, 1), (1, 8))),
    # in groups, and dilated
    *(((128, 128, 56, 3, 1, 32, 1), (1, 4)), ((256, 256, 14, 3, 1, 32, 1), (1, 8))),
    *(((240, 240, 28, 1, 1, 3, 1), (1, 8)),),
    *(((256, 256, 28, 3, 1, 1, 2), (1, 4)), ((512, 512, 14, 3, 1, 1, 4), (1, 4))),
]  # fmt: skip
WITH_BIAS: List[Tuple[Shape, Shape]] = [
    ((64, 16, 55, 1, 1, 1, 1), (1, 8)),
    ((16, 64, 55, 3, 1, 1, 1), (1, 8)),
    ((512, 1000, 13, 1, 1, 1, 1), (1, 8)),
]

ALL_MAPS = [
    (16, 32),
    (64, 8),
    (512, 4),
    (24, 56),
    (64, 56),
    (128, 28),
    (40, 28),
    (256, 14),
    (512, 7),
    (960, 7),
    (64, 112),
]
OTHER_FORMAT = 3
"""Of so many sizes of convolutions one is measured in channels-last format too."""
SOME_MAPS = [(64, 8), (144, 56), (160, 14), (64, 112)]
"""Channels and side of feature maps."""
ON_ALL_MAPS = ("native_batch_norm", "native_batch_norm_backward", "relu_", "threshold_backward")
ON_SOME_MAPS = (
    *("relu", "hardtanh_", "hardtanh_backward", "hardswish", "hardswish_backward", "silu_", "silu_backward"),
    *("tanh", "tanh_backward", "sigmoid", "sigmoid_backward", "gelu", "gelu_backward", "add", "add_", "cat", "mean"),
)
LARGEST_ELEMENTS = 13_000_000
"""Of a map at a batch size: what is larger is left out, for memory and time."""

PRODUCTS = [
    *((8, 1000, 512), (32, 1000, 1280), (1, 1000, 2048), (16, 4096, 9216), (64, 10, 84), (256, 256, 256)),
    (512, 512, 512),
]
"""Rows, outputs and inputs of linear layers, and squares."""
LOW_RANK = [(64, 576, 4), (128, 64, 2), (256, 2304, 8), (512, 4608, 4)]
"""Rows, columns and rank of what is added to a gradient in factors."""
FILTERS_OF = [(16, 16), (64, 64), (128, 256), (512, 512)]
"""Output and input channels of filters that are summed, each over its taps."""
ROWS = [(1, 1000), (8, 1000), (32, 10), (64, 1000), (1568, 192), (3136, 96)]
"""Rows and the elements of each: scores of classes, and tokens."""
PARAMETERS = [64, 1_000, 9_216, 36_864, 589_824, 2_359_296]
"""Elements of parameters: of a batch norm, a classifier's bias, and convolutions."""


def op_set() -> List[Case]:
    """Return all cases, each warm and cold, smaller batches first."""
    named = sorted(_cases(), key=lambda case: case[2] or 0)
    found = []
    for kind, parameters, batch in named:
        phase = signature(kind, parameters, batch).phase
        found += [Case(kind, dict(parameters, operands=operands), batch, phase) for operands in OPERANDS]
    return found


def _cases() -> Iterator[Tuple[str, Dict[str, Any], Optional[int]]]:
    for sizes, batches in CONVOLUTIONS:
        shape = _shape(sizes)
        for batch in batches:
            for kind in _passes(sizes):
                yield kind, shape, batch
    for sizes, batch in spread_convolutions():
        for kind in _passes(sizes):
            yield kind, _shape(sizes), batch
    for number, (sizes, batch) in enumerate(spread_convolutions()):
        for kind in _passes(sizes) if number % OTHER_FORMAT == 0 else ():
            yield kind, dict(_shape(sizes), channels_last=1), batch
    for sizes, batches in WITH_BIAS:
        for batch in batches:
            yield "convolution", dict(_shape(sizes), bias=1), batch
            yield "convolution_grad_bias", _shape(sizes), batch
    for batch in (1, 8, 32):
        for c, h in ALL_MAPS:
            if batch * c * h * h <= LARGEST_ELEMENTS:
                for kind in ON_ALL_MAPS:
                    yield kind, {"c": c, "h": h}, batch
                    if batch == 8:
                        yield kind, {"c": c, "h": h, "channels_last": 1}, batch
    for batch in (1, 8):
        yield from _on_some_maps(batch)
    for m, n, k in PRODUCTS:
        yield "addmm", {"m": m, "n": n, "k": k, "transposed": "b"}, None
        yield "mm", {"m": m, "n": k, "k": n}, None  # the gradient of the input, then of the weight
        yield "mm", {"m": n, "n": k, "k": m, "transposed": "a"}, None
    for number, (m, n, k) in enumerate(spread_products()):
        yield "mm", {"m": m, "n": n, "k": k, "transposed": ("none", "a", "b")[number % 3]}, None
    for m, n, k in LOW_RANK:
        yield "addmm_", {"m": m, "n": n, "k": k}, None
    for batch, c in FILTERS_OF:
        yield "sum", {"c": c, "h": 3}, batch
    yield from _on_rows()
    yield from _on_elements()


def _passes(sizes: Shape) -> Iterator[str]:
    yield "convolution"
    if sizes[0] != COLOURS:  # nothing asks for the gradient of images
        yield "convolution_grad_input"
    yield "convolution_grad_weight"


def _shape(sizes: Shape) -> Dict[str, Any]:
    return {name: size for name, size in zip(CONVOLUTION, sizes) if name != "dilation" or size > 1}  # noqa: B905


def _on_some_maps(batch: int) -> Iterator[Tuple[str, Dict[str, Any], Optional[int]]]:
    for c, h in SOME_MAPS:
        shape = {"c": c, "h": h}
        for kind in ON_SOME_MAPS:
            yield kind, shape, batch
        if batch == 8:
            for kind in ON_SOME_MAPS[-4:]:
                yield kind, dict(shape, channels_last=1), batch
            for kind in ("max_pool2d_with_indices", "max_pool2d_with_indices_backward"):
                yield kind, dict(shape, r=3, stride=2, channels_last=1), batch
        # What a squeeze-and-excitation block does: a factor for each channel, and its gradient.
        yield "mul", dict(shape, broadcast=1), batch
        yield "mul", shape, batch
        yield "sum", shape, batch
        yield "div", dict(shape, expanded=1), batch  # the gradient of a mean
        for window in ({"r": 3, "stride": 2}, {"r": 2, "stride": 2}):
            yield "max_pool2d_with_indices", dict(shape, **window), batch
            yield "max_pool2d_with_indices_backward", dict(shape, **window), batch
        yield "avg_pool2d", shape, batch
        yield "avg_pool2d_backward", shape, batch
        out = 7 if h > 7 else 4
        for kind in ("_adaptive_avg_pool2d", "_adaptive_avg_pool2d_backward"):
            yield kind, dict(shape, out=out), batch
    for c, h in ((21, 28), (64, 56)):
        for kind in ("upsample_bilinear2d", "upsample_bilinear2d_backward"):
            yield kind, {"c": c, "h": h}, batch
    yield "hardsigmoid", {"c": 960, "h": 1}, batch
    yield "hardsigmoid_backward", {"c": 960, "h": 1}, batch


def _on_rows() -> Iterator[Tuple[str, Dict[str, Any], Optional[int]]]:
    for m, n in ROWS:
        for kind in ("_softmax", "_softmax_backward_data", "_log_softmax", "_log_softmax_backward_data"):
            yield kind, {"m": m, "n": n}, None
        for kind in ("nll_loss_forward", "nll_loss_backward", "sum"):
            yield kind, {"m": m, "n": n}, None
        if m > 64:
            for kind in ("native_layer_norm", "native_layer_norm_backward"):
                yield kind, {"m": m, "n": n}, None


def _on_elements() -> Iterator[Tuple[str, Dict[str, Any], Optional[int]]]:
    for elements in PARAMETERS:
        # SGD with momentum, for each parameter: one mul_ and two add_.
        for kind in ("mul_", "add_", "zero_", "copy_", "clone", "zeros_like", "bernoulli_", "div_", "native_dropout"):
            yield kind, {"elements": elements}, None
    yield "add_", {"elements": 1, "dtype": "int64"}, None  # batch norm counts its batches
    for elements, tensors in ((64, 60), (36_864, 20), (589_824, 4)):
        for kind in ("_foreach_mul_", "_foreach_add_", "_foreach_zero_"):
            yield kind, {"elements": elements, "tensors": tensors}, None
