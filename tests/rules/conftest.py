"""What the tests of the work rules share: calls made by hand, and calls recorded from PyTorch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from simulator.rules import rules
from simulator.work import Call, Operand, Row

Shape = tuple[Any, ...]


def _operand(described: Any) -> Operand:
    """A contiguous operand from a shape or a (shape, dtype); an operand or a torch tensor as it is."""
    if isinstance(described, Operand):
        return described
    if isinstance(described, torch.Tensor):
        return Operand(tuple(described.shape), tuple(described.stride()), str(described.dtype).removeprefix("torch."))
    shape, dtype = described if described and isinstance(described[-1], str) else (described, "float32")
    stride: list[Any] = []
    count: Any = 1
    for extent in reversed(shape):
        stride.insert(0, count)
        count = count * extent
    return Operand(tuple(shape), tuple(stride), dtype)


def _make(
    kind: str, inputs: Iterable[Any], outputs: Iterable[Any], also_written: Iterable[Any] = (), **attrs: Any
) -> Call:
    """A call from shapes: `make("mm", [(2, 3), (3, 4)], [(2, 4)])`."""
    out = tuple(_operand(o) for o in outputs)
    return Call(kind, tuple(_operand(i) for i in inputs), out, out + tuple(_operand(o) for o in also_written), attrs)


def _price(call: Call) -> Row:
    return rules()[call.kind](call)


@pytest.fixture(scope="session")
def make() -> Callable[..., Call]:
    return _make


@pytest.fixture(scope="session")
def price() -> Callable[[Call], Row]:
    return _price


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _attribute(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_attribute(v) for v in value)
    return value if isinstance(value, int | float | bool | str) or value is None else str(value)


class _Recorder(TorchDispatchMode):
    """Turns every ATen call into the `Call` that the tracer promises the rules."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        kind = func._schema.name.split("::")[1]
        given = dict(zip([a.name for a in func._schema.arguments], args, strict=False)) | kwargs
        inputs: list[torch.Tensor] = []
        mutated: list[torch.Tensor] = []
        attrs: dict[str, Any] = {}
        for argument in func._schema.arguments:
            value = given.get(argument.name, argument.default_value if argument.has_default_value() else None)
            found = _tensors(value)
            inputs += found
            if argument.alias_info is not None and argument.alias_info.is_write:
                mutated += found
            if not found:
                attrs[argument.name] = _attribute(value)
        before = [_operand(t) for t in inputs]
        result = func(*args, **kwargs)
        outputs = _tensors(result)
        if kind == "native_batch_norm" and attrs["training"]:
            mutated += _tensors([given["running_mean"], given["running_var"]])
        extra = [t for t in mutated if all(t is not o for o in outputs)]
        if kind == "convolution_backward":
            self.calls += self._split(given, result, attrs)
        elif not kind.startswith("_record_function"):
            out = tuple(_operand(o) for o in outputs)
            self.calls.append(Call(kind, tuple(before), out, out + tuple(_operand(t) for t in extra), attrs))
        return result

    @staticmethod
    def _split(given: Any, result: Any, attrs: dict[str, Any]) -> list[Call]:
        dy, x, w = given["grad_output"], given["input"], given["weight"]
        parts = {"input": (dy, w), "weight": (dy, x), "bias": (dy,)}
        return [
            _make(f"convolution_grad_{name}", operands, [gradient], **attrs)
            for (name, operands), gradient in zip(parts.items(), result, strict=True)
            if gradient is not None
        ]


@pytest.fixture(scope="session")
def record() -> Callable[[Callable[[], Any]], list[Call]]:
    """Record the ATen calls that a function makes, in order."""

    def run(function: Callable[[], Any]) -> list[Call]:
        recorder = _Recorder()
        with recorder:
            function()
        return recorder.calls

    return run


class Counter:
    """Matrix products by explicit loops, and how many multiplications they took."""

    def __init__(self) -> None:
        self.count = 0

    def matmul(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """a @ b by three loops that count, for matrices."""
        (p, c), (c2, k) = a.shape, b.shape
        assert c == c2
        left, right = a.tolist(), b.tolist()
        out = [[0.0] * k for _ in range(p)]
        for i, j, d in itertools.product(range(p), range(k), range(c)):
            out[i][j] += left[i][d] * right[d][j]
            self.count += 1
        return torch.tensor(out, dtype=a.dtype).reshape(p, k)


@pytest.fixture(scope="session")
def new_counter() -> type[Counter]:
    return Counter
