"""Networks that predict which instances have a high loss, as traced training steps.

The files of this folder are the filter networks of Wu et al. 2020 (arXiv:2007.03213) with two classes, made by

    trainwatt trace resnet8-cifar --classes 2 -o simulator/rewriting/filters/resnet8-cifar-3x32x32.graph
    trainwatt trace resnet10 --classes 2 -o simulator/rewriting/filters/resnet10-3x224x224.graph
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.io import load

CLASSES = 2


@cache
def packaged() -> Mapping[str, Graph]:
    """Return the filters of this folder by name."""
    return MappingProxyType({path.stem: load(path) for path in sorted(Path(__file__).parent.glob("*.graph"))})


def find(name: str, shape: tuple[int, ...]) -> Graph:
    """Return the traced filter called `name`, or in the file `name`, for inputs of `shape` (without the batch).

    `auto` is the packaged one for such inputs. Raises `TrainwattError` where there is none, and where it takes other
    inputs or tells other than two classes apart.
    """
    known = packaged()
    if name == "auto":
        fitting = [graph for graph in known.values() if _takes(graph) == shape]
        if not fitting:
            raise TrainwattError(
                f"no packaged filter for inputs {_written(shape)}; trace one with 'trainwatt trace NETWORK "
                f"--classes {CLASSES} -o FILE' and give filter=FILE"
            )
        return fitting[0]
    graph = known[name] if name in known else load(name)
    if graph.meta.get("classes", CLASSES) != CLASSES:
        raise TrainwattError(f"filter {name} of {graph.meta['classes']} classes; it has {CLASSES}, low and high loss")
    if _takes(graph) != shape:
        raise TrainwattError(f"filter {name} for inputs {_written(_takes(graph))}; the network's are {_written(shape)}")
    return graph


def _takes(graph: Graph) -> tuple[int, ...]:
    return tuple(graph.meta.get("input_shape", ()))


def _written(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "unknown"
