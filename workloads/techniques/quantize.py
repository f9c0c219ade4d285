"""Quantised training, runnable: a simulation in float32 that computes with codes of few bits and saves integers.

PyTorch has no kernels that train on integers, so convolutions and matrix products take the codes in float32, whose
products and sums are exact as far as 24 bits go. Against the transform with `dtype=int8`, codes are made floating-point
once more in backward, and operands are four times the bytes while they are multiplied; with `dtype=simulated` the two
are the same. Steps of 16 bits run under `torch.autocast`.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from simulator.errors import TrainwattError
from simulator.techniques.quantize import HALVES, Quantize
from workloads.techniques.parts.quantising import Widths, quantised_layers
from workloads.tracing.step import Step
from workloads.workload import Workload


def workload(technique: Quantize, workload: Workload) -> Workload:
    """Quantise every convolution and every linear layer, unless to 16 bits.

    Raises `TrainwattError` where the model has none.
    """
    if technique.dtype in HALVES:
        return workload
    widths = Widths(technique.bits, technique.bits, technique.gradient_bits)
    if not quantised_layers(workload.model, [nn.Conv2d, nn.Linear], widths):
        raise TrainwattError("quantize on a model without convolutions and linear layers; it makes these cheaper")
    return workload


def step(technique: Quantize, step: Step) -> Step:
    """Return the step under `torch.autocast` where `technique` is of 16 bits."""
    if technique.dtype not in HALVES:
        return step
    if step.autocast is not None:
        raise TrainwattError(f"quantize on a step in {step.autocast} already; quantize one in float32")
    return replace(step, autocast=getattr(torch, technique.dtype))
