"""Whole training steps, each network in a process of its own: what does not fit kills that one only."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils._pytree import tree_map

from simulator.errors import TrainwattError, first_line
from simulator.graph import PHASES
from simulator.techniques import Technique
from workloads.measuring.allocator import keep_freed_memory
from workloads.measuring.board.memory import fits_not
from workloads.measuring.board.pace import Steady, this_pace
from workloads.measuring.board.timing import Timing, means, warm_up_steps
from workloads.measuring.case import Value, latency_of
from workloads.optimizers import optimizer_from
from workloads.sources import workload_from
from workloads.techniques import make_step
from workloads.tracing.step import Step, without_collection
from workloads.training.peak import real_peak_bytes

OPTIMIZER = "sgd{momentum=0.9}"
GRACE_S = 30.0
"""After the deadline, what runs has this long to finish the step it is in and to take its peak memory."""


@dataclass(frozen=True)
class StepCase:
    """A training step of a network (or `package.module:callable`) in fp32, with `optimizer`, at a batch size.

    Steps run for at least `window_s`.
    """

    what: str
    batch: int
    optimizer: str = OPTIMIZER
    window_s: float = 0.0
    kind: str = field(default="step", init=False)
    phase: str = field(default="", init=False)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What else decides about the step."""
        return {"optimizer": self.optimizer, "precision": "fp32"}

    def measure(self, repeats: int, threads: int, deadline_s: float) -> tuple[Value, ...]:
        """Time the step and its phases, and take its peak memory.

        Raises as `in_own_process`.
        """
        return tuple(in_own_process(self, repeats, threads, deadline_s))

    def values(self, repeats: int, threads: int, deadline_s: float) -> list[Value]:
        """Do what `measure` does, in this process."""
        return _values(self, repeats, threads, deadline_s)


class Apart(Protocol):
    """What is measured in a process of its own: `values` runs there."""

    @property
    def what(self) -> str: ...
    @property
    def batch(self) -> int: ...
    def values(self, repeats: int, threads: int, deadline_s: float) -> list[Any]: ...


def in_own_process(case: Apart, repeats: int, threads: int, deadline_s: float) -> list[Any]:
    """Return the `values` of `case`, measured in a process of its own, which keeps the memory that it frees.

    Raises `MemoryError` where it does not fit, also when the system kills it, `TimeoutError` where it is not done
    `GRACE_S` after the deadline, and `TrainwattError` for a network that cannot be trained.
    """
    context = multiprocessing.get_context("spawn")  # a fork of a process with PyTorch's threads may hang
    ours, theirs = context.Pipe(duplex=False)
    left_s = deadline_s - time.monotonic()
    process = context.Process(target=_serve, args=(theirs, case, repeats, threads, left_s), daemon=True)
    process.start()
    theirs.close()
    try:
        if left_s < float("inf") and not ours.poll(left_s + GRACE_S):
            process.kill()
            raise TimeoutError(f"{case.what} at batch {case.batch} takes too long")
        answer = ours.recv()
    except EOFError:
        process.join()
        if process.exitcode == -signal.SIGKILL:
            raise MemoryError(f"the system killed {case.what} at batch {case.batch}") from None
        raise RuntimeError(f"{case.what} at batch {case.batch} ended with code {process.exitcode}") from None
    except KeyboardInterrupt:
        process.kill()
        raise
    finally:
        ours.close()
    process.join()
    if isinstance(answer, BaseException):
        raise answer
    return list(answer)


def _serve(answer: Any, case: Apart, repeats: int, threads: int, left_s: float) -> None:
    """Measure in this process and send the values, or the error."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # of all processes, this is the one to end
    try:
        keep_freed_memory()
        values = case.values(repeats, threads, time.monotonic() + left_s)
    except KeyboardInterrupt:
        return
    except TrainwattError as error:
        answer.send(error)
    except Exception as error:
        words = first_line(error)
        known = f"cannot train {case.what} at batch {case.batch}: {words}; it runs as 'trainwatt trace' traces it"
        answer.send(MemoryError(words) if fits_not(error) else TrainwattError(known))
    else:
        answer.send(values)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _values(case: StepCase, repeats: int, threads: int, deadline_s: float) -> list[Value]:
    torch.set_num_threads(threads)
    steady, start_s, end_s = _timed(case, repeats, deadline_s)
    taken = steady.kept()
    values = []
    for phase in ("", *(phase for phase in PHASES if phase in taken[0])):
        when = (None, None) if phase else (start_s, end_s)  # a phase does not run back to back
        timing = Timing(tuple(seconds[phase] for seconds in taken), *when, slowed=1.0 if phase else steady.slowed())
        values += latency_of(timing, "step", phase)
    peak = real_peak_bytes(lambda: made_step(case.what, case.batch, case.optimizer))
    return [*values, Value("memory", "", "peak_memory", float(peak))]


def _timed(case: StepCase, repeats: int, deadline_s: float) -> tuple[Steady, float, float]:
    """Run the step; return repeats of the seconds of its phases, and when they began and ended in Unix time."""
    step, inputs, targets = made_step(case.what, case.batch, case.optimizer)
    steady = Steady(repeats, this_pace(window_s=case.window_s))
    with without_collection():
        several = warm_up_steps(lambda: _run(step, inputs, targets)[""])
        start_s, begun = time.time(), time.monotonic()
        while not steady.count() or (
            (not steady.enough() or time.monotonic() - begun < case.window_s) and time.monotonic() < deadline_s
        ):
            steady.once(lambda: means([_run(step, inputs, targets) for _ in range(several)]))
        return steady, start_s, start_s + time.monotonic() - begun


def made_step(what: str, batch: int, optimizer: str, techniques: Sequence[Technique] = ()) -> tuple[Step, Any, Any]:
    """Return the step of a network with techniques, and a made-up batch: inputs and targets, always the same."""
    torch.manual_seed(0)
    workload = workload_from(
        what,
        classes=None,
        input_shape=None,
        widths=None,
        arguments={},
        loss="cross-entropy",
        channels_last=False,
        mode=None,
    )
    workload.model.train()
    step = make_step(techniques, workload, optimizer_from(optimizer, foreach=False))
    # Made-up batches are uninitialised memory, whose odd numbers may compute slowly.
    inputs = tree_map(lambda x: x.normal_() if x.is_floating_point() else x, workload.inputs(batch))
    return step, inputs, workload.targets(batch)


def _run(step: Step, inputs: Any, targets: Any) -> dict[str, float]:
    """Run a step and return the seconds of each phase, and of all under the empty name."""
    begun: list[tuple[str, float]] = []

    def mark(phase: str) -> None:
        begun.append((phase, time.perf_counter()))

    start = time.perf_counter()
    step.optimizer.zero_grad()
    step.backward(inputs, targets, mark)
    mark("optimizer")
    step.update()
    mark("")
    seconds = {phase: after - at for (phase, at), (_, after) in pairwise(begun)}
    return {**seconds, "": begun[-1][1] - start}
