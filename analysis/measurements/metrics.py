"""What can be measured, and in which unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

KINDS = ("op", "step", "memory", "power", "run")
"""What a row is about: a single op, a training step, memory, a power log, or a whole training run."""


@dataclass(frozen=True)
class Metric:
    """A quantity in its base unit; values lie from `least` to `most`, `least` itself only if `reaches_least`."""

    unit: str
    says: str
    least: float = 0.0
    reaches_least: bool = False
    most: float = float("inf")


METRICS: Mapping[str, Metric] = {
    "latency": Metric("s", "wall-clock time of one execution"),
    "throughput": Metric("sample/s", "samples trained on in a second"),
    "energy": Metric("J", "energy of one execution, idle power included"),
    "energy_above_idle": Metric("J", "energy of one execution, idle power subtracted", least=float("-inf")),
    "power": Metric("W", "mean power while it ran", reaches_least=True),
    "idle_power": Metric("W", "mean power while nothing ran", reaches_least=True),
    "peak_memory": Metric("byte", "most that the allocator held at once"),
    "reserved_memory": Metric("byte", "most that the caching allocator held from the device"),
    "resident_memory": Metric("byte", "most physical memory of the process"),
    "out_of_memory": Metric("1", "1: it did not fit into memory", least=1.0, reaches_least=True, most=1.0),
    "not_applicable": Metric("1", "1: the technique does not apply; the source says why", 1.0, True, 1.0),
    "macs": Metric("MAC", "multiply-accumulates of one execution", reaches_least=True),
    "flops": Metric("FLOP", "floating-point operations of one execution, 2 a MAC", reaches_least=True),
    "loss": Metric("1", "training loss at the end", least=float("-inf")),
    "accuracy": Metric("1", "share of right answers on the test data", reaches_least=True, most=1.0),
    "temperature": Metric("degC", "of the hottest sensor", least=-273.15),
    "cpu_clock": Metric("Hz", "lowest seen of the processor's fastest core while it ran"),
    "gpu_clock": Metric("Hz", "lowest seen of the graphics processor while it ran"),
    "slowed": Metric(
        "1", "time of a fixed product of matrices beside it over its quickest time, where above 1.1", 1.0, True
    ),
    "throttled": Metric(
        "1", "1: a clock fell or the firmware slowed it down while it ran", reaches_least=True, most=1.0
    ),
}
"""All metrics. The unit is written in each row too, and must be this one: no value is ever scaled on reading."""
