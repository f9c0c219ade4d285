"""Where results go: complete files, or standard output for `-`; and how far they are, on a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from simulator.errors import TrainwattError


def check_writable(path: str) -> None:
    """Raise `TrainwattError` where nothing can be written at `path`; asked before the work is done."""
    if path == "-":
        return
    target = Path(path)
    if target.is_dir():
        raise TrainwattError(f"cannot write {path!r}, a folder; give a file")
    if not target.absolute().parent.is_dir():
        raise TrainwattError(f"cannot write {path!r}; there is no folder {str(target.parent)!r}")


def write(path: str, text: str) -> None:
    """Write a complete file, or standard output for `-`. Raises `TrainwattError` where that fails."""
    if path == "-":
        click.echo(text, nl=not text.endswith("\n"))
        return
    from simulator.files import write_atomic

    write_atomic(path, text if text.endswith("\n") else text + "\n")


def check_picture(path: str) -> str:
    """Return the kind of picture that the suffix of `path` names; asked before the work is done.

    Raises `TrainwattError` for a suffix that is no kind of picture and a path that cannot be written.
    """
    kinds = ("png", "svg", "pdf")
    kind = Path(path).suffix.removeprefix(".")
    if kind not in kinds:
        raise TrainwattError(f"picture {path!r}; its name ends in {' or '.join('.' + k for k in kinds)}")
    check_writable(path)
    return kind


def write_picture(figure: Any, path: str) -> None:
    """Write a Matplotlib figure to `path`, whole or not at all, of the kind that its suffix names.

    Raises `TrainwattError` as `check_picture`.
    """
    import io

    from simulator.files import write_atomic

    kind = check_picture(path)
    held = io.BytesIO()
    dated = {"svg": "Date", "pdf": "CreationDate"}.get(kind)
    figure.savefig(held, format=kind, metadata={dated: None} if dated else None)  # the same picture is the same file
    write_atomic(path, held.getvalue())


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[Callable[[float], None]]:
    """Show a bar on standard error, if that is a terminal; what is yielded takes the share of the work that is done."""
    if not sys.stderr.isatty():
        yield lambda share: None
        return
    with click.progressbar(length=100, label=label, file=sys.stderr, show_eta=False) as bar:
        bar.render_progress()
        yield lambda share: bar.update(round(100 * share) - bar.pos)
    click.echo("\x1b[1A\x1b[2K", nl=False, err=True)  # the bar has served: up one line, and clear it
