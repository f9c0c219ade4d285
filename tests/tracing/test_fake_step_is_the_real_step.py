"""The recorder on fake tensors sees what the same recorder sees of a real run: every op, tensor, storage and free."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from simulator.graph import Graph, Storage
from workloads.catalog import build, cards
from workloads.losses import LOSSES
from workloads.optimizers import optimizer_from
from workloads.scope import freeze_batch_norm, set_scope
from workloads.tracer import PRECISIONS, trace
from workloads.tracing.build import build_graph
from workloads.tracing.step import Step, record_step
from workloads.workload import Workload

torch.set_num_threads(1)

SGD = "sgd{momentum=0.9,weight_decay=1e-4}"

# network, input shape (small, so that the real run is quick), what is varied
CASES = [
    ("lenet5", (1, 28, 28), {}),
    ("alexnet", (3, 96, 96), {}),  # dropout
    ("vgg11-cifar", (3, 32, 32), {"train": "last=4"}),
    ("resnet8-cifar", (3, 16, 16), {"optimizer": "sgd"}),
    ("resnet8-cifar", (3, 16, 16), {"optimizer": "adam"}),
    ("resnet8-cifar", (3, 16, 16), {"optimizer": "adamw", "foreach": True}),
    ("resnet8-cifar", (3, 16, 16), {"optimizer": SGD, "foreach": True}),
    ("resnet8-cifar", (3, 16, 16), {"batch_norm": "eval"}),
    ("resnet8-cifar", (3, 16, 16), {"train": "head"}),
    ("resnet8-cifar", (3, 16, 16), {"train": "biases"}),
    ("resnet8-cifar", (3, 16, 16), {"train": r"bn\d"}),
    ("resnet8-cifar", (3, 16, 16), {"accumulate": 2}),
    ("resnet8-cifar", (3, 16, 16), {"channels_last": True}),
    ("resnet18", (3, 64, 64), {"train": "last=2", "batch_norm": "eval"}),
    ("mobilenetv2", (3, 64, 64), {"optimizer": SGD}),
    ("mnasnet", (3, 64, 64), {}),
    ("squeezenet1.1", (3, 64, 64), {}),
    ("googlenet", (3, 64, 64), {}),
    ("mcunet-like", (3, 64, 64), {}),
    ("vit-tiny", (3, 224, 224), {"optimizer": "adamw"}),
    ("lstm", (128, 64), {}),
    ("fcn-resnet18", (3, 64, 64), {}),
    ("pspnet-resnet18", (3, 64, 64), {}),
    ("deeplabv3-resnet18", (3, 64, 64), {}),
    ("upernet-resnet18", (3, 64, 64), {"optimizer": "adam"}),
]


def record_real(name: str, shape: tuple[int, ...], batch: int, options: dict[str, object]) -> object:
    """Return the graph recorded from a real run on real tensors."""
    card = cards()[name]
    model = build(name, classes=10).train()
    memory_format = torch.channels_last if options.get("channels_last") else torch.contiguous_format
    if memory_format == torch.channels_last:
        model = model.to(memory_format=memory_format)
    if options.get("batch_norm") == "eval":
        freeze_batch_norm(model)
    set_scope(model, str(options.get("train", "all")))

    def inputs(n: int) -> torch.Tensor:
        x = torch.randn(n, *shape)
        return x.to(memory_format=memory_format) if x.dim() == 4 else x

    def targets(n: int) -> torch.Tensor:
        size = (n, *shape[-2:]) if card.task == "segmentation" else (n,)
        return torch.zeros(size, dtype=torch.int64)

    workload = Workload(model, inputs, targets, LOSSES["cross-entropy"])
    make = optimizer_from(str(options.get("optimizer", "sgd{momentum=0.9}")), bool(options.get("foreach")))
    optimizer = make(p for p in model.parameters() if p.requires_grad)
    step = Step(
        workload,
        optimizer,
        int(options.get("accumulate", 1)),
        PRECISIONS[str(options.get("precision", "fp32"))],
    )
    record = record_step(step, batch)
    return build_graph(record, record, batch, {})


def observed(graph: Graph) -> list[Storage]:
    """The storages without what only a trace knows: how long the program alone would hold them."""
    return [replace(storage, held=-1) for storage in graph.storages]


@pytest.mark.parametrize(("name", "shape", "options"), CASES, ids=lambda v: str(v) if isinstance(v, str | dict) else "")
def test_fake_trace_equals_a_real_run(name: str, shape: tuple[int, ...], options: dict[str, object]) -> None:
    real = record_real(name, shape, 2, options)
    fake = trace(name, batch=2, classes=10, input_shape=shape, **options).concrete()
    assert [op.kind for op in fake.ops] == [op.kind for op in real.ops]
    for ours, theirs in zip(fake.ops, real.ops, strict=True):
        assert ours == theirs
    assert fake.tensors == real.tensors
    assert observed(fake) == observed(real)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast_runs_the_same_kernels_in_a_fake_and_a_real_run(precision: str) -> None:
    """Layouts of batch-norm statistics may differ there (float32 in a real run), the ops may not."""
    real = record_real("resnet8-cifar", (3, 16, 16), 2, {"precision": precision})
    fake = trace("resnet8-cifar", batch=2, classes=10, input_shape=(3, 16, 16), precision=precision)
    assert [(op.name, op.phase, op.layer) for op in fake.ops] == [(op.name, op.phase, op.layer) for op in real.ops]


def test_the_recorded_ops_are_the_ones_an_uninstrumented_run_launches() -> None:
    """Counted by PyTorch's own profiler, which does not see our recorder."""
    model = build("resnet8-cifar", classes=10).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, foreach=False)
    x, y = torch.randn(2, 3, 16, 16), torch.zeros(2, dtype=torch.int64)
    step = Step(Workload(model, lambda n: x, lambda n: y, LOSSES["cross-entropy"]), optimizer)
    step.run(x, y)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        step.run(x, y)
    launched: dict[str, int] = {}
    for event in profiler.events():
        launched[event.name] = launched.get(event.name, 0) + 1
    graph = trace("resnet8-cifar", batch=2, classes=10, input_shape=(3, 16, 16))
    counted: dict[str, int] = {}
    for op in graph.ops:
        counted[op.kind] = counted.get(op.kind, 0) + 1
    for kind in (
        "convolution",
        "native_batch_norm",
        "native_batch_norm_backward",
        "threshold_backward",
        "addmm",
        "mm",
    ):
        assert counted.get(kind, 0) == launched.get(f"aten::{kind}", 0), kind
    assert counted["convolution_grad_weight"] == launched["aten::convolution_backward"]
    in_place = counted["add_"] + counted["mul_"]
    assert in_place == launched["aten::add_"] + launched["aten::mul_"]


