"""Gradient checkpointing, runnable: sequences of modules that hand segments of theirs to `torch.utils.checkpoint`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from simulator.errors import TrainwattError
from simulator.techniques.recompute import Piece, Recompute, recomputed_pieces
from workloads.workload import Workload


@dataclass(frozen=True)
class _InSegments:
    """The forward of a sequence of modules, some runs of which (`pieces`) are checkpointed."""

    modules: nn.Sequential
    pieces: Sequence[Piece]

    def __call__(self, x: Any) -> Any:
        children = list(self.modules)
        at = 0
        for piece in self.pieces if torch.is_grad_enabled() else ():
            x = _run(children[at : piece.start], x)
            at = len(children) if piece.stop is None else piece.stop
            x = checkpoint(_run, children[piece.start : at], x, use_reentrant=False)
        return _run(children[at:], x)


def _run(modules: Sequence[nn.Module], x: Any) -> Any:
    for module in modules:
        x = module(x)
    return x


def workload(technique: Recompute, workload: Workload) -> Workload:
    """Checkpoint the segments of the model; raises `TrainwattError` where their container is no `Sequential`."""
    names = [name for name, _ in workload.model.named_parameters()]
    by_container: dict[str, list[Piece]] = {}
    for piece in recomputed_pieces(technique, names):
        by_container.setdefault(piece.container, []).append(piece)
    for path, pieces in by_container.items():
        container = workload.model.get_submodule(path)
        if not isinstance(container, nn.Sequential) or type(container).forward is not nn.Sequential.forward:
            raise TrainwattError(
                f"recompute in {path or 'the model'} (a {type(container).__name__}); it takes a torch.nn.Sequential"
            )
        if "forward" in vars(container):
            raise TrainwattError(f"recompute in {path or 'the model'}, whose forward was changed; recompute it once")
        container.forward = _InSegments(container, pieces)  # type: ignore[method-assign]
    return workload
