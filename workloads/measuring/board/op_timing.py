# ruff: noqa: UP006, UP035, UP045
"""The time of a single op, with operands warm or cold."""

from typing import Any, Dict, Mapping, Optional

import torch

from workloads.measuring.board.calls import bind, tensors_of
from workloads.measuring.board.pace import this_pace
from workloads.measuring.board.signatures import Signature, signature
from workloads.measuring.board.timing import (
    COLD_BYTES,
    COLD_CALLS,
    Timing,
    nothing,
    time_calls,
    time_cold,
)

_ITEM_BYTES = {"float32": 4, "int64": 8, "bool": 1}
_FLUSHED: Dict[str, Any] = {}
"""What is passed through the caches, by device: allocated once."""


def time_op(
    kind: str,
    parameters: Mapping[str, Any],
    batch: Optional[int],
    repeats: int,
    deadline_s: float,
    device: str = "cpu",
    window_s: float = 0.0,
) -> Timing:
    """Time a call of the op, `operands=cold` or `warm` (if not said) in its parameters.

    Warm calls fill at least `window_s`; between cold ones the caches are flushed, so that none are back to back.
    Raises `calls.Unavailable` where this PyTorch has no such op.
    """
    wait = torch.cuda.synchronize if device == "cuda" else nothing
    found = signature(kind, parameters, batch)
    pace = this_pace(device, window_s)
    with torch.no_grad():
        call = bind(kind, found, tensors_of(kind, found, device))
        if parameters.get("operands") != "cold":
            return time_calls(call, repeats, deadline_s, wait, window_s, pace)
        call()  # what is made at the first call, as oneDNN's code, is no part of it
        more = range(1, min(COLD_CALLS, COLD_BYTES // bytes_of(found)))
        calls = [call, *(bind(kind, found, tensors_of(kind, found, device)) for _ in more)]
        return time_cold(calls, lambda: _flush(device), repeats, deadline_s, wait, pace)


def bytes_of(found: Signature) -> int:
    """Return the bytes of all operands of a call, results included."""
    total = 0
    for one in [*found.inputs, *found.outputs]:
        count = _ITEM_BYTES[one.dtype]
        for extent in one.stored:
            count *= extent
        total += count
    return total


def _flush(device: str) -> None:
    if device not in _FLUSHED:
        _FLUSHED[device] = torch.zeros(COLD_BYTES // 4, device=device)
    _FLUSHED[device].add_(1.0)
