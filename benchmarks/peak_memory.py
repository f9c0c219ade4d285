"""Peak memory of training steps: predicted, against what PyTorch's profiler reports of the un-instrumented step.

Predicted is the replay of the traced graph, with and without kernel workspace. Real is the largest total of the CPU
allocator (c10) in the second of two real steps, with model, batch and optimizer allocated under the same profiler.
Every configuration has a process of its own, since the profiler's total is that of a process. Limits: mean error
0.5 %, worst 1 %.

`--every N` runs each N-th configuration only, `--only TEXT` those whose name has TEXT in it; `--vectors avx2` holds
PyTorch and oneDNN to AVX2.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from harness import arguments, publish

MEAN_LIMIT, WORST_LIMIT = 0.5, 1.0
VECTOR_BYTES = {"AVX2": 32, "AVX512": 64}
AVX2_ONLY = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}

MOMENTUM = "sgd{momentum=0.9}"
SMALL, MIDDLE = (3, 64, 64), (3, 128, 128)


@dataclass(frozen=True)
class Configuration:
    """A step: a network of the catalogue and arguments of `trace`."""

    network: str
    batch: int
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        shown = {k: v for k, v in self.options.items() if k not in ("optimizer", "input_shape")}
        size = f" {self.options['input_shape'][-1]}px" if "input_shape" in self.options else ""
        details = [f"{k}={v}" if v is not True else k for k, v in shown.items()]
        return " ".join([f"{self.network}{size} b{self.batch}", str(self.options.get("optimizer", MOMENTUM)), *details])


def _configurations() -> Iterable[Configuration]:
    def step(network: str, batch: int, optimizer: str = "sgd", **options: Any) -> Configuration:
        return Configuration(network, batch, {"optimizer": optimizer, **options})

    yield step("lenet5", 1)
    yield step("lenet5", 2, "adam")
    yield step("lenet5", 16, MOMENTUM)
    yield step("lenet5", 128)
    yield step("lenet5", 128, "adam", foreach=True)
    yield step("lenet5", 128, train="last=2")
    yield step("lenet5", 32, train="biases")
    yield step("alexnet", 1)
    yield step("alexnet", 8, MOMENTUM, train="last=4")
    yield step("alexnet", 32, train="last=7")
    yield step("alexnet", 16, train="head")
    yield step("vgg11-cifar", 4, "adam")
    yield step("vgg11-cifar", 64, MOMENTUM)
    yield step("vgg11-cifar", 32, train="biases")
    yield step("vgg11-cifar", 16, channels_last=True)
    yield step("vgg16-cifar", 1)
    yield step("vgg16-cifar", 32, "adamw", train="last=6")
    yield step("vgg16-cifar", 128, MOMENTUM)
    yield step("resnet8-cifar", 1, "adam")
    yield step("resnet8-cifar", 64, MOMENTUM, accumulate=2)
    yield step("resnet8-cifar", 128, batch_norm="eval")
    yield step("resnet8-cifar", 32, "adamw", foreach=True)
    yield step("resnet20-cifar", 1)
    yield step("resnet20-cifar", 2, "adam")
    yield step("resnet20-cifar", 32, MOMENTUM)
    yield step("resnet20-cifar", 128, "adam")
    yield step("resnet20-cifar", 128, train="last=6")
    yield step("resnet20-cifar", 32, train="biases")
    yield step("resnet20-cifar", 64, MOMENTUM, channels_last=True)
    yield step("resnet20-cifar", 1, channels_last=True)
    yield step("resnet20-cifar", 32, precision="bf16")
    yield step("resnet56-cifar", 16, MOMENTUM, foreach=True)
    yield step("resnet56-cifar", 128, train="last=10")
    yield step("resnet18", 1, MOMENTUM)
    yield step("resnet18", 8, "adam")
    yield step("resnet18", 16, train="last=5", batch_norm="eval")
    yield step("resnet18", 8, train="head")
    yield step("resnet18", 4, train="biases")
    yield step("resnet18", 32, MOMENTUM, input_shape=SMALL)
    yield step("resnet18", 8, MOMENTUM, channels_last=True)
    yield step("resnet18", 16, MOMENTUM, precision="bf16", input_shape=MIDDLE)
    yield step("resnet18", 4, accumulate=2)
    yield step("resnet50", 1)
    yield step("resnet50", 4, MOMENTUM)
    yield step("resnet50", 8, "adam", train="last=8")
    yield step("resnet50", 16, input_shape=MIDDLE)
    yield step("resnet50", 4, channels_last=True, input_shape=MIDDLE)
    yield step("mobilenetv2", 1)
    yield step("mobilenetv2", 4, "adamw")
    yield step("mobilenetv2", 16)
    yield step("mobilenetv2", 16, MOMENTUM, train="last=10", batch_norm="eval")
    yield step("mobilenetv2", 8, train="biases")
    yield step("mobilenetv2", 8, MOMENTUM, channels_last=True, input_shape=MIDDLE)
    yield step("mobilenetv2", 8, precision="bf16", input_shape=MIDDLE)
    yield step("mobilenetv2", 4, MOMENTUM, channels_last=True, input_shape=SMALL)
    yield step("mnasnet", 1, "adam")
    yield step("mnasnet", 8, MOMENTUM)
    yield step("squeezenet1.1", 1)
    yield step("squeezenet1.1", 16, "adam")
    yield step("squeezenet1.0", 8, train="last=6")
    yield step("squeezenet1.1", 4, train="biases", input_shape=SMALL)
    yield step("squeezenet1.1", 8, MOMENTUM, channels_last=True, input_shape=MIDDLE)
    yield step("googlenet", 1)
    yield step("googlenet", 8, MOMENTUM)
    yield step("googlenet", 4, channels_last=True, input_shape=SMALL)
    yield step("mcunet-like", 1)
    yield step("mcunet-like", 16, MOMENTUM)
    yield step("mcunet-like", 32, train="last=8", batch_norm="eval")
    yield step("vit-tiny", 1)
    yield step("vit-tiny", 8, "adamw")
    yield step("vit-tiny", 16, train="biases")
    yield step("vit-tiny", 8, MOMENTUM, precision="bf16")
    yield step("lstm", 1)
    yield step("lstm", 16, "adam")
    yield step("lstm", 128)
    yield step("fcn-resnet18", 1, input_shape=MIDDLE)
    yield step("fcn-resnet18", 4, MOMENTUM, input_shape=MIDDLE)
    yield step("pspnet-resnet18", 4, input_shape=MIDDLE)
    yield step("pspnet-resnet18", 2, MOMENTUM, train="last=6", input_shape=MIDDLE)
    yield step("deeplabv3-resnet18", 2, MOMENTUM, input_shape=MIDDLE)
    yield step("deeplabv3-resnet18", 4, "adam", input_shape=MIDDLE)
    yield step("deeplabv3-resnet18", 2, channels_last=True, input_shape=MIDDLE)
    yield step("upernet-resnet18", 2, input_shape=MIDDLE)
    yield step("upernet-resnet18", 4, "adam", input_shape=MIDDLE)


CONFIGURATIONS = tuple(_configurations())


# -- one configuration, in a process of its own ------------------------------------------------------------------------


def measure(configuration: Configuration) -> dict[str, Any]:
    """Return real and predicted peak bytes."""
    import torch

    from hwmodels.libraries.onednn import workspace_bytes
    from simulator.memory import replay
    from workloads.tracer import trace
    from workloads.training.peak import real_peak_bytes

    real = real_peak_bytes(lambda: real_step(configuration))
    graph = trace(configuration.network, batch=configuration.batch, **configuration.options)
    vector_bytes = VECTOR_BYTES[torch.backends.cpu.get_cpu_capability()]
    workspace = workspace_bytes(graph, vector_bytes=vector_bytes, threads=torch.get_num_threads())
    return {
        "real_bytes": real,
        "without_workspace_bytes": replay(graph).peak_bytes,
        "with_workspace_bytes": replay(graph, workspace).peak_bytes,
    }


def real_step(configuration: Configuration) -> tuple[Any, Any, Any]:
    """Return the step that `trace` records, its inputs and its targets, on real tensors."""
    from workloads.optimizers import optimizer_from
    from workloads.scope import freeze_batch_norm, set_scope
    from workloads.sources import workload_from
    from workloads.tracer import PRECISIONS
    from workloads.tracing.step import Step

    options = configuration.options
    workload = workload_from(
        configuration.network,
        classes=None,
        input_shape=options.get("input_shape"),
        widths=None,
        arguments={},
        loss="cross-entropy",
        channels_last=options.get("channels_last", False),
        mode=None,
    )
    workload.model.train()
    if options.get("batch_norm") == "eval":
        freeze_batch_norm(workload.model)
    set_scope(workload.model, options.get("train", "all"))
    parameters = [p for p in workload.model.parameters() if p.requires_grad]
    optimizer = optimizer_from(options.get("optimizer", MOMENTUM), options.get("foreach", False))(parameters)
    step = Step(workload, optimizer, options.get("accumulate", 1), PRECISIONS[options.get("precision", "fp32")])
    inputs, targets = workload.inputs(configuration.batch), workload.targets(configuration.batch)
    inputs.normal_()  # what is left unset may hold values that are slow to compute with
    return step, inputs, targets


# -- all configurations ------------------------------------------------------------------------------------------------


def in_own_process(configuration: Configuration, threads: int, vectors: str) -> dict[str, Any]:
    """Return the row of a configuration, or of its failure."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **(AVX2_ONLY if vectors == "avx2" else {})}
    command = [sys.executable, __file__, "--one", json.dumps(asdict(configuration))]
    row: dict[str, Any] = {"configuration": str(configuration)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {**row, "failed": f"exit code {done.returncode}: {reason}"}
    row |= json.loads(done.stdout.splitlines()[-1])
    for which in ("without", "with"):
        row[f"error_{which}_%"] = 100 * (row[f"{which}_workspace_bytes"] / row["real_bytes"] - 1)
    return row


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of mean and worst absolute error, against their limits; a failed configuration misses both."""
    measured = [row for row in rows if "failed" not in row]
    if not measured:
        return []
    errors = {which: [abs(row[f"error_{which}_%"]) for row in measured] for which in ("without", "with")}
    found = []
    for name, of, limit in (("mean", statistics.fmean, MEAN_LIMIT), ("worst", max, WORST_LIMIT)):
        values = {f"error_{which}_%": of(column) for which, column in errors.items()}
        met = len(measured) == len(rows) and values["error_with_%"] <= limit
        found.append({"configuration": f"{name} of {len(measured)}", **values, "limit_%": limit, "met": met})
    found[0]["exact_%"] = 100 * statistics.fmean(error == 0 for error in errors["with"])
    return found


def supported() -> str:
    """Return why this machine's kernels are not the ones modelled; nothing where they are."""
    machine = platform.machine().lower()
    if machine not in ("x86_64", "amd64"):
        return f"kernel workspace is known for x86-64 only; this is {machine}"
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    return "" if capability in VECTOR_BYTES else f"kernel workspace is known for AVX2 and AVX-512; this is {capability}"


def main() -> None:
    options = arguments(__doc__, every=1, only="", threads=1, parallel=2, vectors="native", one="")
    if options.one:
        print(json.dumps(measure(Configuration(**json.loads(options.one)))))
        return
    if why_not := supported():
        print(f"skipped: {why_not}")
        return
    chosen = [c for c in CONFIGURATIONS[:: options.every] if options.only in str(c)]
    if not chosen:
        sys.exit(f"no configuration has {options.only!r} in its name")
    done, lock = 0, threading.Lock()

    def run(configuration: Configuration) -> dict[str, Any]:
        nonlocal done
        row = in_own_process(configuration, options.threads, options.vectors)
        with lock:
            done += 1
            if sys.stderr.isatty():
                print(f"\r\033[K{done}/{len(chosen)}  {configuration}", end="", file=sys.stderr, flush=True)
        return row

    with ThreadPoolExecutor(options.parallel) as pool:
        rows = list(pool.map(run, chosen))
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    publish("peak memory of real training steps", [*rows, *summary(rows)], options.json)


if __name__ == "__main__":
    main()
