"""Predictive sign gradient descent, runnable: a simulation in float32 that computes with codes of few bits.

It pays both weight gradients of every convolution in full, the one from few bits and the one from all, since a matrix
product cannot leave out single elements; the transform counts the second one for the elements not predicted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from simulator.errors import TrainwattError
from simulator.techniques.psg import PredictiveSignGradient
from workloads.techniques.parts.quantising import Codes, Widths, quantised_layers
from workloads.tracing.step import Step
from workloads.workload import Workload


class Predictor:
    """The sign of a weight gradient: from the leading bits where these make it large, else from all bits.

    `predicted` of `seen` elements were decided by the leading bits so far.
    """

    def __init__(self, technique: PredictiveSignGradient) -> None:
        self.cut_activations = 2.0 ** (technique.activation_bits - technique.msb_activation_bits)
        self.cut_gradients = 2.0 ** (technique.gradient_bits - technique.msb_gradient_bits)
        self.threshold = technique.threshold
        self.predicted: Any = 0
        self.seen = 0

    def __call__(self, product: Any, dy: Codes, x: Codes) -> torch.Tensor:
        """Return sign(g_msb where |g_msb| >= threshold * max |g_msb|, else g) of the weight gradient g."""
        scale = dy[1] * x[1]
        full = product(dy[0], x[0]).mul_(scale)
        leading_dy, leading_x = dy[0].div_(self.cut_gradients).round_(), x[0].div_(self.cut_activations).round_()
        leading = product(leading_dy, leading_x).mul_(scale.mul_(self.cut_gradients * self.cut_activations))
        limit = torch.linalg.vector_norm(leading, float("inf")).mul_(self.threshold)
        sure = leading.abs().ge(limit)
        if not isinstance(sure, FakeTensor):
            self.predicted = self.predicted + sure.sum()
            self.seen += sure.numel()
        return torch.where(sure, leading, full).sign_()


def workload(technique: PredictiveSignGradient, workload: Workload) -> Workload:
    """Quantise every convolution and let its weights see the signs of their gradients only.

    Raises `TrainwattError` where the model has no convolution.
    """
    widths = Widths(technique.activation_bits, technique.weight_bits, technique.gradient_bits, by_sample=True)
    if not quantised_layers(workload.model, [nn.Conv2d], widths, lambda layer: Predictor(technique)):
        raise TrainwattError("psg on a model without convolutions; it predicts the signs of their weight gradients")
    return workload


def measured(technique: PredictiveSignGradient, step: Step) -> PredictiveSignGradient:
    """Return the technique with the share of weight-gradient elements that the leading bits decided so far."""
    pairs = [
        layer.__dict__["_quantising"] for layer in step.workload.model.modules() if "_quantising" in layer.__dict__
    ]
    predictors = [p for _, p in pairs if isinstance(p, Predictor)]
    seen = sum(p.seen for p in predictors)
    predicted = sum(int(p.predicted) for p in predictors)
    return replace(technique, predicted=predicted / seen) if seen else technique
