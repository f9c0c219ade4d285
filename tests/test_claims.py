"""Published numbers: what ours is of each, met or missed for a stated reason."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import analysis.claims as package
from analysis.claims import Claim, Paper, Verdict, claims, judge
from analysis.claims.registry import metrics
from analysis.claims.report import rows, text
from simulator.errors import TrainwattError
from simulator.techniques import parse


@pytest.mark.parametrize("claim", claims(), ids=lambda c: re.sub(r"[^\w.=]+", "-", f"{c.paper.key}-{c.name}"))
def test_a_claim_is_met_or_missed_for_a_stated_reason(claim: Claim, request: pytest.FixtureRequest) -> None:
    if claim.missed:
        request.applymarker(pytest.mark.xfail(reason=claim.missed, strict=True))
    verdict = judge(claim)
    assert verdict.met, f"published {claim.value} {claim.unit}, ours {verdict.ours:.6g} ({verdict.error:+.2%})"


def test_every_paper_says_who_where_and_when() -> None:
    for paper in {claim.paper for claim in claims()}:
        assert paper.authors
        assert re.search(r"\b(19|20)\d\d\b", paper.published)


def test_claims_name_techniques_that_exist() -> None:
    for claim in claims():
        if text := claim.arguments.get("apply"):
            assert parse(text)


def test_an_unknown_paper_is_answered_in_one_line() -> None:
    with pytest.raises(TrainwattError, match="no paper 'wu2021'; did you mean 'wu2020'"):
        claims("wu2021")


@pytest.mark.parametrize("content", ["", "[paper]\n", "not toml", '[paper]\ntitle="x"\n[[claims]]\nmetric="none"\n'])
def test_a_broken_file_of_claims_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    (tmp_path / "broken.toml").write_text(content)
    monkeypatch.setattr(package, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(TrainwattError):
        claims()


def test_the_report_says_met_missed_and_why() -> None:
    paper = Paper("p", "Title", "Somebody", "2020")
    shared = {"paper": paper, "where": "Table 1", "metric": "training-gmac", "unit": "GMAC", "tolerance": 0.01}
    met = Verdict(Claim(**shared, arguments={"network": "a"}, value=2.0), 2.01)  # type: ignore[arg-type]
    missed = Verdict(Claim(**shared, arguments={"network": "b"}, value=2.0, missed="they count twice"), 1.0)  # type: ignore[arg-type]
    shown = text([met, missed])
    assert "1 of 2 claims met" in shown
    assert "[1] they count twice" in shown
    assert "-50.00%" in shown
    assert "met" not in text([met, missed], missed_only=True).partition("setting")[2].partition("[1]")[0]
    assert json.loads(json.dumps(rows([met, missed])))[1]["relative_error"] == -0.5


def test_every_metric_says_what_it_is() -> None:
    assert all(function.__doc__ for function in metrics().values())
