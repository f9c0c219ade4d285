"""Layers that compute with codes: whole numbers of few bits, times a step.

x = step * code, step = max |x| / (2^(b-1) - 1), code = round(x / step) in +-(2^(b-1) - 1). A convolution of codes,
times the product of both steps, is what hardware of b bits computes, up to rounding in float32. Between forward and
backward the codes are kept in integers of as many bytes as they need. Gradients go straight through rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from simulator.bits import storage_dtype
from simulator.errors import TrainwattError

Codes = tuple[torch.Tensor, torch.Tensor]
"""Codes, in floating point, and their step, a scalar."""


def quantise(x: torch.Tensor, bits: int, *, by_sample: bool = False) -> Codes:
    """Return `x` in codes of `bits` bits.

    With `by_sample` the mean over samples of their greatest magnitudes stands for the greatest magnitude. Where all is
    zero, all codes are.
    """
    top = 2 ** (bits - 1) - 1
    if by_sample:
        greatest = torch.linalg.vector_norm(x, float("inf"), tuple(range(1, x.dim()))).mean()
    else:
        greatest = torch.linalg.vector_norm(x, float("inf"))
    step = greatest.div_(top).clamp_min_(torch.finfo(x.dtype).tiny)
    return x.div(step).round_().clamp_(-top, top), step


def stored(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Return codes of `bits` bits in an integer dtype that holds them."""
    return codes.to(getattr(torch, storage_dtype(bits)))


@dataclass(frozen=True)
class Widths:
    """Bits of activations, weights and gradients. With `by_sample`, activations are scaled as `quantise` says."""

    activations: int
    weights: int
    gradients: int
    by_sample: bool = False


WeightGradient = Callable[[Callable[[torch.Tensor, torch.Tensor], torch.Tensor], Codes, Codes], torch.Tensor]
"""From (the product of gradient and activation codes, gradient, activations) to the gradient of the weight."""


def plain_gradient(product: Any, dy: Codes, x: Codes) -> torch.Tensor:
    """Return the gradient of a weight from all bits of the codes."""
    return product(dy[0], x[0]).mul_(dy[1] * x[1])


