"""Early instance filtering, runnable: the filter is trained along with the network and picks its instances."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F

from simulator.errors import TrainwattError
from simulator.rewriting import filters
from simulator.techniques.instance_filter import ENTROPY, NAME, InstanceFilter
from workloads.sources import workload_from
from workloads.techniques.parts.instances import InstanceLoss, chosen, instance_loss, refuse_micro_batches
from workloads.tracing.shapes import counted
from workloads.tracing.step import Step
from workloads.workload import Workload

RAISE, LOWER = 1.05, 0.95
"""Factors of the loss threshold (a1 and a2 of eq. 3). The paper gives no numbers."""

FIRST_THRESHOLD = 1.0
"""The loss threshold to begin with, in the loss's unit. The paper gives no number."""

FEWEST = 2
"""Instances of the smallest batch: batch norm needs two values for a variance."""


class Filter(nn.Module):
    """A network that predicts low or high loss, with what it is trained by; it counts what it decided.

    `threshold` is the loss T from which an instance counts as high, `weight` (2,) are the weights of low and high
    (w_L = 1 / (1 - R), w_H = 1 / R for the wanted share R, normalised to sum 1: R and 1 - R).
    """

    threshold: torch.Tensor
    weight: torch.Tensor

    def __init__(self, net: nn.Module, technique: InstanceFilter, losses: InstanceLoss, like: torch.Tensor) -> None:
        super().__init__()
        self.net, self.technique, self.losses = net.to(device=like.device), technique, losses
        share = technique.keep if technique.keep < 1 else 0.5
        for name, value in (("threshold", FIRST_THRESHOLD), ("weight", [share, 1 - share])):
            self.register_buffer(name, torch.tensor(value, device=like.device))
        self.noted: torch.Tensor | None = None
        self.presented = self.kept = self.uncertain = 0

    @torch.no_grad()
    def predict(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return which of `images` are predicted high, and which low but uncertain; fewer than two of these are none.

        At least two instances are high: the two most likely ones where fewer were predicted.
        """
        expected = self._expected(len(images)) if isinstance(images, FakeTensor) else (None, None)
        chances = self.net(images).log_softmax(1)
        low, high = chances.unbind(1)
        above = high > low
        with counted(expected[0]):
            kept = above.nonzero().flatten()
        if len(kept) < FEWEST:
            kept = high.topk(min(FEWEST, len(images)), sorted=False).indices
            above = torch.zeros_like(above).index_fill_(0, kept, True)
        unsure = None
        if self.technique.judges_more:
            negative_entropy = chances.exp().mul_(chances).sum(1)
            with counted(expected[1]):
                unsure = (negative_entropy < -ENTROPY).bitwise_and_(~above).nonzero().flatten()
            if len(unsure) < FEWEST:
                unsure = None
        self.presented += len(images)
        self.kept += len(kept)
        self.uncertain += 0 if unsure is None else len(unsure)
        return kept, unsure

    def _expected(self, batch: int) -> tuple[int, int]:
        sizes = {"batch": batch}
        for name, share in self.technique.shares("batch", "judged", "kept").items():
            sizes[name] = share.size(sizes[share.of])
        return sizes["kept"], sizes.get("judged", sizes["kept"]) - sizes["kept"]

    def take(self) -> torch.Tensor:
        """Return the losses of the instances that the network was trained on last, (kept,)."""
        noted, self.noted = self.noted, None
        assert noted is not None
        return noted

    def learn(self, images: torch.Tensor, losses: torch.Tensor, kept: int, batch: int, mark: Any) -> None:
        """Compute the filter's gradients on `images` of known `losses`, the first `kept` of them predicted high.

        The threshold then rises where the share predicted high rightly reaches the wanted one, else falls.
        """
        labels = (losses >= self.threshold).long()
        outputs = self.net(images)
        mark("loss")
        loss = F.cross_entropy(outputs, labels, weight=self.weight)
        mark("backward")
        loss.backward()
        mark("other")
        caught = labels[:kept].sum()
        enough = (caught >= self.technique.keep * batch).float()
        self.threshold.mul_(enough.mul_(RAISE - LOWER).add_(LOWER))


@dataclass(frozen=True)
class FilteringStep(Step):
    """A step on the instances that the filter in its model picks; it trains the filter, too."""

    def backward(
        self, inputs: Any, targets: Any, mark: Callable[[str], None] = lambda phase: None
    ) -> torch.Tensor | None:
        """Run the step up to the gradients of network and filter; return the network's loss on what was picked."""
        refuse_micro_batches(self, InstanceFilter.name)
        instances = self.workload.model.get_submodule(NAME)
        assert isinstance(instances, Filter)
        mark("forward")
        kept, unsure = instances.predict(inputs)
        loss = super().backward(chosen(inputs, kept), chosen(targets, kept), mark)
        losses, rows = instances.take(), kept
        mark("forward")
        if unsure is not None:
            more = self._judge(chosen(inputs, unsure), chosen(targets, unsure), mark)
            losses, rows = torch.cat((losses, more)), torch.cat((kept, unsure))
            del more
            mark("forward")
        instances.learn(inputs.index_select(0, rows), losses, len(kept), len(inputs), mark)
        return loss

    def _judge(self, inputs: Any, targets: Any, mark: Callable[[str], None]) -> torch.Tensor:
        """Return the losses of instances, without gradients."""
        instances = self.workload.model.get_submodule(NAME)
        assert isinstance(instances, Filter)
        precision = contextlib.nullcontext() if self.autocast is None else torch.autocast("cpu", dtype=self.autocast)
        with torch.no_grad(), precision:
            outputs = self.workload.forward(inputs)
            mark("loss")
            return instances.losses(outputs, targets)


def workload(technique: InstanceFilter, workload: Workload) -> Workload:
    """Add the filter to the model, as a submodule that its forward does not run, and note the instances' losses.

    Raises `TrainwattError` where there is no filter for the model's inputs, or instances have no losses.
    """
    model, losses = workload.model, instance_loss(workload, technique.name)
    images = workload.inputs(FEWEST)
    if not isinstance(images, torch.Tensor):
        raise TrainwattError(
            f"{technique.name} on a model that takes a {type(images).__name__}; its filter sees a tensor"
        )
    if isinstance(model, nn.Sequential) or hasattr(model, NAME):
        what = "is a Sequential, which runs" if isinstance(model, nn.Sequential) else f"has {NAME!r} among"
        raise TrainwattError(f"{technique.name} on a model that {what} its submodules; wrap it in a module of its own")
    net = filters.find(technique.filter, tuple(images.shape[1:]))
    made = workload_from(
        net.meta["network"],
        classes=filters.CLASSES,
        input_shape=tuple(images.shape[1:]),
        widths=None,
        arguments={},
        loss="cross-entropy",
        channels_last=False,
        mode=detect_fake_mode(list(model.parameters())),
    )
    made.model.train()
    instances = Filter(made.model, technique, losses, next(model.parameters()))
    model.add_module(NAME, instances)

    def noting(outputs: Any, targets: Any) -> Any:
        if torch.is_grad_enabled():
            instances.noted = losses(outputs, targets)
        return workload.loss(outputs, targets)

    return replace(workload, loss=noting)


def step(technique: InstanceFilter, step: Step) -> Step:
    """Return `step` on the instances that the filter picks; any other behaviour stays."""
    refuse_micro_batches(step, technique.name)
    kind = FilteringStep
    if type(step) is not Step:
        kind = dataclass(frozen=True)(type("FilteringStep", (FilteringStep, type(step)), {}))
    return kind(**{f.name: getattr(step, f.name) for f in fields(step)})


def measured(technique: InstanceFilter, step: Step) -> InstanceFilter:
    """Return the technique with the shares that were kept and uncertain in the steps so far."""
    found = step.workload.model.get_submodule(NAME)
    assert isinstance(found, Filter)
    if not found.presented:
        return technique
    return replace(technique, keep=found.kept / found.presented, uncertain=found.uncertain / found.presented)
