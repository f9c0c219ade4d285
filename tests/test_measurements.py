"""Rows of measurements, and the file that holds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.measurements.format import COLUMNS, VERSION_LINE, append, examine, read, write
from analysis.measurements.metrics import METRICS
from analysis.measurements.row import Row, settings_text
from simulator.errors import TrainwattError

STEP = Row(
    kind="step",
    what="resnet18",
    parameters="input=3x224x224;optimizer=sgd{momentum=0.9}",
    batch=8,
    device="jetson-nano",
    power_mode="MAXN",
    clocks="gpu=921600000;cpu=1479000000",
    software="torch=1.10.0;cuda=10.2",
    metric="latency",
    value=0.775,
    unit="s",
    spread=0.012,
    repeats=20,
    source='table 2, with a comma and a "quote" in it',
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of three rows; lines 1 and 2 are its head."""
    path = tmp_path / "measured.csv"
    write(path, [STEP, replace(STEP, batch=None, spread=None, repeats=1), replace(STEP, metric="energy", unit="J")])
    return path


def edited(path: Path, change: Callable[[list[str]], None]) -> Path:
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("\n".join(lines) + "\n")
    return path


def test_what_is_written_is_read_back(file: Path) -> None:
    rows = read(file)
    assert rows[0] == STEP
    assert (rows[1].batch, rows[1].spread) == (None, None)
    assert len(rows) == 3


@given(st.floats(min_value=1e-300, max_value=1e300), st.integers(1, 10**9), st.sampled_from(["", 'é, "x";y=1']))
def test_any_value_is_read_back_to_the_last_bit(tmp_path_factory: Any, value: float, batch: int, mode: str) -> None:
    path = tmp_path_factory.mktemp("rows") / "measured.csv"
    row = replace(STEP, value=value, batch=batch, power_mode=mode)
    write(path, [row])
    assert read(path) == (row,)


def test_the_first_line_is_the_version_and_the_second_the_columns(file: Path) -> None:
    first, second = file.read_text().splitlines()[:2]
    assert first == VERSION_LINE == "# trainwatt measurements 2"
    assert second == ",".join(COLUMNS)


def test_pandas_reads_the_file_past_its_first_line(file: Path) -> None:
    import pandas

    held = pandas.read_csv(file, skiprows=1)
    assert list(held.columns) == list(COLUMNS)
    assert held.value[0] == 0.775


def test_rows_are_appended_and_a_missing_file_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    append(path, [STEP])
    append(path, [replace(STEP, batch=16), replace(STEP, batch=32)])
    assert [row.batch for row in read(path)] == [8, 16, 32]
    assert [p.name for p in tmp_path.iterdir()] == ["new.csv"]


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        ("unit", "ms", "unit 'ms' of latency; it is given in 's'"),
        ("value", "nan", "value nan of latency; it is a finite number above 0"),
        ("value", "inf", "value inf of latency"),
        ("value", "0", "value 0 of latency"),
        ("value", "fast", "value 'fast'; it is a number"),
        ("metric", "latencey", "no metric 'latencey'; did you mean 'latency'?"),
        ("kind", "steps", "no kind of measurement 'steps'; did you mean 'step'?"),
        ("phase", "backwards", "no phase 'backwards'; did you mean 'backward'?"),
        ("batch", "8.0", "batch '8.0'; it is a whole number"),
        ("batch", "0", "batch 0; it is a whole number from 1 on"),
        ("repeats", "", "repeats ''; it is a whole number"),
        ("repeats", "1", "spread 0.012 of 1 repeat; leave it empty"),
        ("spread", "-1", "spread -1; it is a finite number from 0 on"),
        ("device", "", "no device; every row names one"),
        ("source", "", "no source; every row names one"),
        ("parameters", "224", "parameters '224'; write key=value;key=value"),
        ("parameters", "a=1;a=2", "parameters 'a=1;a=2' with 'a' twice"),
        ("clocks", "gpu=921.6", "clock gpu=921.6; give it in Hz"),
        ("software", " torch=1", "software ' torch=1'; write it on one line"),
        ("start_s", "1795000000", "times 1795000000.0 to None; give start_s and end_s, in seconds of Unix time"),
        ("end_s", "soon", "end_s 'soon'; it is a number"),
    ],
)
def test_a_bad_cell_is_refused_with_its_line_and_reason(file: Path, column: str, cell: str, reason: str) -> None:
    row = ["" if value is None else str(value) for value in (getattr(STEP, name) for name in COLUMNS)]
    row[COLUMNS.index("source")] = "somewhere"
    row[COLUMNS.index(column)] = cell
    edited(file, lambda lines: lines.insert(3, ",".join(row)))
    with pytest.raises(TrainwattError, match="line 4: ") as caught:
        read(file)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    good, refused = examine(file)
    assert len(good) == 3
    assert [(r.line, reason in r.reason) for r in refused] == [(4, True)]


