"""Output files that are whole or absent."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from simulator.errors import TrainwattError


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write `content` beside `path`, then rename: a reader never sees half a file, a failure leaves the old one.

    Raises `TrainwattError` where the folder cannot be written.
    """
    target = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = ""
    try:
        if target.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise TrainwattError(
            f"cannot write {target} ({error.strerror}); give a path in a folder you can write"
        ) from None
