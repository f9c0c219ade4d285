"""Measurements as Parquet: the same rows and the same checks as in CSV."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.measurements.format import COLUMNS, append, examine, read, write
from analysis.measurements.row import Row
from simulator.errors import TrainwattError

ROW = Row(
    kind="step",
    what="resnet18",
    batch=8,
    device="a board",
    metric="latency",
    value=0.1 + 0.2,
    unit="s",
    source='me, "x"',
)
TIMED = replace(ROW, batch=None, spread=0.1, repeats=3, start_s=1795000000.25, end_s=1795000001.5)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "measured.parquet"
    write(path, [ROW, TIMED])
    return path


def rewritten(path: Path, change: Callable[[Any], Any]) -> Path:
    pq.write_table(change(pq.read_table(path)), path)
    return path


def test_what_is_written_is_read_back_to_the_last_bit(file: Path) -> None:
    assert read(file) == (ROW, TIMED)
    append(file, [replace(ROW, batch=16)])
    assert [row.batch for row in read(file)] == [8, None, 16]


def test_a_file_without_rows_has_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "none.parquet"
    write(path, [])
    assert read(path) == ()
    assert pq.read_table(path).column_names == list(COLUMNS)


def test_csv_and_parquet_hold_the_same(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "measured.csv"
    write(other, read(file))
    assert read(other) == read(file)


def test_a_bad_row_is_refused_with_its_number_and_reason(file: Path) -> None:
    units = pa.array(["s", "ms"])
    rewritten(file, lambda table: table.set_column(COLUMNS.index("unit"), "unit", units))
    with pytest.raises(TrainwattError, match="row 2: unit 'ms' of latency; it is given in 's'"):
        read(file)
    assert len(examine(file)[0]) == 1


def test_text_that_is_missing_is_refused(file: Path) -> None:
    kinds = pa.array(["step", None], pa.string())
    rewritten(file, lambda table: table.set_column(0, "kind", kinds))
    with pytest.raises(TrainwattError, match="row 2: no kind; every row has one"):
        read(file)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.replace_schema_metadata({}), "is no file of measurements; its metadata says the version"),
        (lambda t: t.replace_schema_metadata({"trainwatt measurements": "9"}), "of version '9'; this trainwatt reads"),
        (lambda t: t.drop_columns(["end_s"]), "columns kind, what"),
        (lambda t: t.set_column(10, "value", pa.array(["1", "2"])), "column 'value' of string; it is of double"),
    ],
)
def test_a_file_of_another_form_is_refused(file: Path, change: Callable[[Any], Any], reason: str) -> None:
    with pytest.raises(TrainwattError) as caught:
        read(rewritten(file, change))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainwattError, match=r"cannot read .* give a file of measurements"):
        read(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("# trainwatt measurements 2\n")
    with pytest.raises(TrainwattError, match="is no Parquet"):
        read(tmp_path / "text.parquet")
