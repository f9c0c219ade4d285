"""What is left to chance: by hand, against every case that can occur, and against simulated runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.estimate import estimate
from simulator.extent import Extent, symbol
from simulator.graph import Graph, Layout, Op, Share, Storage, Tensor
from simulator.memory import replay
from simulator.report import to_json
from simulator.spread import Distribution, drawn, over, stochastic
from simulator.techniques import apply, parse
from simulator.work import work_of


def filtered(batch: int, share: float = 0.5, runs: float = 1.0) -> Graph:
    """Three ReLUs over 1000 numbers an instance: of the whole batch, of the instances kept, and of those kept again.

    The first has `runs`. By the flat device (1 GB/s against 1 GFLOP/s) each takes 8 us an instance.
    """
    sizes: list[Extent] = [symbol("batch"), symbol("kept"), symbol("deep")]
    tensors = tuple(Tensor(Layout((n, 1000), (1000, 1), "float32"), i // 2) for i, n in enumerate(sizes * 2))
    tensors = tuple(replace(t, storage=i) for i, t in enumerate(tensors))
    storages = [Storage(n * 4000, "input", -1, None) for n in sizes]
    storages += [Storage(n * 4000, "activation", i, i) for i, n in enumerate(sizes)]
    ops = tuple(
        Op("aten::relu", "relu", "forward", f"relu{i}", (i,), (i + 3,), runs=runs if i == 0 else 1.0) for i in range(3)
    )
    shares = {"kept": Share("batch", share, varies=True), "deep": Share("kept", share, varies=True)}
    return Graph(ops, tensors, tuple(storages), {"batch": batch}, shares=shares)


def binomial(n: int, p: float) -> Iterator[tuple[int, float]]:
    """Every count with its chance; none at all counts as one, as in `Share`."""
    for k in range(n + 1):
        yield max(k, 1), comb(n, k) * p**k * (1 - p) ** (n - k)


def every_case(graph: Graph, device: Any) -> Distribution:
    """The latency of every combination of counts and of running or not, each priced as a graph of its own."""
    batch, share, runs = graph.batch, graph.shares["kept"].share, graph.ops[0].runs
    cases = []
    for executed, chance in ((1, runs), (0, 1 - runs)):
        for kept, p in binomial(batch, share):
            for deep, q in binomial(kept, share):
                fixed = replace(graph, sizes={"batch": batch, "kept": kept, "deep": deep})
                fixed = replace(fixed, ops=(replace(fixed.ops[0], runs=float(executed)), *fixed.ops[1:]))
                cases.append((estimate(fixed, device).total.latency_s, chance * p * q))
    values, weights = np.array(sorted(cases)).T
    return Distribution(values, weights)


# Whether ops run


def test_a_mini_batch_dropped_half_of_the_time_costs_nothing_or_all(step: Graph, flat: Any) -> None:
    whole = estimate(step, flat).total
    report = estimate(apply(parse("smd{p=0.5}"), step), flat)
    assert report.step_cost.latency_s.values.tolist() == pytest.approx([0, whole.latency_s])
    assert report.step_cost.energy_j.weights.tolist() == pytest.approx([0.5, 0.5])
    assert report.executed.latency_s == pytest.approx(whole.latency_s)
    assert report.total.latency_s == pytest.approx(whole.latency_s / 2)


@given(st.integers(2, 10**6), st.floats(0.05, 0.95))
def test_a_run_of_dropped_mini_batches_has_the_moments_of_a_binomial(
    make_step: Callable[[int], Graph], flat: Any, steps: int, p: float
) -> None:
    # n steps of which each costs c with probability 1 - p: n*c*(1-p) and c*sqrt(n*p*(1-p)); at p = 1/2 c*sqrt(n)/2
    cost = estimate(make_step(4), flat).total.latency_s
    report = estimate(apply(parse(f"smd{{p={p}}}"), make_step(4)), flat)
    run = over([(report.step_cost.latency_s, steps)])
    assert run.mean == pytest.approx(steps * cost * (1 - p))
    assert run.sd == pytest.approx(cost * (steps * p * (1 - p)) ** 0.5)


def test_one_draw_decides_for_all_ops_so_that_a_rarer_op_runs_only_where_a_more_frequent_one_does(
    step: Graph, flat: Any
) -> None:
    often, seldom = 0.75, 0.25
    ops = tuple(replace(op, runs=seldom if op.phase == "optimizer" else often) for op in step.ops)
    parts = estimate(step, flat).phases
    whole, optimizer = (sum(parts[p].latency_s for p in ps) for ps in (parts, ["optimizer"]))
    cost = estimate(replace(step, ops=ops), flat).step_cost.latency_s
    assert cost.values.tolist() == pytest.approx([0, whole - optimizer, whole])
    assert cost.weights.tolist() == pytest.approx([0.25, 0.5, 0.25])


@given(st.lists(st.floats(0, 3), min_size=30, max_size=30))
def test_the_mean_is_the_expected_cost_whatever_the_runs(
    make_step: Callable[[int], Graph], flat: Any, runs: list[float]
) -> None:
    step = make_step(4)
    graph = replace(step, ops=tuple(replace(op, runs=r) for op, r in zip(step.ops, runs, strict=True)))
    report = estimate(graph, flat)
    assert report.step_cost.latency_s.mean == pytest.approx(report.total.latency_s, abs=1e-14)
    assert report.step_cost.latency_s.values[-1] <= report.executed.latency_s * (1 + 1e-9)


def test_a_tenth_thrice_is_three_tenths_and_what_is_certain_up_to_rounding_is_certain(step: Graph, flat: Any) -> None:
    graph = replace(step, ops=tuple(replace(op, runs=0.1 * 3 / 0.3) for op in step.ops))
    assert not stochastic(graph)
    assert estimate(graph, flat).executed.macs == estimate(step, flat).total.macs


# How many instances go some way


@pytest.mark.parametrize(("batch", "share", "runs"), list(product((2, 8), (0.3, 0.5, 1.0), (1.0, 0.4))))
def test_drawn_counts_agree_with_every_case_that_can_occur(flat: Any, batch: int, share: float, runs: float) -> None:
    graph = filtered(batch, share, runs)
    found, exact = estimate(graph, flat).step_cost.latency_s, every_case(graph, flat)
    assert sum(exact.weights) == pytest.approx(1)
    assert found.mean == pytest.approx(exact.mean, rel=0.01)
    assert found.variance**0.5 == pytest.approx(exact.variance**0.5, rel=0.05, abs=1e-12)
    for p in (0.05, 0.5, 0.95):  # costs are multiples of 8 us: within one instance
        assert found.quantile(p) == pytest.approx(exact.quantile(p), abs=8.1e-6)


def test_kinks_of_the_device_are_priced_where_they_are(flat: Any) -> None:
    class Waves(type(flat)):  # type: ignore[misc]
        """Runs whole waves of four instances."""

        def price(self, work: Any) -> Any:
            cost = super().price(work)
            return replace(cost, latency_s=np.ceil(cost.latency_s / 32e-6) * 32e-6)

    graph = filtered(8, 0.3)
    found, exact = estimate(graph, Waves()).step_cost.latency_s, every_case(graph, Waves())
    assert found.mean == pytest.approx(exact.mean, rel=0.02)
    # the price of the expected counts (2 kept, 1 again: 64 + 32 + 32 us) is not the expected price
    assert estimate(graph, Waves()).total.latency_s < 0.99 * exact.mean


@given(st.integers(2, 300), st.floats(0.01, 1))
def test_counts_keep_to_their_distribution(batch: int, share: float) -> None:
    sizes, weights = drawn(filtered(batch, share))
    kept, deep = sizes["kept"], sizes["deep"]
    assert weights.sum() == pytest.approx(1)
    assert ((kept >= 1) & (deep >= 1) & (deep <= kept) & (kept <= batch)).all()
    exact = sum(k * p for k, p in binomial(batch, share))
    assert weights @ kept == pytest.approx(exact, abs=0.02 * batch**0.5)


def test_the_same_graph_has_the_same_spread_every_time(flat: Any) -> None:
    first, second = (to_json(estimate(filtered(16), flat)) for _ in range(2))
    assert first == second


def test_a_fixed_share_of_a_count_that_varies_follows_it() -> None:
    graph = replace(filtered(8), shares={"kept": Share("batch", 0.5, True), "deep": Share("kept", 0.5)})
    sizes, _ = drawn(graph)
    assert (sizes["deep"] == Share("kept", 0.5).size(sizes["kept"])).all()


def test_the_peak_is_that_of_the_worst_mini_batch(flat: Any) -> None:
    # three inputs and the result of one op, all of the whole batch: 4 * 8 instances * 4000 bytes
    report = estimate(filtered(8, 0.3), flat)
    assert report.memory.peak_bytes == 4 * 8 * 4000
    assert replay(filtered(8, 0.3)).peak_bytes < report.memory.peak_bytes


def test_the_peak_includes_the_workspace_of_the_worst_mini_batch(flat: Any) -> None:
    class Buffered(type(flat)):  # type: ignore[misc]
        """Takes as much workspace as there are instances."""

        def workspace_bytes(self, graph: Graph) -> Any:
            return np.array([graph.sizes["batch"], graph.sizes["kept"], graph.sizes["deep"]])

    assert estimate(filtered(8, 0.3), Buffered()).memory.workspace_bytes == 8


def test_work_at_many_sizes_is_the_work_at_each(flat: Any) -> None:
    graph, kept, deep = filtered(8), np.array([1, 5, 8]), np.array([1, 2, 8])
    many = work_of(graph, at={"kept": kept, "deep": deep})
    for point in range(3):
        sizes = {"batch": 8, "kept": int(kept[point]), "deep": int(deep[point])}
        assert many.read_bytes[:, point].tolist() == work_of(replace(graph, sizes=sizes)).read_bytes.tolist()


# Runs


@pytest.mark.parametrize("steps", [30, 300])
def test_a_simulated_run_has_the_spread_that_is_told(flat: Any, steps: int) -> None:
    graph = filtered(8, 0.3, runs=0.4)
    told = over([(estimate(graph, flat).step_cost.latency_s, steps)])
    random = np.random.default_rng(1)
    kept = np.maximum(1, random.binomial(8, 0.3, (4000, steps)))
    deep = np.maximum(1, random.binomial(kept, 0.3))
    run = (8e-6 * (8 * (random.random((4000, steps)) < 0.4) + kept + deep)).sum(axis=1)
    assert told.mean == pytest.approx(run.mean(), rel=0.01)
    assert told.sd == pytest.approx(run.std(), rel=0.05)
    for quantile, p in ((told.q05, 0.05), (told.q50, 0.5), (told.q95, 0.95)):
        assert quantile == pytest.approx(np.quantile(run, p), abs=0.15 * told.sd)


def test_phases_of_a_run_add_their_means_and_variances() -> None:
    a, b = Distribution(np.array([0.0, 2.0]), np.array([0.5, 0.5])), Distribution(np.array([3.0]), np.array([1.0]))
    run = over([(a, 100), (b, 10)])
    assert (run.mean, run.sd) == (130, 10)
    assert run.q95 == pytest.approx(130 + 1.645 * 10, abs=0.01)


def test_no_quantile_is_beyond_what_can_occur() -> None:
    seldom = Distribution(np.array([0.0, 1.0]), np.array([0.99, 0.01]))
    assert over([(seldom, 3)]).q05 == 0


def test_a_single_mini_batch_has_its_own_quantiles() -> None:
    uneven = Distribution(np.array([0.0, 1.0]), np.array([0.9, 0.1]))
    one = over([(uneven, 1)])
    assert (one.q05, one.q50, one.q95) == (0, 0, 1)


# What is reported


def test_a_step_without_chance_reports_none(step: Graph, flat: Any) -> None:
    report = estimate(step, flat)
    assert not report.stochastic
    assert to_json(report)["results"][0]["spread"] is None
    assert over([(report.step_cost.energy_j, 7)]).sd == 0


def test_the_document_tells_the_executed_mini_batch_and_the_quantiles(step: Graph, flat: Any) -> None:
    report = estimate(apply(parse("smd{p=0.75}"), step), flat)
    spread = json.loads(json.dumps(to_json(report), allow_nan=False))["results"][0]["spread"]
    assert spread["executed"]["macs"] == 4 * report.total.macs
    assert spread["latency_s"]["mean"] == pytest.approx(report.total.latency_s)
    assert (spread["latency_s"]["q50"], spread["latency_s"]["q95"]) == (0, pytest.approx(4 * report.total.latency_s))


def test_a_device_of_unknown_energy_has_unknown_spread_of_it(step: Graph, flat: Any) -> None:
    class Unknown(type(flat)):  # type: ignore[misc]
        """Does not know its power."""

        def price(self, work: Any) -> Any:
            cost = super().price(work)
            return replace(cost, energy_j=np.full_like(cost.energy_j, np.nan))

    spread = to_json(estimate(apply(parse("smd"), step), Unknown()))["results"][0]["spread"]
    assert spread["energy_j"] == {"mean": None, "sd": None, "q05": None, "q50": None, "q95": None}
