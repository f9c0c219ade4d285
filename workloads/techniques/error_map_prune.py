"""Error-map pruning, for real: chosen convolutions compute their gradients from the strongest output channels only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from simulator.errors import TrainwattError
from simulator.rewriting.layers import choose
from simulator.techniques.error_map_prune import ErrorMapPrune, Pruning, pruning
from workloads.techniques.parts.convolving import prepared
from workloads.techniques.parts.execution import executed
from workloads.workload import Workload

_convolution_backward = torch.ops.aten.convolution_backward


def workload(technique: ErrorMapPrune, workload: Workload) -> Workload:
    """Give the chosen convolutions of the model a backward that prunes.

    Raises `TrainwattError` where one of them cannot be pruned.
    """
    modules = dict(workload.model.named_modules())
    for name in choose(executed(workload, _ConvNd), "convolutions", technique.layers, technique.last):
        conv: Any = modules[name]
        plan = pruning(
            technique,
            name,
            conv.out_channels,
            conv.in_channels // conv.groups,
            conv.groups,
            isinstance(conv, _ConvTransposeNd),
        )
        if plan.kept == conv.out_channels:
            continue
        if "_conv_forward" in vars(conv):
            raise TrainwattError(f"error-map-prune on {name!r}, which is pruned already; prune each convolution once")
        conv._conv_forward = partial(_conv_forward, conv, _Rule(technique.g1, technique.g2, plan))
    return workload


@dataclass(frozen=True)
class _Rule:
    """Which channels stay and how."""

    g1: float
    g2: float
    plan: Pruning

    def strongest(self, delta: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the numbers of the output channels that stay, (kept,), for the error map (N, n, ...)."""
        norms = []
        if self.g2:
            norms.append(delta.abs().sum([d for d in range(delta.dim()) if d != 1]))
        if self.g1:
            norms.append(weight.abs().sum(tuple(range(1, weight.dim()))))
        scores = norms[0]
        if len(norms) > 1:
            scores.mul_(self.g2 / (self.g1 * len(delta))).add_(norms[1])  # S / (g1 N), which has the same order
        plan = self.plan
        if not plan.in_groups:
            return scores.topk(plan.kept, sorted=False).indices
        kept = scores.view(plan.groups, -1).topk(plan.kept // plan.groups, sorted=False).indices
        first = torch.arange(0, plan.channels, plan.channels // plan.groups, device=kept.device)
        return kept.add_(first.unsqueeze(1)).view(-1)


class _PrunedConvolution(torch.autograd.Function):
    """A convolution whose backward sees the strongest output channels only."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        rule: _Rule,
        stride: Any,
        padding: Any,
        dilation: Any,
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.rule, ctx.geometry, ctx.biased = rule, (stride, padding, dilation), bias is not None
        groups, dimensions = rule.plan.groups, len(stride)
        return torch.ops.aten.convolution(x, weight, bias, stride, padding, dilation, False, [0] * dimensions, groups)

    @staticmethod
    def backward(ctx: Any, delta: torch.Tensor) -> Any:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        plan, wanted = ctx.rule.plan, ctx.needs_input_grad[:3]
        kept = ctx.rule.strongest(delta, weight)
        seen, groups = x, plan.groups
        error = delta.index_select(1, kept)
        filters = _channels(weight, 0, kept, wanted[0])
        if plan.by_group:
            seen, groups = _channels(x, 1, kept, wanted[1]), plan.kept
        sizes = [plan.kept] if ctx.biased else None
        of_x, of_weight, of_bias = _convolution_backward(
            error, seen, filters, sizes, *ctx.geometry, False, [0] * len(ctx.geometry[0]), groups, wanted
        )
        if wanted[0] and plan.by_group:
            of_x = torch.zeros_like(x).index_copy_(1, kept, of_x)
        if wanted[1]:
            of_weight = torch.zeros_like(weight).index_copy_(0, kept, of_weight)
        if wanted[2]:
            of_bias = weight.new_zeros(plan.channels).index_copy_(0, kept, of_bias)
        return of_x, of_weight, of_bias, None, None, None, None


def _channels(tensor: torch.Tensor, dim: int, kept: torch.Tensor, copied: bool) -> torch.Tensor:
    """Return the channels `kept` of `tensor`; as many at its front, a view, where only their number matters."""
    return tensor.index_select(dim, kept) if copied else tensor.narrow(dim, 0, len(kept))


def _conv_forward(
    conv: Any, rule: _Rule, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Do what the convolution's own `_conv_forward` does, with another backward."""
    x, weight, bias, padding = prepared(conv, x, weight, bias, "error-map-prune")
    return _PrunedConvolution.apply(x, weight, bias, rule, conv.stride, padding, conv.dilation)  # type: ignore[no-any-return]
