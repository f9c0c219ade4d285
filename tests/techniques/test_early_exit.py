"""Early exits: the transform, the runnable twin, and that they are the same step."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.techniques import Technique, apply, parse
from simulator.techniques.early_exit import EarlyExit, exit_paths
from simulator.work import work_of
from tests.techniques.agreement import assert_agree, both, described, sums
from tests.techniques.real import convolution_macs, losses, random_workload, real_step
from workloads import trace
from workloads.catalog import build

SMALL: dict[str, dict[str, Any]] = {
    "resnet8-cifar": {"optimizer": "adam"},
    "mobilenetv2": {"input_shape": (3, 32, 32)},
    "squeezenet1.1": {"input_shape": (3, 64, 64), "optimizer": "sgd"},
    "vgg11-cifar": {"optimizer": "adamw"},
}


@pytest.mark.parametrize("teacher", ["last", "labels"])
@pytest.mark.parametrize("network", SMALL)
def test_the_transform_is_the_trace_of_the_twin(network: str, teacher: str) -> None:
    transformed, ran = both(f"early-exit{{teacher={teacher}}}", network, **SMALL[network])
    assert_agree(transformed, ran)
    assert described(transformed) == described(ran)
    assert sums(transformed).peak_bytes == sums(ran).peak_bytes


def test_exits_are_where_they_are_asked_for() -> None:
    text = "early-exit{exits=inception4b|inception3a.branch2,teacher=labels}"
    transformed, ran = both(text, "googlenet", input_shape=(3, 32, 32))
    assert described(transformed) == described(ran)
    assert {op.layer for op in transformed.ops if op.layer.startswith("exits")} == {"exits.0", "exits.1"}


@pytest.mark.parametrize(
    "text",
    [
        "early-exit,sparse-update{last=2}",
        "sparse-update{last=2},early-exit",
        "early-exit,smd{p=0.25}",
        "smd{p=0.25},early-exit{teacher=labels}",
        "early-exit,low-rank-gradient{rank=1}",
        "low-rank-gradient,early-exit",
        "freeze-bn,early-exit",
    ],
)
def test_it_goes_with_other_techniques(text: str) -> None:
    transformed, ran = both(text, "resnet8-cifar")
    if "smd" in text:  # the trace of a step that runs shows no probabilities
        ran = apply([t for t in parse(text) if t.name == "smd"], ran)
    assert_agree(transformed, ran)


def test_macs_by_hand() -> None:
    plain = trace("resnet8-cifar", batch=4)
    one, two = (apply(parse(f"early-exit{{exits=layer2.0,teacher={t}}}"), plain) for t in ("labels", "last"))
    head = 2 * 4 * 32 * 10  # forward and wgrad of a linear layer of 32 to 10, on 4 samples
    assert work_of(one).total(work_of(one).macs) == convolution_macs(plain, without="layer3") + head
    assert work_of(two).total(work_of(two).macs) == convolution_macs(plain) + 4 * 64 * 10 + head


def test_what_is_saved_is_pooled_features_and_what_the_loss_needs() -> None:
    graph = apply(parse("early-exit{exits=layer2.0,teacher=labels}"), trace("resnet8-cifar", batch=4)).concrete()
    # Features, log-probabilities, labels and the sum of their weights.
    assert {graph.tensors[t].shape for op in graph.ops for t in op.saved} == {(), (4,), (4, 10), (4, 32)}


def test_evenly_chosen_exits_by_hand() -> None:
    layers = ["conv1", "layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "layer3.0.conv1", "features.7"]
    # Five blocks: conv1, layer1.0, layer2.0, layer3.0, features.7; 5/3 and 10/3, rounded up.
    assert exit_paths(EarlyExit(count=2), layers) == ["layer1.0", "layer3.0"]
    assert exit_paths(EarlyExit(count=5), layers)[-1] == "features.7"


def stepped(text: str, optimizer: str = "sgd{momentum=0.9}") -> tuple[Any, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    workload = random_workload(build("resnet8-cifar", classes=10), (3, 16, 16), 10)
    return real_step(text, workload, optimizer), workload.inputs(8), workload.targets(8)


@pytest.mark.parametrize("teacher", ["last", "labels"])
def test_gradients_of_an_exit_are_those_of_its_loss(teacher: str) -> None:
    step, x, y = stepped(f"early-exit{{exits=layer1.0|layer2.0,teacher={teacher}}}")
    model = step.workload.model
    seen: list[torch.Tensor] = []
    handles = [model.layer1[0].register_forward_hook(lambda m, a, out: seen.append(out.detach()))]
    with torch.no_grad():
        final = model(x) if teacher == "last" else None
    for handle in handles:
        handle.remove()
    step.backward(x, y)
    head = model.exits[0]
    if teacher == "labels":
        with torch.no_grad():
            features = model.layer1(F.relu(model.bn1(model.conv1(x))))
        step.workload.logits[:] = [None, None]
    else:
        features = seen[0]
    z = F.linear(features.mean((2, 3)), head.weight, head.bias)
    target = y if final is None else final.softmax(1)
    expected = torch.autograd.grad(F.cross_entropy(z, target), [head.weight, head.bias])
    torch.testing.assert_close([head.weight.grad, head.bias.grad], list(expected))
    assert all(p.grad is None for name, p in model.named_parameters() if not name.startswith("exits."))


def test_the_network_itself_stays_as_it_is() -> None:
    step, x, y = stepped("early-exit{count=2}")
    before = {name: t.clone() for name, t in step.workload.model.state_dict().items()}
    step.run(x, y)
    after = step.workload.model.state_dict()
    assert {name.split(".")[0] for name, t in before.items() if not torch.equal(t, after[name])} == {"exits"}


def test_it_learns_labels() -> None:
    step, *_ = stepped("early-exit{teacher=labels,count=2}", "sgd{momentum=0.9,lr=0.1}")
    found = losses(step, 20)
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.8 * found[0]


def test_it_learns_what_the_last_exit_says() -> None:
    step, x, _ = stepped("early-exit", "sgd{momentum=0.9,lr=0.1}")
    with torch.no_grad():
        final = step.workload.forward(x)[-1]
    least = 3 * float(-(final.softmax(1) * final.log_softmax(1)).sum(1).mean())  # three exits' entropy of the teacher
    found = losses(step, 20)
    assert least < found[-1]
    assert found[-1] - least < 0.2 * (found[0] - least)


def test_labels_end_forward_at_the_deepest_exit() -> None:
    step, x, _ = stepped("early-exit{exits=layer2.0|layer1.0,teacher=labels}")
    ran: list[str] = []
    step.workload.model.layer3.register_forward_pre_hook(lambda m, a: ran.append("layer3"))
    outputs = step.workload.forward(x)
    assert [tuple(z.shape) for z in outputs] == [(8, 10), (8, 10)]
    assert not ran
    assert step.workload.predict(x).shape == (8, 10)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("early-exit{exits=layer9}", {}, "no module 'layer9'"),
    ("early-exit{exits=layer1.0.relu}", {}, "module 'layer1.0.relu' runs more than once"),
    ("early-exit{exits=fc}", {}, "module 'fc' puts out no maps (N, C, H, W)"),
    ("early-exit{count=5}", {}, "count=5 of 4 blocks; give 1 to 4"),
    ("early-exit", {"accumulate": 2}, "it must be one cross-entropy of logits (N, K) and labels (N)"),
    ("early-exit", {"precision": "bf16"}, "early-exit on a step in bf16; trace it in fp32"),
    ("early-exit", {"foreach": True}, "many parameters in one op"),
    ("early-exit,early-exit", {}, "it must be one cross-entropy"),
]


@pytest.mark.parametrize(("text", "options", "message"), REFUSED)
def test_where_it_does_not_apply_it_says_why(text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainwattError, match=re.escape(message)):
        apply(parse(text), trace("resnet8-cifar", batch=4, **options))


@pytest.mark.parametrize(
    "text", ["early-exit{exits=layer9}", "early-exit{exits=layer1.0.relu}", "early-exit{exits=fc}"]
)
def test_the_twin_refuses_the_same_modules(text: str) -> None:
    with pytest.raises(TrainwattError):
        stepped(text)


def test_exits_are_different_modules() -> None:
    with pytest.raises(TrainwattError, match="exits is a list of different modules"):
        EarlyExit(exits=("a", "a"))


def test_it_leaves_the_graph_it_is_given_alone() -> None:
    graph = trace("resnet8-cifar", batch=4)
    copy = Graph(graph.ops, graph.tensors, graph.storages, graph.sizes, graph.meta, graph.smallest_batch, graph.other)
    technique: Technique = EarlyExit()
    apply((technique,), graph)
    assert graph == copy


def test_it_commutes_with_rebatching() -> None:
    graph = trace("resnet8-cifar", batch=4)
    assert apply(parse("early-exit{count=2}"), graph).rebatch(9) == apply(
        parse("early-exit{count=2}"), graph.rebatch(9)
    )
    assert apply(parse("early-exit{count=2}"), graph).rebatch(1) == apply(
        parse("early-exit{count=2}"), graph.rebatch(1)
    )
