"""One training step, as a user's script runs it: real, or recorded on fake tensors."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from simulator.errors import TrainwattError, first_line
from workloads.tracing.engine import restore_in_place_sums
from workloads.tracing.recorder import Record, Recorder, Saving
from workloads.workload import Workload


@dataclass(frozen=True)
class Step:
    """A training step: zero_grad, then `accumulate` times (forward, loss, backward), then the optimizer.

    The outputs and the loss live until backward is done, as local variables of a function do. A technique that
    changes how a step runs derives from this class and overrides `executes`, `backward` or `update`.
    """

    workload: Workload
    optimizer: torch.optim.Optimizer
    accumulate: int = 1
    autocast: torch.dtype | None = None

    def run(self, inputs: Any, targets: Any) -> torch.Tensor | None:
        """Run the step and return its loss; None where the mini-batch is dropped."""
        if not self.executes():
            return None
        self.optimizer.zero_grad()
        loss = self.backward(inputs, targets)
        self.update()
        return loss

    def executes(self) -> bool:
        """Tell whether the mini-batch presented now is trained on."""
        return True

    def update(self) -> None:
        """Change the parameters by their gradients."""
        self.optimizer.step()

    def backward(
        self, inputs: Any, targets: Any, mark: Callable[[str], None] = lambda phase: None
    ) -> torch.Tensor | None:
        """Run the step up to its gradients and return the loss; `mark` is told each phase as it begins."""
        precision = contextlib.nullcontext() if self.autocast is None else torch.autocast("cpu", dtype=self.autocast)
        for _ in range(self.accumulate):
            mark("forward")
            with precision:
                outputs = self.workload.forward(inputs)
                mark("loss")
                loss = self.workload.loss(outputs, targets)
                if self.accumulate > 1:
                    loss = loss / self.accumulate
            mark("backward")
            loss.backward()
        return loss.detach()


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Keep Python's cycle collector out: in the middle of a step it would free things at a moment of its own choice."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def record_step(step: Step, batch: int, *, in_full: bool = True, saving: Saving = "seen") -> Record:
    """Record `step` at a batch size, in the state it has from its second execution on.

    Call it in `fake.faking()`. Gradients are None when the step begins, optimizer state exists. A record that is not
    `in_full` is for comparing numbers: it ends after backward. `saving` is that of `Recorder`. Raises
    `TrainwattError` naming module and op where the step cannot run on fake tensors.
    """
    workload, optimizer = step.workload, step.optimizer
    inputs, targets = _data(workload, batch)
    recorder = Recorder(workload.model, saving=saving)
    _hold(recorder, workload, inputs, targets)

    def mark(phase: Any) -> None:
        recorder.phase = phase

    optimizer.zero_grad()
    try:
        with without_collection(), recorder:
            step.backward(inputs, targets, mark)
            for name, parameter in workload.model.named_parameters():
                if parameter.grad is not None:
                    recorder.label(parameter.grad, "gradient", f"{name}.grad")
            if in_full:
                if not optimizer.state:
                    with recorder.pause():
                        step.update()
                _hold_state(recorder, optimizer)
                mark("optimizer")
                step.update()
    except Exception as error:
        raise _untraceable(error, recorder, step) from error
    record = recorder.record
    recorder.stop()
    restore_in_place_sums(record)
    return record


def _data(workload: Workload, batch: int) -> tuple[Any, Any]:
    """Return inputs and targets; making them may be a user's code."""
    try:
        return workload.inputs(batch), workload.targets(batch)
    except Exception as error:
        raise TrainwattError(f"cannot make a batch of {batch} for {_network(workload)}: {first_line(error)}") from error


def _network(workload: Workload) -> str:
    return str(workload.meta.get("network", type(workload.model).__name__))


def _hold(recorder: Recorder, workload: Workload, inputs: Any, targets: Any) -> None:
    """Declare what is in memory when the step begins; the optimizer's state follows when it is first needed."""
    model = workload.model
    for name, parameter in model.named_parameters():
        recorder.hold(parameter, "parameter", name)
    for name, buffer in model.named_buffers():
        recorder.hold(buffer, "buffer", name)
    for kind, tree in (("input", inputs), ("target", targets)):
        for i, leaf in enumerate(tree_leaves(tree)):
            if isinstance(leaf, torch.Tensor):
                recorder.hold(leaf, "input", f"{kind}{i}")


def _hold_state(recorder: Recorder, optimizer: torch.optim.Optimizer) -> None:
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                recorder.hold(value, "optimizer-state", f"{recorder.parameter_names.get(id(parameter), '')}.{key}")


def _untraceable(error: Exception, recorder: Recorder, step: Step) -> TrainwattError:
    """Say in one line in which module and at which op a step cannot be traced."""
    where = f"in {recorder.raised_in(error) or recorder.phase}"
    after = f" at or after op {recorder.current_op}" if recorder.current_op else ""
    return TrainwattError(f"cannot trace {_network(step.workload)}: {where}{after}: {first_line(error)}")
