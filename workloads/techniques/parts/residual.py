"""Finding residual blocks in any model: modules that add their own input to what they make of it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from workloads.training.evaluation import in_eval_mode
from workloads.workload import Workload

aten = torch.ops.aten


@dataclass(frozen=True)
class Residual:
    """A residual block: its module, the module's name, and the channels C of the images (N, C, H, W) it takes."""

    name: str
    module: nn.Module
    channels: int


def residual_blocks(workload: Workload) -> list[Residual]:
    """Return the residual blocks of a model in execution order; the model is run once, without training it.

    A residual block is a module that is called once, with one batch of images (N, C, H, W), adds it unchanged to
    something it computes, and returns images of the same shape. Of blocks within blocks it is the inner ones.
    """
    names = {id(module): name for name, module in workload.model.named_modules()}
    watch = _Additions()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(in_eval_mode(workload.model))
        stack.enter_context(torch.no_grad())
        stack.callback(register_module_forward_pre_hook(watch.enter).remove)
        stack.callback(register_module_forward_hook(watch.leave).remove)
        inputs = workload.inputs(1)
        with watch:
            workload.forward(inputs)
    found = [
        Residual(names[id(m)], m, channels)
        for m, channels in watch.blocks
        if names.get(id(m)) and watch.calls[id(m)] == 1
    ]
    return [block for block in found if not any(other.name.startswith(block.name + ".") for other in found)]


class _Additions(TorchDispatchMode):
    """Notes which modules add their input to something."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[tuple[nn.Module, int]] = []
        self.calls: dict[int, int] = {}
        self._stack: list[tuple[torch.Tensor | None, bool]] = []

    def enter(self, module: nn.Module, args: Any) -> None:
        self.calls[id(module)] = self.calls.get(id(module), 0) + 1
        image = len(args) == 1 and isinstance(args[0], torch.Tensor) and args[0].dim() == 4
        self._stack.append((args[0] if image else None, False))

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        x, added = self._stack.pop()
        if added and x is not None and isinstance(output, torch.Tensor) and output.shape == x.shape:
            self.blocks.append((module, x.shape[1]))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (aten.add.Tensor, aten.add_.Tensor) and self._stack:
            x, _ = self._stack[-1]
            terms = [t for t in args[:2] if isinstance(t, torch.Tensor)]
            is_input = [x is not None and _same(t, x) for t in terms]
            if len(terms) == 2 and sum(is_input) == 1 and terms[0].shape == terms[1].shape:
                self._stack[-1] = (x, True)
        return result


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and a.untyped_storage()._cdata == b.untyped_storage()._cdata
