"""Where models come from: our networks, a user's callable, a Hugging Face class, or a module at hand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from simulator.errors import TrainwattError, first_line
from workloads import catalog, huggingface
from workloads.callables import import_callable
from workloads.losses import loss_from, loss_name, main_output
from workloads.tracing.fake import adopt, building, fake_copy
from workloads.workload import Workload


def workload_from(
    model: Any,
    *,
    classes: int | None,
    input_shape: tuple[int, ...] | None,
    widths: Mapping[str, int] | None,
    arguments: Mapping[str, Any],
    loss: str | Callable[[Any, Any], Any],
    channels_last: bool,
    mode: FakeTensorMode | None,
) -> Workload:
    """Return what is to be trained; see `workloads.tracer.trace` for the arguments.

    Its parameters are fake tensors of `mode`, or real and initialised ones without a mode.

    Raises `TrainwattError` for a name that is not there and a callable that does not return a model.
    """
    if isinstance(model, str) and ":" not in model:
        workload = _network(model, classes, input_shape, widths, arguments, loss, mode)
        if mode is not None:
            adopt(workload.model, mode)
    else:
        if widths:
            raise TrainwattError("widths are a table of our own networks; a model of your own sets its own")
        built, name = _user_model(model, classes, arguments, mode)
        if isinstance(built, Workload):
            workload = replace(built, meta={"network": name, **built.meta})
        elif huggingface.is_pretrained(built):
            workload = huggingface.workload(built, name, input_shape, loss)
        else:
            workload = _image_workload(built, name, input_shape, loss)
    return in_channels_last(workload) if channels_last else workload


def _constructing(mode: FakeTensorMode | None) -> contextlib.AbstractContextManager[None]:
    """Return the context to construct a model in: a real model is initialised as its own code says."""
    return contextlib.nullcontext() if mode is None else building()


def _network(
    name: str,
    classes: int | None,
    input_shape: tuple[int, ...] | None,
    widths: Mapping[str, int] | None,
    arguments: Mapping[str, Any],
    loss: str | Callable[[Any, Any], Any],
    mode: FakeTensorMode | None,
) -> Workload:
    card = catalog.card(name)
    count = classes or card.classes
    shape = input_shape or card.input_shape
    with _constructing(mode):
        model = catalog.build(name, classes=count, widths=widths, **arguments)

    def targets(batch: int) -> torch.Tensor:
        size = (batch, *shape[-2:]) if card.task == "segmentation" else (batch,)
        return torch.zeros(size, dtype=torch.int64)

    return Workload(
        model,
        lambda batch: torch.empty((batch, *shape)),
        targets,
        loss_from(loss),
        {
            "network": name,
            "input_shape": list(shape),
            "classes": count,
            "task": card.task,
            "loss": loss_name(loss),
        },
    )


def _user_model(
    model: Any, classes: int | None, arguments: Mapping[str, Any], mode: FakeTensorMode | None
) -> tuple[Any, str]:
    """Return a user's model (or workload) with fake parameters, and what to call it."""
    if isinstance(model, Workload):
        return replace(model, model=fake_copy(model.model, mode) if mode else model.model), type(model.model).__name__
    if isinstance(model, nn.Module):
        return fake_copy(model, mode) if mode else model, type(model).__name__
    if not isinstance(model, str):
        raise TrainwattError(
            f"a model cannot be a {type(model).__name__}; give a name, 'package.module:callable' or a torch.nn.Module"
        )
    function = import_callable(model)
    given = dict(arguments)
    if classes is not None:
        given["num_classes"] = classes
    try:
        with _constructing(mode):
            built = huggingface.build(function, given) if huggingface.is_model_class(function) else function(**given)
    except TrainwattError:
        raise
    except Exception as error:
        raise TrainwattError(f"cannot build {model}: {first_line(error)}") from error
    if not isinstance(built, nn.Module | Workload):
        raise TrainwattError(f"{model} returned a {type(built).__name__}; it should return a torch.nn.Module")
    if mode is not None:
        adopt(built if isinstance(built, nn.Module) else built.model, mode)
    return built, model


def _image_workload(
    model: nn.Module, name: str, input_shape: tuple[int, ...] | None, loss: str | Callable[[Any, Any], Any]
) -> Workload:
    """Return the workload of a model that takes one float tensor, 3x224x224 an image unless told otherwise."""
    shape = input_shape or (3, 224, 224)
    function = loss_from(loss)

    def targets(batch: int) -> torch.Tensor:
        """Make targets like the outputs: a class per position for logits (N, C, ...), values for anything else."""
        try:
            with torch.no_grad():
                outputs = main_output(model(torch.empty((max(batch, 2), *shape))))
        except Exception:  # the step itself will fail in the same place and say where
            return torch.zeros(batch, dtype=torch.int64)
        if loss == "cross-entropy":
            return torch.zeros((batch, *outputs.shape[2:]), dtype=torch.int64)
        return torch.empty((batch, *outputs.shape[1:]))

    return Workload(
        model,
        lambda batch: torch.empty((batch, *shape)),
        targets,
        function,
        {"network": name, "input_shape": list(shape), "loss": loss_name(loss)},
    )


def in_channels_last(workload: Workload) -> Workload:
    """Return the workload with parameters and images in channels-last memory format."""

    def convert(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.dim() == 4:
            return value.to(memory_format=torch.channels_last)
        return value

    def inputs(batch: int) -> Any:
        made = workload.inputs(batch)
        if isinstance(made, Mapping):
            return {key: convert(value) for key, value in made.items()}
        return tuple(map(convert, made)) if isinstance(made, tuple) else convert(made)

    model = workload.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return replace(workload, model=model, inputs=inputs)
