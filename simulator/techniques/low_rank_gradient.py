"""Gradients of weight matrices in low-rank form."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from simulator.errors import TrainwattError
from simulator.graph import Graph, Layout
from simulator.rewriting import aten
from simulator.rewriting.cursor import Cursor
from simulator.rewriting.edit import Edit
from simulator.rewriting.layers import choose, layer_of
from simulator.rewriting.node import Node
from simulator.rewriting.optimizer_ops import Repeated, Update, new_gradient, new_parameter, repeat, updates
from simulator.rewriting.shapes import numel
from simulator.techniques import Technique, check

UNIT = aten.convolution_attrs((1, 1), (0, 0), (1, 1), 1)
"""A convolution of 1 x 1."""


@dataclass(frozen=True)
class LowRankGradient(Technique):
    """Take the gradient of each weight matrix W (m x n) in two factors, A (m x r) and B (r x n), with r = `rank`.

    The optimizer works on the factors, so its state is r (m + n) numbers instead of m n, and the full gradient G is
    never made. With fixed directions U (m x r, orthonormal columns) and V (r x n, orthonormal rows), W stands for
    W + A V + U B around A = 0, B = 0, so

        dA = G V^T    dB = U^T G    and after the optimizer's step    W <- W + A V + U B, A <- 0, B <- 0

    A linear layer (x: N x n, dy: N x m) makes them as dA = dy^T (x V^T), dB = (dy U)^T x. A convolution (m = filters,
    n = channels x taps) is no different: z = convolution of x with V (r filters), dA = wgrad of a 1 x 1 convolution
    (dy, z), dB = wgrad of r filters (dz, x) with dz = dgrad of that 1 x 1 convolution. Forward and dgrad do not change,
    W keeps its full rank. Where r (m + n) >= m n the gradient stays as it is.

    Chosen are the last `last` weight layers, or those that `layers` match, or all; of them, linear layers and
    convolutions without groups take part, biases and norms do not.

    Source: Gooneratne, Sim, Zadrazil, Kabel, Beaufays, Motta, "Low-rank gradient approximation for memory-efficient
    on-device training of deep neural network", ICASSP 2020, arXiv:2001.08885. Of the paper only the abstract was seen
    (low-rank parameterisation of the gradient, memory for Adam down by about 33 %). Assumed: the update rule above;
    directions drawn once and kept, so that momentum keeps its meaning; weight decay decoupled, W <- (1 - lr decay) W.
    """

    name: ClassVar[str] = "low-rank-gradient"

    rank: int = 4
    last: int | None = None
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(self.rank >= 1, self, "rank", "a number of columns, at least 1")
        check(self.last is None or self.last >= 1, self, "last", "a number of layers, at least 1")

    def rewrite(self, graph: Graph) -> Graph:
        """Return the step with factored gradients.

        Raises `TrainwattError` where no layer takes part, a layer runs more than once a step, or the optimizer works
        on many parameters in one op.
        """
        edit = Edit(graph)
        factors = [_factored(edit, site, self.rank) for site in self._sites(edit)]
        of_layer = updates(edit)
        added: list[Repeated] = []
        for factor in factors:
            bias = of_layer.get(factor.site.name.removesuffix("weight") + "bias")
            after = (bias or factor.site.update).nodes[-1]
            for name, parameter, gradient in factor.trained:
                added.append(repeat(edit, factor.site.update, name, parameter, gradient, after, factor.site.layer))
                after = added[-1].nodes[-1]
        gone = {node for factor in factors for node in factor.site.update.nodes}
        edit.keep(lambda node: node not in gone)
        end = edit.nodes[-1]
        for one in added:
            one.settle(edit, end)
        at = edit.after(end, phase="optimizer")
        for factor in factors:
            at.layer, at.runs = factor.site.layer, factor.site.update.nodes[-1].runs
            _merge(at, factor)
        edit.sweep()
        return edit.graph()

    def _sites(self, edit: Edit) -> list[Site]:
        """Return the layers whose gradient is factored; raises `TrainwattError` as `rewrite` does."""
        found = [site for update in updates(edit).values() if (site := _site(edit, update))]
        if not found:
            raise TrainwattError(
                "no trained linear layer or convolution without groups uses its weight as it is stored; trace in fp32"
            )
        names = choose([site.layer for site in found], "trained linear layers and convolutions", self.layers, self.last)
        sites = [site for site in found if site.layer in names and site.pays(self.rank)]
        if not sites:
            raise TrainwattError(
                f"{self} leaves every gradient as it is; a matrix of m x n takes part where rank < m n / (m + n)"
            )
        for site in sites:
            if site.uses > 1:
                raise TrainwattError(
                    f"layer {site.layer!r} runs {site.uses} times a step; low-rank-gradient takes layers that run once"
                )
        return sites


@dataclass(frozen=True, eq=False)
class Site:
    """A layer that can take part: its weight (tensor), its forward op and the ops that make its gradient."""

    update: Update
    layer: str
    weight: int
    forward: Node
    uses: int
    matrix: tuple[int, int]

    @property
    def name(self) -> str:
        return self.update.name

    def pays(self, rank: int) -> bool:
        m, n = self.matrix
        return rank * (m + n) < m * n


@dataclass(frozen=True, eq=False)
class Factors:
    """What a layer gets: `trained` are name, parameter and gradient of A and B; `directions` are U and V."""

    site: Site
    trained: tuple[tuple[str, int, int], tuple[str, int, int]]
    directions: tuple[int, int]


def _site(edit: Edit, update: Update) -> Site | None:
    """Return the linear layer or plain 2-D convolution that owns the weight `update` is about, if there is one."""
    layer = layer_of(update.name)
    found = []
    for node in edit.nodes:
        if node.phase != "forward" or node.layer != layer:
            continue
        if node.kind == "convolution" and node.attrs["groups"] == 1 and not node.attrs["transposed"]:
            weight = node.inputs[1]
        elif node.kind in ("addmm", "mm"):
            weight = node.inputs[-1]
        else:
            continue
        storage = edit.storages[edit.tensors[weight].storage]
        if storage.role == "parameter" and storage.name == update.name and len(edit.shape(weight)) in (2, 4):
            found.append((node, weight))
    if not found:
        return None
    forward, weight = found[0]
    k, *rest = edit.shape(weight) if forward.kind == "convolution" else edit.shape(weight)[::-1]
    sizes = [e for e in (k, *rest) if isinstance(e, int)]
    return Site(update, layer, weight, forward, len(found), (sizes[0], prod(sizes[1:])))


def _factored(edit: Edit, site: Site, rank: int) -> Factors:
    """Add directions and factors of a layer, and the ops that make the factors' gradients."""
    (m, n), dtype = site.matrix, edit.tensors[site.weight].dtype
    if site.forward.kind == "convolution":
        taps = edit.shape(site.weight)[1:]
        up, down = edit.layout((m, rank, 1, 1), dtype), edit.layout((rank, *taps), dtype)
    else:
        up, down = edit.layout((m, rank), dtype), edit.layout((rank, n), dtype)

    def trained(part: str, layout: Layout) -> tuple[str, int, int]:
        name = f"{site.name}_{part}"
        return name, new_parameter(edit, name, layout), new_gradient(edit, name, layout)

    def direction(part: str, layout: Layout) -> int:
        return edit.new(layout, "buffer", f"{site.name}_{part}_direction", persistent=True)

    factors = Factors(site, (trained("up", up), trained("down", down)), (direction("up", up), direction("down", down)))
    backward = edit.backward_of(site.forward)
    at = edit.after(backward[-1], phase="backward", layer=site.layer, forward=site.forward)
    at.runs = site.forward.runs
    (_convolution_gradients if site.forward.kind == "convolution" else _linear_gradients)(at, factors, backward)
    return factors


