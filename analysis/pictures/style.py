"""The look of all pictures: sizes, colours, and units on the axes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from simulator.graph import PHASES, ROLES

BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW, BLACK = "#CC79A7", "#56B4E9", "#F0E442", "#000000"
COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, YELLOW, BLACK)
"""Eight colours that the colour-blind tell apart [Okabe, Ito, "Color Universal Design", 2008]."""

GREY = "#767676"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""A mark for each colour, for who sees none."""

PHASE_COLOURS: Mapping[str, str] = dict(zip(PHASES, (BLUE, BLACK, ORANGE, GREEN, GREY), strict=True))
ROLE_COLOURS: Mapping[str, str] = dict(zip(ROLES, (BLUE, BLACK, PURPLE, ORANGE, GREY, GREEN, SKY, YELLOW), strict=True))

WIDTH_IN = 4.5
"""Width of a picture in inches. Shrunk to a column of 3.5 inches, its letters are still 6 points high."""

WIDE_IN = 6.5
"""Width of a picture with several panels, made for a whole page."""

_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "figure.dpi": 200,
    "pdf.fonttype": 42,  # letters stay letters, as publishers demand
    "svg.hashsalt": "trainwatt",  # the same picture is the same file
}

_PREFIXES = ((1e-9, "n"), (1e-6, "µ"), (1e-3, "m"), (1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"))
_LABELS = {"peak_bytes": "peak memory", "needed_bytes": "memory needed", "memory_bytes": "memory of the device"}
_SUFFIXES = {"s": "s", "j": "J", "bytes": "B", "w": "W"}


@contextlib.contextmanager
def picture(path: str, *, width_in: float = WIDTH_IN, height_in: float) -> Iterator[Any]:
    """Yield an empty Matplotlib figure in the look of all pictures, and write it to `path` when the block ends.

    Raises `TrainwattError` for a suffix that is no kind of picture and a path that cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    from analysis.output import write_picture

    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        yield figure
        figure.draw_without_rendering()  # a second pass of the layout knows how large the first has made all letters
        write_picture(figure, path)


def scaled(values: Sequence[float], unit: str) -> tuple[float, str]:
    """Return by what to divide values in the base unit `unit` (`s`, `J`, `B`, ...) for an axis, and the axis's unit."""
    top = max((abs(v) for v in values), default=0.0)
    fitting = [(size, prefix + unit) for size, prefix in _PREFIXES if size <= top and (unit != "s" or size <= 1)]
    return fitting[-1] if unit and fitting else (1.0, unit)


def unit_of(column: str) -> str:
    """Return the base unit that the name of a column ends with, empty for one without; a share saved has none."""
    return _SUFFIXES.get(column.rpartition("_")[2], "") if "_" in column else ""


def label_of(column: str) -> str:
    """Return a column's name in words, without its unit: `epoch_latency_s` is `epoch latency`."""
    if column in _LABELS:
        return _LABELS[column]
    words = column.split("_")
    if unit_of(column):
        words = words[:-1]
    if words[-1] == "saved" and len(words) > 2 and words[-2] in _SUFFIXES:
        words = [*words[:-2], "saved"]
    return " ".join(words)


def with_unit(label: str, unit: str) -> str:
    """Return the label of an axis: `latency (ms)`."""
    return f"{label} ({unit})" if unit else label


def key(figure: Any, title: str = "") -> None:
    """Put one legend of all axes above them, in as many columns as its labels leave room for, under `title`."""
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if not handles:
        return
    letters = figure.get_figwidth() * 15.5  # of 8 points, about
    columns = max(1, min(4, int(letters // (max(map(len, handles)) + 6))))
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside upper center",
        ncols=columns,
        title=title or None,
        title_fontsize=8,
        handletextpad=0.4,
        columnspacing=1.2,
    )


def log_axes(axes: Any, *, x: bool, y: bool) -> None:
    """Make axes logarithmic, with plain numbers at 1, 2 and 5 where there is little more than a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for wanted, name in ((x, "x"), (y, "y")):
        if not wanted:
            continue
        getattr(axes, f"set_{name}scale")("log")
        axis = getattr(axes, f"{name}axis")
        low, high = axis.get_view_interval()
        decades = float(high / low)
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 300 else (1.0,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.set_minor_formatter(NullFormatter())
