"""Selective layer update, runnable: gates draw for each instance which residual blocks it passes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from simulator.errors import TrainwattError
from simulator.graph import Share
from simulator.techniques.slu import SelectiveLayerUpdate
from workloads.techniques.parts.residual import residual_blocks
from workloads.tracing.shapes import counted
from workloads.tracing.step import Step
from workloads.workload import Workload

NAME = "slu"
"""The submodule that holds the gates; it is registered after everything else."""


class _Drawn(torch.autograd.Function):
    """Draw which instances execute with probabilities p (N,): a mask (N,) of ones and zeros, straight through.

    dp = dmask (Bengio et al. 2013, arXiv:1308.3432).
    """

    @staticmethod
    def forward(ctx: Any, p: torch.Tensor) -> torch.Tensor:
        draw = torch.rand_like(p)
        return (draw < p).to(p.dtype)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad


class _Taken(torch.autograd.Function):
    """The instances `index` of x (N, C, H, W); the gradient of the others is zero."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(index)
        ctx.presented = len(x)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, None]:
        (index,) = ctx.saved_tensors
        return grad.new_zeros((ctx.presented, *grad.shape[1:])).index_copy_(0, index, grad), None


class _Combined(torch.autograd.Function):
    """out = m block(x) + (1 - m) x, where y and `taken` are block(x) and x of the instances `index` with m = 1.

    The mask m is exactly 1 or 0, so forward only copies y to its places. Backward, for the executed instances:

        dy = dout;  dx = 0;  dm = sum of dout (y - taken)        and dx = dout, dm = 0 for those that skip
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, index: torch.Tensor, y: torch.Tensor, taken: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(index, y, taken)
        return x.index_copy(0, index, y)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        index, y, taken = ctx.saved_tensors
        dx = dy = dmask = None
        if ctx.needs_input_grad[2] or ctx.needs_input_grad[4]:
            dy = grad.index_select(0, index)
        if ctx.needs_input_grad[4]:
            change = y.sub(taken).mul_(dy).sum((1, 2, 3))
            dmask = grad.new_zeros(len(grad)).index_copy_(0, index, change)
        if ctx.needs_input_grad[0]:
            dx = grad.index_fill(0, index, 0)
        return dx, None, dy, None, dmask


class Gates(nn.Module):
    """The gates of a network: one 1x1 convolution each on the mean of its images, one LSTM cell and one linear layer
    for all, which see the blocks in their order of execution.

    `channels` and `shares` are those of the gated blocks: of their inputs (N, C, H, W), and the shares of instances
    that are to execute them. `executed` and `presented` count the instances of training, by block.
    """

    def __init__(self, channels: list[int], shares: tuple[float, ...], hidden: int, beta: float, like: Any) -> None:
        super().__init__()
        kind = {"device": like.device, "dtype": like.dtype}
        self.project = nn.ModuleList(nn.Conv2d(c, hidden, 1, **kind) for c in channels)
        self.cell = nn.LSTMCell(hidden, hidden, **kind)
        self.decide = nn.Linear(hidden, 1, **kind)
        mean = sum(shares) / len(shares)
        with torch.no_grad():  # begin near the share that is wanted
            self.decide.bias.fill_(math.log(max(mean, 1e-3) / max(1 - mean, 1e-3)))
        self.shares, self.beta = shares, beta
        self.executed, self.presented = [0] * len(shares), [0] * len(shares)
        self._state: Any = None
        self._masks: list[tuple[int, torch.Tensor]] = []

    def forward(self, place: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return which instances of x (N, C, H, W) execute block number `place`: as a mask (N,) and as indices."""
        v = self.project[place](x.mean((2, 3), keepdim=True)).flatten(1)
        h, _ = self._state = self.cell(v, self._state if place else None)
        mask = _Drawn.apply(torch.sigmoid(self.decide(h)).flatten())
        if place == len(self.shares) - 1:
            self._state = None
        expected = Share("batch", self.shares[place]).size(len(x)) if isinstance(x, FakeTensor) else None
        with counted(expected):
            index = mask.nonzero().flatten()
        if self.training:
            self._masks.append((place, mask))
            self.executed[place] += len(index)
            self.presented[place] += len(x)
        return mask, index

    def penalised(self, loss: torch.Tensor) -> torch.Tensor:
        """Return the loss with the cost of the blocks executed since the last call: +- beta * sum of each mask.

        The sign drives the executed share of the block so far to the one wanted, down or up.
        """
        masks, self._masks = self._masks, []
        for place, mask in masks:
            above = self.executed[place] > self.shares[place] * self.presented[place]
            loss = torch.add(loss, mask.sum(), alpha=self.beta if above else -self.beta)
        return loss


class _Gated(nn.Module):
    """What a residual block becomes: it runs for the instances that its gate chooses, the others pass unchanged."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gates, place = self.__dict__["_gating"]
        mask, index = gates(place, x)
        if len(index) * x.shape[2] * x.shape[3] < 2:  # nothing for batch norm to tell a variance of
            return x
        taken = _Taken.apply(x, index)
        return _Combined.apply(x, index, super().forward(taken), taken, mask)


def workload(technique: SelectiveLayerUpdate, workload: Workload) -> Workload:
    """Put a gate before every residual block but the first, and the cost of executing into the loss.

    Raises `TrainwattError` where the model has fewer than two residual blocks.
    """
    blocks = residual_blocks(workload)[1:]
    if not blocks:
        raise TrainwattError("slu on a model with fewer than two residual blocks; it skips blocks that add their input")
    model = workload.model
    if hasattr(model, NAME):
        raise TrainwattError(f"slu on a model that has a module {NAME!r}; it is applied once")
    like = next(blocks[0].module.parameters())
    channels = [block.channels for block in blocks]
    gates = Gates(channels, technique.shares_of(len(blocks)), technique.gate, technique.beta, like)
    gates.train(model.training)
    model.add_module(NAME, gates)
    for place, block in enumerate(blocks):
        kind = type(block.module)
        block.module.__class__ = type(f"Gated{kind.__name__}", (_Gated, kind), {})
        block.module.__dict__["_gating"] = (gates, place)  # not as a submodule: there is one set of gates for all
    return replace(workload, loss=lambda outputs, targets: gates.penalised(workload.loss(outputs, targets)))


def measured(technique: SelectiveLayerUpdate, step: Step) -> SelectiveLayerUpdate:
    """Return the technique with the share of each block that was executed in the training steps so far."""
    gates = step.workload.model.get_submodule(NAME)
    assert isinstance(gates, Gates)
    pairs = zip(gates.executed, gates.presented, strict=True)
    shares = tuple(max(executed / presented, 1 / presented) if presented else 1.0 for executed, presented in pairs)
    return replace(technique, execute=sum(shares) / len(shares), shares=shares)
