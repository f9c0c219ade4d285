"""What recomputing a run of blocks does to the memory of a step, op by op, and what it costs.

A network's blocks (`simulator.techniques.recompute`) fall into runs of one container. Each run is one option of a
plan. Recomputing it ends the lives of what its forward ops saved, keeps what enters it, and runs ops again before the
first backward op that needs them. What disjoint runs do to the bytes live in each op adds up:

    live(t) = base(t) + sum over chosen options p of change(p, t)

with a row t for each op of the plain step, and one for each op that an option runs again. In such a row, the option's
own change is what lives there beyond the plain step's op that follows; where it is not chosen the row repeats that op.
So the rows hold for every plan, and need no constant that is larger than everything else.

It adds up because what enters a block is kept by that block, recomputed or not. A technique that saves less
(`gradient-filter` keeps sums of what enters) can leave it to the block before alone; then two neighbours recomputed
apart keep more than the sum says, which is a lower bound there. Whoever uses a plan replays it (`Plan.replayed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simulator.cost import HardwareModel
from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.memory import replay
from simulator.rewriting.layers import parameters
from simulator.schedule import timeline
from simulator.techniques.recompute import Recompute, numbered_blocks
from simulator.work import Floats, Ints, work_of


@dataclass(frozen=True)
class Option:
    """One run of blocks to recompute: `text` as `recompute{blocks=...}` writes it, `blocks` the numbers of its blocks.

    `change_bytes`, shape (ops of the plain step,), is how much more lives in each op. `again_bytes` is what lives in
    each op that runs again, before op `due` (of the plain step), both of shape (ops run again,). `extra_s`, `extra_j`
    are what these take.
    """

    text: str
    blocks: tuple[int, ...]
    change_bytes: Ints
    again_bytes: Ints
    due: Ints
    extra_s: float
    extra_j: float


@dataclass(frozen=True)
class Effects:
    """All options of the step `graph` with `base_bytes` live in each of its ops, shape (ops,)."""

    graph: Graph
    base_bytes: Ints
    options: tuple[Option, ...]
    blocks: int

    @cached_property
    def rows(self) -> tuple[Ints, Ints]:
        """`base`, shape (rows,), and `change`, shape (rows, options), of the rows that the module's docstring states.

        Rows that are never the highest are left out: of what an option runs again before one op, all but the highest,
        and rows that another one exceeds in `base` and in every change.
        """
        plain = np.stack([option.change_bytes for option in self.options], axis=1)
        base, change = [self.base_bytes], [plain]
        for k, option in enumerate(self.options):
            for due in np.unique(option.due):
                again = plain[due].copy()
                again[k] = option.again_bytes[option.due == due].max() - self.base_bytes[due]
                base.append(self.base_bytes[[due]])
                change.append(again[None])
        return _undominated(np.concatenate(base), np.concatenate(change))

    def peak_bytes(self, chosen: Sequence[int]) -> int:
        """Return the peak memory of the step with these options (by number) recomputed."""
        if not self.options:
            return int(self.base_bytes.max())
        base, change = self.rows
        return int((base + change[:, list(chosen)].sum(axis=1)).max())


def effects(graph: Graph, device: HardwareModel) -> Effects:
    """Return what every run of blocks of `graph` would do if it were recomputed, priced on `device`.

    Runs that cannot be recomputed (one changes its input in place, a block runs several times) and runs that save
    nothing are no options; in a network without numbered blocks there are none.

    The time of an op that runs again is that of its forward op in the step's own timeline; where a host dispatches
    ops to a queue, the step with the plan may take a little more or less, as the queue runs full or dry.
    """
    base = replay(graph, device.workspace_bytes(graph)).live_bytes
    seconds, joules = _priced(graph, device)
    blocks = numbered_blocks(parameters(graph))
    found = []
    for first, (container, start) in enumerate(blocks):
        prefix = f"{container}." if container else ""
        for last in range(first, len(blocks)):
            if blocks[last][0] != container:
                break
            text = f"{prefix}{start}" + (f"-{blocks[last][1]}" if last > first else "")
            option = _option(graph, device, text, range(first, last + 1), base, seconds, joules)
            if option is not None:
                found.append(option)
    return Effects(graph, base, tuple(found), len(blocks))


def _option(
    graph: Graph,
    device: HardwareModel,
    text: str,
    blocks: range,
    base: Ints,
    seconds: Floats,
    joules: Floats,
) -> Option | None:
    try:
        changed = Recompute(blocks=(text,)).rewrite(graph)
    except TrainwattError:
        return None
    live = replay(changed, device.workspace_bytes(changed)).live_bytes
    plain, again, due = _places(graph, changed)
    if not len(again):
        return None
    source = _run_before(graph, changed, again)
    return Option(
        text,
        tuple(blocks),
        live[plain] - base,
        live[again],
        due,
        float(seconds[source].sum()),
        float(joules[source].sum()),
    )


def _places(graph: Graph, changed: Graph) -> tuple[Ints, Ints, Ints]:
    """Return where the ops of `graph` are in `changed`, where the added ones are, and which op each stands before."""
    plain: list[int] = []
    again: list[int] = []
    due: list[int] = []
    keys = [(op.name, op.phase, op.layer) for op in graph.ops]
    for i, op in enumerate(changed.ops):
        at = len(plain)
        if at < len(keys) and (op.name, op.phase, op.layer) == keys[at]:
            plain.append(i)
        else:
            again.append(i)
            due.append(at)
    assert len(plain) == len(keys), "recomputing adds ops and takes none away"
    return tuple(np.array(numbers, dtype=np.int64) for numbers in (plain, again, due))  # type: ignore[return-value]


def _run_before(graph: Graph, changed: Graph, again: Ints) -> Ints:
    """Return the forward op of `graph` that each op run again repeats."""
    waiting: dict[tuple[str, str], list[int]] = {}
    for i in range(len(graph.ops) - 1, -1, -1):
        op = graph.ops[i]
        if op.phase == "forward":
            waiting.setdefault((op.name, op.layer), []).append(i)
    return np.array([waiting[changed.ops[i].name, changed.ops[i].layer].pop() for i in again], dtype=np.int64)


def _priced(graph: Graph, device: HardwareModel) -> tuple[Floats, Floats]:
    """Return the time and energy of each op of the step, with what it waits for the host."""
    work = work_of(graph)
    cost = device.price(work)
    placed = timeline(cost, work.row_of_op, work.runs)
    waited = np.maximum(placed.step_s - placed.duration_s, 0.0)
    return placed.step_s, cost.energy_j[work.row_of_op] * work.runs + cost.waiting_w * waited


def _undominated(base: Ints, change: Ints) -> tuple[Ints, Ints]:
    """Return the rows without those that another one exceeds, or equals, in all columns."""
    table = np.unique(np.column_stack([base, change]), axis=0)
    kept = np.ones(len(table), dtype=bool)
    for i, row in enumerate(table):
        above = np.all(table[kept] >= row, axis=1)
        kept[i] = np.count_nonzero(above) == 1  # itself
    return table[kept, 0], table[kept, 1:]
