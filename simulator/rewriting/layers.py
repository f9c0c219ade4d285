"""Which layers of a graph a technique works on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from simulator.errors import TrainwattError, unknown
from simulator.graph import ROOT_LAYER, Graph
from simulator.rewriting.edit import Edit
from simulator.rewriting.node import Node

BESIDE = frozenset({"instance_filter"})
"""Modules of networks that techniques train beside the given one. Techniques applied later leave these alone."""


def beside(name: str) -> bool:
    """Tell whether a layer or parameter is part of a network beside the given one."""
    return name.partition(".")[0] in BESIDE


def parameters(graph: Graph) -> Mapping[str, int]:
    """Return the number of dimensions of every parameter, by name, in the order the network registers them."""
    named = {i: s.name for i, s in enumerate(graph.storages) if s.role == "parameter" and not beside(s.name)}
    rank: dict[int, int] = {}
    for tensor in graph.tensors:  # the first tensor in a parameter's storage is the parameter itself
        if tensor.storage in named:
            rank.setdefault(tensor.storage, len(tensor.shape))
    return {name: rank.get(i, 0) for i, name in named.items()}


def layer_of(parameter: str) -> str:
    """Return the layer that owns a parameter."""
    return parameter.rpartition(".")[0] or ROOT_LAYER


def weight_layers(graph: Graph) -> list[str]:
    """Return the layers that own a parameter of two or more dimensions, in the order they are registered."""
    return list(dict.fromkeys(layer_of(name) for name, rank in parameters(graph).items() if rank >= 2))


def forward_convolutions(edit: Edit) -> list[Node]:
    """Return the convolutions of the forward pass, in execution order."""
    return [n for n in edit.nodes if n.kind == "convolution" and n.phase == "forward" and not beside(n.layer)]


def choose(known: Sequence[str], what: str, layers: Iterable[str] = (), last: int | None = None) -> list[str]:
    """Return which of the layers `known` are meant: the `last` ones, or those `layers` match, or all; in order.

    A pattern is a layer's name, the name of a module around it, or has wildcards (`layer4.*.conv1`). Raises
    `TrainwattError` where a pattern matches nothing or there are fewer layers than asked for.
    """
    patterns = tuple(layers)
    if patterns and last is not None:
        raise TrainwattError(f"both layers={'|'.join(patterns)} and last={last}; give one of them")
    names = list(dict.fromkeys(known))
    if last is not None:
        if not 1 <= last <= len(names):
            raise TrainwattError(f"last={last} of {len(names)} {what}; give 1 to {len(names)}")
        return names[-last:]
    for pattern in patterns:
        if not any(matches(pattern, name) for name in names):
            raise unknown(what, pattern, names)
    return [name for name in names if not patterns or any(matches(p, name) for p in patterns)]


def matches(pattern: str, layer: str) -> bool:
    """Tell whether `pattern` names `layer`, a module around it, or either with wildcards."""
    return layer == pattern or layer.startswith(pattern + ".") or fnmatchcase(layer, pattern)
