"""The training steps that were measured on a Jetson TX2: networks as they ran there, and what PyTorch 1.6 did besides.

ICIdsl/performance_modelling@c48cf66d, arXiv:2108.05580: 3x224x224, 1000 classes, SGD with momentum 0.9 and weight decay
5e-4. Two networks are not torchvision's:

* SqueezeNet activates once after the concatenation of each Fire module, and drops nothing: with torchvision's two
  activations before it, the measured memory would be impossible (43 % above what was measured at every batch size),
  with its dropout the replay is 2.6 % above at every batch of 64 and more, without it 0.2 % below.
* MobileNetV2 expands in its first block too, 32 to 32 channels, as the table of layers says.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from simulator.graph import Graph
from simulator.memory import storage_bytes
from simulator.work import KERNELS, Nest, Work, stack, work_of
from workloads.networks.mobilenetv2 import MobileNetV2, activated, mobilenetv2
from workloads.networks.squeezenet import Fire, SqueezeNet, squeezenet
from workloads.tracer import trace

OPTIMIZER = "sgd{momentum=0.9,weight_decay=0.0005}"
NETWORKS = {"mobilenetv2": "tx2_steps:expanding_mobilenetv2", "squeezenet": "tx2_steps:late_squeezenet"}
"""Networks by their names in the tables, where they are not those of that name here."""


class LateFire(Fire):
    """A Fire module that activates once, after concatenating."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.squeeze_activation(self.squeeze(x))
        return torch.relu_(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))


def late_squeezenet(num_classes: int = 1000) -> SqueezeNet:
    """Build SqueezeNet 1.0 of such modules, without dropout."""
    model = squeezenet(num_classes, version="1.0")
    for module in model.modules():
        if isinstance(module, Fire):
            module.__class__ = LateFire
    model.classifier[0] = nn.Identity()
    return model


def expanding_mobilenetv2(num_classes: int = 1000) -> MobileNetV2:
    """Build MobileNetV2 with a 1x1 convolution to as many channels at the start of the first block."""
    model = mobilenetv2(num_classes)
    first = model.features[1]
    first.conv = nn.Sequential(activated(nn.Conv2d(32, 32, 1, bias=False)), *first.conv)
    return model


def step(network: str) -> Graph:
    """Return the training step of a network of the tables, by its name there, at batch 8.

    Raises `TrainwattError` where there is no such network.
    """
    return trace(NETWORKS.get(network, network), batch=8, input_shape=(3, 224, 224), classes=1000, optimizer=OPTIMIZER)


def work_at(graph: Graph, batches: list[int]) -> Work:
    """Return the work of a step at several batch sizes, with one op a parameter before all others: `zero_grad`.

    PyTorch 1.6 zeroed gradients in place, and these ops are among those from whose count the host's time of one was
    found; the trace is one of PyTorch 2, which drops them.
    """
    sizes = [float(size) for size, s in zip(storage_bytes(graph), graph.storages, strict=True) if s.role == "parameter"]
    count, points = len(sizes), len(batches)
    nothing = np.zeros((count, points))
    zeroing = Work(
        kernel=np.full(count, KERNELS.index("elementwise")),
        dtype=np.zeros(count, dtype=np.int64),
        dtypes=("float32",),
        launches=np.ones(count),
        macs=nothing,
        flops=nothing,
        read_bytes=nothing,
        written_bytes=nothing + np.array(sizes)[:, None],
        nest=dict.fromkeys(Nest._fields, nothing + 1.0),
        row_of_op=np.arange(count),
        runs=np.ones(count),
    )
    return stack([zeroing, work_of(graph, batches)])
