"""The command `trainwatt`.

Nothing heavy is imported here: `--help`, `list` and completion must answer at once, so each command imports
what it needs when it runs. Completion in bash: `eval "$(_TRAINWATT_COMPLETE=bash_source trainwatt)"`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from analysis import completion
from analysis.group import OneOf, PoliteGroup
from analysis.source import TraceOptions, graph_from, is_graph_file, parse_arguments, parse_shape, read_widths
from simulator.errors import TrainwattError, unknown

if TYPE_CHECKING:
    from simulator.cost import HardwareModel
    from simulator.graph import Graph
    from simulator.report import Report

EPILOG = """\b
Examples:
  trainwatt estimate resnet18 --device jetson-nano --batch 32
  trainwatt estimate resnet18 --device jetson-nano --apply "smd{p=0.5}" --json -
  trainwatt trace mobilenetv2 -o mobilenetv2.graph
  trainwatt list devices

Completion in bash: eval "$(_TRAINWATT_COMPLETE=bash_source trainwatt)"
"""


@click.group(
    cls=PoliteGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="trainwatt", prog_name="trainwatt")
def cli() -> None:
    """Time, energy and memory of a training step on a device that you need not have."""


def main() -> None:
    """Run the command; the entry point of the package."""
    cli(prog_name="trainwatt")


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


def _trace_options(given: Mapping[str, Any]) -> TraceOptions:
    shape, widths = given["input_shape"], given["widths"]
    return TraceOptions(
        **{
            **given,
            "input_shape": None if shape is None else parse_shape(shape),
            "widths": None if widths is None else read_widths(widths),
            "arguments": parse_arguments(given["arguments"]),
        }
    )


@cli.command(short_help="Estimate the cost of a training step.")
@click.argument("source", metavar="NETWORK|GRAPH|MODULE:CALLABLE", shell_complete=completion.networks)
@click.option(
    "--device",
    "-d",
    "device_names",
    metavar="DEVICE",
    multiple=True,
    shell_complete=completion.devices,
    help="Name or TOML file; several are compared.",
)
@click.option(
    "--power-mode",
    "modes",
    metavar="MODE",
    multiple=True,
    help="One for all devices, or one for each in their order.",
)
@tracing_options
@click.option(
    "--apply",
    "applied",
    metavar="TECHNIQUES",
    shell_complete=completion.techniques,
    help="Such as smd{p=0.5}.",
)
@click.option(
    "--unknown",
    type=OneOf(["stop", "list"]),
    default="stop",
    show_default=True,
    help="At an op without a work rule: stop, or count it as nothing and say so.",
)
@click.option("--top", metavar="N", type=click.IntRange(min=0), default=10, show_default=True, help="Layers to show.")
@click.option("--json", "json_path", metavar="PATH", help="Write the results as JSON ('-': to standard output).")
@click.option("--csv", "csv_path", metavar="PATH", help="Write one row per op ('-': to standard output).")
@click.option("--timeline", "timeline_path", metavar="PATH", help="Write a trace for Perfetto or chrome://tracing.")
@click.option("--verbose", "-v", is_flag=True, help="Spell out the assumptions.")
def estimate(  # click passes options by name
    source: str,
    device_names: tuple[str, ...],
    modes: tuple[str, ...],
    applied: str | None,
    unknown: str,
    top: int,
    json_path: str | None,
    csv_path: str | None,
    timeline_path: str | None,
    verbose: bool,
    **tracing: Any,
) -> None:
    """Estimate what one training step of a network, a stored graph, or your own model costs on a device.

    A model of your own is package.module:callable, something that returns a torch.nn.Module.
    """
    from analysis.output import check_writable, write

    outputs = [path for path in (json_path, csv_path, timeline_path) if path is not None]
    if outputs.count("-") > 1:
        raise TrainwattError("'-' for several outputs; standard output takes one of --json, --csv, --timeline")
    for path in outputs:
        check_writable(path)
    options = _trace_options(tracing)
    hardware = _devices(device_names, modes)
    if len(hardware) > 1 and (csv_path or timeline_path):
        raise TrainwattError(
            f"{'--csv' if csv_path else '--timeline'} with {len(hardware)} devices; give one --device for it"
        )
    techniques = _techniques(applied)
    reports = _reports(graph_from(source, options), hardware, techniques, unknown)

    if json_path:
        write(json_path, _json(reports))
    if csv_path:
        from analysis.opcsv import to_csv

        write(csv_path, to_csv(reports[0]))
    if timeline_path:
        from analysis.timeline import to_trace

        write(timeline_path, to_trace(reports[0]))
    if "-" not in outputs:
        from analysis.summary import summary, totals_side_by_side

        parts = [totals_side_by_side(reports)] if len(reports) > 1 else []
        parts += [summary(report, top=top, verbose=verbose) for report in reports]
        click.echo(("\n\n" + "-" * 78 + "\n\n").join(parts))


def _devices(names: tuple[str, ...], modes: tuple[str, ...]) -> list[HardwareModel]:
    from hwmodels.device import device

    if not names:
        raise TrainwattError("give at least one --device; 'trainwatt list devices' lists them")
    if len(modes) not in (0, 1, len(names)):
        raise TrainwattError(f"{len(modes)} power modes for {len(names)} devices; give one, or one for each")
    each = modes if len(modes) == len(names) else (modes or (None,)) * len(names)
    return [device(name, mode) for name, mode in zip(names, each, strict=True)]


def _techniques(text: str | None) -> tuple[Any, ...]:
    if text is None:
        return ()
    from simulator.techniques import parse

    return parse(text)


def _reports(graph: Graph, hardware: list[HardwareModel], techniques: tuple[Any, ...], unknown: str) -> list[Report]:
    """Return the report on each device; techniques give it the untreated step as its baseline."""
    from dataclasses import replace

    from simulator.estimate import estimate as price
    from simulator.techniques import apply

    if not techniques:
        return [price(graph, device, unknown=unknown) for device in hardware]
    treated = apply(techniques, graph)
    return [
        replace(price(treated, device, unknown=unknown), baseline=price(graph, device, unknown=unknown))
        for device in hardware
    ]


def _json(reports: list[Report]) -> str:
    import json

    from simulator.report import to_json

    return json.dumps(to_json(reports), indent=1, allow_nan=False, ensure_ascii=False)


@cli.command(short_help="Record a training step and store its graph.")
@click.argument("source", metavar="NETWORK|GRAPH|MODULE:CALLABLE", shell_complete=completion.networks)
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    required=True,
    help="Graph file to write (.graph, or .json uncompressed).",
)
@tracing_options
def trace(source: str, output: str, **tracing: Any) -> None:
    """Record one training step and store it as a graph, which estimates need neither PyTorch nor time for.

    A stored graph is not recorded again, only bound to another --batch and stored under another name.
    """
    from analysis.output import check_writable

    if output == "-":
        raise TrainwattError("cannot write a graph to standard output; give -o FILE")
    check_writable(output)
    graph = graph_from(source, _trace_options(tracing))
    from simulator.io import save

    save(graph, output)
    click.echo(f"{output}: {len(graph.ops)} ops, batch {graph.batch}; 'trainwatt estimate {output}' prices it")


@cli.command("list", short_help="List networks, devices, techniques or rules.")
@click.argument("what", type=OneOf(["networks", "devices", "techniques", "rules"]))
def list_(what: str) -> None:
    """List what there is."""
    click.echo({"networks": _networks, "devices": _device_list, "techniques": _technique_list, "rules": _rules}[what]())


def _networks() -> str:
    from analysis.table import table
    from workloads.catalog import cards

    rows = [("name", "parameters", "MACs a sample", "input", "classes")]
    for card in cards().values():
        shape = "x".join(map(str, card.input_shape))
        rows.append((card.name, f"{card.parameters:,}", f"{card.macs:,}", shape, str(card.classes)))
    return table(rows, indent=0)


def _device_list() -> str:
    from hwmodels.device import devices

    return "\n".join(devices())


def _technique_list() -> str:
    from analysis.table import pairs
    from simulator.techniques import syntax, techniques

    return pairs([(syntax(cls), (cls.__doc__ or "").strip().split("\n")[0]) for cls in techniques().values()])


def _rules() -> str:
    from simulator.rules import rules

    return "\n".join(sorted(rules()))


@cli.command(short_help="Show a device, a network or a stored graph.")
@click.argument("name", metavar="DEVICE|NETWORK|GRAPH", shell_complete=completion.shown)
@click.option("--power-mode", "mode", metavar="MODE", help="Of a device.")
@click.option("--json", "json_path", metavar="PATH", help="Write it as JSON ('-': to standard output).")
def show(name: str, mode: str | None, json_path: str | None) -> None:
    """Show a device's numbers with their sources, a network's card, or what a stored graph holds."""
    from analysis.cards import card_text, graph_facts, graph_text

    facts: Mapping[str, Any]
    if not name.endswith(".toml") and is_graph_file(name):
        if mode is not None:
            raise TrainwattError(f"--power-mode for the stored graph {name!r}; only devices have power modes")
        graph = graph_from(name, TraceOptions())
        facts, text = graph_facts(graph), graph_text(graph)
    else:
        facts = _card(name, mode)
        text = card_text(facts)
    if json_path is None:
        click.echo(text)
        return
    import json

    from analysis.output import write
    from simulator.report import plain

    write(json_path, json.dumps(plain(facts), indent=1, allow_nan=False, ensure_ascii=False))


def _card(name: str, mode: str | None) -> Mapping[str, Any]:
    from dataclasses import asdict

    from hwmodels.device import device, devices
    from workloads.catalog import cards

    if name.endswith(".toml") or name in devices():
        found = device(name, mode)
        return {**found.card, "assumptions": list(found.assumptions)}
    networks = cards()
    if name not in networks:
        raise unknown(
            "device or network",
            name,
            [*devices(), *networks],
            "see 'trainwatt list devices' and 'list networks'",
        )
    if mode is not None:
        raise TrainwattError(f"--power-mode for the network {name!r}; only devices have power modes")
    return asdict(networks[name])


if __name__ == "__main__":
    main()
