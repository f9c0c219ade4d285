"""Which parameters a step trains, and whether batch norm learns its statistics."""

from __future__ import annotations

import re

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from simulator.errors import TrainwattError

SCOPES = "all, head, biases, last=K or a regular expression on parameter names"


def set_scope(model: nn.Module, train: str) -> int:
    """Freeze every parameter of `model` outside the scope `train`; return the number of trained tensors.

    `all`; `last=K`: everything from the K-th last weight layer on (a weight layer owns a parameter of two or more
    dimensions: convolution, linear, recurrent, embedding); `head`: the last weight layer; `biases`: every parameter
    called bias, also of normalisation; anything else is searched for in the parameter names as a regular expression.
    Layers count in the order in which the model registers them. Raises `TrainwattError` where nothing is left.
    """
    names = {name for name, _ in model.named_parameters()}
    chosen = _chosen(model, names, train)
    if not chosen:
        raise TrainwattError(f"train {train!r} matches no parameter; give {SCOPES}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
    return len(chosen)


def freeze_batch_norm(model: nn.Module) -> None:
    """Put every batch norm into eval mode: it uses its running statistics and does not update them."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def _chosen(model: nn.Module, names: set[str], train: str) -> set[str]:
    if train == "all":
        return names
    if train == "biases":
        return {name for name in names if name.rpartition(".")[2].startswith("bias")}
    if train == "head":
        train = "last=1"
    if match := re.fullmatch(r"last=(.*)", train):
        if not match[1].isdigit() or int(match[1]) < 1:
            raise TrainwattError(f"train {train!r} counts no layers; write for example last=4")
        return _last(model, int(match[1]))
    try:
        pattern = re.compile(train)
    except re.error as error:
        raise TrainwattError(f"train {train!r} is no regular expression ({error}); give {SCOPES}") from None
    return {name for name in names if pattern.search(name)}


def _last(model: nn.Module, count: int) -> set[str]:
    owners = [(name, module) for name, module in model.named_modules() if list(module.parameters(recurse=False))]
    weighty = [i for i, (_, m) in enumerate(owners) if any(p.dim() >= 2 for p in m.parameters(recurse=False))]
    if count > len(weighty):
        raise TrainwattError(f"train 'last={count}' asks for more layers than there are; there are {len(weighty)}")
    return {
        f"{name}.{parameter}" if name else parameter
        for name, module in owners[weighty[-count] :]
        for parameter, _ in module.named_parameters(recurse=False)
    }
