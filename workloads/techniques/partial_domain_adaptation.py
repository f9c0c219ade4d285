"""Retraining for the classes that a device sees, for real: a narrower classifier, and only the last layers learn."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from simulator.errors import TrainwattError
from simulator.rewriting.layers import layer_of
from simulator.techniques.partial_domain_adaptation import PartialDomainAdaptation
from simulator.techniques.sparse_update import SparseUpdate, trained_names
from workloads.workload import Workload


def workload(technique: PartialDomainAdaptation, workload: Workload) -> Workload:
    """Narrow the classifier and freeze what is below the last layers. Targets are numbers below `classes`."""
    model = workload.model
    named = dict(model.named_parameters())
    weighty = list(dict.fromkeys(layer_of(name) for name, p in named.items() if p.dim() >= 2))
    chosen = trained_names(SparseUpdate(last=technique.last), list(named), weighty)
    _narrow(model.get_submodule(weighty[-1]), weighty[-1], technique.classes)
    trained = {layer_of(name) for name in chosen}
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and name not in trained:
            module.eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and name in chosen)
    return workload


def _narrow(module: nn.Module, name: str, classes: int) -> None:
    """Keep the first `classes` rows of a classifier."""
    if type(module) not in (nn.Linear, nn.Conv2d) or getattr(module, "groups", 1) != 1:
        raise TrainwattError(f"the classifier {name} is a {type(module).__name__}; it must be linear or a convolution")
    assert isinstance(module, nn.Linear | nn.Conv2d)
    before = module.weight.shape[0]
    if classes > before:
        raise TrainwattError(f"classes={classes} of a network that tells {before}; give 1 to {before}")
    for key, parameter in list(module.named_parameters(recurse=False)):
        rows = nn.Parameter(parameter.detach()[:classes].clone(), parameter.requires_grad)
        setattr(module, key, rows)
    width = "out_features" if isinstance(module, nn.Linear) else "out_channels"
    setattr(module, width, module.weight.shape[0])
