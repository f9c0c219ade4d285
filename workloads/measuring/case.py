"""What is measured, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Value:
    """A measured `metric` in SI units: the median of `repeats`, with their interquartile range (None of one)."""

    kind: str
    phase: str
    metric: str
    value: float
    spread: float | None = None
    repeats: int = 1


class Case(Protocol):
    """One thing to measure: an op kind or a network (`what`), its parameters, at a batch size.

    `kind` and `phase` are those of the first of its values, by which a case is known to have been measured.
    """

    @property
    def kind(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...
    @property
    def batch(self) -> int | None: ...
    @property
    def phase(self) -> str: ...

    def measure(self, repeats: int, threads: int, deadline_s: float) -> tuple[Value, ...]:
        """Measure with `threads` threads, and begin no repeat but the first after `deadline_s` (`time.monotonic()`).

        Raises `MemoryError` where it does not fit, and `TimeoutError` where it is given up after the deadline.
        """
        ...


@dataclass(frozen=True)
class Host:
    """This machine and its software, in the words of a row of measurements."""

    device: str
    power_mode: str = ""
    clocks: Mapping[str, int] = field(default_factory=dict)
    software: Mapping[str, str] = field(default_factory=dict)


def fits_not(error: BaseException) -> bool:
    """Tell whether an error says that there is not enough memory; PyTorch's CPU allocator raises a RuntimeError."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in said for words in ("can't allocate memory", "out of memory", "not enough memory")
    )
