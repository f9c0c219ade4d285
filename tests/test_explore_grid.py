"""Ranges, technique settings and the Pareto front: the parts of an exploration that price nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from analysis.explore.grid import expanded, parsed, short, span, techniques
from analysis.explore.pareto import _of_sorted, front, fronts
from simulator.errors import TrainwattError


def test_a_range_includes_both_ends_and_is_exact_in_decimals() -> None:
    assert span("2..5") == ("2", "3", "4", "5")
    assert span("8..32..8") == ("8", "16", "24", "32")
    assert span("0.1..0.5..0.2") == ("0.1", "0.3", "0.5")
    assert span("conv1") is None


@pytest.mark.parametrize("text", ["5..2", "0.1..0.5", "1..5..0", "0..9999999"])
def test_a_range_that_runs_nowhere_is_refused(text: str) -> None:
    with pytest.raises(TrainwattError, match=r"^range .*; "):
        span(text)


def test_choices_multiply_and_the_last_varies_fastest() -> None:
    assert expanded("a{x={1,2},y={3..4}}") == ("a{x=1,y=3}", "a{x=1,y=4}", "a{x=2,y=3}", "a{x=2,y=4}")


def test_text_table_and_composition_say_the_same() -> None:
    text = techniques("gradient-filter{patch={2,4}},smd{p={0.25,0.5}}")
    assert text == techniques([{"name": "gradient-filter", "patch": [2, 4]}, {"name": "smd", "p": [0.25, 0.5]}])
    assert len(text) == 4
    assert techniques("none") == ("none",)
    assert parsed("none") == ()
    assert short(text[0]) == "gradient-filter{patch=2},smd{p=0.25}"


def test_a_condition_keeps_the_settings_that_it_holds_for() -> None:
    table = {"name": "gradient-filter", "patch": [2, 4, 7], "last": "1..2", "where": "patch < 7 or last == 1"}
    assert [short(text) for text in techniques(table)] == [
        short(text)
        for text in (
            *techniques("gradient-filter{patch={2,4},last={1,2}}"),
            *techniques("gradient-filter{patch=7,last=1}"),
        )
    ]
    both = {
        "apply": "gradient-filter{patch={2,4}},smd{p={0.25,0.5}}",
        "where": "gradient_filter.patch == 2 and p > 0.3",
    }
    assert [short(text) for text in techniques(both)] == ["gradient-filter{patch=2},smd"]
    assert techniques([{"name": "smd", "p": [0.25, 0.5], "where": "not p in (0.5, 0.75)"}]) == techniques("smd{p=0.25}")


@pytest.mark.parametrize(
    "where",
    [
        "",
        "p <",
        "q < 1",
        "__import__('os').system('true')",
        "p > 0.9",
        "p < 'a'",
        "p / 0 > 1",
        3,
        "smd.q == 1",
        "p if p else p",
    ],
)
def test_a_bad_condition_is_refused_in_one_line(where: object) -> None:
    with pytest.raises(TrainwattError, match=";") as error:
        techniques({"name": "smd", "where": where})
    assert "\n" not in str(error.value)


def test_a_parameter_that_several_techniques_have_needs_its_technique() -> None:
    with pytest.raises(TrainwattError, match=r"write TECHNIQUE\.last"):
        techniques({"apply": "sparse-update{last=2},gradient-filter{last=2}", "where": "last == 2"})


@pytest.mark.parametrize(
    "entry",
    [
        "smd{p={}}",
        "smd{p={0.5,}}",
        "smd{q=1}",
        "smd{p=2}",
        "smdd",
        3,
        [],
        [["smd"]],
        {"p": 1},
        {"name": "smd", "p": []},
    ],
)
def test_a_bad_technique_is_refused_in_one_line(entry: object) -> None:
    with pytest.raises(TrainwattError, match=";") as error:
        techniques(entry)
    assert "\n" not in str(error.value)


def brute_force(values: np.ndarray) -> np.ndarray:
    """A point is on the front unless some point is nowhere worse and somewhere better."""
    known = ~np.isnan(values).any(axis=1)
    with np.errstate(invalid="ignore"):
        no_worse = (values[None, :, :] <= values[:, None, :]).all(axis=2)
        better = (values[None, :, :] < values[:, None, :]).any(axis=2)
    return known & ~(no_worse & better & known[None, :]).any(axis=1)


few = st.sampled_from([0.0, -0.0, 1.0, 2.0, 3.0, np.inf, np.nan])


@given(
    st.integers(1, 5).flatmap(
        lambda k: arrays.arrays(np.float64, st.tuples(st.integers(0, 40), st.just(k)), elements=few)
    )
)
def test_the_front_is_that_of_brute_force(values: np.ndarray) -> None:
    assert (front(values) == brute_force(values)).all()


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
@pytest.mark.parametrize("levels", [6, 10_000])
def test_the_front_of_many_points_is_that_of_brute_force(objectives: int, levels: int) -> None:
    values = np.random.default_rng(objectives).integers(levels, size=(1500, objectives)).astype(float)
    assert (front(values) == brute_force(values)).all()


def test_points_that_trade_one_objective_for_another_are_all_on_the_front() -> None:
    x = np.arange(3000.0)
    assert front(np.stack([x, -x, x % 7], axis=1)).all()


def test_a_million_points_of_three_objectives_take_seconds() -> None:
    values = np.random.default_rng(0).random((1_000_000, 3))
    kept = front(values)
    assert 10 < kept.sum() < 10_000
    assert _of_sorted(values[kept][np.lexsort(values[kept].T[::-1])]).all()


def test_each_group_has_a_front_of_its_own() -> None:
    rng = np.random.default_rng(1)
    values, group = rng.random((300, 2)), rng.integers(4, size=300)
    kept = fronts(values, group)
    for g in range(4):
        assert (kept[group == g] == brute_force(values[group == g])).all()
