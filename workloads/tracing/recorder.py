"""A dispatch mode that writes down every ATen call of a step, and when every storage is allocated and freed.

Frees are observed, not derived: a weak reference to each storage fires at the moment when the reference counts
that govern eager PyTorch let it go.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from simulator.errors import TrainwattError
from simulator.graph import LOSS_LAYER, ROOT_LAYER, Phase, Role
from workloads.tracing import shapes
from workloads.tracing.fake import dummy_value

aten = torch.ops.aten
_sequence_number = torch._C._autograd._get_sequence_nr

View = tuple[int, tuple[int, ...], tuple[int, ...], int, torch.dtype]
"""A tensor as recorded: storage number, shape, stride, offset, dtype."""

_SKIPPED_NAMESPACES = ("prim", "profiler")
_DROPPED_ARGS = ("layout", "device", "pin_memory", "generator", "non_blocking")

# Left out: autograd detaches every tensor it saves while hooks are set, and a constant is lifted differently in fake
# mode. Neither costs anything.
_FREE = (aten.detach.default, aten.lift_fresh.default)

# Ops that write inputs which their schema does not declare as written (running mean and variance).
_HIDDEN_WRITES = {
    aten.native_batch_norm.default: (3, 4),
    aten.cudnn_batch_norm.default: (3, 4),
    aten.miopen_batch_norm.default: (3, 4),
}


@dataclass(slots=True)
class Call:
    """One recorded ATen call."""

    func: Any
    phase: Phase
    layer: str
    inputs: list[View]
    outputs: list[View | None]
    mutated: list[View]
    attrs: dict[str, Any]
    new: list[int]
    forward_seq: int | None = None
    node: str | None = None
    input_views: list[bool] | None = None
    in_place_sum: bool = False


@dataclass(slots=True)
class Block:
    """One recorded storage; `born` and `died` are positions in the list of calls, as in `simulator.graph.Storage`."""

    bytes: int
    role: Role
    name: str
    born: int
    died: int | None = None


@dataclass(slots=True)
class Record:
    """What was recorded of one step at one batch size."""

    calls: list[Call] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    saved: list[tuple[int, View]] = field(default_factory=list)
    call_of_seq: dict[int, int] = field(default_factory=dict)
    dummies: dict[str, None] = field(default_factory=dict)


@dataclass(slots=True)
class _Schema:
    """What is worth knowing of an op's schema, looked up once."""

    names: list[str]
    defaults: dict[str, Any]
    written: list[tuple[int, str]]


