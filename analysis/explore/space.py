"""The space of an exploration, read from a TOML file. docs/explore.md describes it."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from analysis.explore import grid
from analysis.explore.accuracy import Known, known_of
from analysis.explore.boards import DeviceMode, devices_of
from analysis.explore.pricing import MEMORY
from analysis.source import GRAPH_SUFFIXES, check_network
from hwmodels.device import FOLDER
from simulator.errors import TrainwattError, unknown
from simulator.units import parse as quantity

OPTIONS = ("optimizer", "train", "batch_norm", "precision")
"""What `[training]` may hold: options of a traced step, each a value or a list of values."""

LIMITS = {
    "latency_s": "s",
    "energy_j": "J",
    "peak_bytes": "byte",
    "epoch_latency_s": "s",
    "epoch_energy_j": "J",
    "run_latency_s": "s",
    "run_energy_j": "J",
}
"""What `[limits]` may bound from above, and in which unit."""

_KEYS = (
    *("networks", "batches", "techniques", "devices", "dataset_size", "epochs", "memory", "accuracy"),
    *("training", "limits", "pareto"),
)
_PARETO = ("objectives", "within")


@dataclass(frozen=True, slots=True)
class Source:
    """A network as the file names it (`name`), where its graph is stored, if it is (`path`), else how to trace it."""

    name: str
    path: str | None
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Space:
    """What is explored: the product of `sources`, `techniques` (text), `devices` and `batches`.

    `memory` is one of `pricing.MEMORY`. A point is feasible where it is within `limits` (by column, SI units) and,
    where `must_fit`, within the device's memory. `epochs` are those of a run. `known` are columns of the user's own.
    """

    sources: tuple[Source, ...]
    techniques: tuple[str, ...]
    devices: tuple[DeviceMode, ...]
    batches: tuple[int, ...]
    dataset_size: int | None = None
    epochs: int | None = None
    memory: str = "kernels"
    known: Known | None = None
    must_fit: bool = True
    limits: tuple[tuple[str, float], ...] = ()
    objectives: tuple[str, ...] = ("latency_s", "energy_j", "peak_bytes")
    within: tuple[str, ...] = ()

    @property
    def chunks(self) -> int:
        """The number of (network and training options, technique)."""
        return len(self.sources) * len(self.techniques)

    @property
    def chunk_points(self) -> int:
        """The points of one chunk: devices times batch sizes."""
        return len(self.devices) * len(self.batches)

    @property
    def points(self) -> int:
        return self.chunks * self.chunk_points

    def digest(self) -> str:
        """Return a fingerprint of all that decides the numbers, the contents of graph and device files included."""
        from importlib.metadata import version

        said = asdict(self)
        del said["objectives"], said["within"]
        files = [Path(s.path) for s in self.sources if s.path]
        files += [Path(self.known.path)] if self.known else []
        files += [Path(path) for path in dict.fromkeys(d.design_file for d in self.devices) if path]
        files += [
            Path(d.source) if d.source.endswith(".toml") else FOLDER / f"{d.source}.toml"
            for d in dict.fromkeys(self.devices)
        ]
        contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
        text = json.dumps([said, contents, version("trainwatt")], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def read_space(path: str) -> Space:
    """Return the space that the TOML file at `path` describes; files that it names are relative to its folder.

    Raises `TrainwattError`, in one line that begins with the path, where it is none or says what cannot be.
    """
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainwattError(f"cannot read space {path!r} ({error.strerror}); give a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainwattError(f"{path} is no TOML ({error}); see docs/explore.md") from None
    try:
        return space_of(document, Path(path).parent)
    except TrainwattError as error:
        raise TrainwattError(f"{path}: {error}") from None


def space_of(document: Mapping[str, Any], folder: Path = Path()) -> Space:
    """Return the space that the content of a file describes; see `read_space`."""
    _known(document, "the file", _KEYS)
    training, limits, pareto = (_table(document, key) for key in ("training", "limits", "pareto"))
    _known(training, "[training]", OPTIONS)
    _known(limits, "[limits]", ("fits", *LIMITS))
    _known(pareto, "[pareto]", _PARETO)
    settings = [text for entry in _list(document, "techniques") for text in grid.techniques(entry)]
    size, epochs = (_whole(document, key) for key in ("dataset_size", "epochs"))
    if epochs is not None and size is None:
        raise TrainwattError("epochs without a data set; give dataset_size")
    memory = document.get("memory", "kernels")
    if memory not in MEMORY:
        raise TrainwattError(f"memory = {memory!r}; it is {' or '.join(MEMORY)}")
    must_fit = limits.get("fits", True)
    if not isinstance(must_fit, bool):
        raise TrainwattError(f"fits = {must_fit!r} in [limits]; it is true or false")
    for key in limits:
        for begin, needed, what in (("epoch_", size, "dataset_size"), ("run_", epochs, "epochs")):
            if key.startswith(begin) and needed is None:
                raise TrainwattError(f"{key} in [limits] without {what}; give {what}")
    return Space(
        sources=_sources(_texts(document, "networks", "the file"), training, folder),
        techniques=tuple(dict.fromkeys(settings)),
        devices=devices_of(_list(document, "devices"), folder),
        batches=_batches(_list(document, "batches")),
        dataset_size=size,
        epochs=epochs,
        memory=memory,
        known=_known_columns(document, folder),
        must_fit=must_fit,
        limits=tuple((key, _limit(key, limits[key])) for key in LIMITS if key in limits),
        **{key: tuple(_texts(pareto, key, "[pareto]")) for key in _PARETO if key in pareto},
    )


def _known(table: Mapping[str, Any], where: str, keys: tuple[str, ...]) -> None:
    for key in table:
        if key not in keys:
            raise unknown(f"key in {where}", key, keys, f"there is {', '.join(keys)}")


def _table(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = document.get(key, {})
    if not isinstance(table, dict):
        raise TrainwattError(f"{key} = {table!r}; it is a table, [{key}]")
    return table


def _whole(document: Mapping[str, Any], key: str) -> int | None:
    value = document.get(key)
    if value is not None and (type(value) is not int or value < 1):
        raise TrainwattError(f"{key} = {value!r}; it is a whole number of at least 1")
    return value


def _list(document: Mapping[str, Any], key: str) -> list[Any]:
    if key not in document:
        raise TrainwattError(f"no {key}; give {key} = [...]")
    values = document[key]
    if not isinstance(values, list) or not values:
        raise TrainwattError(f"{key} = {values!r}; it is a list of at least one")
    return values


def _texts(table: Mapping[str, Any], key: str, where: str) -> list[str]:
    """Return the texts of a key, each once."""
    values = _list(table, key)
    if not all(isinstance(value, str) and value for value in values):
        raise TrainwattError(f"{key} = {values!r} in {where}; it is a list of texts")
    return list(dict.fromkeys(values))


def _known_columns(document: Mapping[str, Any], folder: Path) -> Known | None:
    from analysis.explore.table import SCHEMA  # it needs this module

    known = known_of(document["accuracy"], folder) if "accuracy" in document else None
    for name in known.columns if known else ():
        if name in (*SCHEMA.names, "on_front"):
            raise TrainwattError(f"column {name!r} in accuracy; points have one of that name, give it another")
    return known


def _limit(key: str, value: Any) -> float:
    try:
        found = quantity(value, LIMITS[key])
    except TrainwattError as error:
        raise TrainwattError(f"{key} in [limits]: {error}") from None
    if found <= 0:
        raise TrainwattError(f"{key} = {value!r} in [limits]; a limit is above 0")
    return found


def _batches(entries: list[Any]) -> tuple[int, ...]:
    found: dict[int, None] = {}
    for entry in entries:
        values = (grid.span(entry) or (entry,)) if isinstance(entry, str) else (entry,)
        for value in values:
            whole = type(value) is int or (isinstance(value, str) and value.isdigit())
            if not whole or int(value) < 1:
                raise TrainwattError(f"batch {value!r}; write whole numbers of at least 1, or a range '8..64..8'")
            found[int(value)] = None
    return tuple(found)


def _sources(names: list[str], training: Mapping[str, Any], folder: Path) -> tuple[Source, ...]:
    lists = {key: training[key] if isinstance(training[key], list) else [training[key]] for key in training}
    lists = {key: _texts(lists, key, "[training]") for key in OPTIONS if key in lists}
    combinations = [tuple(zip(lists, values, strict=True)) for values in product(*lists.values())]
    found: list[Source] = []
    for name in names:
        if name.endswith(GRAPH_SUFFIXES):
            path = folder / name
            if not path.is_file():
                raise TrainwattError(f"no graph file {str(path)!r}; store one with 'trainwatt trace'")
            found.append(Source(name, str(path.resolve())))
            continue
        if ":" not in name:
            check_network(name)
        found += [Source(name, None, options) for options in combinations]
    return tuple(found)
