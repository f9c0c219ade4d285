"""Plain text tables."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], *, left: int = 1, indent: int = 2) -> str:
    """Return rows as text, the first as head. The first `left` columns align left, the others right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if k < left else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append((" " * indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Return names and values, one pair a line, values aligned."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {value}".rstrip() for name, value in rows)


def percent(fraction: float | None) -> str:
    """Return a share such as `12.3 %`; a dash where there is none."""
    return "-" if fraction is None else f"{100 * fraction:.1f} %"


def shortened(text: str, width: int = 44) -> str:
    """Return `text` with its middle left out where it is longer than `width`; ends tell layers apart."""
    if len(text) <= width:
        return text
    head = (width - 3) // 3
    return text[:head] + "..." + text[len(text) - (width - 3 - head) :]
