"""In which order a model runs its modules."""

from __future__ import annotations

import contextlib
import copy
from functools import partial
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

from workloads.tracing.fake import fake_copy, faking
from workloads.tracing.shapes import CORRECTED
from workloads.workload import Workload

SAMPLES = 2


class _Corrected(TorchDispatchMode):
    """Gives ops the results that a trace gives them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        corrected = CORRECTED.get(func)
        return func(*args, **(kwargs or {})) if corrected is None else corrected(func, *args, **(kwargs or {}))


def executed(workload: Workload, kind: type[nn.Module] | tuple[type[nn.Module], ...]) -> list[str]:
    """Return the names of the modules of `kind` in the order in which a forward pass runs them, each once.

    The pass runs on fake tensors and changes nothing: no statistics, no random numbers.
    """
    order: dict[str, None] = {}

    def note(name: str, *_: Any) -> None:
        order[name] = None

    with contextlib.ExitStack() as stack:
        model = workload.model
        if any(isinstance(p, FakeTensor) for p in model.parameters()):
            model = copy.deepcopy(model)
        else:
            model = fake_copy(model, stack.enter_context(faking()))
        for name, module in model.named_modules():
            if isinstance(module, kind):
                stack.callback(module.register_forward_pre_hook(partial(note, name)).remove)
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.no_grad())
        stack.enter_context(_Corrected())
        Workload(model, workload.inputs, workload.targets, workload.loss).forward(workload.inputs(SAMPLES))
    return list(order)
