"""Gradient checkpointing: activations are computed again in backward instead of kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.rewriting.edit import Edit
from simulator.rewriting.layers import parameters
from simulator.rewriting.node import Node
from simulator.rewriting.recomputing import recompute_region
from simulator.techniques import Technique, check


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
    Apply it after techniques that change what layers compute or save.

    Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016, arXiv:1604.06174.
    """

    name: ClassVar[str] = "recompute"

    segments: int = 4

    def __post_init__(self) -> None:
        check(self.segments >= 1, self, "segments", "a number of segments, at least 1")

    def rewrite(self, graph: Graph) -> Graph:
        """Return the step with all but the last segment recomputed; raises `TrainwattError` where there are too few."""
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
        return edit.graph(meta={**graph.meta, "recompute": self.segments})


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


def recomputed_pieces(technique: Recompute, parameters: Iterable[str]) -> list[Piece]:
    """Return what is recomputed of a network with these parameters (names in registration order), in order.

    Raises `TrainwattError` where there are fewer blocks than segments.
    """
    blocks = list(dict.fromkeys(block for name in parameters if (block := _block(name)) is not None))
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
    pieces = []
    for edge in edges:
        if blocks.index(edge) < plain:
            following = [number for container, number in edges if container == edge[0] and number > edge[1]]
            pieces.append(Piece(*edge, min(following, default=None)))
    return pieces


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
