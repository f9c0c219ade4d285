"""The command `trainwatt`.

Nothing heavy is imported here: `--help`, `list` and completion must answer at once, so each command imports
what it needs when it runs. Completion in bash: `eval "$(_TRAINWATT_COMPLETE=bash_source trainwatt)"`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from analysis import completion
from analysis.group import INTERRUPTED, OneOf, PoliteGroup
from analysis.source import TraceOptions, graph_from, is_graph_file, parse_arguments, parse_shape, read_widths
from simulator.errors import TrainwattError, unknown

if TYPE_CHECKING:
    from simulator.cost import HardwareModel

EPILOG = """\b
Examples:
  trainwatt estimate resnet18 --device jetson-nano --batch 32
  trainwatt estimate resnet18 --device jetson-nano --apply "smd{p=0.5}" --json -
  trainwatt diff resnet18 --apply "structured-prune{ratio=0.5}" --device jetson-nano
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
@click.option("--epochs", metavar="N", type=click.IntRange(min=1), help="Price a run of N epochs too.")
@click.option("--dataset-size", metavar="N", type=click.IntRange(min=1), help="Samples of an epoch.")
@click.option("--run", "run_path", metavar="FILE", help="Price the phases of a run file (TOML) instead of one step.")
@click.option("--design", metavar="auto|FILE", help="Of an FPGA: a design file (TOML), or the best for this step.")
@click.option("--above-idle", is_flag=True, help="Subtract the device's idle power from the energy.")
@click.option("--explain", "explained", metavar="LAYER", help="Derive the prices of a layer's ops step by step.")
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
    epochs: int | None,
    dataset_size: int | None,
    run_path: str | None,
    design: str | None,
    above_idle: bool,
    explained: str | None,
    csv_path: str | None,
    timeline_path: str | None,
    verbose: bool,
    **tracing: Any,
) -> None:
    """Estimate what one training step of a network, a stored graph, or your own model costs on a device.

    A model of your own is package.module:callable, something that returns a torch.nn.Module.
    """
    from analysis.estimate_command import counted, designed, document, price_run, priced, text, trainings
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
    if (epochs is None) != (dataset_size is None):
        given, other = ("--epochs", "--dataset-size") if epochs else ("--dataset-size", "--epochs")
        raise TrainwattError(f"{given} without {other}; a run takes both")
    if run_path is not None:
        senseless = {
            "--apply": applied,
            "--epochs": epochs,
            "--design": design,
            "--explain": explained,
            "--csv": csv_path,
            "--timeline": timeline_path,
        }
        for option in (name for name, value in senseless.items() if value is not None):
            raise TrainwattError(f"{option} with --run; the run file says what is run, and only totals come out")
        price_run(graph_from(source, options), counted(hardware, above_idle), run_path, json_path, unknown)
        return
    techniques = _techniques(applied)  # before the work of tracing
    graph, reasons = graph_from(source, options), []
    if design is not None:
        hardware, reasons = designed(graph, hardware, techniques, design, unknown)
    reports = priced(graph, counted(hardware, above_idle), techniques, unknown)
    runs = trainings(reports, epochs, dataset_size)

    if json_path:
        write(json_path, document(reports, runs))
    if csv_path:
        from analysis.opcsv import to_csv

        write(csv_path, to_csv(reports[0]))
    if timeline_path:
        from analysis.timeline import to_trace

        write(timeline_path, to_trace(reports[0]))
    if "-" not in outputs:
        click.echo(text(reports, runs, top=top, verbose=verbose))
        for lines in reasons:
            click.echo("\n" + lines)
        if explained is not None:
            from analysis.explained import explained as derived

            for report in reports:
                click.echo("\n" + derived(report, explained))


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