OLD = """# trainwatt measurements 1
kind,what,parameters,batch,phase,device,power_mode,clocks,software,metric,value,unit,spread,repeats,source
op,relu,c=64;h=56,8,forward,a board,,,torch=1.10.0,latency,0.001,s,,1,me
"""


def test_a_file_of_version_1_is_read_and_becomes_one_of_version_2_when_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    path.write_text(OLD)
    (row,) = read(path)
    assert (row.what, row.start_s, row.end_s) == ("relu", None, None)
    append(path, [replace(STEP, start_s=1795000000.5, end_s=1795000001.0)])
    assert path.read_text().startswith(VERSION_LINE)
    assert [(r.what, r.end_s) for r in read(path)] == [("relu", None), ("resnet18", 1795000001.0)]


def test_a_file_of_version_1_does_not_have_the_columns_of_version_2(tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    path.write_text(OLD.replace("source\n", "source,start_s,end_s\n"))
    with pytest.raises(TrainwattError, match="line 2: columns"):
        read(path)


def test_when_something_ran_makes_no_other_setup() -> None:
    assert replace(STEP, start_s=1.0, end_s=2.0).setup == STEP.setup
    with pytest.raises(TrainwattError, match="times 3 to 2"):
        replace(STEP, start_s=3, end_s=2)


def test_a_torn_last_line_is_refused_even_where_it_would_make_a_row(file: Path) -> None:
    file.write_text(file.read_text().rstrip("\n"))
    with pytest.raises(TrainwattError, match="line 5: torn, as no line break ends it"):
        read(file)
    with pytest.raises(TrainwattError, match="torn"):
        append(file, [STEP])


def test_every_refused_line_is_named(file: Path) -> None:
    edited(file, lambda lines: lines.extend(["", "a,b", 'x,"']))
    with pytest.raises(TrainwattError, match=r"line 6: empty; .* \(lines refused too: 7, 8\)"):
        read(file)
    assert [r.reason.split(";")[0].split(" (")[0] for r in examine(file)[1]] == ["empty", "2 columns", "no CSV"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("kind,what\n", "is no file of measurements"),
        ("", "is no file of measurements"),
        ("# trainwatt measurements 3\n", "of version '3'; this trainwatt reads version 1 and 2"),
        (f"{VERSION_LINE}\nkind,what\n", "line 2: columns 'kind,what'"),
        (f"{VERSION_LINE}", "line 2: columns ''"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "other.csv"
    path.write_text(content)
    with pytest.raises(TrainwattError, match="measurements") as caught:
        examine(path)
    assert reason in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainwattError, match=r"cannot read .* give a file of measurements"):
        read(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TrainwattError, match="no text in UTF-8"):
        read(tmp_path / "binary.csv")


def test_a_failing_write_leaves_the_old_file(file: Path) -> None:
    before = file.read_bytes()

    def rows() -> Any:
        yield STEP
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        write(file, rows())
    assert file.read_bytes() == before


def test_lines_that_end_as_on_windows_are_read(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert read(file)[0] == STEP


def test_the_order_of_parameters_makes_no_other_setup() -> None:
    assert replace(STEP, parameters="a=1;b=2").setup == replace(STEP, parameters="b=2;a=1", value=2.0).setup
    assert STEP.setup != replace(STEP, batch=16).setup


def test_settings_are_written_without_blanks_and_quotes() -> None:
    assert settings_text({"input": (3, 32, 32), "bias": True, "lr": 0.1}) == "input=3x32x32;bias=1;lr=0.1"


def test_every_metric_takes_a_value_in_its_unit() -> None:
    for name, metric in METRICS.items():
        assert replace(STEP, metric=name, unit=metric.unit, value=1.0).value == 1.0


DOCUMENTED = (Path(__file__).parents[1] / "docs" / "measurements.md").read_text(encoding="utf-8")


def test_the_documented_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "documented.csv"
    path.write_text(DOCUMENTED.partition("```csv\n")[2].partition("```")[0])
    assert [(row.kind, row.metric, row.value) for row in read(path)] == [
        ("op", "latency", 0.0121),
        ("step", "energy", 5.9),
    ]


def test_every_column_metric_and_format_is_documented() -> None:
    from analysis.power.reading import KINDS

    for name in (*COLUMNS, *METRICS, *KINDS):
        assert f"`{name}`" in DOCUMENTED
