# ruff: noqa: UP006, UP035, UP045
"""From what a row of measurements says of an op to its operands: shapes, dtypes and attributes, without torch.

Parameters of an op, all whole numbers unless said otherwise (`n` is the row's batch):

* convolutions: `c` to `k` channels over maps of side `h`, filters of side `r`; `stride` 1, `groups` 1, `dilation` 1,
  `padding` dilation * (r // 2), `bias` 0;
* on feature maps of `c` channels and side `h`: norms, activations, sums, pools (window `r` 2, `stride` 2,
  `padding` (r - 1) // 2), `cat` of `parts` 2 maps, `mul` of one factor a channel with `broadcast` 1, `div` of one value
  a channel spread over its map with `expanded` 1, `_adaptive_avg_pool2d` to side `out` 1, upsampling by `scale` 2;
* on rows, `m` of `n` elements each: softmax, losses, layer norm, the `sum` over rows;
* matrix products (m x k) (k x n), `transposed` `none`, `a` or `b`: which operand is a transposed view;
* on images, also with `channels_last` 1: in that memory format, all of them;
* on `elements` numbers, of `dtype` float32: updates of parameters, copies, fills, random numbers; the `_foreach_`
  forms on `tensors` of as many elements each.
"""

from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

Shape = Tuple[int, ...]


class Operand(NamedTuple):
    """A tensor; `stored` is its shape before it is expanded (the same where it is not). The channels of one that is
    `channels_last`, of shape (N, C, H, W), lie next to each other."""

    shape: Shape
    dtype: str
    stored: Shape
    channels_last: bool = False


class Signature(NamedTuple):
    """A call: operands in ATen's order, places of those it writes, what else it is told, its phase of a step."""

    inputs: List[Operand]
    outputs: List[Operand]
    mutates: List[int]
    attrs: Dict[str, Any]
    phase: str


Sizes = Dict[str, int]
Make = Callable[[str, Sizes], Signature]


def operand(*shape: int, **given: Any) -> Operand:
    """Return a tensor of `shape`, of `dtype` float32, expanded from shape `stored` if given."""
    return Operand(shape, given.get("dtype", "float32"), given.get("stored", shape))


def signature(kind: str, parameters: Mapping[str, Any], batch: Optional[int]) -> Signature:
    """Return the operands of the op `kind`. Raises `ValueError` for a kind or parameters that are not known."""
    if kind not in MAKERS:
        raise ValueError(f"op {kind!r}; measured are {', '.join(sorted(MAKERS))}")
    sizes = {name: _whole(name, value) for name, value in parameters.items() if name != "operands"}
    if batch is not None:
        sizes["batch"] = batch
    try:
        made = MAKERS[kind](kind, sizes)
    except KeyError as error:
        raise ValueError(f"op {kind!r} without {error.args[0]!r}; its parameters do not say its operands") from None
    if not sizes.get("channels_last", 0):
        return made
    return made._replace(inputs=list(map(_last, made.inputs)), outputs=list(map(_last, made.outputs)))


def _last(one: Operand) -> Operand:
    return one._replace(channels_last=len(one.shape) == 4)


_WORDS = {"none": 0, "a": 1, "b": 2, "float32": 0, "int64": 1}


def _whole(name: str, value: Any) -> int:
    text = str(value)
    if text in _WORDS and name in ("transposed", "dtype"):
        return _WORDS[text]
    if not text.isdigit():
        raise ValueError(f"{name}={text} of an op; it is a whole number")
    return int(text)


def _padded(h: int, r: int, stride: int, padding: int, dilation: int = 1) -> int:
    return (h + 2 * padding - dilation * (r - 1) - 1) // stride + 1


