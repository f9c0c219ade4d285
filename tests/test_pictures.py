"""Pictures: what they draw adds up to the report, nothing leaves the page, and bad input is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from pyarrow import parquet

from analysis import output
from analysis.cli import cli
from analysis.explore.marking import objectives
from analysis.pictures import (
    design_space,
    layers,
    measured_file,
    memory,
    points,
    predicted_measured,
    roofline,
    savings,
    sensitivity,
)
from analysis.pictures.predicted_measured import Point
from analysis.pictures.style import label_of, scaled
from hwmodels.device import FOLDER, device
from simulator.errors import TrainwattError
from simulator.estimate import estimate
from simulator.graph import Graph
from simulator.io import save
from simulator.report import Report
from simulator.techniques import parse

NANO, PI = "jetson-nano", "raspberry-pi-4b"


@pytest.fixture
def report(step: Graph) -> Report:
    return estimate(step, device(NANO))


@pytest.fixture
def graph_file(step: Graph, tmp_path: Path) -> str:
    path = tmp_path / "step.graph"
    save(step, path)
    return str(path)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn, instead of files."""
    figures: list[Any] = []
    monkeypatch.setattr(output, "write_picture", lambda figure, path: figures.append(figure))
    return figures


def explored(count: int = 400) -> pa.Table:
    """Points of 12 techniques with names of all lengths, a tenth of them infeasible."""
    rng = np.random.default_rng(1)
    names = [f"smd{{p={k / 20}}}" for k in range(1, 12)] + ["gradient-filter{patch=4,last=3},smd{p=0.25}"]
    return pa.table(
        {
            "network": ["resnet18"] * count,
            "technique": [names[k % 12] for k in range(count)],
            "device": [NANO] * count,
            "batch": list(range(1, count + 1)),
            "latency_s": rng.lognormal(0, 1, count),
            "energy_j": rng.lognormal(2, 1, count),
            "peak_bytes": rng.integers(10**7, 10**9, count),
            "feasible": [k % 10 > 0 for k in range(count)],
        }
    )


@pytest.mark.parametrize("by", ["role", "phase"])
def test_the_parts_of_the_memory_add_up_to_what_is_held_in_every_op(report: Report, by: Any) -> None:
    parts = memory.held(report, by)
    assert (sum(parts.values()) == report.memory.live_bytes).all()
    assert all((column >= 0).all() for column in parts.values())


def test_the_memory_by_role_at_the_peak_is_that_of_the_report(report: Report) -> None:
    peak = report.memory.peak_op
    at_peak = {name: int(column[peak]) for name, column in memory.held(report, "role").items() if column[peak]}
    assert at_peak.pop("workspace", 0) == report.memory.workspace_bytes
    assert at_peak == dict(report.memory.by_role)


@pytest.mark.parametrize("quantity", list(layers.QUANTITIES))
def test_the_layers_add_up_to_the_step(report: Report, quantity: str) -> None:
    total = sum(float(amounts.sum()) for amounts in layers.stacked(report, quantity).values())
    assert total == pytest.approx(getattr(report.total, quantity), rel=1e-12)


def test_no_op_of_a_roofline_device_is_above_its_roof(step: Graph, flat: Any) -> None:
    intensity, rate, share, placed = roofline.bubbles(estimate(step, flat))
    # 1 GFLOP/s and 1 GB/s, whichever takes longer
    np.testing.assert_allclose(rate, 1e9 * np.minimum(1, intensity), rtol=1e-12)
    assert len(placed)
    assert 0 < share.sum() <= 1 + 1e-12


def test_savings_are_fractions_of_the_untreated_step(step: Graph) -> None:
    hardware = [device(NANO), device(PI)]
    found = savings.bars(step, hardware, {"smd{p=0.5}": parse("smd{p=0.5}")})
    assert {(bar.device.split(",")[0], bar.quantity) for bar in found} == {
        (name, quantity) for name in (NANO, PI) for quantity in ("time", "energy", "peak memory")
    }
    # Half of the mini-batches are dropped; those that run need all of the memory.
    assert all(bar.fraction == pytest.approx(1.0 if bar.quantity == "peak memory" else 0.5) for bar in found)