def _convolution_gradients(at: Cursor, factors: Factors, backward: list[Node]) -> None:
    (u, v), ((_, _, da), (_, _, db)) = factors.directions, factors.trained
    forward, edit = factors.site.forward, at.edit
    wgrads = [node for node in backward if node.kind == "convolution_grad_weight"]
    x, y = forward.inputs[0], forward.outputs[0]
    if len(wgrads) != 1 or wgrads[0].inputs[1:] != (x,) or edit.shape(wgrads[0].inputs[0]) != edit.shape(y):
        raise _unknown_gradient(factors.site)
    wgrad, dy = wgrads[0], wgrads[0].inputs[0]
    dx = [t for node in backward if node.kind == "convolution_grad_input" for t in node.outputs]
    with at.frame(dy, *dx):
        for node in [node for node in backward if node.kind == "convolution_grad_bias"]:
            aten.sum_into(at, dy, (0, 2, 3), node.outputs[0])  # asked for the bias, kernels make the weight's too
            edit.remove(node)
        stride, padding, dilation = (forward.attrs[key] for key in ("stride", "padding", "dilation"))
        z = aten.convolution(at, x, v, None, stride, padding, dilation)
        dz = at.result(edit.shape(z), edit.tensors[z].dtype)
        aten.convolution_grad(at, "input", dz, (dy, u), UNIT)
        aten.convolution_grad(at, "weight", da, (dy, z), UNIT)
        aten.convolution_grad(at, "weight", db, (dz, x), wgrad.attrs)
    forward.saved = (x, factors.site.weight, u, v)


