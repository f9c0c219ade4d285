"""Measuring ops and steps on this machine, into a file that can be resumed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from analysis.cli import cli
from analysis.measurements.command import Outcome, measure_cases
from analysis.measurements.format import read
from simulator.errors import TrainwattError
from simulator.rules import rules
from workloads.measuring import steps, timing
from workloads.measuring.case import Host, Value, fits_not
from workloads.measuring.host import this_host
from workloads.measuring.ops import OpCase, op_cases
from workloads.measuring.steps import StepCase
from workloads.measuring.timing import Timing, time_calls

HOST = Host("a board", "MAXN", {"cpu": 1_500_000_000}, {"torch": "2.13.0", "threads": "1"})


@dataclass(frozen=True)
class Made:
    """A case that does what the test says."""

    what: str
    act: Callable[[], float] = field(default=lambda: 0.5, compare=False)
    kind: str = "op"
    phase: str = "forward"
    batch: int | None = 2
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"c": 3})

    def measure(self, repeats: int, threads: int, deadline_s: float) -> tuple[Value, ...]:
        return (Value("op", "forward", "latency", self.act(), 0.1, repeats),)


def no_memory() -> float:
    raise MemoryError("too large")


def test_a_timing_has_the_median_and_the_interquartile_range() -> None:
    # Quartiles of 1, 2, 3, 4, 10 are 2 and 4.
    found = Timing((1.0, 10.0, 2.0, 4.0, 3.0))
    assert (found.median_s, found.spread_s) == (3.0, 2.0)
    assert Timing((1.0,)).spread_s is None


def test_short_calls_are_timed_several_at_once_and_long_ones_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def taking(seconds: float) -> Callable[[], int]:
        calls = [0]

        def call() -> int:
            clock[0] += seconds
            calls[0] += 1
            return calls[0]

        return call

    short, long = taking(1e-4), taking(0.2)
    assert time_calls(short, 3).median_s == pytest.approx(1e-4)
    assert short() == 2 + 3 * 10 + 1  # two of warm-up, then repeats of 1 ms
    assert time_calls(long, 3).seconds == pytest.approx((0.2,) * 3)
    assert long() == 2 + 3 + 1


def test_no_repeat_but_the_first_begins_after_the_deadline() -> None:
    assert len(time_calls(lambda: None, 50, deadline_s=time.monotonic() - 1).seconds) == 1


def test_rows_say_what_was_run_where_and_under_what(tmp_path: Path) -> None:
    path = str(tmp_path / "measured.csv")
    assert measure_cases(path, [Made("relu")], HOST, 7, 1) == Outcome(1, 0, 0, 0)
    (row,) = read(path)
    assert (row.what, row.parameters, row.batch, row.phase) == ("relu", "c=3", 2, "forward")
    assert (row.device, row.power_mode, row.clocks) == ("a board", "MAXN", "cpu=1500000000")
    assert row.software == "torch=2.13.0;threads=1"
    assert (row.metric, row.value, row.unit, row.spread, row.repeats) == ("latency", 0.5, "s", 0.1, 7)


def test_what_is_in_the_file_is_not_measured_again(tmp_path: Path) -> None:
    path = str(tmp_path / "measured.csv")
    measure_cases(path, [Made("relu")], HOST, 2, 1)
    assert measure_cases(path, [Made("relu", no_memory), Made("add")], HOST, 2, 1) == Outcome(1, 1, 0, 0)
    assert [row.what for row in read(path)] == ["relu", "add"]
    other = Host("another board")
    assert measure_cases(path, [Made("relu")], other, 2, 1) == Outcome(1, 0, 0, 0)


def test_what_does_not_fit_is_a_row_and_not_tried_again(tmp_path: Path) -> None:
    path = str(tmp_path / "measured.csv")
    cases = [Made("relu", no_memory), Made("add")]
    assert measure_cases(path, cases, HOST, 2, 1) == Outcome(1, 0, 1, 0)
    assert [(row.what, row.metric, row.value) for row in read(path)] == [
        ("relu", "out_of_memory", 1.0),
        ("add", "latency", 0.5),
    ]
    assert measure_cases(path, cases, HOST, 2, 1) == Outcome(0, 2, 0, 0)


def test_an_interrupted_measurement_keeps_what_it_had(tmp_path: Path) -> None:
    def stop() -> float:
        raise KeyboardInterrupt

    path = str(tmp_path / "measured.csv")
    with pytest.raises(KeyboardInterrupt):
        measure_cases(path, [Made("relu"), Made("add", stop), Made("mm")], HOST, 2, 1)
    assert [row.what for row in read(path)] == ["relu"]
    assert measure_cases(path, [Made("relu"), Made("add"), Made("mm")], HOST, 2, 1) == Outcome(2, 1, 0, 0)


def test_nothing_begins_after_the_time_limit_and_progress_reaches_the_end(tmp_path: Path) -> None:
    def slow() -> float:
        time.sleep(0.05)
        return 0.05

    shares: list[float] = []
    path = str(tmp_path / "measured.csv")
    cases = [Made("relu", slow), Made("add"), Made("mm")]
    assert measure_cases(path, cases, HOST, 2, 1, 0.03, shares.append) == Outcome(1, 0, 0, 2)
    assert measure_cases(path, cases, HOST, 2, 1, progress=shares.append) == Outcome(2, 1, 0, 0)
    assert shares[-1] == 1.0


def test_every_op_of_the_designed_set_has_a_work_rule_and_a_name_of_its_own() -> None:
    cases = op_cases()
    assert {case.what for case in cases} <= set(rules())
    assert len({(case.what, tuple(case.parameters.items()), case.batch) for case in cases}) == len(cases)
    assert {"convolution", "convolution_grad_input", "convolution_grad_weight"} <= {case.what for case in cases}


@pytest.mark.parametrize("what", sorted({case.what for case in op_cases()}))
def test_an_op_of_each_kind_runs(what: str) -> None:
    case = min((c for c in op_cases() if c.what == what), key=lambda c: c.parameters.get("h", 0))
    (value,) = case.measure(2, 1, time.monotonic() - 1)
    assert 0 < value.value < 10
    assert (value.metric, value.repeats, value.spread) == ("latency", 1, None)


@pytest.mark.parametrize("which", ["input", "weight"])
def test_the_gradients_of_a_convolution_are_those_of_autograd(which: str) -> None:
    shape = {"c": 4, "k": 6, "h": 7, "r": 3, "stride": 2, "groups": 2}
    make = next(case.make for case in op_cases() if case.what == f"convolution_grad_{which}")
    torch.manual_seed(0)
    found = make(n=2, **shape)()[0 if which == "input" else 1]
    torch.manual_seed(0)
    x, w = torch.randn(2, 4, 7, 7, requires_grad=True), torch.randn(6, 2, 3, 3, requires_grad=True)
    y = nn.functional.conv2d(x, w, stride=2, padding=1, groups=2)
    expected = torch.autograd.grad(y, x if which == "input" else w, torch.randn(y.shape))[0]
    torch.testing.assert_close(found, expected)


def test_operands_that_do_not_fit_are_a_memory_error() -> None:
    case = OpCase("relu", "forward", None, {}, lambda: lambda: torch.empty(1 << 58))
    with pytest.raises(MemoryError):
        case.measure(1, 1, float("inf"))
    assert not fits_not(RuntimeError("shape mismatch"))


def test_a_step_has_its_phases_and_its_peak_memory() -> None:
    values = StepCase("lenet5", 2).measure(2, 1, float("inf"))
    by_name = {(value.metric, value.phase): value for value in values}
    phases = ["forward", "loss", "backward", "optimizer"]
    assert list(by_name) == [("latency", ""), *(("latency", phase) for phase in phases), ("peak_memory", "")]
    assert all(value.repeats == 2 for value in values if value.metric == "latency")
    assert sum(by_name["latency", p].value for p in phases) <= 1.5 * by_name["latency", ""].value
    assert by_name["peak_memory", ""].kind == "memory"
    assert by_name["peak_memory", ""].value > 61_706 * 4 * 3  # weights, gradients and momentum of LeNet-5


class TooLarge(nn.Module):
    """Asks for more memory than there is."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.empty(1 << 58) * self.weight


