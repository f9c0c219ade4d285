"""Training some layers or parameters only, for real: the others require no gradient."""

from __future__ import annotations

from simulator.rewriting.layers import beside, layer_of
from simulator.techniques.sparse_update import SparseUpdate, trained_names
from workloads.workload import Workload


def workload(technique: SparseUpdate, workload: Workload) -> Workload:
    """Freeze every parameter that `technique` does not train."""
    named = {name: p for name, p in workload.model.named_parameters() if not beside(name)}
    weighty = list(dict.fromkeys(layer_of(name) for name, p in named.items() if p.dim() >= 2))
    chosen = trained_names(technique, list(named), weighty)
    for name, parameter in named.items():
        parameter.requires_grad_(parameter.requires_grad and name in chosen)
    return workload
