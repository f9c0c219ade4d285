"""Phases, layers, links, roles and conv-backward parts of a traced step, derived by hand."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

from simulator.errors import TrainwattError
from simulator.extent import evaluate
from simulator.graph import Graph
from workloads.catalog import build, cards
from workloads.tracer import trace

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def resnet18() -> Graph:
    return trace("resnet18", batch=8)


def test_resnet18_has_20_convolutions_and_its_first_one_has_no_grad_input(resnet18: Graph) -> None:
    # 1 stem + 4 stages x 2 blocks x 2 + 3 downsamples = 20; the image needs no gradient
    kinds = Counter(op.kind for op in resnet18.ops)
    assert kinds["convolution"] == 20
    assert kinds["convolution_grad_weight"] == 20
    assert kinds["convolution_grad_input"] == 19
    assert kinds["convolution_grad_bias"] == 0
    stem = [op.kind for op in resnet18.ops if op.layer == "conv1" and op.phase == "backward"]
    assert stem == ["convolution_grad_weight"]


def test_every_backward_op_links_to_the_forward_op_of_its_layer(resnet18: Graph) -> None:
    for op in resnet18.ops:
        if op.kind in ("convolution_grad_weight", "native_batch_norm_backward", "threshold_backward"):
            assert op.forward is not None
            forward = resnet18.ops[op.forward]
            assert forward.layer == op.layer
            assert forward.phase == "forward"
        if op.kind == "convolution_grad_weight":
            assert resnet18.ops[op.forward].kind == "convolution"  # type: ignore[index]


def test_every_op_but_the_seed_of_backward_has_a_layer(resnet18: Graph) -> None:
    layers = {name for name, _ in build("resnet18").named_modules() if name} | {"<root>", "<loss>"}
    assert [op.kind for op in resnet18.ops if op.layer not in layers] == ["ones_like"]


def test_phases_come_in_order_and_sgd_with_momentum_runs_three_ops_a_parameter(resnet18: Graph) -> None:
    phases = list(dict.fromkeys(op.phase for op in resnet18.ops))
    assert phases == ["forward", "loss", "backward", "optimizer"]
    # v = 0.9 v; v += g; p -= lr v, for 62 parameters
    assert sum(op.phase == "optimizer" for op in resnet18.ops) == 3 * 62


def test_bytes_by_role_are_those_of_the_parameters(resnet18: Graph) -> None:
    size = Counter()
    for storage in resnet18.storages:
        size[storage.role] += evaluate(storage.size_bytes, resnet18.sizes)
    assert size["parameter"] == 4 * 11_689_512
    assert size["gradient"] == size["parameter"]
    assert size["optimizer-state"] == size["parameter"]
    # running mean and variance of 4,800 channels, and 20 int64 counters
    assert size["buffer"] == 2 * 4 * 4_800 + 20 * 8
    assert size["input"] == 4 * 8 * 3 * 224 * 224 + 8 * 8


def test_gradients_are_born_in_backward_and_outlive_the_step(resnet18: Graph) -> None:
    for storage in resnet18.storages:
        if storage.role == "gradient":
            assert resnet18.ops[storage.born].phase == "backward"
            assert storage.died is None
        if storage.role in ("parameter", "buffer", "optimizer-state", "input"):
            assert storage.born == -1


def test_an_in_place_relu_shares_the_storage_of_its_input(resnet18: Graph) -> None:
    relu = next(op for op in resnet18.ops if op.kind == "relu_")
    assert relu.outputs == relu.inputs == relu.mutates


def test_batch_norm_saves_its_input_and_statistics_and_writes_its_running_ones(resnet18: Graph) -> None:
    op = next(op for op in resnet18.ops if op.kind == "native_batch_norm")
    roles = [resnet18.storages[resnet18.tensors[t].storage].role for t in op.mutates]
    assert roles == ["buffer", "buffer"]
    assert op.inputs[0] in op.saved


def test_saved_activations_of_resnet18_match_a_count_by_hand() -> None:
    # CIFAR ResNet-8, 3x16x16, batch 1 -> per sample, in floats: each convolution saves its input, each batch norm its
    # input, each ReLU its result (the next convolution's input). Stem and stage 1: 16x16x16 = 4096; stage 2: 32x8x8 =
    # 2048; stage 3: 64x4x4 = 1024.
    graph = trace("resnet8-cifar", batch=2, input_shape=(3, 16, 16))
    saved = {
        evaluate(s.size_bytes, {"batch": 1})
        for s in graph.storages
        if s.role == "saved" and evaluate(s.size_bytes, {"batch": 2}) > evaluate(s.size_bytes, {"batch": 1})
    }
    assert {4 * 4096, 4 * 2048, 4 * 1024} <= saved


@pytest.mark.parametrize(
    ("train", "parts"),
    [
        # last=1 is the classifier: no convolution is differentiated
        ("head", {}),
        # last=2 adds layer3.0.conv2: its weight only, as nothing before it is trained
        ("last=2", {"convolution_grad_weight": 1}),
        ("last=3", {"convolution_grad_weight": 2, "convolution_grad_input": 1}),
    ],
)
def test_training_the_last_layers_differentiates_only_what_they_need(train: str, parts: dict[str, int]) -> None:
    graph = trace("resnet8-cifar", batch=2, train=train)
    counted = Counter(op.kind for op in graph.ops if op.kind.startswith("convolution_grad"))
    assert dict(counted) == parts


def test_training_only_biases_computes_grad_input_but_no_grad_weight_of_convolutions() -> None:
    graph = trace("vgg11-cifar", batch=2, train="biases")
    kinds = Counter(op.kind for op in graph.ops)
    assert kinds["convolution_grad_weight"] == 0
    assert kinds["convolution_grad_bias"] == 8
    assert kinds["convolution_grad_input"] == 7


def test_batch_norm_in_eval_mode_writes_no_statistics() -> None:
    graph = trace("resnet8-cifar", batch=2, batch_norm="eval")
    assert all(not op.mutates for op in graph.ops if op.kind == "native_batch_norm")


def test_accumulation_repeats_forward_and_backward_but_not_the_optimizer() -> None:
    once, twice = trace("lenet5", batch=2), trace("lenet5", batch=2, accumulate=2)
    for kind, times in (("convolution", 2), ("convolution_grad_weight", 2)):
        count = sum(op.kind == kind for op in once.ops)
        assert sum(op.kind == kind for op in twice.ops) == times * count
    assert sum(o.phase == "optimizer" for o in once.ops) == sum(o.phase == "optimizer" for o in twice.ops)


def test_foreach_adam_runs_few_ops_over_all_parameters() -> None:
    graph = trace("resnet8-cifar", batch=2, optimizer="adam", foreach=True)
    optimizer = [op for op in graph.ops if op.phase == "optimizer"]
    assert len(optimizer) < 80
    assert any(op.kind.startswith("_foreach_") and len(op.inputs) > 40 for op in optimizer)


def test_autocast_computes_convolutions_in_bf16_and_keeps_parameters_in_fp32() -> None:
    graph = trace("resnet8-cifar", batch=2, precision="bf16")
    for op in graph.ops:
        if op.kind == "convolution":
            assert {graph.tensors[t].dtype for t in op.inputs} == {"bfloat16"}
    names = {s.name for s in graph.storages if s.role == "parameter"}
    for tensor in graph.tensors:
        if graph.storages[tensor.storage].name in names and graph.storages[tensor.storage].role == "parameter":
            assert tensor.dtype == "float32"


def test_a_pruned_variant_is_the_same_network_with_other_widths() -> None:
    convolutions = {n: m.out_channels for n, m in build("vgg11-cifar").named_modules() if isinstance(m, nn.Conv2d)}
    first = next(iter(convolutions))
    plain, pruned = trace("vgg11-cifar", batch=2), trace("vgg11-cifar", batch=2, widths={first: 40})
    assert [op.kind for op in plain.ops] == [op.kind for op in pruned.ops]
    op = next(op for op in pruned.ops if op.kind == "convolution")
    assert pruned.tensors[op.outputs[0]].shape[1] == 40


MODELS = """
import torch
from torch import nn
from workloads import Workload

