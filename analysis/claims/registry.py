"""The metrics that claims are stated in, each a function in a module `*metrics.py` of this folder."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache

Metric = Callable[..., float]
_METRICS: dict[str, Metric] = {}


def metric(name: str) -> Callable[[Metric], Metric]:
    """Register a function as the metric `name`."""

    def register(function: Metric) -> Metric:
        _METRICS[name] = function
        return function

    return register


@cache
def metrics() -> Mapping[str, Metric]:
    """Return every metric by the name that claims use."""
    import analysis.claims

    for entry in pkgutil.iter_modules(analysis.claims.__path__):
        if entry.name.endswith("metrics"):
            importlib.import_module(f"analysis.claims.{entry.name}")
    return dict(sorted(_METRICS.items()))
