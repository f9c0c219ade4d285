"""Published numbers, as claims that ours are held against: met or missed, in the open.

A file `<paper>.toml` of this folder holds the claims of one paper:

    [paper]
    title = "..."
    authors = "..."
    published = "CVPR 2023"
    arxiv = "2301.00330"

    [[claims]]                          # part of a table, or one number
    where = "Table 11"
    metric = "backward-flops"           # a function in a `*metrics.py` of this folder
    unit = "MFLOP"
    tolerance = 0.005                   # of the published value
    convention = "..."                  # how the paper counts, where that is not our way
    assumes = ["..."]                   # what the paper does not state
    over = ["layers", "patch"]          # what the first numbers of a row are
    rows = [[1, 2, 8.18], [2, 2, 26.8, "missed because ..."]]

and any further arguments of the metric (`network`, `classes`, `apply`). A row is the values of `over`, the published
value and, where ours misses it, the reason. Values are as published.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulator.errors import TrainwattError, unknown

_FIELDS = {"where", "metric", "unit", "tolerance", "convention", "assumes", "over", "rows"}


@dataclass(frozen=True)
class Paper:
    """Who published it where. `key` is the name of its file."""

    key: str
    title: str
    authors: str
    published: str
    arxiv: str = ""


@dataclass(frozen=True)
class Claim:
    """One published number: `value` in `unit`, at `arguments` of the metric; `missed` says why ours differs."""

    paper: Paper
    where: str
    metric: str
    arguments: Mapping[str, Any]
    value: float
    unit: str
    tolerance: float
    convention: str = ""
    assumes: tuple[str, ...] = ()
    missed: str = ""

    @property
    def name(self) -> str:
        """What tells the claim from others of its paper."""
        given = ", ".join(f"{key}={value}" for key, value in self.arguments.items())
        return f"{self.where}: {self.metric}({given})"


@dataclass(frozen=True)
class Verdict:
    """A claim with our value, in the claim's unit; `error` is relative to the published value."""

    claim: Claim
    ours: float
    error: float = field(init=False)
    met: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "error", self.ours / self.claim.value - 1)
        object.__setattr__(self, "met", abs(self.error) <= self.claim.tolerance)


def claims(paper: str | None = None) -> tuple[Claim, ...]:
    """Return the claims of all papers, or of the one whose key is `paper`.

    Raises `TrainwattError` for an unknown paper and for a file that does not follow the form.
    """
    files = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.toml"))}
    if paper is not None and paper not in files:
        raise unknown("paper", paper, files)
    wanted = files if paper is None else {paper: files[paper]}
    return tuple(claim for path in wanted.values() for claim in _read(path))


def judge(claim: Claim) -> Verdict:
    """Return the claim with our value of it; tracing a network takes seconds, once for each."""
    from analysis.claims.registry import metrics

    return Verdict(claim, metrics()[claim.metric](**claim.arguments))


def judge_all(wanted: tuple[Claim, ...], progress: Callable[[float], None] = lambda share: None) -> Iterator[Verdict]:
    """Yield each claim with our value, telling `progress` the share of the work done."""
    for i, claim in enumerate(wanted):
        yield judge(claim)
        progress((i + 1) / len(wanted))


def _read(path: Path) -> Iterator[Claim]:
    from analysis.claims.registry import metrics

    try:
        document = tomllib.loads(path.read_text())
        paper = Paper(path.stem, **document["paper"])
        for table in document["claims"]:
            if table["metric"] not in metrics():
                raise unknown("metric", table["metric"], metrics())
            shared = {key: value for key, value in table.items() if key not in _FIELDS}
            over = table.get("over", [])
            for row in table["rows"]:
                *values, value = row[: len(over) + 1]
                yield Claim(
                    paper,
                    table["where"],
                    table["metric"],
                    {**shared, **dict(zip(over, values, strict=True))},
                    float(value),
                    table["unit"],
                    float(table["tolerance"]),
                    table.get("convention", ""),
                    tuple(table.get("assumes", ())),
                    row[len(over) + 1] if len(row) > len(over) + 1 else "",
                )
    except (KeyError, TypeError, ValueError, tomllib.TOMLDecodeError) as error:
        raise TrainwattError(f"{path.name} is no file of claims ({type(error).__name__}: {error})") from None
