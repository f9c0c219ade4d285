"""From what the user names to the graph of its training step."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.output import progress_bar
from simulator.errors import TrainwattError

if TYPE_CHECKING:
    from simulator.graph import Graph  # its numpy takes too long for `--help`

GRAPH_SUFFIXES = (".graph", ".json")
DEFAULT_BATCH = 32
WIDTHS_FORM = '{"layer1.0.conv1": 32}'


@dataclass(frozen=True)
class TraceOptions:
    """How to trace a step: the arguments of `workloads.tracer.trace`, empty where the user gave none."""

    batch: int | None = None
    classes: int | None = None
    input_shape: tuple[int, ...] | None = None
    widths: Mapping[str, int] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    loss: str | None = None
    optimizer: str | None = None
    foreach: bool = False
    train: str | None = None
    batch_norm: str | None = None
    precision: str | None = None
    accumulate: int | None = None
    channels_last: bool = False

    def given(self) -> dict[str, Any]:
        """Return the options that the user gave."""
        return {name: value for name, value in asdict(self).items() if value not in (None, False, {})}


OPTION_NAMES = {"arguments": "--arg", "batch_norm": "--bn"}
"""What the command calls an option, where that is not its own name."""


def is_graph_file(spec: str) -> bool:
    """Tell whether `spec` names a stored graph: by its suffix, or a file that is no network's name."""
    if spec.endswith(GRAPH_SUFFIXES):
        return True
    if not Path(spec).is_file():
        return False
    from workloads.catalog import cards

    return spec not in cards()


def graph_from(spec: str, options: TraceOptions) -> Graph:
    """Return the training step of a stored graph, a network by name, or `package.module:callable`.

    A stored graph is only re-batched; every other option is an error that names it, as are a file that does
    not exist and a step that cannot be traced (`TrainwattError`). Only networks and callables import torch.
    """
    given = options.given()
    if is_graph_file(spec):
        senseless = [name for name in given if name != "batch"]
        if senseless:
            option = OPTION_NAMES.get(senseless[0], "--" + senseless[0].replace("_", "-"))
            raise TrainwattError(f"{option} with the stored graph {spec!r}; a stored graph takes only --batch")
        from simulator.io import load

        graph = load(spec)
        return graph.rebatch(options.batch) if options.batch else graph
    if ":" not in spec:
        check_network(spec)
    try:
        from workloads.tracer import trace
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise TrainwattError(f"no PyTorch to trace {spec!r} with; install torch, or give a stored graph") from None
    with progress_bar(f"tracing {spec}") as progress:
        return trace(spec, **{"batch": DEFAULT_BATCH, **given}, progress=progress)


def check_network(name: str) -> None:
    """Raise `TrainwattError` with a suggestion where there is no such network; does not import torch."""
    from workloads.catalog import card, cards

    if name not in cards() and ("/" in name or Path(name).is_dir()):
        raise TrainwattError(f"no file {name!r}; give a stored graph, a network or package.module:callable")
    card(name)


def parse_shape(text: str) -> tuple[int, ...]:
    """Read the shape of one sample, such as `3,224,224`."""
    pieces = re.split(r"[,x]", text.strip())
    if not all(p.strip().isdigit() and int(p) > 0 for p in pieces):
        raise TrainwattError(f"input shape {text!r}; write for example 3,224,224")
    return tuple(int(p) for p in pieces)


def read_widths(path: str) -> dict[str, int]:
    """Read a table of output channels by convolution from a JSON file: `{"layer1.0.conv1": 32, ...}`."""
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainwattError(f"cannot read widths {path!r} ({error.strerror}); give a JSON file") from None
    except ValueError as error:
        raise TrainwattError(f"widths {path!r} are no JSON ({error}); write {WIDTHS_FORM}") from None
    if not isinstance(table, dict) or not all(type(width) is int for width in table.values()):
        raise TrainwattError(f"widths {path!r} are no table of whole numbers; write {WIDTHS_FORM}")
    return table


def parse_arguments(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Read `key=value` pairs; values are JSON (numbers, true, lists), none, or text that is neither."""
    from simulator.spec import literal

    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise TrainwattError(f"argument {pair!r}; write --arg key=value")
        if key in arguments:
            raise TrainwattError(f"argument {key!r} twice; give it once")
        try:
            arguments[key] = json.loads(value)
        except ValueError:
            arguments[key] = literal(value)
    return arguments
