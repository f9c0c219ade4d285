"""The predicted peak is the one that PyTorch's profiler reports of a real, un-instrumented step."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "peak_memory.py"

pytestmark = [
    pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the rules are those of x86-64 kernels"),
    pytest.mark.skipif(not torch.__version__.startswith("2.13."), reason="the rules are those of PyTorch 2.13"),
    pytest.mark.skipif(
        torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="the rules need AVX2 or AVX-512"
    ),
]


@pytest.mark.parametrize(
    ("network", "batch", "options"),
    [
        ("lenet5", 16, {"optimizer": "adam"}),
        ("resnet8-cifar", 8, {"optimizer": "sgd{momentum=0.9}", "accumulate": 2}),
        ("squeezenet1.1", 4, {"train": "biases", "input_shape": [3, 64, 64]}),
        ("mobilenetv2", 4, {"channels_last": True, "input_shape": [3, 64, 64]}),
    ],
)
def test_the_predicted_peak_is_within_one_percent_of_the_profilers(
    network: str, batch: int, options: dict[str, Any]
) -> None:
    configuration = json.dumps({"network": network, "batch": batch, "options": options})
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--one", configuration],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["with_workspace_bytes"] == pytest.approx(found["real_bytes"], rel=0.01)
