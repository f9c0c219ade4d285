"""Graph files: JSON in columns, gzip-compressed unless the name ends in `.json`.

A file holds one table per kind of thing (layouts, attributes, tensors, storages, ops); an op's tensors are row
numbers. Numbers that depend on a dimension are text, such as "12544*batch". docs/graph-format.md describes it.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from simulator.errors import TrainwattError, first_line
from simulator.extent import Extent, Poly, parse_extent
from simulator.files import write_atomic
from simulator.graph import ITEM_BYTES, PHASES, ROLES, Graph, Layout, Op, Share, Storage, Tensor, Untraceable

FORMAT = "trainwatt-graph"
VERSION = 2

_OP_COLUMNS = (
    "name",
    "kind",
    "phase",
    "layer",
    "inputs",
    "outputs",
    "mutates",
    "saved",
    "attrs",
    "forward",
    "runs",
)
_STORAGE_COLUMNS = ("size_bytes", "role", "born", "died", "name", "held")
_GZIP_MAGIC = b"\x1f\x8b"


def save(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write `graph` to `path`, whole or not at all; `load` returns an equal graph.

    Raises `TrainwattError` where the path cannot be written.
    """
    text = json.dumps({"format": FORMAT, "version": VERSION, **_form(graph)}, separators=(",", ":"))
    plain = Path(path).suffix == ".json"
    # mtime=0: the same graph gives the same bytes
    write_atomic(path, text if plain else gzip.compress(text.encode(), compresslevel=6, mtime=0))


def load(path: str | os.PathLike[str]) -> Graph:
    """Read a graph file.

    Raises `TrainwattError` where there is none, it is torn, of another kind, or of another schema version.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise TrainwattError(f"no graph file {str(path)!r}; 'trainwatt trace NETWORK -o FILE' writes one") from None
    except OSError as error:
        raise TrainwattError(f"cannot read {path} ({error.strerror}); give a graph file") from None
    try:
        document = json.loads(gzip.decompress(data) if data.startswith(_GZIP_MAGIC) else data)
    except (ValueError, OSError, EOFError) as error:
        raise TrainwattError(f"{path} is torn or no graph file ({first_line(error)}); trace it again") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise TrainwattError(f"{path} is no graph file; 'trainwatt trace NETWORK -o FILE' writes one")
    if document.get("version") != VERSION:
        raise TrainwattError(
            f"{path} has schema version {document.get('version')}; this is version {VERSION}, trace it again"
        )
    try:
        return _graph(document)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise TrainwattError(f"{path} is damaged ({type(error).__name__}: {error}); trace it again") from None


# -- writing -----------------------------------------------------------------------------------------------------------


def _form(graph: Graph) -> dict[str, Any]:
    layouts: dict[Layout, int] = {}
    attrs: dict[str, int] = {}
    tensors = [(layouts.setdefault(t.layout, len(layouts)), t.storage, _plain(t.offset)) for t in graph.tensors]
    numbers = [attrs.setdefault(json.dumps(_plain_attrs(op.attrs)), len(attrs)) for op in graph.ops]
    ops = {name: [getattr(op, name) for op in graph.ops] for name in _OP_COLUMNS if name != "attrs"}
    other: Any = None
    if isinstance(graph.other, Untraceable):
        other = {"untraceable": graph.other.reason}
    elif graph.other is not None:
        other = _form(graph.other)
    return {
        "meta": dict(graph.meta),
        "sizes": dict(graph.sizes),
        "shares": {name: [share.of, share.share, share.varies] for name, share in graph.shares.items()},
        "smallest_batch": graph.smallest_batch,
        "layouts": [[list(map(_plain, x.shape)), list(map(_plain, x.stride)), x.dtype] for x in layouts],
        "tensors": dict(zip(("layout", "storage", "offset"), map(list, zip(*tensors, strict=True)), strict=False)),
        "storages": {name: [_plain(getattr(s, name)) for s in graph.storages] for name in _STORAGE_COLUMNS},
        "attrs": [json.loads(text) for text in attrs],
        "ops": {**ops, "attrs": numbers},
        "other": other,
    }


def _plain(extent: Any) -> Any:
    return str(extent) if isinstance(extent, Poly) else extent


def _plain_attrs(value: Any) -> Any:
    if isinstance(value, Poly):
        return {"extent": str(value)}
    if isinstance(value, Mapping):
        return {name: _plain_attrs(v) for name, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain_attrs(v) for v in value]
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return {"float": str(value)}
    return value


# -- reading -----------------------------------------------------------------------------------------------------------


def _graph(form: Mapping[str, Any]) -> Graph:
    layouts = [_layout(*row) for row in form["layouts"]]
    attrs = [MappingProxyType({name: _attr(v) for name, v in row.items()}) for row in form["attrs"]]
    tensors, storages, ops = form["tensors"], form["storages"], form["ops"]
    if form["sizes"]["batch"] < 1:
        raise ValueError("a batch of no samples")
    if not set(ops["phase"]) <= set(PHASES) or not set(storages["role"]) <= set(ROLES):
        raise ValueError("a phase or role that does not exist")
    other = form["other"]
    lists = {name: [tuple(ids) for ids in ops[name]] for name in ("inputs", "outputs", "mutates", "saved")}
    return Graph(
        ops=tuple(
            map(
                Op,
                ops["name"],
                ops["kind"],
                ops["phase"],
                ops["layer"],
                lists["inputs"],
                lists["outputs"],
                lists["mutates"],
                lists["saved"],
                [attrs[number] for number in ops["attrs"]],
                ops["forward"],
                _same_length(ops, "runs"),
            )
        ),
        tensors=tuple(
            map(
                Tensor,
                [layouts[number] for number in tensors.get("layout", [])],
                tensors.get("storage", []),
                map(_extent, tensors.get("offset", [])),
            )
        ),
        storages=tuple(
            map(
                Storage,
                map(_extent, storages["size_bytes"]),
                storages["role"],
                storages["born"],
                storages["died"],
                storages["name"],
                _same_length(storages, "held"),
            )
        ),
        sizes=MappingProxyType({name: int(value) for name, value in form["sizes"].items()}),
        meta=MappingProxyType(dict(form["meta"])),
        shares=MappingProxyType({name: Share(*row) for name, row in form["shares"].items()}),
        smallest_batch=int(form["smallest_batch"]),
        other=None if other is None else Untraceable(other["untraceable"]) if "untraceable" in other else _graph(other),
    )


def _same_length(table: Mapping[str, list[Any]], column: str) -> list[Any]:
    if len({len(values) for values in table.values()}) != 1:
        raise ValueError("columns of unequal length")
    return table[column]


def _layout(shape: list[Any], stride: list[Any], dtype: str) -> Layout:
    if dtype not in ITEM_BYTES:
        raise ValueError(f"dtype {dtype}")
    return Layout(tuple(map(_extent, shape)), tuple(map(_extent, stride)), dtype)


def _extent(value: Any) -> Extent:
    if isinstance(value, str):
        return parse_extent(value)
    if not isinstance(value, int):
        raise ValueError(f"{value!r} where a whole number should be")
    return value


def _attr(value: Any) -> Any:
    if isinstance(value, list):
        return tuple([_attr(v) for v in value])
    if isinstance(value, dict):
        return parse_extent(value["extent"]) if "extent" in value else float(cast(str, value["float"]))
    return value
