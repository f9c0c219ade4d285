"""MACs that really run, counted from the shapes of the ATen calls of a step.

This knows nothing of graphs or work rules, so that what it counts can be held against what they predict. It sees what
autograd formulas and custom autograd functions call, since all of it goes through PyTorch's dispatcher.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


class MacCounter(TorchDispatchMode):
    """Adds up the multiply-accumulates of all convolutions, matrix products, attention and LSTM layers run inside it.

    `macs` is the count so far. What multiplies element by element, sums or pools counts no MAC.
    """

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        rule = _RULES.get(func.overloadpacket)
        if rule is not None:
            self.macs += rule(args, kwargs or {}, result)
        return result


def _convolution(args: Sequence[Any], kwargs: Any, result: Any) -> int:
    """(x, w, b, stride, padding, dilation, transposed, ...): every output adds up (C/groups) x R x S products."""
    x, weight = args[:2]
    return _convolution_macs(x, weight, result, transposed=args[6])


def _convolution_macs(x: torch.Tensor, weight: torch.Tensor, y: torch.Tensor, transposed: bool) -> int:
    """`weight` is (K, C/groups, R, S), or (C, K/groups, R, S) of a transposed convolution, which spreads each input."""
    positions = x if transposed else y
    return positions.numel() * prod(weight.shape[1:])


def _convolution_backward(args: Sequence[Any], kwargs: Any, result: Any) -> int:
    """(dy, x, w, bias_sizes, stride, padding, dilation, transposed, output_padding, groups, (dx?, dw?, db?)).

    The gradients of input and weight each run the loops of the forward pass.
    """
    dy, x, weight = args[:3]
    wanted = args[10] if len(args) > 10 else kwargs["output_mask"]
    return (int(wanted[0]) + int(wanted[1])) * _convolution_macs(x, weight, dy, transposed=args[7])


def _product(first: int) -> Callable[[Sequence[Any], Any, Any], int]:
    """Return the rule of a matrix product whose operands stand at `first`: each output is a sum over the depth."""

    def macs(args: Sequence[Any], kwargs: Any, result: torch.Tensor) -> int:
        depth: int = args[first].shape[-1]
        return result.numel() * depth

    return macs


def _summed_products(args: Sequence[Any], kwargs: Any, result: torch.Tensor) -> int:
    """(input, a, b): the sum of n products is one product n times as deep."""
    a = args[1]
    return result.numel() * int(a.shape[0]) * int(a.shape[-1])


def _attention(args: Sequence[Any], kwargs: Any, result: Any) -> int:
    """(q, k, v, dropout, is_causal): scores and weighted values; a causal query sees no later key."""
    q, k, v = args[:3]
    causal = args[4] if len(args) > 4 else kwargs.get("is_causal", False)
    return _pairs(q, k, causal) * int(q.shape[-1] + v.shape[-1])


def _attention_backward(args: Sequence[Any], kwargs: Any, result: Any) -> int:
    """(dO, q, k, v, out, logsumexp, dropout, is_causal): scores again, dP, dV, dQ, dK (Dao et al. 2022)."""
    q, k, v = args[1:4]
    return _pairs(q, k, args[7]) * int(3 * q.shape[-1] + 2 * v.shape[-1])


def _pairs(q: torch.Tensor, k: torch.Tensor, causal: bool) -> int:
    """Return the number of (query, key) pairs of all batches and heads."""
    queries, keys = q.shape[-2], k.shape[-2]
    seen = sum(min(i + 1, keys) for i in range(queries)) if causal else queries * keys
    return prod(q.shape[:-2]) * seen


def _lstm(times: int) -> Callable[[Sequence[Any], Any, Any], int]:
    """Return the rule of (x, w_ih, w_hh, ...) of a layer over all steps: each runs both products `times` times."""

    def macs(args: Sequence[Any], kwargs: Any, result: Any) -> int:
        x, w_ih, w_hh = args[:3]
        return times * int(x.shape[0] * x.shape[1] * (w_ih.numel() + w_hh.numel()))

    return macs


_RULES: dict[Any, Callable[[Sequence[Any], Any, Any], int]] = {
    aten.convolution: _convolution,
    aten.convolution_backward: _convolution_backward,
    aten.mm: _product(0),
    aten.addmm: _product(1),
    aten.addmm_: _product(1),
    aten.bmm: _product(0),
    aten.baddbmm: _product(1),
    aten.baddbmm_: _product(1),
    aten.addbmm: _summed_products,
    aten.mv: _product(0),
    aten.addmv: _product(1),
    aten.dot: _product(0),
    aten._int_mm: _product(0),
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    aten.mkldnn_rnn_layer: _lstm(1),
    aten.mkldnn_rnn_layer_backward: _lstm(2),
}