class Net(nn.Module):
    def __init__(self, width=4, num_classes=3):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(width, num_classes)
    def forward(self, x):
        return {"out": self.head(self.features(x))}

class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.pick = Pick()
    def forward(self, x):
        return self.pick(self.stem(x))

class Pick(nn.Module):
    def forward(self, x):
        return x[x > 0].sum()[None].expand(x.shape[0], 4)

def masked():
    return Masked()

def squared(outputs, targets):
    return outputs["out"].square().mean()

def only_four():
    net = Net()
    def inputs(n):
        if n != 4:
            raise ValueError("this data comes in fours")
        return torch.empty(n, 3, 9, 9)
    return Workload(net, inputs, lambda n: None, squared)

def workload(width):
    net = Net(width)
    return Workload(net, lambda n: torch.empty(n, 3, 9, 9), lambda n: None, squared, {"note": "mine"})

class Deep(nn.Module):
    # takes its depths and drop rates from tensors, as many definitions do
    def __init__(self):
        super().__init__()
        self.depth = torch.tensor([1, 2, 1]).cumsum(0).tolist()[-1]
        rates = [x.item() for x in torch.linspace(0, 0.3, self.depth)]
        layers = [nn.Sequential(nn.Linear(4, 4), nn.Dropout(r) if r else nn.Identity()) for r in rates]
        self.layers = nn.Sequential(*layers)
    def forward(self, x):
        return self.layers(x)

