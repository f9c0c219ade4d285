"""The syntax of techniques, and what every technique must keep to; new techniques are found by themselves."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import simulator.techniques as package
from simulator.errors import TrainwattError
from simulator.estimate import estimate
from simulator.graph import Graph, Untraceable
from simulator.memory import replay
from simulator.techniques import Technique, apply, check, parse, syntax, techniques
from simulator.techniques.smd import StochasticMiniBatchDropping


@dataclass(frozen=True)
class Everything(Technique):
    """A technique with a parameter of every type."""

    name: ClassVar[str] = "every-thing"

    count: int = 1
    share: float = 0.5
    on: bool = False
    pattern: str = "conv"
    side: Literal["left", "right"] = "left"
    layers: tuple[str, ...] = ()
    sizes: tuple[int, ...] = (1, 2)
    limit: int | None = None

    def __post_init__(self) -> None:
        check(self.count >= 0, self, "count", "at least 0")

    def rewrite(self, graph: Graph) -> Graph:
        return graph


@dataclass(frozen=True)
class Needy(Technique):
    """A technique that must be told its size."""

    name: ClassVar[str] = "needy"

    size: int

    def rewrite(self, graph: Graph) -> Graph:
        if graph.batch == 1:
            raise TrainwattError("needy at batch 1; give more")
        return replace(graph, ops=tuple(replace(op, runs=float(self.size)) for op in graph.ops))


@pytest.fixture
def strange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "techniques", lambda: {"every-thing": Everything, "needy": Needy, **techniques()})


def test_techniques_are_read_from_left_to_right(strange: None) -> None:
    assert parse("every-thing{count=4, layers=a|b},smd{p=0.25}") == (
        Everything(count=4, layers=("a", "b")),
        StochasticMiniBatchDropping(p=0.25),
    )
    assert parse(" smd ") == parse("smd{}") == (StochasticMiniBatchDropping(),)


WORD = st.from_regex(r"[A-Za-z0-9_.*+?^$()\[\]\\=-]+", fullmatch=True)


@given(
    st.builds(
        Everything,
        count=st.integers(0, 10**12),
        share=st.floats(allow_nan=False, allow_infinity=False),
        on=st.booleans(),
        pattern=WORD,
        side=st.sampled_from(["left", "right"]),
        layers=st.lists(WORD.filter(lambda w: w != "none"), max_size=3).map(tuple),
        sizes=st.lists(st.integers(), max_size=3).map(tuple),
        limit=st.none() | st.integers(),
    )
)
def test_the_text_of_a_technique_reads_back_as_the_technique(technique: Everything) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "techniques", lambda: {"every-thing": Everything})
        assert parse(str(technique)) == (technique,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smdd", "no technique 'smdd'; did you mean 'smd'?"),
        ("smd{q=0.5}", "no parameter of smd 'q'; there is dropped_step, p, stretch"),
        ("every-thing{cout=1}", "no parameter of every-thing 'cout'; did you mean 'count'"),
        ("smd{p=half}", "smd with p=half; it is a number"),
        ("smd{p=nan}", "smd with p=nan; it is a number"),
        ("every-thing{count=1.5}", "every-thing with count=1.5; it is a whole number"),
        ("every-thing{on=yes}", "every-thing with on=yes; it is true or false"),
        ("every-thing{side=up}", "every-thing with side=up; it is left or right"),
        ("every-thing{sizes=1|b}", "every-thing with sizes=1|b; it is a whole number"),
        ("every-thing{layers=a||b}", "every-thing with layers=a||b; it is text"),
        ("every-thing{count=-1}", "every-thing with count=-1; count is at least 0"),
        ("smd{p=1}", "smd with p=1.0; p is a probability in [0, 1)"),
        ("smd{p=0.5", "no closing brace in 'smd{p=0.5'"),
        ("smd{p}", "cannot read 'p'"),
        ("smd{p=0.1,p=0.2}", "'p' is given twice"),
        ("smd p=0.5", "cannot read 'smd p=0.5'"),
        ("smd,", "cannot read 'smd,'"),
        ("", "cannot read ''"),
        ("needy", "needy without size; write needy{size=...}"),
    ],
)
def test_wrong_text_is_answered_in_one_line(strange: None, text: str, message: str) -> None:
    with pytest.raises(TrainwattError, match=re.escape(message)) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_text_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(TrainwattError, match="no comma"):
        str(Everything(pattern="a,b"))


def test_the_syntax_of_a_technique_shows_its_defaults() -> None:
    assert syntax(StochasticMiniBatchDropping) == "smd{p=0.5,stretch=1.0,dropped_step=false}"
    assert syntax(Needy) == "needy{size=INT}"


def test_the_applied_text_adds_up(step: Graph) -> None:
    first, second = parse("smd{p=0.5},smd{p=0.1}")
    once = apply((first,), step)
    assert once.meta["applied"] == str(first)
    assert apply((second,), once).meta["applied"] == f"{first},{second}"


def test_the_form_for_batch_one_is_rewritten_too(step: Graph) -> None:
    graph = replace(step, smallest_batch=2, other=replace(step, sizes={"batch": 1}))
    single = apply(parse("smd{p=0.75}"), graph).rebatch(1)
    assert {op.runs for op in single.ops} == {0.25}
    assert single.meta["applied"] == "smd{p=0.75,stretch=1.0,dropped_step=false}"


def test_a_technique_that_fails_at_batch_one_says_so_only_there(step: Graph) -> None:
    graph = apply((Needy(3),), replace(step, smallest_batch=2, other=replace(step, sizes={"batch": 1})))
    assert graph.ops[0].runs == 3
    with pytest.raises(TrainwattError, match="needy at batch 1"):
        graph.rebatch(1)


def test_a_missing_form_for_batch_one_stays_missing(step: Graph) -> None:
    missing = Untraceable("no batch norm of one value")
    assert apply(parse("smd"), replace(step, other=missing)).other == missing


# Dropping mini-batches


def test_dropping_half_the_mini_batches_halves_the_expected_cost_and_leaves_the_peak(step: Graph, flat: Any) -> None:
    before, after = (estimate(g, flat) for g in (step, apply(parse("smd{p=0.5}"), step)))
    assert after.total.energy_j == pytest.approx(before.total.energy_j / 2)
    assert after.total.macs == before.total.macs / 2
    assert after.memory.peak_bytes == before.memory.peak_bytes


def test_dropping_nothing_changes_no_op(step: Graph) -> None:
    assert apply(parse("smd{p=0}"), step).ops == step.ops


def test_dropping_twice_multiplies(step: Graph) -> None:
    twice = apply(parse("smd{p=0.5},smd{p=0.5}"), step)
    assert {op.runs for op in twice.ops} == {0.25}


def test_dropping_half_of_a_schedule_stretched_by_a_third_costs_two_thirds(step: Graph, flat: Any) -> None:
    # 64,000 updates of plain training become 85,333 presented mini-batches of which half are executed
    graph = apply(parse("smd{p=0.5,stretch=1.3333333333333333}"), step)
    before, after = (estimate(g, flat).total.energy_j for g in (step, graph))
    assert graph.meta["stretch"] * after / before == pytest.approx(2 / 3)


def test_stretches_multiply_and_none_leaves_no_mark(step: Graph) -> None:
    assert apply(parse("smd{stretch=1.5},smd{stretch=2}"), step).meta["stretch"] == 3
    assert "stretch" not in apply(parse("smd{p=0.5}"), step).meta


def test_an_optimizer_may_step_on_dropped_mini_batches_too(step: Graph) -> None:
    runs = {op.phase: op.runs for op in apply(parse("smd{p=0.75,dropped_step=true}"), step).ops}
    assert runs == {"forward": 0.25, "loss": 0.25, "backward": 0.25, "optimizer": 1, "other": 0.25}


# What every technique keeps to

every = pytest.mark.parametrize("cls", techniques().values(), ids=techniques().keys())


def applied(cls: type[Technique], graph: Graph) -> Graph:
    try:
        return apply((cls(),), graph)
    except TrainwattError as error:
        pytest.skip(f"does not apply to the hand-made step: {error}")


@every
def test_it_is_a_frozen_dataclass_whose_parameters_have_defaults(cls: type[Technique]) -> None:
    assert is_dataclass(cls)
    assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(f.default is not MISSING or f.default_factory is not MISSING for f in fields(cls))


@every
def test_it_stands_in_the_file_of_its_name(cls: type[Technique]) -> None:
    assert cls.__module__ == f"simulator.techniques.{cls.name.replace('-', '_')}"


@every
def test_its_docstring_cites_a_source(cls: type[Technique]) -> None:
    assert cls.__doc__
    assert "\n" in cls.__doc__  # a dataclass without a docstring gets its signature as one
    assert re.search(r"\b(19|20)\d\d\b", cls.__doc__), "name the publication with its year"


@every
def test_its_syntax_reads_back(cls: type[Technique]) -> None:
    assert parse(str(cls())) == (cls(),)
    assert parse(cls.name) == (cls(),)


@every
def test_it_does_not_touch_its_input(cls: type[Technique], step: Graph, make_step: Callable[[int], Graph]) -> None:
    applied(cls, step)
    assert step == make_step(step.batch)


@every
def test_it_does_the_same_every_time(cls: type[Technique], step: Graph) -> None:
    assert applied(cls, step) == applied(cls, step)


@every
def test_its_result_can_be_priced_and_replayed_at_any_batch(cls: type[Technique], step: Graph, flat: Any) -> None:
    graph = applied(cls, step)
    for batch in (2, 7):
        report = estimate(graph.rebatch(batch), flat)
        assert report.total.latency_s > 0
        assert report.memory.peak_bytes == replay(graph.rebatch(batch).worst()).peak_bytes > 0


@every
def test_it_commutes_with_rebatching(cls: type[Technique], step: Graph, flat: Any) -> None:
    a, b = applied(cls, step).rebatch(9), applied(cls, step.rebatch(9))
    left, right = estimate(a, flat), estimate(b, flat)
    assert left.total == right.total
    assert left.memory.peak_bytes == right.memory.peak_bytes


@every
def test_its_peak_does_not_depend_on_how_often_ops_run(cls: type[Technique], step: Graph) -> None:
    graph = applied(cls, step)
    rare = replace(graph, ops=tuple(replace(op, runs=op.runs / 2) for op in graph.ops))
    assert replay(rare).peak_bytes == replay(graph).peak_bytes


def test_every_file_of_the_folder_holds_a_technique() -> None:
    folder = pathlib.Path(package.__file__).parent
    names = {p.stem for p in folder.glob("*.py") if not p.stem.startswith("_")}
    assert {cls.__module__.rpartition(".")[2] for cls in techniques().values()} == names
