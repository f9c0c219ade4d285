"""Work of many networks that are made of the same few ops: every distinct op is a row of one table, made once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analysis.calibration.measured import Measured
from analysis.claims.cpu_metrics import Step
from simulator.work import Work

COLUMNS = ("kernel", "kind", "dtype", "launches", "macs", "flops", "read_bytes", "written_bytes", "part", "bits")


class Rows:
    """Ops at batch 1, each added once and known by its number. Maps are (channels, height, width)."""

    def __init__(self) -> None:
        self._step = Step("float32")
        self._known: dict[object, int] = {}
        self._whole: Work | None = None

    def _add(self, key: object, kind: str, inputs: tuple[int, ...], out: tuple[int, ...], **attrs: object) -> int:
        self._whole = None
        self._step.op("forward", kind, inputs, out, **attrs)
        return self._known.setdefault(key, len(self._known))

    def convolution(
        self, c: int, k: int, out: tuple[int, int], taps: int, stride: int = 1, groups: int = 1, bias: bool = True
    ) -> int:
        """Return a convolution of `c` to `k` channels that makes maps of size `out`; with a bias, as folding leaves."""
        key = ("convolution", c, k, out, taps, stride, groups, bias)
        if key in self._known:
            return self._known[key]
        tensor = self._step.tensor
        inputs: tuple[int, ...] = (
            tensor(1, c, out[0] * stride, out[1] * stride),
            tensor(k, c // groups, taps, taps),
            *((tensor(k),) if bias else ()),
        )
        pad = taps // 2
        attrs = {"stride": (stride, stride), "padding": (pad, pad), "dilation": (1, 1), "groups": groups}
        return self._add(key, "convolution", inputs, (1, k, *out), **attrs, transposed=False)

    def elementwise(self, kind: str, shapes: Sequence[tuple[int, ...]]) -> int:
        """Return an op over the elements of maps; the first of `shapes` is that of the result too."""
        key = (kind, tuple(shapes))
        if key in self._known:
            return self._known[key]
        return self._add(key, kind, tuple(self._step.tensor(1, *shape) for shape in shapes), (1, *shapes[0]))

    def pool(self, channels: int, out: tuple[int, int], taps: int, stride: int = 1) -> int:
        """Return an average pooling."""
        key = ("avg_pool2d", channels, out, taps, stride)
        if key in self._known:
            return self._known[key]
        x = self._step.tensor(1, channels, out[0] * stride, out[1] * stride)
        return self._add(key, "avg_pool2d", (x,), (1, channels, *out), kernel_size=(taps, taps))

    def mean(self, channels: int, size: tuple[int, int]) -> int:
        """Return the mean of each map."""
        key = ("mean", channels, size)
        if key in self._known:
            return self._known[key]
        x = self._step.tensor(1, channels, *size)
        return self._add(key, "mean", (x,), (1, channels, 1, 1), dim=(-1, -2), keepdim=True)

    def norm(self, channels: int, size: tuple[int, int]) -> int:
        """Return a batch norm that uses its running statistics."""
        key = ("native_batch_norm", channels, size)
        if key in self._known:
            return self._known[key]
        inputs = (self._step.tensor(1, channels, *size), *(self._step.tensor(channels) for _ in range(4)))
        return self._add(key, "native_batch_norm", inputs, (1, channels, *size), training=False)

    def linear(self, c: int, k: int) -> int:
        """Return a layer of `c` inputs and `k` outputs."""
        key = ("addmm", c, k)
        if key in self._known:
            return self._known[key]
        tensor = self._step.tensor
        return self._add(key, "addmm", (tensor(k), tensor(1, c), tensor(c, k)), (1, k), beta=1, alpha=1)

    def work(self, ops: Sequence[int]) -> Work:
        """Return the work of these ops in this order, in a table of the rows that they need."""
        if self._whole is None:
            self._whole = self._step.work()
        whole = self._whole
        kept, of = np.unique(whole.row_of_op[np.array(ops, dtype=np.int64)], return_inverse=True)
        columns = {name: getattr(whole, name)[kept] for name in COLUMNS}
        nest = {name: column[kept] for name, column in whole.nest.items()}
        return replace(whole, **columns, nest=nest, row_of_op=of.reshape(-1), runs=np.ones(len(ops)))

    def measured(self, ops: Sequence[int], seconds: float, network: str) -> Measured:
        """Return what a network of these ops took."""
        return Measured(self.work(ops), np.float64(seconds), network)
