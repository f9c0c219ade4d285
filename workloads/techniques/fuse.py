"""Batch norm folded into the convolution before it, for real."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from simulator.errors import TrainwattError
from simulator.techniques.fuse import Fuse
from workloads.training.evaluation import in_eval_mode
from workloads.workload import Workload


def workload(technique: Fuse, workload: Workload) -> Workload:
    """Fold the frozen batch norms; raises `TrainwattError` where there is none, and for a fused activation."""
    if technique.activation:
        raise TrainwattError("fuse with activation=true has no runnable form in eager PyTorch; leave activation out")
    model = workload.model
    pairs = [(c, n) for c, n in _pairs(workload) if _frozen(model, c) and _frozen(model, n)]
    if not pairs:
        raise TrainwattError("fuse on a model without a frozen convolution and a frozen batch norm after it")
    for conv_path, norm_path in pairs:
        conv, norm = model.get_submodule(conv_path), model.get_submodule(norm_path)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, _BatchNorm)
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        parent, _, name = norm_path.rpartition(".")
        setattr(model.get_submodule(parent), name, nn.Identity())
    return workload


def _frozen(model: nn.Module, path: str) -> bool:
    module = model.get_submodule(path)
    if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
        return False
    return not any(p.requires_grad for p in module.parameters())


class _Uses(TorchFunctionMode):
    """Counts how often each tensor is an operand while this is entered, by its id."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()
        self._alive: list[torch.Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(isinstance(value, torch.Tensor) for value in tree_leaves(result)):  # else it asked for a shape, say
            given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
            self.count.update(map(id, given))
            self._alive += given  # an id is one tensor's for as long as that lives
        return result


def _pairs(workload: Workload) -> list[tuple[str, str]]:
    """Return the paths of each convolution and the batch norm that alone takes its result.

    They are found by running the model on a batch, in eval mode, so that nothing about it changes.
    """
    model = workload.model
    made: dict[int, str] = {}
    taken: list[tuple[int, str]] = []
    calls: Counter[str] = Counter()
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d):

                def ran(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
                    made[id(output)] = name
                    calls[name] += 1

                stack.callback(module.register_forward_hook(ran).remove)
            elif isinstance(module, _BatchNorm):

                def given(module: nn.Module, args: Any, name: str = name) -> None:
                    taken.append((id(args[0]), name))
                    calls[name] += 1

                stack.callback(module.register_forward_pre_hook(given).remove)
        stack.enter_context(in_eval_mode(model))
        stack.enter_context(torch.no_grad())
        uses = stack.enter_context(_Uses())
        workload.forward(workload.inputs(1))
    pairs = [(made[tensor], norm) for tensor, norm in taken if tensor in made and uses.count[tensor] == 1]
    return [(conv, norm) for conv, norm in pairs if calls[conv] == calls[norm] == 1]
