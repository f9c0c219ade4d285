"""Sums, extrema and the like: FLOPs per element that goes in; scans and sorts."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from simulator.rules import rule
from simulator.rules.counting import elements, names, product, touched
from simulator.work import Call, Row

PER_INPUT_ELEMENT: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(names("sum nansum prod max min amax amin argmax argmin any all count_nonzero"), 1),
        **dict.fromkeys(names("cumsum cumsum_ cumprod cumprod_ cummax cummin _foreach_max bincount"), 1),
        **dict.fromkeys(names("median nanmedian kthvalue mode topk nonzero equal trace"), 1),
        "aminmax": 2,
        "_aminmax": 2,
        "norm": 2,  # square (or abs), add
        "linalg_vector_norm": 2,
        "_foreach_norm": 2,
        "_foreach_powsum": 2,
        "histc": 2,
        "logsumexp": 4,  # max, subtract, exp, add
        "_logcumsumexp": 4,
        "logcumsumexp": 4,
        "var": 4,  # add; subtract, square, add
        "std": 4,
        "var_mean": 4,
        "std_mean": 4,
    }
)
"""FLOPs per element of the inputs, by kind."""


@rule(*PER_INPUT_ELEMENT)
def reduction(call: Call) -> Row:
    """FLOPs = `PER_INPUT_ELEMENT` x elements of the input (of all inputs of a `_foreach_`)."""
    source = call.inputs if call.kind.startswith("_foreach_") else call.inputs[:1]
    flops = PER_INPUT_ELEMENT[call.kind] * elements(source)
    return Row("reduction", flops, touched(call.inputs), touched(call.written))


@rule("mean")
def mean(call: Call) -> Row:
    """1 add an element that goes in, 1 divide an element that comes out."""
    flops = call.inputs[0].numel + call.outputs[0].numel
    return Row("reduction", flops, touched(call.inputs), touched(call.written))


@rule("sort", "argsort", "_unique2", "unique_dim", "unique_consecutive")
def sort(call: Call) -> Row:
    """m log2 m compares for each sorted run of m elements (all of them where no `dim` is given)."""
    x = call.inputs[0]
    dim = call.attrs.get("dim")
    run: Any = x.shape[dim] if isinstance(dim, int) and x.shape else x.numel
    return Row("reduction", x.numel * np.log2(np.maximum(run, 2)), touched(call.inputs), touched(call.written))


@rule("searchsorted", "bucketize")
def search(call: Call) -> Row:
    """log2 m compares a value that is looked up among m."""
    values, sought = (0, 1) if call.kind == "searchsorted" else (1, 0)
    m = call.inputs[values].shape[-1]
    flops = call.outputs[0].numel * np.ceil(np.log2(np.maximum(m, 2)))
    return Row("reduction", flops, call.inputs[values].touched_bytes + _sought(call, sought), touched(call.written))


def _sought(call: Call, place: int) -> Any:
    return call.inputs[place].touched_bytes if place < len(call.inputs) else 0


@rule("_fft_r2c", "_fft_c2r", "_fft_c2c")
def fft(call: Call) -> Row:
    """5 m log2 m for each complex transform of m points (Cooley and Tukey 1965, as FFTW counts); half where
    one side is real.
    """
    real_side = {"_fft_r2c": call.inputs[0], "_fft_c2r": call.outputs[0], "_fft_c2c": call.inputs[0]}[call.kind]
    m = product([real_side.shape[d] for d in call.attrs["dim"]])
    per_point = 5.0 if call.kind == "_fft_c2c" else 2.5
    flops = per_point * real_side.numel * np.log2(np.maximum(m, 2))
    return Row("reduction", flops, touched(call.inputs), touched(call.written))
