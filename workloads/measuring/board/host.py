# ruff: noqa: UP006, UP035
"""What this machine and its software are called in a row of measurements."""

import os
import platform
from typing import Dict, Mapping, NamedTuple

import torch

from workloads.measuring.board.telemetry import Telemetry, text_of


class Place(NamedTuple):
    """The columns of a row that say where and under what it was measured."""

    device: str
    power_mode: str
    clocks: Dict[str, int]
    software: Dict[str, str]


def this_place(telemetry: Telemetry, threads: int, device: str, power_mode: str, more: Mapping[str, str]) -> Place:
    """Return this machine, measured with `threads` threads.

    Where not given, `device` is the board's or the processor's model, and `power_mode` what the board tells. `clocks`
    are the highest that are allowed; `more` are further pairs about the software.
    """
    limits = telemetry.limits_hz()
    software = {
        "torch": torch.__version__,
        "threads": str(threads),
        "python": platform.python_version(),
        "system": platform.system() + "-" + platform.machine(),
    }
    software.update(more)
    return Place(
        device or _model(telemetry.root) or platform.machine() or "unknown",
        power_mode or telemetry.power_mode(),
        {name: int(limit) for name, limit in limits.items() if limit},
        software,
    )


def _model(root: str) -> str:
    """Return the board's model or, where there is none, the processor's, as Linux tells them."""
    board = text_of(os.path.join(root, "proc/device-tree/model"))
    if board:
        return board
    for line in text_of(os.path.join(root, "proc/cpuinfo")).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return " ".join(value.split())
    return platform.processor()
