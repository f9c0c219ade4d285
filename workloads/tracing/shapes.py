"""Result shapes of ops whose fake version is wrong in PyTorch 2.13."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

CORRECTED: dict[Any, Callable[..., Any]] = {}
