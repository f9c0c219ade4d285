"""The syntax of a thing with parameters: `name{key=value,key=value}`."""

from __future__ import annotations

import re

from simulator.errors import TrainwattError

_SPEC = re.compile(r"\s*(?P<name>[A-Za-z0-9_.+-]+)\s*(?:\{(?P<arguments>[^{}]*)\})?\s*")
_FORM = "write name{key=value,key=value}"


def parse_specs(text: str) -> list[tuple[str, dict[str, str]]]:
    """Read a comma-separated list of `name{key=value,...}`; values stay text.

    Raises `TrainwattError` where the text does not have that form.
    """
    specs: list[tuple[str, dict[str, str]]] = []
    position = 0
    while True:
        match = _SPEC.match(text, position)
        if match is None or (match.end() < len(text) and text[match.end()] != ","):
            raise TrainwattError(f"cannot read {text!r} from {text[position:]!r} on; {_FORM}")
        specs.append((match["name"], _arguments(match["arguments"] or "", text)))
        position = match.end() + 1
        if position > len(text):
            return specs


def parse_spec(text: str) -> tuple[str, dict[str, str]]:
    """Read one `name{key=value,...}`; raises `TrainwattError` where the text is not exactly one."""
    specs = parse_specs(text)
    if len(specs) != 1:
        raise TrainwattError(f"{text!r} names {len(specs)} things; {_FORM}")
    return specs[0]


def literal(text: str) -> bool | int | float | str | None:
    """Return the value that a word on the command line stands for: number, true/false, none, or itself."""
    words: dict[str, bool | None] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _arguments(text: str, whole: str) -> dict[str, str]:
    arguments: dict[str, str] = {}
    for piece in filter(None, (p.strip() for p in text.split(","))):
        key, equals, value = (part.strip() for part in piece.partition("="))
        if not equals or not key or not value:
            raise TrainwattError(f"cannot read {piece!r} in {whole!r}; {_FORM}")
        if key in arguments:
            raise TrainwattError(f"{key!r} is given twice in {whole!r}; give it once")
        arguments[key] = value
    return arguments
