"""A training step made by hand, and a device whose costs can be worked out on paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from simulator.cost import BOUNDS, Cost
from simulator.extent import Extent, symbol
from simulator.graph import ITEM_BYTES, Graph, Layout, Op, Phase, Role, Storage, Tensor
from simulator.work import Ints, Work

# A busy machine is slow at random: no test fails for the time it takes.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


class Builder:
    """Collects storages, tensors and ops under names."""

    def __init__(self) -> None:
        self.storages: dict[str, tuple[Extent, Role, int, int | None, str]] = {}
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[Op] = []

    def tensor(
        self,
        key: str,
        shape: tuple[Extent, ...],
        role: Role,
        born: int,
        died: int | None,
        name: str = "",
        dtype: str = "float32",
    ) -> None:
        """Add a contiguous tensor with a storage of its own."""
        size: Extent = ITEM_BYTES[dtype]
        for extent in shape:
            size = size * extent
        self.storages[key] = (size, role, born, died, name)
        self.view(key, key, shape, dtype)

    def view(self, key: str, base: str, shape: tuple[Extent, ...], dtype: str = "float32") -> None:
        """Add a tensor that aliases the storage of `base`."""
        stride: list[Extent] = []
        step: Extent = 1
        for extent in reversed(shape):
            stride.insert(0, step)
            step = step * extent
        storage = list(self.storages).index(base)
        self.tensors[key] = Tensor(Layout(shape, tuple(stride), dtype), storage)

    def op(
        self,
        name: str,
        phase: Phase,
        layer: str,
        inputs: str,
        outputs: str,
        *,
        kind: str = "",
        mutates: str = "",
        saved: str = "",
        forward: int | None = None,
        **attrs: Any,
    ) -> None:
        """Append an op; tensors are given by their keys, separated by blanks."""
        numbers = {key: i for i, key in enumerate(self.tensors)}

        def ids(keys: str) -> tuple[int, ...]:
            return tuple(numbers[key] for key in keys.split())

        self.ops.append(
            Op(
                f"aten::{name}",
                kind or name.partition(".")[0],
                phase,
                layer,
                ids(inputs),
                ids(outputs),
                ids(mutates),
                ids(saved),
                attrs,
                forward,
            )
        )

    def graph(self, batch: int, **meta: Any) -> Graph:
        return Graph(
            tuple(self.ops),
            tuple(self.tensors.values()),
            tuple(Storage(*fields) for fields in self.storages.values()),
            {"batch": batch},
            meta,
        )


CONV = {
    "stride": (1, 1),
    "padding": (1, 1),
    "dilation": (1, 1),
    "transposed": False,
    "output_padding": (0, 0),
    "groups": 1,
}


def conv_relu_linear(batch: int = 4) -> Graph:
    """A 3x3 convolution of 3x8x8 images to 4 channels, ReLU, a linear layer to 10 classes; SGD with momentum.

    30 ops in all phases; storages of all roles. See tests/test_memory.py for its peak.
    """
    b, build = symbol("batch"), Builder()
    last = 29  # the last op

    def tensor(key: str, shape: tuple[Extent, ...], role: Role, born: int, died: int | None, name: str = "") -> None:
        build.tensor(key, shape, role, born, died, name)

    shapes: dict[str, tuple[int, ...]] = {
        "conv.weight": (4, 3, 3, 3),
        "conv.bias": (4,),
        "fc.weight": (10, 256),
        "fc.bias": (10,),
    }
    tensor("x", (b, 3, 8, 8), "input", -1, None, "input0")
    build.tensor("target", (b,), "input", -1, None, "target0", "int64")
    for name, shape in shapes.items():
        tensor(name, shape, "parameter", -1, None, name)
        tensor(f"{name}.buf", shape, "optimizer-state", -1, None, f"{name}.momentum_buffer")
        tensor(f"{name}.old", shape, "gradient", -1, -1, f"{name}.grad")
    tensor("seen", (), "buffer", -1, None, "loss_sum")
    tensor("conv", (b, 4, 8, 8), "activation", 0, 1)
    tensor("relu", (b, 4, 8, 8), "saved", 1, 14)
    tensor("logits", (b, 10), "activation", 4, 16)
    tensor("logp", (b, 10), "saved", 5, 9)
    tensor("loss", (), "activation", 6, last)
    tensor("weight_sum", (), "saved", 6, 8)
    tensor("seed", (), "temporary", 7, 8)
    tensor("dlogp", (b, 10), "temporary", 8, 9)
    tensor("dlogits", (b, 10), "temporary", 9, 12)
    tensor("drelu", (b, 256), "temporary", 10, 14)
    tensor("fc.weight.grad", (10, 256), "gradient", 11, None, "fc.weight.grad")
    tensor("fc.bias.grad", (10,), "gradient", 12, None, "fc.bias.grad")
    tensor("dconv", (b, 4, 8, 8), "temporary", 14, 16)
    tensor("conv.weight.grad", (4, 3, 3, 3), "gradient", 15, None, "conv.weight.grad")
    tensor("conv.bias.grad", (4,), "gradient", 16, None, "conv.bias.grad")
    build.view("flat", "relu", (b, 256))
    build.view("fc.weight.t", "fc.weight", (256, 10))
    build.view("dlogits.t", "dlogits", (10, b))
    build.view("drelu.4d", "drelu", (b, 4, 8, 8))

    op = build.op
    op("convolution", "forward", "conv", "x conv.weight conv.bias", "conv", saved="x conv.weight", **CONV)
    op("relu", "forward", "relu", "conv", "relu", saved="relu")
    op("view", "forward", "", "relu", "flat", size=(b, 256))
    op("t", "forward", "fc", "fc.weight", "fc.weight.t")
    op(
        "addmm",
        "forward",
        "fc",
        "fc.bias flat fc.weight.t",
        "logits",
        saved="flat fc.weight.t",
        beta=1,
        alpha=1,
    )
    op("_log_softmax", "loss", "<loss>", "logits", "logp", saved="logp", dim=1, half_to_float=False)
    nll = {"reduction": 1, "ignore_index": -100}
    op(
        "nll_loss_forward",
        "loss",
        "<loss>",
        "logp target",
        "loss weight_sum",
        saved="logp target weight_sum",
        **nll,
    )
    op("ones_like", "backward", "<loss>", "loss", "seed")
    op("nll_loss_backward", "backward", "<loss>", "seed logp target weight_sum", "dlogp", forward=6, **nll)
    op("_log_softmax_backward_data", "backward", "<loss>", "dlogp logp", "dlogits", forward=5, dim=1)
    op("mm", "backward", "fc", "dlogits fc.weight", "drelu", forward=4)
    op("mm", "backward", "fc", "dlogits.t flat", "fc.weight.grad", forward=4)
    op("sum.dim_IntList", "backward", "fc", "dlogits", "fc.bias.grad", forward=4, dim=(0,), keepdim=False)
    op("view", "backward", "", "drelu", "drelu.4d", forward=2, size=(b, 4, 8, 8))
    op("threshold_backward", "backward", "relu", "drelu.4d relu", "dconv", forward=1, threshold=0)
    back = "convolution_backward"
    op(
        back,
        "backward",
        "conv",
        "dconv x",
        "conv.weight.grad",
        kind="convolution_grad_weight",
        forward=0,
        **CONV,
    )
    op(back, "backward", "conv", "dconv", "conv.bias.grad", kind="convolution_grad_bias", forward=0, **CONV)
    for name in shapes:
        buf, grad, layer = f"{name}.buf", f"{name}.grad", name.partition(".")[0]
        op("mul_.Tensor", "optimizer", layer, buf, buf, mutates=buf, other=0.9)
        op("add_.Tensor", "optimizer", layer, f"{buf} {grad}", buf, mutates=buf, alpha=1)
        op("add_.Tensor", "optimizer", layer, f"{name} {buf}", name, mutates=name, alpha=-0.01)
    op("add_.Tensor", "other", "", "seen loss", "seen", mutates="seen", alpha=1)
    return build.graph(batch, network="conv-relu-linear", optimizer="sgd{momentum=0.9}")


@dataclass(frozen=True)
class FlatDevice:
    """1 GFLOP/s, 1 GB/s, 2 W; an op takes the longer of arithmetic and traffic. `extra` is its workspace."""

    name: str = "flat"
    static_w: float = 0.5
    memory_bytes: float = 1e6
    assumptions: tuple[str, ...] = ("power 2 W, whatever runs",)
    card: Mapping[str, object] = field(default_factory=lambda: {"mode": "plain", "energy_scope": "the whole board"})
    extra: int = 0

    def price(self, work: Work) -> Cost:
        compute, memory = work.flops / 1e9, work.traffic_bytes / 1e9
        launched = (work.launches > 0).reshape(-1, *[1] * (work.macs.ndim - 1))  # also where there are points
        latency = np.where(launched, np.maximum(compute, memory), 0.0)
        bound = np.where(compute >= memory, BOUNDS.index("compute"), BOUNDS.index("memory"))
        bound = np.where(launched, bound, BOUNDS.index("none"))
        return Cost(latency, 2.0 * latency, bound.astype(np.int8))

    def explain(self, work: Work, row: int) -> tuple[tuple[str, str], ...]:
        return (("latency", f"{float(self.price(work).latency_s[row])!r} s"),)

    def workspace_bytes(self, graph: Graph) -> Ints:
        return np.full(len(graph.ops), self.extra, dtype=np.int64)


@pytest.fixture(scope="session")
def make_step() -> Callable[[int], Graph]:
    """The hand-made training step at any batch."""
    return conv_relu_linear


@pytest.fixture
def step() -> Graph:
    """The hand-made training step at batch 4."""
    return conv_relu_linear()


@pytest.fixture(scope="session")
def flat() -> FlatDevice:
    """A device to price by hand; `dataclasses.replace` gives variants."""
    return FlatDevice()
