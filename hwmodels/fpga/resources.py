"""What a design takes of a board, and whether it fits.

    DSP  = engines * tm*tn*dsp(precision) + lanes*lane_flops*dsp(precision)/2
    LUT  = likewise, + controllers and DMA, + banks in LUT memory; FF likewise
    BRAM = buffers * (tn*bank(input_words) + tm*bank(tr*tc)) + buffers * tm*tn*bank(weight_words)

A MAC is two operators, so a lane's operator is half of one. bank(d): block RAMs of a bank of d words of w bits,
the least over the shapes 512 x 36, 1k x 18, 2k x 9, 4k x 4 of ceil(w/width) * ceil(d/depth); none up to 1,024 bits,
which go to LUT memory, 64 bits a LUT. UltraRAM (4k x 72), where a board has it, takes the input and output banks that
block RAM cannot hold. Banks are not shared: all are accessed in the same clock. [Zhang et al., FPGA 2015]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hwmodels.fpga.design import Design
from hwmodels.fpga.operators import Operator

SHAPES = ((512, 36), (1024, 18), (2048, 9), (4096, 4))
"""Depth and width in bits of a block RAM of 18 Kbit."""

LUT_MEMORY_BITS = 1024
_ULTRA_RAM = (4096, 72)


@dataclass(frozen=True)
class Board:
    """What there is on a board, and the shares of it that a search may use."""

    dsp: float
    bram18: float
    uram: float
    lut: float
    ff: float
    usable_dsp: float
    usable_bram18: float
    usable_uram: float
    usable_lut: float
    usable_ff: float
    controller_lut: float
    controller_ff: float


@dataclass(frozen=True)
class Resources:
    """What a design takes. Every field is a number, or an array with one number per design."""

    dsp: Any
    bram18: Any
    uram: Any
    lut: Any
    ff: Any


NAMES = ("dsp", "bram18", "uram", "lut", "ff")


def bank_bram18(words: Any, bits: int) -> Any:
    """Return the block RAMs of one bank of `words` words of `bits` bits."""
    words = np.asarray(words, dtype=np.float64)
    least = np.min([np.ceil(bits / width) * np.ceil(words / depth) for depth, width in SHAPES], axis=0)
    return np.where(words * bits <= LUT_MEMORY_BITS, 0.0, least)


def bank_lut(words: Any, bits: int) -> Any:
    """Return the LUTs of one bank of `words` words of `bits` bits, where it is small enough for LUT memory."""
    words = np.asarray(words, dtype=np.float64)
    return np.where(words * bits <= LUT_MEMORY_BITS, np.ceil(words / 64) * bits, 0.0)


def resources(
    operator: Operator,
    board: Board,
    *,
    tm: Any,
    tn: Any,
    tile_words: Any,
    input_words: Any,
    weight_words: Any,
    buffers: Any,
    engines: Any,
    lane_operators: float,
) -> Resources:
    """Return what designs take of `board`; arguments are numbers or arrays, one number per design."""
    units = engines * tm * tn + lane_operators / 2
    bits = operator.bits
    map_banks = engines * buffers * (tn * bank_bram18(input_words, bits) + tm * bank_bram18(tile_words, bits))
    weights = engines * buffers * tm * tn * bank_bram18(weight_words, bits)
    room = np.maximum(board.bram18 * board.usable_bram18 - weights, 0.0)
    depth, width = _ULTRA_RAM
    ultra = np.ceil(bits / width) * engines * buffers
    ultra = ultra * (tn * np.ceil(np.asarray(input_words) / depth) + tm * np.ceil(np.asarray(tile_words) / depth))
    small = tn * bank_lut(input_words, bits) + tm * bank_lut(tile_words, bits) + tm * tn * bank_lut(weight_words, bits)
    moved = (map_banks > room) & (ultra <= board.uram)
    return Resources(
        dsp=np.ceil(units * operator.dsp.value),
        bram18=weights + np.where(moved, 0.0, map_banks),
        uram=np.where(moved, ultra, 0.0),
        lut=units * operator.lut.value + engines * buffers * small + board.controller_lut,
        ff=units * operator.ff.value + board.controller_ff,
    )


def resources_of(design: Design, board: Board) -> Resources:
    """Return what one design takes of `board`."""
    return resources(
        design.operator,
        board,
        tm=design["tm"],
        tn=design["tn"],
        tile_words=design["tr"] * design["tc"],
        input_words=design["input_words"],
        weight_words=design["weight_words"],
        buffers=design["buffers"],
        engines=design["engines"],
        lane_operators=design["lanes"] * design["lane_flops"],
    )


def missing(taken: Resources, board: Board) -> tuple[str, ...]:
    """Return the resources of which the design takes more than there is, each with both numbers; none if it fits."""
    return tuple(
        f"{name} {getattr(taken, name):,.0f} of {getattr(board, name):,.0f}"
        for name in NAMES
        if getattr(taken, name) > getattr(board, name)
    )


def shares(taken: Resources, board: Board) -> dict[str, float]:
    """Return the part of each resource of the board that a design takes, of those that it has."""
    return {name: float(getattr(taken, name)) / getattr(board, name) for name in NAMES if getattr(board, name)}


def binding(taken: Resources, board: Board) -> tuple[str, float]:
    """Return the resource of which the largest part of what a search may use is taken, and that part."""
    parts = {name: share / getattr(board, f"usable_{name}") for name, share in shares(taken, board).items()}
    name = max(parts, key=parts.__getitem__)
    return name, parts[name]


def usable(taken: Resources, board: Board) -> Any:
    """Return whether designs keep within the usable shares of the board, one truth value per design."""
    fits: Any = True
    for name in NAMES:
        room = np.floor(getattr(board, name) * getattr(board, f"usable_{name}") + 1e-9)
        fits = fits & (np.asarray(getattr(taken, name)) <= room)
    return fits
