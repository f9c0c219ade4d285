"""How a step's own optimizer updates a parameter, and the same for parameters that a technique adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from simulator.errors import TrainwattError
from simulator.graph import Layout, Storage
from simulator.rewriting.edit import Edit
from simulator.rewriting.node import Node


@dataclass(frozen=True, eq=False)
class Update:
    """The optimizer's ops on one parameter, called `name`, in order."""

    name: str
    nodes: Sequence[Node]

    def decays(self, edit: Edit) -> bool:
        """Tell whether weight decay is among them: an op before the last takes the parameter."""
        return any(
            _is(edit.storages[edit.tensors[t].storage], "parameter", self.name)
            for node in self.nodes[:-1]
            for t in node.inputs
        )


def updates(edit: Edit) -> dict[str, Update]:
    """Return the update of every trained parameter by its name, in the order of the step.

    Raises `TrainwattError` where the optimizer updates many parameters in one op.
    """
    found: dict[str, list[Node]] = {}
    current, between = "", list[Node]()
    for node in edit.nodes:
        if node.phase != "optimizer":
            continue
        if node.kind.startswith(("_foreach", "_fused")):
            raise TrainwattError(
                f"the optimizer updates many parameters in one op ({node.kind}); trace the step without foreach"
            )
        names = {name for t in node.tensors if (name := _parameter_of(edit.storages[edit.tensors[t].storage]))}
        if not names:
            between.append(node)
            continue
        name = min(names) if len(names) == 1 else ""  # ops on several parameters belong to none
        if name and name == current:
            found[name] += [*between, node]
        elif name and name not in found:
            found[name] = [node]
        elif name:
            name = ""  # more is done to the parameter after its update
        current, between = name, []
    trained = {name: Update(name, nodes) for name, nodes in found.items()}
    return {name: update for name, update in trained.items() if _descends(edit, update)}


def _descends(edit: Edit, update: Update) -> bool:
    """Tell whether the ops change the parameter by its gradient."""
    read = [edit.storages[edit.tensors[t].storage] for node in update.nodes for t in node.inputs]
    written = [edit.storages[edit.tensors[t].storage] for node in update.nodes for t in node.mutates]
    changed = any(_is(storage, "parameter", update.name) for storage in written)
    return changed and any(storage.role == "gradient" for storage in read)


def _is(storage: Storage, role: str, name: str) -> bool:
    return storage.role == role and storage.name == name


def _parameter_of(storage: Storage) -> str:
    if storage.role == "parameter":
        return storage.name
    return storage.name.rpartition(".")[0] if storage.role in ("gradient", "optimizer-state") else ""


def new_parameter(edit: Edit, name: str, layout: Layout) -> int:
    """Return a tensor of a parameter that the step did not have."""
    return edit.new(layout, "parameter", name, persistent=True)


def new_gradient(edit: Edit, name: str, layout: Layout) -> int:
    """Return the gradient of parameter `name`, for an op to make; as all gradients, it outlives the step."""
    gradient = edit.new(layout, "gradient", f"{name}.grad")
    storage = edit.tensors[gradient].storage
    edit.storages[storage] = replace(edit.storages[storage], died=None)
    return gradient


@dataclass(frozen=True, eq=False)
class Repeated:
    """An update added for another parameter. `overhang` are its temporaries (storages) that the optimizer's loop
    keeps until it makes the next ones, each with the number of ops that is after its last."""

    nodes: Sequence[Node]
    overhang: Mapping[int, int]

    def settle(self, edit: Edit, end: Node) -> None:
        """Let the optimizer keep its temporaries as long, and until `end` at most, where its loop ends.

        Call it when all ops of the optimizer are in place.
        """
        last, limit = edit.nodes.index(self.nodes[-1]), edit.nodes.index(end)
        for storage, ops in self.overhang.items():
            edit.hold_storage(storage, edit.nodes[min(last + ops, limit)])


def repeat(edit: Edit, update: Update, name: str, parameter: int, gradient: int, after: Node, layer: str) -> Repeated:
    """Add what `update` does for a new parameter: the same ops after node `after`, on tensors of the new shape.

    `parameter` (of any shape) is called `name` and its gradient is `gradient`; its optimizer state is made here,
    named and shaped after the old one's.
    """
    old = next(
        edit.tensors[t]
        for node in update.nodes
        for t in node.mutates
        if _is(edit.storages[edit.tensors[t].storage], "parameter", update.name)
    )
    shape = edit.shape(parameter)
    made: dict[int, int] = {}

    def renewed(tensor: int) -> int:
        number = edit.tensors[tensor].storage
        if number not in made:
            storage, layout = edit.storages[number], edit.tensors[tensor].layout
            new = edit.layout(shape if layout.shape == old.shape else layout.shape, layout.dtype)
            if _is(storage, "parameter", update.name):
                made[number] = parameter
            elif storage.role == "gradient":
                made[number] = gradient
            elif storage.role == "optimizer-state":
                key = storage.name.rpartition(".")[2]
                made[number] = edit.new(new, storage.role, f"{name}.{key}", persistent=True)
            else:
                made[number] = edit.new(new, storage.role)
        return made[number]

    copies = [
        replace(
            node,
            layer=layer if node.layer else "",
            inputs=tuple(map(renewed, node.inputs)),
            outputs=tuple(map(renewed, node.outputs)),
            mutates=tuple(map(renewed, node.mutates)),
            attrs=MappingProxyType(dict(node.attrs)),
        )
        for node in update.nodes
    ]
    place = {node: i for i, node in enumerate(edit.nodes)}
    first, last = place[update.nodes[0]], place[update.nodes[-1]]
    overhang = {}
    for number, tensor in made.items():
        for until in edit.holders(number):
            if first <= place.get(until, -1) <= last:
                edit.hold(tensor, copies[place[until] - first])
            elif until in place:
                overhang[edit.tensors[tensor].storage] = place[until] - last
    at = place[after] + 1
    edit.nodes[at:at] = copies
    return Repeated(copies, overhang)
