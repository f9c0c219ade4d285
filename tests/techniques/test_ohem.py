"""Online hard example mining: the transform against its twin, its gradients, and the published arithmetic."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.memory import replay
from simulator.techniques import apply, parse
from simulator.work import work_of
from tests.techniques.agreement import assert_agree, both, described
from workloads import trace
from workloads.optimizers import optimizer_from
from workloads.techniques import make_step
from workloads.workload import Workload

SMALL = {"input_shape": (3, 64, 64)}


@pytest.mark.parametrize(
    ("text", "network", "options"),
    [
        ("ohem", "resnet8-cifar", {}),
        ("ohem{keep=0.75}", "resnet8-cifar", {}),
        ("ohem{keep=0.4}", "mobilenetv2", SMALL),
        ("ohem{keep=1}", "mobilenetv2", SMALL),
        ("ohem", "vgg11-cifar", {"precision": "bf16"}),
        ("ohem{keep=0.6}", "vgg11-cifar", {}),
        ("ohem{keep=0.4}", "lstm", {"loss": "cross-entropy"}),
        ("ohem{keep=0.4}", "fcn-resnet18", SMALL),
        ("ohem,sparse-update{last=2}", "resnet8-cifar", {}),
        ("sparse-update{last=2},ohem", "resnet8-cifar", {}),
        ("ohem,error-map-prune", "resnet8-cifar", {}),
        ("error-map-prune,ohem", "resnet8-cifar", {}),
    ],
)
def test_the_transform_agrees_with_its_twin(text: str, network: str, options: dict[str, Any]) -> None:
    transformed, ran = both(text, network, batch=6, rebatches=False, **options)
    assert_agree(transformed, ran)
    assert described(transformed) == described(ran)
    assert list(replay(transformed).live_bytes) == list(replay(ran).live_bytes)


@pytest.mark.parametrize("text", ["ohem,smd{p=0.25}", "smd{p=0.25},ohem"])
def test_dropped_mini_batches_are_not_scored_either(text: str) -> None:
    transformed, ran = both(text, "resnet8-cifar", batch=6, rebatches=False)
    assert {op.runs for op in transformed.ops} == {0.75}
    assert described(transformed) == described(ran)


# Costs


def macs(graph: Graph) -> float:
    work = work_of(graph)
    return float(work.total(work.macs))


def forward_share(graph: Graph) -> float:
    work = work_of(graph)
    ahead = sum(work.macs[work.row_of_op[i]] for i, op in enumerate(graph.ops) if op.phase == "forward")
    return float(ahead) / macs(graph)


@pytest.mark.parametrize("keep", [0.1, 0.3])
def test_one_forward_pass_over_all_and_a_backward_on_some_cost_what_wu_et_al_count(keep: float) -> None:
    plain = trace("resnet20-cifar", batch=10)
    f = forward_share(plain)
    once = apply(parse(f"ohem{{keep={keep},forward=once}}"), plain)
    twice = apply(parse(f"ohem{{keep={keep}}}"), plain)
    assert macs(once) / macs(plain) == pytest.approx(f + (1 - f) * keep, rel=1e-12)
    assert macs(twice) / macs(plain) == pytest.approx(f + keep, rel=1e-12)


@pytest.mark.parametrize(
    ("f", "keep", "published"),
    [(0.3284, 0.1, 60.45), (0.3284, 0.3, 47.01), (1 / 3, 0.3, 46.67)],
)
def test_the_published_savings_are_reproduced(f: float, keep: float, published: float) -> None:
    # Wu et al. 2020, OHEM rows: ResNet-110 on CIFAR-10 and -100, ResNet-18 on ImageNet; f is theirs
    assert 100 * (1 - (f + (1 - f) * keep)) == pytest.approx(published, abs=0.05)


def test_a_forward_pass_over_all_saves_all_its_activations() -> None:
    plain = trace("resnet8-cifar", batch=10)
    graph = apply(parse("ohem{keep=0.1,forward=once}"), plain)
    saved = [sum(int(s.size_bytes) for s in g.concrete().storages if s.role == "saved") for g in (plain, graph)]
    assert saved[1] == pytest.approx(saved[0], rel=1e-3)


def test_the_kept_count_follows_the_batch(step: Graph) -> None:
    graph = apply(parse("ohem{keep=0.3}"), step)
    assert [graph.rebatch(batch).sizes["kept"] for batch in (1, 4, 5, 100)] == [1, 1, 2, 30]
    assert graph.worst().sizes == graph.sizes  # the count is certain


# Gradients


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).tanh())


def made(text: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model, x = Net(), torch.randn(10, 6)
    y = x[:, :3].argmax(1)
    workload = Workload(model, lambda n: x[:n], lambda n: y[:n], F.cross_entropy, {"loss": "cross-entropy"})
    step = make_step(parse(text) if text else (), workload, optimizer_from("sgd{lr=0.1}", False))
    return step, x, y


@pytest.mark.parametrize("keep", [0.3, 1.0])
def test_its_gradients_are_those_of_the_largest_losses(keep: float) -> None:
    step, x, y = made(f"ohem{{keep={keep}}}")
    expected = made("")[0].workload.model
    F.cross_entropy(expected(x), y, reduction="none").topk(round(keep * 10)).values.mean().backward()
    step.backward(x, y)
    for a, b in zip(step.workload.model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_training_on_the_hardest_instances_learns() -> None:
    step, x, y = made("ohem{keep=0.5}")
    losses = [float(step.run(x, y)) for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]


# Refusals


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ohem{keep=0}", "ohem with keep=0.0; keep is a share above 0 and at most 1"),
        ("ohem{forward=never}", "ohem with forward=never; it is once or twice"),
        ("ohem,ohem", "ohem on a step whose instances already go different ways (kept); apply it first"),
    ],
)
def test_wrong_use_is_answered_in_one_line(step: Graph, text: str, message: str) -> None:
    with pytest.raises(TrainwattError, match=re.escape(message)):
        apply(parse(text), step)


def test_a_loss_without_instances_is_refused_by_both() -> None:
    def total(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return outputs.sum()

    plain = trace("resnet8-cifar", batch=4, loss=total)
    with pytest.raises(TrainwattError, match="0 losses that exist for single instances"):
        apply(parse("ohem"), plain)
    with pytest.raises(TrainwattError, match="no form for single instances"):
        trace("resnet8-cifar", batch=4, loss=total, techniques=parse("ohem"))


def test_several_micro_batches_are_refused_by_both() -> None:
    with pytest.raises(TrainwattError, match="several micro-batches"):
        apply(parse("ohem"), trace("resnet8-cifar", batch=4, accumulate=2))
    with pytest.raises(TrainwattError, match="several micro-batches"):
        trace("resnet8-cifar", batch=4, accumulate=2, techniques=parse("ohem"))


def test_the_papers_form_has_no_twin() -> None:
    with pytest.raises(TrainwattError, match="no runnable form"):
        trace("resnet8-cifar", batch=4, techniques=parse("ohem{forward=once}"))


def test_a_graph_of_fixed_batch_is_refused() -> None:
    with pytest.raises(TrainwattError, match="fixed batch 4"):
        apply(parse("ohem"), trace("resnet8-cifar", batch=4, rebatches=False))
