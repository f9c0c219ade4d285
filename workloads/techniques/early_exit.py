"""Early exits, runnable: heads that read what modules of a frozen network put out, and are all that is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F

from simulator.errors import TrainwattError, unknown
from simulator.rewriting.layers import layer_of
from simulator.techniques.early_exit import EarlyExit, exit_paths
from workloads.losses import main_output
from workloads.scope import freeze_batch_norm
from workloads.workload import Workload


class Exits(nn.ModuleList):
    """The exits of a network, linear layers registered with it. They run where they are attached, not here."""

    def forward(self, x: Any) -> Any:
        """Return `x`: a `nn.Sequential` calls all its modules."""
        return x


class _Reached(Exception):
    """All exits have run, and nobody needs the rest of the network."""


@dataclass(frozen=True)
class ExitWorkload(Workload):
    """A workload whose outputs are the logits of its exits, and those of the network behind them where it runs on."""

    truncated: bool = field(default=False, kw_only=True)
    logits: list[torch.Tensor | None] = field(default_factory=list, kw_only=True)

    def forward(self, inputs: Any) -> list[torch.Tensor]:
        """Return the logits (N, K) of every exit, and of the network unless it is `truncated`."""
        self.logits[:] = [None] * len(self.logits)
        try:
            final = [main_output(super().forward(inputs))]
        except _Reached:
            final = []
        outputs = [cast(torch.Tensor, z) for z in self.logits] + final
        self.logits[:] = [None] * len(self.logits)
        return outputs


def workload(technique: EarlyExit, workload: Workload) -> Workload:
    """Freeze the network and attach exits, by the last of which it is judged.

    Raises `TrainwattError` for modules that can have none.
    """
    model = workload.model
    modules = dict(model.named_modules())
    if "exits" in dict(model.named_children()):
        raise TrainwattError("early-exit on a network that has a module 'exits'; apply it once, or rename the module")
    weights = [name for name, p in model.named_parameters() if p.dim() == 4]
    paths = exit_paths(technique, [layer_of(name) for name in weights])
    for path in paths:
        if path not in modules:
            raise unknown("module", path, [name for name in modules if name])
    model.requires_grad_(False)
    freeze_batch_norm(model)
    classes, channels = _probe(workload, [modules[path] for path in paths], paths)
    like = next(model.parameters())
    heads = Exits(nn.Linear(c, classes, device=like.device, dtype=like.dtype) for c in channels)
    model.add_module("exits", heads)
    truncated = technique.teacher == "labels"
    logits: list[torch.Tensor | None] = [None] * len(paths)
    for number, path in enumerate(paths):
        modules[path].register_forward_hook(partial(_leave, heads[number], number, logits, truncated))
    same = {f.name: getattr(workload, f.name) for f in fields(Workload)}
    same |= {"loss": label_loss if truncated else teacher_loss}
    exits = ExitWorkload(**same, truncated=truncated, logits=logits)
    return replace(exits, predict=lambda inputs: exits.forward(inputs)[len(paths) - 1])


def _leave(
    head: nn.Module, number: int, logits: list[Any], truncated: bool, module: nn.Module, args: Any, output: Any
) -> None:
    logits[number] = head(output.mean((2, 3)))
    if truncated and all(z is not None for z in logits):
        raise _Reached


def label_loss(outputs: Sequence[torch.Tensor], targets: torch.Tensor) -> torch.Tensor:
    """Return the sum over exits of the mean cross-entropy with `targets` (N)."""
    total = None
    for z in outputs:
        loss = F.cross_entropy(z, targets)
        total = loss if total is None else total + loss
    return cast(torch.Tensor, total)


def teacher_loss(outputs: Sequence[torch.Tensor], targets: Any) -> torch.Tensor:
    """Return the sum over exits of the mean cross-entropy with the probabilities of the last outputs."""
    *exits, final = outputs
    probabilities = F.softmax(final, 1)
    total = None
    for z in exits:
        loss = (probabilities * F.log_softmax(z, 1)).sum() / -len(z)
        total = loss if total is None else total + loss
    return cast(torch.Tensor, total)


def _probe(workload: Workload, taps: Sequence[nn.Module], paths: Sequence[str]) -> tuple[int, list[int]]:
    """Return the number of classes, and the channels that each module puts out, from a forward pass."""
    shapes: list[list[torch.Size]] = [[] for _ in taps]

    def note(number: int, module: nn.Module, args: Any, output: Any) -> None:
        shapes[number].append(output.shape if isinstance(output, torch.Tensor) else torch.Size())

    handles = [tap.register_forward_hook(partial(note, number)) for number, tap in enumerate(taps)]
    device = next(workload.model.parameters()).device
    with torch.no_grad():
        inputs = workload.inputs(2)
        final = main_output(workload.forward(inputs.to(device) if isinstance(inputs, torch.Tensor) else inputs))
    for handle in handles:
        handle.remove()
    if final.dim() != 2:
        raise TrainwattError(f"early-exit on outputs of shape {list(final.shape)}; it is for classification, (N, K)")
    for path, seen in zip(paths, shapes, strict=True):
        if len(seen) != 1:
            raise TrainwattError(f"module {path!r} runs {len(seen)} times; an exit takes one that runs once")
        if len(seen[0]) != 4:
            raise TrainwattError(f"module {path!r} puts out no maps (N, C, H, W); give one that does")
    return final.shape[1], [seen[0][1] for seen in shapes]
