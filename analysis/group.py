"""The manners of the command: one line for each error, exit code 2 for bad input, silence to who left."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from simulator.errors import TrainwattError, unknown

BAD_INPUT = 2
INTERRUPTED = 130
NO_READER = 141  # what a shell reports of a command that a closed pipe ended


class PoliteGroup(click.Group):
    """Commands that print `trainwatt: <message>` where click would print usage or a traceback."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> NoReturn:
        """Run a command and exit. Any other exception is a defect of ours and keeps its traceback."""
        options["standalone_mode"] = False
        try:
            code = super().main(args, *rest, **options)
        except TrainwattError as error:
            _stop(str(error), BAD_INPUT)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.ctx.get_help() if error.ctx else "")
            sys.exit(BAD_INPUT)
        except click.ClickException as error:
            _stop(_message(error), BAD_INPUT)
        except (KeyboardInterrupt, click.Abort):
            _stop("interrupted", INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; leave at once where the user or the reader of our output has."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            _stop("interrupted", INTERRUPTED)
        except BrokenPipeError:
            # Python would flush stdout once more on its way out and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(NO_READER)
        return result

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command; a misspelt one is answered with the closest."""
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing and not args[0].startswith("-"):
            raise unknown("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)


def _message(error: click.ClickException) -> str:
    """Return click's message in our form and on one line."""
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        known = [name for p in error.ctx.command.get_params(error.ctx) for name in (*p.opts, *p.secondary_opts)]
        options = [name for name in known if name.startswith("--")]
        return str(unknown("option", error.option_name, options, f"see '{error.ctx.command_path} --help'"))
    text = " ".join(error.format_message().split()).rstrip(".")
    if isinstance(error, click.UsageError) and error.ctx is not None and ";" not in text:
        text += f"; see '{error.ctx.command_path} --help'"
    return text[:1].lower() + text[1:]


def _stop(message: str, code: int) -> NoReturn:
    print("trainwatt: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(code)


class OneOf(click.Choice):  # type: ignore[type-arg]  # generic only in newer versions of click
    """A choice among words, whose error suggests the closest."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value not in self.choices:
            what = (param.opts[0] if param and param.param_type_name == "option" else "such thing").lstrip("-")
            raise unknown(f"--{what}" if what != "such thing" else "list of", str(value), self.choices)
        return super().convert(value, param, ctx)
