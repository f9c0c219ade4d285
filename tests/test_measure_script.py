"""The script for boards: one file, old Python, the same cases and networks, rows that are read back."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner

from analysis.cli import cli
from analysis.measurements.format import COLUMNS, VERSION_LINE, read
from analysis.measurements.metrics import METRICS
from analysis.measurements.op_work import work_of_rows
from simulator.errors import TrainwattError
from simulator.work import work_of
from workloads import trace
from workloads.measuring import emit
from workloads.measuring.board import records
from workloads.measuring.board.networks import NETWORKS, build
from workloads.measuring.emit import script_source
from workloads.measuring.ops import op_cases


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script as the command writes it."""
    path = tmp_path_factory.mktemp("board") / "bench.py"
    result = CliRunner().invoke(cli, ["measure", "--emit-script", str(path)])
    assert result.exit_code == 0, result.output
    return path


def imported(script: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_of_a_test", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=script.parent,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


NOT_IN_3_6 = {"removeprefix", "removesuffix", "cached_property", "capture_output", "perf_counter_ns", "time_ns"}


def test_the_script_is_python_3_6(script: Path) -> None:
    tree = ast.parse(script.read_text(), feature_version=(3, 6))
    for node in ast.walk(tree):
        assert not isinstance(node, ast.NamedExpr | ast.Match)
        assert not getattr(node, "posonlyargs", [])
        if isinstance(node, ast.Attribute):
            assert node.attr not in NOT_IN_3_6
        if isinstance(node, ast.keyword):
            assert node.arg not in {"capture_output", "text", "strict", "missing_ok", "dirs_exist_ok"}
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):  # no `int | None`, nor dicts joined
            assert not isinstance(node.right, ast.Name) or node.right.id not in {"str", "int", "float", "dict"}
            assert not (isinstance(node.right, ast.Constant) and node.right.value is None)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            assert node.value.id not in {"list", "dict", "tuple", "set", "type"}
    strings = [node for node in ast.walk(tree) if isinstance(node, ast.FormattedValue)]
    assert all(node.lineno for node in strings)
    assert "=}" not in script.read_text()


def test_the_script_needs_only_the_standard_library_and_torch(script: Path) -> None:
    modules = set()
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.Import):
            modules |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(str(node.module).partition(".")[0])
    assert modules - {"torch"} <= set(sys.stdlib_module_names)
    assert "dataclasses" not in modules
    assert "__future__" not in modules


def test_the_script_measures_ops_and_steps_here_and_goes_on_where_it_was(script: Path, tmp_path: Path) -> None:
    path = tmp_path / "board.csv"
    arguments = ["-o", str(path), "--ops", "--kinds", "hardsigmoid", "--repeats", "2", "--device", "a board"]
    assert run(script, *arguments).stdout == f"{path}: 4 measured\n"
    rows = read(path)
    assert {row.device for row in rows} == {"a board"}
    assert "gradients=aten;on=cpu" in rows[0].software
    latencies = [row for row in rows if row.metric == "latency"]
    assert len(latencies) == 4
    assert work_of_rows(latencies).flops.tolist() == [4 * 960.0, 4 * 960.0, 8 * 4 * 960.0, 8 * 4 * 960.0]
    text = path.read_text()
    path.write_text(text[: text.rindex("op,")] + "op,hardsig")  # the power went out in the middle of a line
    again = run(script, *arguments, "--steps", "squeezenet1.1", "--batches", "1")
    assert again.stdout in (f"{path}: 2 measured, 3 there already\n", f"{path}: 1 measured, 4 there already\n")
    steps = [row for row in read(path) if row.kind in ("step", "memory")]
    phases = ["", "forward", "loss", "backward", "optimizer"]
    assert [row.phase for row in steps if row.metric == "latency"] == phases
    assert steps[0].parameters == "optimizer=sgd{momentum=0.9};precision=fp32"
    assert [row.value > 1e7 for row in steps if row.metric == "resident_memory"] == [True]


def test_the_cases_of_the_script_are_those_of_the_command(script: Path) -> None:
    cases = imported(script).op_set()
    ours = [(case.what, case.phase, case.batch, dict(case.parameters)) for case in op_cases()]
    assert [(case.kind, case.phase, case.batch, case.parameters) for case in cases] == ours


def test_what_does_not_fit_is_a_row_for_ops_and_steps(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (script.parent / "greedy.py").write_text(
        "import torch\n\nclass Net(torch.nn.Module):\n    def __init__(self):\n"
        "        raise RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB')\n"
    )
    monkeypatch.chdir(script.parent)
    module = imported(script)

    def no_memory(*_: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(module, "time_op", no_memory)
    path = tmp_path / "board.csv"
    arguments = ["-o", str(path), "--ops", "--kinds", "gelu", "--steps", "greedy:Net", "--batches", "2"]
    assert module.main(arguments) == 0
    rows = read(path)
    assert {(row.kind, row.metric, row.value) for row in rows} == {
        ("op", "out_of_memory", 1.0),
        ("step", "out_of_memory", 1.0),
    }
    before = path.read_text()
    assert module.main(arguments) == 0
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "nothing to do; give -o FILE and --ops, --steps NETWORKS or both"),
        (["-o", "b.csv", "--steps", "resnet18", "--batches", "one"], "batches 'one'; write for example 1,8,32"),
        (["-o", "bench.py", "--ops"], "'bench.py' is no file of measurements of this version"),
        (["-o", "b.csv", "--ops", "--power", "volts"], "no power meter 'volts'; there is auto, none, ina3221x"),
    ],
)
def test_the_script_refuses_what_makes_no_sense(
    script: Path, arguments: list[str], reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(script.parent)
    assert imported(script).main(arguments) == 2
    assert reason in capsys.readouterr().err


def test_the_script_writes_the_columns_units_and_version_that_are_read() -> None:
    assert records.FIRST_LINE == VERSION_LINE
    assert records.NAMES == COLUMNS
    assert {name: METRICS[name].unit for name in records.UNITS} == records.UNITS


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_network_of_the_script_is_ours(name: str) -> None:
    ours, theirs = trace(name, batch=2, rebatches=False), trace(build(name), batch=2, input_shape=(3, 224, 224))
    assert theirs.meta["parameters"] == ours.meta["parameters"]

    def ops(graph: object) -> list[tuple[object, ...]]:
        work = work_of(graph)  # type: ignore[arg-type]
        columns = (work.kernel, work.macs, work.flops, work.read_bytes, work.written_bytes)
        return sorted(
            (op.phase, op.kind, *(float(column[row]) for column in columns))
            for op, row in zip(graph.ops, work.row_of_op, strict=True)  # type: ignore[attr-defined]
            if op.kind.startswith("convolution") or "norm" in op.kind or "pool" in op.kind or "mm" in op.kind
        )

    assert ops(theirs) == ops(ours)


def test_a_network_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no network 'resnet18x' .*; there is resnet18"):
        build("resnet18x")
    assert isinstance(build("torch.nn:Identity"), torch.nn.Identity)


def test_two_modules_cannot_give_one_name_to_different_things(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emit, "_names", lambda node: ["same"])
    with pytest.raises(TrainwattError, match=r"same in power.py and telemetry.py; rename one"):
        script_source()
