"""Running plain user code on fake tensors: tensors with a shape, strides and a storage, but no memory.

PyTorch's `FakeTensorMode` runs the real eager code path for a device that is there (the CPU), which is why its
op stream is the eager one. Some code notices that a tensor is fake and takes another path; the patches here make
it take the eager path. Each holds only while a step is traced.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from workloads.tracing.schema import schema_of

SMALL_NUMEL = 4096
"""Elements up to which a tensor that a definition makes has its real value."""

MAX_DUMMY_READS = 100_000
"""A loop that waits for a value (rejection sampling) reads dummies for ever; stop it here."""


def dummy_value(tensor: torch.Tensor, building: bool) -> bool | float | int:
    """Return what reading a fake tensor's value yields.

    While a model is built, False ends `while mask.any()` loops. In the step True keeps a mask's code path, and 0.0
    says "no overflow" to a gradient scaler.
    """
    if tensor.dtype == torch.bool:
        return not building
    return 0.0 if tensor.dtype.is_floating_point else 1


class _Building(TorchDispatchMode):
    """Computes small tensors for real while a model is built, and answers reads of the others.

    Definitions compute with values: `torch.linspace(0, rate, depth)` gives each block its own drop rate. Such tensors
    are small; weights, whose values do not matter, need not be.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = tree_leaves((args, kwargs))
        try:
            if any(isinstance(value, FakeTensor) for value in given):
                return func(*args, **kwargs)
            writes = bool(schema_of(func).written)
            fake = None if writes else func(*args, **kwargs)
            made = [t for t in (given if writes else tree_leaves(fake)) if isinstance(t, torch.Tensor)]
            if all(t.numel() <= SMALL_NUMEL for t in made):
                with unset_fake_temporarily():
                    return func(*args, **kwargs)
            return func(*args, **kwargs) if writes else fake
        except DataDependentOutputException:
            if func is not torch.ops.aten._local_scalar_dense.default:
                raise
            if not isinstance(args[0], FakeTensor):
                with unset_fake_temporarily():
                    return func(*args, **kwargs)
            self.reads += 1
            if self.reads > MAX_DUMMY_READS:
                raise
            return dummy_value(args[0], building=True)


@contextlib.contextmanager
def building() -> Iterator[None]:
    """Construct a model on fake tensors. Call `adopt` on it afterwards.

    Initialisation would only fill weights, so `torch.nn.init` is skipped; the user's random numbers stay his own.
    """
    initialisers = [
        n for n in dir(nn.init) if n.endswith("_") and not n.startswith("_") and callable(getattr(nn.init, n))
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        for name in initialisers:
            stack.enter_context(mock.patch.object(nn.init, name, lambda tensor, *args, **kwargs: tensor))
        stack.enter_context(_Building())
        yield


def _fakes(model: nn.Module, mode: FakeTensorMode) -> dict[int, Any]:
    """Return a fake twin of every real parameter and buffer of `model`, by its id; what is tied has one twin."""
    twins: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        if not isinstance(tensor, FakeTensor):
            fake = mode.from_tensor(tensor.detach(), static_shapes=True)
            twins[id(tensor)] = nn.Parameter(fake, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fake
    return twins


def adopt(model: nn.Module, mode: FakeTensorMode) -> None:
    """Make every parameter and buffer of `model` fake, in place."""
    twins = _fakes(model, mode)
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                table[name] = twins.get(id(tensor), tensor)


def fake_copy(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """Return a copy of `model` whose parameters and buffers are fake; no memory is copied."""
    return copy.deepcopy(model, _fakes(model, mode))


def _apply(original: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Return `nn.Module._apply` for fake parameters: rebind them, since `swap_tensors` refuses fake tensors."""

    def apply(self: nn.Module, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> nn.Module:
        if not any(isinstance(p, FakeTensor) for p in self.parameters()):
            return original(self, fn, recurse)
        converted: dict[int, nn.Parameter] = {}
        for module in self.modules() if recurse else (self,):
            for name, p in module._parameters.items():
                if p is None:
                    continue
                if id(p) not in converted:  # tied parameters stay tied
                    with torch.no_grad():
                        new = fn(p)
                    converted[id(p)] = p if new is p else nn.Parameter(new, p.requires_grad)
                    converted[id(converted[id(p)])] = converted[id(p)]
                module._parameters[name] = converted[id(p)]
            for name, b in module._buffers.items():
                if b is not None:
                    module._buffers[name] = fn(b)
        return self

    return apply


def _deepcopy(self: FakeTensor, memo: dict[int, Any]) -> Any:
    """Copy a fake tensor; the default would copy the whole mode with it."""
    if id(self) not in memo:
        with torch.no_grad():
            copy: Any = torch.empty_strided(self.shape, self.stride(), dtype=self.dtype, device=self.device)
        memo[id(self)] = (
            nn.Parameter(copy, self.requires_grad)
            if isinstance(self, nn.Parameter)
            else copy.requires_grad_(self.requires_grad)
        )
    return memo[id(self)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep PyTorch from logging a traceback for every op that fails on fake tensors; we say what failed."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def faking() -> Iterator[FakeTensorMode]:
    """Enter a fake tensor mode in which `.to()`, `copy.deepcopy` and foreach optimizers behave as in eager mode."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        mode = stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(mock.patch.object(nn.Module, "_apply", _apply(nn.Module._apply)))
        stack.enter_context(mock.patch.object(FakeTensor, "__deepcopy__", _deepcopy, create=True))
        supported: list[type] = _foreach_utils._foreach_supported_types
        supported.append(FakeTensor)
        stack.callback(supported.remove, FakeTensor)
        transformers = sys.modules.get("transformers.utils.import_utils")
        if transformers is not None:  # it takes other attention-mask code where it sees a fake tensor
            stack.enter_context(mock.patch.object(transformers, "is_fake_tensor", lambda x: False, create=True))
        yield mode
