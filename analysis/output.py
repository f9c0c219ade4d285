"""Where results go: complete files, or standard output for `-`."""

from __future__ import annotations

from pathlib import Path

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
