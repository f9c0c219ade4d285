"""Structured pruning, for real: the library torch-pruning shrinks the modules of the model."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_map_only

from simulator.errors import TrainwattError, first_line
from simulator.rewriting.channels import Group
from simulator.techniques.structured_prune import StructuredPrune
from workloads.workload import Workload


def workload(technique: StructuredPrune, workload: Workload) -> Workload:
    """Prune the channels of lowest mean |w| of every group (Rajagopal and Bouganis 2020), in place.

    A channel of several layers that go together counts with the sum of their means. Fake weights have no values; the
    first channels stay then, which costs the same. Raises `TrainwattError` where torch-pruning is not installed or
    cannot prune the model.
    """
    model = workload.model
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    with _evaluating(model), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            dependencies = _dependencies(workload)
            found = _groups(dependencies, model)
            sizes = technique.sizes({symbol: group for symbol, (group, _) in found.items()}, {})
            for symbol, size in sizes.items():
                group, members = found[symbol]
                members.prune(idxs=_pruned(members, group, size))
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(flags[name])
            with torch.no_grad():
                workload.forward(workload.inputs(2))
        except TrainwattError:
            raise
        except Exception as error:
            raise TrainwattError(
                f"torch-pruning cannot prune {type(model).__name__}: {first_line(error)}; "
                "structured-prune exists for it as a graph transform only"
            ) from error
    return workload


def _dependencies(workload: Workload) -> Any:
    """Return which modules torch-pruning takes to depend on which."""
    try:
        import torch_pruning
    except ModuleNotFoundError:
        raise TrainwattError("no library torch-pruning for structured-prune; pip install torch-pruning") from None
    inputs = workload.inputs(2)

    def forward(model: nn.Module, given: Any) -> Any:
        # The library must not take the last layer for the output itself: what it makes is fixed.
        return tree_map_only(torch.Tensor, torch.clone, workload.forward(given))

    with torch.enable_grad():
        for parameter in workload.model.parameters():
            parameter.requires_grad_(True)
        return torch_pruning.DependencyGraph().build_dependency(workload.model, inputs, forward, verbose=False)


def _groups(dependencies: Any, model: nn.Module) -> Mapping[str, tuple[Group, Any]]:
    """Return the groups of channels that may be pruned, each with its members, under the name of its first layer."""
    from torch_pruning.ops import OPTYPE

    names = {module: name for name, module in model.named_modules()}
    found: dict[str, tuple[Group, Any]] = {}
    for members in dependencies.get_all_groups(root_module_types=[_ConvNd, nn.Linear]):
        if any(item.dep.target.type == OPTYPE.OUTPUT for item in members):
            continue
        makers = [module for _, module in _makers(members)]
        convolutions = [m for m in makers if isinstance(m, _ConvNd)]
        # A grouped convolution that makes these channels, or takes them, has equally many of them in each group.
        units = max([m.groups for m in _shared(members)], default=1)
        width = len(members[0].idxs)
        layers = {names[module]: units for module in makers}
        symbol = next(iter(layers))
        found[symbol] = (Group(symbol, width // units, layers, bool(convolutions)), members)
    return found


def _makers(members: Any) -> Iterator[tuple[Any, nn.Module]]:
    """Yield the members that lose output channels and hold weights that make them."""
    for item in members:
        module = item.dep.target.module
        if "out" in item.dep.handler.__name__ and isinstance(module, _ConvNd | nn.Linear):
            yield item, module


def _shared(members: Any) -> list[_ConvNd]:
    """Return the grouped convolutions among the members that are not depthwise."""
    modules = [item.dep.target.module for item in members]
    return [m for m in modules if isinstance(m, _ConvNd) and m.groups > 1 and m.weight.shape[1] > 1]


def _pruned(members: Any, group: Group, size: int) -> list[int]:
    """Return which of the channels go so that `size` units stay: in each equal part, those of lowest score."""
    width = len(members[0].idxs)
    parts = width // group.size
    scores = torch.zeros(width)
    for item, module in _makers(members):
        weight: torch.Tensor = module.weight.detach()  # type: ignore[assignment,operator]
        if isinstance(weight, FakeTensor):
            return [i for i in range(width) if i % group.size >= size]
        means = weight.abs().flatten(1).mean(1).cpu()
        scores[torch.tensor(item.root_idxs)] += means[torch.tensor(item.idxs)]
    order = scores.view(parts, group.size).argsort(dim=1, stable=True)[:, : group.size - size]
    return [part * group.size + int(i) for part, gone in enumerate(order) for i in gone]


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Keep what forward passes change in a model that trains: batch-norm statistics, random numbers."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, flag in training.items():
            module.training = flag