def number():
    return 3

def broken():
    raise RuntimeError("no weights here")
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("my_models", None)
    return "my_models"


def test_a_users_callable_with_arguments_and_a_loss_of_its_own_traces(models: str) -> None:
    graph = trace(
        f"{models}:Net",
        batch=4,
        classes=7,
        input_shape=(3, 20, 20),
        arguments={"width": 6},
        loss=f"{models}:squared",
    )
    first = next(op for op in graph.ops if op.kind == "convolution")
    assert graph.concrete().tensors[first.outputs[0]].shape == (4, 6, 18, 18)
    assert graph.meta["network"] == "my_models:Net"
    assert graph.meta["parameters"] == 6 * 27 + 6 + 7 * 6 + 7


def test_values_that_a_definition_computes_with_are_real(models: str) -> None:
    # four layers, of which the first has a drop rate of 0; each dropout draws once
    torch.manual_seed(7)
    graph = trace(f"{models}:Deep", batch=3, input_shape=(4,))
    kinds = Counter(op.kind for op in graph.ops)
    assert kinds["addmm"] == 4
    assert kinds["bernoulli_"] == 3
    drawn = torch.rand(1)
    torch.manual_seed(7)
    assert torch.rand(1) == drawn  # the user's random numbers are not consumed


def test_a_step_that_runs_at_one_batch_size_only_is_traced_there_and_refuses_another(models: str) -> None:
    graph = trace(f"{models}:only_four", batch=4)
    assert graph.batch == 4
    with pytest.raises(TrainwattError, match=r"fixed batch 4 \(.*this data comes in fours"):
        graph.rebatch(8)
    with pytest.raises(TrainwattError, match="this data comes in fours"):
        trace(f"{models}:only_four", batch=5)


