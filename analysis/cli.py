"""The command `trainwatt`.

Nothing heavy is imported here: `--help`, `list` and completion must answer at once, so each command imports
what it needs when it runs. Completion in bash: `eval "$(_TRAINWATT_COMPLETE=bash_source trainwatt)"`.
"""

from __future__ import annotations

import click

from analysis.commands.advise import advise
from analysis.commands.calibrate import calibrate
from analysis.commands.claims import claims
from analysis.commands.diff import diff
from analysis.commands.estimate import estimate
from analysis.commands.explore import explore
from analysis.commands.list import list_
from analysis.commands.measure import measure
from analysis.commands.plot import plot
from analysis.commands.power import power
from analysis.commands.report import report
from analysis.commands.run import run
from analysis.commands.show import show
from analysis.commands.trace import trace
from analysis.commands.validate import validate
from analysis.group import PoliteGroup

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


for command in (
    estimate,
    advise,
    diff,
    trace,
    run,
    claims,
    measure,
    calibrate,
    power,
    explore,
    plot,
    report,
    validate,
    list_,
    show,
):
    cli.add_command(command)


def main() -> None:
    """Run the command; the entry point of the package."""
    cli(prog_name="trainwatt")


if __name__ == "__main__":
    main()