@dataclass(frozen=True)
class How:
    """How a quantised convolution runs: its bits, the gradient of its weight, and the arguments of the convolution."""

    widths: Widths
    weight_gradient: WeightGradient
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def convolution(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        rest = self.stride, self.padding, self.dilation, False, (0, 0), self.groups
        return torch.convolution(x, weight, None, *rest)

    def gradient(self, part: int, dy: torch.Tensor, x: Any, weight: Any) -> torch.Tensor:
        """Return the gradient of input (part 0) or weight (part 1); a shape may stand for what is not looked at."""
        x, weight = (dy.new_empty(1).expand(t) if isinstance(t, torch.Size) else t for t in (x, weight))
        rest = self.stride, self.padding, self.dilation, False, (0, 0), self.groups
        wanted = (part == 0, part == 1, False)
        result: torch.Tensor = torch.ops.aten.convolution_backward(dy, x, weight, None, *rest, wanted)[part]
        return result


class _Convolution(torch.autograd.Function):
    """y = step_x step_w conv(codes of x, codes of w) + bias, with the gradients of x and w from codes of dy."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, operands: tuple[Codes, Codes], how: How) -> torch.Tensor:
        (cx, sx), (cw, sw) = operands
        y = how.convolution(cx, cw)
        y.mul_(sx * sw)
        if bias is not None:
            y.add_(bias.view(-1, 1, 1))
        _keep(ctx, operands, how.widths)
        ctx.how, ctx.x, ctx.weight = how, x.shape, weight.shape
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        how, dx, dw, db = ctx.how, None, None, None
        dy = quantise(grad, how.widths.gradients)
        if ctx.needs_input_grad[0]:
            cw, sw = _kept(ctx, 1, grad)
            dx = how.gradient(0, dy[0], ctx.x, cw)
            del cw
            dx.mul_(dy[1] * sw)
        if ctx.needs_input_grad[1]:
            dw = how.weight_gradient(lambda a, b: how.gradient(1, a, b, ctx.weight), dy, _kept(ctx, 0, grad))
        if ctx.needs_input_grad[2]:
            db = grad.sum((0, 2, 3))
        return dx, dw, db, None, None


class _Linear(torch.autograd.Function):
    """y = step_x step_w (codes of x) (codes of w)^T + bias for x (N, in) and w (out, in), as `_Convolution`."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, operands: Any, transposed: Any, widths: Widths) -> Any:
        (cx, sx), (_, sw) = operands
        y = cx.mm(transposed)
        y.mul_(sx * sw)
        if bias is not None:
            y.add_(bias)
        _keep(ctx, operands, widths)
        ctx.widths = widths
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        dx = dw = db = None
        dy = quantise(grad, ctx.widths.gradients)
        if ctx.needs_input_grad[0]:
            cw, sw = _kept(ctx, 1, grad)
            dx = dy[0].mm(cw)
            del cw
            dx.mul_(dy[1] * sw)
        if ctx.needs_input_grad[1]:
            dw = plain_gradient(lambda a, b: a.t().mm(b), dy, _kept(ctx, 0, grad))
        if ctx.needs_input_grad[2]:
            db = grad.sum(0)
        return dx, dw, db, None, None, None


def _keep(ctx: Any, operands: tuple[Codes, Codes], widths: Widths) -> None:
    """Save the codes that the gradients need: those of x for that of w, and the other way round."""
    (cx, sx), (cw, sw) = operands
    x = (stored(cx, widths.activations), sx) if ctx.needs_input_grad[1] else (None, None)
    weight = (stored(cw, widths.weights), sw) if ctx.needs_input_grad[0] else (None, None)
    ctx.save_for_backward(*x, *weight)


def _kept(ctx: Any, operand: int, like: torch.Tensor) -> Codes:
    codes, step = ctx.saved_tensors[2 * operand : 2 * operand + 2]
    return codes.to(like.dtype), step


class _QuantisedConv2d(nn.Module):
    """What a convolution becomes."""

    def _conv_forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        widths, weight_gradient = self.__dict__["_quantising"]
        how = How(widths, weight_gradient, self.stride, self.padding, self.dilation, self.groups)
        result: torch.Tensor = _Convolution.apply(x, weight, bias, _operands(x, weight, widths), how)
        return result


class _QuantisedLinear(nn.Module):
    """What a linear layer becomes; all dimensions but the last are one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        widths, _ = self.__dict__["_quantising"]
        rows = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
        operands = _operands(rows, self.weight, widths)
        y = _Linear.apply(rows, self.weight, self.bias, operands, operands[1][0].t(), widths)
        result: torch.Tensor = y if x.dim() == 2 else y.view(*x.shape[:-1], y.shape[-1])
        return result


def _operands(x: torch.Tensor, weight: torch.Tensor, widths: Widths) -> tuple[Codes, Codes]:
    with torch.no_grad():
        codes = quantise(x, widths.activations, by_sample=widths.by_sample)
        return codes, quantise(weight, widths.weights)


_QUANTISED: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: _QuantisedConv2d, nn.Linear: _QuantisedLinear}


def quantised_layers(
    model: nn.Module,
    kinds: Iterable[type[nn.Module]],
    widths: Widths,
    weight_gradient: Callable[[nn.Module], WeightGradient] = lambda layer: plain_gradient,
) -> int:
    """Let every layer of `kinds` (`nn.Conv2d`, `nn.Linear`) in `model` compute with codes; returns how many there are.

    Raises `TrainwattError` for a layer that is quantised already, and a convolution that pads other than with a given
    number of zeros.
    """
    count = 0
    for name, layer in model.named_modules():
        kind = next((k for k in kinds if isinstance(layer, k)), None)
        if kind is None:
            continue
        if "_quantising" in layer.__dict__:
            raise TrainwattError(f"layer {name!r} computes with few bits already; quantise it once")
        if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
            raise TrainwattError(
                f"convolution {name!r} pads {layer.padding_mode} {layer.padding}; give numbers of zeros"
            )
        own = type(layer)
        layer.__class__ = type(f"Quantised{own.__name__}", (_QUANTISED[kind], own), {})
        layer.__dict__["_quantising"] = (widths, weight_gradient(layer))
        count += 1
    return count
