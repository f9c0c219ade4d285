"""Partial domain adaptation: the transform, the runnable twin, and that they are the same step."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.techniques import apply, parse
from simulator.work import work_of
from tests.techniques.agreement import assert_agree, both, described, sums
from tests.techniques.real import convolution_macs, losses, random_workload, real_step
from workloads import trace
from workloads.catalog import build

SETTINGS: list[tuple[str, str, dict[str, Any]]] = [
    ("partial-domain-adaptation{classes=4}", "resnet8-cifar", {}),
    ("partial-domain-adaptation{classes=4,last=3}", "resnet8-cifar", {"optimizer": "adam"}),
    ("partial-domain-adaptation", "mobilenetv2", {"input_shape": (3, 32, 32)}),
    ("partial-domain-adaptation{classes=7,last=5}", "mobilenetv2", {"input_shape": (3, 32, 32)}),
    ("partial-domain-adaptation", "squeezenet1.1", {"input_shape": (3, 64, 64)}),
    ("partial-domain-adaptation{last=4}", "squeezenet1.1", {"input_shape": (3, 64, 64), "optimizer": "adamw"}),
    ("partial-domain-adaptation{classes=2,last=2}", "vgg11-cifar", {}),
]


@pytest.mark.parametrize(("text", "network", "options"), SETTINGS)
def test_the_transform_is_the_trace_of_the_twin(text: str, network: str, options: dict[str, Any]) -> None:
    transformed, ran = both(text, network, **options)
    assert_agree(transformed, ran)
    assert described(transformed) == described(ran)
    assert sums(transformed).peak_bytes == sums(ran).peak_bytes


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("partial-domain-adaptation{classes=5,last=3},sparse-update{last=2}", "resnet8-cifar"),
        ("sparse-update{last=4},partial-domain-adaptation{classes=5,last=3}", "resnet8-cifar"),
        ("smd{p=0.25},partial-domain-adaptation{classes=5}", "resnet8-cifar"),
        ("partial-domain-adaptation{classes=5},smd{p=0.25}", "resnet8-cifar"),
        ("partial-domain-adaptation{classes=5,last=2},low-rank-gradient", "resnet8-cifar"),
        ("partial-domain-adaptation{classes=5},early-exit", "resnet8-cifar"),
        ("structured-prune,partial-domain-adaptation{classes=50,last=2}", "mobilenetv2"),
        ("partial-domain-adaptation{classes=50,last=2},structured-prune", "mobilenetv2"),
    ],
)
def test_it_goes_with_other_techniques(text: str, network: str) -> None:
    if "structured-prune" in text:
        pytest.importorskip("torch_pruning")
    transformed, ran = both(text, network, input_shape=(3, 32, 32))
    if "smd" in text:  # the trace of a step that runs shows no probabilities
        ran = apply([t for t in parse(text) if t.name == "smd"], ran)
    assert_agree(transformed, ran)


def test_macs_by_hand() -> None:
    plain = trace("resnet8-cifar", batch=4)
    graph = apply(parse("partial-domain-adaptation{classes=3}"), plain)
    head = 2 * 4 * 64 * 3  # forward and wgrad of a linear layer of 64 to 3, on 4 samples
    assert work_of(graph).total(work_of(graph).macs) == convolution_macs(plain) + head


def test_all_classes_and_all_layers_are_the_plain_step() -> None:
    plain = trace("resnet8-cifar", batch=4)
    graph = apply(parse("partial-domain-adaptation{classes=10,last=8}"), plain)
    assert described(graph) == described(plain)
    assert sums(graph) == sums(plain)


def head_of(model: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    layer = model.get_submodule("fc")
    assert isinstance(layer, nn.Linear)
    return layer.weight, layer.bias


def test_gradients_are_those_of_the_kept_classes() -> None:
    torch.manual_seed(0)
    model = build("resnet8-cifar", classes=10)
    weight, bias = (p.detach().clone() for p in head_of(model))
    step = real_step("partial-domain-adaptation{classes=4}", random_workload(model, (3, 16, 16), 4))
    x, y = step.workload.inputs(8), step.workload.targets(8)
    seen: list[torch.Tensor] = []
    model.get_submodule("fc").register_forward_hook(lambda m, args, out: seen.append(args[0].detach()))
    step.backward(x, y)
    weight, bias = weight[:4].requires_grad_(), bias[:4].requires_grad_()
    expected = torch.autograd.grad(F.cross_entropy(F.linear(seen[0], weight, bias), y), [weight, bias])
    torch.testing.assert_close([p.grad for p in head_of(model)], list(expected))


def test_what_is_below_the_last_layers_stays_as_it_is() -> None:
    torch.manual_seed(0)
    workload = random_workload(build("resnet8-cifar", classes=10), (3, 16, 16), 4)
    step = real_step("partial-domain-adaptation{classes=4,last=2}", workload)
    before = {name: t.clone() for name, t in step.workload.model.state_dict().items()}
    step.run(step.workload.inputs(8), step.workload.targets(8))
    after = step.workload.model.state_dict()
    changed = {name.rpartition(".")[0] for name, t in before.items() if not torch.equal(t, after[name])}
    assert changed == {"layer3.0.conv2", "layer3.0.bn2", "fc"}


def test_it_learns() -> None:
    torch.manual_seed(0)
    workload = random_workload(build("resnet8-cifar", classes=10), (3, 16, 16), 4)
    found = losses(real_step("partial-domain-adaptation{classes=4,last=3}", workload, "sgd{lr=0.05,momentum=0.9}"), 20)
    assert found[-1] < 0.5 * found[0]


REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    (
        "partial-domain-adaptation{classes=11}",
        "resnet8-cifar",
        {},
        "classes=11 of a network that tells 10; give 1 to 10",
    ),
    ("partial-domain-adaptation{last=11}", "resnet8-cifar", {}, "last=11 of 8 weight layers; give 1 to 8"),
    ("partial-domain-adaptation", "resnet8-cifar", {"foreach": True}, "many parameters in one op"),
    ("partial-domain-adaptation", "resnet8-cifar", {"accumulate": 2}, "it must be one cross-entropy"),
    ("low-rank-gradient,partial-domain-adaptation{classes=4}", "resnet8-cifar", {}, "does not train the classifier fc"),
]


@pytest.mark.parametrize(("text", "network", "options", "message"), REFUSED)
def test_where_it_does_not_apply_it_says_why(text: str, network: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainwattError, match=re.escape(message)):
        apply(parse(text), trace(network, batch=4, **options))


def test_the_twin_refuses_classes_that_are_not_there() -> None:
    with pytest.raises(TrainwattError, match="classes=11 of a network that tells 10"):
        real_step(
            "partial-domain-adaptation{classes=11}", random_workload(build("resnet8-cifar", classes=10), (3, 16, 16), 4)
        )


def test_it_leaves_the_graph_it_is_given_alone() -> None:
    graph = trace("resnet8-cifar", batch=4)
    copy = Graph(graph.ops, graph.tensors, graph.storages, graph.sizes, graph.meta, graph.smallest_batch, graph.other)
    apply(parse("partial-domain-adaptation{classes=2}"), graph)
    assert graph == copy


def test_it_commutes_with_rebatching() -> None:
    graph = trace("resnet8-cifar", batch=4)
    assert apply(parse("partial-domain-adaptation{classes=3,last=2}"), graph).rebatch(9) == apply(
        parse("partial-domain-adaptation{classes=3,last=2}"), graph.rebatch(9)
    )
    assert apply(parse("partial-domain-adaptation{classes=3,last=2}"), graph).rebatch(1) == apply(
        parse("partial-domain-adaptation{classes=3,last=2}"), graph.rebatch(1)
    )