class _Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.stem = nn.Conv2d(3, 8, 3)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(8, 8, 3), nn.ReLU())
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = checkpoint(self.block, self.stem(x), use_reentrant=self.reentrant)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpointed_block_is_recomputed_in_backward_under_its_own_layers(reentrant: bool) -> None:
    model = _Checkpointed(reentrant)
    workload = Workload(
        model, lambda n: torch.randn(n, 3, 12, 12), lambda n: torch.zeros(n, dtype=torch.int64), LOSSES["cross-entropy"]
    )
    fake = trace(workload, batch=2).concrete()
    record = record_step(Step(workload, optimizer_from("sgd{momentum=0.9}", False)(model.parameters())), 2)
    real = build_graph(record, record, 2, {})
    assert fake.ops == real.ops
    assert observed(fake) == observed(real)
    recomputed = [op.layer for op in fake.ops if op.phase == "backward" and op.kind == "convolution"]
    assert recomputed == ["block.0", "block.3"]
    for op in fake.ops:
        if op.kind == "convolution_grad_weight" and fake.storages[fake.tensors[op.outputs[0]].storage].name:
            assert fake.storages[fake.tensors[op.outputs[0]].storage].name == f"{op.layer}.weight.grad"


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.decoder = nn.Linear(8, 20, bias=False)
        self.decoder.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": (self.decoder(torch.tanh(self.embedding(tokens))) * mask[..., None]).mean(1)}


def _tied_workload(model: nn.Module) -> Workload:
    return Workload(
        model,
        lambda n: {"tokens": torch.zeros((n, 5), dtype=torch.int64), "mask": torch.ones(n, 5)},
        lambda n: torch.zeros(n, dtype=torch.int64),
        lambda outputs, targets: nn.functional.nll_loss(outputs["logits"].log_softmax(-1), targets),
    )


def test_tied_weights_dict_inputs_dict_outputs_and_a_loss_of_ones_own_trace_as_they_run() -> None:
    model = _Tied()
    fake = trace(_tied_workload(model), batch=3).concrete()
    step = Step(_tied_workload(model), torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, foreach=False))
    record = record_step(step, 3)
    real = build_graph(record, record, 3, {})
    assert fake.ops == real.ops
    assert observed(fake) == observed(real)
    assert sum(s.role == "parameter" for s in fake.storages) == 1
    assert sum(s.role == "gradient" for s in fake.storages) == 1
