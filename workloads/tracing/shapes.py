"""Results of ops whose fake version is wrong in PyTorch 2.13.

The fake backward of normalisations returns gradients that nobody asked for. The fake `mkldnn_rnn_layer` returns an
empty workspace and its backward wrong layouts, which makes autograd copy every gradient. The shapes here were read off
real runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

aten = torch.ops.aten

_FLOAT_BYTES = 4


def _padded(floats: int) -> int:
    """Return oneDNN's leading dimension: a multiple of 16 floats, one line more where rows would alias in cache."""
    rounded = -(-floats // 16) * 16
    return rounded + 16 if rounded % 256 == 0 else rounded


def lstm_workspace_bytes(steps: int, batch: int, inputs: int, hidden: int) -> int:
    """Return the bytes that oneDNN's LSTM keeps from forward for backward, of one layer and direction.

    Gates (steps, batch, 4*hidden), cell outputs (steps, batch, hidden), three state arrays
    (2, steps+1, batch, max(inputs, hidden)) and two cell-state arrays (2, steps+1, batch, hidden), rows padded.
    Measured on PyTorch 2.13 with oneDNN 3.12; the library also rounds each array up to whole pages (at most 28 KiB
    in all), which is left out so that the size stays proportional to the batch.
    """
    gates = steps * batch * (_padded(4 * hidden) + _padded(hidden))
    states = 2 * (steps + 1) * batch * (3 * _padded(max(inputs, hidden)) + 2 * hidden)
    return _FLOAT_BYTES * (gates + states)


def _lstm_forward(func: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    hx, cx, hidden, train = args[4], args[5], args[9], args[14]
    steps, batch, inputs = x.shape
    workspace = lstm_workspace_bytes(steps, batch, inputs, hidden) if train else 0
    return (
        x.new_empty((steps, batch, hidden)),
        _like(hx),
        _like(cx),
        x.new_empty((workspace,), dtype=torch.uint8),
    )


def _lstm_backward(func: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    return tuple(_like(t) for t in (x, *args[:6]))


def _like(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.new_empty(tensor.shape)


def _masked(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Return only the gradients that the last argument, the output mask, asks for, as the real kernels do."""
    results = func(*args, **kwargs)
    return tuple(r if wanted else None for r, wanted in zip(results, args[-1], strict=True))


_count: ContextVar[int | None] = ContextVar("count", default=None)


@contextmanager
def counted(count: int | None) -> Iterator[None]:
    """Let `nonzero` find `count` places in fake tensors, whose values nobody knows; None leaves it as it is."""
    token = _count.set(count)
    try:
        yield
    finally:
        _count.reset(token)


def _nonzero(func: Any, x: torch.Tensor) -> Any:
    """Return one row of indices a place found, laid out column by column as the real kernel does."""
    count = _count.get()
    return func(x) if count is None else x.new_empty((x.dim(), count), dtype=torch.int64).t()


CORRECTED: dict[Any, Callable[..., Any]] = {
    aten.native_batch_norm_backward.default: _masked,
    aten.native_layer_norm_backward.default: _masked,
    aten.native_group_norm_backward.default: _masked,
    aten.mkldnn_rnn_layer.default: _lstm_forward,
    aten.mkldnn_rnn_layer_backward.default: _lstm_backward,
    aten.nonzero.default: _nonzero,
}
"""For each such op, a function of (op, *its arguments) that returns its results."""
