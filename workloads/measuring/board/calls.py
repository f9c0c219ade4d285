# ruff: noqa: UP006, UP035
"""Calls of single ops, made as a training step makes them: operands by signature, and the function on them."""

from typing import Any, Callable, Dict, List, Sequence

import torch
from torch.nn import functional

from workloads.measuring.board.signatures import Operand, Signature
from workloads.measuring.board.timing import Call

Bind = Callable[[List[Any], Dict[str, Any]], Call]


class Unavailable(Exception):
    """This PyTorch has no such op."""


def tensors_of(kind: str, signature: Signature, device: str) -> List[Any]:
    """Allocate the operands of a call on `device`, of made-up content that is valid for it."""
    made = [_tensor(operand, device) for operand in signature.inputs]
    if kind == "max_pool2d_with_indices_backward":
        made[2] = _aten("max_pool2d_with_indices")(made[1], *_told(signature.attrs, _WINDOW))[1]
    if kind.startswith("native_batch_norm"):
        for one in made[-4:] if kind.endswith("backward") else made[1:]:
            one.fill_(1.0)
    return made


def _tensor(operand: Operand, device: str) -> Any:
    if operand.dtype == "int64":
        return torch.zeros(operand.stored, dtype=torch.int64, device=device)
    made = torch.randn(operand.stored, device=device)
    if not operand.channels_last:
        return made.expand(operand.shape)
    if not hasattr(torch, "channels_last"):
        raise Unavailable("channels_last")
    return made.contiguous(memory_format=torch.channels_last).expand(operand.shape)


def bind(kind: str, signature: Signature, tensors: List[Any]) -> Call:
    """Return the call of `kind` on `tensors`, a gradient by autograd where this PyTorch offers it in no other way.

    Raises `Unavailable` where it has no such op.
    """
    try:
        return _bound(kind, signature, tensors)
    except Unavailable:
        if kind in DIFFERENTIATED:
            return _by_autograd(kind, signature, tensors)
        raise


def _bound(kind: str, signature: Signature, tensors: List[Any]) -> Call:
    if kind.startswith("convolution_grad"):
        return _convolution_backward(kind, tensors, signature)
    if kind in BINDINGS:
        return BINDINGS[kind](tensors, signature.attrs)
    if kind.startswith("_foreach"):
        return _call_foreach(kind, tensors, signature.attrs)
    function = _aten(kind)
    return lambda: function(*tensors)


def _aten(name: str) -> Any:
    """Return ATen's op: by Python's binding, that is fastest to call, else by that of TorchScript."""
    for home in (torch, functional, torch._C._nn):
        found = getattr(home, name, None)
        if found is not None and type(found).__name__ == "builtin_function_or_method":
            return found
    try:
        found = getattr(torch.ops.aten, name)
    except (AttributeError, RuntimeError):
        raise Unavailable(name) from None
    # Newer PyTorch names overloads; calling one directly saves the search among them.
    return getattr(found, "default", found)


def gradient_calls() -> str:
    """Return how gradients of convolutions are asked for here: `aten`, or `autograd` before PyTorch 1.11."""
    try:
        _aten("convolution_backward")
    except Unavailable:
        return "autograd"
    return "aten"


_GEOMETRY = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
_WINDOW = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_AVERAGED = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")


def _told(attrs: Dict[str, Any], names: Sequence[str]) -> List[Any]:
    """Return attributes as ATen takes them."""
    return [list(attrs[name]) if isinstance(attrs[name], tuple) else attrs[name] for name in names]


def _call_convolution(tensors: List[Any], attrs: Dict[str, Any]) -> Call:
    x, w = tensors[:2]
    bias = tensors[2] if len(tensors) > 2 else None
    geometry = _told(attrs, _GEOMETRY)
    return lambda: torch.convolution(x, w, bias, *geometry)


def _convolution_backward(kind: str, tensors: List[Any], signature: Signature) -> Call:
    """Ask for one of the gradients, by `convolution_backward` or, where there is none, by autograd.

    Autograd runs the same kernel; its engine adds some 20 us of a desktop processor.
    """
    which = kind.rpartition("_")[2]
    dy = tensors[0]
    if which == "bias":
        return lambda: dy.sum((0, 2, 3))  # as in PyTorch's own convolution_backward
    x, w = _tensor(signature.outputs[0], str(dy.device)), tensors[1]
    if which == "weight":
        x, w = tensors[1], x
    geometry = _told(signature.attrs, _GEOMETRY)
    if gradient_calls() == "aten":
        function = _aten("convolution_backward")
        mask = [which == "input", which == "weight", False]
        return lambda: function(dy, x, w, None, *geometry, mask)
    with torch.enable_grad():
        of = (x if which == "input" else w).requires_grad_()
        y = torch.convolution(x, w, None, *geometry)
    return lambda: torch.autograd.grad(y, of, dy, retain_graph=True)


