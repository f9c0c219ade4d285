"""Options that several commands share, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from analysis.group import OneOf
from analysis.source import TraceOptions, parse_arguments, parse_shape, read_widths
from simulator.errors import TrainwattError

if TYPE_CHECKING:
    from simulator.cost import HardwareModel


def tracing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of `TraceOptions`."""
    options = (
        click.option("--batch", "-b", type=click.IntRange(min=1), help="Samples in a batch (default 32)."),
        click.option("--optimizer", metavar="SPEC", help="Such as adam or sgd{momentum=0.9} (the default)."),
        click.option(
            "--train",
            metavar="SCOPE",
            help="What is trained: all (default), last=K, head, biases, or a pattern of parameter names.",
        ),
        click.option(
            "--bn",
            "batch_norm",
            type=OneOf(["train", "eval"]),
            help="Batch norm learns its statistics (train, default) or uses them (eval).",
        ),
        click.option("--loss", metavar="NAME", help="cross-entropy (default), mse, own or package.module:callable."),
        click.option(
            "--precision",
            type=OneOf(["fp32", "bf16", "fp16"]),
            help="fp32 (default), or autocast to 16 bits.",
        ),
        click.option(
            "--accumulate",
            metavar="N",
            type=click.IntRange(min=1),
            help="Batches before the optimizer steps (default 1).",
        ),
        click.option("--channels-last", is_flag=True, help="Channels-last memory format."),
        click.option("--foreach", is_flag=True, help="Multi-tensor optimizer, PyTorch's default on CUDA."),
        click.option("--classes", metavar="N", type=click.IntRange(min=1), help="Classes (default: the network's)."),
        click.option("--widths", metavar="FILE", help='JSON of output channels by convolution: {"conv1": 32}.'),
        click.option("--input-shape", metavar="C,H,W", help="Shape of one sample (default: the network's)."),
        click.option("--arg", "arguments", metavar="KEY=VALUE", multiple=True, help="Argument of the model."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def trace_options(given: Mapping[str, Any]) -> TraceOptions:
    shape, widths = given["input_shape"], given["widths"]
    return TraceOptions(
        **{
            **given,
            "input_shape": None if shape is None else parse_shape(shape),
            "widths": None if widths is None else read_widths(widths),
            "arguments": parse_arguments(given["arguments"]),
        }
    )


def devices_named(names: tuple[str, ...], modes: tuple[str, ...]) -> list[HardwareModel]:
    from hwmodels.device import device

    if not names:
        raise TrainwattError("give at least one --device; 'trainwatt list devices' lists them")
    if len(modes) not in (0, 1, len(names)):
        raise TrainwattError(f"{len(modes)} power modes for {len(names)} devices; give one, or one for each")
    each = modes if len(modes) == len(names) else (modes or (None,)) * len(names)
    return [device(name, mode) for name, mode in zip(names, each, strict=True)]


def techniques_of(text: str | None) -> tuple[Any, ...]:
    if text is None:
        return ()
    from simulator.techniques import parse

    return parse(text)
