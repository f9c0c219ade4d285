"""Hugging Face models, told by what they are rather than by importing `transformers`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from simulator.errors import TrainwattError
from workloads.losses import loss_from, loss_name, own_loss
from workloads.workload import Workload

DEFAULT_TOKENS = 128

# What labels a head wants: one per sample, one per token, one per pixel.
_LABELS = {
    "ForImageClassification": "sample",
    "ForSequenceClassification": "sample",
    "ForMultipleChoice": "sample",
    "ForMaskedLM": "token",
    "ForCausalLM": "token",
    "LMHeadModel": "token",
    "ForTokenClassification": "token",
    "ForSemanticSegmentation": "pixel",
}


def is_model_class(value: Any) -> bool:
    """Tell whether `value` is a class of Hugging Face models, which are built from a config."""
    return inspect.isclass(value) and issubclass(value, nn.Module) and hasattr(value, "config_class")


def is_pretrained(model: Any) -> bool:
    """Tell whether `model` is a Hugging Face model."""
    return isinstance(model, nn.Module) and hasattr(model, "config") and hasattr(model, "main_input_name")


def build(model_class: Any, arguments: Mapping[str, Any]) -> Any:
    """Build a model from its config class, `arguments` going into the config; `num_classes` is `num_labels` there."""
    given = dict(arguments)
    if "num_classes" in given:
        given["num_labels"] = given.pop("num_classes")
    return model_class(model_class.config_class(**given))


def workload(
    model: Any, name: str, input_shape: tuple[int, ...] | None, loss: str | Callable[[Any, Any], Any]
) -> Workload:
    """Return how to train a Hugging Face model: inputs by its main input, labels by its head, its own loss.

    `input_shape` is (channels, height, width) for images and (tokens,) for text. Raises `TrainwattError` where
    neither the inputs nor the labels follow from the model; a function that returns a `Workload` then says them.
    """
    config = model.config
    kind = type(model).__name__
    labels = next((what for suffix, what in _LABELS.items() if kind.endswith(suffix)), None)
    help_ = "give a callable that returns a workloads.Workload with inputs, targets and loss"
    if model.main_input_name == "pixel_values":
        size = getattr(config, "image_size", None) or 224
        height, width = size if isinstance(size, list | tuple) else (size, size)
        shape = input_shape or (getattr(config, "num_channels", 3), height, width)
    elif model.main_input_name == "input_ids":
        shape = input_shape or (min(DEFAULT_TOKENS, getattr(config, "max_position_embeddings", DEFAULT_TOKENS)),)
    else:
        raise TrainwattError(f"{name} takes {model.main_input_name!r}, for which no inputs are known; {help_}")
    if labels is None and loss == "cross-entropy":
        raise TrainwattError(f"{name} ({kind}) computes no loss from labels; {help_}")

    def inputs(batch: int) -> dict[str, torch.Tensor]:
        if model.main_input_name == "input_ids":
            made = {
                "input_ids": torch.zeros((batch, *shape), dtype=torch.int64),
                "attention_mask": torch.ones((batch, *shape), dtype=torch.int64),
            }
        else:
            made = {"pixel_values": torch.empty((batch, *shape))}
        sizes = {"sample": (batch,), "token": (batch, *shape), "pixel": (batch, *shape[-2:])}
        if labels is not None:
            made["labels"] = torch.zeros(sizes[labels], dtype=torch.int64)
        return made

    return Workload(
        model,
        inputs,
        lambda batch: None,
        own_loss if loss == "cross-entropy" else loss_from(loss),
        {
            "network": name,
            "input_shape": list(shape),
            "loss": "own" if loss == "cross-entropy" else loss_name(loss),
        },
    )
