"""The page of a result: one file that loads nothing, holds what the result holds, and lets no text become markup."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from pyarrow import parquet
from pyarrow.csv import write_csv

from analysis.cli import cli
from analysis.page import explored
from analysis.page.document import Chart, Page, Section, column, columns_of, form
from analysis.page.estimated import report_page
from analysis.page.html import SCRIPTS, to_html
from analysis.page.reading import page_of
from hwmodels.device import device
from simulator.errors import TrainwattError
from simulator.estimate import estimate
from simulator.graph import Graph
from simulator.io import save

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028{{script}}&amp;'\""


class Elements(HTMLParser):
    """Counts elements and keeps the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.title = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] == ["script"] and data.strip():
            self.scripts.append(data)
        if self.tags[-1:] == ["title"]:
            self.title += data


def held(text: str) -> dict[str, Any]:
    """The data that a page holds."""
    found: dict[str, Any] = json.loads(Elements(text).scripts[0])
    return found


def values(section: dict[str, Any], name: str) -> list[Any]:
    found = next(c for c in section["columns"] if c["name"] == name)
    return found["values"] if found["kind"] == "number" else [found["names"][code] for code in found["codes"]]


def a_space(count: int, technique: str = "smd{p=0.5,stretch=1.0,dropped_step=false}") -> pa.Table:
    rng = np.random.default_rng(2)
    return pa.table(
        {
            "point": list(range(count)),
            "network": ["resnet18"] * count,
            "technique": ["none" if k % 2 else technique for k in range(count)],
            "device": [("jetson-nano", "zcu102")[k % 3 == 0] for k in range(count)],
            "batch": [k % 32 + 1 for k in range(count)],
            "latency_s": rng.lognormal(0, 1, count),
            "energy_j": rng.lognormal(2, 1, count),
            "peak_bytes": rng.integers(10**7, 10**9, count),
            "feasible": [k % 10 > 0 for k in range(count)],
            "on_front": [k == 7 for k in range(count)],
        }
    )


def test_a_page_is_one_file_that_loads_nothing(step: Graph) -> None:
    text = to_html(report_page([estimate(step, device("jetson-nano"))]))
    assert not re.findall(r"""(?:src|href|action)\s*=|url\(|@import|fetch\(|XMLHttp|WebSocket""", text)
    # The name of a namespace is looked up by nobody.
    assert set(re.findall(r"https?://[^\"']*", text)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text
    assert "unsafe-inline" not in text


def test_no_text_becomes_markup() -> None:
    rows = [{HOSTILE: HOSTILE, "x": 1.0, "y": 2.0}, {HOSTILE: "plain", "x": 2.0, "y": 1.0}]
    section = Section(HOSTILE, columns_of(rows), (Chart("scatter", "x", "y", HOSTILE),), notes=(HOSTILE,))
    text = to_html(Page(HOSTILE, (section,), ((HOSTILE, HOSTILE),), (HOSTILE,)))
    found = Elements(text)
    assert found.tags.count("script") == 2
    assert "img" not in found.tags
    assert found.title.rstrip("\n") == HOSTILE
    kept = held(text)
    assert kept["title"] == HOSTILE
    assert kept["facts"] == [[HOSTILE, HOSTILE]]
    assert values(kept["sections"][0], HOSTILE) == [HOSTILE, "plain"]


def test_the_scripts_make_nodes_of_texts_only() -> None:
    folder = Path(explored.__file__).parent
    text = "".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)
    assert sorted(path.name for path in folder.glob("*.js")) == sorted(SCRIPTS)
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function", text)


def test_numbers_that_are_not_known_are_null_and_flags_are_words() -> None:
    rows = [{"a": float("nan"), "b": True, "c": None}, {"a": 1 / 3, "b": False, "c": "x"}]
    section = form(Page("t", (Section("s", columns_of(rows), ()),)))["sections"][0]
    assert values(section, "a") == [None, 0.333333]
    assert values(section, "b") == ["yes", "no"]
    assert values(section, "c") == ["", "x"]


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(TrainwattError, match="give each as many"):
        Section("s", (column("a", [1]), column("b", [1, 2])), ())


def test_an_estimate_on_the_page_is_the_report(step: Graph) -> None:
    report = estimate(step, device("jetson-nano"))
    sections = {s["title"]: s for s in form(report_page([report]))["sections"]}
    ops = sections["Ops"]
    assert sum(values(ops, "latency_s")) == pytest.approx(report.total.latency_s, rel=1e-5)
    stack = next(chart for chart in ops["charts"] if chart["kind"] == "area")["stack"]
    total = np.sum([values(ops, name) for name in stack], axis=0)
    np.testing.assert_allclose(total, report.memory.live_bytes, rtol=1e-5)
    layers = dict(zip(values(sections["Layers"], "layer"), values(sections["Layers"], "energy_j"), strict=True))
    assert layers == pytest.approx({name: t.energy_j for name, t in report.layers.items()}, rel=1e-5)
    assert values(sections["Assumptions"], "assumption") == list(report.assumptions)


def test_several_devices_stand_side_by_side_and_have_their_own_sections(step: Graph) -> None:
    page = report_page([estimate(step, device(name)) for name in ("jetson-nano", "zcu102")])
    titles = [section.title for section in page.sections]
    assert titles[0] == "Side by side"
    assert "jetson-nano, MAXN: Ops" in titles
    assert "zcu102, 100MHz: Ops" in titles