def _by_autograd(kind: str, signature: Signature, tensors: List[Any]) -> Call:
    dy, x = tensors[0], _tensor(signature.outputs[0], str(tensors[0].device))
    with torch.enable_grad():
        y = DIFFERENTIATED[kind](x.requires_grad_(), signature.attrs)
    return lambda: torch.autograd.grad(y, x, dy, retain_graph=True)


def _call_product(tensors: List[Any], attrs: Dict[str, Any]) -> Call:
    a, b = tensors[-2:]
    if attrs["transposed"] == "a":
        a = a.t().contiguous().t()
    if attrs["transposed"] == "b":
        b = b.t().contiguous().t()
    if len(tensors) == 3:
        return lambda: torch.addmm(tensors[0], a, b)
    return lambda: torch.mm(a, b)


def _call_batch_norm(tensors: List[Any], attrs: Dict[str, Any]) -> Call:
    x, weight, bias, mean, var = tensors
    if x.is_cuda:
        return lambda: torch.batch_norm(x, weight, bias, mean, var, True, 0.1, 1e-5, True)
    return lambda: torch.native_batch_norm(x, weight, bias, mean, var, True, 0.1, 1e-5)


def _batch_norm_backward(tensors: List[Any], attrs: Dict[str, Any]) -> Call:
    dy, x, weight, mean, var, save_mean, save_invstd = tensors
    if x.is_cuda:
        with torch.enable_grad():
            of = [x.requires_grad_(), weight.requires_grad_(), torch.zeros_like(weight).requires_grad_()]
            y = torch.batch_norm(x, weight, of[2], mean, var, True, 0.1, 1e-5, True)
        return lambda: torch.autograd.grad(y, of, dy, retain_graph=True)
    function = _aten("native_batch_norm_backward")
    mask = [True, True, True]
    return lambda: function(dy, x, weight, mean, var, save_mean, save_invstd, True, 1e-5, mask)


def _max_pool_backward(tensors: List[Any], attrs: Dict[str, Any]) -> Call:
    dy, x, places = tensors
    window = _told(attrs, _WINDOW)
    function = _aten("max_pool2d_with_indices_backward")
    return lambda: function(dy, x, *window, places)


def _with(name: str, *attributes: str) -> Bind:
    """Return the maker of a call of the operands, then of these attributes in order."""

    def make(tensors: List[Any], attrs: Dict[str, Any]) -> Call:
        function = _aten(name)
        given = _told(attrs, attributes)
        return lambda: function(*tensors, *given)

    return make


def _add_in_place(tensors: List[Any], attrs: Dict[str, Any]) -> Call:
    x, y = tensors
    alpha = attrs["alpha"]
    if x.dtype is torch.int64:
        return lambda: x.add_(1)
    return lambda: x.add_(y, alpha=alpha)


def _method(name: str, *given: Any) -> Bind:
    """Return the maker of a call of a tensor's method; operands after the first come before `given`."""

    def make(tensors: List[Any], attrs: Dict[str, Any]) -> Call:
        function, rest = getattr(tensors[0], name), tensors[1:]
        return lambda: function(*rest, *given)

    return make


def _call_cat(tensors: List[Any], attrs: Dict[str, Any]) -> Call:
    return lambda: torch.cat(tensors, attrs["dim"])


def _softmax_backward(name: str) -> Bind:
    def make(tensors: List[Any], attrs: Dict[str, Any]) -> Call:
        dy, y = tensors
        function = _aten(name)
        told = torch.float32
        try:
            function(dy, y, 1, told)
        except (RuntimeError, TypeError):  # before PyTorch 1.11 the dtype was told by a tensor
            told = y
        return lambda: function(dy, y, 1, told)

    return make


def _nll_backward(tensors: List[Any], attrs: Dict[str, Any]) -> Call:
    dy, x, targets, total = tensors
    function = _aten("nll_loss_backward")
    return lambda: function(dy, x, targets, None, 1, -100, total)