def test_a_number_varied_is_the_device_with_that_number_in_its_file(step: Graph, tmp_path: Path) -> None:
    text = (FOLDER / f"{NANO}.toml").read_text(encoding="utf-8")
    assert '"256 FLOP/cycle"' in text
    (tmp_path / "faster.toml").write_text(text.replace('"256 FLOP/cycle"', '"281.6 FLOP/cycle"'), encoding="utf-8")
    faster, plain = estimate(step, device(tmp_path / "faster.toml")), estimate(step, device(NANO))
    found = sensitivity.sensitivity(step, NANO, by=0.1)
    effect = next(e for e in found.effects if e.path == "compute.float32")
    assert effect.up is not None
    assert effect.up[0] == pytest.approx(faster.total.latency_s / plain.total.latency_s - 1, abs=1e-12)
    assert effect.up[1] == pytest.approx(faster.total.energy_j / plain.total.energy_j - 1, abs=1e-12)


@pytest.mark.parametrize("name", [NANO, PI, "zcu102", "x86-avx2"])
def test_static_power_is_felt_in_energy_alone_on_every_model(step: Graph, name: str) -> None:
    found = sensitivity.sensitivity(step, name, by=0.1)
    effect = next(e for e in found.effects if e.path == "power.static")
    assert effect.up is not None
    assert effect.up[1] > 0
    assert effect.up[0] == effect.up[2] == 0


def test_numbers_that_cannot_be_varied_are_named_with_the_reason(step: Graph) -> None:
    found = sensitivity.sensitivity(step, NANO, by=0.1)
    assert "whole number" in found.refused["modes.MAXN.units x 1.1"]
    assert "modes.MAXN.units x 1.1" in sensitivity.text(found)
    assert not any(path.startswith("modes.5W") for path in (e.path for e in found.effects))


@pytest.mark.parametrize("by", [0.0, 1.0, -0.1])
def test_a_variation_that_is_no_share_is_refused(step: Graph, by: float) -> None:
    with pytest.raises(TrainwattError, match="above 0 and below 1"):
        sensitivity.sensitivity(step, NANO, by=by)


def test_the_front_drawn_is_that_of_brute_force(drawn: list[Any]) -> None:
    table = explored()
    design_space.draw(
        table, "a.png", x=objectives(["latency_s"])[0], y=objectives(["max:batch"])[0], colour="technique"
    )
    line = next(line for line in drawn[0].axes[0].lines if line.get_label().startswith("front"))
    rows = [r for r in table.to_pylist() if r["feasible"]]
    best = [
        r["latency_s"]
        for r in rows
        if not any(o["latency_s"] <= r["latency_s"] and o["batch"] >= r["batch"] and o is not r for o in rows)
    ]
    np.testing.assert_allclose(sorted(line.get_xdata()), sorted(best))


def test_points_are_chosen_by_the_values_of_columns() -> None:
    kept = points.kept(explored(), ["technique=smd{p=0.05}", "technique=smd{p=0.1}", "device=jetson-nano"])
    assert set(kept["technique"].to_pylist()) == {"smd{p=0.05}", "smd{p=0.1}"}
    with pytest.raises(TrainwattError, match="no device 'jetson-nan'; did you mean 'jetson-nano'"):
        points.kept(explored(), ["device=jetson-nan"])


def test_the_error_is_the_mean_of_relative_distances() -> None:
    pairs = [Point("a", "1", measured=2.0, predicted=2.2), Point("a", "2", measured=1.0, predicted=0.7)]
    assert predicted_measured.mean_error(pairs) == pytest.approx((0.1 + 0.3) / 2)


