"""What adds up over ops, and how it changes."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

from simulator.work import Floats, Ints


@dataclass(frozen=True, slots=True)
class Totals:
    """What adds up over ops: seconds, joules, operations and bytes of memory traffic.

    Each op counts as often as it is expected to run. A MAC is counted as 2 FLOPs among `flops`.
    """

    latency_s: float = 0.0
    energy_j: float = 0.0
    macs: float = 0.0
    flops: float = 0.0
    read_bytes: float = 0.0
    written_bytes: float = 0.0

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def traffic_bytes(self) -> float:
        """Bytes read and written."""
        return self.read_bytes + self.written_bytes


QUANTITIES = tuple(f.name for f in fields(Totals))
SAVED_QUANTITIES = ("latency_s", "energy_j", "macs", "flops", "traffic_bytes")
"""The fields of `Totals` that savings are stated of."""


@dataclass(frozen=True)
class OpColumns:
    """Per op, shape (ops,): what `Totals` adds up, what bounds it (codes into `Cost.limits`) and its kernel class
    (codes into `KERNELS`). Everything is weighted with the op's expected runs.
    """

    latency_s: Floats
    energy_j: Floats
    macs: Floats
    flops: Floats
    read_bytes: Floats
    written_bytes: Floats
    bound: Ints
    kernel: Ints


@dataclass(frozen=True, slots=True)
class Change:
    """A quantity before and after."""

    baseline: float
    result: float

    @property
    def saved(self) -> float:
        """How much less it is, in the quantity's own unit."""
        return self.baseline - self.result

    @property
    def saved_fraction(self) -> float | None:
        """How much less it is, as a fraction of the baseline; None where the baseline is zero."""
        return self.saved / self.baseline if self.baseline else None

    @property
    def ratio(self) -> float | None:
        """The result as a multiple of the baseline; None where the baseline is zero."""
        return self.result / self.baseline if self.baseline else None
