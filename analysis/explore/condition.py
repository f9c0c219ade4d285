"""Conditions on the parameters of a setting: `patch < 7 or last <= 2`, `gradient_filter.last + 1 in (2, 3)`.

A name is a parameter of one technique of the setting. Where several have it, or to be clear, the technique stands
before it, its hyphens written as underscores. Comparisons, `in`, `and`, `or`, `not`, numbers, texts and arithmetic are
understood, as Python writes them; nothing is called.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Sequence
from typing import Any

from simulator.errors import TrainwattError, unknown
from simulator.techniques import Technique, parameter_types

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}

Setting = Sequence[Technique]


def condition(text: Any) -> Callable[[Setting], bool]:
    """Return the function of a setting that tells whether the condition `text` holds for it.

    Raises `TrainwattError` for what is no condition; the function does for a parameter that the setting has not, or
    has several times, and where values cannot be compared.
    """
    try:
        body = ast.parse(text, mode="eval").body
    except (SyntaxError, TypeError, ValueError):
        raise _refused(text) from None

    def holds(setting: Setting) -> bool:
        try:
            return bool(_value(body, setting, str(text)))
        except (TypeError, ZeroDivisionError) as error:
            raise TrainwattError(f"where = {text!r}: {error}; compare numbers with numbers") from None

    return holds


def _value(node: ast.expr, setting: Setting, text: str) -> Any:
    def of(part: ast.expr) -> Any:
        return _value(part, setting, text)

    match node:
        case ast.Constant():
            return node.value
        case ast.Tuple() | ast.List():
            return tuple(of(part) for part in node.elts)
        case ast.Name():
            return _parameter(setting, node.id, "")
        case ast.Attribute(value=ast.Name(id=technique)):
            return _parameter(setting, node.attr, technique)
        case ast.BoolOp(op=ast.And()):
            return all(of(part) for part in node.values)
        case ast.BoolOp():
            return any(of(part) for part in node.values)
        case ast.UnaryOp(op=ast.Not()):
            return not of(node.operand)
        case ast.UnaryOp(op=ast.USub()):
            return -of(node.operand)
        case ast.BinOp() if type(node.op) in _ARITHMETIC:
            return _ARITHMETIC[type(node.op)](of(node.left), of(node.right))
        case ast.Compare() if all(type(op) in _COMPARISONS for op in node.ops):
            values = [of(part) for part in (node.left, *node.comparators)]
            pairs = zip(node.ops, values, values[1:], strict=False)
            return all(_COMPARISONS[type(op)](a, b) for op, a, b in pairs)
    raise _refused(text)


def _parameter(setting: Setting, name: str, technique: str) -> Any:
    """Return the value of a parameter, None where it has none."""
    chosen = [t for t in setting if not technique or t.name.replace("-", "_") == technique]
    found = [t for t in chosen if name in parameter_types(type(t))]
    if len(found) != 1:
        called = f"{technique}.{name}" if technique else name
        if found:
            raise TrainwattError(f"{called!r} of {len(found)} techniques in a condition; write TECHNIQUE.{name}")
        known = [key for t in chosen for key in parameter_types(type(t))]
        raise unknown("parameter in a condition", called, known, f"there is {', '.join(known) or 'none'}")
    return getattr(found[0], name)


def _refused(text: Any) -> TrainwattError:
    return TrainwattError(f"where = {text!r}; write a condition such as 'patch < 7 or last <= 2'")
