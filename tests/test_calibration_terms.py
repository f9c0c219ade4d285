"""What the terms of a fit go by: the number of images alone, and what a host-bound step does not tell."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from analysis.calibration.basis import GROUPS
from analysis.calibration.choice import nearly_best
from analysis.calibration.fit import Terms, fit, seconds_on
from analysis.calibration.measured import Measured
from analysis.calibration.observed import observe
from hwmodels.corrected.correction import Correction, Smooth
from hwmodels.corrected.features import SHAPE
from hwmodels.corrected.model import Corrected
from hwmodels.corrected.table import corrected_device, table_of
from hwmodels.device import device
from simulator.cost import HardwareModel
from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.work import work_of
from workloads import trace

NETWORKS = ("resnet8-cifar", "lenet5", "mcunet-like")
FEW_IMAGES = Smooth("convolution.forward", 1.0, np.array([[2.0]]), np.array([1.0]), "family", ("images",))
"""Forward convolutions take almost three times as long at four images as at 16."""


@cache
def graph(network: str) -> Graph:
    return trace(network, batch=8)


def steps(true: HardwareModel, networks: tuple[str, ...], batches: list[int]) -> list[Measured]:
    found = []
    for network in networks:
        blank = Measured(work_of(graph(network), batches=batches), np.ones(len(batches)), network)
        found.append(replace(blank, seconds=seconds_on(true, blank)))
    return found


def error(model: HardwareModel, measured: list[Measured]) -> float:
    seen = observe(measured)
    return float(np.abs(seconds_on(model, seen) / seen.seconds - 1).mean())


def test_kernels_that_go_by_the_number_of_images_alone_are_found() -> None:
    base = device("raspberry-pi-4b")
    true = Corrected(base, Correction({}, (FEW_IMAGES,)), "made up")
    measured = steps(true, ("resnet8-cifar", "mcunet-like"), [2, 4, 8, 16, 32, 64])
    unseen = steps(true, ("resnet20-cifar",), [4, 16, 64])
    found = {n: error(fit(base, measured, terms=Terms(False, GROUPS[:n])).model, unseen) for n in (5, 6)}
    assert GROUPS[5] == "images"
    assert found[6] < 0.5 * found[5]


def test_a_step_that_waits_for_its_host_tells_nothing_of_the_error_of_its_graph() -> None:
    base = device("jetson-tx2")
    true = Corrected(base, Correction({"": float(np.log(1.5))}), "made up")
    measured = steps(true, NETWORKS, [2, 512, 1024, 2048])
    host_bound = np.array([True, False, False, False])
    for one in measured:  # so they are: a device that is faster changes next to nothing of them
        np.testing.assert_allclose(seconds_on(base, one)[host_bound], one.seconds[host_bound], rtol=1e-3)
    slow_host = [replace(one, seconds=one.seconds * np.where(host_bound, 1.15, 1.0)) for one in measured]
    found = fit(base, slow_host, terms=Terms(False, GROUPS[:1]))
    assert found.correction.factors[""] == pytest.approx(np.log(1.5), abs=0.02)


def test_a_term_by_some_features_is_written_and_read() -> None:
    base = device("jetson-tx2")
    made = Correction({"": 0.1}, (FEW_IMAGES,))
    read = corrected_device(base, table_of(made, {}, "made up", None))
    work = work_of(graph("lenet5"), batches=[4, 16])
    np.testing.assert_allclose(read.correction.log_factor(work), made.log_factor(work), rtol=1e-6)
    table = table_of(made, {}, "made up", None)
    del table["smooth"][0]["features"]
    with pytest.raises(TrainwattError, match=f"lists of {len(SHAPE)} numbers"):
        corrected_device(base, table)


@pytest.mark.parametrize(
    ("features", "said"),
    [(["image"], "no feature of shapes 'image'"), ("images", "must be a list"), (3, "must be a list")],
)
def test_features_that_are_none_are_refused(features: object, said: str) -> None:
    table = table_of(Correction({}, (FEW_IMAGES,)), {}, "made up", None)
    table["smooth"][0]["features"] = features
    with pytest.raises(TrainwattError, match=said):
        corrected_device(device("jetson-tx2"), table)


@pytest.mark.parametrize(("errors", "chosen"), [((1.0, 0.94, 0.86), 1), ((1.0, 0.95, 0.91), 0), ((1.0, 0.5, 0.6), 1)])
def test_the_first_terms_are_taken_that_none_are_clearly_better_than(errors: tuple[float, ...], chosen: int) -> None:
    terms = [Terms(False, GROUPS[: n + 1]) for n in range(len(errors))]
    assert nearly_best(dict(zip(terms, errors, strict=True))) == terms[chosen]
