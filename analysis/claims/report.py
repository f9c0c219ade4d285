"""Claims and our values as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from analysis.claims import Paper, Verdict
from analysis.table import table


def text(verdicts: Sequence[Verdict], *, missed_only: bool = False) -> str:
    """Return one table a paper: setting, published, ours, error, met or missed; reasons and assumptions below."""
    parts = []
    for paper, group in groupby(verdicts, key=lambda v: v.claim.paper):
        mine = list(group)
        met = sum(v.met for v in mine)
        parts.append(f"{_cited(paper)}\n{met} of {len(mine)} claims met")
        for where, part in groupby(mine, key=lambda v: (v.claim.where, v.claim.metric)):
            shown = [v for v in part if not (missed_only and v.met)]
            if shown:
                parts.append(_section(where[0], shown))
    return "\n\n".join(parts)


def _cited(paper: Paper) -> str:
    arxiv = f", arXiv:{paper.arxiv}" if paper.arxiv else ""
    return f"{paper.authors}: {paper.title}, {paper.published}{arxiv}"


def _section(where: str, verdicts: list[Verdict]) -> str:
    claim = verdicts[0].claim
    head = f"{where} ({claim.metric}, {claim.unit}, tolerance {claim.tolerance:.2%})"
    rows: list[tuple[str, ...]] = [("setting", "published", "ours", "error", "")]
    reasons: dict[str, int] = {}
    for v in verdicts:
        note = "met" if v.met else "missed"
        if v.claim.missed:
            note += f" [{reasons.setdefault(v.claim.missed, len(reasons) + 1)}]"
        rows.append((_setting(v.claim.arguments), f"{v.claim.value:g}", f"{v.ours:.5g}", f"{v.error:+.2%}", note))
    notes = [f"  [{number}] {reason}" for reason, number in reasons.items()]
    if claim.convention:
        notes.append(f"  counted as the paper does: {claim.convention}")
    notes += [f"  assumed: {assumed}" for assumed in claim.assumes]
    return "\n".join([head, table(rows), *notes])


def _setting(arguments: Mapping[str, Any]) -> str:
    shown = []
    for key, value in arguments.items():
        text = f"{len(value)} names" if isinstance(value, list) and len(value) > 1 else _plain(value)
        shown.append(text if key in ("network", "apply") else f"{key}={text}")
    return " ".join(shown)


def _plain(value: Any) -> str:
    return "|".join(map(str, value)) or "all" if isinstance(value, list) else str(value)


def rows(verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    """Return one plain mapping a claim."""
    return [
        {
            "paper": v.claim.paper.key,
            "where": v.claim.where,
            "metric": v.claim.metric,
            "arguments": dict(v.claim.arguments),
            "unit": v.claim.unit,
            "published": v.claim.value,
            "ours": v.ours,
            "relative_error": v.error,
            "tolerance": v.claim.tolerance,
            "met": v.met,
            "reason": v.claim.missed or None,
            "convention": v.claim.convention or None,
            "assumes": list(v.claim.assumes),
        }
        for v in verdicts
    ]
