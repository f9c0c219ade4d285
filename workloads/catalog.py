"""The catalogue of networks: what there is (without importing PyTorch) and how to build it."""

import ast
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from simulator.errors import TrainwattError, unknown

if TYPE_CHECKING:
    import torch

_FOLDER = Path(__file__).parent / "networks"
_PACKAGE = "workloads.networks"
_Builder = TypeVar("_Builder", bound=Callable[..., Any])


@dataclass(frozen=True)
class Card:
    """What is known about a network without building it.

    `input_shape` is that of one sample, without the batch axis; `parameters` counts the trainable
    parameters at the default number of `classes`; `macs` counts the multiply-accumulates of the forward
    pass of one sample in convolutions, linear layers, attention products and the matrix products of
    recurrent layers (biases, normalisation, activations and resampling are left out); `source` cites the
    definition and its published numbers; `arguments` is what `builder` in `module` is called with.
    """

    name: str
    module: str
    builder: str
    input_shape: tuple[int, ...]
    classes: int
    task: Literal["classification", "segmentation"]
    parameters: int
    macs: int
    source: str
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)


_registered: dict[str, Card] = {}


def _card(
    name: str,
    module: str,
    builder: str,
    *,
    input_shape: tuple[int, ...],
    classes: int,
    task: Literal["classification", "segmentation"] = "classification",
    parameters: int,
    macs: int,
    source: str,
    **arguments: Any,
) -> Card:
    return Card(name, module, builder, input_shape, classes, task, parameters, macs, source, arguments)


def network(name: str, **facts: Any) -> Callable[[_Builder], _Builder]:
    """Decorate a builder so that the catalogue lists it as `name`; may be stacked.

    `facts` are the fields of `Card` (`input_shape`, `classes`, `parameters`, `macs`, `source`, and `task`
    where it is not classification); whatever else is given goes to the builder. All of them must be
    literals, because `cards` reads them from the source text.
    """

    def register(builder: _Builder) -> _Builder:
        _registered[name] = _card(name, builder.__module__, builder.__name__, **facts)
        return builder

    return register


def registered() -> dict[str, Card]:
    """Return the cards of the networks whose modules have been imported so far."""
    return dict(_registered)


def _read(file: Path) -> list[Card]:
    """Return the cards in one file, in the order of its decorators."""
    found = []
    for node in ast.parse(file.read_text(encoding="utf-8"), str(file)).body:
        for call in getattr(node, "decorator_list", ()):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "network":
                try:
                    (name,) = map(ast.literal_eval, call.args)
                    facts = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
                    found.append(_card(name, f"{_PACKAGE}.{file.stem}", node.name, **facts))
                except (TypeError, ValueError) as problem:
                    where = f"{file.name}, line {call.lineno}"
                    raise TrainwattError(f"cannot read the network card at {where}: {problem}") from None
    return found


@functools.cache
def _all_cards() -> Mapping[str, Card]:
    found: dict[str, Card] = {}
    for file in sorted(_FOLDER.glob("*.py")):
        for card in _read(file):
            if card.name in found:
                raise TrainwattError(f"two networks are called {card.name!r}: see {file.name}")
            found[card.name] = card
    return found


def cards() -> dict[str, Card]:
    """Return the card of every network by name, without importing PyTorch or any network.

    Raises `TrainwattError` where a decorator holds something else than literals, lacks a field or repeats
    a name.
    """
    return dict(_all_cards())


def card(name: str) -> Card:
    """Return the card of the network `name`; raises `TrainwattError`, with a suggestion, where there is none."""
    known = _all_cards()
    if name not in known:
        raise unknown("network", name, known)
    return known[name]


def build(
    name: str, classes: int | None = None, widths: Mapping[str, int] | None = None, **arguments: Any
) -> "torch.nn.Module":
    """Build the network `name`; it maps a batch (N, *input_shape) to logits.

    Logits are (N, classes), or (N, classes, height, width) in segmentation. `classes` defaults to the
    card's. `widths` maps paths of convolutions such as "layer1.0.conv1" to their output channels, and what
    follows from them follows; convolutions that it does not list keep their width. `arguments` replace
    those on the card. Raises `TrainwattError` for an unknown name or argument and for widths that do not
    fit.
    """
    found = card(name)
    classes = found.classes if classes is None else classes
    if classes < 1:
        raise TrainwattError(f"a network needs at least one class, got {classes}")
    builder = getattr(importlib.import_module(found.module), found.builder)
    accepted = inspect.signature(builder).parameters
    for argument in arguments:
        if argument not in accepted:
            raise unknown(f"argument for network {name}", argument, accepted)
    return builder(classes=classes, widths=widths, **{**found.arguments, **arguments})
