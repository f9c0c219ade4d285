"""From a file or folder of results to its page."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from analysis.page.document import Page
from analysis.page.estimated import estimate_page
from analysis.page.explored import explored_page
from analysis.page.tables import diff_page, table_page
from analysis.pictures.measured_file import read_rows
from simulator.errors import TrainwattError

_PAGES = {"trainwatt-estimate": estimate_page, "trainwatt-diff": diff_page}
_KNOWN = "a folder of explore, JSON of estimate or diff, or CSV"
_POINTS = {"point", "feasible", "network"}


def page_of(path: str) -> Page:
    """Return the page of a folder or table of `explore`, JSON of `estimate` or `diff`, or a CSV table.

    Raises `TrainwattError` for a path that is not there or holds something else.
    """
    file = Path(path)
    if not file.exists():
        raise TrainwattError(f"no file or folder {path!r}; give {_KNOWN}, or a network with --device")
    if file.is_dir() or file.suffix == ".parquet":
        return explored_page(path)
    if file.suffix == ".csv":
        return explored_page(path) if _columns(file) >= _POINTS else table_page(path, read_rows(path))
    return _document_page(path)


def _columns(file: Path) -> set[str]:
    """Return the names in the head of a CSV table, which may be very long; none where it cannot be read."""
    try:
        with file.open(encoding="utf-8") as lines:
            return set(next(csv.reader(line for line in lines if not line.startswith("#")), []))
    except (OSError, UnicodeDecodeError, csv.Error):
        return set()  # whoever reads the rows says why


def _document_page(path: str) -> Page:
    try:
        document: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainwattError(f"cannot read {path!r} ({error.strerror}); give {_KNOWN}") from None
    except ValueError:
        raise TrainwattError(f"{path!r} is no JSON; give {_KNOWN}, or a stored graph with --device") from None
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema not in _PAGES or document.get("version") != 1:
        raise TrainwattError(f"{path!r} is none of our documents; give {_KNOWN}")
    try:
        return _PAGES[schema](document)
    except (KeyError, TypeError, IndexError, StopIteration) as error:
        raise TrainwattError(f"{path!r} is no whole document ({error!r}); write it again with {schema[10:]}") from None
