"""`trainwatt validate`: predicted against measured, run here or recorded elsewhere."""

from __future__ import annotations

import csv
import io
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from analysis.cli import cli
from analysis.measurements.format import read, write
from analysis.measurements.row import Row
from analysis.validation.compare import compare
from analysis.validation.comparison import Comparison, summary
from analysis.validation.measure import measure_cases
from analysis.validation.report import csv_text
from hwmodels.device import device
from simulator.estimate import estimate
from workloads.measuring.board.pace import Unwatched
from workloads.measuring.case import Host, Value
from workloads.measuring.compared import ComparedCase, Variant
from workloads.tracer import trace

HOST = Host("a board", "", {}, {"torch": "2.13.0", "threads": "1"})
PLAIN = "optimizer=sgd;precision=fp32"


def row(value: float, metric: str = "latency", unit: str = "s", parameters: str = PLAIN, **other: Any) -> Row:
    given = {"kind": "step", "what": "lenet5", "batch": 4, "device": "a board", "software": "threads=1", **other}
    return Row(parameters=parameters, metric=metric, value=value, unit=unit, source="a test", **given)


def speedup(measured: float, predicted: float, spread: float | None = None) -> Comparison:
    return Comparison("speedup", "lenet5", 4, "smd{p=0.5}", "", measured, predicted, spread)


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, ["validate", *args], prog_name="trainwatt")


def test_a_recorded_step_is_compared_with_the_estimate_of_the_same_step() -> None:
    model = device("x86-avx2")
    real = estimate(trace("lenet5", batch=4, optimizer="sgd"), model)
    rows = [row(2.0 * real.total.latency_s, spread=1e-5, repeats=3)]
    rows += [row(float(real.memory.peak_bytes), "peak_memory", "byte", kind="memory")]
    latency, peak = compare(rows, model).comparisons
    assert latency.error == pytest.approx(-0.5)
    assert peak.error == 0.0


def test_a_speedup_is_time_without_by_time_with_a_technique_in_the_same_setup_only() -> None:
    halved = f"{PLAIN};apply=smd{{p=0.5}};found=smd{{p=0.5}}"
    rows = [row(4e-3), row(1e-3, parameters=halved), row(1e-3, parameters=halved, software="threads=2")]
    found = compare(rows, device("x86-avx2"))
    (one,) = [c for c in found.comparisons if c.quantity == "speedup"]
    assert one.measured == pytest.approx(4.0)
    assert one.predicted == pytest.approx(2.0)  # half of the mini-batches are not trained on
    assert one.setting == "threads=1"


def test_a_recorded_op_is_compared_with_its_price() -> None:
    of = row(1.0, kind="op", what="relu", parameters="c=8;h=8;operands=warm", batch=2, phase="forward")
    (found,) = compare([of], device("x86-avx2")).comparisons
    assert found.quantity == "op latency"
    assert 0 < found.predicted < 1e-3


def test_what_cannot_be_compared_is_left_out_with_the_reason() -> None:
    rows = [row(1e-3), row(1e-3, phase="forward"), row(3.0, "power", "W"), row(1e-3, what="lenet6")]
    found = compare(rows, device("x86-avx2"))
    assert len(found.comparisons) == 1
    assert [line.partition(":")[0] for line in found.left_out] == ["1 row"] * 3
    assert any("lenet6" in line for line in found.left_out)


def test_a_summary_says_errors_signs_and_order_as_reckoned_by_hand() -> None:
    compared = [speedup(2.0, 2.1), speedup(1.5, 0.9), speedup(0.5, 0.6), speedup(1.01, 0.99, spread=0.1)]
    found = summary("speedup", compared)
    assert found.mean_error == pytest.approx((0.05 + 0.4 + 0.2 + 0.02 / 1.01) / 4)
    assert found.worst is compared[1]
    assert found.close == 2
    assert (found.sign_right, found.signs) == (2, 3)  # the last is 1 within its spread
    assert found.correlation == pytest.approx(1 - 6 * (0 + 1 + 0 + 1) / (4 * 15))  # ranks 4 3 1 2 and 4 2 1 3


def test_the_csv_has_a_line_for_each_comparison_in_base_units() -> None:
    text = csv_text([speedup(2.0, 2.1), Comparison("latency", "lenet5", 4, "", "threads=2", 0.5, 0.25)])
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["unit"] for line in lines] == ["1", "s"]
    assert (float(lines[1]["error"]), lines[1]["threads"]) == (-0.5, "2")


