"""Ranges of values: how a space writes many settings of a technique, or many batch sizes, in one line.

gradient-filter{patch={2,4,7},last={2..4}}    choices and ranges in braces; their product, the last varies fastest
{2..8}, {0.1..0.9..0.2}                       from, to (included), step; the step of whole numbers is 1 by default
{apply = "smd{p={0.25,0.5}}", where = "p < 0.5"}    those of the settings for which a condition holds
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import product
from typing import Any

from analysis.explore.condition import condition
from simulator.errors import TrainwattError
from simulator.techniques import Technique, parse

NONE = "none"
"""How the untreated step is written."""

LARGEST = 1_000_000
"""Settings that one entry may stand for; more are taken for a slip of the pen."""

_CHOICE = re.compile(r"=\s*\{([^{}]*)\}")
_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?:\.\.({_NUMBER}))?")


def span(text: str) -> tuple[str, ...] | None:
    """Return the numbers of a range `from..to` or `from..to..step`, exact in decimals, or None where it is none.

    Raises `TrainwattError` for a range that runs backwards, has no end, or lacks the step of its fractions.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        return None
    first, last = Decimal(match[1]), Decimal(match[2])
    whole = first == first.to_integral() and last == last.to_integral()
    if match[3] is None and not whole:
        raise TrainwattError(f"range {text!r} of fractions; give its step: {match[1]}..{match[2]}..0.1")
    step = Decimal(match[3] or 1)
    if step <= 0 or last < first:
        raise TrainwattError(f"range {text!r}; it runs from the lowest to the highest, in steps above 0")
    count = int((last - first) / step) + 1
    if count > LARGEST:
        raise TrainwattError(f"range {text!r} of {count} values; at most {LARGEST}")
    return tuple(f"{first + i * step:f}" for i in range(count))


def choices(text: str) -> tuple[str, ...]:
    """Return the values of `2,4,7` or `2..8` (what stands between braces), in order."""
    found: list[str] = []
    for piece in (p.strip() for p in text.split(",")):
        if not piece:
            raise TrainwattError(f"an empty value in {{{text}}}; write for example {{2,4,7}}")
        found += span(piece) or (piece,)
    return tuple(found)


def expanded(text: str) -> tuple[str, ...]:
    """Return every technique text that a text with choices in it stands for, the last choice varying fastest."""
    pieces = _CHOICE.split(text)  # fixed text and choices in turns
    between = [choices(piece) for piece in pieces[1::2]]
    _counted(text, between)
    return tuple(
        pieces[0] + "".join(f"={value}{rest}" for value, rest in zip(values, pieces[2::2], strict=True))
        for values in product(*between)
    )


def techniques(entry: Any) -> tuple[str, ...]:
    """Return the settings that an entry of `techniques` stands for, as `parse` reads them, or `none`.

    An entry is text, a table `{name = "gradient-filter", patch = [2, 4]}`, or a list of both, which are applied from
    left to right. A table `{apply = ENTRY, where = "patch < 4 or p == 0.5"}`, or one with a name, keeps those settings
    that a condition holds for. Raises `TrainwattError` for anything else, and for what `parse` refuses.
    """
    if isinstance(entry, str):
        return tuple(_canonical(text) for text in expanded(entry))
    if isinstance(entry, Mapping):
        return _where(entry)
    if isinstance(entry, list) and entry and not any(isinstance(part, list) for part in entry):
        parts = [techniques(part) for part in entry]
        _counted(str(entry), parts)
        return tuple(_canonical(",".join(texts)) for texts in product(*parts))
    raise TrainwattError(f"technique {entry!r}; write text, a table with its name, or a list of these")


def parsed(text: str) -> tuple[Technique, ...]:
    """Return the techniques of a text; those of `none` are none."""
    return () if text == NONE else parse(text)


def short(text: str) -> str:
    """Return a technique text without the parameters that have their default."""

    def parameters(technique: Technique) -> list[str]:
        return str(technique).partition("{")[2].removesuffix("}").split(",")

    found = []
    for technique in parsed(text):
        defaults = parameters(type(technique)())
        given = [p for p, default in zip(parameters(technique), defaults, strict=True) if p != default]
        found.append(technique.name + (f"{{{','.join(given)}}}" if given else ""))
    return ",".join(found) or NONE


def _canonical(text: str) -> str:
    if text.strip() == NONE:
        return NONE
    return ",".join(map(str, parse(text)))


def _where(table: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the settings of a table that its condition holds for; all where it has none."""
    rest = {key: value for key, value in table.items() if key != "where"}
    inside = set(rest) == {"apply"}
    found = techniques(rest["apply"]) if inside else tuple(_canonical(text) for text in _of_table(rest))
    if "where" not in table:
        return found
    holds = condition(table["where"])
    kept = tuple(text for text in found if holds(parsed(text)))
    if not kept:
        raise TrainwattError(f"where = {table['where']!r} keeps none of {len(found)} settings; loosen it")
    return kept


def _of_table(table: Mapping[str, Any]) -> tuple[str, ...]:
    name = table.get("name")
    if not isinstance(name, str):
        raise TrainwattError(f"technique {dict(table)!r} without a name; write {{name = 'smd', p = [0.25, 0.5]}}")
    keys = [key for key in table if key != "name"]
    lists = [_written(name, key, table[key]) for key in keys]
    _counted(name, lists)
    if not keys:
        return (name,)
    return tuple(
        f"{name}{{{','.join(f'{key}={value}' for key, value in zip(keys, values, strict=True))}}}"
        for values in product(*lists)
    )


def _written(name: str, key: str, value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(v, bool | int | float | str) for v in values):
        raise TrainwattError(f"{key} = {value!r} of {name}; it is a value or a list of values")
    texts: list[str] = []
    for v in values:
        texts += [str(v).lower()] if isinstance(v, bool) else (isinstance(v, str) and span(v)) or [str(v)]
    return tuple(texts)


def _counted(what: str, lists: Sequence[Sequence[str]]) -> None:
    if math.prod(map(len, lists)) > LARGEST:
        raise TrainwattError(f"{what} stands for more than {LARGEST} settings; narrow it")
