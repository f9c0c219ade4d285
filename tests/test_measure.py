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
from workloads.measuring import ops, steps
from workloads.measuring.board import calls, timing
from workloads.measuring.board.calls import Unavailable, bind, tensors_of
from workloads.measuring.board.cases import op_set
from workloads.measuring.board.memory import fits_not
from workloads.measuring.board.op_timing import bytes_of, time_op
from workloads.measuring.board.signatures import signature
from workloads.measuring.board.timing import COLD_BYTES, Timing, time_calls, time_cold
from workloads.measuring.case import Host, Value
from workloads.measuring.host import this_host
from workloads.measuring.ops import OpCase, op_cases
from workloads.measuring.steps import StepCase

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


def unavailable(*_: object, **__: object) -> None:
    raise Unavailable("it is not there")


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

    monkeypatch.setattr(timing.time, "monotonic", lambda: clock[0])
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


def test_repeats_end_when_a_case_has_taken_long_and_go_on_to_fill_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    for name in ("perf_counter", "monotonic", "time"):
        monkeypatch.setattr(timing.time, name, lambda: clock[0])

    def call() -> None:
        clock[0] += 0.4

    assert len(time_calls(call, 10).seconds) == 3  # after 1.2 s: the second of time is over
    filled = time_calls(call, 10, window_s=20.0)
    assert filled.end_s is not None
    assert filled.start_s is not None
    assert filled.end_s - filled.start_s >= 20.0
    assert filled.median_s == pytest.approx(0.4)


def test_cold_calls_are_timed_after_a_flush_with_results_kept_until_the_repeat_ends() -> None:
    order: list[str] = []

    class Result:
        def __del__(self) -> None:
            order.append("freed")

    def call() -> Result:
        order.append("call")
        return Result()

    found = time_cold([call, call], lambda: order.append("flush"), 2)
    assert order == ["flush", "call", "call", "freed", "freed"] * 2
    assert (len(found.seconds), found.start_s, found.end_s) == (2, None, None)


def test_cold_operands_are_of_their_own_in_every_call_as_far_as_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[int]] = []
    real = bind

    def noting(kind: str, found: Any, tensors: list[Any]) -> Any:
        seen.append({tensor.data_ptr() for tensor in tensors})
        return real(kind, found, tensors)

    monkeypatch.setattr("workloads.measuring.board.op_timing.bind", noting)
    time_op("relu", {"c": 8, "h": 16, "operands": "cold"}, 2, 2, float("inf"))
    assert len(seen) == 8
    assert len(set.union(*seen)) == 8
    seen.clear()
    large = {"c": 64, "h": 224, "operands": "cold"}
    time_op("relu", large, 2, 1, float("inf"))
    assert len(seen) == COLD_BYTES // bytes_of(signature("relu", large, 2)) == 1
    seen.clear()
    time_op("relu", {"c": 8, "h": 16, "operands": "warm"}, 2, 2, float("inf"))
    assert len(seen) == 1


def test_every_op_of_the_designed_set_has_a_work_rule_and_a_name_of_its_own() -> None:
    cases = op_cases()
    assert {case.what for case in cases} <= set(rules())
    assert len({(case.what, tuple(case.parameters.items()), case.batch) for case in cases}) == len(cases)
    assert {"convolution", "convolution_grad_input", "convolution_grad_weight"} <= {case.what for case in cases}
    assert {case.parameters["operands"] for case in cases} == {"warm", "cold"}


def smallest(what: str) -> tuple[dict[str, Any], int | None]:
    """The smallest case of a kind, warm."""
    sized = [
        (bytes_of(signature(c.kind, c.parameters, c.batch)), i, c) for i, c in enumerate(op_set()) if c.kind == what
    ]
    case = min(sized)[2]
    return case.parameters, case.batch


@pytest.mark.parametrize("what", sorted({case.what for case in op_cases()}))
def test_an_op_of_each_kind_makes_what_its_signature_says(what: str) -> None:
    parameters, batch = smallest(what)
    found = signature(what, parameters, batch)
    tensors = tensors_of(what, found, "cpu")
    assert [tuple(tensor.shape) for tensor in tensors] == [operand.shape for operand in found.inputs]
    with torch.no_grad():
        made = bind(what, found, tensors)()
    results = [made] if isinstance(made, torch.Tensor) else [one for one in made if one is not None]
    shapes = [tuple(one.shape) for one in results if one.numel()]
    assert shapes == [operand.shape for operand in found.outputs] or what.startswith("_foreach")
    dtypes = [str(one.dtype).removeprefix("torch.") for one in results if one.numel()]
    assert dtypes == [operand.dtype for operand in found.outputs] or what.startswith("_foreach")


