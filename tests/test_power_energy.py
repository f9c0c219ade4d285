"""From a trace of power to energy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.power.energy import measure
from analysis.power.trace import Sample, Trace, trace_from
from simulator.errors import TrainwattError


def trace(times: tuple[float, ...], **watts: tuple[float, ...]) -> Trace:
    return Trace("made", times, watts, tuple(watts), "sum")


RAMP = trace((0.0, 1.0, 2.0, 4.0), a=(1.0, 1.0, 3.0, 3.0), b=(0.5, 0.5, 0.5, 0.5))


def test_energy_is_the_trapezoidal_integral() -> None:
    # a: 1 W for 1 s, from 1 to 3 W in 1 s (2 J), 3 W for 2 s: 1 + 2 + 6 = 9 J; b: 0.5 W for 4 s: 2 J.
    found = measure(RAMP)
    assert [(r.rail, r.energy_j, r.mean_w) for r in found.rails] == [("a", 9.0, 2.25), ("b", 2.0, 0.5)]
    assert (found.total.energy_j, found.total.mean_w) == (11.0, 2.75)


def test_a_window_between_samples_is_interpolated() -> None:
    # a from 1.5 s (2 W) to 3 s (3 W): (2 + 3) / 2 * 0.5 + 3 * 1 = 4.25 J.
    found = measure(RAMP, from_s=1.5, to_s=3, rail="a")
    assert [r.energy_j for r in found.rails] == [4.25]
    assert found.total.energy_j == 4.25 + 0.75


def test_idle_outside_of_the_window_is_subtracted() -> None:
    found = measure(RAMP, from_s=2, idle_from_s=0, idle_to_s=1)
    assert (found.total.energy_j, found.total.idle_w, found.total.above_idle_j) == (7.0, 1.5, 4.0)


@given(
    st.lists(st.tuples(st.floats(0.01, 10), st.floats(0, 100)), min_size=3, max_size=20),
    st.floats(0.05, 0.95),
)
def test_two_parts_of_a_window_have_the_energy_of_the_whole(steps: list[tuple[float, float]], share: float) -> None:
    times = [0.0]
    for step, _ in steps[1:]:
        times.append(times[-1] + step)
    made = trace(tuple(times), a=tuple(power for _, power in steps))
    middle = share * times[-1]
    parts = (measure(made, to_s=middle).total.energy_j or 0.0) + (measure(made, from_s=middle).total.energy_j or 0.0)
    assert parts == pytest.approx(measure(made).total.energy_j, rel=1e-9, abs=1e-12)


@given(st.floats(0.1, 50), st.floats(0.01, 100))
def test_constant_power_is_energy_by_time_whatever_the_window(watts: float, length: float) -> None:
    made = trace((0.0, length / 3, length), a=(watts,) * 3)
    found = measure(made, from_s=length / 4, to_s=length * 0.9)
    assert found.total.mean_w == pytest.approx(watts)
    assert found.total.energy_j == pytest.approx(watts * length * 0.65)


@pytest.mark.parametrize(
    ("window", "reason"),
    [
        ({"from_s": 3, "to_s": 9}, "window 3 to 9 s; the log runs from 0 to 4 s"),
        ({"from_s": -1}, "window -1 to 4 s; the log runs from 0 to 4 s"),
        ({"from_s": 3, "to_s": 3}, "window 3 to 3 s; it begins before it ends"),
        ({"from_s": float("nan")}, "it begins before it ends"),
        ({"idle_from_s": 0}, "idle from but not to; mark both ends"),
        ({"from_s": 1, "idle_from_s": 0, "idle_to_s": 2}, "idle window 0 to 2 s overlaps the window 1 to 4 s"),
        ({"rail": "aa"}, "no rail 'aa'; did you mean 'a'?"),
    ],
)
def test_a_window_that_makes_no_sense_is_refused(window: dict[str, float], reason: str) -> None:
    with pytest.raises(TrainwattError, match=";") as caught:
        measure(RAMP, **window)  # type: ignore[arg-type]
    assert reason in str(caught.value)


def test_a_gap_in_the_window_is_told() -> None:
    made = trace((0.0, 1.0, 2.0, 3.0, 13.0, 14.0), a=(1.0,) * 6)
    (note,) = measure(made).notes
    assert note == "window: no samples in 10 s of it (71.4 %), bridged by straight lines: 3 to 13 s"
    assert measure(made, to_s=3).notes == ()


def test_one_sample_is_a_power_but_no_energy() -> None:
    found = measure(trace((0.0,), a=(2.0,)))
    assert (found.total.mean_w, found.total.energy_j) == (2.0, None)
    with pytest.raises(TrainwattError, match="one sample; log for a while"):
        measure(trace((0.0,), a=(2.0,)), from_s=0)


def samples(*times: float | None, watts: float = 1.0) -> list[Sample]:
    return [Sample(line, time, {"a": watts}) for line, time in enumerate(times, start=1)]


def test_samples_of_a_coarse_clock_are_spread_up_to_its_next_time() -> None:
    found = trace_from("made", samples(10.0, 10.0, 11.0, 11.0, 12.0), ("a",), "a")
    assert found.times_s == (0.0, 0.5, 1.0, 1.5, 2.0)
    assert found.notes == ("5 samples at 3 different times: those of one time spread up to the next",)


def test_samples_without_times_are_an_interval_apart() -> None:
    assert trace_from("made", samples(None, None), ("a",), "a", interval_s=0.5).times_s == (0.0, 0.5)
    assumed = trace_from("made", samples(None, None), ("a",), "a", default_interval_s=1.0)
    assert assumed.notes == ("the log has no times: samples taken as 1 s apart",)
    with pytest.raises(TrainwattError, match="say how far apart its samples are with --interval"):
        trace_from("made", samples(None, None), ("a",), "a")


def test_time_that_goes_back_is_refused_with_its_line() -> None:
    with pytest.raises(TrainwattError, match="line 3: time goes from 2 to 1 s"):
        trace_from("made", samples(0.0, 2.0, 1.0), ("a",), "a")
    with pytest.raises(TrainwattError, match="line 2: a sample without a time"):
        trace_from("made", samples(0.0, None), ("a",), "a")


def test_a_trace_cannot_hold_what_is_no_power() -> None:
    with pytest.raises(TrainwattError, match="finite"):
        trace((0.0, 1.0), a=(1.0, float("nan")))
    with pytest.raises(TrainwattError, match="goes back"):
        trace((0.0, 0.0), a=(1.0, 1.0))
    with pytest.raises(TrainwattError, match="no sample"):
        trace(())
    with pytest.raises(TrainwattError, match="at least one"):
        trace((0.0,))
