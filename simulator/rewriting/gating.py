"""Gates that decide for each instance which residual blocks it passes: their ops, forward and backward.

A gate is the mean of each image, a 1x1 convolution to `hidden` numbers, one step of an LSTM cell that all gates share,
a linear layer to one number, a sigmoid, and a draw (Wang et al. 2018, "SkipNet", arXiv:1711.09485). The ops are those
of PyTorch's modules of these names.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod

from simulator.extent import Extent
from simulator.rewriting import aten
from simulator.rewriting.cursor import Cursor
from simulator.rewriting.edit import Edit
from simulator.rewriting.node import Node
from simulator.rewriting.optimizer_ops import new_parameter, repeat, updates

NAME = "slu"
"""The layer that the gates are in."""


@dataclass(eq=False)
class _Linear:
    """One run of a linear layer: its operands, and the nodes that autograd differentiates."""

    layer: str
    x: int
    weight: int
    transposed: int
    t: Node
    addmm: Node


@dataclass(eq=False)
class _Cell:
    """One step of the LSTM cell: gates i, f, g, o, the cell state before and after, and what each node was."""

    from_v: _Linear
    from_h: _Linear
    split: Node
    gates: list[tuple[int, Node]]
    c: int
    kept: Node
    added: Node
    tanh: tuple[int, Node]
    h: tuple[int, Node]
    first: bool


@dataclass(eq=False)
class Gate:
    """One gate as run forward: the mask (N,) of instances that execute the block, and their numbers `index` (n,)."""

    x: int
    mask: int
    index: int
    _mean: tuple[int, Node]
    _project: tuple[int, Node]
    _view: Node
    _cell: _Cell
    _decide: _Linear
    _sigmoid: tuple[int, Node]
    _flatten: Node
    mask_grad: int = -1


@dataclass(eq=False)
class Gates:
    """All gates of a step: their parameters, and the gradients as they add up."""

    edit: Edit
    channels: list[int]
    hidden: int
    parameters: dict[str, int] = field(default_factory=dict)
    _gradients: dict[str, tuple[int, bool]] = field(default_factory=dict)
    _h: int = -1
    _c: int = -1
    _dh: int = -1
    _dc: int = -1

    def __post_init__(self) -> None:
        h = self.hidden
        shapes: dict[str, tuple[int, ...]] = {}
        for i, c in enumerate(self.channels):
            shapes |= {f"project.{i}.weight": (h, c, 1, 1), f"project.{i}.bias": (h,)}
        shapes |= {"cell.weight_ih": (4 * h, h), "cell.weight_hh": (4 * h, h)}
        shapes |= {"cell.bias_ih": (4 * h,), "cell.bias_hh": (4 * h,)}
        shapes |= {"decide.weight": (1, h), "decide.bias": (1,)}
        for name, shape in shapes.items():
            layout = self.edit.layout(shape, "float32")
            self.parameters[name] = new_parameter(self.edit, f"{NAME}.{name}", layout)

    @property
    def sizes(self) -> list[int]:
        """The number of elements of each parameter."""
        return [prod(e for e in self.edit.shape(p) if isinstance(e, int)) for p in self.parameters.values()]

    # -- forward ---------------------------------------------------------------------------------------------------

    def forward(self, at: Cursor, place: int, x: int, count: Extent) -> Gate:
        """Add the gate of block number `place`, whose input is x (N, C, H, W) and which `count` instances execute."""
        at.layer = NAME
        n, h = self.edit.shape(x)[0], self.hidden
        mean = aten.reduce(at, "mean.dim", x, (2, 3), keepdim=True), at.last
        at.layer = f"{NAME}.project.{place}"
        weight, bias = (self.parameters[f"project.{place}.{kind}"] for kind in ("weight", "bias"))
        project = aten.convolution(at, mean[0], weight, bias, saved=[mean[0], weight]), at.last
        at.layer = NAME
        v, view = aten.view(at, project[0], (n, h)), at.last
        cell = self._step(at, v, n, first=place == 0)
        decide = self._linear(at, "decide", cell.h[0], "weight", "bias")
        at.layer = NAME
        sigmoid = aten.pointwise(at, "sigmoid", decide[1], saved=[aten.RESULT]), at.last
        p, flatten = aten.view(at, sigmoid[0], (n,)), at.last
        with at.frame():
            draw = aten.like(at, "rand_like", p)
            drawn = aten.compare(at, "lt.Tensor", draw, p)
            at.drop(drawn)
            mask = aten.pointwise(at, "_to_copy", drawn, dtype="float32", attrs={"memory_format": None})
        places = at.result((count, 1), "int64", (1, count))
        at.call("aten::nonzero", [mask], [places])
        index = aten.view(at, places, (count,))
        self.edit.hold(self._c, at.last)
        return Gate(x, mask, index, mean, project, view, cell, decide[0], sigmoid, flatten)

    def _linear(
        self, at: Cursor, module: str, x: int, weight: str, bias: str, *, needs_dx: bool = True
    ) -> tuple[_Linear, int]:
        at.layer = f"{NAME}.{module}"
        w = self.parameters[f"{module}.{weight}"]
        transposed, t = aten.t(at, w), at.last
        out = aten.addmm(
            at, self.parameters[f"{module}.{bias}"], x, transposed, saved=[x, transposed] if needs_dx else [x]
        )
        return _Linear(at.layer, x, w, transposed, t, at.last), out

    def _step(self, at: Cursor, v: int, n: Extent, *, first: bool) -> _Cell:
        size = self.hidden
        at.layer = f"{NAME}.cell"
        if first:
            self._h = self._c = aten.filled(at, "zeros", (n, size))
        h, c = self._h, self._c
        from_h, gates = self._linear(at, "cell", h, "weight_hh", "bias_hh", needs_dx=not first)
        from_v, more = self._linear(at, "cell", v, "weight_ih", "bias_ih")
        aten.pointwise_(at, "add_.Tensor", gates, more, alpha=1)
        layout = self.edit.layout((n, size), "float32", (4 * size, 1))
        parts = [self.edit.view(gates, layout, k * size) for k in range(4)]
        at.call("aten::unsafe_split.Tensor", [gates], parts, {"split_size": size, "dim": 1})
        split = at.last
        nodes = []
        for name, part in zip(("sigmoid_", "sigmoid_", "tanh_", "sigmoid_"), parts, strict=True):
            aten.pointwise_(at, name, part, saved=[part])
            nodes.append(at.last)
        i, f, g, o = parts
        self._c = aten.pointwise(at, "mul.Tensor", f, c, saved=[c] if first else [c, f])
        kept = at.last
        added, update = aten.pointwise(at, "mul.Tensor", i, g, saved=[g, i]), at.last
        aten.pointwise_(at, "add_.Tensor", self._c, added, alpha=1)
        tanh = aten.pointwise(at, "tanh", self._c, saved=[aten.RESULT]), at.last
        self._h = aten.pointwise(at, "mul.Tensor", o, tanh[0], saved=[tanh[0], o])
        gates_and_nodes = list(zip(parts, nodes, strict=True))
        return _Cell(from_v, from_h, split, gates_and_nodes, c, kept, update, tanh, (self._h, at.last), first)

    # -- backward --------------------------------------------------------------------------------------------------

    def backward(self, at: Cursor, place: int, gate: Gate) -> int:
        """Add the backward pass of a gate from the gradient of its mask, after that of all later gates.

        Returns the gradient of its images (N, C, H, W).
        """
        n, h = self.edit.shape(gate.x)[0], self.hidden
        at.layer, at.forward = NAME, gate._flatten
        d = aten.view(at, gate.mask_grad, (n, 1))
        at.forward = gate._sigmoid[1]
        d = aten.pointwise(at, "sigmoid_backward", d, gate._sigmoid[0])
        dh = self._linear_backward(at, "decide", gate._decide, d, "weight", "bias", carry=self._dh)
        dv = self._step_backward(at, gate._cell, dh)
        at.layer, at.forward = NAME, gate._view
        d = aten.view(at, dv, (n, h, 1, 1))
        at.layer, at.forward = f"{NAME}.project.{place}", gate._project[1]
        attrs = aten.convolution_attrs((1, 1), (0, 0), (1, 1), 1)
        mean, weight = gate._mean[0], self.parameters[f"project.{place}.weight"]
        dx = aten.convolution_grad(at, "input", at.result(self.edit.shape(mean), "float32"), [d, weight], attrs)
        for kind, operands in (("weight", [d, mean]), ("bias", [d])):
            name = f"project.{place}.{kind}"
            out = at.result(self.edit.shape(self.parameters[name]), "float32")
            self._gradients[name] = aten.convolution_grad(at, kind, out, operands, attrs), False
        at.layer, at.forward = NAME, gate._mean[1]
        _, _, height, width = self.edit.shape(gate.x)
        dx = aten.expand(at, dx, self.edit.shape(gate.x))
        out = at.result(self.edit.shape(gate.x), "float32")
        at.call("aten::div.Scalar", [dx], [out], {"other": height * width})
        return out

    def _linear_backward(
        self, at: Cursor, module: str, run: _Linear, d: int, weight: str, bias: str, *, carry: int = -1, dx: bool = True
    ) -> int:
        """Add the gradients of a linear layer; returns that of its operand, added to `carry` where there is one."""
        at.layer, at.forward = run.layer, run.addmm
        made = -1
        if dx:
            made = aten.mm(at, d, aten.t(at, run.transposed))
        dw = aten.t(at, aten.mm(at, aten.t(at, d), run.x))
        db = aten.view(at, aten.reduce(at, "sum.dim_IntList", d, (0,), keepdim=True), (self.edit.shape(d)[1],))
        self._accumulate(at, f"{module}.{bias}", db, view=True)
        if carry >= 0:
            at.forward = None
            made = aten.pointwise_(at, "add_.Tensor", carry, made, alpha=1)
        at.forward = run.t
        self._accumulate(at, f"{module}.{weight}", aten.t(at, dw), view=True)
        return made

    def _accumulate(self, at: Cursor, name: str, gradient: int, *, view: bool) -> None:
        """Add a gradient to those of other gates, in place unless the first one is a view."""
        if name not in self._gradients:
            self._gradients[name] = gradient, view
            return
        at.forward = None
        first, is_view = self._gradients[name]
        if is_view:
            self._gradients[name] = aten.pointwise(at, "add.Tensor", first, gradient, attrs={"alpha": 1}), False
        else:
            aten.pointwise_(at, "add_.Tensor", first, gradient, alpha=1)

    def _step_backward(self, at: Cursor, cell: _Cell, dh: int) -> int:
        (i, i_node), (f, f_node), (g, g_node), (o, o_node) = cell.gates
        tc, tanh = cell.tanh

        def product(a: int, b: int) -> int:
            return aten.pointwise(at, "mul.Tensor", a, b)

        at.layer, at.forward = cell.from_v.layer, cell.h[1]
        dtc, do = product(dh, o), product(dh, tc)
        at.forward = tanh
        dc = aten.pointwise(at, "tanh_backward", dtc, tc)
        if self._dc >= 0:
            at.forward = None
            dc = aten.pointwise_(at, "add_.Tensor", self._dc, dc, alpha=1)
        at.forward = cell.added
        dg, di = product(dc, i), product(dc, g)
        at.forward = cell.kept
        self._dc = -1 if cell.first else product(dc, f)
        df = product(dc, cell.c)
        made = []
        for name, grad, value, node in (
            ("sigmoid_backward", do, o, o_node),
            ("tanh_backward", dg, g, g_node),
            ("sigmoid_backward", df, f, f_node),
            ("sigmoid_backward", di, i, i_node),
        ):
            at.forward = node
            made.append(aten.pointwise(at, name, grad, value))
        at.forward = cell.split
        d = aten.cat(at, made[::-1], 1)
        dv = self._linear_backward(at, "cell", cell.from_v, d, "weight_ih", "bias_ih")
        self._dh = self._linear_backward(at, "cell", cell.from_h, d, "weight_hh", "bias_hh", dx=not cell.first)
        return dv

    # -- update ----------------------------------------------------------------------------------------------------

    def update(self) -> None:
        """Let the step's optimizer update the parameters, last of all."""
        edit = self.edit
        template = list(updates(edit).values())[-1]
        made = []
        for name, parameter in self.parameters.items():
            gradient = self._gradients[name][0]
            storage = edit.tensors[gradient].storage
            edit.storages[storage] = replace(
                edit.storages[storage], role="gradient", died=None, name=f"{NAME}.{name}.grad"
            )
            last = next(n for n in reversed(edit.nodes) if n.phase == "optimizer")
            layer = f"{NAME}.{name}".rpartition(".")[0]
            made.append(repeat(edit, template, f"{NAME}.{name}", parameter, gradient, last, layer))
        for repeated in made:
            repeated.settle(edit, made[-1].nodes[-1])