def test_of_a_table_of_several_quantities_one_is_drawn_in_its_unit(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(
        "quantity,what,batch,unit,measured,predicted,error,low,high\n"
        "latency,a,8,s,0.5,0.6,0.2,,\npeak_memory,a,8,byte,100,101,0.01,90,110\n"
    )
    with pytest.raises(TrainwattError, match="several quantities; choose one: 'latency', 'peak_memory'"):
        measured_file.read_pairs(str(path))
    found = measured_file.read_pairs(str(path), quantity="peak_memory")
    assert found == measured_file.Pairs((Point("a", "8", 100.0, 101.0, 90.0, 110.0),), "peak_memory", "B")


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_value_without_a_place_on_a_logarithmic_axis_is_refused(value: float) -> None:
    with pytest.raises(TrainwattError, match=r"measured .* of 'x'; it is a finite number above 0"):
        Point("g", "x", measured=value, predicted=1.0)


def test_the_interval_predicted_is_drawn_where_there_is_one(drawn: list[Any]) -> None:
    pairs = [Point("a", "1", 1.0, 1.1, 0.9, 1.3), Point("a", "2", 2.0, 2.1)]
    predicted_measured.draw(pairs, "a.png", quantity="time", unit="s")
    segments = [s for c in drawn[0].axes[0].collections if hasattr(c, "get_segments") for s in c.get_segments()]
    assert [tuple(segment[:, 1]) for segment in segments] == [(0.9, 1.3)]


def test_axes_have_round_prefixes_and_columns_read_as_words() -> None:
    assert scaled([0.002, 0.4], "s") == (1e-3, "ms")
    assert scaled([5000.0], "s") == (1.0, "s")
    assert scaled([3e9], "B") == (1e9, "GB")
    assert label_of("epoch_latency_s") == "epoch latency"
    assert label_of("energy_j_saved") == "energy saved"
    assert label_of("saved_bytes") == "saved"


def all_kinds(step: Graph) -> None:
    """Draw every kind once, with long names."""
    report = estimate(step, device(NANO))
    table = explored()
    x, y = objectives(["latency_s", "peak_bytes"])
    design_space.draw(table, "a.png", x=x, y=y, colour="technique")
    applied = "gradient-filter{patch=4,last=1},smd{p=0.25}"
    savings.draw(savings.bars(step, [device(NANO), device(PI)], {applied: parse(applied)}), "a.png", title="net")
    roofline.draw(report.hardware.card, "a.png", report)
    roofline.draw(report.hardware.card, "a.png")
    memory.draw(report, "a.png")
    memory.draw(report, "a.png", by="phase")
    layers.draw(report, "a.png", top=2)
    sensitivity.draw(sensitivity.sensitivity(step, NANO), "a.png", title="a network, batch 4, on a device, MODE")
    name = "a network of a very long name that fits on no line of a legend"
    pairs = [Point(f"{name} {k}", name, 1.0 * k, 1.3 * k) for k in range(1, 11)]
    predicted_measured.draw(pairs, "a.png", quantity="step time", unit="s")
    few = [Point(name, "batch 8", 1.0, 1.4) for name in ("resnet18", "resnet50", "squeezenet", "mobilenetv2")]
    predicted_measured.draw([*few, Point("b", "2", 80.0, 70.0)], "a.png", quantity="step time", unit="s")


def test_no_letter_leaves_a_picture_and_every_axis_has_a_name(step: Graph, drawn: list[Any]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    all_kinds(step)
    assert len(drawn) == 10
    for figure in drawn:
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        width, height = figure.canvas.get_width_height()
        for text in figure.findobj(Text):
            if not (text.get_text() and text.get_visible()):
                continue
            box = text.get_window_extent(renderer)
            inside = box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height
            assert inside or _is_unseen_tick(text, figure), text.get_text()
        named = any(a.get_xlabel() for a in figure.axes) or figure.get_supxlabel()
        assert named


def _is_unseen_tick(text: Any, figure: Any) -> bool:
    """Matplotlib keeps ticks beyond the ends of an axis, and does not draw them."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                if text in (tick.label1, tick.label2):
                    return not low <= tick.get_loc() <= high
    return False


@pytest.mark.parametrize(
    ("arguments", "suffix"),
    [
        (["roofline", "GRAPH", "-d", NANO], "png"),
        (["memory", "GRAPH", "-d", NANO, "--by", "phase"], "svg"),
        (["layers", "GRAPH", "-d", PI, "--quantity", "energy_j"], "pdf"),
        (["sensitivity", "GRAPH", "-d", "zcu102", "--by", "0.2"], "svg"),
        (["savings", "GRAPH", "-d", NANO, "-d", PI, "--apply", "smd", "--apply", "smd{p=0.25}"], "png"),
        (["front", "RESULTS", "--y", "max:batch", "--colour", "device", "--linear"], "svg"),
        (["measured", "TABLE"], "pdf"),
    ],
)
def test_each_command_writes_a_picture(tmp_path: Path, graph_file: str, arguments: list[str], suffix: str) -> None:
    (tmp_path / "results").mkdir()
    parquet.write_table(explored(), tmp_path / "results" / "points.parquet")
    (tmp_path / "pairs.csv").write_text("# a comment\ndevice,batch,measured,predicted\na,1,0.5,0.6\na,2,1,1.1\n")
    paths = {"GRAPH": graph_file, "RESULTS": str(tmp_path / "results"), "TABLE": str(tmp_path / "pairs.csv")}
    path = tmp_path / f"picture.{suffix}"
    result = CliRunner().invoke(cli, ["plot", *(paths.get(a, a) for a in arguments), "-o", str(path)])
    assert result.exit_code == 0, result.output
    assert path.read_bytes().lstrip().startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix])


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_same_picture_is_the_same_file(report: Report, tmp_path: Path, suffix: str) -> None:
    paths = [tmp_path / f"{k}.{suffix}" for k in range(2)]
    for path in paths:
        memory.draw(report, str(path))
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["memory", "GRAPH", "-d", NANO, "-o", "a.jpg"], "its name ends in .png or .svg or .pdf"),
        (["memory", "GRAPH", "-d", NANO, "-o", "/no/such/folder/a.png"], "there is no folder"),
        (["memory", "GRAPH", "-d", "jetson-nan", "-o", "a.png"], "did you mean 'jetson-nano'"),
        (["memorie", "GRAPH", "-o", "a.png"], "no command 'memorie'; did you mean 'memory'"),
        (["front", "EMPTY", "-o", "a.png"], "no points.parquet"),
        (["front", "RESULTS", "--x", "latencys", "-o", "a.png"], "did you mean 'latency_s'"),
        (["front", "RESULTS", "--colour", "tecnique", "-o", "a.png"], "did you mean 'technique'"),
        (["front", "RESULTS", "--where", "batch", "-o", "a.png"], "write column=value"),
        (["measured", "TABLE", "-o", "a.png"], "has no column 'predicted'"),
        (["measured", "NOWHERE", "-o", "a.png"], "cannot read 'NOWHERE'"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    tmp_path: Path, graph_file: str, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    parquet.write_table(explored(), tmp_path / "points.parquet")
    (tmp_path / "pairs.csv").write_text("device,measured\na,0.5\n")
    paths = {"GRAPH": graph_file, "EMPTY": "empty", "RESULTS": "points.parquet", "TABLE": "pairs.csv"}
    result = CliRunner().invoke(cli, ["plot", *(paths.get(a, a) for a in arguments)])
    assert result.exit_code == 2
    assert said in result.output
    assert len(result.output.splitlines()) == 1
    assert not list(tmp_path.glob("a.*"))
