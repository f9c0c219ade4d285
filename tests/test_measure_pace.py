"""Repeats beside slow probes do not count, and the choice is by the probes alone."""

import pytest

from workloads.measuring.board.pace import PATIENCE, SLOWED, Pace, Steady, Unwatched


class Probed(Unwatched):
    """A pace whose probes are given: one before and one after each repeat."""

    def __init__(self, *seconds: float) -> None:
        self._next = iter(seconds)
        self._least_s = float("inf")

    def probe(self) -> float:
        taken = next(self._next)
        self._least_s = min(self._least_s, taken)
        return taken

    def quick_s(self) -> float:
        return self._least_s


def run(steady: Steady) -> list[int]:
    """Repeat until it is enough; return the numbers of the repeats that count."""
    while not steady.enough():
        steady.once(lambda: steady.count() + 1)
    return steady.kept()


def test_a_repeat_between_quick_probes_counts_and_one_beside_a_slow_probe_is_made_again() -> None:
    steady = Steady(2, Probed(1.0, 1.0, 1.0, 1.5, 1.5, 1.0, 1.0, SLOWED))
    assert run(steady) == [1, 4]
    assert steady.count() == 4
    assert steady.slowed() == pytest.approx((1.0 + SLOWED) / 2)


def test_where_the_machine_is_held_up_all_along_the_quickest_probes_decide_and_that_is_told() -> None:
    pace = Probed(1.0, *[second for number in range(6) for second in (2.0 - 0.1 * number, 1.0)])
    pace.probe()
    steady = Steady(2, pace)
    assert run(steady) == [6, 5]
    assert steady.count() == 2 * PATIENCE
    assert steady.slowed() == pytest.approx(1.55)


def test_what_was_quick_before_a_quicker_probe_came_is_judged_anew() -> None:
    steady = Steady(2, Probed(1.0, 1.0, 0.5, 0.5, 0.5, 0.5))
    assert run(steady) == [2, 3]


def test_where_nothing_is_probed_every_repeat_counts() -> None:
    steady = Steady(3, Unwatched())
    assert run(steady) == [1, 2, 3]
    assert steady.slowed() == 1.0


def test_a_probe_takes_about_as_long_whatever_the_processor() -> None:
    pace = Pace()
    taken = [pace.probe() for _ in range(20)]
    assert min(taken) <= 1.5 * pace.quick_s()
    assert 5e-5 < pace.quick_s() < 0.1
