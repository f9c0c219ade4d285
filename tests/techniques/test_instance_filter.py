"""Early instance filtering: the transform against its twin, costs in closed form, and real training."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from simulator.errors import TrainwattError
from simulator.estimate import estimate
from simulator.graph import Graph
from simulator.io import save
from simulator.memory import replay
from simulator.rewriting import filters
from simulator.rewriting.compose import forward_only
from simulator.rewriting.layers import BESIDE
from simulator.techniques import apply, parse
from simulator.techniques.instance_filter import NAME, InstanceFilter
from simulator.work import work_of
from tests.techniques.agreement import assert_agree, both, described
from workloads import trace
from workloads.optimizers import optimizer_from
from workloads.techniques import make_step, measured
from workloads.techniques.instance_filter import LOWER, RAISE, Filter
from workloads.tracing.step import Step
from workloads.workload import Workload


@pytest.mark.parametrize(
    ("text", "network", "options"),
    [
        ("instance-filter", "resnet8-cifar", {}),
        ("instance-filter{keep=1}", "resnet8-cifar", {}),
        ("instance-filter{keep=0.5,uncertain=0}", "resnet20-cifar", {}),
        ("instance-filter{keep=0.5,uncertain=0.5}", "resnet20-cifar", {"optimizer": "adam"}),
        ("instance-filter{keep=0.4,uncertain=0.3}", "vgg11-cifar", {"precision": "bf16"}),
        ("instance-filter", "vgg11-cifar", {"optimizer": "sgd{momentum=0.9,weight_decay=0.001}"}),
        ("instance-filter,error-map-prune", "resnet8-cifar", {}),
        ("error-map-prune,instance-filter", "resnet8-cifar", {}),
        ("instance-filter,sparse-update{last=2}", "resnet8-cifar", {}),
        ("sparse-update{last=2},instance-filter", "resnet8-cifar", {}),
    ],
)
def test_the_transform_agrees_with_its_twin(text: str, network: str, options: dict[str, Any]) -> None:
    transformed, ran = both(text, network, batch=10, rebatches=False, **options)
    assert_agree(transformed, ran)
    assert described(transformed) == described(ran)
    assert replay(transformed).peak_bytes == replay(ran).peak_bytes


@pytest.mark.parametrize("network", ["squeezenet1.1", "mobilenetv2"])
def test_the_transform_agrees_with_its_twin_with_a_filter_of_ones_own(network: str, tmp_path: Path) -> None:
    file, shape = tmp_path / "filter.graph", (3, 64, 64)
    save(trace("resnet8-cifar", batch=4, classes=2, input_shape=shape), file)
    transformed, ran = both(f"instance-filter{{filter={file}}}", network, batch=8, rebatches=False, input_shape=shape)
    assert_agree(transformed, ran)
    assert described(transformed) == described(ran)
    assert replay(transformed).peak_bytes == replay(ran).peak_bytes


@pytest.mark.parametrize("text", ["instance-filter,smd{p=0.25}", "smd{p=0.25},instance-filter"])
def test_dropped_mini_batches_are_not_filtered_either(text: str) -> None:
    transformed, ran = both(text, "resnet8-cifar", batch=10, rebatches=False)
    assert {op.runs for op in transformed.ops} == {0.75}
    assert described(transformed) == described(ran)


# Costs


@pytest.fixture(scope="module")
def plain() -> Graph:
    return trace("resnet20-cifar", batch=10)


def macs(graph: Graph) -> float:
    work = work_of(graph)
    return float(work.total(work.macs))


def test_the_cost_is_the_closed_form(plain: Graph) -> None:
    # Of 10 instances 5 are judged and 3 of them kept: rho = 0.3, u = 0.2.
    net = filters.find("auto", (3, 32, 32)).rebatch(10)
    whole = macs(plain)
    f, o, o_f = macs(forward_only(plain)) / whole, macs(net) / whole, macs(forward_only(net)) / whole
    rho, u = 0.3, 0.2
    filtered = apply(parse("instance-filter"), plain)
    assert macs(filtered) / whole == pytest.approx(o_f + (rho + u) * o + rho + u * f, rel=1e-12)


def test_the_published_overhead_of_the_filter_is_that_of_our_resnet8() -> None:
    # Wu et al. 2020: inference of ResNet-8 is 5.0 % of ResNet-110's, 252,887,680 MACs (He et al. 2016)
    net = filters.find("auto", (3, 32, 32)).rebatch(1)
    assert 100 * macs(forward_only(net)) / 252_887_680 == pytest.approx(5.0, abs=0.2)


def test_in_the_beginning_everything_passes(plain: Graph) -> None:
    net = filters.find("auto", (3, 32, 32)).rebatch(10)
    start = apply(parse("instance-filter{keep=1}"), plain)
    assert macs(start) == macs(plain) + macs(net) + macs(forward_only(net))


def test_the_worst_mini_batch_is_kept_whole(plain: Graph, flat: Any) -> None:
    graph = apply(parse("instance-filter"), plain)
    assert (graph.sizes["judged"], graph.sizes["kept"]) == (5, 3)
    assert (graph.worst().sizes["judged"], graph.worst().sizes["kept"]) == (10, 10)
    assert replay(graph).peak_bytes < replay(plain).peak_bytes < replay(graph.worst()).peak_bytes
    assert estimate(graph, flat).memory.peak_bytes == replay(graph.worst()).peak_bytes


@pytest.mark.parametrize("batch", [1, 2, 3, 64])
def test_it_can_be_priced_at_any_batch(plain: Graph, flat: Any, batch: int) -> None:
    assert estimate(apply(parse("instance-filter"), plain).rebatch(batch), flat).total.latency_s > 0


# The packaged filters


@pytest.mark.parametrize(
    ("name", "network", "shape"),
    [("resnet8-cifar-3x32x32", "resnet8-cifar", (3, 32, 32)), ("resnet10-3x224x224", "resnet10", (3, 224, 224))],
)
def test_a_packaged_filter_is_what_a_trace_gives_now(name: str, network: str, shape: tuple[int, ...]) -> None:
    stored, fresh = filters.find("auto", shape), trace(network, batch=32, classes=2)
    assert stored == filters.packaged()[name]
    assert (stored.ops, stored.tensors, stored.storages) == (fresh.ops, fresh.tensors, fresh.storages)


def test_later_techniques_leave_the_filter_alone() -> None:
    assert NAME in BESIDE


# The twin


class Net(nn.Module):
    """A small network with batch norm for 1x8x8 images."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(self.conv(x)).relu().mean((2, 3)))


