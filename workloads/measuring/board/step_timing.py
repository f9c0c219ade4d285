# ruff: noqa: UP006, UP035, UP045
"""Whole training steps: cross-entropy, SGD with momentum, made-up images, in fp32."""

import gc
import inspect
import time
from typing import Any, Dict, List, Optional

import torch

from workloads.measuring.board.memory import most_held
from workloads.measuring.board.networks import IMAGE, build
from workloads.measuring.board.pace import Steady, this_pace
from workloads.measuring.board.timing import Timing, means, warm_up_steps

STEP_PHASES = ("forward", "loss", "backward", "optimizer")


class _Marks:
    """Marks between the phases of a step: by the clock, or by events that the graphics processor passes."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.begin_s = time.perf_counter()
        self.marks: List[Any] = []
        self.mark()

    def mark(self) -> None:
        if self.device == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append(event)
        else:
            self.marks.append(time.perf_counter())

    def seconds(self) -> Dict[str, float]:
        """Return the seconds of each phase, and of all under the empty name."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        found = {"": time.perf_counter() - self.begin_s}
        for name, before, after in zip(STEP_PHASES, self.marks, self.marks[1:]):  # noqa: B905
            found[name] = before.elapsed_time(after) / 1000 if self.device == "cuda" else after - before
        return found


def time_step(what: str, batch: int, repeats: int, left_s: float, device: str, window_s: float) -> Dict[str, Any]:
    """Train `what` on made-up images; return `latency` by phase, a list of `Timing`s' fields, and `memory` by metric.

    Steps fill at least `window_s`; none but the first begins after `left_s`.
    """
    torch.manual_seed(0)
    model = build(what).to(device).train()
    told = {"lr": 0.01, "momentum": 0.9}  # type: Dict[str, Any]
    if "foreach" in inspect.signature(torch.optim.SGD.__init__).parameters:
        told["foreach"] = False
    optimizer = torch.optim.SGD(model.parameters(), **told)
    images = torch.randn(batch, *IMAGE, device=device)
    targets = torch.zeros(batch, dtype=torch.int64, device=device)
    gc.collect()
    gc.disable()
    several = warm_up_steps(lambda: _step(model, optimizer, images, targets, device)[""])
    steady = Steady(repeats, this_pace(device, window_s))
    begun, start_s = time.monotonic(), time.time()
    while not steady.count() or (
        (not steady.enough() or time.monotonic() - begun < window_s) and time.monotonic() - begun < left_s
    ):
        steady.once(lambda: means([_step(model, optimizer, images, targets, device) for _ in range(several)]))
    taken = steady.kept()
    end_s = start_s + time.monotonic() - begun
    latency = {}
    for phase in ("", *STEP_PHASES):
        when: List[Optional[float]] = [None, None] if phase else [start_s, end_s]
        timing = Timing(tuple(seconds[phase] for seconds in taken), *when)
        latency[phase] = {"value": timing.median_s, "spread": timing.spread_s, "repeats": len(taken)}
        latency[phase].update(start_s=when[0], end_s=when[1])
    return {"latency": latency, "slowed": steady.slowed(), "memory": most_held(device)}


def _step(model: Any, optimizer: Any, images: Any, targets: Any, device: str) -> Dict[str, float]:
    marks = _Marks(device)
    optimizer.zero_grad()
    outputs = model(images)
    marks.mark()
    loss = torch.nn.functional.cross_entropy(outputs, targets)
    marks.mark()
    loss.backward()
    marks.mark()
    optimizer.step()
    marks.mark()
    return marks.seconds()
