"""Clocks, heat and throttling of boards, told by folders that stand for them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from workloads.measuring.board.telemetry import Telemetry, Watch, throttled
from workloads.measuring.host import this_host


def put(root: Path, files: dict[str, object]) -> Path:
    """Write files below `root`."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def command(folder: Path, name: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a command that says `says` on the path."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{says}'\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


CORES = "sys/devices/system/cpu"
NANO = {
    f"{CORES}/cpu0/cpufreq/scaling_cur_freq": 1_224_000,
    f"{CORES}/cpu0/cpufreq/scaling_max_freq": 1_479_000,
    f"{CORES}/cpu0/cpufreq/scaling_governor": "schedutil",
    f"{CORES}/cpu1/cpufreq/scaling_cur_freq": 1_479_000,
    f"{CORES}/cpu1/cpufreq/scaling_max_freq": 1_479_000,
    "sys/class/devfreq/57000000.gpu/cur_freq": 921_600_000,
    "sys/class/devfreq/57000000.gpu/max_freq": 921_600_000,
    "sys/class/devfreq/54340000.vic/cur_freq": 1,
    "sys/class/devfreq/54340000.vic/max_freq": 2_000_000_000,
    "sys/class/thermal/thermal_zone0/type": "CPU-therm",
    "sys/class/thermal/thermal_zone0/temp": 51_500,
    "sys/class/thermal/thermal_zone1/type": "PMIC-Die",
    "sys/class/thermal/thermal_zone1/temp": 100_000,
    "sys/class/hwmon/hwmon2/oc1_event_cnt": 3,
    "proc/device-tree/model": "NVIDIA Jetson Nano Developer Kit\0",
}


@pytest.fixture
def nano(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return put(tmp_path / "root", NANO)


def test_a_board_tells_clocks_limits_and_its_hottest_zone(nano: Path) -> None:
    board = Telemetry(str(nano))
    assert board.clocks_hz() == {"cpu": 1_479_000_000.0, "gpu": 921_600_000.0}
    assert board.limits_hz() == {"cpu": 1_479_000_000.0, "gpu": 921_600_000.0}
    assert board.temperature_c() == 51.5
    assert board.power_mode() == "governor schedutil"


def test_a_machine_that_tells_nothing_is_asked_in_vain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    board = Telemetry(str(tmp_path))
    assert (board.clocks_hz(), board.temperature_c(), board.power_mode()) == ({"cpu": None, "gpu": None}, None, "")
    with Watch(board) as watch:
        pass
    assert watch.readings == []


def test_the_mode_of_nvpmodel_goes_before_the_governor(
    nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(tmp_path / "bin", "nvpmodel", "NV Power Mode: MAXN", monkeypatch)
    host = this_host(1, telemetry=Telemetry(str(nano)))
    assert host.device == "NVIDIA Jetson Nano Developer Kit"
    assert host.power_mode == "MAXN"
    assert host.clocks == {"cpu": 1_479_000_000, "gpu": 921_600_000}


def test_a_watch_tells_heat_before_and_after_and_the_lowest_clocks(nano: Path) -> None:
    with Watch(Telemetry(str(nano)), period_s=0.01) as watch:
        begin_s = time.time()
        put(nano, {"sys/class/devfreq/57000000.gpu/cur_freq": 614_400_000})
        time.sleep(0.2)
        put(nano, {"sys/class/thermal/thermal_zone0/temp": 70_000, "sys/class/devfreq/57000000.gpu/cur_freq": 9e8})
    found = [(reading.metric, reading.value) for reading in watch.readings]
    assert found == [
        ("temperature", 51.5),
        ("temperature", 70.0),
        ("cpu_clock", 1_479_000_000.0),
        ("gpu_clock", 614_400_000.0),
        ("throttled", 1.0),
    ]
    before, after = watch.readings[:2]
    assert before.start_s == before.end_s <= begin_s < after.start_s


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, 0.0),
        ({"sys/class/hwmon/hwmon2/oc1_event_cnt": 4}, 1.0),
        ({f"{CORES}/cpu{i}/cpufreq/scaling_cur_freq": 1_400_000 for i in (0, 1)}, 0.0),  # 5 % below the limit
        ({f"{CORES}/cpu{i}/cpufreq/scaling_cur_freq": 1_300_000 for i in (0, 1)}, 1.0),
    ],
)
def test_counters_that_rise_and_clocks_that_fall_are_throttling(
    nano: Path, change: dict[str, object], expected: float
) -> None:
    with Watch(Telemetry(str(nano)), period_s=60) as watch:
        put(nano, change)
    assert [reading.value for reading in watch.readings if reading.metric == "throttled"] == [expected]


def test_the_firmware_of_a_raspberry_pi_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(tmp_path / "bin", "vcgencmd", "throttled=0x50005", monkeypatch)
    assert Telemetry(str(tmp_path)).events() == {"firmware": 0x50005}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (0x0, 0x0, 0),
        (0x50000, 0x50000, 0),  # it was throttled since boot, but not now
        (0x0, 0x50000, 1),  # it was in between
        (0x0, 0x4, 1),
        (0x50005, 0x50000, 1),
    ],
)
def test_what_the_firmware_says_of_now_and_of_since_is_told_apart(before: int, after: int, expected: int) -> None:
    assert throttled({"firmware": before}, {"firmware": after}, {"cpu": []}, {"cpu": None}) == expected


def test_without_a_source_nothing_is_said_about_throttling() -> None:
    assert throttled({}, {}, {"cpu": [], "gpu": []}, {}) is None
