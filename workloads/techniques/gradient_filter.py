"""Gradient filtering, for real: chosen convolutions compute their gradients on patches."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from simulator.errors import TrainwattError
from simulator.rewriting.filtering import Filter, filter_of
from simulator.rewriting.layers import choose
from simulator.techniques.gradient_filter import GradientFilter
from workloads.techniques.parts.convolving import prepared
from workloads.techniques.parts.execution import executed
from workloads.workload import Workload

aten = torch.ops.aten


def workload(technique: GradientFilter, workload: Workload) -> Workload:
    """Give the chosen convolutions of the model a backward that works on patches.

    Raises `TrainwattError` for the variant that trains nothing and where another technique replaced the backward of a
    convolution; a convolution that cannot be filtered raises it when it runs, for that depends on the size of its map.
    """
    if technique.variant == "kernel":
        raise TrainwattError(
            f"{technique} has no runnable form, it is the cost of single layers; use variant=lean or variant=official"
        )
    modules = dict(workload.model.named_modules())
    for name in choose(executed(workload, _ConvNd), "convolutions", technique.layers, technique.last):
        conv: Any = modules[name]
        if "_conv_forward" in vars(conv):
            raise TrainwattError(
                f"gradient-filter on convolution {name!r}, whose backward another technique changed; "
                "filter each once, and with one technique"
            )
        if isinstance(conv, _ConvTransposeNd):
            filter_of(name, (), (), (), (), (), 1, True, technique.patch)  # says why not
        if technique.patch > 1:
            conv._conv_forward = partial(_conv_forward, conv, name, technique)
    return workload


def _conv_forward(
    conv: Any,
    name: str,
    technique: GradientFilter,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    """Do what the convolution's own `_conv_forward` does, with another backward."""
    if not torch.is_grad_enabled():
        return type(conv)._conv_forward(conv, x, weight, bias)  # type: ignore[no-any-return]
    x, weight, bias, padding = prepared(conv, x, weight, bias, technique.name)
    geometry = (conv.stride, padding, conv.dilation, conv.groups)
    if x.dim() != weight.dim():
        raise TrainwattError(f"gradient-filter on convolution {name!r} of one sample without a batch; give it a batch")
    plan = filter_of(name, tuple(x.shape[1:]), tuple(weight.shape), *geometry, False, technique.patch)
    function: Any = _Lean if technique.variant == "lean" else _Official
    with torch.autocast(x.device.type, enabled=False):
        return function.apply(x, weight, bias, plan, geometry)  # type: ignore[no-any-return]


def _convolution(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, geometry: Any) -> torch.Tensor:
    stride, padding, dilation, groups = geometry
    return aten.convolution(x, weight, bias, stride, padding, dilation, False, (0, 0), groups)  # type: ignore[no-any-return]