def _call_layer_norm(tensors: List[Any], attrs: Dict[str, Any]) -> Call:
    x, weight, bias = tensors
    row = list(attrs["normalized_shape"])
    function = _aten("native_layer_norm")
    return lambda: function(x, row, weight, bias, 1e-5)


def _layer_norm_backward(tensors: List[Any], attrs: Dict[str, Any]) -> Call:
    dy, x, mean, rstd, weight, bias = tensors
    row, mask = list(attrs["normalized_shape"]), [True, True, True]
    function = _aten("native_layer_norm_backward")
    return lambda: function(dy, x, row, mean, rstd, weight, bias, mask)


def _call_foreach(kind: str, tensors: List[Any], attrs: Dict[str, Any]) -> Call:
    if not hasattr(torch, kind):
        raise Unavailable(kind)
    function = getattr(torch, kind)
    if kind == "_foreach_add_":
        half, alpha = len(tensors) // 2, attrs["alpha"]
        updated, by = tensors[:half], tensors[half:]
        return lambda: function(updated, by, alpha=alpha)
    return (lambda: function(tensors, 1.0)) if kind == "_foreach_mul_" else (lambda: function(tensors))


DIFFERENTIATED: Dict[str, Callable[[Any, Dict[str, Any]], Any]] = {
    "sigmoid_backward": lambda x, attrs: torch.sigmoid(x),
    "tanh_backward": lambda x, attrs: torch.tanh(x),
    "hardtanh_backward": lambda x, attrs: functional.hardtanh(x, attrs["min_val"], attrs["max_val"]),
    "max_pool2d_with_indices_backward": lambda x, attrs: functional.max_pool2d(x, *_told(attrs, _WINDOW)),
    "avg_pool2d_backward": lambda x, attrs: functional.avg_pool2d(x, *_told(attrs, _AVERAGED)),
    "upsample_bilinear2d_backward": lambda x, attrs: functional.interpolate(
        x, attrs["output_size"], mode="bilinear", align_corners=False
    ),
}
"""Ops whose gradients PyTorch 1.4 does not offer by themselves."""

BINDINGS: Dict[str, Bind] = {
    "convolution": _call_convolution,
    "mm": _call_product,
    "addmm": _call_product,
    "addmm_": _method("addmm_"),
    "native_batch_norm": _call_batch_norm,
    "native_batch_norm_backward": _batch_norm_backward,
    "hardtanh": _with("hardtanh", "min_val", "max_val"),
    "hardtanh_": _with("hardtanh_", "min_val", "max_val"),
    "hardtanh_backward": _with("hardtanh_backward", "min_val", "max_val"),
    "threshold_backward": _with("threshold_backward", "threshold"),
    "add_": _add_in_place,
    "mul_": _method("mul_", 1.0),  # by 1: nothing fades into slow subnormal numbers
    "div_": _method("div_", 1.0),
    "zero_": _method("zero_"),
    "copy_": _method("copy_"),
    "clone": _method("clone"),
    "bernoulli_": _method("bernoulli_", 0.5),
    "div": _with("div", "other"),
    "cat": _call_cat,
    "mean": _with("mean", "dim", "keepdim"),
    "sum": _with("sum", "dim", "keepdim"),
    "max_pool2d_with_indices": _with("max_pool2d_with_indices", *_WINDOW),
    "max_pool2d_with_indices_backward": _max_pool_backward,
    "avg_pool2d": _with("avg_pool2d", *_AVERAGED),
    "avg_pool2d_backward": _with("avg_pool2d_backward", *_AVERAGED),
    "_adaptive_avg_pool2d": _with("_adaptive_avg_pool2d", "output_size"),
    "upsample_bilinear2d": _with("upsample_bilinear2d", "output_size", "align_corners"),
    "upsample_bilinear2d_backward": _with("upsample_bilinear2d_backward", "output_size", "input_size", "align_corners"),
    "_softmax": _with("_softmax", "dim", "half_to_float"),
    "_log_softmax": _with("_log_softmax", "dim", "half_to_float"),
    "_softmax_backward_data": _softmax_backward("_softmax_backward_data"),
    "_log_softmax_backward_data": _softmax_backward("_log_softmax_backward_data"),
    "nll_loss_forward": _with("nll_loss_forward", "weight", "reduction", "ignore_index"),
    "nll_loss_backward": _nll_backward,
    "native_layer_norm": _call_layer_norm,
    "native_layer_norm_backward": _layer_norm_backward,
    "native_dropout": _with("native_dropout", "p", "train"),
}
