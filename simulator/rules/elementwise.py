"""Ops that compute each element of the result from the elements at the same place.

FLOPs = (count below) x (elements of the result); a sigmoid is written out as its arithmetic, a function that
a vector math library offers whole (exp, log, tanh, erf, sin) counts 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from simulator.rules import rule
from simulator.rules.counting import elements, equals, names, results, touched
from simulator.work import Call, Row

ONE_AND_IN_PLACE = names(
    "abs neg sign sgn exp exp2 expm1 log log2 log10 log1p sqrt square sin cos tan asin acos atan sinh "
    "cosh asinh acosh atanh tanh erf erfc erfinv lgamma digamma floor ceil round trunc reciprocal relu "
    "threshold clamp_min clamp_max mul div pow float_power atan2 fmod remainder floor_divide copysign "
    "hypot eq ne lt le gt ge logical_and logical_or logical_xor logical_not bitwise_and bitwise_or "
    "bitwise_xor bitwise_not bitwise_left_shift bitwise_right_shift masked_fill xlogy heaviside"
)
ONE = names(
    "maximum minimum fmax fmin where isnan isinf isposinf isneginf signbit threshold_backward __and__ "
    "__or__ __xor__ special_erfcx special_ndtri special_log_ndtr special_i0e"
)

COUNTED_AND_IN_PLACE: Mapping[str, int] = MappingProxyType(
    {
        "rsqrt": 2,  # 1 / sqrt(x)
        "frac": 2,  # x - trunc(x)
        "clamp": 2,  # two compares
        "hardtanh": 2,  # two compares
        "leaky_relu": 2,  # compare, slope * x
        "lerp": 3,  # a + w (b - a)
        "nan_to_num": 3,  # three tests
        "logit": 3,  # log(x / (1 - x))
        "elu": 3,  # compare, a * expm1(x)
        "celu": 4,  # compare, a * expm1(x / a)
        "sigmoid": 4,  # 1 / (1 + exp(-x))
        "silu": 4,  # x / (1 + exp(-x))
        "mish": 4,  # x * tanh(log1p(exp(x)))
        "hardsigmoid": 4,  # clamp(x + 3, 0, 6) / 6
        "hardswish": 5,  # x * clamp(x + 3, 0, 6) / 6
    }
)
COUNTED: Mapping[str, int] = MappingProxyType(
    {
        "hardshrink": 2,  # two compares
        "hardshrink_backward": 2,
        "hardtanh_backward": 2,  # two compares
        "leaky_relu_backward": 2,  # compare, slope * dy
        "_prelu_kernel": 2,  # compare, slope * x
        "_prelu_kernel_backward": 4,  # compare, slope * dy; compare, x * dy
        "elu_backward": 4,  # compare, dy * (y + a) * scale
        "softshrink": 3,  # two compares, x -+ lambda
        "softshrink_backward": 2,  # two compares
        "hardsigmoid_backward": 3,  # two compares, dy / 6
        "hardswish_backward": 5,  # two compares, dy * (x / 3 + 1/2)
        "sigmoid_backward": 3,  # dy * y * (1 - y)
        "tanh_backward": 3,  # dy * (1 - y * y)
        "logit_backward": 3,  # dy / (x * (1 - x))
        "silu_backward": 9,  # s = sigmoid(x); dy * s * (1 + x * (1 - s))
        "mish_backward": 13,  # s = sigmoid(x), t = tanh(log1p(exp(x))); dy * (t + x * s * (1 - t * t))
        "softplus": 5,  # compare, log1p(exp(b * x)) / b
        "softplus_backward": 6,  # compare, z = exp(b * x); dy * z / (z + 1)
        "log_sigmoid_forward": 6,  # min(x, 0) - log1p(exp(-|x|))
        "log_sigmoid_backward": 5,  # compare, dy * (m - z / (1 + z)), z saved
        "glu": 5,  # a * sigmoid(b)
        "glu_backward": 4,  # 8 for each pair: s = sigmoid(b), g = dy * s, g * (1 - s) * a
        "logaddexp": 7,  # max(a, b) + log1p(exp(-|a - b|))
        "logaddexp2": 7,
        "linalg_cross": 3,  # two products, one subtraction
        "special_xlog1py": 2,  # x * log1p(y)
        "special_entr": 3,  # -x * log(x)
        "polar": 4,  # r * cos(t), r * sin(t)
        "angle": 1,  # atan2
        "_fake_quantize_learnable_per_tensor_affine": 7,
        "fake_quantize_per_tensor_affine_cachemask": 8,  # x / s + z, round, clamp (2), - z, * s, mask
        "fake_quantize_per_channel_affine_cachemask": 8,
        "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams": 8,
        "_fused_moving_avg_obs_fq_helper": 10,  # min and max of x, then as above
        "affine_grid_generator": 6,  # 3 products and sums
    }
)

FOREACH = names(
    "abs acos asin atan ceil clamp_max clamp_min cos cosh div erf erfc exp expm1 floor frac lerp lgamma "
    "log log10 log1p log2 maximum minimum mul neg pow reciprocal round rsqrt sigmoid sign sin sinh sqrt "
    "tan tanh trunc"
)

PER_ELEMENT: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(ONE_AND_IN_PLACE, 1),
        **dict.fromkeys(ONE, 1),
        **COUNTED_AND_IN_PLACE,
        **COUNTED,
    }
)
"""FLOPs per element of the result, by kind; an in-place or `_foreach_` form counts what its base counts."""

KINDS = (
    *PER_ELEMENT,
    *(f"{name}_" for name in (*ONE_AND_IN_PLACE, *COUNTED_AND_IN_PLACE)),
    *(f"_foreach_{name}" for name in FOREACH),
    *(f"_foreach_{name}_" for name in FOREACH),
)


def _forms(*names: str) -> list[str]:
    return [f"{before}{name}{after}" for name in names for before in ("", "_foreach_") for after in ("", "_")]


def _row(call: Call, per_element: int) -> Row:
    """The row of `per_element` FLOPs for each element of the (first) result; all operands read, all results
    written.
    """
    computed = results(call)
    count = elements(computed) if call.kind.startswith("_foreach_") else computed[0].numel
    return Row("elementwise", per_element * count, touched(call.inputs), touched(call.written))


@rule(*KINDS)
def elementwise(call: Call) -> Row:
    """FLOPs = `PER_ELEMENT` x elements of the first result (all results of a `_foreach_`)."""
    name = call.kind.removeprefix("_foreach_")
    per_element = PER_ELEMENT.get(name)
    if per_element is None:
        per_element = PER_ELEMENT[name.removesuffix("_")]
    if call.attrs.get("rounding_mode") is not None:
        per_element += 1
    return _row(call, per_element)


@rule(*_forms("add", "sub"), "rsub")
def add(call: Call) -> Row:
    """a + alpha b: 1 FLOP an element, 2 where alpha is not 1."""
    return _row(call, 1 if equals(call.attrs.get("alpha", 1), 1) else 2)


@rule(*_forms("addcmul", "addcdiv"))
def multiply_add(call: Call) -> Row:
    """a + value b c (or b / c): 3 FLOPs an element, 2 where value is 1."""
    return _row(call, 2 if equals(call.attrs.get("value"), 1) else 3)


@rule("gelu", "gelu_", "gelu_backward")
def gelu(call: Call) -> Row:
    """GELU (Hendrycks and Gimpel 2016), exact or by tanh.

    exact: x/2 (1 + erf(x/sqrt 2)), 5; backward dy (cdf + x pdf), cdf 4, pdf = c exp(-x x/2) 4, and 3: 11.
    tanh: x/2 (1 + tanh(b (x + k x^3))), 9; backward 19.
    """
    exact, by_tanh = (11, 19) if call.kind == "gelu_backward" else (5, 9)
    return _row(call, by_tanh if call.attrs.get("approximate") == "tanh" else exact)


@rule("native_dropout_backward")
def dropout_backward(call: Call) -> Row:
    """dy * mask * scale: 2 FLOPs an element."""
    return _row(call, 2)


@rule("rrelu_with_noise", "rrelu_with_noise_", "rrelu_with_noise_backward")
def rrelu(call: Call) -> Row:
    """Forward: compare, draw (scale, shift), multiply: 4, and writes the noise. Backward: noise * dy, 1.

    Reads x (or dy, x and the noise); the forward pass does not read its noise operand.
    """
    if call.kind.endswith("backward"):
        return Row("elementwise", call.outputs[0].numel, touched(call.inputs), touched(call.written))
    x = call.inputs[0]
    noise: Any = call.inputs[1].touched_bytes if len(call.inputs) > 1 else 0
    return Row("elementwise", 4 * x.numel, x.touched_bytes, call.outputs[0].touched_bytes + noise)
