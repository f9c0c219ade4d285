"""What this machine is."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from workloads.measuring.case import Host
from workloads.training.loop import cpu_capability

_CPU = Path("/sys/devices/system/cpu/cpu0/cpufreq")


def this_host(threads: int, device: str = "", power_mode: str = "") -> Host:
    """Return this machine, measured with `threads` threads.

    Where not given, `device` is the board's or the processor's model and `power_mode` the frequency governor.
    """
    khz = _text(_CPU / "scaling_max_freq")
    governor = _text(_CPU / "scaling_governor")
    return Host(
        device or _text(Path("/proc/device-tree/model")) or _processor() or platform.machine() or "unknown",
        power_mode or (f"governor {governor}" if governor else ""),
        {"cpu": 1000 * int(khz)} if khz.isdigit() else {},
        {
            "torch": torch.__version__,
            "threads": str(threads),
            "vectors": cpu_capability().replace(" ", "-"),
            "python": platform.python_version(),
            "system": f"{platform.system()}-{platform.machine()}",
        },
    )


def _processor() -> str:
    """Return the processor's model name, as Linux tells it."""
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return " ".join(value.split())
    return platform.processor()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip().strip("\0")
    except OSError:
        return ""