def test_of_steps_that_take_a_second_half_is_left_where_half_of_the_mini_batches_are_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(seconds)))
    monkeypatch.setattr("workloads.measuring.compared.this_pace", Unwatched)
    found = ComparedCase("lenet5", 2, ("smd{p=0.5}", "gradient-filter{patch=2,last=4}")).values(3, 1, float("inf"))
    plain, halved, refused = found
    assert [value.metric for value in plain.values] == ["latency", "peak_memory"]
    assert plain.values[1].value == halved.values[1].value
    assert plain.values[0].value == 1.0
    assert halved.values[0].value == pytest.approx(0.5, abs=0.03)  # 10,000 draws
    assert "last=4 of 2 convolutions" in refused.refused
    assert not refused.values


class Counted:
    """A case that does not really run."""

    what, batch, optimizer = "lenet5", 4, "sgd"

    def __init__(self, techniques: Sequence[str] = ()) -> None:
        self.techniques, self.times = tuple(techniques), 0

    def measure(self, *_: Any) -> tuple[Variant, ...]:
        self.times += 1
        value = Value("step", "", "latency", 0.1 * self.times)
        return tuple(Variant(text, text, (value,)) for text in ("", *self.techniques))


def test_what_the_file_has_is_not_measured_again_and_a_new_technique_is_with_its_own_baseline(tmp_path: Path) -> None:
    path = str(tmp_path / "rows.csv")
    case = Counted()
    for _ in range(2):
        rows, missing = measure_cases(path, [case], HOST, 2, 1)
    assert case.times == 1
    assert len(rows) == len(read(path)) == 1
    assert not missing

    both = Counted(["smd{p=0.5}"])
    both.times = 4
    measure_cases(path, [both], HOST, 2, 1)
    assert [one.value for one in read(path)] == [0.5, 0.5]  # they ran in turns: the old baseline is gone


def test_when_the_time_is_over_nothing_is_begun_and_that_is_told(tmp_path: Path) -> None:
    case = Counted()
    rows, missing = measure_cases(str(tmp_path / "rows.csv"), [case], HOST, 2, 1, time_limit_s=0.0)
    assert not rows
    assert not case.times
    assert missing == ("lenet5 at batch 4: no time left; run it again to go on",)


def test_recorded_rows_become_a_table_a_csv_and_a_picture_of_each_quantity(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    write(path, [row(4e-3), row(1e-3, batch=1)])
    compared, picture = tmp_path / "compared.csv", tmp_path / "picture.png"
    given = ["--measurements", str(path), "-d", "x86-avx2", "--csv", str(compared), "--plot", str(picture)]
    result = run(*given)
    assert result.exit_code == 0, result.output
    assert "mean error" in result.output
    assert "are for no machine in particular" in result.output
    assert len(compared.read_text().splitlines()) == 3
    assert (tmp_path / "picture-latency.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "give either --networks NAMES or --measurements FILE"),
        (["--networks", "lenet5"], "give -o FILE"),
        (["--networks", "lenet6", "-o", "x.csv"], "lenet5"),
        (["--networks", "lenet5", "-o", "x.csv", "--apply", "smdd"], "smd"),
        (["--networks", "lenet5", "-o", "x.csv", "--batches", "a"], "1,8,32"),
        (["--measurements", "none.csv"], "cannot read"),
        (["--measurements", "none.csv", "--apply", "smd{p=0.5}"], "in the file already"),
        (["--networks", "lenet5", "-o", "x.csv", "-d", "no-such-device"], "no-such-device"),
        (["--networks", "lenet5", "-o", "x.csv", "--plot", "x.doc"], ".png"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_anything_runs(
    args: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert result.exit_code == 2
    (line,) = [text for text in result.output.splitlines() if text.startswith("Error")] or [result.output.strip()]
    assert said in line
    assert not list(tmp_path.iterdir())


def test_a_technique_that_does_not_apply_is_remembered_with_its_reason(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    host, cases = Host("a machine"), [ComparedCase("lenet5", 2, ("slu",))]
    found, missing = measure_cases(str(table), cases, host, 1, 1)
    assert len(missing) == 1
    assert missing[0].startswith("slu on lenet5")
    assert all(row.metric != "not_applicable" for row in found)
    before = table.read_bytes()
    again = measure_cases(str(table), cases, host, 1, 1)
    assert again == (found, missing)
    assert table.read_bytes() == before