class _Lean(torch.autograd.Function):
    """A filtered convolution of which nothing is computed that nobody needs."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, plan: Filter, geometry: Any
    ) -> torch.Tensor:
        of_x, of_weight = ctx.needs_input_grad[:2]
        y = _convolution(x, weight, bias, geometry)
        ctx.save_for_backward(
            _pooled(x, plan.reach, divisor_override=1) if of_weight else None, weight if of_x else None
        )
        ctx.plan, ctx.weight_shape = plan, weight.shape
        return y

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> Any:  # type: ignore[override]
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        plan: Filter = ctx.plan
        sums, weight = ctx.saved_tensors
        dx = dweight = rows = None
        dbias = dy.sum((0, 2, 3)) if of_bias else None
        if of_x or of_weight:
            means = _pooled(dy, plan.patch)
            if not plan.depthwise and (of_weight or not plan.spread):
                rows = _rows(means)
            if of_x:
                dx = _spread_out(_lean_product(means, rows, weight, plan), plan)
            if of_weight:
                values = (sums * means).sum((0, 2, 3)) if rows is None else rows.t() @ _rows(sums)
                dweight = values.view(*ctx.weight_shape[:2], 1, 1).expand(ctx.weight_shape)
        return dx, dweight, dbias, None, None


def _pooled(x: torch.Tensor, window: tuple[int, int], **options: Any) -> torch.Tensor:
    return functional.avg_pool2d(x, window, ceil_mode=True, count_include_pad=False, **options)


def _rows(pooled: torch.Tensor) -> torch.Tensor:
    """Return the patches of (N, C, Ph, Pw) as rows (N * Ph * Pw, C)."""
    return pooled.permute(0, 2, 3, 1).contiguous().view(-1, pooled.shape[1])


def _lean_product(means: torch.Tensor, rows: torch.Tensor | None, weight: torch.Tensor, plan: Filter) -> torch.Tensor:
    """Return dx on the patches, (N, C, Ph, Pw)."""
    if plan.spread:
        return _transposed(means, weight, plan)
    theta = weight.view(weight.shape[:2]) if plan.pointwise else weight.sum((2, 3))
    if rows is None:
        return means * theta.view(-1, 1, 1)
    product = theta.t() @ rows.t()
    return product.view(-1, len(means), *plan.patches).permute(1, 0, 2, 3)


def _transposed(means: torch.Tensor, weight: torch.Tensor, plan: Filter) -> torch.Tensor:
    return functional.conv_transpose2d(
        means, weight, None, 1, plan.spread_padding, 0, plan.groups, plan.spread or (1, 1)
    )


def _spread_out(product: torch.Tensor, plan: Filter) -> torch.Tensor:
    """Spread patches over the image: columns first, which are few, then whole rows."""
    n, c, high, wide = product.shape
    (tall, broad), (h, w) = plan.reach, plan.image
    columns = product.unsqueeze(4).expand(n, c, high, wide, broad).clone(memory_format=torch.contiguous_format)
    columns = columns.view(n, c, high, wide * broad)
    if wide * broad != w:
        columns = columns[..., :w]
    if high * tall != h:
        return columns.index_select(2, torch.arange(h, device=product.device) // tall)
    full = columns.unsqueeze(3).expand(n, c, high, tall, w).clone(memory_format=torch.contiguous_format)
    return aten._unsafe_view(full, (n, c, h, w))  # type: ignore[no-any-return]


class _Official(torch.autograd.Function):
    """A filtered convolution computed as published, with what is not needed."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, plan: Filter, geometry: Any
    ) -> torch.Tensor:
        y = _convolution(x, weight, bias, geometry)
        theta = weight if plan.spread else weight.sum((2, 3))
        sums = functional.avg_pool2d(
            x, plan.reach, padding=plan.reach_margin, count_include_pad=False, divisor_override=1
        )
        ctx.save_for_backward(sums, theta)
        ctx.plan, ctx.weight_shape = plan, weight.shape
        return y

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> Any:  # type: ignore[override]
        plan: Filter = ctx.plan
        sums, theta = ctx.saved_tensors
        dweight = None
        dbias = dy.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        means = functional.avg_pool2d(dy, plan.patch, padding=plan.margin, count_include_pad=False)
        dx = _official_image(_official_product(means, theta, plan), plan)
        if ctx.needs_input_grad[1]:
            dweight = _official_weight(means, sums, plan, ctx.weight_shape)
        return dx, dweight, dbias, None, None


def _official_product(means: torch.Tensor, theta: torch.Tensor, plan: Filter) -> torch.Tensor:
    """Return dx on the patches: (N, C, Ph, Pw), or (N, C, Ph * Pw)."""
    if plan.spread:
        return _transposed(means, theta, plan)
    if plan.depthwise:
        return means * theta.view(-1, 1, 1)
    n, k = means.shape[:2]
    filters = theta.t().expand(n, theta.shape[1], k).clone(memory_format=torch.contiguous_format)
    return torch.bmm(filters, means.view(n, k, -1))


def _official_image(product: torch.Tensor, plan: Filter) -> torch.Tensor:
    n, c = product.shape[:2]
    (high, wide), (tall, broad), (h, w) = plan.patches, plan.reach, plan.image
    cells = product.view(n, c, high, 1, wide, 1).expand(n, c, high, tall, wide, broad)
    full = aten._unsafe_view(cells.clone(memory_format=torch.contiguous_format), (n, c, high * tall, wide * broad))
    if (high * tall, wide * broad) == (h, w):
        return full  # type: ignore[no-any-return]
    top, left = plan.reach_margin
    return aten.slice(aten.slice(full, 2, top, top + h), 3, left, left + w)  # type: ignore[no-any-return]


def _official_weight(means: torch.Tensor, sums: torch.Tensor, plan: Filter, shape: torch.Size) -> torch.Tensor:
    if plan.depthwise:
        values = (sums * means).sum((0, 2, 3))
    else:
        columns = means.permute(1, 0, 2, 3).clone(memory_format=torch.contiguous_format).view(shape[0], -1)
        rows = sums.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).view(-1, shape[1])
        values = columns @ rows
    return values.view(*shape[:2], 1, 1).expand(shape).clone(memory_format=torch.contiguous_format)
