"""Text with units."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import TrainwattError
from simulator.units import _UNITS, parse, show

UNITS = sorted(_UNITS)


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("25.6 GB/s", "byte/s", 25.6e9),
        ("1.5GB", "byte", 1.5e9),
        ("4 GiB", "byte", 4 * 1024**3),
        ("64 KiB", "byte", 65536),
        ("1 MiB/s", "byte/s", 1048576),
        ("512 byte", "byte", 512),
        ("921.6 MHz", "Hz", 921.6e6),
        ("12.3 ms", "s", 0.0123),
        ("95 us", "s", 95e-6),
        ("95 µs", "s", 95e-6),
        ("2 h", "s", 7200),
        ("2 kJ", "J", 2000),
        ("20 pJ", "J", 20e-12),
        ("5 W", "W", 5),
        ("750mW", "W", 0.75),
        ("20 pJ/FLOP", "J/FLOP", 20e-12),
        ("64 pJ/byte", "J/byte", 64e-12),
        ("236 GFLOP/s", "FLOP/s", 236e9),
        ("1.82 GMAC", "MAC", 1.82e9),
        ("1e-3", "s", 1e-3),
        ("-3 W", "W", -3),
        (7, "byte", 7),
        (0.25, "", 0.25),
        ("0.25", "", 0.25),
    ],
)
def test_text_with_a_unit_becomes_a_number_in_the_base_unit(text: str | float, unit: str, value: float) -> None:
    assert parse(text, unit) == pytest.approx(value, rel=1e-12)


def test_a_wrong_unit_is_one_line_that_shows_a_right_one() -> None:
    with pytest.raises(TrainwattError) as error:
        parse("25.6 GHz", "byte/s")
    assert str(error.value) == "'25.6 GHz' is no byte/s; write for example '25.6 GB/s'"


NO_SIZES = (
    "",
    "fast",
    "GB",
    "1,5 GB",
    "3 mB",
    "3 GBps",
    "3 GB GB",
    "nan GB",
    "inf",
    "1e999",
    "0x3 GB",
    "4 gb",
)


@pytest.mark.parametrize("text", NO_SIZES)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(TrainwattError, match=r"is no byte; write for example '1\.5 GB'"):
        parse(text, "byte")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, None, [1]])
def test_what_is_no_finite_number_is_refused(value: object) -> None:
    with pytest.raises(TrainwattError, match="is no s; write"):
        parse(value, "s")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.52e9, "byte", "1.52 GB"),
        (25.6e9, "byte/s", "25.6 GB/s"),
        (0.0123, "s", "12.3 ms"),
        (0.0345, "J", "34.5 mJ"),
        (1.8195e9, "MAC", "1.82 GMAC"),
        (999.6, "byte", "1 kB"),
        (999.4, "byte", "999 B"),
        (0.0, "J", "0 J"),
        (-0.0345, "J", "-34.5 mJ"),
        (90.0, "s", "90 s"),
        (600.0, "s", "10 min"),
        (36000.0, "s", "10 h"),
        (math.inf, "s", "inf s"),
        (0.74, "", "0.74"),
        (95e-6, "s", "95 us"),
        (64e-12, "J/byte", "64 pJ/B"),
    ],
)
def test_a_number_is_shown_with_three_digits_and_a_sensible_prefix(value: float, unit: str, text: str) -> None:
    assert show(value, unit) == text


@given(st.floats(-1e18, 1e18).filter(lambda x: x == 0 or abs(x) > 1e-18), st.sampled_from(UNITS))
def test_what_is_shown_reads_back_as_the_same_number_to_three_digits(value: float, unit: str) -> None:
    assert parse(show(value, unit), unit) == pytest.approx(value, rel=0.0051)


@given(st.floats(1e-12, 1e15), st.sampled_from([u for u in UNITS if u]))
def test_a_number_with_its_base_unit_reads_back_exactly(value: float, unit: str) -> None:
    assert parse(f"{value!r} {unit}", unit) == value


@given(st.text(max_size=12), st.sampled_from(UNITS))
def test_any_text_is_a_finite_number_or_a_one_line_error(text: str, unit: str) -> None:
    try:
        value, line = parse(text, unit), ""
    except TrainwattError as error:
        value, line = 0.0, str(error)
    assert math.isfinite(value)
    assert "\n" not in line
