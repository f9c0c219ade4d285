"""MACs counted in real steps against the work rules, and against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from simulator.work import work_of
from workloads.optimizers import optimizer_from
from workloads.sources import workload_from
from workloads.tracer import trace
from workloads.tracing.step import Step
from workloads.training.counting import MacCounter
from workloads.training.peak import real_peak_bytes


class Mixed(nn.Module):
    """A transposed, grouped and dilated convolution, causal attention and a batched product."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2)
        self.dilated = nn.Conv2d(6, 8, 3, dilation=2, groups=2, bias=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.dilated(self.up(x)).flatten(2).transpose(1, 2)
        y = y + F.scaled_dot_product_attention(y[:, None], y[:, None], y[:, None], is_causal=True)[:, 0]
        return self.head((y @ y.transpose(1, 2) @ y).mean(1))


def real_step(model: Any, batch: int, shape: tuple[int, ...] | None) -> tuple[Step, Any, Any]:
    workload = workload_from(
        model,
        classes=None,
        input_shape=shape,
        widths=None,
        arguments={},
        loss="cross-entropy",
        channels_last=False,
        mode=None,
    )
    workload.model.train()
    step = Step(workload, optimizer_from("sgd", foreach=False)(workload.model.parameters()))
    return step, workload.inputs(batch).zero_(), workload.targets(batch)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("resnet8-cifar", None),
        ("mobilenetv2", (3, 32, 32)),
        ("squeezenet1.1", (3, 64, 64)),
        ("lstm", (8, 64)),
        ("vit-tiny", None),
        (Mixed(), (4, 5, 5)),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_counted_in_a_real_step_is_what_the_rules_give_for_its_trace(
    model: Any, shape: tuple[int, ...] | None
) -> None:
    step, inputs, targets = real_step(model, 2, shape)
    with MacCounter() as counter:
        step.run(inputs, targets)
    work = work_of(trace(model, batch=2, input_shape=shape, optimizer="sgd"))
    assert counter.macs == work.total(work.macs)


def test_a_depthwise_convolution_runs_its_loops_three_times_in_a_step() -> None:
    conv = nn.Conv2d(8, 8, 3, groups=8, padding=1, bias=False)
    x = torch.zeros(2, 8, 5, 5, requires_grad=True)
    with MacCounter() as counter:
        y = conv(x)
        assert counter.macs == 2 * 8 * 25 * 9  # each of 2 x 8 x 25 outputs adds up 9 products
        y.sum().backward()
    assert counter.macs == 3 * 2 * 8 * 25 * 9


def test_a_gradient_that_nobody_wants_is_not_counted() -> None:
    conv = nn.Conv2d(3, 4, 1, bias=False)
    with MacCounter() as counter:
        conv(torch.zeros(1, 3, 2, 2)).sum().backward()
    assert counter.macs == 2 * (4 * 4 * 3)  # forward and the gradient of the weight


def test_what_a_custom_autograd_function_calls_is_counted() -> None:
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(a, b)
            return a @ b

        @staticmethod
        def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
            _, b = ctx.saved_tensors
            return dy @ b.t(), None

    with MacCounter() as counter:
        Product.apply(torch.zeros(2, 3, requires_grad=True), torch.zeros(3, 4)).sum().backward()
    assert counter.macs == 2 * 3 * 4 * 2


def test_the_peak_of_a_step_is_the_same_whatever_was_measured_before() -> None:
    first = real_peak_bytes(lambda: real_step("lenet5", 4, None))
    kept: list[Any] = []

    def keeping() -> tuple[Step, Any, Any]:
        kept.append(real_step("lenet5", 4, None))
        return kept[0]

    assert real_peak_bytes(keeping) == first  # its parameters outlive the profile
    assert real_peak_bytes(lambda: real_step("lenet5", 4, None)) == first


def test_the_profiler_writes_nothing_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    real_peak_bytes(lambda: real_step("lenet5", 1, None))
    assert capfd.readouterr().err == ""