def _linear_gradients(at: Cursor, factors: Factors, backward: list[Node]) -> None:
    (u, v), ((_, _, da), (_, _, db)) = factors.directions, factors.trained
    forward = factors.site.forward
    *_, x, weight = forward.inputs
    source = {t: node.inputs[0] for node in backward if node.kind == "t" for t in node.outputs}
    products = [node for node in backward if node.kind == "mm"]
    wgrad = next((node for node in products if node.inputs[1] == x and node.inputs[0] in source), None)
    if wgrad is None:
        raise _unknown_gradient(factors.site)
    dy = source[wgrad.inputs[0]]
    dx = [node.outputs[0] for node in products if node is not wgrad]
    with at.frame(dy, *dx):
        z = aten.mm(at, x, aten.t(at, v))
        at.call("aten::mm", [aten.t(at, dy), z], [da])
        dz = aten.mm(at, dy, u)
        at.call("aten::mm", [aten.t(at, dz), x], [db])
    forward.saved = (x, *([weight] if dx else []), u, v)


def _unknown_gradient(site: Site) -> TrainwattError:
    return TrainwattError(
        f"the gradient of {site.name!r} is made in another way than PyTorch's; leave the layer out, or what changed it"
    )


def _merge(at: Cursor, factors: Factors) -> None:
    """Add what moves the factors' step into the weight: W <- W + A V + U B, then A and B are zero again."""
    (u, v), ((_, a, _), (_, b, _)) = factors.directions, factors.trained
    weight = next(
        t
        for node in factors.site.update.nodes
        for t in node.mutates
        if at.edit.storages[at.edit.tensors[t].storage].role == "parameter"
    )
    if factors.site.update.decays(at.edit):
        aten.pointwise_(at, "mul_.Tensor", weight)
    matrix = _flat(at, weight)
    for left, right in ((a, v), (u, b)):
        operands = [_flat(at, left), _flat(at, right)]
        at.call("aten::addmm_", [matrix, *operands], [matrix], {"beta": 1, "alpha": 1}, mutates=[matrix])
    for factor in (a, b):
        aten.pointwise_(at, "zero_", factor)


def _flat(at: Cursor, tensor: int) -> int:
    """Return a weight as a matrix, one row a filter."""
    shape = at.edit.shape(tensor)
    return tensor if len(shape) == 2 else aten.view(at, tensor, (shape[0], numel(shape[1:])))
