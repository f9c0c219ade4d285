"""Graph files: exact round trip, one-line refusals, nothing half-written, no torch."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from simulator.errors import TrainwattError
from simulator.export import to_networkx
from simulator.files import write_atomic
from simulator.graph import Graph, Storage, Tensor
from simulator.io import load, save
from workloads.tracer import trace

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def traced() -> Graph:
    return trace("vit-tiny", batch=4)  # has a form of its own for batch 1


@pytest.mark.parametrize("suffix", [".graph", ".json"])
def test_a_stored_graph_loads_as_it_was(traced: Graph, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"step{suffix}"
    save(traced, path)
    assert load(path) == traced
    assert isinstance(traced.other, Graph)


def test_a_graph_that_cannot_run_at_batch_one_keeps_the_reason(tmp_path: Path) -> None:
    graph = trace("pspnet-resnet18", batch=2, input_shape=(3, 64, 64))
    save(graph, tmp_path / "step.graph")
    assert load(tmp_path / "step.graph") == graph


def test_storing_twice_gives_the_same_bytes(traced: Graph, tmp_path: Path) -> None:
    for name in ("a.graph", "b.graph"):
        save(traced, tmp_path / name)
    assert (tmp_path / "a.graph").read_bytes() == (tmp_path / "b.graph").read_bytes()


def test_a_json_graph_is_readable_by_any_json_tool(traced: Graph, tmp_path: Path) -> None:
    save(traced, tmp_path / "step.json")
    document = json.loads((tmp_path / "step.json").read_text())
    assert document["format"] == "trainwatt-graph"
    assert document["sizes"] == {"batch": 4}
    assert ["batch", 3, 224, 224] in [layout[0] for layout in document["layouts"]]


def _document(graph: Graph, path: Path) -> dict[str, Any]:
    save(graph, path)
    return dict(json.loads(path.read_text()))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d.update(version=99), "schema version 99; this is version 2"),
        (lambda d: d.update(format="other"), "is no graph file"),
        (lambda d: d.pop("ops"), "is damaged"),
        (lambda d: d["ops"]["inputs"].__setitem__(0, [10**6]), "names tensor 1000000"),
        (lambda d: d["ops"]["phase"].__setitem__(0, "sideways"), "is damaged"),
        (lambda d: d["ops"]["name"].pop(), "is damaged"),
        (lambda d: d["storages"]["role"].__setitem__(0, "villain"), "is damaged"),
        (lambda d: d["storages"]["size_bytes"].__setitem__(0, "4*"), "is no extent"),
        (lambda d: d["storages"]["size_bytes"].__setitem__(0, 4.5), "is damaged"),
        (lambda d: d["storages"]["born"].__setitem__(0, 10**6), "lives from op"),
        (lambda d: d["tensors"]["storage"].__setitem__(0, 10**6), "lies in storage 1000000"),
        (lambda d: d["layouts"][0].__setitem__(2, "float7"), "is damaged"),
        (lambda d: d.update(sizes={}), "is damaged"),
    ],
)
def test_a_damaged_graph_file_is_refused_in_one_line(traced: Graph, tmp_path: Path, damage: Any, message: str) -> None:
    path = tmp_path / "step.json"
    document = _document(traced, path)
    damage(document)
    path.write_text(json.dumps(document))
    with pytest.raises(TrainwattError) as caught:
        load(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 10, 1000, -1])
def test_a_torn_graph_file_is_refused_in_one_line(traced: Graph, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "step.graph"
    save(traced, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(TrainwattError, match=r"step\.graph is torn or no graph file"):
        load(path)


@pytest.mark.parametrize("content", [b"hello", b"\x00\xff", gzip.compress(b"[1, 2]", mtime=0), b"{}", b"null"])
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.graph"
    path.write_bytes(content)
    with pytest.raises(TrainwattError, match="no graph file"):
        load(path)


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(TrainwattError, match="'trainwatt trace NETWORK -o FILE' writes one"):
        load(tmp_path / "none.graph")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out.json"
    target.write_text("old")

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(TrainwattError, match="No space left on device"):
        write_atomic(target, "new")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_a_graph_with_numbers_that_point_nowhere_cannot_be_made(traced: Graph) -> None:
    with pytest.raises(TrainwattError, match="differentiates op"):
        replace(traced, ops=(replace(traced.ops[0], forward=5), *traced.ops[1:]))
    with pytest.raises(TrainwattError, match="lies in storage"):
        replace(traced, tensors=(Tensor(traced.tensors[0].layout, 10**6), *traced.tensors[1:]))
    with pytest.raises(TrainwattError, match="lives from op"):
        replace(traced, storages=(Storage(4, "input", 5, 2), *traced.storages[1:]))


def test_a_networkx_graph_has_a_node_per_op_and_an_edge_per_dependence(traced: Graph) -> None:
    exported = to_networkx(traced)
    assert exported.number_of_nodes() == len(traced.ops)
    assert all(a < b for a, b in exported.edges)
    for number, op in enumerate(traced.ops):
        assert exported.nodes[number]["kind"] == op.kind
        if op.forward is not None:
            assert exported.has_edge(op.forward, number)


TORCHLESS = """
import sys
for name in ("torch", "pandas", "matplotlib"):
    sys.modules[name] = None  # an import of it fails
from hwmodels.device import device
from simulator.estimate import estimate
from simulator.io import load
from simulator.techniques import apply, parse
graph = load(sys.argv[1])
report = estimate(apply(parse("smd{p=0.5}"), graph.rebatch(16)), device("jetson-nano"))
assert report.total.latency_s > 0 and report.memory.peak_bytes > 0
print("ok")
"""


def test_a_stored_graph_is_loaded_transformed_and_priced_without_torch(traced: Graph, tmp_path: Path) -> None:
    save(traced, tmp_path / "step.graph")
    done = subprocess.run(
        [sys.executable, "-c", TORCHLESS, str(tmp_path / "step.graph")], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "ok", done.stderr
