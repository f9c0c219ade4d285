"""`trace`: from a model to the graph of its training step."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from simulator.errors import TrainwattError, unknown
from simulator.graph import Graph, Untraceable
from simulator.techniques import Technique
from workloads.optimizers import optimizer_from
from workloads.scope import freeze_batch_norm, set_scope
from workloads.sources import workload_from
from workloads.techniques import make_step
from workloads.tracing.build import Mismatch, build_graph, same_numbers
from workloads.tracing.fake import faking
from workloads.tracing.recorder import Record
from workloads.tracing.step import Step, record_step, without_collection

PRECISIONS: Mapping[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Compute precisions; the 16-bit ones run under `torch.autocast`, with parameters in float32."""

BATCH_NORM_MODES = ("train", "eval")


def trace(
    model: Any,
    *,
    batch: int = 32,
    classes: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    widths: Mapping[str, int] | None = None,
    arguments: Mapping[str, Any] | None = None,
    loss: str | Callable[[Any, Any], Any] = "cross-entropy",
    optimizer: str = "sgd{momentum=0.9}",
    foreach: bool = False,
    train: str = "all",
    batch_norm: str = "train",
    precision: str = "fp32",
    accumulate: int = 1,
    channels_last: bool = False,
    techniques: Iterable[Technique] = (),
    rebatches: bool = True,
    progress: Callable[[float], None] = lambda share: None,
) -> Graph:
    """Record one eager training step of `model` on fake tensors and return its graph, bound to `batch`.

    `model` is the name of a network, `package.module:callable` with keyword `arguments` (a function or class that
    returns a `torch.nn.Module` or a `Workload`; a Hugging Face model class is built from its config class), a
    module, or a `Workload`. `batch` counts the samples of one forward pass; with `accumulate` the optimizer steps
    after that many passes. `train` is a scope (see `workloads.scope.set_scope`), `loss` is `cross-entropy`, `mse`,
    `package.module:callable` or a function of (outputs, targets). `techniques` trace the step with their runnable
    twins applied; what a transform makes of the plain trace is the same. `rebatches=False` records at `batch` alone
    (for steps whose numbers are no polynomials of it). `progress` is told the share of the work done.

    The step is recorded at `batch` and `batch + 1`, which tells the dimensions that are the batch, and at 1, where
    PyTorch may do other things. Raises `TrainwattError`, naming module and op, for what cannot be traced.
    """
    if batch < 1:
        raise TrainwattError(f"batch {batch}; a batch has at least 1 sample")
    if accumulate < 1:
        raise TrainwattError(f"accumulate {accumulate}; at least 1 micro-batch makes a step")
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if batch_norm not in BATCH_NORM_MODES:
        raise unknown("batch-norm mode", batch_norm, BATCH_NORM_MODES)
    make_optimizer = optimizer_from(optimizer, foreach)
    with faking() as mode:
        workload = workload_from(
            model,
            classes=classes,
            input_shape=input_shape,
            widths=widths,
            arguments=arguments or {},
            loss=loss,
            channels_last=channels_last,
            mode=mode,
        )
        workload.model.train()
        if batch_norm == "eval":
            freeze_batch_norm(workload.model)
        set_scope(workload.model, train)
        step = make_step(techniques, workload, make_optimizer, accumulate, PRECISIONS[precision])
        workload = step.workload
        parameters = [p for p in workload.model.parameters() if p.requires_grad]
        meta = {
            **workload.meta,
            "parameters": sum(p.numel() for p in workload.model.parameters()),
            "trained_parameters": sum(p.numel() for p in parameters),
            "optimizer": optimizer,
            "foreach": foreach,
            "train": train,
            "batch_norm": batch_norm,
            "precision": precision,
            "accumulate": accumulate,
            "channels_last": channels_last,
            "torch": torch.__version__,
            "trainwatt": importlib.metadata.version("trainwatt"),
        }
        return trace_step(step, batch, meta, progress, rebatches=rebatches)


def trace_step(
    step: Step,
    batch: int,
    meta: Mapping[str, Any],
    progress: Callable[[float], None] = lambda share: None,
    *,
    rebatches: bool = True,
) -> Graph:
    """Record `step` (in `fake.faking()`) at the batch sizes that make its graph; see `trace`."""
    with without_collection():
        if not rebatches:
            only, unsaved = record_step(step, batch), _unsaved(step, batch)
            return build_graph(only, unsaved, batch, {**_with_dummies(meta, only), "fixed_batch": "it was traced so"})
        base = max(batch, 2)
        try:
            first = record_step(step, base)
            progress(0.4)
            second = _unsaved(step, base + 1)
            progress(0.7)
            graph = build_graph(first, second, base, _with_dummies(meta, first))
        except (Mismatch, TrainwattError) as error:
            exact = record_step(step, batch)  # raises again where it is this batch size that fails
            described = {**_with_dummies(meta, exact), "fixed_batch": str(error)}
            return build_graph(exact, _unsaved(step, batch), batch, described)
        graph = _with_single(graph, step)
        progress(1.0)
        return graph.rebatch(batch)


def _unsaved(step: Step, batch: int) -> Record:
    """Record for numbers, and for how long the program itself keeps what autograd saves."""
    return record_step(step, batch, in_full=False, saving="elsewhere")


def _with_dummies(meta: Mapping[str, Any], record: Record) -> dict[str, Any]:
    return {**meta, "values_assumed_in": list(record.dummies)} if record.dummies else dict(meta)


def _with_single(graph: Graph, step: Step) -> Graph:
    """Return `graph` with what happens at batch 1, where that is not the same graph."""
    other: Graph | Untraceable
    try:
        if same_numbers(graph, record_step(step, 1, in_full=False, saving="ignored"), 1):
            return graph
        other = build_graph(record_step(step, 1), _unsaved(step, 1), 1, graph.meta)
    except TrainwattError as error:
        other = Untraceable(str(error))
    return replace(graph, smallest_batch=2, other=other)
