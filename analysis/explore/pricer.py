"""What prices the points of a space: whole chunks for the grid, some points of many chunks for a search.

A chunk is one network (with its training options) and one technique setting on all devices at all batch sizes. No
PyTorch is imported here: what must be traced is traced before, and graphs are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from analysis.explore.grid import parsed
from analysis.explore.pricing import Prices, price
from analysis.explore.rows import PricedRows
from analysis.explore.space import OPTIONS, Space
from analysis.explore.store import Store
from analysis.explore.table import chunk_table
from simulator.cost import HardwareModel
from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.io import load
from simulator.techniques import Technique, apply
from simulator.work import Ints

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

_STEPS_KEPT = 8
"""Steps with techniques applied that are kept for longer compositions which begin with the same."""

_GRAPHS_KEPT = 16
"""Untreated steps that are kept: a search comes back to every network."""


@dataclass(frozen=True)
class _Step:
    """The untreated step of a source, with its prices, which the savings of all its techniques are stated against."""

    graph: Graph
    prices: Prices


class Pricer:
    """Prices points of `space`, whose graphs are in `store`. It keeps the last step: chunks of one network are best in
    a row."""

    def __init__(self, space: Space, store: Store) -> None:
        self.space, self.store = space, store
        self._last: tuple[int, _Step] | None = None
        self._graphs: dict[int, Graph] = {}
        self._steps: dict[tuple[int, tuple[Technique, ...]], Graph] = {}
        self._rows_of_device: dict[int, PricedRows] = {}

    @cached_property
    def models(self) -> tuple[HardwareModel, ...]:
        return tuple(d.model() for d in self.space.devices)

    @cached_property
    def rows(self) -> PricedRows:
        return PricedRows(self.models)

    @cached_property
    def batches(self) -> Ints:
        return np.array(self.space.batches, dtype=np.int64)

    def run(self, number: int) -> int:
        """Price chunk `number`, store it, and return the number."""
        self.store.write_chunk(number, self.chunk(number))
        return number

    def chunk(self, number: int) -> pa.Table:
        """Return the points of chunk `number`."""
        source, technique = divmod(number, len(self.space.techniques))
        step = self._step(source)
        prices = step.prices
        if parsed(self.space.techniques[technique]):
            prices = self._treated_prices(source, technique, self.rows, self.batches)
        return self._table(self.space, number, self.models, prices, step.prices)

    def points(self, numbers: Sequence[int]) -> pa.Table:
        """Return points by their numbers, in that order; nothing else is priced but the baselines of their savings.

        Points of one network, technique setting and device are priced together.
        """
        sizes = len(self.space.batches)
        order = np.argsort(np.asarray(numbers), kind="stable")
        together: dict[int, list[int]] = {}  # by network, technique and device: the places of the batch sizes
        for number in np.asarray(numbers)[order]:
            together.setdefault(int(number) // sizes, []).append(int(number) % sizes)
        parts = [self._of_device(at, places) for at, places in together.items()]
        table = pa.concat_tables(parts).unify_dictionaries().combine_chunks()
        return table.take(np.argsort(order))

    def _of_device(self, at: int, places: list[int]) -> pa.Table:
        """Return the points of one network, technique and device, by the places of their batch sizes."""
        number, device = divmod(at, len(self.space.devices))
        source, technique = divmod(number, len(self.space.techniques))
        batches = self.batches[places]
        rows = self._rows_of_device.setdefault(device, PricedRows(self.models[device : device + 1]))
        baseline = prices = self._price(self._graph(source), rows, batches)
        if parsed(self.space.techniques[technique]):
            prices = self._treated_prices(source, technique, rows, batches)
        part = replace(self.space, devices=self.space.devices[device : device + 1], batches=tuple(batches.tolist()))
        table = self._table(part, number, rows.models, prices, baseline)
        points = at * len(self.space.batches) + np.array(places)
        return table.set_column(table.schema.get_field_index("point"), table.schema.field("point"), pa.array(points))

    def _table(
        self, space: Space, number: int, models: Sequence[HardwareModel], prices: Prices, baseline: Prices
    ) -> pa.Table:
        source, technique = divmod(number, len(space.techniques))
        texts = {**self._texts(source, self._graph(source).meta), "technique": space.techniques[technique]}
        return chunk_table(space, number, texts, np.array([m.memory_bytes for m in models]), prices, baseline)

    def _graph(self, source: int) -> Graph:
        """Return the untreated step of a source."""
        if source not in self._graphs:
            graph = load(self.space.sources[source].path or self.store.graph(source))
            if graph.smallest_batch > 1 and 1 not in self.space.batches:
                graph = replace(graph, other=None)  # the form of batch 1, which techniques would be applied to as well
            _keep(self._graphs, source, graph, _GRAPHS_KEPT)
        return self._graphs[source]

    def _step(self, source: int) -> _Step:
        if self._last is None or self._last[0] != source:
            graph = self._graph(source)
            self._last = source, _Step(graph, self._price(graph, self.rows, self.batches))
        return self._last[1]

    def _treated_prices(self, source: int, technique: int, rows: PricedRows, batches: Ints) -> Prices:
        """Return the prices of a step with techniques applied, or why there is none."""
        try:
            graph = self._treated(source, parsed(self.space.techniques[technique]))
        except TrainwattError as error:
            return Prices.refused(str(error), len(rows.models), len(batches))
        return self._price(graph, rows, batches)

    def _treated(self, source: int, techniques: tuple[Technique, ...]) -> Graph:
        """Return the step with techniques applied; settings that begin alike share what their beginning makes."""
        if not techniques:
            return self._graph(source)
        if (source, techniques) not in self._steps:
            found = apply(techniques[-1:], self._treated(source, techniques[:-1]))
            _keep(self._steps, (source, techniques), found, _STEPS_KEPT)
        return self._steps[source, techniques]

    def _price(self, graph: Graph, rows: PricedRows, batches: Ints) -> Prices:
        return price(graph, rows, batches, self.space.memory, self.space.dataset_size)

    def _texts(self, source: int, meta: Mapping[str, object]) -> dict[str, str]:
        options = {key: str(meta.get(key, "")) for key in OPTIONS}
        return {"network": self.space.sources[source].name, **options}


def _keep(kept: dict[_Key, _Value], key: _Key, value: _Value, most: int) -> None:
    """Keep a value, and of all only the last so many."""
    while len(kept) >= most:
        del kept[next(iter(kept))]
    kept[key] = value
