"""Fits to measurements that a known device made: what was put in must come out."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from analysis.calibration.choice import folds_of, parts_of
from analysis.calibration.energies import energy_on, fit_energies
from analysis.calibration.evidence import TYPICAL, Linear, spreads
from analysis.calibration.fit import Terms, fit, seconds_on
from analysis.calibration.intervals import covered, interval_of
from analysis.calibration.measured import Measured
from analysis.calibration.numbers import fit_numbers
from analysis.calibration.observed import observe
from analysis.calibration.parameters import parameters_of
from analysis.calibration.writing import Calibrated
from analysis.explore.pricing import price
from analysis.explore.rows import PricedRows
from hwmodels.corrected.correction import Correction
from hwmodels.corrected.features import SHAPE
from hwmodels.corrected.model import Corrected
from hwmodels.device import device
from simulator.cost import HardwareModel
from simulator.errors import TrainwattError
from simulator.estimate import estimate, work_in_step
from simulator.graph import Graph
from simulator.work import Work, work_of
from workloads import trace

NETWORKS = ("resnet8-cifar", "lenet5", "mcunet-like")


@cache
def graph(network: str) -> Graph:
    return trace(network, batch=8)


def ops_of(network: str) -> list[Work]:
    """Every distinct op of a network on its own."""
    work = work_of(graph(network))
    rows = [row for row in range(len(work.kernel)) if work.launches[row]]
    return [replace(work, row_of_op=np.array([row]), runs=np.ones(1)) for row in rows]


def measured_ops(true: HardwareModel, networks: tuple[str, ...] = NETWORKS, noise: float = 0.0) -> list[Measured]:
    random = np.random.default_rng(1)
    found = []
    for network in networks:
        for i, work in enumerate(ops_of(network)):
            time = float(true.price(work).latency_s[work.row_of_op[0]]) * np.exp(noise * random.standard_normal())
            found.append(Measured(work, np.array(time), "ops", f"{network}{i}"))
    return found


def measured_steps(true: HardwareModel, networks: tuple[str, ...] = NETWORKS) -> list[Measured]:
    found = []
    for network in networks:
        work = work_of(graph(network), batches=[4, 8, 16])
        blank = Measured(work, np.ones(3), network)
        found.append(replace(blank, seconds=seconds_on(true, blank)))
    return found


def error(model: HardwareModel, measured: list[Measured]) -> float:
    seen = observe(measured)
    return float(np.abs(seconds_on(model, seen) / seen.seconds - 1).mean())


def with_factors(name: str, **factors: float) -> Corrected:
    logs = {kernel.replace("_", "."): float(np.log(factor)) for kernel, factor in factors.items()}
    return Corrected(device(name), Correction({"": logs.pop("all", 0.0), **logs}), "made up")


def test_a_device_that_is_right_already_is_left_as_it_is() -> None:
    base = device("raspberry-pi-4b")
    found = fit(base, measured_ops(base), terms=Terms(numbers=False))
    assert error(found.model, measured_ops(base)) < 1e-3
    assert all(abs(g) < 0.01 for g in found.correction.factors.values())


def test_factors_by_class_that_a_board_has_are_found_and_hold_on_networks_never_seen() -> None:
    true = with_factors("raspberry-pi-4b", all=1.5, convolution=1.4, norm=0.5, elementwise=2.0)
    found = fit(device("raspberry-pi-4b"), measured_ops(true, noise=0.03), terms=Terms(numbers=False))
    unseen = measured_steps(true, ("resnet20-cifar",))
    assert error(device("raspberry-pi-4b"), unseen) > 0.3
    assert error(found.model, unseen) < 0.05


def test_five_steps_are_enough_for_what_all_ops_have_in_common() -> None:
    true = with_factors("jetson-tx2", all=2.5)
    steps = measured_steps(true, ("resnet8-cifar", "lenet5"))
    found = fit(device("jetson-tx2"), steps[:2], terms=Terms(numbers=False))
    assert error(device("jetson-tx2"), measured_steps(true, ("mcunet-like",))) > 0.3
    assert error(found.model, measured_steps(true, ("mcunet-like",))) < 0.1


def test_one_wild_measurement_moves_the_others_little() -> None:
    true = with_factors("raspberry-pi-4b", all=1.5)
    measured = measured_ops(true, noise=0.02)
    place = next(i for i, one in enumerate(measured) if one.work.kernel[one.work.row_of_op[0]] == 1)
    wild = [*measured]
    wild[place] = replace(wild[place], seconds=wild[place].seconds * 20)
    calm = [one for i, one in enumerate(measured) if i != place]
    assert error(fit(device("raspberry-pi-4b"), wild, terms=Terms(False)).model, calm) < 0.04


def test_numbers_of_the_file_that_are_off_are_found_within_their_bounds() -> None:
    parameters = parameters_of("raspberry-pi-4b")
    place = parameters.paths.index("launch.time")
    values = parameters.start.copy()
    values[place] *= 3
    measured = measured_ops(parameters.device(values))
    found = fit_numbers(parameters, observe(measured))
    # What all points have in common is left to a factor, which takes a part of it here.
    assert 2 < found.values["launch.time"] / parameters.start[place] < 3.3
    assert error(parameters.base, measured) > 0.4
    assert error(fit(parameters, measured, terms=Terms()).model, measured) < 0.05
    for path, value in found.values.items():
        i = parameters.paths.index(path)
        assert parameters.least[i] * (1 - 1e-9) <= value <= parameters.largest[i] * (1 + 1e-9)


@pytest.mark.parametrize("name", ["raspberry-pi-4b", "jetson-tx2", "zcu102"])
def test_only_what_was_assumed_or_fitted_is_free_and_every_free_number_can_move(name: str) -> None:
    parameters = parameters_of(name)
    assert parameters.paths
    for ends in (parameters.least, parameters.largest):
        for i, end in enumerate(ends):
            values = parameters.start.copy()
            values[i] = end
            parameters.device(values)
    assert (parameters.least <= parameters.start).all()
    assert (parameters.start <= parameters.largest).all()
    assert not any(path.startswith(("memory.", "energy.", "power.")) for path in parameters.paths)


def test_the_written_file_is_the_fitted_device(tmp_path) -> None:
    true = with_factors("jetson-tx2", all=1.3, convolution=1.5, norm=0.7)
    parameters = parameters_of("jetson-tx2")
    fitted = fit(parameters, measured_steps(true), "made-up.csv", Terms())
    path = tmp_path / "mine.toml"
    path.write_text(Calibrated("jetson-tx2", parameters.mode, "made-up.csv", fitted, None).text())
    work = work_of(graph("resnet8-cifar"))
    np.testing.assert_allclose(
        device(path).price(work).latency_s, fitted.model.price(work).latency_s, rtol=1e-3, atol=1e-12
    )
    assert device(path).card["calibration"] == "made-up.csv"


def test_steps_of_a_host_that_dispatches_have_the_derivatives_that_differences_have() -> None:
    base = device("jetson-tx2")
    seen = observe(measured_steps(base))
    cost = base.price(seen.work)
    time, share = seen.steps(cost)
    row = int(np.argmax(share.toarray().sum(axis=0)))
    longer = cost.latency_s.copy()
    longer[row] *= 1 + 1e-6
    moved, _ = seen.steps(replace(cost, latency_s=longer))
    np.testing.assert_allclose((moved - time) / 1e-6, share.toarray()[:, row], rtol=1e-3, atol=1e-9)


def test_a_step_seen_as_a_table_takes_what_the_estimate_says() -> None:
    for name in ("jetson-tx2", "raspberry-pi-4b"):
        model = device(name)
        step = graph("resnet8-cifar")
        seen = observe([Measured(work_in_step(step, model), np.array(1.0), "resnet8-cifar")])
        assert seconds_on(model, seen)[0] == pytest.approx(estimate(step, model).total.latency_s, rel=1e-9)


def test_the_evidence_finds_how_far_terms_and_noise_go() -> None:
    random = np.random.default_rng(0)
    jacobian = random.standard_normal((400, 30))
    target = jacobian @ (0.5 * random.standard_normal(30)) + 0.02 * random.standard_normal(400)
    linear = Linear(
        jacobian, target, ("class",) * 30, np.ones(400), ("noise of gemm",) * 400, np.arange(400), np.zeros(400)
    )
    found = spreads(linear).of
    assert found["class"] == pytest.approx(0.5, rel=0.4)
    assert found["noise of gemm"] == pytest.approx(0.02, rel=0.2)
    assert found["class"] > 2 * TYPICAL["class"]


def test_networks_are_held_out_whole() -> None:
    seen = observe([*measured_steps(device("jetson-tx2")), *measured_ops(device("jetson-tx2"), ("lenet5",))])
    steps, ops = parts_of(seen)
    folds = list(folds_of(seen, steps))
    assert len(folds) == len(NETWORKS)
    assert sorted(np.concatenate(folds)) == sorted(steps)
    assert all(len(set(seen.network[fold])) == 1 for fold in folds)
    assert sorted(np.concatenate(list(folds_of(seen, ops)))) == sorted(ops)


def test_an_interval_covers_what_it_says_of_errors_like_those_it_is_from() -> None:
    random = np.random.default_rng(2)
    errors = 0.1 * random.standard_normal(4000)
    found = interval_of(errors[:2000])
    assert found is not None
    inside = np.abs(errors[2000:]) <= np.log(found.high)
    assert inside.mean() == pytest.approx(0.9, abs=0.02)
    assert covered(errors, np.arange(4000) % 5) == pytest.approx(0.9, abs=0.02)
    assert interval_of(errors[:8]) is None  # nine are the least that a share of 90 % can be told of


def test_powers_are_found_from_joules_with_idle_and_above_it() -> None:
    parameters = parameters_of("raspberry-pi-4b")
    assumed = {"energy.float32", "energy.traffic", "power.active", "power.static"}
    from analysis.calibration.parameters import entries, number_in, with_values

    free = {p: number_in(e["value"]) for p, e in entries(parameters.data) if p in assumed and e["kind"] != "measured"}
    assert free
    path, value = next(iter(free.items()))
    from hwmodels.device import build

    true = build("true", with_values(parameters.data, {path: 2.0 * value}), parameters.mode)
    steps = measured_steps(true)
    joules, at = energy_on(true, observe(steps)), 0
    measured = []
    for step in steps:
        measured.append(replace(step, seconds=joules[at : at + 3]))
        at += 3
    before = error_of_energy(parameters.base, measured)
    found = fit_energies("true", parameters.data, parameters.mode, measured, above_idle=False)
    after = build("true", with_values(parameters.data, found.values), parameters.mode)
    assert error_of_energy(after, measured) < min(0.02, before / 3)
    assert all(value >= 0 for value in found.values.values())


def error_of_energy(model: HardwareModel, measured: list[Measured]) -> float:
    seen = observe(measured)
    return float(np.abs(energy_on(model, seen) / seen.seconds - 1).mean())


def test_what_was_never_measured_is_flagged_with_its_share_of_the_time() -> None:
    base = device("raspberry-pi-4b")
    measured = [m for m in measured_ops(base) if m.work.kernel[m.work.row_of_op[0]] != 7]
    report = estimate(graph("resnet20-cifar"), fit(base, measured, terms=Terms(False)).model)
    assert any("norm" in why for why in report.extrapolated)
    assert 0 < sum(report.extrapolated.values()) < 1
    within = estimate(graph("resnet8-cifar"), fit(base, measured_ops(base), terms=Terms(False)).model)
    assert sum(within.extrapolated.values()) == 0
    assert estimate(graph("resnet8-cifar"), base).extrapolated == {}


def test_far_from_all_that_was_measured_only_the_class_counts() -> None:
    base = device("raspberry-pi-4b")
    true = with_factors("raspberry-pi-4b", convolution=1.7)
    found = fit(base, measured_ops(true), terms=Terms(False))
    far = np.full((1, len(SHAPE)), 500.0)
    assert all(abs(part(far)[0]) < 1e-12 for part in found.correction.smooth)


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan, np.inf])
def test_an_impossible_time_is_refused(wrong: float) -> None:
    work = ops_of("lenet5")[0]
    with pytest.raises(TrainwattError, match="finite number above 0"):
        Measured(work, np.array(wrong), "lenet5")


def test_nothing_to_fit_to_is_said() -> None:
    with pytest.raises(TrainwattError, match="nothing to fit to"):
        fit(device("jetson-tx2"), [])


@pytest.mark.parametrize("name", ["raspberry-pi-4b", "jetson-nano", "x86-avx512"])
def test_an_exploration_prices_a_calibrated_device_as_an_estimate_does(name: str) -> None:
    kind = {"": 0.2, "elementwise": -0.3, "elementwise.threshold_backward": 0.8, "convolution.convolution": 0.5}
    model, step = Corrected(device(name), Correction(kind), "made up"), graph("resnet8-cifar")
    found = price(step, PricedRows([model]), np.array([4, 8])).columns["latency_s"][0]
    expected = [estimate(step.rebatch(batch), model).total.latency_s for batch in (4, 8)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_what_the_framework_takes_beside_an_op_is_not_corrected() -> None:
    base = device("x86-avx512")
    work = work_in_step(graph("lenet5"), base)
    slower = Corrected(base, Correction({"": float(np.log(3.0))}), "made up").price(work).latency_s
    alone = base.price(replace(work, framework=np.zeros_like(work.framework))).latency_s
    np.testing.assert_allclose(slower, 3 * alone + (base.price(work).latency_s - alone), rtol=1e-9)
    assert (base.price(work).latency_s > alone).any()


def test_the_fitted_device_takes_what_the_fit_says_where_some_ops_are_of_no_told_kind() -> None:
    true = with_factors("jetson-tx2", all=1.4, convolution=1.5)
    told = measured_steps(true)
    untold = [replace(one, work=replace(one.work, kind=np.full(len(one.work.kernel), -1))) for one in told[:1]]
    measured = [*untold, *told]
    assert error(fit(device("jetson-tx2"), measured, terms=Terms(False)).model, measured) < 0.02
