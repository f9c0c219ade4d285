"""What this machine is."""

from __future__ import annotations

from workloads.measuring.board.host import this_place
from workloads.measuring.board.telemetry import Telemetry
from workloads.measuring.case import Host
from workloads.training.loop import cpu_capability


def this_host(threads: int, device: str = "", power_mode: str = "", telemetry: Telemetry | None = None) -> Host:
    """Return this machine, measured with `threads` threads.

    Where not given, `device` is the board's or the processor's model and `power_mode` that of `nvpmodel` or the
    frequency governor.
    """
    vectors = cpu_capability().replace(" ", "-")
    place = this_place(telemetry or Telemetry(), threads, device, power_mode, {"vectors": vectors})
    return Host(place.device, place.power_mode, place.clocks, place.software)
