"""Gradient checkpointing: activations are computed again in backward instead of kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from simulator.errors import TrainwattError, unknown
from simulator.graph import Graph
from simulator.rewriting.edit import Edit
from simulator.rewriting.layers import parameters
from simulator.rewriting.node import Node
from simulator.rewriting.recomputing import recompute_region
from simulator.techniques import Technique, check

_RUN = re.compile(r"(?P<container>[^-|]+\.)?(?P<first>\d+)(?:-(?P<last>\d+))?")


@dataclass(frozen=True)
class Recompute(Technique):
    """Keep only the inputs of segments of the network for backward, and run a segment's forward again when it is due.

    The blocks of a network are the numbered children of its outermost numbered containers (`layer1.0`, `features.3`)
    that own parameters. They are cut, in order, into `segments` runs of as equal a number as possible; modules without
    parameters go with the block before. The last segment runs plainly, as its backward comes right away. A segment
    does not reach over two containers, as what lies between these is the network's own code; there it is two.

    With n blocks of equal size, peak activation memory falls from n to segments + n / segments, for at most one
    more forward pass. What was run is that of `torch.utils.checkpoint` without re-entrance: recomputation stops at the
    last tensor that backward needs, keeps the random numbers, and batch norm updates its running statistics again.

    `blocks` says instead of `segments` what is recomputed: single blocks (`layer1.0`) and runs of blocks of one
    container, both ends included (`features.3-7`), each in one go; everything else runs plainly. That is how a plan is
    written that was chosen for a memory budget (Jain et al., "Checkmate", MLSys 2020, arXiv:1910.02653).
    Apply it after techniques that change what layers compute or save.

    Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016, arXiv:1604.06174.
    """

    name: ClassVar[str] = "recompute"

    segments: int = 4
    blocks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(self.segments >= 1, self, "segments", "a number of segments, at least 1")
        check(all(map(_RUN.fullmatch, self.blocks)), self, "blocks", "a list such as layer1.0|features.3-7")

    def rewrite(self, graph: Graph) -> Graph:
        """Return the step with the chosen pieces recomputed; raises `TrainwattError` where there is no such piece."""
        pieces = recomputed_pieces(self, parameters(graph))
        if "recompute" in graph.meta:
            raise TrainwattError("recompute on a step that recomputes already; give it once")
        edit = Edit(graph)
        passes = int(graph.meta.get("accumulate", 1))
        for piece in pieces:
            regions = _regions(edit, piece)
            if len(regions) != passes:
                raise TrainwattError(
                    f"recompute of {piece}, which runs in {len(regions)} parts; a segment runs in one go, once a pass"
                )
            for region in regions:
                recompute_region(edit, region, str(piece))
        return edit.graph(meta={**graph.meta, "recompute": "|".join(self.blocks) or self.segments})


@dataclass(frozen=True)
class Piece:
    """Children `start` to `stop` (exclusive; None: to the end) of the module `container`, recomputed together."""

    container: str
    start: int
    stop: int | None

    def __str__(self) -> str:
        prefix = f"{self.container}." if self.container else ""
        return f"{prefix}{self.start}" + ("" if self.stop is None else f" to {prefix}{self.stop - 1}")

    def holds(self, layer: str) -> bool:
        """Tell whether an op of `layer` is part of it."""
        prefix = f"{self.container}." if self.container else ""
        number = layer.removeprefix(prefix).partition(".")[0]
        if not layer.startswith(prefix) or not number.isdigit():
            return False
        return self.start <= int(number) and (self.stop is None or int(number) < self.stop)


Block = tuple[str, int]
"""The container of a block and its number in it."""


def numbered_blocks(parameters: Iterable[str]) -> list[Block]:
    """Return the blocks of a network with these parameters (names in registration order), in order."""
    return list(dict.fromkeys(block for name in parameters if (block := _block(name)) is not None))


def recomputed_pieces(technique: Recompute, parameters: Iterable[str]) -> list[Piece]:
    """Return what is recomputed of a network with these parameters (names in registration order), in order.

    Raises `TrainwattError` where there are fewer blocks than segments, or not the blocks that are named.
    """
    blocks = numbered_blocks(parameters)
    if technique.blocks:
        return _named(technique.blocks, blocks)
    n, count = technique.segments, len(blocks)
    if n > count:
        raise TrainwattError(
            f"recompute with segments={n} of {count} numbered blocks"
            + (f"; give 1 to {count}" if count else "; it takes a network with a Sequential of blocks")
        )
    starts = [blocks[i * count // n] for i in range(n)]
    first = dict(reversed(blocks))
    edges = [block for block in blocks if block in starts or block[1] == first[block[0]]]
    plain = blocks.index(starts[-1])
    return [Piece(*edge, _next(edges, edge)) for edge in edges if blocks.index(edge) < plain]


def _named(runs: Iterable[str], blocks: Sequence[Block]) -> list[Piece]:
    """Return the pieces that texts such as `layer1.0` and `features.3-7` name, in the order of the network."""
    names = {(f"{container}." if container else "") + str(number): (container, number) for container, number in blocks}
    found: dict[Block, Block] = {}
    for run in runs:
        match = _RUN.fullmatch(run)
        assert match is not None  # checked on construction
        ends = [(match["container"] or "") + number for number in (match["first"], match["last"] or match["first"])]
        for name in ends:
            if name not in names:
                raise unknown("block", name, names, f"there is {', '.join(names) or 'none'}")
        first, last = (names[name] for name in ends)
        taken = {b for start, stop in found.items() for b in blocks[blocks.index(start) : blocks.index(stop) + 1]}
        if first > last or taken & set(blocks[blocks.index(first) : blocks.index(last) + 1]):
            raise TrainwattError(f"recompute of {run}; give each block once, and runs from their first to their last")
        found[first] = last
    return [Piece(*first, _next(blocks, found[first])) for first in sorted(found, key=blocks.index)]


def _next(blocks: Iterable[Block], block: Block) -> int | None:
    """Return the number of the next of `blocks` in the container of `block`, None where there is none."""
    return min((number for container, number in blocks if container == block[0] and number > block[1]), default=None)


def _block(parameter: str) -> tuple[str, int] | None:
    """Return container and number of the outermost numbered module around a parameter, None where there is none."""
    parts = parameter.split(".")
    for i, part in enumerate(parts[:-1]):
        if part.isdigit():
            return ".".join(parts[:i]), int(part)
    return None


def _regions(edit: Edit, piece: Piece) -> list[list[Node]]:
    """Return the runs of consecutive forward ops of a piece: one for each pass of the step."""
    regions: list[list[Node]] = []
    inside = False
    for node in edit.nodes:
        belongs = node.phase == "forward" and piece.holds(node.layer)
        if belongs and not inside:
            regions.append([])
        if belongs:
            regions[-1].append(node)
        inside = belongs
    return regions
