"""Training steps as they were measured on a Jetson TX2: networks, graphs, and what PyTorch 1.6 did besides.

ICIdsl/performance_modelling@c48cf66d, arXiv:2108.05580: 3x224x224, 1000 classes, SGD with momentum 0.9 and weight decay
5e-4. SqueezeNet is traced with one activation after the concatenation of each Fire module: with the two before it that
torchvision has, the measured memory would be impossible (43 % above what was measured at every batch size).
"""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from simulator.graph import Graph
from simulator.memory import storage_bytes
from simulator.work import KERNELS, Nest, Work, stack, work_of
from workloads.networks.squeezenet import Fire, SqueezeNet, squeezenet
from workloads.tracer import trace

OPTIMIZER = "sgd{momentum=0.9,weight_decay=0.0005}"
NETWORKS = {"mnasnet": "mnasnet", "resnet18": "resnet18", "resnet50": "resnet50", "squeezenet": "squeezenet1.0"}


class LateFire(Fire):
    """A Fire module that activates once, after concatenating."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.squeeze_activation(self.squeeze(x))
        return torch.relu_(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))


def late_squeezenet(num_classes: int = 1000) -> SqueezeNet:
    """Build SqueezeNet 1.0 of such modules."""
    model = squeezenet(num_classes, version="1.0")
    for module in model.modules():
        if isinstance(module, Fire):
            module.__class__ = LateFire
    return model


def measured(
    folder: str, name: str, columns: tuple[str, ...], level: int = 0
) -> dict[str, dict[int, tuple[bool, list[float]]]]:
    """Return the rows of a table of one pruning level, by network and batch: whether all went well, column means."""
    found: dict[str, dict[int, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    failed: set[tuple[str, int]] = set()
    with (Path(folder) / name).open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["prune_pct"] != str(level) or row.get("suspect_swap") == "True":
                continue
            key = row["network"], int(row["batch_size"])
            if row["ok"] != "True":
                failed.add(key)
            found[key[0]][key[1]].append([float(row[column] or "nan") for column in columns])
    return {
        network: {b: ((network, b) not in failed, np.mean(rows, axis=0).tolist()) for b, rows in sorted(sizes.items())}
        for network, sizes in sorted(found.items())
    }


def structures(folder: str, network: str, modules: Mapping[str, str]) -> dict[int, tuple[str, ...]]:
    """Return the widths of a network's convolutions ("module:channels") at every pruning level."""
    found: dict[int, list[str]] = defaultdict(list)
    with gzip.open(Path(folder) / "layers.csv.gz", "rt", newline="") as file:
        for row in csv.DictReader(file):
            if row["network"] == network and row["type"] == "Conv2d":
                found[int(row["prune_pct"])].append(f"{modules[row['name']]}:{int(float(row['out_ch']))}")
    return {level: tuple(widths) for level, widths in sorted(found.items())}


def step(network: str) -> Graph:
    """Return the training step of a network of the tables, by its name there, at batch 8."""
    name = NETWORKS.get(network, network)
    if network != "squeezenet":
        return trace(name, batch=8, optimizer=OPTIMIZER)
    return trace("tx2_steps:late_squeezenet", batch=8, input_shape=(3, 224, 224), classes=1000, optimizer=OPTIMIZER)


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