@cli.command(short_help="Show what a technique changes, op by op.")
@click.argument("before", metavar="NETWORK|GRAPH|MODULE:CALLABLE", shell_complete=completion.networks)
@click.argument("after", metavar="[NETWORK|GRAPH]", required=False, shell_complete=completion.networks)
@click.option(
    "--apply",
    "applied",
    metavar="TECHNIQUES",
    shell_complete=completion.techniques,
    help="Compare with the step that these make.",
)
@click.option(
    "--device", "-d", "name", metavar="DEVICE", shell_complete=completion.devices, help="Time and energy too."
)
@click.option("--power-mode", "mode", metavar="MODE", help="Of the device.")
@tracing_options
@click.option("--by", type=OneOf(["layer", "op"]), default="layer", show_default=True, help="Add up, or each op.")
@click.option("--top", metavar="N", type=click.IntRange(min=1), default=20, show_default=True, help="Changes to show.")
@click.option("--all", "everything", is_flag=True, help="Show all changes.")
@click.option("--unknown", type=OneOf(["stop", "list"]), default="stop", help="As of estimate.")
@click.option("--json", "json_path", metavar="PATH", help="Write the changes as JSON ('-': to standard output).")
def diff(
    before: str,
    after: str | None,
    applied: str | None,
    name: str | None,
    mode: str | None,
    by: str,
    top: int,
    everything: bool,
    unknown: str,
    json_path: str | None,
    **tracing: Any,
) -> None:
    """Show which ops a technique removes, adds and changes, or in which ops two graphs differ."""
    if (after is None) == (applied is None):
        given = "both a second graph and --apply" if after else "one graph and no technique"
        raise TrainwattError(f"{given} to compare; give a second graph or --apply")
    if mode is not None and name is None:
        raise TrainwattError("--power-mode without a device; give --device")
    from analysis.diff import diff as compare
    from analysis.difftext import diff_document, diff_text
    from analysis.estimate_command import dumped
    from analysis.output import check_writable, write
    from simulator.techniques import apply

    if json_path is not None:
        check_writable(json_path)
    techniques = _techniques(applied)
    hardware = _devices((name,), (mode,) if mode else ())[0] if name else None
    first = graph_from(before, _trace_options(tracing))
    second = apply(techniques, first) if after is None else graph_from(after, _trace_options(tracing))
    found = compare(first, second, hardware, unknown=unknown)
    if json_path is not None:
        write(json_path, dumped(diff_document(found, name)))
    if json_path != "-":
        click.echo(diff_text(found, by_op=by == "op", top=None if everything else top))


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


