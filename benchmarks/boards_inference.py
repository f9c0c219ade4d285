"""GPU and FPGA models against inference that others measured; nothing is fitted to these rows.

`--data` is a folder with `qutibench/experimental_data.csv` (RCL-lab/QutibenchWeb@66c3aaa) and
`accel_nasbench/mnasnet_space.csv.gz` (afzalxo/Accel-NASBench@4260357).

The graphs are forward passes without gradients, batch norm and the ReLU after a convolution folded into it (technique
`fuse`). `median_ratio` is ours / measured, `scatter` the median |ln| of what is left after dividing by it; `macs_` is
the same for MACs alone as the predictor.
"""

from __future__ import annotations

import csv
import gzip
import math
import random
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import arguments, publish
from scipy.stats import spearmanr
from torch import Tensor, nn

from hwmodels.device import device
from hwmodels.fpga import design_file, with_design
from simulator.estimate import estimate
from simulator.graph import Graph
from simulator.rewriting.compose import forward_only
from simulator.techniques import apply
from simulator.techniques.fuse import Fuse
from simulator.work import work_of
from workloads.catalog import build
from workloads.tracer import trace

IMAGE = (3, 224, 224)
TX2_MODES = {"maxn": "MAXN", "maxq": "MAXQ", "maxp": "MAXP_CORE_ALL"}
"""Our power modes by QuTiBench's; that its maxp has all cores is assumed (all Max-P have one GPU clock)."""

WIDTHS, STRIDES = (16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 2, 1, 2, 1)
"""Output channels and first stride of the seven stages of Accel-NASBench's space."""


