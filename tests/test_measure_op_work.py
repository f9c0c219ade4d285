"""The work of a measured op, rebuilt from its row, against the trace of a network that does the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from analysis.measurements.op_work import work_of_rows
from analysis.measurements.row import Row, settings_text
from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.work import KERNELS, Work, work_of
from workloads import trace
from workloads.measuring.board.cases import op_set

BATCH = 3


def row(what: str, parameters: dict[str, Any] | str, batch: int | None = BATCH, kind: str = "op") -> Row:
    said = parameters if isinstance(parameters, str) else settings_text(parameters)
    where = {"device": "here", "metric": "latency", "value": 1.0, "unit": "s", "source": "me"}
    return Row(kind=kind, what=what, parameters=said, batch=batch, **where)  # type: ignore[arg-type]


class Between(nn.Module):
    """Runs `act` on an input whose gradient is asked for; the loss sees its result, flattened."""

    def __init__(self, act: Callable[..., torch.Tensor], layer: nn.Module | None = None) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.layer = layer
        self.act = act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.layer, x * self.scale) if self.layer is not None else self.act(x * self.scale)
        return y.flatten(1)


def run(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = layer(x)
    return result


CONV = {"c": 8, "k": 12, "h": 11, "r": 3, "stride": 2, "groups": 4, "dilation": 2, "bias": 1}
CONV_LAYER = nn.Conv2d(8, 12, 3, stride=2, padding=2, dilation=2, groups=4)
DEPTHWISE = {"c": 8, "k": 8, "h": 11, "r": 5, "groups": 8}
MAP = {"c": 8, "h": 12}
LINEAR = nn.Sequential(nn.Flatten(), nn.Linear(72, 10))
POOL = {**MAP, "r": 3, "stride": 2}

# the kinds, what a row says of them, and what runs them on a map of 8 channels: a layer, or a function
TRACED: list[tuple[str, dict[str, Any], Any]] = [
    *((f"convolution{end}", CONV, CONV_LAYER) for end in ("", "_grad_input", "_grad_weight", "_grad_bias")),
    *((f"convolution{end}", DEPTHWISE, nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False))
      for end in ("", "_grad_input", "_grad_weight")),
    *((f"native_batch_norm{end}", MAP, nn.BatchNorm2d(8)) for end in ("", "_backward")),
    ("relu_", MAP, nn.ReLU(inplace=True)),
    ("relu", MAP, nn.ReLU()),
    ("threshold_backward", MAP, nn.ReLU()),
    *((f"hardtanh{end}", MAP, nn.ReLU6(inplace=True)) for end in ("_", "_backward")),
    *((f"hardswish{end}", MAP, nn.Hardswish()) for end in ("", "_backward")),
    *((f"hardsigmoid{end}", MAP, nn.Hardsigmoid()) for end in ("", "_backward")),
    *((f"silu{end}", MAP, nn.SiLU()) for end in ("", "_backward")),
    *((f"sigmoid{end}", MAP, nn.Sigmoid()) for end in ("", "_backward")),
    *((f"gelu{end}", MAP, nn.GELU()) for end in ("", "_backward")),
    *((f"max_pool2d_with_indices{end}", POOL, nn.MaxPool2d(3, 2, 1)) for end in ("", "_backward")),
    *((f"avg_pool2d{end}", MAP, nn.AvgPool2d(2)) for end in ("", "_backward")),
    *((f"_adaptive_avg_pool2d{end}", {**MAP, "out": 5}, nn.AdaptiveAvgPool2d(5)) for end in ("", "_backward")),
    *((f"upsample_bilinear2d{end}", MAP, nn.Upsample(scale_factor=2, mode="bilinear")) for end in ("", "_backward")),
    ("add", MAP, lambda x: x + x.sigmoid()),
    ("add_", MAP, lambda x: x.sigmoid().add_(x)),
    ("cat", {**MAP, "parts": 2}, lambda x: torch.cat((x, x.sigmoid()), 1)),
    ("mean", MAP, lambda x: x.mean((-1, -2), keepdim=True)),
    ("div", {**MAP, "expanded": 1}, lambda x: x.mean((-1, -2), keepdim=True)),
]  # fmt: skip


def of(work: Work, i: int) -> dict[str, Any]:
    """Return what row `i` of a table says."""
    names = ("launches", "macs", "flops", "read_bytes", "written_bytes", "part")
    found: dict[str, Any] = {name: float(getattr(work, name)[i]) for name in names}
    nest = {name: float(column[i]) for name, column in work.nest.items()}
    return {**found, **nest, "kernel": KERNELS[work.kernel[i]], "dtype": work.dtypes[work.dtype[i]]}


def traced(graph: Graph, kind: str, accept: Callable[[dict[str, Any]], bool] = lambda row: True) -> dict[str, Any]:
    """Return the work of the first op of `kind` in a graph that is accepted."""
    work = work_of(graph)
    rows = [of(work, int(work.row_of_op[i])) for i, op in enumerate(graph.ops) if op.kind == kind]
    return next(row for row in rows if accept(row))


def step(model: nn.Module, h: int) -> Graph:
    return trace(model, batch=BATCH, input_shape=(8, h, h), classes=10, rebatches=False)


@pytest.mark.parametrize(("kind", "parameters", "layer"), TRACED, ids=[f"{k}-{i}" for i, (k, *_) in enumerate(TRACED)])
def test_the_work_of_a_measured_op_is_that_of_the_traced_one(kind: str, parameters: dict[str, Any], layer: Any) -> None:
    model = Between(run, layer) if isinstance(layer, nn.Module) else Between(layer)
    graph = step(model, parameters["h"])
    assert of(work_of_rows([row(kind, parameters)]), 0) == traced(graph, kind)


def test_the_work_of_linear_layers_and_losses_is_that_of_the_traced_ones() -> None:
    graph = step(Between(run, LINEAR), 3)
    assert of(work_of_rows([row("addmm", "m=3;n=10;k=72;transposed=b", None)]), 0) == traced(graph, "addmm")
    products = [row("mm", "m=3;n=72;k=10", None), row("mm", "m=10;n=72;k=3;transposed=a", None)]
    for i, first in enumerate((3, 10)):
        assert of(work_of_rows(products), i) == traced(graph, "mm", lambda found, p=first: found["p"] == p)
    for kind in ("_log_softmax", "_log_softmax_backward_data", "nll_loss_forward", "nll_loss_backward", "sum"):
        assert of(work_of_rows([row(kind, "m=3;n=10", None)]), 0) == traced(graph, kind)
    for kind in ("mul_", "add_"):
        bias = work_of_rows([row(kind, "elements=10", None)])
        assert bias.read_bytes[0] in [traced(graph, kind, lambda r: r["written_bytes"] == 40)["read_bytes"]]


def test_the_work_of_token_ops_and_excitations_is_that_of_the_traced_ones() -> None:
    norm = nn.LayerNorm(72)
    graph = step(Between(lambda x: norm_softmax(norm, x)), 3)
    for kind in ("native_layer_norm", "native_layer_norm_backward"):
        got, expected = of(work_of_rows([row(kind, "m=3;n=72", None)]), 0), traced(graph, kind)
        assert {**got, "read_bytes": 0} == {**expected, "read_bytes": 0}
    for kind in ("_softmax", "_softmax_backward_data"):
        assert of(work_of_rows([row(kind, "m=3;n=72", None)]), 0) == traced(graph, kind)
    excited = step(Between(lambda x: x * F.adaptive_avg_pool2d(x, 1)), 12)
    assert of(work_of_rows([row("mul", {**MAP, "broadcast": 1})]), 0) in [
        of(work_of(excited), int(work_of(excited).row_of_op[i]))
        for i, op in enumerate(excited.ops)
        if op.kind == "mul" and op.phase == "forward"
    ]
    assert of(work_of_rows([row("sum", MAP)]), 0) == traced(excited, "sum", lambda found: found["flops"] == 3 * 8 * 144)


def norm_softmax(norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    weight = torch.ones(72, requires_grad=True)
    bias = torch.zeros(72, requires_grad=True)
    return F.layer_norm(x.flatten(1), (72,), weight, bias).softmax(1)


def test_every_case_of_the_designed_set_has_work_of_its_own_row_in_order() -> None:
    cases = op_set()
    work = work_of_rows([row(case.kind, case.parameters, case.batch) for case in cases])
    assert work.macs.shape == (len(cases),)
    assert list(work.row_of_op) == list(range(len(cases)))
    assert (work.written_bytes > 0).all()
    products = [case.kind.startswith("convolution") and "bias" not in case.kind for case in cases]
    assert (work.macs[np.array(products)] > 0).all()


def test_every_kernel_class_of_cnns_is_in_the_designed_set() -> None:
    cases = op_set()
    work = work_of_rows([row(case.kind, case.parameters, case.batch) for case in cases])
    assert {KERNELS[code] for code in work.kernel} == set(KERNELS) - {"view", "attention", "rnn"}


@pytest.mark.parametrize(
    ("what", "parameters", "kind", "reason"),
    [
        ("relu", "c=8", "op", "without 'h'; its parameters do not say its operands"),
        ("conv", "c=8", "op", "op 'conv'; measured are _adaptive_avg_pool2d"),
        ("relu", "c=8;h=big", "op", "h=big of an op; it is a whole number"),
        ("resnet18", "", "step", "is a step; only ops have a row of work"),
    ],
)
def test_rows_that_do_not_say_their_operands_are_refused(what: str, parameters: str, kind: str, reason: str) -> None:
    with pytest.raises(TrainwattError) as caught:
        work_of_rows([row(what, parameters, kind=kind)])
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
