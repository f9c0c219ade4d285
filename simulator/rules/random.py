"""Random numbers. Producing the random bits is integer work of the generator and is not counted as FLOPs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from simulator.rules import rule
from simulator.rules.counting import names, touched
from simulator.work import Call, Row

DRAWS: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(names("bernoulli_ random_ randint randint_like randperm"), 1),  # compare, or reduce to a range
        **dict.fromkeys(names("uniform_ rand rand_like exponential_ geometric_"), 2),  # scale, shift; log, scale
        **dict.fromkeys(names("normal_ randn randn_like log_normal_ cauchy_"), 6),
    }
)
"""FLOPs per element of ops that only write.

Normal numbers by Box and Muller 1958: 8 for two, then scale and shift.
"""


@rule(*DRAWS)
def draw(call: Call) -> Row:
    """FLOPs = `DRAWS` x elements.

    Reads nothing but a tensor of probabilities (`bernoulli_(p)`), writes the result.
    """
    in_place = call.kind.endswith("_")
    read = touched(call.inputs[1:]) if in_place else 0
    return Row("random", DRAWS[call.kind] * call.outputs[0].numel, read, touched(call.written))


@rule("bernoulli", "poisson", "normal")
def draw_from(call: Call) -> Row:
    """Draws with one parameter an element: compares (6 FLOPs a normal number).

    Reads the parameters, writes the result.
    """
    per_element = 6 if call.kind == "normal" else 1
    return Row("random", per_element * call.outputs[0].numel, touched(call.inputs), touched(call.written))


@rule("multinomial")
def multinomial(call: Call) -> Row:
    """Exponential race: 3 FLOPs a class (draw: log; divide; compare)."""
    return Row("random", 3 * call.inputs[0].numel, touched(call.inputs), touched(call.written))


@rule("native_dropout")
def dropout(call: Call) -> Row:
    """Draw and compare 1, times mask, times 1/(1-p): 3 FLOPs an element.

    Reads x, writes y and a mask of 1 byte each.
    """
    return Row("random", 3 * call.inputs[0].numel, touched(call.inputs), touched(call.written))
