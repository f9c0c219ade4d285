"""What can be claimed: each function returns our value of one published quantity, in the paper's unit.

Networks are traced at batch 1 unless the quantity is one of a whole mini-batch; FLOP conventions other than ours are
converted here, and only here.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from analysis.claims.registry import metric
from simulator.graph import Graph
from simulator.techniques import apply, parse
from simulator.work import work_of


@cache
def traced(
    network: str,
    batch: int = 1,
    classes: int | None = None,
    optimizer: str = "sgd{momentum=0.9}",
    input_shape: tuple[int, ...] | None = None,
) -> Graph:
    """Return the plain training step of a network of the catalog; each is traced once."""
    from analysis.source import TraceOptions, graph_from

    return graph_from(network, TraceOptions(batch=batch, classes=classes, optimizer=optimizer, input_shape=input_shape))


def _graph(
    network: str, batch: int = 1, classes: int | None = None, apply_: str = "", optimizer: str = "sgd{momentum=0.9}"
) -> Graph:
    graph = traced(network, batch, classes, optimizer)
    return apply(parse(apply_), graph) if apply_ else graph


def _macs(graph: Graph, *phases: str) -> float:
    """Return the MACs of the ops in `phases`, or of all."""
    work = work_of(graph)
    macs = work.macs[work.row_of_op] * work.runs
    return float(sum(m for m, op in zip(macs, graph.ops, strict=True) if not phases or op.phase in phases))


# -- shares and reductions of multiply-accumulates ---------------------------------------------------------------------


@metric("training-gmac")
def training_gmac(network: str, batch: int = 1, apply: str = "", classes: int | None = None) -> float:
    """MACs of a training step, in 1e9."""
    return _macs(_graph(network, batch, classes, apply)) / 1e9


@metric("computation-reduction")
def computation_reduction(network: str, apply: str, batch: int = 128, classes: int | None = None) -> float:
    """Share of a training step's MACs that a technique saves, in percent; overheads of MACs are in it."""
    plain, treated = (_macs(_graph(network, batch, classes, text)) for text in ("", apply))
    return 100 * (1 - treated / plain)


@metric("backward-reduction")
def backward_reduction(network: str, apply: str, batch: int = 128, classes: int | None = None) -> float:
    """Share of the backward pass's MACs that a technique saves, in percent."""
    plain, treated = (_macs(_graph(network, batch, classes, text), "backward") for text in ("", apply))
    return 100 * (1 - treated / plain)


@metric("forward-share")
def forward_share(network: str, classes: int | None = None) -> float:
    """Forward MACs as a share of a training step's."""
    graph = _graph(network, 1, classes)
    return _macs(graph, "forward") / _macs(graph)


@metric("inference-ratio")
def inference_ratio(network: str, over: str, classes: int, size: int) -> float:
    """Forward MACs of `network` (`classes`, RGB of `size` x `size`) in percent of those of the network `over`."""
    small = traced(network, 1, classes, input_shape=(3, size, size))
    return 100 * _macs(small, "forward") / _macs(_graph(over), "forward")


@metric("training-ratio")
def training_ratio(network: str, over: str, classes: int, size: int) -> float:
    """Training MACs of `network` (`classes`, RGB of `size` x `size`) in percent of those of the network `over`."""
    return 100 * _macs(traced(network, 1, classes, input_shape=(3, size, size))) / _macs(_graph(over))


@metric("added-share")
def added_share(network: str, apply: str, batch: int = 1) -> float:
    """Forward MACs that a technique adds where it skips nothing, in percent of the plain forward's."""
    plain, treated = (_macs(_graph(network, batch, None, text), "forward") for text in ("", apply))
    return 100 * (treated / plain - 1)


@metric("training-memory-reduction")
def training_memory_reduction(network: str, apply: str, optimizer: str, batch: int = 1) -> float:
    """Share of the peak memory of a training step that a technique saves, in percent."""
    from simulator.memory import replay

    plain, treated = (replay(_graph(network, batch, None, text, optimizer)).peak_bytes for text in ("", apply))
    return 100 * (1 - treated / plain)


