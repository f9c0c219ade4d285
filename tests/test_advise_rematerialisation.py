"""Plans of recomputation: the solver's memory is the replay's, and no plan within the budget is cheaper."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest
from torch import nn

from analysis.advise.remat_effects import Effects, effects
from analysis.advise.rematerialisation import cheapest, smallest
from hwmodels.device import device
from simulator.estimate import estimate
from simulator.graph import Graph
from simulator.memory import replay
from simulator.techniques import apply, parse
from simulator.techniques.recompute import Recompute
from tests.techniques.real import random_workload
from workloads import trace

CPU = device("raspberry-pi-4b")


def chain(widths: tuple[int, ...]) -> nn.Module:
    """Return a chain of blocks of convolution, norm and activation."""
    blocks = [
        nn.Sequential(nn.Conv2d(c, k, 3, padding=1), nn.BatchNorm2d(k), nn.ReLU(), nn.Conv2d(k, k, 1), nn.Tanh())
        for c, k in itertools.pairwise((3, *widths))
    ]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(widths[-1] * 64, 5))


@pytest.fixture(scope="module")
def chained() -> Graph:
    return trace(random_workload(chain((6, 2, 9, 4)), (3, 8, 8), 5), batch=4)


@pytest.fixture(scope="module")
def deep() -> Graph:
    return trace("resnet20-cifar", batch=4)


def plans(made: Effects) -> Iterator[tuple[int, ...]]:
    """Yield every set of options that hold no block twice."""

    def longer(chosen: tuple[int, ...], taken: frozenset[int]) -> Iterator[tuple[int, ...]]:
        yield chosen
        for k in range(chosen[-1] + 1 if chosen else 0, len(made.options)):
            blocks = frozenset(made.options[k].blocks)
            if not taken & blocks:
                yield from longer((*chosen, k), taken | blocks)

    return longer((), frozenset())


def drawn(made: Effects, count: int) -> Iterator[tuple[int, ...]]:
    """Yield some plans by chance."""
    chance = random.Random(0)
    for _ in range(count):
        chosen: tuple[int, ...] = ()
        for k in chance.sample(range(len(made.options)), len(made.options)):
            taken = {block for other in chosen for block in made.options[other].blocks}
            if not taken & set(made.options[k].blocks) and chance.random() < 0.5:
                chosen = (*chosen, k)
        yield chosen


def technique(made: Effects, chosen: tuple[int, ...]) -> Recompute:
    return Recompute(blocks=tuple(made.options[k].text for k in chosen))


def test_options_are_the_runs_of_blocks_of_one_container(deep: Graph) -> None:
    texts = {option.text for option in effects(deep, CPU).options}
    inside = ("0", "1", "2", "0-1", "1-2", "0-2")
    assert texts == {f"layer{container}.{run}" for container in (1, 2, 3) for run in inside}


def test_the_solvers_memory_is_that_of_the_replay_for_every_plan(chained: Graph) -> None:
    made = effects(chained, CPU)
    count = 0
    for chosen in plans(made):
        graph = technique(made, chosen).rewrite(chained) if chosen else chained
        assert made.peak_bytes(chosen) == replay(graph).peak_bytes
        count += 1
    assert count >= 80  # sets of disjoint runs of five blocks: 89, less those with a run that saves nothing


@pytest.mark.parametrize(
    ("network", "text", "name"),
    [
        ("resnet20-cifar", "", "raspberry-pi-4b"),
        ("resnet20-cifar", "", "x86-avx2"),  # kernels allocate inside ops there
        ("resnet20-cifar", "accumulate{steps=2}", "raspberry-pi-4b"),
        ("resnet20-cifar", "sparse-update{last=9}", "raspberry-pi-4b"),
        ("vgg11-cifar", "", "jetson-nano"),
    ],
)
def test_the_solvers_memory_is_that_of_the_estimate(network: str, text: str, name: str) -> None:
    model = device(name)
    graph = trace(network, batch=4)
    graph = apply(parse(text), graph) if text else graph
    made = effects(graph, model)
    for chosen in drawn(made, 6):
        report = estimate(apply((technique(made, chosen),), graph) if chosen else graph, model)
        assert made.peak_bytes(chosen) == report.memory.peak_bytes


def test_where_blocks_do_not_keep_what_enters_them_the_solvers_memory_is_a_lower_bound() -> None:
    graph = apply(parse("gradient-filter{patch=2}"), trace("resnet20-cifar", batch=4))
    made = effects(graph, CPU)
    pairs = [
        (made.peak_bytes(chosen), replay(technique(made, chosen).rewrite(graph)).peak_bytes)
        for chosen in drawn(made, 10)
        if chosen
    ]
    assert all(bound <= peak for bound, peak in pairs)
    assert any(bound < peak for bound, peak in pairs)


@pytest.mark.parametrize("extra", ["time", "energy"])
@pytest.mark.parametrize("network", ["chained", "deep"])
def test_no_plan_within_the_budget_is_cheaper_than_the_solvers(
    network: str, extra: str, request: pytest.FixtureRequest
) -> None:
    graph: Graph = request.getfixturevalue(network)
    made = effects(graph, CPU)
    costs = [option.extra_s if extra == "time" else option.extra_j for option in made.options]
    every = [(made.peak_bytes(chosen), sum(costs[k] for k in chosen)) for chosen in plans(made)]
    least, most = min(peak for peak, _ in every), made.peak_bytes(())
    budgets = [least + share * (most - least) for share in (0, 0.1, 0.25, 0.5, 0.75, 0.99, 1)]
    for budget in budgets:
        plan = cheapest(made, budget, extra)  # type: ignore[arg-type]
        assert plan is not None
        assert plan.gap == 0
        assert plan.peak_bytes <= budget
        best = min(cost for peak, cost in every if peak <= budget)
        assert sum(costs[k] for k in plan.chosen) == pytest.approx(best, rel=1e-9)
    assert smallest(made).peak_bytes == least
    assert cheapest(made, least - 1) is None


def test_the_extra_time_is_that_of_the_rewritten_step(deep: Graph) -> None:
    made = effects(deep, CPU)
    plan = smallest(made)
    assert plan.technique is not None
    more = estimate(plan.technique.rewrite(deep), CPU).total.latency_s - estimate(deep, CPU).total.latency_s
    assert plan.extra_s == pytest.approx(more, rel=1e-9)


def test_plans_are_never_worse_than_equal_segments(deep: Graph) -> None:
    made = effects(deep, CPU)
    before = estimate(deep, CPU).total.latency_s
    for segments in range(2, 10):
        report = estimate(Recompute(segments=segments).rewrite(deep), CPU)
        plan = cheapest(made, report.memory.peak_bytes)
        assert plan is not None
        assert plan.extra_s <= (report.total.latency_s - before) * (1 + 1e-9)


def test_a_network_without_numbered_blocks_has_no_plan_but_the_plain_step() -> None:
    graph = trace("lstm", batch=2)
    made = effects(graph, CPU)
    assert made.options == ()
    assert smallest(made).technique is None
    peak = replay(graph).peak_bytes
    plain = cheapest(made, peak)
    assert plain is not None
    assert plain.technique is None
    assert cheapest(made, peak - 1) is None
