"""The one exception a user of trainwatt sees, and the form of its message."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class TrainwattError(Exception):
    """Bad input, said in one line: `<what> <got>; <what would be right>`.

    The command prints the message and exits with code 2. Anything else that is raised is a defect of ours.
    """


def unknown(what: str, got: str, known: Iterable[str], see: str = "") -> TrainwattError:
    """Return the error for a name that does not exist, with the closest names that do.

    `see` says where all names are listed, for when none is close; by default `trainwatt list <what>s`.
    """
    names = sorted(known)
    close = get_close_matches(got, names, n=3, cutoff=0.6) or [n for n in names if got and got.lower() in n.lower()][:3]
    if close:
        hint = "did you mean " + " or ".join(repr(name) for name in close) + "?"
    elif len(names) <= 12 and names:
        hint = "there is " + ", ".join(names)
    else:
        hint = see or f"see 'trainwatt list {what}s'"
    return TrainwattError(f"no {what} {got!r}; {hint}")