def test_few_points_are_all_on_the_page(tmp_path: Path) -> None:
    parquet.write_table(a_space(100), tmp_path / "points.parquet")
    page = form(page_of(str(tmp_path)))
    assert page["notes"] == []
    assert values(page["sections"][0], "point") == list(range(100))
    # Parameters at their defaults are left out of the names.
    assert set(values(page["sections"][0], "technique")) == {"none", "smd"}


def test_of_many_points_the_fronts_and_a_sample_stay_and_the_page_says_so(tmp_path: Path) -> None:
    table = a_space(5000)
    parquet.write_table(table, tmp_path / "points.parquet")
    page = form(explored.explored_page(str(tmp_path), most=300))
    kept = set(values(page["sections"][0], "point"))
    assert 300 <= len(kept) < 400
    assert "of 5,000 points are on this page" in page["notes"][0]
    assert f"{len(kept):,} of" in page["notes"][0]
    rows = [row for row in table.to_pylist() if row["feasible"]]
    for a, b in (("latency_s", "energy_j"), ("energy_j", "peak_bytes")):
        best = {r["point"] for r in rows if not any(o[a] < r[a] and o[b] < r[b] for o in rows)}
        assert best <= kept
    assert 7 in kept
    again = form(explored.explored_page(str(tmp_path), most=300))
    assert again == page


def test_a_space_of_techniques_that_are_not_known_any_more_keeps_their_names(tmp_path: Path) -> None:
    parquet.write_table(a_space(10, technique=HOSTILE), tmp_path / "points.parquet")
    assert HOSTILE in values(form(page_of(str(tmp_path)))["sections"][0], "technique")


@pytest.fixture
def results(step: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a result of each kind."""
    monkeypatch.chdir(tmp_path)
    save(step, "step.graph")
    parquet.write_table(a_space(20), "points.parquet")
    write_csv(a_space(20), "points.csv")
    Path("pairs.csv").write_text("network,measured,predicted\na,1,1.05\na,2,2.4\n")
    Path("other.json").write_text('{"schema": "other"}')
    Path("half.json").write_text('{"schema": "trainwatt-estimate", "version": 1, "results": [{}]}')
    Path("broken.json").write_text("{")
    Path("words.csv").write_text("a,b\nx,y\n")
    run = CliRunner()
    for arguments in (
        ["estimate", "step.graph", "-d", "jetson-nano", "--json", "e.json", "--csv", "ops.csv"],
        ["diff", "step.graph", "--apply", "smd", "-d", "jetson-nano", "--json", "d.json"],
    ):
        assert run.invoke(cli, arguments).exit_code == 0
    return tmp_path


@pytest.mark.parametrize(
    ("result", "sections"),
    [
        ("points.parquet", ["Points"]),
        ("points.csv", ["Points"]),
        ("e.json", ["Layers", "Kernel classes"]),
        ("ops.csv", ["Ops"]),
        ("d.json", ["Layers", "Ops"]),
        ("pairs.csv", ["Pairs"]),
    ],
)
def test_each_kind_of_result_becomes_a_page(results: Path, result: str, sections: list[str]) -> None:
    made = CliRunner().invoke(cli, ["report", result, "-o", "page.html"])
    assert made.exit_code == 0, made.output
    page = held(Path("page.html").read_text(encoding="utf-8"))
    assert [section["title"] for section in page["sections"]][: len(sections)] == sections


def test_a_network_with_a_device_is_estimated(results: Path) -> None:
    made = CliRunner().invoke(cli, ["report", "step.graph", "-d", "zcu102", "--apply", "smd", "-o", "page.html"])
    assert made.exit_code == 0, made.output
    page = held(Path("page.html").read_text(encoding="utf-8"))
    assert page["title"] == "One training step of conv-relu-linear on zcu102, 100MHz"
    assert ["technique", "smd{p=0.5,stretch=1.0,dropped_step=false}"] in page["facts"]


def test_the_error_of_pairs_is_on_the_page(results: Path) -> None:
    page = form(page_of("pairs.csv"))
    assert values(page["sections"][0], "error") == [0.05, 0.2]
    assert "12.5%; 1 of 2 are within 10 %" in page["sections"][0]["notes"][0]


def test_several_quantities_have_sections_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "compared.csv"
    path.write_text("quantity,what,measured,predicted\nlatency,a,1,1.1\nspeedup,a,2,2\nlatency,b,3,3\n")
    sections = form(page_of(str(path)))["sections"]
    assert [(s["title"], values(s, "what")) for s in sections] == [("latency", ["a", "b"]), ("speedup", ["a"])]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "-o", "a.html"], "no file or folder 'nowhere'"),
        (["e.json", "-o", "a.txt"], "its name ends in .html"),
        (["e.json", "-o", "no/a.html"], "there is no folder"),
        (["e.json", "-o", "a.html", "--apply", "smd"], "--apply without --device"),
        (["e.json", "-o", "a.html", "--batch", "2"], "--batch without --device"),
        (["other.json", "-o", "a.html"], "none of our documents"),
        (["half.json", "-o", "a.html"], "no whole document"),
        (["broken.json", "-o", "a.html"], "is no JSON"),
        (["words.csv", "-o", "a.html"], "has 0 columns of numbers"),
        (["step.graph", "-o", "a.html"], "stored graph with --device"),
    ],
)
def test_what_is_no_result_is_refused_in_one_line(results: Path, arguments: list[str], said: str) -> None:
    made = CliRunner().invoke(cli, ["report", *arguments])
    assert made.exit_code == 2, made.output
    assert said in made.output
    assert len(made.output.splitlines()) == 1
    assert not list(results.glob("a.*"))
