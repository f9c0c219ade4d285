"""A space on its way to another machine: with the contents of every file that it names, and what code priced it."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.explore.space import Space
from analysis.explore.store import Store
from simulator.files import write_atomic

_CODE = ("simulator", "hwmodels", "analysis")


@dataclass(frozen=True)
class Parcel:
    """A `space` with its `digest`, the graph files of its traced sources by number, the contents of the `files` that it
    names by path, and the `fingerprint` of the side that sends it."""

    space: Space
    digest: str
    graphs: Mapping[int, bytes]
    files: Mapping[str, bytes]
    fingerprint: Mapping[str, str]

    def unpacked(self, folder: Path) -> tuple[Space, Store]:
        """Write all files into `folder`; return the space that names them there, and the store that has its graphs."""
        store = Store(folder, self.digest, self.space.chunks)
        moved: dict[str, str] = {}
        for number, (path, content) in enumerate(self.files.items()):
            moved[path] = str(folder / "files" / str(number) / Path(path).name)
            _written(Path(moved[path]), content)
        for number, content in self.graphs.items():
            _written(store.graph(number), content)
        return _renamed(self.space, lambda path: moved[path]), store


def packed(space: Space, store: Store) -> Parcel:
    """Return the parcel of a space whose steps are traced, in `store`."""
    named: dict[str, bytes] = {}

    def read(path: str) -> str:
        named[path] = Path(path).read_bytes()
        return path

    _renamed(space, read)
    graphs = {n: store.graph(n).read_bytes() for n, source in enumerate(space.sources) if source.path is None}
    return Parcel(space, store.digest, graphs, named, fingerprint())


def fingerprint() -> dict[str, str]:
    """Return what decides numbers beside a space: the versions of trainwatt, its code, Python and NumPy."""
    from importlib.metadata import version

    contents = hashlib.sha256()
    for package in _CODE:
        root = Path(__file__).parents[2] / package
        for path in sorted([*root.rglob("*.py"), *root.rglob("*.toml")]):
            contents.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return {
        "trainwatt": version("trainwatt"),
        "trainwatt's code": contents.hexdigest()[:12],
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "NumPy": version("numpy"),
    }


def _renamed(space: Space, name: Callable[[str], str]) -> Space:
    """Return the space with the path of every file that it names replaced."""
    sources = tuple(replace(s, path=name(s.path)) if s.path else s for s in space.sources)
    devices = tuple(
        replace(
            d,
            source=name(d.source) if d.source.endswith(".toml") else d.source,
            design_file=name(d.design_file) if d.design_file else "",
        )
        for d in space.devices
    )
    known = replace(space.known, path=name(space.known.path)) if space.known else None
    return replace(space, sources=sources, devices=devices, known=known)


def _written(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content)
