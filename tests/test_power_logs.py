"""Every format of power log: short samples in its form, and published ones where they are at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.power.energy import measure
from analysis.power.reading import KINDS, parse
from simulator.errors import TrainwattError

SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "reference" / "power-log-samples"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="published power logs are not at hand")

TX2 = "RAM 896/7859MB (lfb 26x4MB) SWAP 0/3929MB (cached 0MB) CPU [4%@2035,off] EMC_FREQ 0% GR3D_FREQ 0%@[114] GPU@31C"
LOGS = {
    "tegrastats": f"Tue Jan 26 18:22:31 UTC 2021\n{TX2} VDD_IN 2000/2000 VDD_CPU 500/500\n"
    f"{TX2} VDD_IN 4000/3000 NVENC 716 VDD_CPU 700/600\n",
    "jtop": "time,CPU1,Power VDD_CPU,Power TOT,nvp model\n2026-01-31 23:59:59.5,3,500,2000,MAXN\n"
    "2026-02-01 00:00:00.500,OFF,700,4000,MAXN\n",
    "perf": " Performance counter stats:\n\n 6.00 Joules power/energy-pkg/\n\n 2.0 seconds time elapsed\n",
    "powerstat": "Running for 2 seconds\n  Time    User  Nice  Watts\n23:59:59   1.6   0.0   2.00\n"
    "00:00:00   0.9   0.0   4.00\n-------- ----- ----- ------\n Average   1.2   0.0   3.00\n",
    "joulescope": "# a comment\ntime,current,voltage,power,charge,energy\n60.0,0.4,5,2.0,0,0\n61.0,0.8,5,4.0,0,0\n",
    "monsoon": "Time (s),Main Avg Current (mA),Main Avg Power (mW)\n0.0,400,2000\n1.0,800,4000\n",
    "raspberry": "1700000000.0\n  VDD_CORE_A current(7)=2.0A\n  VDD_CORE_V volt(15)=1.0V\n     EXT5V_V volt(24)=5.09V\n"
    "1700000001.0\n  VDD_CORE_A current(7)=4.0A\n  VDD_CORE_V volt(15)=1.0V\n     EXT5V_V volt(24)=5.09V\n",
    "xilinx": "1700000000\nSOM total power   :     2000 mW     2000 mW\nSOM total current :  400 mA\n"
    "SOM total voltage : 5000 mV\n1700000001\nSOM total power   :     4000 mW     3000 mW\n"
    "SOM total current :  800 mA\nSOM total voltage : 5000 mV\n",
    "hwmon": "2026-01-31T10:00:00\nina226_u79-isa-0000\nAdapter: ISA adapter\nin1: +0.01 V\nin2: +1.00 V\n"
    "power1: 2.00 mW\ncurr1: +2.00 A\n2026-01-31T10:00:01\nina226_u79-isa-0000\nAdapter: ISA adapter\n"
    "in1: +0.01 V\nin2: +1.00 V\npower1: 4.00 mW\ncurr1: +4.00 A\n",
    "ina219": "1700000000000\nBus Voltage: 5.000 V\nBus Current: 400.000 mA\nPower: 2000.000 mW\nShunt voltage: 4 mV\n"
    "1700000001000\nBus Voltage: 5.000 V\nBus Current: 800.000 mA\nPower: 4000.000 mW\nShunt voltage: 8 mV\n",
    "trainwatt": "# trainwatt power 1\ntime_s,VDD_IN,VDD_CPU\n1700000000.0,2.0,0.5\n1700000001.0,4.0,0.7\n",
}
"""One log a format; all of 2 W that become 4 W within a second, or 6 J in two seconds."""


@pytest.mark.parametrize("kind", KINDS)
def test_each_format_is_recognised_by_itself_alone(kind: str) -> None:
    assert [known for known, module in KINDS.items() if module.recognises(LOGS[kind])] == [kind]


@pytest.mark.parametrize("kind", KINDS)
def test_each_format_gives_its_power_and_energy(kind: str) -> None:
    trace = parse(LOGS[kind])
    assert trace.kind == kind
    found = measure(trace).total
    assert found.mean_w == pytest.approx(3.0)
    if kind != "perf":
        assert trace.total_w == pytest.approx((2.0, 4.0))
        assert trace.times_s == (0.0, 1.0)


LAST = {
    "tegrastats": "4000/3000",
    "jtop": "4000,",
    "perf": "6.00",
    "powerstat": "4.00",
    "joulescope": "4.0,",
    "monsoon": "4000",
    "raspberry": "4.0A",
    "xilinx": "4000 mW",
    "hwmon": "4.00 A",
    "ina219": "800.000 mA",
    "trainwatt": "4.0,",
}
"""A power, or a part of one, in each log."""


@pytest.mark.parametrize("kind", KINDS)
def test_nan_in_a_log_is_refused_with_its_line(kind: str) -> None:
    text = LOGS[kind].replace(LAST[kind], "nan" + LAST[kind].lstrip("0123456789."))
    (line,) = [i for i, content in enumerate(text.splitlines(), start=1) if "nan" in content]
    with pytest.raises(TrainwattError, match=f"line {line}: "):
        parse(text)


def test_a_log_says_when_it_began_where_its_times_are_dates() -> None:
    assert parse(LOGS["trainwatt"]).began_s == 1700000000.0
    assert parse(LOGS["ina219"]).began_s == 1700000000.0
    assert [parse(LOGS[kind]).began_s for kind in ("perf", "joulescope", "monsoon")] == [None] * 3


@pytest.mark.parametrize("kind", ["raspberry", "xilinx", "hwmon", "ina219"])
def test_time_that_goes_back_is_refused(kind: str) -> None:
    text = LOGS[kind].replace("1700000001", "1600000001").replace("10:00:01", "09:00:01")
    with pytest.raises(TrainwattError, match=r"line \d+: time goes from"):
        parse(text)


def test_the_windows_of_tegrastats_need_no_times_but_say_so() -> None:
    assert parse(LOGS["tegrastats"]).notes == ("the log has no times: samples taken as 1 s apart",)
    assert parse(LOGS["tegrastats"], interval_s=0.1).times_s == (0.0, 0.1)


def test_rails_named_like_temperatures_are_told_apart_and_summed_where_no_input_is_measured() -> None:
    line = "RAM 1/2MB GR3D_FREQ 0%@1377 GPU@28C CPU@28C GPU 1155/1155 CPU 385/385 NC 0/0 SYS5V 2692/2692 NC 0/0\n"
    trace = parse(line)
    assert {name: values[0] for name, values in trace.watts.items()} == {"GPU": 1.155, "CPU": 0.385, "SYS5V": 2.692}
    assert trace.total_is == "sum of 3 rails"
    assert trace.total_w == pytest.approx((4.232,))


def test_three_fields_of_power_and_stamps_of_whole_seconds_are_read() -> None:
    line = "07-25-2026 09:08:{:02d} RAM 2/6MB (lfb 1x2MB) NVENC0 off cpu@52.968C/52.968C VDD_GPU_SOC {}mW/5mW/9mW\n"
    trace = parse("".join(line.format(28 + i // 2, 1000 * i) for i in range(6)))
    assert trace.times_s == (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
    assert trace.watts == {"VDD_GPU_SOC": (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)}


def test_a_torn_line_of_tegrastats_is_refused() -> None:
    with pytest.raises(TrainwattError, match="line 3: rails differ from those of line 2 in VDD_CPU"):
        parse(LOGS["tegrastats"].partition(" VDD_CPU 700")[0] + "\n")
    with pytest.raises(TrainwattError, match="line 3: no power rails"):
        parse(LOGS["tegrastats"].partition(" VDD_IN 4000")[0] + "\n")


def test_a_last_line_without_a_line_break_is_told() -> None:
    assert "no line break ends the last line: it may be torn" in parse(LOGS["monsoon"].rstrip("\n")).notes


def test_what_is_no_sample_is_told() -> None:
    assert "no samples, left out: line 4" in parse(LOGS["tegrastats"] + "connection closed\n").notes


@pytest.mark.parametrize(
    ("text", "joules"),
    [("0,05", 0.05), ("2,306.32", 2306.32), ("2.306,32", 2306.32), ("3.59", 3.59), ("1,002,306.32", 1002306.32)],
)
def test_energy_in_the_writing_of_any_locale(text: str, joules: float) -> None:
    trace = parse(f"{text} Joules power/energy-pkg/\n 2,000000000 seconds time elapsed\n")
    assert measure(trace).total.energy_j == pytest.approx(joules)


def test_a_number_that_can_be_read_in_two_ways_is_refused() -> None:
    with pytest.raises(TrainwattError, match="line 1: '2,306' has a comma that may divide thousands"):
        parse("2,306 Joules power/energy-pkg/\n 1.0 seconds time elapsed\n")


def test_cores_of_a_domain_are_added_and_what_was_not_counted_is_told() -> None:
    trace = parse(
        "S0-D0-C0  1  3.73 Joules power/energy-pkg/\nS1-D0-C0  1  1.27 Joules power/energy-pkg/\n"
        "<not counted> Joules power/energy-ram/\n 2.0 +- 0.1 seconds time elapsed ( +- 1.24% )\n"
    )
    assert trace.watts["pkg"][0] == 2.5
    assert "line 3: energy-ram is not counted, left out" in trace.notes


def test_domains_that_contain_each_other_are_not_added() -> None:
    body = " 1 Joules power/energy-cores/\n 2 Joules power/energy-ram/\n 4 Joules power/energy-pkg/\n"
    assert parse(body + " 1.0 seconds time elapsed\n").total == ("pkg", "ram")
    assert parse(" 9 Joules power/energy-psys/\n" + body + " 1.0 seconds time elapsed\n").total == ("psys",)
    with pytest.raises(TrainwattError, match="no 'seconds time elapsed'"):
        parse(body)


def test_pymonsoon_says_ms_but_means_seconds_and_stamps_packets() -> None:
    trace = parse("Time(ms),Main(mA),Main Voltage(V),\n0.5,1000,4,\n0.5,1000,4,\n0.7,500,4,\n0.7,500,4,\n")
    assert trace.times_s == pytest.approx((0.0, 0.1, 0.2, 0.3))
    assert trace.total_w == pytest.approx((4.0, 4.0, 2.0, 2.0))
    assert "Time(ms) of PyMonsoon taken as seconds, which it is" in trace.notes
    with pytest.raises(TrainwattError, match="no voltage in the monsoon log"):
        parse("Time(ms),Main(mA),\n0.5,1000,\n")


def test_a_power_of_the_wrong_scale_gives_way_to_volts_times_amperes() -> None:
    trace = parse(LOGS["hwmon"])
    assert trace.watts == {"VCCINT": (2.0, 4.0)}
    assert "line 6 and 1 more: power has a wrong scale, volts times amperes taken instead" in trace.notes


def test_a_sensor_that_says_no_power_has_volts_times_amperes() -> None:
    text = "\n".join(line for line in LOGS["hwmon"].splitlines() if not line.startswith("power1")) + "\n"
    assert parse(text).watts == {"VCCINT": (2.0, 4.0)}


def test_files_of_hwmon_are_read_with_their_units_and_labels() -> None:
    folder = "/sys/class/hwmon/hwmon"
    trace = parse(
        f"{folder}1/name:ina3221\n{folder}1/in1_label:VDD_IN\n{folder}1/in1_input:5000\n{folder}1/curr1_input:400\n"
        f"{folder}1/in7_input:3\n{folder}2/name:ina226_u80\n{folder}2/in1_input:1\n{folder}2/in2_input:1800\n"
        f"{folder}2/curr1_input:500\n{folder}2/power1_input:900000\n{folder}3/name:cpu_thermal\n{folder}3/in0_input:1\n"
    )
    assert {name: values[0] for name, values in trace.watts.items()} == pytest.approx({"VDD_IN": 2.0, "VCCAUX": 0.9})
    assert trace.total == ("VDD_IN",)


def test_a_raspberry_rail_without_its_volts_is_refused() -> None:
    with pytest.raises(TrainwattError, match="line 1: VDD_CORE without its volts"):
        parse("  VDD_CORE_A current(7)=2.0A\n  EXT5V_V volt(24)=5.09V\n")


def test_rows_torn_in_a_table_are_refused() -> None:
    with pytest.raises(TrainwattError, match="line 4: 2 columns instead of 3"):
        parse(LOGS["monsoon"] + "2.0,80\n")
    with pytest.raises(TrainwattError, match="line 5: 2 columns instead of 4"):
        parse("\n".join(LOGS["powerstat"].splitlines()[:4]) + "\n00:00:01  0.9\n")


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("hello\nworld\n", "auto", "the log is no power log that is known; there is tegrastats"),
        (" \n", "auto", "the log is empty"),
        ("hello\nworld\n", "tegrastat", "no kind of power log 'tegrastat'; did you mean 'tegrastats'?"),
        ("hello\nworld\n", "tegrastats", "the log is no tegrastats log"),
    ],
)
def test_what_is_no_power_log_is_refused(text: str, kind: str, reason: str) -> None:
    with pytest.raises(TrainwattError, match=";") as caught:
        parse(text, kind)
    assert reason in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_no_format_falls_over_a_log_of_another(kind: str) -> None:
    for text in (*LOGS.values(), "\n", "Time (s)\n", "time,x\n1,2\n"):
        if not KINDS[kind].recognises(text):
            with pytest.raises(TrainwattError):
                parse(text, kind)


@needs_samples
@pytest.mark.parametrize(
    ("name", "samples", "watts"),
    [
        ("tegrastats_tx2_sample_log.txt", 432, 1.84),
        ("joulescope_downsample.csv", 5, 0.0108731),
        ("kv260_xlnx_platformstats.txt", 1, 3.1),
        ("perf_stat_energy.txt", 2, 51.10 / 5.001965465),
        ("perf_stat_energy_repeat.txt", 2, 85.09 / 34.922801),
        ("powerstat_R.txt", 4, 5.06),
        ("rpi5_pmic_read_adc.txt", 1, 7.24),
        ("zcu102_sensors_ina226.txt", 1, 1.36),
    ],
)
def test_published_logs_are_read(name: str, samples: int, watts: float) -> None:
    trace = parse(SAMPLES / name)
    assert len(trace.times_s) == samples
    assert trace.total_w[0] == pytest.approx(watts, rel=1e-3)


@needs_samples
def test_a_log_of_a_tx2_has_the_powers_that_another_reader_finds() -> None:
    import csv

    trace = parse(SAMPLES / "tegrastats_tx2_sample_log.txt")
    lines = (SAMPLES / "tegrastats_tx2_sample_log_parsed.csv").read_text().splitlines()[2:]
    theirs = [row for row in csv.DictReader(lines) if row["Index"]]
    for rail, values in trace.watts.items():
        column = f"Current {rail} Power Consumption (mW)"
        assert values[: len(theirs)] == pytest.approx([float(row[column]) / 1000 for row in theirs])
    assert (min(trace.total_w), max(trace.total_w)) == (1.457, 8.986)


@needs_samples
def test_the_integral_agrees_with_the_energy_that_a_joulescope_counts() -> None:
    counted = 3.26234 - 0.652385  # its own column, from the first row to the last
    assert measure(parse(SAMPLES / "joulescope_downsample.csv")).total.energy_j == pytest.approx(counted, rel=1e-4)


@needs_samples
def test_each_line_of_tegrastats_ever_seen_is_read_or_refused_for_its_lack_of_power() -> None:
    lines = [line for line in (SAMPLES / "tegrastats_lines.txt").read_text().splitlines() if not line.startswith("#")]
    for line in lines[10:]:
        with pytest.raises(TrainwattError, match="no power rails"):
            parse(line + "\n")
    loads = [1.75, 8.055, 1.84, 14.025, 6.14, 2.763, 6.926, 7.009, 13.907, 12.517]
    assert [parse(line + "\n").total_w[0] for line in lines[:10]] == pytest.approx(loads)


@needs_samples
def test_a_head_without_samples_is_refused() -> None:
    with pytest.raises(TrainwattError, match="no sample in the monsoon log"):
        parse(SAMPLES / "monsoon_pymonsoon_header_only.csv")
