"""Work rules: for each kind of op, what one execution does.

A rule is a function from a `Call` to a `Row`, registered with `@rule("kind", ...)` in any file here.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache

from simulator.work import Rule

_RULES: dict[str, Rule] = {}


def rule(*kinds: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of these kinds of op."""

    def register(function: Rule) -> Rule:
        for kind in kinds:
            if kind in _RULES:
                raise ValueError(f"two rules for op kind {kind!r}")
            _RULES[kind] = function
        return function

    return register


@cache
def rules() -> Mapping[str, Rule]:
    """Return all rules by kind of op; imports every file of this folder once."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return _RULES


@cache
def kinds() -> Mapping[str, int]:
    """Return the place of each kind of op that has a rule, in the order of their names."""
    return {name: place for place, name in enumerate(sorted(rules()))}
