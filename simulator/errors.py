"""The one exception a user of trainwatt sees, and the form of its message."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches


class TrainwattError(Exception):
    """Bad input, said in one line: `<what> <got>; <what would be right>`.

    The command prints the message and exits with code 2. Anything else that is raised is a defect of ours.
    """


def unknown(what: str, got: str, known: Iterable[str], see: str = "") -> TrainwattError:
    """Return the error for a name that does not exist, with the closest names that do.

    `see` says where all names are listed, for when none is close; by default `trainwatt list <what>s`.
    """
    names = sorted(known)
    close = _closest(got, names) or [name for name in names if got and got.lower() in name.lower()][:3]
    if close:
        hint = "did you mean " + " or ".join(repr(name) for name in close) + "?"
    elif len(names) <= 12 and names:
        hint = "there is " + ", ".join(names)
    else:
        hint = see or f"see 'trainwatt list {what}s'"
    return TrainwattError(f"no {what} {got!r}; {hint}")


def first_line(error: Exception) -> str:
    """Return what an error of somebody else's code says, on one line; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _closest(got: str, names: list[str]) -> list[str]:
    """Return the names that are about as close to `got` as the closest, best first, at most three."""
    close = get_close_matches(got, names, n=3, cutoff=0.6)
    likeness = [SequenceMatcher(None, name, got).ratio() for name in close]
    return [name for name, ratio in zip(close, likeness, strict=True) if ratio > likeness[0] - 0.05]
