"""What is claimed of CPUs: a large matrix product, and the layers of Yang's latency benchmark, priced on a device."""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import Any

from analysis.claims.registry import metric
from simulator.graph import ITEM_BYTES, Graph, Layout, Op, Storage, Tensor
from simulator.work import Work, work_of

_HPL_SIDE = 8192


class Step:
    """Ops by hand: `phase` of each, over tensors that are made as they are named by shape."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.ops: list[Op] = []
        self.tensors: list[Tensor] = []
        self.storages: list[Storage] = []

    def tensor(self, *shape: int) -> int:
        """Add a contiguous tensor."""
        stride, count = [], 1
        for extent in reversed(shape):
            stride.insert(0, count)
            count *= extent
        self.tensors.append(Tensor(Layout(shape, tuple(stride), self.dtype), len(self.storages)))
        self.storages.append(Storage(count * ITEM_BYTES[self.dtype], "activation", -1, None))
        return len(self.tensors) - 1

    def op(self, phase: Any, kind: str, inputs: tuple[int, ...], shape: tuple[int, ...], **attrs: Any) -> int:
        """Add an op and return what it makes."""
        out = self.tensor(*shape)
        self.ops.append(Op(f"aten::{kind}", kind, phase, "layer", inputs, (out,), attrs=MappingProxyType(attrs)))
        return out

    def work(self) -> Work:
        """Return the work of the ops."""
        return work_of(Graph(tuple(self.ops), tuple(self.tensors), tuple(self.storages), {"batch": 1}))

    def costs(self, device: str, mode: str | None) -> dict[str, tuple[float, float]]:
        """Return latency in s and energy in J by phase."""
        from hwmodels.device import device as of_name

        work = self.work()
        cost = of_name(device, mode).price(work)
        found: dict[str, tuple[float, float]] = {}
        for op, row in zip(self.ops, work.row_of_op, strict=True):
            latency, energy = found.get(op.phase, (0.0, 0.0))
            found[op.phase] = (latency + float(cost.latency_s[row]), energy + float(cost.energy_j[row]))
        return found


@metric("hpl-gflops")
def hpl_gflops(device: str, mode: str | None = None) -> float:
    """Rate of a product of two 8192 x 8192 matrices in double precision, in 1e9 FLOP/s."""
    step = Step("float64")
    side = (_HPL_SIDE, _HPL_SIDE)
    step.op("forward", "mm", (step.tensor(*side), step.tensor(*side)), side)
    return 2 * _HPL_SIDE**3 / step.costs(device, mode)["forward"][0] / 1e9


@cache
def layer(device: str, channels: int, high: int, wide: int, batch: int, patch: int) -> dict[str, tuple[float, float]]:
    """Return latency in s and energy in J of forward and backward of a 3x3 convolution of `channels` to `channels`.

    With a `patch` above 1, as the published C++ benchmark filters it: x is pooled and the weight summed in forward; dy
    is pooled and a 1x1 convolution differentiated in backward, whose results stay on the patches and on one tap.
    """
    step = Step("float32")
    full, filters = (batch, channels, high, wide), (channels, channels, 3, 3)
    x, dy = step.tensor(*full), step.tensor(*full)
    weight, bias = step.tensor(*filters), step.tensor(channels)
    attrs: dict[str, Any] = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1, "transposed": False}
    step.op("forward", "convolution", (x, weight, bias), full, **attrs)
    if patch > 1:
        full = (batch, channels, -(-high // patch), -(-wide // patch))
        filters = (channels, channels, 1, 1)
        window = {"kernel_size": (patch, patch), "stride": (patch, patch)}
        x = step.op("forward", "avg_pool2d", (x,), full, **window)
        weight = step.op("forward", "sum", (weight,), filters, dim=(2, 3), keepdim=True)
        dy = step.op("backward", "avg_pool2d", (dy,), full, **window)
        attrs["padding"] = (0, 0)
    step.op("backward", "convolution_grad_input", (dy, weight), full, **attrs)
    step.op("backward", "convolution_grad_weight", (dy, x), filters, **attrs)
    step.op("backward", "convolution_grad_bias", (dy,), (channels,), **attrs)
    return step.costs(device, None)


def _both(quantity: int, *arguments: Any) -> tuple[dict[str, float], dict[str, float]]:
    *where, patch = arguments
    plain, filtered = layer(*where, 1), layer(*where, patch)
    return {k: v[quantity] for k, v in plain.items()}, {k: v[quantity] for k, v in filtered.items()}


@metric("filtered-backward-speedup")
def filtered_backward_speedup(device: str, channels: int, high: int, wide: int, patch: int, batch: int = 32) -> float:
    """Backward latency of a convolution over that with gradient filtering."""
    plain, filtered = _both(0, device, channels, high, wide, batch, patch)
    return plain["backward"] / filtered["backward"]


@metric("filtered-layer-latency")
def filtered_layer_latency(device: str, channels: int, high: int, wide: int, patch: int, batch: int = 32) -> float:
    """Forward and backward latency of a convolution with gradient filtering, in percent of that without."""
    plain, filtered = _both(0, device, channels, high, wide, batch, patch)
    return 100 * sum(filtered.values()) / sum(plain.values())


@metric("filtered-backward-energy")
def filtered_backward_energy(device: str, channels: int, high: int, wide: int, patch: int, batch: int = 32) -> float:
    """Backward energy of a convolution with gradient filtering, as a share of that without."""
    plain, filtered = _both(1, device, channels, high, wide, batch, patch)
    return filtered["backward"] / plain["backward"]
