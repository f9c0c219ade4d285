"""Low-rank gradients, runnable: layers whose backward makes the gradients of two factors in place of the weight's."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from simulator.errors import TrainwattError
from simulator.rewriting.layers import choose
from simulator.techniques.low_rank_gradient import LowRankGradient
from workloads.tracing.step import Step
from workloads.workload import Workload

aten = torch.ops.aten


class _Factored(nn.Module):
    """What both kinds of layer share. W stays a parameter without a gradient; A, B, U and V are beside it."""

    weight: torch.Tensor
    weight_up: nn.Parameter
    weight_down: nn.Parameter
    weight_up_direction: torch.Tensor
    weight_down_direction: torch.Tensor

    def factorise(self, rank: int) -> None:
        """Make the factors, zero, and their directions, orthonormal and random."""
        m, n, *taps = self.weight.shape
        shapes = {"weight_up": (m, rank, *(1 for _ in taps)), "weight_down": (rank, n, *taps)}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(self.weight.new_zeros(shape)))
            direction = torch.empty(shape, dtype=self.weight.dtype, device=self.weight.device)
            self.register_buffer(f"{name}_direction", nn.init.orthogonal_(direction))
        self.weight.requires_grad_(False)

    @torch.no_grad()
    def merge(self, decay: float) -> None:
        """Move what the optimizer made of the factors into the weight, which decays by `decay` first."""
        if decay:
            self.weight.mul_(1 - decay)
        matrix = self.weight.flatten(1)
        matrix.addmm_(self.weight_up.flatten(1), self.weight_down_direction.flatten(1))
        matrix.addmm_(self.weight_up_direction.flatten(1), self.weight_down.flatten(1))
        self.weight_up.zero_()
        self.weight_down.zero_()


class FactoredLinear(_Factored, nn.Linear):
    """A linear layer with factored gradient."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.weight_up.requires_grad:
            return super().forward(x)
        rows = x.reshape(-1, x.shape[-1]) if x.dim() != 2 else x
        directions = (self.weight_up_direction, self.weight_down_direction)
        y = _LinearFunction.apply(  # type: ignore[no-untyped-call]
            rows, self.weight.t(), self.bias, self.weight_up, self.weight_down, *directions
        )
        return cast(torch.Tensor, y if x.dim() == 2 else y.view(*x.shape[:-1], y.shape[-1]))


class FactoredConv2d(_Factored, nn.Conv2d):
    """A convolution with factored gradient."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.weight_up.requires_grad:
            return super().forward(x)
        directions = (self.weight_up_direction, self.weight_down_direction)
        geometry = (self.stride, self.padding, self.dilation)
        y = _ConvolutionFunction.apply(  # type: ignore[no-untyped-call]
            x, self.weight, self.bias, self.weight_up, self.weight_down, *directions, geometry
        )
        return cast(torch.Tensor, y)


class _LinearFunction(torch.autograd.Function):
    """x (N, n), weight (n, m), bias (m) or None, A (m, r), B (r, n), U (m, r), V (r, n) -> y (N, m)."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, up: Any, down: Any, u: Any, v: Any) -> Any:
        ctx.save_for_backward(x, weight if ctx.needs_input_grad[0] else None, u, v)
        return torch.mm(x, weight) if bias is None else torch.addmm(bias, x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (dy,) = gradients
        x, weight, u, v = ctx.saved_tensors
        dx = dy.mm(weight.t()) if ctx.needs_input_grad[0] else None
        dbias = dy.sum(0, keepdim=True).view(-1) if ctx.needs_input_grad[2] else None
        z = x.mm(v.t())
        dup = dy.t().mm(z)
        dz = dy.mm(u)
        return dx, None, dbias, dup, dz.t().mm(x), None, None


class _ConvolutionFunction(torch.autograd.Function):
    """x (N, C, H, W), weight (K, C, R, S), bias (K) or None, A (K, r, 1, 1), B (r, C, R, S), U, V as A, B -> y."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, up: Any, down: Any, u: Any, v: Any, geometry: Any) -> Any:
        ctx.geometry = (*geometry, False, (0, 0), 1)
        ctx.save_for_backward(x, weight, u, v)
        return aten.convolution(x, weight, bias, *ctx.geometry)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (dy,) = gradients
        x, weight, u, v = ctx.saved_tensors
        dx = None
        if ctx.needs_input_grad[0]:
            dx, _, _ = aten.convolution_backward(dy, x, weight, None, *ctx.geometry, [True, False, False])
        dbias = dy.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None  # asked for it, kernels make dweight too
        z = aten.convolution(x, v, None, *ctx.geometry)
        unit = ((1, 1), (0, 0), (1, 1), False, (0, 0), 1)
        dz, dup, _ = aten.convolution_backward(dy, z, u, None, *unit, [True, True, False])
        _, ddown, _ = aten.convolution_backward(dz, x, v, None, *ctx.geometry, [False, True, False])
        return dx, None, dbias, dup, ddown, None, None, None


FORMS: dict[type[nn.Module], type[_Factored]] = {nn.Linear: FactoredLinear, nn.Conv2d: FactoredConv2d}


def workload(technique: LowRankGradient, workload: Workload) -> Workload:
    """Give the chosen layers factors; raises `TrainwattError` where no layer of the model takes part."""
    found = {name: module for name, module in workload.model.named_modules() if _takes_part(module)}
    names = choose(list(found), "trained linear layers and convolutions", technique.layers, technique.last)
    chosen = [found[name] for name in names if _pays(found[name], technique.rank)]
    if not chosen:
        raise TrainwattError(
            f"{technique} leaves every gradient as it is; a matrix of m x n takes part where rank < m n / (m + n)"
        )
    for module in chosen:
        module.__class__ = FORMS[type(module)]
        cast(_Factored, module).factorise(technique.rank)
    return workload


def step(technique: LowRankGradient, step: Step) -> Step:
    """Let what the optimizer makes of the factors go into the weights after each of its steps."""
    rates = {id(p): group for group in step.optimizer.param_groups for p in group["params"]}
    factored = [m for m in step.workload.model.modules() if isinstance(m, _Factored) and id(m.weight_up) in rates]

    def merge(*_: Any) -> None:
        for module in factored:
            group = rates[id(module.weight_up)]
            module.merge(group["lr"] * group.get("weight_decay", 0.0))

    step.optimizer.register_step_post_hook(merge)
    return step


def _takes_part(module: nn.Module) -> bool:
    if type(module) not in FORMS or not cast(nn.Linear, module).weight.requires_grad:
        return False
    if not isinstance(module, nn.Conv2d):
        return True
    return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _pays(module: nn.Module, rank: int) -> bool:
    m, n = cast(nn.Linear, module).weight.flatten(1).shape
    return rank * (m + n) < m * n
