"""Reading a device file: tables, fields and numbers, each refused in one line that says what would be right."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from hwmodels.numbers import KINDS, Number, derived
from simulator.errors import TrainwattError, unknown
from simulator.units import parse, show


def known(table: Mapping[str, Any], names: Collection[str], where: str) -> None:
    """Raise `TrainwattError` where a field of `table` (called `where`) is none of `names`."""
    for name in table:
        if name not in names:
            error = unknown("field", name, names, see=f"there is {', '.join(names)}")
            raise TrainwattError(f"{where}: {error}") if where else error


def table(data: Mapping[str, Any], name: str, where: str = "") -> dict[str, Any]:
    """Return the table `name` of `data`; raises `TrainwattError` where it is missing or no table."""
    found = data.get(name)
    if not isinstance(found, dict):
        if found is None:
            raise TrainwattError(f"no table [{where}{name}]; every device has one")
        raise TrainwattError(f"{where}{name} is {found!r}; it must be a table")
    return found


def text(data: Mapping[str, Any], name: str) -> str:
    """Return the text `name` of `data`; raises `TrainwattError` where it is missing, empty or no text."""
    found = data.get(name)
    if not isinstance(found, str) or not found.strip():
        what = f"no text {name!r}; give {name}" if found is None else f"{name} {found!r}; it must be text"
        raise TrainwattError(f'{what} = "..."' if found is None else what)
    return found


def numbers(
    entries: Mapping[str, Any],
    where: str,
    units: Mapping[str, str],
    optional: Collection[str] = (),
    *,
    may_be_zero: Collection[str] = (),
    at_most_one: Collection[str] = (),
    whole: Collection[str] = (),
) -> dict[str, Number]:
    """Return the numbers of a table by dotted path.

    `units` maps the fields to their units (keys of `simulator.units`); all but the `optional` ones must be there.
    `may_be_zero`, `at_most_one` (shares of a peak) and `whole` name fields with such a range; all others are above 0.
    """
    known(entries, tuple(units), where)
    for name in units:
        if name not in entries and name not in optional:
            raise TrainwattError(
                f"no field {where + '.' + name!r}; give {name} = {{ value = ..., kind = ..., source = ... }}"
            )
    found = {}
    for name, entry in entries.items():
        path = f"{where}.{name}"
        number = _number(entry, path, units[name])
        if number.value < 0 or (number.value == 0 and name not in may_be_zero):
            at = "at least" if name in may_be_zero else "above"
            raise TrainwattError(f"{path} {entry['value']!r}; it must be {at} 0")
        if name in at_most_one and number.value > 1:
            raise TrainwattError(f"{path} {entry['value']!r}; no device is faster than its own peak, it is at most 1")
        if name in whole and number.value != int(number.value):
            raise TrainwattError(f"{path} {entry['value']!r}; it must be a whole number")
        found[path] = number
    return found


def usable_memory(memory: Mapping[str, Number]) -> Number:
    """Return what of `total` a training process can use beside `system` and `runtime`, in bytes.

    Raises `TrainwattError` where nothing is left.
    """
    held = memory["system"].value + memory["runtime"].value
    if memory["total"].value <= held:
        what = f"memory.total {memory['total']}; it must be above the {show(held, 'byte')}"
        raise TrainwattError(f"{what} that system and framework hold")
    return derived(
        memory["total"].value - held,
        "byte",
        f"{memory['total']} less {memory['system']} of the system and {memory['runtime']} of the framework",
        *memory.values(),
    )


def _number(entry: Any, path: str, unit: str) -> Number:
    form = '{ value = ..., kind = "...", source = "..." }'
    if not isinstance(entry, dict):
        raise TrainwattError(f"{path} is {entry!r}; it must be {form}")
    known(entry, ("value", "kind", "source"), path)
    for name in ("value", "kind", "source"):
        if name not in entry:
            raise TrainwattError(f"{path} has no {name}; it must be {form}")
    if entry["kind"] not in KINDS:
        raise TrainwattError(f"{path} has kind {entry['kind']!r}; it is one of {', '.join(KINDS)}")
    if not isinstance(entry["source"], str) or not entry["source"].strip():
        raise TrainwattError(f"{path} has no source; say where the number comes from, or why it is assumed")
    try:
        value = parse(entry["value"], unit)
    except TrainwattError as error:
        raise TrainwattError(f"{path}: {error}") from None
    return Number(value, unit, entry["kind"], entry["source"])
