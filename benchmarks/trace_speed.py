"""CPU time of tracing a training step, against `make_fx` on the same step on fake tensors, in turns.

Both start from a model that is built on fake tensors. `make_fx` traces forward, loss, gradients and the update of
SGD with momentum at one batch size (its optimizer is written out by hand, as it cannot trace a real one). Ours
records the real optimizer, at three batch sizes (the asked one, the next, and 1). One thread. Limit: 1.2 times.
"""

from __future__ import annotations

from typing import Any

import torch
from harness import arguments, publish, side_by_side, spread
from torch.fx.experimental.proxy_tensor import make_fx

from workloads.optimizers import optimizer_from
from workloads.sources import workload_from
from workloads.tracer import trace_step
from workloads.tracing.fake import faking
from workloads.tracing.step import Step
from workloads.workload import Workload

BATCH = 8
LIMIT = 1.2


def workload(name: str, mode: Any) -> Workload:
    made = workload_from(
        name,
        classes=None,
        input_shape=None,
        widths=None,
        arguments={},
        loss="cross-entropy",
        channels_last=False,
        mode=mode,
    )
    made.model.train()
    return made


def make_fx_step(work: Workload, x: torch.Tensor, y: torch.Tensor) -> None:
    """Trace forward, loss, backward and the momentum update with make_fx."""
    parameters = dict(work.model.named_parameters())
    names = list(parameters)
    momenta = [torch.empty_like(p) for p in parameters.values()]

    def step(values: list[torch.Tensor], state: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> Any:
        outputs = torch.func.functional_call(work.model, dict(zip(names, values, strict=True)), (x,))
        loss = work.loss(outputs, y)
        gradients = torch.autograd.grad(loss, values)
        with torch.no_grad():
            for value, gradient, momentum in zip(values, gradients, state, strict=True):
                momentum.mul_(0.9).add_(gradient)
                value.add_(momentum, alpha=-0.01)
        return loss

    # the parameters keep requiring gradients inside the trace
    make_fx(step)(list(parameters.values()), momenta, x, y)


def main() -> None:
    options = arguments(__doc__, repeats=7)
    torch.set_num_threads(1)
    rows = []
    for name in ("resnet18", "mobilenetv2"):
        with faking() as mode:
            work = workload(name, mode)

            def ours(work: Workload = work) -> None:
                optimizer = optimizer_from("sgd{momentum=0.9}", False)(work.model.parameters())
                trace_step(Step(work, optimizer), BATCH, {})

            def theirs(work: Workload = work) -> None:
                make_fx_step(work, work.inputs(BATCH), work.targets(BATCH))

            ours()  # first use of fake tensors imports a second of PyTorch; neither side should pay for it
            theirs()
            a, b = side_by_side([ours, theirs], options.repeats)
        ratio = spread([x / y for x, y in zip(a, b, strict=True)])
        rows.append(
            {
                "network": name,
                "batch": BATCH,
                "trace_cpu_s": spread(a)["median"],
                "make_fx_cpu_s": spread(b)["median"],
                "ratio": ratio["median"],
                "ratio_min": ratio["min"],
                "ratio_max": ratio["max"],
                "limit": LIMIT,
                "met": ratio["median"] <= LIMIT,
            }
        )
    publish("trace against make_fx (CPU seconds, one thread)", rows, options.json)


if __name__ == "__main__":
    main()