def test_progress_grows_to_the_whole() -> None:
    shares: list[float] = []
    trace("lenet5", batch=2, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_a_users_callable_may_return_a_workload(models: str) -> None:
    graph = trace(f"{models}:workload", batch=4, arguments={"width": 5})
    assert graph.meta["note"] == "mine"


def test_a_users_segmentation_logits_get_a_class_per_pixel_as_target(models: str) -> None:
    graph = trace(
        "torch.nn:Conv2d",
        batch=2,
        input_shape=(3, 10, 10),
        arguments={"in_channels": 3, "out_channels": 5, "kernel_size": 3},
    )
    target = next(s for s in graph.storages if s.name == "target0")
    assert evaluate(target.size_bytes, graph.sizes) == 2 * 8 * 8 * 8


def test_a_real_module_is_traced_without_copying_its_memory() -> None:
    model = build("lenet5")
    before = [p.data_ptr() for p in model.parameters()]
    from_module = trace(model, batch=4, input_shape=cards()["lenet5"].input_shape)
    by_name = trace("lenet5", batch=4)
    assert from_module.ops == by_name.ops
    assert [p.data_ptr() for p in model.parameters()] == before
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("resnet81", {}, "no network 'resnet81'; did you mean"),
        ("nosuch:thing", {}, "cannot import 'nosuch'"),
        ("{models}:Nett", {}, "no callable in my_models 'Nett'; did you mean 'Net'"),
        ("{models}:number", {}, "returned a int; it should return a torch.nn.Module"),
        ("{models}:broken", {}, "cannot build my_models:broken: no weights here"),
        (
            "{models}:masked",
            {},
            "in module 'pick' (Pick) at or after op aten.index.Tensor: the shape of its result depends",
        ),
        ("lenet5", {"input_shape": (3, 28, 28)}, "cannot trace lenet5: in module"),
        ("lenet5", {"optimizer": "sgdd"}, "no optimizer 'sgdd'; did you mean 'sgd'?"),
        (
            "lenet5",
            {"optimizer": "sgd{momentun=1}"},
            "no parameter of sgd 'momentun'; did you mean 'momentum'",
        ),
        ("lenet5", {"optimizer": "sgd{momentum=x}"}, "optimizer 'sgd{momentum=x}' cannot be made"),
        ("lenet5", {"train": "last=99"}, "asks for more layers than there are; there are 5"),
        ("lenet5", {"train": "last=x"}, "counts no layers; write for example last=4"),
        ("lenet5", {"train": "nothing_like_it"}, "matches no parameter"),
        ("lenet5", {"train": "("}, "is no regular expression"),
        ("lenet5", {"precision": "fp8"}, "no precision 'fp8'"),
        ("lenet5", {"batch_norm": "evil"}, "no batch-norm mode 'evil'"),
        ("lenet5", {"loss": "cros-entropy"}, "no loss 'cros-entropy'; did you mean 'cross-entropy'"),
        ("lenet5", {"batch": 0}, "a batch has at least 1 sample"),
        ("lenet5", {"accumulate": 0}, "at least 1 micro-batch"),
    ],
)
def test_what_cannot_be_traced_fails_with_one_line(
    models: str, spec: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(TrainwattError) as caught:
        trace(spec.format(models=models), **{"batch": 2, **options})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("code", ["def broken(:", "1 / 0", "import nothing_like_it"])
def test_a_module_that_cannot_be_imported_fails_with_one_line(models: str, tmp_path: Path, code: str) -> None:
    (tmp_path / "torn_module.py").write_text(code)
    sys.modules.pop("torn_module", None)
    with pytest.raises(TrainwattError, match=r"^cannot import 'torn_module' \([^\n]*$"):
        trace("torn_module:net", batch=2)


def test_a_failed_trace_leaves_pytorch_as_it_was(models: str) -> None:
    apply, init = nn.Module._apply, nn.init.kaiming_uniform_
    with pytest.raises(TrainwattError):
        trace(f"{models}:masked", batch=2)
    assert nn.Module._apply is apply
    assert nn.init.kaiming_uniform_ is init
    layer = nn.Conv2d(3, 4, 3)
    layer(torch.randn(1, 3, 8, 8)).sum().backward()
    assert layer.weight.grad is not None


def test_tracing_takes_no_real_memory_for_tensors() -> None:
    # one step of this needs 177 GB; a real tensor among them would fail or show
    graph = trace("resnet50", batch=2048)
    assert graph.batch == 2048
