"""Networks and the tracer: the only package that imports torch.

`trace` and `Workload` are imported on first use, so that listing networks needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workloads.tracer import trace
    from workloads.workload import Workload

__all__ = ["Workload", "trace"]


def __getattr__(name: str) -> Any:
    import importlib

    homes = {"trace": "workloads.tracer", "Workload": "workloads.workload"}
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(homes[name]), name)