class Recorder(TorchDispatchMode):
    """Records the ATen calls made inside its context into `record`.

    The driver sets `phase`; module paths come from forward hooks; backward calls are matched to the forward call
    that made their autograd node by its sequence number. Where the step raises, `raised_in` and `current_op` say where.
    """

    def __init__(self, modules: dict[int, str]) -> None:
        super().__init__()
        self.record = Record()
        self.phase: Phase = "forward"
        self.layers: list[str] = []
        self._raised_in = ""
        self._last_error = 0
        self.current_op = ""
        self.paused = False
        self._modules = modules
        self._alive: dict[int, tuple[Any, int]] = {}
        self._parameter_names: dict[int, str] = {}
        self._last_seq = 0
        self._schemas: dict[Any, _Schema] = {}
        self._exit: contextlib.ExitStack | None = None

    # -- storages ------------------------------------------------------------------------------------------------

    def block_of(self, tensor: torch.Tensor, role: Role = "activation", name: str = "") -> int:
        """Return the number of the tensor's storage; one not seen before is taken to be allocated now."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        known = self._alive.get(key)
        blocks = self.record.blocks
        if known is not None and known[0]() is not None:
            block = blocks[known[1]]
            size = storage.nbytes()
            block.bytes = max(block.bytes, size)  # resize_ may have grown it
            return known[1]
        number = len(blocks)
        blocks.append(Block(storage.nbytes(), role, name, len(self.record.calls)))
        alive, calls = self._alive, self.record.calls

        def freed(_: Any) -> None:
            blocks[number].died = len(calls) - 1
            if alive.get(key, (None, -1))[1] == number:
                del alive[key]

        alive[key] = (weakref.ref(storage, freed), number)
        return number

    def hold(self, tensor: torch.Tensor, role: Role, name: str) -> None:
        """Declare that a tensor's storage was there before the step and what it is."""
        number = self.block_of(tensor, role, name)
        self.record.blocks[number].born = -1

    def name_parameters(self, model: nn.Module) -> None:
        self._parameter_names = {id(p): name for name, p in model.named_parameters()}

    def label(self, tensor: torch.Tensor, role: Role, name: str) -> None:
        """Say what a storage that the step allocated turned out to be."""
        block = self.record.blocks[self.block_of(tensor)]
        if block.role in ("activation", "temporary"):
            block.role, block.name = role, name

    def raised_in(self, error: Exception) -> str:
        """Return the innermost module that raised `error`, empty where none did."""
        return self._raised_in if id(error) == self._last_error else ""

    def stop(self) -> None:
        """Forget the storages still alive: what is freed from now on is no part of the step."""
        self._alive.clear()

    # -- context -------------------------------------------------------------------------------------------------

    def __enter__(self) -> Any:
        self._exit = contextlib.ExitStack()
        self._exit.callback(register_module_forward_pre_hook(self._enter_module).remove)
        self._exit.callback(register_module_forward_hook(self._leave_module, always_call=True).remove)
        self._exit.enter_context(torch.autograd.graph.saved_tensors_hooks(self._pack, lambda t: t))
        self._last_seq = _sequence_number()
        return super().__enter__()

    def __exit__(self, *exc: Any) -> Any:
        assert self._exit is not None
        self._exit.close()
        return super().__exit__(*exc)

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Run something without recording its calls."""
        self.paused = True
        try:
            yield
        finally:
            self.paused = False

    def _enter_module(self, module: nn.Module, args: Any) -> None:
        self.layers.append(self._modules.get(id(module), type(module).__name__) or ROOT_LAYER)

    def _leave_module(self, module: nn.Module, args: Any, output: Any) -> None:
        # Called too where the module raises, as checkpointing does to end a recomputation early. The innermost module
        # comes first. Holding the exception itself would hold its frames, and with them tensors.
        error = sys.exc_info()[1]
        layer, name = self.layers.pop(), type(module).__name__
        if error is not None and id(error) != self._last_error:
            self._last_error = id(error)
            self._raised_in = f"module {layer!r} ({name})"

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        if not self.paused:
            self.record.saved.append((_sequence_number() - 1, self._view(tensor)))
        return tensor

    # -- calls ---------------------------------------------------------------------------------------------------

    def _view(self, tensor: torch.Tensor, role: Role = "activation") -> View:
        return (
            self.block_of(tensor, role),
            tuple(tensor.shape),
            tensor.stride(),
            tensor.storage_offset(),
            tensor.dtype,
        )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace in _SKIPPED_NAMESPACES or self.paused or func in _FREE:
            return func(*args, **kwargs)
        self.current_op = str(func)
        record = self.record
        index = len(record.calls)
        sequence = _sequence_number()
        for number in range(self._last_seq, sequence):
            record.call_of_seq[number] = index
        self._last_seq = sequence

        phase, forward_seq, node_name, layer = self.phase, None, None, ""
        in_backward = torch._C._current_graph_task_id() != -1
        if in_backward:
            phase = "backward"
            node = torch._C._current_autograd_node()
            if node is not None:
                node_name = node.name()
                if "AccumulateGrad" in node_name:
                    layer = self._parameter_names.get(id(node.variable), "").rpartition(".")[0]
                else:
                    forward_seq = node._sequence_nr()
        if self.layers:
            layer = self.layers[-1]
        elif phase == "loss":
            layer = LOSS_LAYER

        tensors = _tensors(args, kwargs)
        role: Role = "activation" if phase in ("forward", "loss") else "temporary"
        inputs = [self._view(t, role) for t in tensors]
        known = len(record.blocks)
        out = self._execute(func, args, kwargs)
        outputs = [None if t is None else self._view(t, role) for t in _results(out)]
        schema = self._schema(func)
        call = Call(
            func,
            phase,
            layer,
            inputs,
            outputs,
            self._mutated(func, schema, args, kwargs),
            _attributes(schema, args, kwargs),
            [o[0] for o in outputs if o is not None and o[0] >= known],
            forward_seq,
            node_name,
        )
        if in_backward and func is aten.add.Tensor:
            call.input_views = [t._is_view() for t in tensors]
        record.calls.append(call)
        return out

    def _execute(self, func: Any, args: Any, kwargs: Any) -> Any:
        corrected = shapes.CORRECTED.get(func)
        if corrected is not None:
            return corrected(func, *args, **kwargs)
        try:
            return func(*args, **kwargs)
        except DataDependentOutputException:
            if func is not aten._local_scalar_dense.default:
                raise
            self.record.dummies[self.layers[-1] if self.layers else "<step>"] = None
            return dummy_value(args[0], building=False)
        except DynamicOutputShapeException:
            raise TrainwattError("the shape of its result depends on values, which a trace does not have") from None

    def _schema(self, func: Any) -> _Schema:
        found = self._schemas.get(func)
        if found is None:
            arguments = func._schema.arguments
            found = self._schemas[func] = _Schema(
                [a.name for a in arguments],
                {a.name: a.default_value for a in arguments if a.has_default_value()},
                [(i, a.name) for i, a in enumerate(arguments) if a.alias_info is not None and a.alias_info.is_write],
            )
        return found

    def _mutated(self, func: Any, schema: _Schema, args: Any, kwargs: Any) -> list[View]:
        written = [args[i] if i < len(args) else kwargs.get(name) for i, name in schema.written]
        if func in _HIDDEN_WRITES and args[5]:
            written = [args[i] for i in _HIDDEN_WRITES[func]]
        return [self._view(t) for t in _tensors(written, {})]


def _tensors(args: Any, kwargs: Any) -> list[torch.Tensor]:
    """Return the tensors among arguments in order, lists flattened."""
    found: list[torch.Tensor] = []
    for value in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend(v for v in value if isinstance(v, torch.Tensor))
    return found


def _results(out: Any) -> list[torch.Tensor | None]:
    """Return the results of a call, None for an undefined tensor; anything that is no tensor is left out."""
    if isinstance(out, torch.Tensor):
        return [out]
    if isinstance(out, list | tuple):
        found: list[torch.Tensor | None] = []
        for value in out:
            if value is None or isinstance(value, torch.Tensor):
                found.append(value)
            elif isinstance(value, list | tuple):
                found.extend(_results(value))
        return found
    return []


def _attributes(schema: _Schema, args: Any, kwargs: Any) -> dict[str, Any]:
    """Return the arguments that are no tensors, by name, defaults included."""
    attrs: dict[str, Any] = {}
    for i, name in enumerate(schema.names):
        if name in _DROPPED_ARGS:
            continue
        value = args[i] if i < len(args) else kwargs.get(name, schema.defaults.get(name))
        if isinstance(value, torch.Tensor):
            continue
        if isinstance(value, list | tuple):
            if any(isinstance(v, torch.Tensor) for v in value):
                continue
            attrs[name] = tuple(v if isinstance(v, int | float | bool) or v is None else str(v) for v in value)
        elif value is None or isinstance(value, int | float | bool | str):
            attrs[name] = value
        else:
            attrs[name] = str(value).removeprefix("torch.")
    return attrs
