"""Batch norm that no longer follows the batch, for real: its modules stay in eval mode."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from simulator.techniques.freeze_bn import FreezeBatchNorm, chosen_norms
from workloads.workload import Workload


def workload(technique: FreezeBatchNorm, workload: Workload) -> Workload:
    """Put the chosen batch norms into eval mode, and freeze their scale and shift unless `affine`."""
    norms = {name: module for name, module in workload.model.named_modules() if _learns(module)}
    for name in chosen_norms(technique, list(norms)):
        norms[name].eval()
        if not technique.affine:
            norms[name].requires_grad_(False)
    return workload


def _learns(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.training and module.running_mean is not None