def net(num_classes: int = 2) -> Net:
    return Net(num_classes)


SELF = "tests.techniques.test_instance_filter:net"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.graph"
    save(trace(SELF, batch=4, classes=2, input_shape=(1, 8, 8)), path)
    return path


def images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return bright and dark images, of either kind half hard to tell, and which they are."""
    number = torch.arange(count)
    y, strength = number % 2, torch.where(number % 4 < 2, 2.0, 0.2)
    return torch.randn(count, 1, 8, 8) + ((2 * y - 1) * strength).view(-1, 1, 1, 1), y


def made(text: str, x: torch.Tensor, y: torch.Tensor, lr: float = 0.05) -> Step:
    workload = Workload(Net(), lambda n: x[:n], lambda n: y[:n], F.cross_entropy, {"loss": "cross-entropy"})
    return make_step(parse(text) if text else (), workload, optimizer_from(f"sgd{{lr={lr},momentum=0.9}}", False))


def test_network_and_filter_learn_together_and_the_shares_are_told(file: Path) -> None:
    torch.manual_seed(0)
    x, y = images(640)
    technique = parse(f"instance-filter{{keep=0.3,filter={file}}}")
    step = made(str(technique[0]), x, y, lr=0.01)
    model = step.workload.model
    before = {name: p.clone() for name, p in model.named_parameters()}

    def loss() -> float:
        model.eval()
        with torch.no_grad():
            found = F.cross_entropy(model(x), y)
        model.train()
        return float(found)

    first = loss()
    for _ in range(10):
        for rows in torch.randperm(640).split(32):
            step.run(x[rows], y[rows])
    assert loss() < 0.6 * first
    weights = {name: p for name, p in model.named_parameters() if name.endswith("weight")}
    assert not any(torch.equal(p, before[name]) for name, p in weights.items())
    (found,) = measured(technique, step)
    assert isinstance(found, InstanceFilter)
    assert 0 < found.keep < 1
    assert 0 <= found.uncertain <= 1 - found.keep


def everything_high(step: Step, up: float = 50.0) -> Filter:
    """Let the filter predict that all instances have a high loss (or a low one, with `up` below 0)."""
    found = step.workload.model.get_submodule(NAME)
    assert isinstance(found, Filter)
    with torch.no_grad():
        found.net.fc.bias.copy_(torch.tensor([-up, up]))  # type: ignore[union-attr]
    return found


def test_where_everything_is_kept_the_gradients_are_those_of_pytorch(file: Path) -> None:
    x, y = images(16)
    torch.manual_seed(0)
    expected = Net()
    torch.manual_seed(0)
    step = made(f"instance-filter{{keep=1,filter={file}}}", x, y)
    everything_high(step)
    F.cross_entropy(expected(x), y).backward()
    step.backward(x, y)
    found = dict(step.workload.model.named_parameters())
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(found[name].grad, parameter.grad)


def test_the_filter_is_trained_on_weighted_labels_and_the_threshold_follows(file: Path) -> None:
    torch.manual_seed(0)
    x, y = images(16)
    step = made(f"instance-filter{{keep=0.25,uncertain=0,filter={file}}}", x, y)
    found = everything_high(step)
    assert found.weight.tolist() == [0.25, 0.75]  # w_L = 1 / (1 - R) and w_H = 1 / R, normalised
    losses = F.cross_entropy(step.workload.model(x), y, reduction="none")
    for threshold, factor in ((0.0, RAISE), (100.0, LOWER)):  # all are high, none is
        found.threshold.fill_(threshold or 1e-6)
        before = found.threshold.item()
        step.backward(x, y)
        assert found.threshold.item() == pytest.approx(before * factor)
    found.threshold.fill_(losses.median().item())
    step.optimizer.zero_grad()
    expected = F.cross_entropy(found.net(x), (losses >= found.threshold).long(), weight=torch.tensor([0.25, 0.75]))
    gradient = torch.autograd.grad(expected, found.net.fc.weight)[0]
    step.backward(x, y)
    torch.testing.assert_close(found.net.fc.weight.grad, gradient)


def test_two_instances_at_least_are_trained_on(file: Path) -> None:
    x, y = images(16)
    step = made(f"instance-filter{{filter={file}}}", x, y)
    found = everything_high(step, up=-50.0)
    assert step.run(x, y) is not None
    assert (found.kept, found.uncertain, found.presented) == (2, 0, 16)


def test_uncertain_instances_give_the_filter_labels_and_the_network_no_gradient(file: Path) -> None:
    x, y = images(16)
    step = made(f"instance-filter{{filter={file}}}", x, y)
    found = everything_high(step, up=-0.001)  # low by a hair: close to a coin toss for all but a few
    with torch.no_grad():
        found.net.fc.weight.zero_()  # type: ignore[union-attr]
    seen: list[int] = []
    found.net.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    step.run(x, y)
    assert (found.kept, found.uncertain) == (2, 14)
    assert seen == [16, 16]


# Refusals


def refused(text: str, graph: Graph, message: str) -> None:
    with pytest.raises(TrainwattError, match=re.escape(message)) as caught:
        apply(parse(text), graph)
    assert "\n" not in str(caught.value)


def test_what_no_filter_fits_is_refused_with_what_to_do(step: Graph, plain: Graph, tmp_path: Path) -> None:
    refused("instance-filter{keep=0}", step, "instance-filter with keep=0.0; keep is a share above 0 and at most 1")
    refused("instance-filter{uncertain=2}", step, "uncertain is a share from 0 to 1")
    refused(
        "instance-filter",
        step,
        "no packaged filter for inputs 3x8x8; trace one with 'trainwatt trace NETWORK --classes 2 -o FILE' and give "
        "filter=FILE",
    )
    refused("instance-filter{filter=resnet8-cifar-3x32x32}", step, "for inputs 3x32x32; the network's are 3x8x8")
    refused("instance-filter{filter=nowhere.graph}", step, "no graph file 'nowhere.graph'")
    refused("ohem,instance-filter", plain, "instances already go different ways (kept); apply it first")
    path = tmp_path / "ten.graph"
    save(trace("resnet8-cifar", batch=4), path)
    refused(f"instance-filter{{filter={path}}}", plain, f"filter {path} of 10 classes; it has 2, low and high loss")
    save(trace("resnet8-cifar", batch=4, classes=2, rebatches=False), path)
    refused(f"instance-filter{{filter={path}}}", plain, "fixed batch 4")


def test_a_bare_sequence_of_modules_cannot_hold_a_filter(file: Path) -> None:
    x, y = images(4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    workload = Workload(model, lambda n: x[:n], lambda n: y[:n], F.cross_entropy, {"loss": "cross-entropy"})
    with pytest.raises(TrainwattError, match="wrap it in a module of its own"):
        make_step(parse(f"instance-filter{{filter={file}}}"), workload, optimizer_from("sgd", False))


def test_several_inputs_are_refused_by_the_twin(file: Path) -> None:
    x, y = images(4)

    class Two(Net):
        def forward(self, x: torch.Tensor, z: torch.Tensor | None = None) -> torch.Tensor:
            return super().forward(x)

    inputs: Mapping[str, Any] = {"x": x}
    workload = Workload(Two(), lambda n: inputs, lambda n: y[:n], F.cross_entropy, {"loss": "cross-entropy"})
    with pytest.raises(TrainwattError, match="takes a dict; its filter sees a tensor"):
        make_step(parse(f"instance-filter{{filter={file}}}"), workload, optimizer_from("sgd", False))
