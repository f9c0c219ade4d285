"""Peak memory of a real step, as PyTorch's profiler reports it of the CPU allocator."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._C._profiler import _EventType

from workloads.tracing.step import Step, without_collection

SPAN = "measured step"
MOST_DROPPED = 1000
"""Mini-batches in a row that a technique may drop before a step of it runs."""


def real_peak_bytes(make: Callable[[], tuple[Step, Any, Any]], passes: int = 1) -> int:
    """Return the most that the allocator (c10) held during the second real step of what `make` returns, in bytes.

    `make` returns a step with its inputs and targets and allocates all of it: only what is allocated under the
    profiler counts, so model, batch and optimizer are made there. A step is `passes` mini-batches that are not dropped.
    Raises `RuntimeError` where `MOST_DROPPED` are dropped in a row.
    """
    gc.collect()
    profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True)
    with _quiet(), profile:
        step, inputs, targets = make()
        gc.collect()
        with without_collection():
            for _ in range(passes):
                _run_one(step, inputs, targets)
            with torch.profiler.record_function(SPAN):
                for _ in range(passes):
                    _run_one(step, inputs, targets)
    assert profile.profiler is not None
    assert profile.profiler.kineto_results is not None
    return _largest_total(profile.profiler.kineto_results.experimental_event_tree())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep standard error to ourselves: the profiler's library writes there whatever happens."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _run_one(step: Step, inputs: Any, targets: Any) -> None:
    for _ in range(MOST_DROPPED):
        if step.run(inputs, targets) is not None:
            return
    raise RuntimeError(f"no step ran in {MOST_DROPPED} mini-batches")


def _largest_total(tree: Any) -> int:
    """Return the largest total of the allocation events in the span, in a profiler's event tree.

    The profiler's total is that of the process: what earlier profiles left alive is in it, and subtracted.
    """
    events, pending = [], list(tree)
    while pending:
        event = pending.pop()
        events.append(event)
        pending.extend(event.children)
    (span,) = [event for event in events if event.name == SPAN]
    changes = [event for event in events if event.typed[0] == _EventType.Allocation]
    first = min(changes, key=lambda event: event.start_time_ns).typed[1]
    before = int(first.total_allocated - first.alloc_size)
    return max(
        int(event.typed[1].total_allocated) - before
        for event in changes
        if span.start_time_ns <= event.start_time_ns <= span.end_time_ns
    )
