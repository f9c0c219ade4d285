"""Hugging Face models built from a config trace with their own loss."""

from __future__ import annotations

import pytest
import torch

from simulator.errors import TrainwattError
from workloads.tracer import trace

pytest.importorskip("transformers", reason="transformers is not installed")
torch.set_num_threads(1)

SMALL_TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 100,
    "max_position_embeddings": 64,
}
SMALL_IMAGES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}


@pytest.mark.parametrize(
    ("model", "arguments", "kind"),
    [
        ("BertForSequenceClassification", SMALL_TEXT, "embedding"),
        ("BertForMaskedLM", SMALL_TEXT, "embedding"),
        ("ViTForImageClassification", SMALL_IMAGES, "convolution"),
        (
            "ResNetForImageClassification",
            {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
            "convolution",
        ),
        ("MobileNetV2ForImageClassification", {"image_size": 32}, "convolution"),
    ],
)
def test_a_model_built_from_a_config_traces(model: str, arguments: dict[str, object], kind: str) -> None:
    graph = trace(f"transformers:{model}", batch=3, arguments=arguments)
    kinds = {op.kind for op in graph.ops}
    assert kind in kinds
    assert {op.phase for op in graph.ops} >= {"forward", "backward", "optimizer"}
    assert (
        graph.rebatch(5).concrete().ops == trace(f"transformers:{model}", batch=5, arguments=arguments).concrete().ops
    )


def test_a_model_without_a_loss_says_what_is_missing() -> None:
    with pytest.raises(TrainwattError, match="computes no loss from labels"):
        trace("transformers:BertModel", batch=2, arguments=SMALL_TEXT)
