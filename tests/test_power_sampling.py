"""Power meters of boards, and the energy of what ran while they were read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from analysis.cli import cli
from analysis.measurements.command import measure_cases
from analysis.measurements.energy import join, trace_of
from analysis.measurements.format import read, write
from analysis.measurements.observing import observer
from analysis.measurements.row import Row
from analysis.power.reading import parse
from simulator.errors import TrainwattError
from workloads.measuring.board import power
from workloads.measuring.board.power import FEWEST_SAMPLES, Meter, PowerLog, open_meter
from workloads.measuring.case import Host, Value

SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "reference" / "power-log-samples"
OLD_INA = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
INA = "sys/class/hwmon/hwmon4"


def put(root: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def command(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command of a board is on the path."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


def read_one(name: str, root: Path) -> tuple[str, dict[str, float] | None]:
    meter = open_meter(name, str(root))
    assert meter is not None
    found = meter.read()
    meter.close()
    return meter.name, found


def test_an_ina3221_is_read_by_the_old_driver(tmp_path: Path) -> None:
    put(tmp_path, {f"{OLD_INA}/rail_name_{i}": name for i, name in enumerate(["POM_5V_IN", "POM_5V_GPU", "NC"])})
    put(tmp_path, {f"{OLD_INA}/in_power{i}_input": mw for i, mw in enumerate([4521, 1203, 7])})
    assert read_one("auto", tmp_path) == ("ina3221x", {"POM_5V_IN": 4.521, "POM_5V_GPU": 1.203})


def test_an_ina3221_is_read_by_hwmon_as_volts_times_amperes(tmp_path: Path) -> None:
    put(tmp_path, {f"{INA}/name": "ina3221", f"{INA}/in7_label": "sum of shunt voltages"})
    for i, (name, mv, ma) in enumerate([("VDD_IN", 5000, 1500), ("VDD_CPU_GPU_CV", 4900, 200), ("NC", 5000, 1)], 1):
        put(tmp_path, {f"{INA}/in{i}_label": name, f"{INA}/in{i}_input": mv, f"{INA}/curr{i}_input": ma})
    name, found = read_one("auto", tmp_path)
    assert name == "ina3221"
    assert found == pytest.approx({"VDD_IN": 7.5, "VDD_CPU_GPU_CV": 0.98})


def test_any_power_of_hwmon_is_read(tmp_path: Path) -> None:
    put(tmp_path, {"sys/class/hwmon/hwmon0/name": "ina226_u79", "sys/class/hwmon/hwmon0/power1_input": 1_160_000})
    assert read_one("hwmon", tmp_path) == ("hwmon", {"ina226_u79": 1.16})


def test_rapl_is_read_as_a_rise_that_wraps_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [10.0]
    monkeypatch.setattr(power.time, "perf_counter", lambda: clock[0])
    zone = "sys/class/powercap/intel-rapl:0"
    put(tmp_path, {f"{zone}/name": "package-0", f"{zone}/max_energy_range_uj": 262_143_328_850})
    put(tmp_path, {f"{zone}/energy_uj": 262_143_000_000})
    put(tmp_path, {f"{zone}:0/name": "core", f"{zone}:0/energy_uj": 5})
    meter = open_meter("auto", str(tmp_path))
    assert meter is not None
    assert meter.name == "rapl"
    assert meter.read() is None  # one reading is no rise
    clock[0] = 10.5
    put(tmp_path, {f"{zone}/energy_uj": 671_150})
    # 262143.32885 - 262143 J up to the wrap, 0.67115 J after it: 1 J in half a second
    assert meter.read() == {"0 package-0": pytest.approx(2.0)}


def test_a_raspberry_pi_5_is_read_by_its_pmic_as_the_parser_of_its_logs_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = SAMPLES / "rpi5_pmic_read_adc.txt"
    if not sample.exists():
        pytest.skip(f"no {sample}")
    command(tmp_path / "bin", "vcgencmd", f"cat '{sample}'", monkeypatch)
    name, found = read_one("auto", tmp_path)
    assert name == "pmic"
    expected = parse(sample, interval_s=1.0)
    assert found == pytest.approx({rail: watts[-1] for rail, watts in expected.watts.items()})


def test_tegrastats_is_read_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "RAM 896/7859MB (lfb 26x4MB) GR3D_FREQ 0% GPU@31C VDD_IN 2000mW/1900mW VDD_CPU 500mW/400mW NC 0/0"
    command(tmp_path / "bin", "tegrastats", f"while true; do echo '{line}'; sleep 0.02; done", monkeypatch)
    assert read_one("auto", tmp_path) == ("tegrastats", {"VDD_IN": 2.0, "VDD_CPU": 0.5})


def test_a_meter_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert open_meter("none") is None
    for name, reason in (("auto", "no power meter here"), ("rapl", "no power meter 'rapl' here")):
        with pytest.raises(ValueError, match=reason):
            open_meter(name, str(tmp_path))
    with pytest.raises(ValueError, match="there is auto, none, ina3221x, ina3221, tegrastats, pmic, rapl, hwmon"):
        open_meter("volts")


def test_a_log_leaves_out_samples_in_which_rails_are_missing() -> None:
    told: Iterator[dict[str, float] | None] = iter([{"a": 1.0, "b": 2.0}, {"a": 1.0}, None, {"a": 3.0, "b": 2.0}])
    with PowerLog(Meter("made", 0.001, lambda: next(told, None))) as log:
        time.sleep(0.1)
    assert [watts for _, watts in log.samples] == [{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 2.0}]


BEGAN_S = 1_795_000_000.0
ROW = Row(
    kind="op", what="relu", batch=8, device="a board", metric="latency", value=0.01, unit="s", source="me",
    spread=0.001, repeats=20, start_s=BEGAN_S + 10, end_s=BEGAN_S + 20,
)  # fmt: skip


def sampled(watts: float = 5.0, idle: float = 2.0) -> list[tuple[float, dict[str, float]]]:
    """A sample each half second for 40 s: `watts` from 10 to 20 s, `idle` before and after."""
    times = [0.5 * i for i in range(81)]
    return [(BEGAN_S + t, {"VDD_IN": watts if 10 <= t <= 20 else idle, "VDD_CPU": 0.1}) for t in times]


def test_energy_is_the_mean_power_of_the_window_times_the_latency() -> None:
    found = join([ROW], trace_of("made", sampled()), idle_w=2.0)
    assert found.joined == 1
    assert [(row.metric, row.value, row.unit) for row in found.rows[1:]] == [
        ("power", pytest.approx(5.0), "W"),
        ("energy", pytest.approx(0.05), "J"),
        ("idle_power", 2.0, "W"),
        ("energy_above_idle", pytest.approx(0.03), "J"),
    ]
    assert all(row.setup == ROW.setup for row in found.rows)
    assert found.rows[1].source == "me; power by made: VDD_IN, the board's input"


def test_what_cannot_have_an_energy_gets_none_and_is_counted() -> None:
    untimed = replace(ROW, what="add", start_s=None, end_s=None)
    outside = replace(ROW, what="mul", end_s=BEGAN_S + 50)
    short = replace(ROW, what="mm", end_s=BEGAN_S + 10 + 0.5 * (FEWEST_SAMPLES - 2))
    found = join([untimed, outside, short], trace_of("made", sampled()))
    assert (found.joined, found.untimed, found.outside, found.short) == (0, 1, 1, 1)
    assert found.rows == (untimed, outside, short)


def test_energy_is_added_once() -> None:
    trace = trace_of("made", sampled())
    once = join([ROW], trace).rows
    assert join(once, trace).rows == once


def test_a_log_that_does_not_say_when_it_began_is_refused() -> None:
    trace = replace(trace_of("made", sampled()), began_s=None)
    with pytest.raises(TrainwattError, match="does not say when it began; give that as --began"):
        join([ROW], trace)


@pytest.fixture
def joined(tmp_path: Path) -> tuple[str, str, str]:
    """A log as the script for boards writes it, measurements of the same time, and where the joined ones go."""
    log, path = tmp_path / "board.power.csv", tmp_path / "board.csv"
    lines = [f"{t},{w['VDD_IN']},{w['VDD_CPU']}" for t, w in sampled()]
    log.write_text("# trainwatt power 1\ntime_s,VDD_IN,VDD_CPU\n" + "\n".join(lines) + "\n")
    idle = replace(
        ROW, kind="power", what="idle", batch=None, metric="idle_power", unit="W", value=2.0, spread=None,
        start_s=BEGAN_S + 1, end_s=BEGAN_S + 6,
    )  # fmt: skip
    write(path, [idle, ROW])
    return str(log), str(path), str(tmp_path / "joined.csv")


def test_the_command_joins_a_log_and_measurements_with_the_idle_window_that_they_say(
    joined: tuple[str, str, str],
) -> None:
    log, path, output = joined
    result = CliRunner().invoke(cli, ["power", log, "--join", path, "-o", output])
    assert result.output == f"{output}: energy of 1 measurements; idle 2 W\n"
    held = {row.metric: row.value for row in read(output) if row.what == "relu"}
    assert held["energy_above_idle"] == pytest.approx(0.03)


def test_idle_may_be_marked_and_the_beginning_of_the_log_told(joined: tuple[str, str, str]) -> None:
    log, path, output = joined
    marked = ["power", log, "--join", path, "-o", output, "--idle-from", "25", "--idle-to", "35"]
    assert CliRunner().invoke(cli, marked).exit_code == 0
    later = CliRunner().invoke(cli, [*marked, "--began", str(BEGAN_S + 1000)])
    assert later.output == f"{output}: energy of 0 measurements, 1 ran when nothing was logged; idle 2 W\n"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ([], "give --join FILE and -o FILE"),
        (["-o", "x.csv", "--from", "1"], "the rows say what is integrated"),
        (["-o", "x.csv", "--idle-from", "1"], "half an idle window"),
    ],
)
def test_a_join_that_makes_no_sense_is_refused(joined: tuple[str, str, str], more: list[str], reason: str) -> None:
    log, path, _ = joined
    result = CliRunner().invoke(cli, ["power", log, "--join", path, *more])
    assert result.exit_code == 2
    assert reason in result.output


@dataclass(frozen=True)
class Busy:
    """Runs for as long as it is told to."""

    window_s: float
    what: str = "relu"
    kind: str = "op"
    phase: str = "forward"
    batch: int | None = 2
    parameters: dict[str, Any] = field(default_factory=dict)

    def measure(self, repeats: int, threads: int, deadline_s: float) -> tuple[Value, ...]:
        start_s = time.time()
        time.sleep(self.window_s)
        return (Value("op", "forward", "latency", 0.01, None, 1, start_s, time.time()),)


def test_cases_have_their_energy_where_a_meter_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter("made", 0.01, lambda: {"VDD_IN": 3.0})
    monkeypatch.setattr(power, "open_meter", lambda name: meter)
    monkeypatch.setattr("analysis.measurements.observing.IDLE_S", 0.1)
    path, said = str(tmp_path / "measured.csv"), []
    with observer("made", said.append) as watched:
        measure_cases(path, [Busy(5 * watched.window_s)], Host("a board"), 1, 1, watched=watched)
    found = {row.metric: row.value for row in read(path) if row.metric not in ("temperature", "cpu_clock", "throttled")}
    assert found == pytest.approx(
        {"latency": 0.01, "power": 3.0, "energy": 0.03, "idle_power": 3.0, "energy_above_idle": 0.0}
    )
    assert said == ["power by made: idle for 0.1 s ..."]


def test_a_meter_that_tells_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "open_meter", lambda name: Meter("dead", 0.01, lambda: None))
    monkeypatch.setattr("analysis.measurements.observing.IDLE_S", 0.05)
    with pytest.raises(TrainwattError, match="no sample of power by dead; use --power none"), observer("dead", print):
        pass


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("# trainwatt power 1\ntime_s\n", "columns time_s; they are time_s and one for each rail"),
        ("# trainwatt power 1\ntime_s,a\n1795000000.0\n", "line 3: 1 columns; there are 2"),
        ("# trainwatt power 1\ntime_s,a\n1795000000.0,nan\n", "line 3: 'nan' for a"),
    ],
)
def test_a_torn_log_of_our_own_is_refused(text: str, reason: str) -> None:
    with pytest.raises(TrainwattError) as caught:
        parse(text)
    assert reason in str(caught.value)