def normalised(inputs: int, outputs: int, kernel: int, stride: int = 1, **options: Any) -> list[nn.Module]:
    """Return a convolution without bias and its batch norm."""
    options.setdefault("padding", kernel // 2)
    return [nn.Conv2d(inputs, outputs, kernel, stride, bias=False, **options), nn.BatchNorm2d(outputs)]


class SqueezeExcite(nn.Module):
    """Scale the channels of (N, C, H, W) by what two 1x1 convolutions make of their means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        reduce, restore = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), reduce, nn.ReLU(inplace=True), restore, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class Block(nn.Module):
    """Inverted residual of Accel-NASBench's space; squeeze-excite has a quarter of the block's input channels."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int, kernel: int, squeeze: bool) -> None:
        super().__init__()
        inner = inputs * expand
        layers = [*normalised(inputs, inner, 1), nn.ReLU(inplace=True)] if expand > 1 else []
        layers += [*normalised(inner, inner, kernel, stride, groups=inner), nn.ReLU(inplace=True)]
        layers += [SqueezeExcite(inner, inputs // 4)] if squeeze else []
        self.layers = nn.Sequential(*layers, *normalised(inner, outputs, 1))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.shortcut else self.layers(x)


def mnasnet(row: dict[str, str]) -> nn.Module:
    """Return the network of a row of Accel-NASBench; its parameters are as many as the row says."""
    layers = [*normalised(3, 32, 3, 2), nn.ReLU(inplace=True)]
    channels = 32
    for stage, (width, stride) in enumerate(zip(WIDTHS, STRIDES, strict=True)):
        expand, kernel, count = (int(row[f"block{stage}_{name}"]) for name in "ekl")
        for i in range(count):
            squeeze = row[f"block{stage}_se"] == "True"
            layers.append(Block(channels, width, stride if i == 0 else 1, expand, kernel, squeeze))
            channels = width
    layers += [*normalised(channels, 1280, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(1280, 1000))
    ours, stated = sum(p.numel() for p in model.parameters()), 1e6 * float(row["params_M"])
    assert abs(ours - stated) < 1, f"architecture {row['id']}: {ours} parameters, the table says {stated:.0f}"
    return model


def cnv(width: int) -> nn.Module:
    """Return the VGG-like CNV of FINN with `width` channels in its first layers: unpadded convolutions on 3x32x32."""
    layers: list[nn.Module] = []
    channels = 3
    for stage in range(3):
        for _ in range(2):
            layers += [*normalised(channels, width << stage, 3, padding=0), nn.ReLU(inplace=True)]
            channels = width << stage
        layers += [nn.MaxPool2d(2)] if stage < 2 else [nn.Flatten()]
    hidden = 8 * width
    return nn.Sequential(*layers, nn.Linear(channels, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 10))


def mlp(width: int) -> nn.Module:
    """Return FINN's MLP with three hidden layers of `width`, without the activations, which runtimes fuse."""
    return nn.Sequential(*(nn.Linear(a, b) for a, b in ((784, width), (width, width), (width, width), (width, 10))))


def resnet50_v1() -> nn.Module:
    """Return ResNet-50 with the stride in the first 1x1 convolution of a block: the 7.72 GOP of QuTiBench."""
    model = build("resnet50")
    block: Any
    for block in model.modules():
        if hasattr(block, "conv3") and block.conv2.stride == (2, 2):
            block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
    return model


def googlenet_v1() -> nn.Module:
    """Return GoogLeNet with the 5x5 convolutions of the paper, where torchvision has 3x3."""
    model = build("googlenet")
    module: Any
    for name, module in list(model.named_modules()):
        if name.endswith("branch3.1"):
            module.conv = nn.Conv2d(module.conv.in_channels, module.conv.out_channels, 5, padding=2, bias=False)
    return model


def network(name: str, percent: float) -> tuple[nn.Module, tuple[int, ...]] | None:
    """Return a network of QuTiBench and its input shape; None where its definition is not known."""
    if name == "CNV":
        return cnv(round(1.28 * percent)), (3, 32, 32)
    if name == "MLP":
        return mlp(round(20.48 * percent)), (784,)
    if percent == 100 and name in ("ResNet-50", "GoogLeNetv1"):
        return resnet50_v1() if name == "ResNet-50" else googlenet_v1(), IMAGE
    return None


def forward(model: nn.Module, shape: tuple[int, ...], batches: tuple[int, ...] = (1,)) -> Iterator[Graph]:
    """Trace a network and yield its forward pass at each batch size."""
    several = len(batches) > 1
    graph = trace(
        model, batch=2 if several else batches[0], input_shape=shape, classes=10, batch_norm="eval", train="head",
        rebatches=several,
    )  # fmt: skip
    if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        graph = apply([Fuse(activation=True)], graph)
    for batch in batches:
        yield forward_only(graph.rebatch(batch) if several else graph)


def macs_of(graph: Graph) -> float:
    """Return the MACs of one run of `graph`."""
    work = work_of(graph)
    return float(work.total(work.macs))


def agreement(ours: list[float], macs: list[float], measured: list[float]) -> dict[str, Any]:
    """Return how predictions, and MACs alone, go with what was measured."""
    row: dict[str, Any] = {"rows": len(measured)}
    for name, found in (("", ours), ("macs_", macs)):
        errors = [math.log(a / b) for a, b in zip(found, measured, strict=True)]
        middle = statistics.median(errors)
        row |= {} if name else {"median_ratio": math.exp(middle)}
        row[f"{name}spearman"] = float(spearmanr(found, measured).statistic)
        row[f"{name}scatter"] = statistics.median(abs(e - middle) for e in errors)
    return row


def qutibench_tx2(table: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Return every float32 row of the TX2 whose network is known, with ours.

    `lat-comp`, the time of computing alone, is the measurement. `ours_s` lets the host dispatch ops as eager PyTorch
    does, `device_s` has no host: it takes a compiled engine for granted. Power is of a board, ours of the module.
    """
    groups: dict[tuple[str, float], list[dict[str, str]]] = defaultdict(list)
    for row in table:
        if row["HWType"].startswith("TX2") and row["Datatype"] == "FP32":
            groups[row["NN_Topology"], float(row["PruningFactor"])].append(row)
    found = []
    for (name, percent), measured in groups.items():
        known = network(name, percent)
        if known is None:
            continue
        batches = tuple(sorted({int(row["batch/thread/stream"]) for row in measured}))
        graphs = dict(zip(batches, forward(*known, batches), strict=True))
        for row in measured:
            batch, mode = int(row["batch/thread/stream"]), row["Op mode"]
            tx2: Any = device("jetson-tx2", TX2_MODES[mode])
            graph = graphs[batch]
            eager, alone = (estimate(graph, model).total for model in (tx2, replace(tx2, launch_s=0.0)))
            seconds = 1e-3 * float(row["lat-comp"].replace(",", ""))
            macs = macs_of(graph)
            entry = {"network": name, "percent": percent, "mode": mode, "batch": batch, "measured_s": seconds}
            entry |= {"ours_s": eager.latency_s, "device_s": alone.latency_s, "macs": macs}
            entry["stated_ops_ratio"] = 2e-9 * macs / float(row["GOPS"])
            entry["above_peak"] = 2e-12 * macs / seconds > float(row["hw_peak_perf"])
            entry |= {"measured_w": float(row["Full_Pwr_W"]), "idle_w": float(row["Idle_Pwr_W"])}
            entry |= {"device_w": alone.energy_j / alone.latency_s, "static_w": tx2.static_w}
            found.append(entry)
    return found


def tx2_summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the agreement by network and power mode, with and without the host."""
    kept = [row for row in rows if not row["above_peak"]]
    keys = list(dict.fromkeys((row["network"], row["mode"]) for row in kept))
    keys += [(name, "all") for name in dict.fromkeys(row["network"] for row in kept)] + [("all", "all")]
    summary = []
    for name, mode in keys:
        chosen = [row for row in kept if name in (row["network"], "all") and mode in (row["mode"], "all")]
        measured, macs, host, alone = ([r[key] for r in chosen] for key in ("measured_s", "macs", "ours_s", "device_s"))
        eager = agreement(host, macs, measured)
        line: dict[str, Any] = {"network": name, "mode": mode, **agreement(alone, macs, measured)}
        line |= {"eager_ratio": eager["median_ratio"], "eager_spearman": eager["spearman"]}
        line["power_ratio"] = statistics.median(row["device_w"] / row["measured_w"] for row in chosen)
        above = [(r["device_w"] - r["static_w"]) / (r["measured_w"] - r["idle_w"]) for r in chosen]
        line["above_idle_ratio"] = statistics.median(above)
        low, high = (f([row["stated_ops_ratio"] for row in chosen]) for f in (min, max))
        line["ops_ours/stated"] = f"{low:.3f}..{high:.3f}"
        summary.append(line)
    return summary


def on_dpu(graph: Graph) -> dict[str, float]:
    """Return the seconds of one run on the ZCU102 with the approximated DPU: all, and less of what the model counts."""
    board: Any = device("zcu102")
    work = work_of(graph)
    cost = with_design(board, design_file(Path(__file__).with_name("boards_inference_dpu.toml"))).price(work)
    whole, launch, compute = (
        float(work.total(column)) for column in (cost.latency_s, cost.seconds["launch"], cost.seconds["compute"])
    )
    return {"whole": whole, "without starting ops": whole - launch, "computing alone": compute}


def accel_nasbench(table: list[dict[str, str]], sample: int, seed: int) -> list[dict[str, Any]]:
    """Return the agreement on a sample of networks, all of them and those without or with squeeze-excite."""
    measured = [row for row in table if row["latency_zcu102_ms"]]
    chosen = random.Random(seed).sample(measured, min(sample, len(measured)))
    graphs = [next(forward(mnasnet(row), IMAGE)) for row in chosen]
    seconds = [1e-3 * float(row["latency_zcu102_ms"]) for row in chosen]
    macs, ours = [macs_of(graph) for graph in graphs], [on_dpu(graph) for graph in graphs]
    squeezed = [any(row[f"block{i}_se"] == "True" for i in range(len(WIDTHS))) for row in chosen]
    rows = []
    for priced in ours[0]:
        for what, wanted in (("all", (True, False)), ("plain", (False,)), ("squeeze-excite", (True,))):
            these = [i for i, has in enumerate(squeezed) if has in wanted]
            columns = ([column[i] for i in these] for column in ([o[priced] for o in ours], macs, seconds))
            rows += [{"networks": what, "priced": priced, **agreement(*columns)}] if these else []
    return rows


def qutibench_dpu(table: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Return the rows of one image on one thread of the ZCU102's DPU, with ours over the measured."""
    rows = []
    for row in table:
        if row["HWType"] == "ZCU102-DPU" and row["batch/thread/stream"] == "1":
            known = network(row["NN_Topology"], float(row["PruningFactor"]))
            assert known is not None
            ours, measured = on_dpu(next(forward(*known))), 1e-3 * float(row["lat-comp"])
            ratios = {f"ratio, {priced}": seconds / measured for priced, seconds in ours.items()}
            rows.append({"network": row["NN_Topology"], "measured_ms": 1e3 * measured, **ratios})
    return rows


def main() -> None:
    options = arguments(__doc__, data="", sample=60, seed=0)
    tables: list[list[dict[str, str]]] = []
    for name in ("qutibench/experimental_data.csv", "accel_nasbench/mnasnet_space.csv.gz"):
        path = Path(options.data) / name
        if not options.data or not path.is_file():
            print(f"no file {str(path)!r}; give with --data the folder that has it (see this script's head)")
            tables.append([])
            continue
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            tables.append(list(csv.DictReader(file)))
    published, space = tables
    if published:
        rows = qutibench_tx2(published)
        bad = sum(row["above_peak"] for row in rows)
        title = f"float32 inference on a Jetson TX2 (QuTiBench; {bad} of {len(rows)} rows above the peak left out)"
        publish(title, tx2_summary(rows), options.json)
        publish("int8 inference on one DPU of a ZCU102 (QuTiBench)", qutibench_dpu(published), None)
    if space:
        title = "int8 inference on a DPU of a ZCU102, MnasNet space (Accel-NASBench)"
        publish(title, accel_nasbench(space, options.sample, options.seed), None)


if __name__ == "__main__":
    main()