@metric("training-cost-ratio")
def training_cost_ratio(network: str, apply: str, batch: int = 1) -> float:
    """Training MACs of the plain step over those with a technique."""
    plain, treated = (_macs(_graph(network, batch, None, text)) for text in ("", apply))
    return plain / treated


@metric("e2train-reduction")
def e2train_reduction(network: str, smd: str, slu: str, psg: float, batch: int = 128) -> float:
    """Saving of E2-Train's three parts, in percent: 1 - SMD * SLU * PSG, the last as the cost factor `psg`."""
    plain = _macs(_graph(network, batch))
    dropped = _graph(network, batch, None, smd)
    presented = float(dropped.meta.get("stretch", 1.0))
    skipped = _graph(network, batch, None, slu)
    return 100 * (1 - presented * _macs(dropped) / plain * _macs(skipped) / plain * psg)


# -- as the gradient-filtering paper counts ----------------------------------------------------------------------------


def _tuned(
    network: str,
    classes: int | None,
    tuned: list[str] | None,
    layers: int | None,
    patch: int,
    filtered: list[str] | None,
    size: int | None,
) -> tuple[Graph, Any, tuple[str, ...]]:
    """Return the step, the patch of each tuned layer, and the tuned layers: the first `layers` of `tuned`."""
    shape = None if size is None else (3, size, size)
    graph = traced(network, 2, classes, input_shape=shape)  # batch norm of a 1x1 map needs two images
    chosen = tuple(tuned or ())[:layers]
    patches = dict.fromkeys(filtered, patch) if filtered else patch
    return graph, patches, chosen


@metric("backward-mflop")
def backward_mflop(
    network: str,
    classes: int | None = None,
    tuned: list[str] | None = None,
    layers: int | None = None,
    patch: int = 1,
    filtered: list[str] | None = None,
    size: int | None = None,
) -> float:
    """Backward FLOPs of one image, of the tuned convolutions and the classifier, in 1e6."""
    from analysis.claims.yang_counting import yang_flops

    return yang_flops(*_tuned(network, classes, tuned, layers, patch, filtered, size)) / 1e6


@metric("conv-input-kib")
def conv_input_kib(
    network: str,
    classes: int | None = None,
    tuned: list[str] | None = None,
    layers: int | None = None,
    patch: int = 1,
) -> float:
    """Memory of the tuned convolutions' inputs of one image, in KiB."""
    from analysis.claims.yang_counting import yang_memory_bytes

    return yang_memory_bytes(*_tuned(network, classes, tuned, layers, patch, None, None)) / 1024


@metric("backward-flop-speedup")
def backward_flop_speedup(network: str, classes: int, tuned: list[str], layers: int, patch: int) -> float:
    """Backward FLOPs of the tuned layers without the filter over those with it."""
    plain, treated = (backward_mflop(network, classes, tuned, layers, r) for r in (1, patch))
    return plain / treated


@metric("conv-input-reduction")
def conv_input_reduction(network: str, classes: int, tuned: list[str], layers: int, patch: int) -> float:
    """Memory of the tuned convolutions' inputs without the filter over that with it."""
    plain, treated = (conv_input_kib(network, classes, tuned, layers, r) for r in (1, patch))
    return plain / treated


@metric("conv-input-saving")
def conv_input_saving(network: str, classes: int, tuned: list[str], layers: int, patch: int) -> float:
    """Share of the memory of the tuned convolutions' inputs that the filter saves, in percent."""
    return 100 * (1 - 1 / conv_input_reduction(network, classes, tuned, layers, patch))


# -- whole steps on a device -------------------------------------------------------------------------------------------


@metric("step-seconds")
def step_seconds(network: str, batch: int, device: str) -> float:
    """Seconds of a training step on a device in its default mode."""
    from hwmodels.device import device as named
    from simulator.estimate import estimate

    return estimate(_graph(network, batch), named(device)).total.latency_s
