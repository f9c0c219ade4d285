"""Extents: polynomials in dimensions that behave as the numbers they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import TrainwattError
from simulator.extent import Extent, Poly, affine, evaluate, parse_extent, symbol

integers = st.integers(-1000, 1000)
extents = st.recursive(
    st.one_of(integers, st.sampled_from(["batch", "c1", "c2"]).map(symbol)),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: p[0] + p[1]), st.tuples(inner, inner).map(lambda p: p[0] * p[1])
    ),
    max_leaves=6,
)
sizes = st.fixed_dictionaries({name: st.integers(1, 50) for name in ("batch", "c1", "c2")})


@given(extents, extents, sizes)
def test_arithmetic_on_extents_is_arithmetic_on_their_values(a: Extent, b: Extent, at: dict[str, int]) -> None:
    x, y = evaluate(a, at), evaluate(b, at)
    assert evaluate(a + b, at) == x + y
    assert evaluate(a - b, at) == x - y
    assert evaluate(a * b, at) == x * y


@given(extents)
def test_an_extent_survives_being_written_and_read(extent: Extent) -> None:
    assert parse_extent(str(extent)) == extent


@given(extents, extents, sizes)
def test_equal_polynomials_are_equal_however_they_were_made(a: Extent, b: Extent, at: dict[str, int]) -> None:
    assert (a + b) * (a + b) == a * a + a * b + b * a + b * b
    assert a - a == 0


@given(st.integers(1, 300), st.integers(-500, 500), st.integers(-500, 500))
def test_the_line_through_two_values_gives_both(at: int, value: int, slope: int) -> None:
    line = affine("batch", at, value, value + slope)
    assert evaluate(line, {"batch": at}) == value
    assert evaluate(line, {"batch": at + 1}) == value + slope
    assert isinstance(line, Poly) == (slope != 0)


def test_a_batch_of_64_is_not_64_channels() -> None:
    assert symbol("batch") != 64
    assert evaluate(symbol("batch"), {"batch": 64}) == 64


def test_an_extent_is_evaluated_at_many_sizes_at_once() -> None:
    extent = symbol("batch") * 49 + 3
    assert evaluate(extent, {"batch": np.array([1, 2, 10])}).tolist() == [52, 101, 493]


def test_only_exact_division_keeps_a_dimension() -> None:
    assert (symbol("batch") * 6 + 4) // 2 == symbol("batch") * 3 + 2
    with pytest.raises(TrainwattError, match="not divisible by 4"):
        (symbol("batch") * 6 + 4) // 4


@pytest.mark.parametrize("text", ["", "batch*", "2**batch", "batch batch", "3.5", "+"])
def test_text_that_is_no_extent_is_refused(text: str) -> None:
    with pytest.raises(TrainwattError, match="is no extent"):
        parse_extent(text)
