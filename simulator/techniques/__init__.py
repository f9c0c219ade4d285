"""Techniques: what makes a training step cheaper, as transforms from graph to graph.

A technique is a frozen dataclass in a file of this folder; its fields are its parameters and thereby its
syntax:

    gradient-filter{patch=4,last=4},smd{p=0.5}

Values are written plainly (`4`, `0.5`, `true`, `layer4`), lists with bars (`layers=conv1|conv2`), no value
and the empty list as `none`. Text holds no comma, brace or outer blank.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import re
import types
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from simulator.errors import TrainwattError, unknown
from simulator.graph import Graph, Untraceable
from simulator.spec import parse_specs


class Technique(ABC):
    """A change of the training step, applied the way its parameters say.

    Subclasses are frozen dataclasses with a `name` and parameters of type int, float, bool, str, a `Literal`
    of these, a tuple of one of these, or one of these or None. `__post_init__` checks their ranges
    (`check`).
    """

    name: ClassVar[str]

    @abstractmethod
    def rewrite(self, graph: Graph) -> Graph:
        """Return the step with the technique applied; `graph` itself does not change.

        Raises `TrainwattError` that says why where the technique does not apply to the graph.
        """

    def __str__(self) -> str:
        """Return the text that `parse` reads this technique from."""
        values = [f"{f.name}={_written(getattr(self, f.name))}" for f in _parameters(type(self))]
        return self.name + ("{" + ",".join(values) + "}" if values else "")


def check(holds: bool, technique: Technique, parameter: str, right: str) -> None:
    """Unless `holds`, raise `TrainwattError`: `parameter` has a wrong value, `right` says what is right."""
    if not holds:
        got = _written(getattr(technique, parameter))
        raise TrainwattError(f"{technique.name} with {parameter}={got}; {parameter} is {right}")


@cache
def techniques() -> Mapping[str, type[Technique]]:
    """Return the class of every technique by name; imports every file of this folder once."""
    found: dict[str, type[Technique]] = {}
    for entry in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{entry.name}")
        for cls in vars(module).values():
            if not (inspect.isclass(cls) and issubclass(cls, Technique) and cls.__module__ == module.__name__):
                continue
            if inspect.isabstract(cls) or not is_dataclass(cls):
                continue
            if cls.name in found:
                raise ValueError(f"two techniques are called {cls.name!r}")
            found[cls.name] = cls
    return types.MappingProxyType(dict(sorted(found.items())))


def parse(text: str) -> tuple[Technique, ...]:
    """Read techniques from text such as `gradient-filter{patch=4},smd{p=0.5}`, in the order of application.

    Raises `TrainwattError`, in one line, for an unknown technique or parameter, a value of the wrong type or
    out of range, a missing parameter, and broken syntax.
    """
    if text.count("{") > text.count("}"):
        raise TrainwattError(f"no closing brace in {text!r}; write name{{key=value,key=value}}")
    return tuple(_made(name, given) for name, given in parse_specs(text))


def _made(name: str, given: Mapping[str, str]) -> Technique:
    cls = techniques().get(name)
    if cls is None:
        raise unknown("technique", name, techniques())
    hints = parameter_types(cls)
    for key in given:
        if key not in hints:
            known = f"there is {', '.join(hints)}" if hints else "it has none"
            raise unknown(f"parameter of {name}", key, hints, known)
    for f in _parameters(cls):
        if f.name not in given and f.default is MISSING and f.default_factory is MISSING:
            raise TrainwattError(f"{name} without {f.name}; write {name}{{{f.name}=...}}")
    return cls(**{key: _typed(hints[key], value, f"{name} with {key}={value}") for key, value in given.items()})


def apply(techniques: Iterable[Technique], graph: Graph) -> Graph:
    """Return `graph` with `techniques` applied from left to right.

    The form of the graph for batch 1 (`Graph.other`) is rewritten along with it. `meta["applied"]` is the
    text of all techniques applied so far. Raises `TrainwattError` where one does not apply.
    """
    for technique in techniques:
        other = graph.other
        if isinstance(other, Graph):
            try:
                other = _applied(technique, other)
            except TrainwattError as error:
                # The batch asked for may be fine all the same; re-batching to the other form says why not.
                other = Untraceable(str(error))
        graph = replace(_applied(technique, replace(graph, other=None)), other=other)
    return graph


def _applied(technique: Technique, graph: Graph) -> Graph:
    before = graph.meta.get("applied")
    text = f"{before},{technique}" if before else str(technique)
    result = technique.rewrite(graph)
    return replace(result, meta={**result.meta, "applied": text})


_INT = re.compile(r"[+-]?\d+")


def _parameters(cls: type[Technique]) -> tuple[Any, ...]:
    return tuple(f for f in fields(cls) if f.init)  # type: ignore[arg-type]  # every technique is a dataclass


@cache
def parameter_types(cls: type[Technique]) -> Mapping[str, Any]:
    """Return the type of every parameter of a technique, in order."""
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in _parameters(cls)}


def type_name(hint: Any) -> str:
    """Return how the command calls a parameter's type: `int`, `float`, `a|b`, `list of str`."""
    if get_origin(hint) is tuple:
        return f"list of {type_name(get_args(hint)[0])}"
    if get_origin(hint) is Literal:
        return "|".join(_written(choice) for choice in get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join("none" if a is type(None) else type_name(a) for a in get_args(hint))
    return str(hint.__name__)


def syntax(cls: type[Technique]) -> str:
    """Return how a technique is written, with its defaults, or the types of parameters without one."""
    hints = parameter_types(cls)
    values = []
    for f in _parameters(cls):
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        values.append(f"{f.name}={type_name(hints[f.name]).upper() if default is MISSING else _written(default)}")
    return cls.name + ("{" + ",".join(values) + "}" if values else "")


def _typed(hint: Any, text: str, where: str) -> Any:
    """Return the value that `text` means for a parameter of type `hint`."""
    if get_origin(hint) in (Union, types.UnionType):
        if text == "none":
            return None
        (hint,) = (a for a in get_args(hint) if a is not type(None))
    if get_origin(hint) is tuple:
        if text == "none":
            return ()
        return tuple(_scalar(get_args(hint)[0], piece.strip(), where) for piece in text.split("|"))
    return _scalar(hint, text, where)


def _scalar(hint: Any, text: str, where: str) -> Any:
    if get_origin(hint) is Literal:
        choices = {_written(choice): choice for choice in get_args(hint)}
        if text not in choices:
            raise TrainwattError(f"{where}; it is {' or '.join(choices)}")
        return choices[text]
    if hint is str and text:
        return text
    if hint is bool and text in ("true", "false"):
        return text == "true"
    if hint is int and _INT.fullmatch(text):
        return int(text)
    if hint is float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
    kind = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[hint]
    raise TrainwattError(f"{where}; it is {kind}")


def _written(value: Any) -> str:
    """Return how a value is written in the syntax."""
    if value is None or value == ():
        return "none"
    if isinstance(value, tuple):
        return "|".join(_written(piece) for piece in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if not value or value != value.strip() or set(value) & set(",{}"):
            raise TrainwattError(
                f"text {value!r} in a technique; it holds something, but no comma, brace or outer blank"
            )
        return value
    return repr(value)
