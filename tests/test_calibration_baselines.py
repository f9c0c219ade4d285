"""Baselines of calibration: what they count, and that they find again what times were made of."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.calibration.baselines import NINE, PROPORTIONAL, Baseline, Trees, Uncalibrated, baselines, nine
from analysis.calibration.measured import Measured
from analysis.calibration.summed_features import summed_features
from hwmodels.device import device
from simulator.errors import TrainwattError
from simulator.estimate import estimate
from simulator.work import work_of
from workloads.tracer import trace

BATCHES = [2, 4, 8, 16]
DEVICE = device("jetson-tx2")


@pytest.fixture(scope="module")
def work():
    return work_of(trace("mobilenetv2", batch=8), BATCHES)


def made(work, seconds) -> Measured:
    return Measured(work, np.asarray(seconds, dtype=np.float64), "made")


def test_an_uncalibrated_device_predicts_what_it_estimates() -> None:
    graph = trace("resnet18", batch=8)
    measured = made(work_of(graph, [8]), [1.0])
    predicted = Uncalibrated(DEVICE).fit([]).seconds(measured)
    assert predicted == pytest.approx([estimate(graph, DEVICE).total.latency_s])


def test_a_step_measured_at_one_size_alone_is_predicted_as_among_several(work) -> None:
    one = made(work_of(trace("mobilenetv2", batch=8)), 0.5)
    several = made(work, [0.1, 0.2, 0.4, 0.8])
    for baseline in baselines(DEVICE):
        predictor = baseline.fit([several])
        np.testing.assert_allclose(predictor.seconds(one), predictor.seconds(several)[2:3], rtol=1e-9)


def test_macs_alone_find_a_time_in_proportion_to_macs(work) -> None:
    seconds = 3e-12 * work.total(work.macs)
    found = PROPORTIONAL.fit([made(work, seconds)]).seconds(made(work, np.ones(4)))
    np.testing.assert_allclose(found, seconds, rtol=1e-9)


def test_nine_coefficients_find_a_time_that_is_such_a_sum(work) -> None:
    other = work_of(trace("squeezenet1.1", batch=8), BATCHES)
    coefficients = np.array([1e-2, 1e-5, 3e-12, 5e-12, 4e-11, 1e-11, 5e-11, 1e-10, 3e-11])
    fitted = NINE.fit([made(w, nine(w) @ coefficients) for w in (work, other)])
    for w in (work, other):
        np.testing.assert_allclose(fitted.seconds(made(w, np.ones(4))), nine(w) @ coefficients, rtol=1e-3)
    assert (fitted.coefficients >= 0).all()


def test_the_macs_and_bytes_of_the_nine_are_all_of_them(work) -> None:
    columns = nine(work)
    np.testing.assert_allclose(columns[:, 2:6].sum(axis=1), work.total(work.macs))
    np.testing.assert_allclose(columns[:, 6:].sum(axis=1), work.total(work.traffic_bytes))


def test_the_56_features_of_alexnets_convolutions_are_those_by_hand() -> None:
    # AlexNet's five: 3 to 64 channels, 11x11 taps, 224 to 55 positions; 64 to 192, 5x5, 27; then 3x3 on 13 positions.
    found = summed_features(work_of(trace("alexnet", batch=8), [2, 4]))
    assert found.shape == (2, 56)
    weights = 64 * 3 * 121 + 192 * 64 * 25 + 384 * 192 * 9 + 256 * 384 * 9 + 256 * 256 * 9
    inputs = 3 * 224**2 + 64 * 27**2 + (192 + 384 + 256) * 13**2
    outputs = 64 * 55**2 + 192 * 27**2 + (384 + 256 + 256) * 13**2
    products = 64 * 3 * 121 * 55**2 + 192 * 64 * 25 * 27**2 + (384 * 192 + 256 * 384 + 256 * 256) * 9 * 13**2
    for row, bs in enumerate((2, 4)):
        assert found[row, 0] == pytest.approx(weights)
        assert found[row, 1] == pytest.approx(bs * weights)
        assert found[row, 2] == pytest.approx(2 * bs * inputs)
        assert found[row, 3] == pytest.approx(2 * bs * outputs)
        assert found[row, 12] == pytest.approx(bs * products)
        assert found[row, 4] == pytest.approx(found[row, :4].sum())


def test_trees_remember_what_they_saw_and_stay_within_it(work) -> None:
    seconds = np.array([0.1, 0.2, 0.4, 0.8])
    fitted = Trees().fit([made(work, seconds)])
    np.testing.assert_allclose(fitted.seconds(made(work, np.ones(4))), seconds)
    larger = made(work_of(trace("mobilenetv2", batch=8), [64]), [1.0])
    assert fitted.seconds(larger)[0] <= 0.8 + 1e-12


@pytest.mark.parametrize("baseline", [PROPORTIONAL, NINE, Trees()], ids=lambda b: b.name)
def test_a_baseline_without_measurements_is_refused(baseline: Baseline) -> None:
    with pytest.raises(TrainwattError, match="no measurements to fit to; give at least one"):
        baseline.fit([])