@pytest.mark.parametrize("operands", ["warm", "cold"])
def test_an_op_is_timed(operands: str) -> None:
    case = OpCase("relu", "forward", 2, {"c": 8, "h": 16, "operands": operands})
    value, *_ = case.measure(2, 1, time.monotonic() - 1)  # where the machine is held up, a second one says so
    assert 0 < value.value < 10
    assert (value.metric, value.repeats, value.spread) == ("latency", 1, None)
    assert (value.start_s is None) == (operands == "cold")


@pytest.mark.parametrize("by", ["aten", "autograd"])
@pytest.mark.parametrize("which", ["input", "weight", "bias"])
def test_the_gradients_of_a_convolution_are_those_of_autograd(
    which: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workloads.measuring.board.calls.gradient_calls", lambda: by)
    kind = f"convolution_grad_{which}"
    found = signature(kind, {"c": 4, "k": 6, "h": 7, "r": 3, "stride": 2, "groups": 2}, 2)
    tensors = tensors_of(kind, found, "cpu")
    with torch.no_grad():
        made = bind(kind, found, tensors)()
    got = made if isinstance(made, torch.Tensor) else next(one for one in made if one is not None)
    x = tensors[1] if which == "weight" else torch.randn(2, 4, 7, 7)
    w = tensors[1] if which == "input" else torch.randn(6, 2, 3, 3)
    of = [x.clone().requires_grad_(), w.clone().requires_grad_(), torch.zeros(6, requires_grad=True)]
    y = nn.functional.conv2d(*of, stride=2, padding=1, groups=2)
    expected = torch.autograd.grad(y, of[["input", "weight", "bias"].index(which)], tensors[0])[0]
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("kind", sorted(calls.DIFFERENTIATED))
def test_a_gradient_that_an_old_pytorch_does_not_offer_is_that_of_autograd(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = signature(kind, {"c": 3, "h": 8}, 2)
    x = torch.randn(found.outputs[0].shape)
    tensors = tensors_of(kind, found, "cpu")
    if len(tensors) > 1:
        results = {"sigmoid_backward": torch.sigmoid, "tanh_backward": torch.tanh}  # which go by the op's result
        tensors[1] = results.get(kind, torch.clone)(x)
    if len(tensors) > 2:
        tensors[2] = nn.functional.max_pool2d(x, 2, return_indices=True)[1]
    monkeypatch.setattr(torch, "randn", lambda *_, **__: x.clone())
    with torch.no_grad():
        by_aten = bind(kind, found, tensors)()
        monkeypatch.setattr(calls, "_bound", unavailable)
        (by_autograd,) = bind(kind, found, tensors)()
    torch.testing.assert_close(by_autograd, by_aten)


def test_operands_that_do_not_fit_are_a_memory_error() -> None:
    case = OpCase("relu", "forward", 1 << 20, {"c": 1 << 20, "h": 1 << 9})
    with pytest.raises(MemoryError):
        case.measure(1, 1, float("inf"))
    assert not fits_not(RuntimeError("shape mismatch"))


def test_an_op_that_this_pytorch_does_not_have_is_left_out_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops, "time_op", unavailable)
    cases = [OpCase("hardswish", "forward", 1, {"c": 1, "h": 1}), Made("relu")]
    path = str(tmp_path / "measured.csv")
    assert measure_cases(path, cases, HOST, 2, 1) == Outcome(1, 0, 0, 0, unavailable=1)
    assert [row.what for row in read(path)] == ["relu"]


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
        (["--ops"], "no file to add rows to; give -o FILE"),
        (["-o", "x.csv", "--emit-script", "bench.py"], "-o with --emit-script; the script itself takes -o"),
        (["-o", "x.csv", "--ops", "--power", "volts"], "no power meter 'volts'; there is auto, none, ina3221x"),
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