@cli.command(short_help="Train for real, plainly and with techniques.")
@click.argument("network", metavar="NETWORK|MODULE:CALLABLE", shell_complete=completion.networks)
@click.option(
    "--apply",
    "applied",
    metavar="TECHNIQUES",
    shell_complete=completion.techniques,
    help="Such as smd{p=0.5}.",
)
@click.option(
    "--dataset", metavar="NAME", default="digits", show_default=True, help="digits, or package.module:callable."
)
@click.option("--steps", metavar="N", type=click.IntRange(min=1), default=300, show_default=True, help="Mini-batches.")
@click.option(
    "--pretrain",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Mini-batches of plain training on negated inputs before, for fine-tuning from another domain.",
)
@click.option("--batch", "-b", metavar="N", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--optimizer", metavar="SPEC", default="sgd{momentum=0.9}", show_default=True)
@click.option("--lr", metavar="RATE", type=float, help="Learning rate (default 0.01, or that of --optimizer).")
@click.option("--seed", metavar="N", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--repeats", metavar="N", type=click.IntRange(min=1), default=1, show_default=True, help="Seeds, from --seed on."
)
@click.option("--input-size", metavar="N", type=click.IntRange(min=1), help="Side of the digits (default: network's).")
@click.option("--arg", "arguments", metavar="KEY=VALUE", multiple=True, help="Argument of the model.")
@click.option("--threads", metavar="N", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--no-baseline", is_flag=True, help="Leave plain training out.")
@click.option("--json", "json_path", metavar="PATH", help="Write the results as JSON ('-': to standard output).")
@click.pass_context
def run(ctx: click.Context, network: str, **options: Any) -> None:
    """Train a network on real data, plainly and with techniques, and compare what comes out.

    Ctrl-C ends the training, reports what was reached, and exits with 130.
    """
    from analysis.run_command import train_and_report

    if train_and_report(network, _techniques(options.pop("applied")), **options):
        ctx.exit(INTERRUPTED)


@cli.command(short_help="Hold published numbers against ours.")
@click.argument("paper", required=False, metavar="[PAPER]")
@click.option("--missed", "missed_only", is_flag=True, help="Show only the claims that are missed.")
@click.option("--json", "json_path", metavar="PATH", help="Write one row a claim as JSON ('-': to standard output).")
def claims(paper: str | None, missed_only: bool, json_path: str | None) -> None:
    """Print each published number, ours, the error, and whether it is met, or missed and why.

    PAPER is one of the keys that the listing's files are called by, such as yang2023; without it, all papers.
    """
    import json

    from analysis.claims import claims as published
    from analysis.claims import judge_all
    from analysis.claims.report import rows, text
    from analysis.output import check_writable, progress_bar, write

    wanted = published(paper)
    if json_path:
        check_writable(json_path)
    with progress_bar("judging claims") as progress:
        verdicts = list(judge_all(wanted, progress))
    if json_path:
        write(json_path, json.dumps(rows(verdicts), indent=1, allow_nan=False, ensure_ascii=False))
    if json_path != "-":
        click.echo(text(verdicts, missed_only=missed_only))


@cli.command(short_help="Time ops and training steps on this machine.")
@click.option("--output", "-o", "path", metavar="FILE", required=True, help="CSV to add rows to; what it has is kept.")
@click.option("--ops", is_flag=True, help="Single ops: a designed set of kinds and sizes.")
@click.option("--steps", metavar="NETWORKS", help="Whole training steps, such as resnet18,mobilenetv2.")
@click.option("--batches", metavar="N,N", default="1,8", show_default=True, help="Of the steps.")
@click.option("--repeats", metavar="N", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--threads", metavar="N", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--time-limit", "time_limit_s", metavar="S", type=click.FloatRange(min=0, min_open=True), help="Stop after it."
)
@click.option("--device", "-d", metavar="NAME", default="", help="What this machine is called (default: its model).")
@click.option("--power-mode", metavar="MODE", default="", help="It is in (default: the frequency governor).")
def measure(path: str, **options: Any) -> None:
    """Measure latency and peak memory on this machine, as rows that docs/measurements.md describes.

    Rows are added as they come. Run again with the same file, it goes on where it was.
    """
    from analysis.measurements.command import measure_and_report

    measure_and_report(path, **options)


@cli.command(short_help="Energy of a window of a power log.")
@click.argument("log", metavar="LOG", type=click.Path())
@click.option("--from", "from_s", metavar="S", type=float, help="Start, in seconds since the log's first sample.")
@click.option("--to", "to_s", metavar="S", type=float, help="End (default: that of the log).")
@click.option("--idle-from", "idle_from_s", metavar="S", type=float, help="Start of a stretch where nothing ran.")
@click.option("--idle-to", "idle_to_s", metavar="S", type=float, help="Its end; its mean power is subtracted too.")
@click.option("--rail", metavar="NAME", help="Show this rail only, and the total.")
@click.option("--kind", metavar="FORMAT", default="auto", help="Format of the log, where it is not recognised.")
@click.option(
    "--interval", "interval_s", metavar="S", type=float, help="Seconds between samples, if the log has no times."
)
@click.option("--json", "json_path", metavar="PATH", help="Write the result as JSON ('-': to standard output).")
def power(log: str, **options: Any) -> None:
    """Integrate a power log: duration, mean power and energy of each rail, with idle power subtracted if marked.

    Read are tegrastats, jtop (CSV), perf stat, powerstat, Joulescope and Monsoon (CSV), vcgencmd pmic_read_adc,
    xlnx_platformstats, sensors or hwmon files (INA226, INA3221), and readings of an INA219.
    """
    from analysis.power.command import report_power

    report_power(log, **options)


@cli.command(short_help="Price a whole space of choices, and find its front.")
@click.argument("space", metavar="[SPACE]", required=False)
@click.option("--output", "-o", "folder", metavar="FOLDER", help="Where results go; an unfinished run continues there.")
@click.option("--init", "example", metavar="FILE", help="Write a space with comments to begin from, and nothing else.")
@click.option("--workers", metavar="N", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.")
@click.option("--pareto", metavar="COLUMN,...", help="Objectives of the front (default: those of the file).")
@click.option("--within", metavar="COLUMN,...", help="A front for each value of these (default: as in the file).")
@click.option("--csv", is_flag=True, help="Write the points as CSV too.")
@click.option("--fresh", is_flag=True, help="Begin again where the folder holds results.")
def explore(
    space: str | None,
    folder: str | None,
    example: str | None,
    workers: int,
    pareto: str | None,
    within: str | None,
    csv: bool,
    fresh: bool,
) -> None:
    """Price every point of the space that the TOML file SPACE describes: networks, techniques, devices, batch sizes.

    Results are FOLDER/points.parquet, one row a point. Ctrl-C leaves what is finished; the same command goes on.
    """
    from analysis.explore.command import explore as explored
    from analysis.explore.command import write_example

    if example is not None:
        if space is not None or folder is not None:
            raise TrainwattError("--init with a space or --output; it only writes an example")
        write_example(example)
        click.echo(f"{example}: 'trainwatt explore {example} -o FOLDER' explores it")
        return
    if space is None or folder is None:
        raise TrainwattError("no space or no --output; give both, or --init FILE for an example")
    click.echo(
        explored(
            space,
            folder,
            workers=workers,
            pareto=_words(pareto) or (),
            within=_words(within),
            csv=csv,
            fresh=fresh,
        )
    )


def _words(text: str | None) -> tuple[str, ...] | None:
    """Return what stands between commas, each once; None of None."""
    if text is None:
        return None
    return tuple(dict.fromkeys(word for piece in text.split(",") if (word := piece.strip())))


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
@click.option("--plot", metavar="PATH", help="Draw a device's roofline (.png, .svg or .pdf).")
@click.option("--json", "json_path", metavar="PATH", help="Write it as JSON ('-': to standard output).")
def show(name: str, mode: str | None, json_path: str | None, plot: str | None) -> None:
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
        if "peaks" in facts:
            from analysis import roofs

            text += "\n\n" + roofs.text(facts)
            if plot is not None:
                roofs.draw(facts, plot)
    if plot is not None and "peaks" not in facts:
        raise TrainwattError(f"--plot for {name!r}; only devices have a roofline")
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
