"""What two steps have in common and what not: against brute force, by hand, and as the command shows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import hwmodels.device
from analysis.align import align
from analysis.cli import cli
from analysis.diff import diff, saved_bytes
from analysis.difftext import MARKS, diff_document, diff_text
from simulator.estimate import estimate
from simulator.graph import Graph
from simulator.io import save
from simulator.memory import storage_bytes
from simulator.techniques import apply, parse

ROOT = Path(__file__).parent.parent

# Which op is which

Items = list[tuple[str, str]]
ITEMS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy")), max_size=12)


def most(before: Items, after: Items) -> tuple[int, int]:
    """The longest common subsequence, and how many of it can look the same, by trying everything."""

    @cache
    def best(i: int, j: int) -> tuple[int, int]:
        if i == len(before) or j == len(after):
            return 0, 0
        found = max(best(i + 1, j), best(i, j + 1))
        if before[i][0] == after[j][0]:
            pairs, alike = best(i + 1, j + 1)
            found = max(found, (pairs + 1, alike + (before[i] == after[j])))
        return found

    return best(0, 0)


@given(ITEMS, ITEMS)
def test_as_many_items_pair_as_can_and_of_those_as_many_as_can_look_alike(before: Items, after: Items) -> None:
    pairs = align(before, after)
    both = [(before[i], after[j]) for i, j in pairs if i is not None and j is not None]
    assert all(a[0] == b[0] for a, b in both)
    assert (len(both), sum(a == b for a, b in both)) == most(before, after)


@given(ITEMS, ITEMS)
def test_every_item_occurs_once_and_in_order(before: Items, after: Items) -> None:
    pairs = align(before, after)
    assert [i for i, _ in pairs if i is not None] == list(range(len(before)))
    assert [j for _, j in pairs if j is not None] == list(range(len(after)))


def test_two_thousand_items_of_which_every_tenth_is_another_are_aligned() -> None:
    before = [(f"op{i * 7 % 400}", "") for i in range(2000)]
    after = [item for i, item in enumerate(before) for item in ([("new", ""), ("new", "")] if i % 10 == 0 else [item])]
    pairs = align(before, after)
    assert sum(i is not None and j is not None for i, j in pairs) == 1800
    assert sum(i is None for i, _ in pairs) == 400


# What changes


def test_a_step_and_itself_have_no_differences(step: Graph, flat: Any) -> None:
    found = diff(step, step, flat)
    assert not found.changed
    assert not found.layers
    assert all(change.saved == 0 for change in found.total.values())


def test_dropping_half_of_the_mini_batches_changes_every_op_but_views_by_its_runs(step: Graph) -> None:
    found = diff(step, apply(parse("smd{p=0.5}"), step))
    assert {op.kind for op in found.ops} == {"changed"}
    assert found.total["macs"].ratio == found.total["traffic_bytes"].ratio == 0.5
    assert found.total["saved_bytes"].ratio == 1
    assert found.peak_bytes.saved == 0


def test_an_op_of_another_kind_is_one_removed_and_one_added_in_its_layer(step: Graph) -> None:
    other = replace(step, ops=(step.ops[0], replace(step.ops[1], kind="sigmoid"), *step.ops[2:]))
    found = diff(step, other)
    assert [(op.kind, op.before, op.after) for op in found.changed] == [("removed", 1, None), ("added", None, 1)]
    assert list(found.layers) == ["relu"]
    # a ReLU of 4x4x8x8 numbers is a FLOP each, a sigmoid 4: the layer's forward goes from 1,024 to 4,096
    assert found.layers["relu"] == found.changed
    assert found.sums(found.changed)["flops"].baseline == 1024


def test_another_batch_changes_the_shapes_that_hold_it_and_no_optimizer(make_step: Callable[[int], Graph]) -> None:
    found = diff(make_step(4), make_step(8))
    assert {found.op(op).phase for op in found.changed} == {"forward", "loss", "backward"}
    assert "4x4x8x8 -> 8x4x8x8" in diff_text(found, by_op=True, top=None)
    assert found.total["macs"].ratio == 2


def test_phases_and_layers_add_up_to_the_total(make_step: Callable[[int], Graph], flat: Any) -> None:
    found = diff(make_step(4), apply(parse("smd"), make_step(6)), flat)
    for quantity, change in found.total.items():
        assert sum(c[quantity].result for c in found.phases.values()) == pytest.approx(change.result)
        saved = sum(found.sums(ops)[quantity].saved for ops in found.layers.values())
        assert saved == pytest.approx(change.saved)


def test_time_and_energy_are_those_of_the_estimates(step: Graph, flat: Any) -> None:
    dropped = apply(parse("smd{p=0.25}"), step)
    total = diff(step, dropped, flat).total
    assert total["latency_s"].baseline == pytest.approx(estimate(step, flat).total.latency_s)
    assert total["energy_j"].result == pytest.approx(estimate(dropped, flat).total.energy_j)
    assert "latency_s" not in diff(step, dropped).total


def test_what_is_saved_for_backward_is_counted_once_with_the_op_that_keeps_it(step: Graph) -> None:
    # ReLU keeps its 4x4x8x8 result (which the linear layer keeps again), log-softmax 4x10, the loss one weight
    kept = saved_bytes(step)
    assert [(i, size) for i, size in enumerate(kept.tolist()) if size] == [(1, 4096), (5, 160), (6, 4)]
    roles = [s.role == "saved" for s in step.storages]
    assert kept.sum() == storage_bytes(step)[roles].sum()


def test_the_layer_that_changes_most_comes_first(step: Graph, flat: Any) -> None:
    found = diff(step, apply(parse("smd"), step), flat)
    saved = [found.sums(ops)["latency_s"].saved for ops in found.layers.values()]
    assert saved == sorted(saved, reverse=True)


# As text and as a document


def test_the_table_marks_what_happened_and_shows_before_and_after(step: Graph) -> None:
    other = replace(step, ops=(step.ops[0], replace(step.ops[1], kind="sigmoid"), *step.ops[2:]))
    text = diff_text(diff(step, apply(parse("smd"), other)), by_op=True, top=None)
    assert "ops     1 removed, 1 added, 29 changed, 0 same" in text
    marks = [line.split()[0] for line in text.splitlines() if line.startswith(tuple(f"  {m} " for m in MARKS.values()))]
    assert sorted(marks) == sorted(["-", "+", *"~" * 29])
    assert "27.6 kMAC -> 13.8 kMAC" in text
    assert "1 -> 0.5" in text


def test_only_the_greatest_changes_are_shown_unless_all_are_asked_for(step: Graph) -> None:
    found = diff(step, apply(parse("smd"), step))
    assert "the 2 greatest of 30, --all shows all" in diff_text(found, by_op=True, top=2)
    assert "the 2 greatest of 5" in diff_text(found, by_op=False, top=2)
    assert "greatest" not in diff_text(found, by_op=False, top=None)


def test_the_document_holds_every_op_that_is_not_the_same(step: Graph, flat: Any) -> None:
    other = replace(step, ops=(step.ops[0], replace(step.ops[1], kind="sigmoid"), *step.ops[2:]))
    document = json.loads(json.dumps(diff_document(diff(step, other, flat), "flat"), allow_nan=False))
    assert document["schema"] == "trainwatt-diff"
    assert document["counts"] == {"removed": 1, "added": 1, "changed": 0, "same": 29}
    removed, added = document["ops"]
    assert (removed["before"]["kind"], removed["after"]) == ("relu", None)
    assert (added["before"], added["after"]["kind"]) == (None, "sigmoid")
    documented = (ROOT / "docs" / "report-format.md").read_text(encoding="utf-8")
    for name in (*document, *document["before"], *removed, *removed["before"], *document["layers"][0]):
        assert f"`{name}`" in documented, name


# The command


@pytest.fixture
def stored(step: Graph, tmp_path: Path) -> str:
    path = tmp_path / "step.graph"
    save(step, path)
    return str(path)


def run(*args: str) -> str:
    result = CliRunner().invoke(cli, ["diff", *args], prog_name="trainwatt")
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*args: str) -> str:
    result = CliRunner().invoke(cli, ["diff", *args], prog_name="trainwatt")
    assert result.exit_code == 2, result.output
    assert not result.stdout
    (line,) = result.stderr.splitlines()
    return line


def test_a_technique_is_compared_with_the_step_without_it(stored: str) -> None:
    document = json.loads(run(stored, "--apply", "smd{p=0.25}", "--json", "-"))
    assert document["total"]["macs"]["saved_fraction"] == 0.25
    assert document["after"]["technique"] == "smd{p=0.25,stretch=1.0,dropped_step=false}"
    assert document["device"] is None


def test_two_graphs_are_compared_at_one_batch(stored: str, step: Graph, tmp_path: Path) -> None:
    path = str(tmp_path / "dropped.graph")
    save(apply(parse("smd"), step), path)
    text = run(stored, path, "--batch", "8", "--by", "op", "--all")
    assert "batch 8" in text
    assert "30 changed" in text


def test_a_device_adds_time_and_energy(stored: str) -> None:
    name = hwmodels.device.devices()[0]
    text = run(stored, "--apply", "smd", "-d", name)
    assert "latency" in text
    assert "energy" in text
    assert "latency" not in run(stored, "--apply", "smd")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "one graph and no technique to compare; give a second graph or --apply"),
        (["GRAPH", "--apply", "smd"], "both a second graph and --apply to compare"),
        (["--apply", "smdd"], "did you mean 'smd'?"),
        (["--apply", "smd", "--power-mode", "fast"], "--power-mode without a device"),
        (["--apply", "smd", "--by", "layr"], "did you mean 'layer'?"),
        (["--apply", "smd", "--json", "/no/such/folder/x.json"], "there is no folder"),
        (["missing.graph"], "no graph file 'missing.graph'"),
    ],
)
def test_bad_input_is_answered_in_one_line(stored: str, args: list[str], message: str) -> None:
    assert message in refused(stored, *(stored if arg == "GRAPH" else arg for arg in args))
