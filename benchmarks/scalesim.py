"""Clocks of ResNet-18's convolutions on a 16 x 16 array: ours and SCALE-Sim's side by side, with the time each takes.

    python -m venv /somewhere && /somewhere/bin/pip install scalesim "numpy<2"
    python benchmarks/scalesim.py --python /somewhere/bin/python [--size 224] [--dataflow ws]

SCALE-Sim (Samajdar et al., ISPASS 2020) runs a systolic array clock by clock; our engine is Tm x Tn multipliers with
adder trees, tiles of positions and a pipeline fill. With stationary weights (`ws`) the array's rows hold input channels
and taps, its columns output channels: the nearest to ours. Both are without memory stalls here: SCALE-Sim takes the
bandwidth it needs, and of ours the clocks of MACs are shown.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from hwmodels.device import device
from hwmodels.fpga.timing import numbers_of, rows_of, seconds
from simulator.work import KERNELS, PARTS, Nest, Work

LAYERS = {
    "conv1": (64, 3, 7, 2, 1),
    "layer1": (64, 64, 3, 1, 4),
    "layer2.0.conv1": (128, 64, 3, 2, 4),
    "layer2.0.downsample": (128, 64, 1, 2, 4),
    "layer2": (128, 128, 3, 1, 8),
    "layer3.0.conv1": (256, 128, 3, 2, 8),
    "layer3.0.downsample": (256, 128, 1, 2, 8),
    "layer3": (256, 256, 3, 1, 16),
    "layer4.0.conv1": (512, 256, 3, 2, 16),
    "layer4.0.downsample": (512, 256, 1, 2, 16),
    "layer4": (512, 512, 3, 1, 32),
}
"""ResNet-18's different convolutions: output and input channels, filter, stride, and image size over input size."""

CONFIG = """[general]
run_name = run
[architecture_presets]
ArrayHeight = 16
ArrayWidth = 16
IfmapSramSzkB = 1024
FilterSramSzkB = 1024
OfmapSramSzkB = 1024
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Dataflow = {dataflow}
ReadRequestBuffer = 512
WriteRequestBuffer = 512
Bandwidth = 64
[layout]
IfmapCustomLayout = False
FilterCustomLayout = False
IfmapSRAMBankBandwidth = 16
IfmapSRAMBankNum = 16
IfmapSRAMBankPort = 2
FilterSRAMBankBandwidth = 16
FilterSRAMBankNum = 16
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = False
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""

RUN = """import sys
from scalesim.scale_sim import scalesim
folder = sys.argv[1]
scalesim(save_disk_space=True, verbose=False, config=folder + "/run.cfg", topology=folder + "/topology.csv",
         layout=folder + "/layout.csv").run_scale(top_path=folder)
"""


def of_ours(layer: tuple[int, ...], size: int) -> float:
    """Return the clocks of MACs of the forward convolution of one image on EF-Train's 16 x 16 engine."""
    k, c, taps, stride, down = layer
    positions = size // down // stride
    nest = Nest(1, 1, k, c, positions, positions, taps, taps, stride, stride)
    one = np.ones(1)
    work = Work(
        kernel=np.array([KERNELS.index("convolution")]),
        dtype=np.zeros(1, dtype=np.int64),
        dtypes=("float32",),
        launches=one,
        macs=one * nest.macs,
        flops=2 * one * nest.macs,
        read_bytes=0 * one,
        written_bytes=0 * one,
        nest={name: one * getattr(nest, name) for name in Nest._fields},
        row_of_op=np.zeros(1, dtype=np.int64),
        runs=one,
        part=np.array([PARTS.index("forward")]),
    )
    model: Any = device("zcu102")
    found = seconds(rows_of(work, model.design), numbers_of(model.design), clock=1.0, byte_per_s=1e30)
    return float(found.tiles.compute[0])


def of_scale_sim(python: str, name: str, layer: tuple[int, ...], size: int, dataflow: str) -> float:
    """Return SCALE-Sim's clocks of the same convolution, its padding added to the image; raises where it fails."""
    k, c, taps, stride, down = layer
    image = size // down + taps - stride
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "run.cfg").write_text(CONFIG.format(dataflow=dataflow))
        head = "Layer,IFMAP Height,IFMAP Width,Filter Height,Filter Width,Channels,Num Filter,Strides,Sparsity,\n"
        (here / "topology.csv").write_text(head + f"{name},{image},{image},{taps},{taps},{c},{k},{stride},1:1,\n")
        (here / "layout.csv").write_text("Layer,\n" + name + ",1" * 20 + ",\n")
        done = subprocess.run([python, "-c", RUN, folder], capture_output=True, text=True, check=False)
        reports = list(here.rglob("COMPUTE_REPORT.csv"))
        if done.returncode or not reports:
            raise SystemExit(f"SCALE-Sim failed on {name}: {done.stderr[-500:] or done.stdout[-500:]}")
        row = next(csv.DictReader(reports[0].open(), skipinitialspace=True))
        return float(row["Total Cycles"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", required=True, help="the interpreter of an environment with scalesim and numpy<2")
    parser.add_argument("--size", type=int, default=224, help="image size, a multiple of 32")
    parser.add_argument("--dataflow", choices=("ws", "os", "is"), default="ws")
    given = parser.parse_args()
    print(f"{'layer':20} {'ours':>12} {'SCALE-Sim':>12} {'ratio':>7} {'our time':>9} {'its time':>9}")
    ratios = []
    for name, layer in LAYERS.items():
        times = [time.perf_counter()]
        ours = of_ours(layer, given.size)
        times.append(time.perf_counter())
        theirs = of_scale_sim(given.python, name, layer, given.size, given.dataflow)
        times.append(time.perf_counter())
        ratios.append(ours / theirs)
        own, its = np.diff(times)
        print(f"{name:20} {ours:12,.0f} {theirs:12,.0f} {ours / theirs:7.3f} {own:8.4f}s {its:8.2f}s", flush=True)
    print(f"ratio: median {np.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
