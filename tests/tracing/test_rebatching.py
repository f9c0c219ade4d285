"""A stored graph answers for every batch size as a fresh trace at that size would."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from simulator.errors import TrainwattError
from simulator.graph import Graph, Untraceable
from simulator.io import load, save
from workloads.catalog import cards
from workloads.tracer import trace

torch.set_num_threads(1)

# 64 and 10 are channel or class counts of many networks: taking such a dimension for the batch would show.
BATCHES = (1, 2, 10, 64)
# Networks that normalise over one value per channel at batch 1, which PyTorch refuses.
NO_BATCH_OF_ONE = ("pspnet", "deeplabv3", "upernet")


def assert_equal(ours: Graph, theirs: Graph) -> None:
    """Op by op, tensor by tensor, storage by storage."""
    for a, b in zip(ours.ops, theirs.ops, strict=True):
        assert a == b
    for x, y in zip(ours.tensors, theirs.tensors, strict=True):
        assert x == y
    for s, t in zip(ours.storages, theirs.storages, strict=True):
        assert s == t


@pytest.mark.parametrize("name", sorted(cards()))
def test_a_stored_graph_at_another_batch_equals_a_fresh_trace_at_that_batch(name: str, tmp_path: Path) -> None:
    save(trace(name, batch=4), tmp_path / "step.graph")
    stored = load(tmp_path / "step.graph")
    for batch in BATCHES:
        if batch == 1 and name.startswith(NO_BATCH_OF_ONE):
            assert isinstance(stored.other, Untraceable)
            with pytest.raises(TrainwattError, match="more than 1 value per channel"):
                stored.rebatch(1)
            continue
        assert_equal(stored.rebatch(batch).concrete(), trace(name, batch=batch).concrete())


def test_a_graph_traced_at_batch_one_answers_for_larger_batches() -> None:
    single = trace("vit-tiny", batch=1)
    assert single.smallest_batch == 1
    assert single.batch == 1
    assert_equal(single.rebatch(5).concrete(), trace("vit-tiny", batch=5).concrete())
    assert_equal(single.rebatch(5).rebatch(1).concrete(), single.concrete())


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adam"},
        {"train": "last=2"},
        {"precision": "bf16"},
        {"accumulate": 3},
        {"channels_last": True},
        {"batch_norm": "eval"},
    ],
    ids=str,
)
def test_every_way_of_training_rebatches(options: dict[str, object]) -> None:
    graph = trace("resnet8-cifar", batch=7, **options)
    for batch in (1, 16, 33):
        fresh = trace("resnet8-cifar", batch=batch, **options)
        assert_equal(graph.rebatch(batch).concrete(), fresh.concrete())


def test_a_graph_of_evaluated_numbers_refuses_to_rebatch() -> None:
    graph = trace("lenet5", batch=4).concrete()
    with pytest.raises(TrainwattError, match="fixed batch 4"):
        graph.rebatch(8)


@pytest.mark.parametrize("batch", [0, -3])
def test_a_batch_of_no_samples_is_refused(batch: int) -> None:
    graph = trace("lenet5", batch=4)
    with pytest.raises(TrainwattError, match="at least 1 sample"):
        graph.rebatch(batch)


class _PairwiseLoss:
    """Compares every sample with every other: its tensors grow with the square of the batch."""

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        similarity = outputs @ outputs.t()
        return (similarity - similarity.t().detach()).square().mean()


def test_tensors_that_grow_with_the_square_of_the_batch_rebatch_exactly() -> None:
    graph = trace("lenet5", batch=6, loss=_PairwiseLoss())
    for batch in (2, 9, 50):
        assert_equal(graph.rebatch(batch).concrete(), trace("lenet5", batch=batch, loss=_PairwiseLoss()).concrete())
