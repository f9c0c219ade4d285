"""Backward of one convolution: PyTorch's, filtered lean, filtered as published; and what its MACs promise. One thread.

Shapes are cases of Fig. 6 of Yang et al. (CVPR 2023, arXiv:2301.00330), 3x3 convolutions of C to C channels, at a batch
that a test machine has time for. CPU time, taken in turns. `speedup` is the median of PyTorch's over that of the
filtered backward; `overstated` is how much more the ratio of MACs, k^2 Ho Wo / P, promises.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch
from harness import arguments, publish, side_by_side, spread
from torch import nn

from simulator.techniques.gradient_filter import GradientFilter
from workloads.techniques.gradient_filter import workload
from workloads.workload import Workload

SHAPES = ((128, 120, 160, 1), (256, 60, 80, 1), (256, 14, 14, 16), (64, 56, 56, 4))
"""Channels, height, width and batch (32 in the paper)."""


def backward(channels: int, high: int, wide: int, batch: int, technique: GradientFilter | None) -> Callable[[], None]:
    """Return a function that runs the backward of a convolution whose forward was run once."""
    model = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False))

    def images(count: int) -> torch.Tensor:
        return torch.randn(count, channels, high, wide)

    if technique is not None:
        workload(technique, Workload(model, images, lambda count: None, lambda y, _: y.sum()))
    x = images(batch).requires_grad_()
    y = model(x)
    dy = torch.randn_like(y)

    def run() -> None:
        torch.autograd.grad(y, [x, *model.parameters()], dy, retain_graph=True)

    return run


def main() -> None:
    options = arguments(__doc__, repeats=5)
    torch.set_num_threads(1)
    rows = []
    for channels, high, wide, batch in SHAPES:
        for patch in (2, 4):
            variants = (None, GradientFilter(patch=patch), GradientFilter(patch=patch, variant="official"))
            runs = [backward(channels, high, wide, batch, technique) for technique in variants]
            for run in runs:
                run()
            gc.collect()
            vanilla, lean, official = (
                spread([1e3 * t for t in times]) for times in side_by_side(runs, options.repeats)
            )
            promised = 9 * high * wide / (-(-high // patch) * -(-wide // patch))
            row: dict[str, object] = {"shape": f"{batch}x{channels}x{high}x{wide}", "patch": patch}
            for name, figures in (("pytorch", vanilla), ("lean", lean), ("official", official)):
                row |= {
                    f"{name}_ms": figures["median"],
                    f"{name}_min_max": f"{figures['min']:.3g}-{figures['max']:.3g}",
                }
            for name, figures in (("lean", lean), ("official", official)):
                row[f"{name}_speedup"] = vanilla["median"] / figures["median"]
            row |= {"mac_ratio": promised, "overstated": promised * lean["median"] / vanilla["median"]}
            rows.append(row)
    publish("backward of a filtered 3x3 convolution (dx and dweight)", rows, options.json)


if __name__ == "__main__":
    main()