def _convolution(kind: str, of: Sizes) -> Signature:
    n, c, k, h, r = of["batch"], of["c"], of["k"], of["h"], of["r"]
    stride, groups, dilation = of.get("stride", 1), of.get("groups", 1), of.get("dilation", 1)
    padding = of.get("padding", dilation * (r // 2))
    size = _padded(h, r, stride, padding, dilation)
    x, w, y = operand(n, c, h, h), operand(k, c // groups, r, r), operand(n, k, size, size)
    attrs = {
        "stride": (stride, stride),
        "padding": (padding, padding),
        "dilation": (dilation, dilation),
        "transposed": False,
        "output_padding": (0, 0),
        "groups": groups,
    }
    if kind == "convolution":
        inputs = [x, w, operand(k)] if of.get("bias", 0) else [x, w]
        return Signature(inputs, [y], [], attrs, "forward")
    given, made = {"input": ([y, w], x), "weight": ([y, x], w), "bias": ([y], operand(k))}[kind.rpartition("_")[2]]
    return Signature(given, [made], [], attrs, "backward")


def _product(kind: str, of: Sizes) -> Signature:
    m, n, k = of["m"], of["n"], of["k"]
    factors = [operand(m, k), operand(k, n)]
    if kind == "addmm_":
        return Signature([operand(m, n), *factors], [operand(m, n)], [0], {"beta": 1, "alpha": 1}, "backward")
    attrs = {"transposed": ("none", "a", "b")[of.get("transposed", 0)]}
    if kind == "addmm":
        return Signature([operand(n), *factors], [operand(m, n)], [], dict(attrs, beta=1, alpha=1), "forward")
    return Signature(factors, [operand(m, n)], [], attrs, "backward")


def _map(of: Sizes) -> Operand:
    return operand(of["batch"], of["c"], of["h"], of["h"])


def _batch_norm(kind: str, of: Sizes) -> Signature:
    x, channel = _map(of), operand(of["c"])
    if kind == "native_batch_norm":
        attrs: Dict[str, Any] = {"training": True, "momentum": 0.1, "eps": 1e-5}
        return Signature([x, *[channel] * 4], [x, channel, channel], [3, 4], attrs, "forward")
    attrs = {"train": True, "eps": 1e-5, "output_mask": (True, True, True)}
    return Signature([x, x, *[channel] * 5], [x, channel, channel], [], attrs, "backward")


def _unary(kind: str, of: Sizes) -> Signature:
    return Signature([_map(of)], [_map(of)], [], _activation(kind), "forward")


def _in_place(kind: str, of: Sizes) -> Signature:
    return Signature([_map(of)], [_map(of)], [0], _activation(kind), "forward")


def _activation_backward(kind: str, of: Sizes) -> Signature:
    return Signature([_map(of)] * 2, [_map(of)], [], _activation(kind), "backward")


def _activation(kind: str) -> Dict[str, Any]:
    if kind.startswith("hardtanh"):
        return {"min_val": 0.0, "max_val": 6.0}
    told: Dict[str, Dict[str, Any]] = {"gelu": {"approximate": "none"}, "threshold_backward": {"threshold": 0}}
    return told.get(kind, {})


def _sum_of_two(kind: str, of: Sizes) -> Signature:
    """`add` and `add_` on maps; `add_` on parameters is SGD's update."""
    if "elements" in of:
        dtype = "int64" if of.get("dtype", 0) else "float32"
        counted = operand(dtype=dtype)
        x = operand(of["elements"], dtype=dtype)
        if dtype == "int64":  # how batch norm counts its batches
            return Signature([counted, counted], [counted], [0], {"alpha": 1}, "forward")
        return Signature([x, x], [x], [0], {"alpha": -1e-6}, "optimizer")
    return Signature([_map(of)] * 2, [_map(of)], [0] if kind == "add_" else [], {"alpha": 1}, "forward")


def _mul(kind: str, of: Sizes) -> Signature:
    factor = operand(of["batch"], of["c"], 1, 1) if of.get("broadcast", 0) else _map(of)
    return Signature([_map(of), factor], [_map(of)], [], {}, "forward")


def _div(kind: str, of: Sizes) -> Signature:
    x = _map(of)
    if of.get("expanded", 0):
        x = operand(*x.shape, stored=(of["batch"], of["c"], 1, 1))
    return Signature([x], [_map(of)], [], {"other": of["h"] ** 2}, "backward")


def _cat(kind: str, of: Sizes) -> Signature:
    parts = of.get("parts", 2)
    whole = operand(of["batch"], parts * of["c"], of["h"], of["h"])
    return Signature([_map(of)] * parts, [whole], [], {"dim": 1}, "forward")


def _over_map(kind: str, of: Sizes) -> Signature:
    """`mean` over each map; `sum` also over rows: a bias's gradient, or that of a factor of squeeze and excitation."""
    if "m" in of:
        attrs = {"dim": (0,), "keepdim": True, "dtype": None}
        return Signature([operand(of["m"], of["n"])], [operand(1, of["n"])], [], attrs, "backward")
    attrs = {"dim": (-1, -2) if kind == "mean" else (2, 3), "keepdim": True, "dtype": None}
    phase = "forward" if kind == "mean" else "backward"
    return Signature([_map(of)], [operand(of["batch"], of["c"], 1, 1)], [], attrs, phase)


def _pool(kind: str, of: Sizes) -> Signature:
    r, stride = of.get("r", 2), of.get("stride", 2)
    padding = of.get("padding", (r - 1) // 2)
    size = _padded(of["h"], r, stride, padding)
    x, y = _map(of), operand(of["batch"], of["c"], size, size)
    attrs = {"kernel_size": (r, r), "stride": (stride, stride), "padding": (padding, padding), "ceil_mode": False}
    if kind.startswith("avg"):
        attrs.update(count_include_pad=True, divisor_override=None)
        backward = kind.endswith("backward")
        return Signature([y, x] if backward else [x], [x] if backward else [y], [], attrs, _phase(kind))
    attrs["dilation"] = (1, 1)
    places = operand(*y.shape, dtype="int64")
    if kind.endswith("backward"):
        return Signature([y, x, places], [x], [], attrs, "backward")
    return Signature([x], [y, places], [], attrs, "forward")


def _phase(kind: str) -> str:
    return "backward" if "backward" in kind else "forward"


def _adaptive(kind: str, of: Sizes) -> Signature:
    out = of.get("out", 1)
    x, y = _map(of), operand(of["batch"], of["c"], out, out)
    if kind.endswith("backward"):
        return Signature([y, x], [x], [], {}, "backward")
    return Signature([x], [y], [], {"output_size": (out, out)}, "forward")


def _upsample(kind: str, of: Sizes) -> Signature:
    x, side = _map(of), of["h"] * of.get("scale", 2)
    y = operand(of["batch"], of["c"], side, side)
    attrs: Dict[str, Any] = {"output_size": (side, side), "align_corners": False}
    if kind.endswith("backward"):
        return Signature([y], [x], [], dict(attrs, input_size=x.shape), "backward")
    return Signature([x], [y], [], attrs, "forward")


def _rows(kind: str, of: Sizes) -> Signature:
    x = operand(of["m"], of["n"])
    if kind.endswith("data"):
        return Signature([x, x], [x], [], {"dim": 1, "input_dtype": "float32"}, "backward")
    phase = "loss" if kind == "_log_softmax" else "forward"
    return Signature([x], [x], [], {"dim": 1, "half_to_float": False}, phase)


def _nll(kind: str, of: Sizes) -> Signature:
    x, targets, one = operand(of["m"], of["n"]), operand(of["m"], dtype="int64"), operand()
    attrs = {"weight": None, "reduction": 1, "ignore_index": -100}
    if kind == "nll_loss_forward":
        return Signature([x, targets], [one, one], [], attrs, "loss")
    return Signature([one, x, targets, one], [x], [], attrs, "backward")


def _layer_norm(kind: str, of: Sizes) -> Signature:
    x, row, column = operand(of["m"], of["n"]), operand(of["n"]), operand(of["m"], 1)
    attrs: Dict[str, Any] = {"normalized_shape": (of["n"],)}
    if kind.endswith("backward"):
        attrs["output_mask"] = (True, True, True)
        return Signature([x, x, column, column, row, row], [x, row, row], [], attrs, "backward")
    return Signature([x, row, row], [x, column, column], [], dict(attrs, eps=1e-5), "forward")


def _vector(kind: str, of: Sizes) -> Signature:
    """In-place ops on parameters and gradients, copies, fills and random numbers."""
    x = operand(of["elements"])
    if kind == "clone":
        return Signature([x], [x], [], {"memory_format": None}, "backward")
    if kind == "zeros_like":
        return Signature([x], [x], [], {}, "backward")
    if kind == "native_dropout":
        return Signature([x], [x, operand(of["elements"], dtype="bool")], [], {"p": 0.5, "train": True}, "forward")
    if kind == "copy_":
        return Signature([x, x], [x], [0], {"non_blocking": False}, "other")
    attrs = {"bernoulli_": {"p": 0.5}, "div_": {"other": 0.5}}.get(kind, {})
    phase = {"mul_": "optimizer", "zero_": "optimizer"}.get(kind, "forward")
    return Signature([x], [x], [0], attrs, phase)


def _foreach(kind: str, of: Sizes) -> Signature:
    many = [operand(of["elements"])] * of["tensors"]
    places = list(range(len(many)))
    if kind == "_foreach_add_":
        return Signature(many * 2, [], places, {"alpha": -1e-6}, "optimizer")
    return Signature(many, [], places, {}, "optimizer")


def _named(make: Make, names: str) -> Dict[str, Make]:
    return dict.fromkeys(names.split(), make)


MAKERS: Dict[str, Make] = {}
for _made in (
    _named(_convolution, "convolution convolution_grad_input convolution_grad_weight convolution_grad_bias"),
    _named(_product, "mm addmm addmm_"),
    _named(_batch_norm, "native_batch_norm native_batch_norm_backward"),
    _named(_unary, "relu hardtanh hardswish hardsigmoid silu sigmoid tanh gelu"),
    _named(_in_place, "relu_ hardtanh_ hardswish_ hardsigmoid_ silu_ sigmoid_"),
    _named(_activation_backward, "threshold_backward hardtanh_backward hardswish_backward hardsigmoid_backward"),
    _named(_activation_backward, "silu_backward sigmoid_backward tanh_backward gelu_backward"),
    _named(_sum_of_two, "add add_"),
    _named(_mul, "mul"),
    _named(_div, "div"),
    _named(_cat, "cat"),
    _named(_over_map, "mean sum"),
    _named(_pool, "max_pool2d_with_indices max_pool2d_with_indices_backward avg_pool2d avg_pool2d_backward"),
    _named(_adaptive, "_adaptive_avg_pool2d _adaptive_avg_pool2d_backward"),
    _named(_upsample, "upsample_bilinear2d upsample_bilinear2d_backward"),
    _named(_rows, "_softmax _softmax_backward_data _log_softmax _log_softmax_backward_data"),
    _named(_nll, "nll_loss_forward nll_loss_backward"),
    _named(_layer_norm, "native_layer_norm native_layer_norm_backward"),
    _named(_vector, "mul_ zero_ copy_ clone zeros_like bernoulli_ div_ native_dropout"),
    _named(_foreach, "_foreach_mul_ _foreach_add_ _foreach_zero_"),
):
    MAKERS.update(_made)
