"""A training accelerator as a designer describes it: unroll factors, tile, precision, buffers, streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwmodels import reading
from hwmodels.fpga.operators import OPERATORS, Operator
from hwmodels.numbers import Number
from simulator.errors import TrainwattError, unknown

ARITHMETIC = ("parallel", "bit-serial")

UNITS = {
    "tm": "",
    "tn": "",
    "tr": "",
    "tc": "",
    "input_words": "",
    "weight_words": "",
    "buffers": "",
    "streams": "",
    "stream_width": "byte",
    "depth": "",
    "lanes": "",
    "lane_flops": "",
    "engines": "",
    "clock": "Hz",
}
"""Numbers of a [design] table and their units; `clock` may be left out, the mode's holds then."""

_TEXTS = ("description", "precision", "arithmetic")
_MOST = {"buffers": 2, "streams": 3, "engines": 3}


@dataclass(frozen=True)
class Design:
    """An engine of `tm` x `tn` MAC units of one precision, with vector lanes beside it.

    `tm`, `tn`: output and input channels (of the product computed) done each clock. `tr`, `tc`: rows and columns of a
    tile; the output buffer holds tm x tr*tc words, and narrower maps get more rows. `input_words`, `weight_words`:
    words of each of the tn input and the tm x tn weight banks. `buffers`: 2 for
    ping-pong, 1 for load, compute, store in turn. `streams`: 1 shared, 2 in and out, 3 input, weight and output apart;
    `stream_width` bytes a clock each. `depth`: clocks to fill the pipeline once a tile. `lanes` x `lane_flops`: FLOPs a
    clock of everything without MACs. `engines`: 1 where the three phases share the engine, 2 where grad-weight has its
    own, 3 where each has; ops run one after another, so more engines take resources and save no time.
    """

    description: str
    precision: str
    arithmetic: str
    numbers: Mapping[str, Number] = field(hash=False)

    def __post_init__(self) -> None:
        for what, got, known in (
            ("precision", self.precision, tuple(OPERATORS)),
            ("arithmetic", self.arithmetic, ARITHMETIC),
        ):
            if got not in known:
                raise unknown(what, got, known)
        if self.arithmetic == "bit-serial" and self.precision.startswith("float"):
            raise TrainwattError(f"bit-serial arithmetic of {self.precision}; whole numbers only, such as int16")
        for name, most in _MOST.items():
            if self[name] > most:
                raise TrainwattError(f"design.{name} {self[name]:g}; it is at most {most}")

    def __getitem__(self, name: str) -> float:
        return self.numbers[name].value

    @property
    def operator(self) -> Operator:
        return OPERATORS[self.precision]

    @property
    def mac_units(self) -> float:
        return self["tm"] * self["tn"]

    @property
    def word_bytes(self) -> float:
        return self.operator.bits / 8

    def changed(self, source: str, **values: float) -> Design:
        """Return the design with other values, `assumed` from `source`."""
        numbers = {name: Number(value, UNITS[name], "assumed", source) for name, value in values.items()}
        return Design(self.description, self.precision, self.arithmetic, {**self.numbers, **numbers})

    def __str__(self) -> str:
        value = {name: f"{self[name]:g}" for name in UNITS if name in self.numbers}
        return (
            f"Tm x Tn = {value['tm']} x {value['tn']} {self.precision}, Tr x Tc = {value['tr']} x {value['tc']}, "
            f"{value['weight_words']} words a weight bank, {value['streams']} streams of {value['stream_width']} byte, "
            + ("ping-pong" if self["buffers"] > 1 else "single buffers")
        )


def read_design(table: Mapping[str, Any]) -> Design:
    """Return the design that a [design] table describes; raises `TrainwattError` for what is wrong in it."""
    reading.known(table, (*_TEXTS, *UNITS), "design")
    texts = {name: reading.text(table, name) for name in _TEXTS}
    entries = {name: entry for name, entry in table.items() if name not in _TEXTS}
    whole = tuple(name for name in UNITS if name not in ("clock", "stream_width"))
    found = reading.numbers(entries, "design", UNITS, ("clock",), whole=whole)
    return Design(**texts, numbers={path.partition(".")[2]: number for path, number in found.items()})


def design_file(path: str | Path) -> Design:
    """Return the design of a TOML file with a [design] table, such as a device file.

    Raises `TrainwattError` where there is no such file or it is wrong.
    """
    import tomllib

    path = Path(path)
    if not path.is_file():
        raise TrainwattError(f"no file {str(path)!r}; give a TOML file with a table [design], or 'auto'")
    try:
        return read_design(reading.table(tomllib.loads(path.read_text(encoding="utf-8")), "design"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainwattError(f"{path.name} is no TOML ({' '.join(str(error).split())}); mend the file") from None
    except TrainwattError as error:
        raise TrainwattError(f"{path.name}: {error}") from None