class Killed(TooLarge):
    """Ends as by the system's killer of processes that take too much."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        return x


class Wrong(TooLarge):
    """Fails at its own fault."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("no such layer")


class Endless(TooLarge):
    """Does not come to an end."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(600)
        return x


MODELS = {"TooLarge": MemoryError, "Killed": MemoryError, "Wrong": TrainwattError}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The name under which a new process can import the models of this file."""
    (tmp_path / "models_to_measure.py").write_text(Path(__file__).read_text())
    monkeypatch.syspath_prepend(str(tmp_path))
    return "models_to_measure"


@pytest.mark.parametrize("name", MODELS)
def test_a_step_that_ends_badly_ends_alone(module: str, name: str) -> None:
    with pytest.raises(MODELS[name], match=r"memory|killed|no such layer"):
        StepCase(f"{module}:{name}", 2).measure(1, 1, float("inf"))


def test_a_step_that_takes_far_too_long_is_left(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "GRACE_S", 0.1)
    path = str(tmp_path / "measured.csv")
    start = time.monotonic()
    assert measure_cases(path, [StepCase(f"{module}:Endless", 2)], HOST, 1, 1, time_limit_s=0.1) == Outcome(0, 0, 0, 1)
    assert time.monotonic() - start < 30


def test_this_machine_has_a_name_and_software() -> None:
    host = this_host(1)
    assert host.device
    assert host.software["torch"] == torch.__version__
    assert this_host(2, "my board", "10 W").power_mode == "10 W"


def test_the_command_measures_steps_and_resumes(tmp_path: Path) -> None:
    path = str(tmp_path / "measured.csv")
    arguments = ["measure", "-o", path, "--steps", "lenet5", "--batches", "2", "--repeats", "2", "--device", "here"]
    result = CliRunner().invoke(cli, arguments)
    assert result.output == f"{path}: 1 measured\n"
    assert {row.device for row in read(path)} == {"here"}
    assert json.dumps(read(path)[0].settings["optimizer"]) == '"sgd{momentum=0.9}"'
    assert CliRunner().invoke(cli, arguments).output == f"{path}: 0 measured, 1 there already\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-o", "x.csv"], "nothing to measure; give --ops, --steps NETWORKS, or both"),
        (["-o", "-", "--ops"], "give -o FILE"),
        (["-o", "x.csv", "--steps", "lenet55"], "did you mean 'lenet5'?"),
        (["-o", "x.csv", "--steps", "lenet5", "--batches", "0"], "batches '0'; write for example 1,8,32"),
        (["-o", "x.csv", "--steps", "a.graph"], "cannot run the stored graph"),
        (["-o", "/nowhere/x.csv", "--ops"], "there is no folder"),
        (["-o", __file__, "--ops"], "is no file of measurements"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(arguments: list[str], reason: str) -> None:
    result = CliRunner().invoke(cli, ["measure", *arguments])
    assert result.exit_code == 2
    assert reason in result.output
