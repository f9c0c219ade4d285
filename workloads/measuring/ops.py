"""Single ops, called as a training step calls them: a designed set over kinds and sizes of CNNs.

Operands stay the same from call to call, so that they come from the cache as far as they fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from workloads.measuring.case import Value, fits_not
from workloads.measuring.timing import time_calls
from workloads.tracing.step import without_collection
from workloads.training.loop import threads as with_threads

aten = torch.ops.aten

Call = Callable[[], object]


@dataclass(frozen=True)
class OpCase:
    """One ATen call: `make(batch, **parameters)` allocates its operands and returns it."""

    what: str
    phase: str
    batch: int | None
    parameters: Mapping[str, Any]
    make: Callable[..., Call] = field(repr=False)
    kind: str = "op"

    def measure(self, repeats: int, threads: int, deadline_s: float) -> tuple[Value, ...]:
        """Time the call. Raises `MemoryError` where its operands do not fit."""
        given = dict(self.parameters) if self.batch is None else {"n": self.batch, **self.parameters}
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]), with_threads(threads), without_collection():
                torch.manual_seed(0)
                timing = time_calls(self.make(**given), repeats, deadline_s)
        except (RuntimeError, MemoryError) as error:
            if fits_not(error):
                raise MemoryError(str(error)) from error
            raise
        return (Value("op", self.phase, "latency", timing.median_s, timing.spread_s, len(timing.seconds)),)


def _convolution(which: str) -> Callable[..., Call]:
    """Return the maker of a convolution's forward, or of one of the gradients that its backward can be asked for."""
    mask = [which == "input", which == "weight", False]

    def make(n: int, c: int, k: int, h: int, r: int, stride: int, groups: int) -> Call:
        pad = r // 2
        x, w = torch.randn(n, c, h, h), torch.randn(k, c // groups, r, r)
        geometry = ([stride] * 2, [pad] * 2, [1] * 2, False, [0] * 2, groups)
        if which == "forward":
            return lambda: aten.convolution(x, w, None, *geometry)
        size = (h + 2 * pad - r) // stride + 1
        dy = torch.randn(n, k, size, size)
        return lambda: aten.convolution_backward(dy, x, w, None, *geometry, mask)

    return make


def _mm(m: int, n: int, k: int) -> Call:
    a, b = torch.randn(m, k), torch.randn(k, n)
    return lambda: aten.mm(a, b)


def _batch_norm(n: int, c: int, h: int) -> Call:
    x, weight, bias, mean, var = torch.randn(n, c, h, h), *(torch.ones(c) for _ in range(4))
    return lambda: aten.native_batch_norm(x, weight, bias, mean, var, True, 0.1, 1e-5)


def _batch_norm_backward(n: int, c: int, h: int) -> Call:
    x, dy = torch.randn(n, c, h, h), torch.randn(n, c, h, h)
    weight, mean, var = (torch.ones(c) for _ in range(3))
    _, save_mean, save_invstd = aten.native_batch_norm(x, weight, weight, mean, var, True, 0.1, 1e-5)
    return lambda: aten.native_batch_norm_backward(
        dy, x, weight, mean, var, save_mean, save_invstd, True, 1e-5, [True, True, True]
    )


def _elementwise(function: Callable[..., object], operands: int) -> Callable[..., Call]:
    def make(n: int, c: int, h: int) -> Call:
        given = [torch.randn(n, c, h, h) for _ in range(operands)]
        return lambda: function(*given)

    return make


def _max_pool(n: int, c: int, h: int) -> Call:
    x = torch.randn(n, c, h, h)
    return lambda: aten.max_pool2d_with_indices(x, [2, 2], [2, 2])


def _max_pool_backward(n: int, c: int, h: int) -> Call:
    x = torch.randn(n, c, h, h)
    y, indices = aten.max_pool2d_with_indices(x, [2, 2], [2, 2])
    return lambda: aten.max_pool2d_with_indices_backward(y, x, [2, 2], [2, 2], [0, 0], [1, 1], False, indices)


def _mean(n: int, c: int, h: int) -> Call:
    x = torch.randn(n, c, h, h)
    return lambda: aten.mean(x, [-1, -2], True)


def _decay(elements: int) -> Call:
    buffer = torch.ones(elements)
    return lambda: aten.mul_(buffer, 1.0)  # by 1: nothing fades into slow subnormal numbers


def _update(elements: int) -> Call:
    parameter, gradient = torch.randn(elements), torch.randn(elements)
    return lambda: aten.add_(parameter, gradient, alpha=-1e-6)


CONVOLUTIONS: tuple[tuple[int, int, int, int, int, int], ...] = (
    # c, k, h, r, stride, groups
    *((16, 16, 32, 3, 1, 1), (32, 32, 16, 3, 1, 1), (64, 64, 8, 3, 1, 1)),  # ResNet of CIFAR
    *((64, 64, 56, 3, 1, 1), (128, 128, 28, 3, 1, 1), (256, 256, 14, 3, 1, 1), (512, 512, 7, 3, 1, 1)),  # ResNet-18
    *((3, 64, 224, 7, 2, 1), (64, 128, 56, 3, 2, 1)),
    *((64, 256, 56, 1, 1, 1), (256, 64, 56, 1, 1, 1), (512, 2048, 7, 1, 1, 1), (256, 512, 56, 1, 2, 1)),  # ResNet-50
    *((96, 24, 56, 1, 1, 1), (576, 96, 14, 1, 1, 1)),  # MobileNetV2: projections and depthwise
    *((96, 96, 112, 3, 2, 96), (144, 144, 56, 3, 1, 144), (576, 576, 14, 3, 1, 576), (960, 960, 7, 3, 1, 960)),
)
IMAGES = ((16, 32), (64, 8), (64, 56), (128, 28), (256, 14), (512, 7), (64, 112))
"""Channels and side of feature maps."""
PRODUCTS = ((8, 1000, 512), (64, 1000, 2048), (256, 256, 256), (64, 4096, 9216), (512, 512, 512), (1000, 2048, 8))
"""m, n, k of matrix products: linear layers and their gradients, and squares."""
PARAMETERS = (1_000, 36_864, 589_824, 2_359_296)
"""Elements of weights: 3x3 convolutions from 64 to 512 channels, and a batch norm's order of size."""
BATCHES = (1, 4, 16)

_ON_IMAGES: tuple[tuple[str, str, Callable[..., Call]], ...] = (
    ("native_batch_norm", "forward", _batch_norm),
    ("native_batch_norm_backward", "backward", _batch_norm_backward),
    ("relu", "forward", _elementwise(aten.relu, 1)),
    ("threshold_backward", "backward", _elementwise(lambda dy, y: aten.threshold_backward(dy, y, 0), 2)),
    ("add", "forward", _elementwise(aten.add, 2)),
    ("max_pool2d_with_indices", "forward", _max_pool),
    ("max_pool2d_with_indices_backward", "backward", _max_pool_backward),
    ("mean", "forward", _mean),
)


def op_cases() -> tuple[OpCase, ...]:
    """Return the designed set, small batches first."""
    cases = []
    for batch in BATCHES:
        for sizes in CONVOLUTIONS:
            shape = dict(zip(("c", "k", "h", "r", "stride", "groups"), sizes, strict=True))
            cases.append(OpCase("convolution", "forward", batch, shape, _convolution("forward")))
            for gradient in ("input", "weight"):
                kind = f"convolution_grad_{gradient}"
                cases.append(OpCase(kind, "backward", batch, shape, _convolution(gradient)))
        for kind, phase, make in _ON_IMAGES:
            cases += [OpCase(kind, phase, batch, {"c": c, "h": h}, make) for c, h in IMAGES]
    cases += [OpCase("mm", "backward", None, {"m": m, "n": n, "k": k}, _mm) for m, n, k in PRODUCTS]
    # SGD with momentum, for each parameter: one mul_ and two add_.
    cases += [OpCase("mul_", "optimizer", None, {"elements": size}, _decay) for size in PARAMETERS]
    cases += [OpCase("add_", "optimizer", None, {"elements": size}, _update) for size in PARAMETERS]
    return tuple(cases)
