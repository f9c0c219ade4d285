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
from typing import Any, Literal

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensor
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from simulator.errors import TrainwattError
from simulator.graph import LOSS_LAYER, ROOT_LAYER, Phase, Role
from workloads.tracing import shapes
from workloads.tracing.fake import dummy_value
from workloads.tracing.schema import results_in, schema_of, tensors_in

aten = torch.ops.aten
_sequence_number = torch._C._autograd._get_sequence_nr

View = tuple[int, tuple[int, ...], tuple[int, ...], int, torch.dtype]
"""A tensor as recorded: storage number, shape, stride, offset, dtype."""

Saving = Literal["seen", "ignored", "elsewhere"]

_SKIPPED_NAMESPACES = ("prim", "profiler")

# Left out: autograd detaches every tensor it saves while hooks are set, and a constant is lifted differently in fake
# mode. Neither costs anything.
_FREE = (aten.detach.default, aten.lift_fresh.default)


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
    by_engine: bool = False


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


class Recorder(TorchDispatchMode):
    """Records the ATen calls made inside its context into `record`.

    The driver sets `phase`; module paths come from forward hooks; backward calls are matched to the forward call
    that made their autograd node by its sequence number. Where the step raises, `raised_in` and `current_op` say where.
    """

    def __init__(self, model: nn.Module, *, saving: Saving = "seen") -> None:
        """`model` names the modules and parameters; `saving` is what to do about the tensors that autograd saves.

        `seen` writes them down, `ignored` does not (which is faster). `elsewhere` hands autograd stand-ins, so that
        what is saved keeps no storage alive: frees are then those of a step that saves nothing.
        """
        super().__init__()
        self._saving = saving
        self.record = Record()
        self.phase: Phase = "forward"
        self.layers: list[str] = []
        self._raised_in = ""
        self._last_error = 0
        self.current_op: Any = None
        self.paused = False
        self.parameter_names = {id(p): name for name, p in model.named_parameters()}
        self._modules = {id(module): name for name, module in model.named_modules()}
        self._alive: dict[int, tuple[Any, int]] = {}
        self._first_seq = self._last_seq = 0
        self._exit: contextlib.ExitStack | None = None

    # -- storages ------------------------------------------------------------------------------------------------

    def block_of(self, tensor: torch.Tensor, role: Role = "activation", name: str = "") -> int:
        """Return the number of the tensor's storage; one not seen before is taken to be allocated now."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        known = self._alive.get(key)
        if known is not None and known[0]() is not None:
            return known[1]
        blocks = self.record.blocks
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
        if self._saving != "ignored":
            pack = self._pack if self._saving == "seen" else self._stand_in
            self._exit.enter_context(torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t))
        self._first_seq = self._last_seq = _sequence_number()
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
            sequence = _sequence_number() - 1
            if sequence < self._first_seq and self.record.calls:
                # Where a checkpoint keeps what frozen layers gave it, no op of the step has an autograd node yet.
                self.record.call_of_seq[sequence] = len(self.record.calls) - 1
            self.record.saved.append((sequence, self._view(tensor)))
        return tensor

    def _stand_in(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor like `tensor` with a storage of its own, known by the same number."""
        number = self.block_of(tensor)
        if self.paused or self.record.blocks[number].born < 0 or not isinstance(tensor, FakeTensor):
            return tensor
        with self.pause():
            stand_in = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)
            if offset := tensor.storage_offset():  # a part of something: as far into its storage as that is
                room = torch.empty(tensor.untyped_storage().nbytes(), dtype=torch.uint8, device=tensor.device)
                stand_in.set_(room.untyped_storage(), offset, tensor.shape, tensor.stride())
        storage = stand_in.untyped_storage()
        key, alive = storage._cdata, self._alive

        def freed(_: Any) -> None:
            if alive.get(key, (None, -1))[1] == number:
                del alive[key]

        alive[key] = (weakref.ref(storage, freed), number)
        return stand_in

    # -- calls ---------------------------------------------------------------------------------------------------

    def _view(self, tensor: torch.Tensor, role: Role = "activation") -> View:
        return self.block_of(tensor, role), tensor.shape, tensor.stride(), tensor.storage_offset(), tensor.dtype

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace in _SKIPPED_NAMESPACES or self.paused or func in _FREE:
            return func(*args, **kwargs)
        self.current_op = func
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
                    layer = self.parameter_names.get(id(node.variable), "").rpartition(".")[0]
                else:
                    forward_seq = node._sequence_nr()
        if self.layers:
            layer = self.layers[-1]
        elif phase == "loss":
            layer = LOSS_LAYER

        schema = schema_of(func)
        tensors = tensors_in((*args, *kwargs.values()) if kwargs else args)
        role: Role = "activation" if phase in ("forward", "loss") else "temporary"
        inputs = [self._view(t, role) for t in tensors]
        known = len(record.blocks)
        out = self._execute(func, args, kwargs)
        if schema.may_resize:
            for tensor in tensors:
                block = record.blocks[self.block_of(tensor)]
                block.bytes = max(block.bytes, tensor.untyped_storage().nbytes())
        outputs = [None if t is None else self._view(t, role) for t in results_in(out)]
        call = Call(
            func,
            phase,
            layer,
            inputs,
            outputs,
            [self._view(t) for t in schema.writes(args, kwargs)],
            schema.attributes(args, kwargs),
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
        try:
            return func(*args, **kwargs) if corrected is None else corrected(func, *args, **kwargs)
        except DataDependentOutputException:
            if func is not aten._local_scalar_dense.default:
                raise
            self.record.dummies[self.layers[-1] if self.layers else "<step>"] = None
            return dummy_value(args[0], building=False)
        except DynamicOutputShapeException:
            raise TrainwattError("the shape of its result depends on values, which a trace does not have") from None
