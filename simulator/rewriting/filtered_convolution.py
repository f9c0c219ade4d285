"""The ops of a convolution with a filtered backward, in place of its own; patches are those of `filtering`.

means  (N, K, Ph, Pw)   mean of dy over each patch
sums   (N, C, Ph, Pw)   sum of x over each patch
theta  (K, C/groups)    sum of the weight over its taps
dx = theta^T means, the same throughout a patch;    dweight = means sums^T, the same at every tap
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from simulator.errors import TrainwattError
from simulator.extent import Extent
from simulator.graph import ROOT_LAYER
from simulator.rewriting import aten
from simulator.rewriting.cursor import Cursor
from simulator.rewriting.edit import Edit
from simulator.rewriting.filtering import Filter
from simulator.rewriting.gradients import deliver
from simulator.rewriting.node import Node
from simulator.rewriting.sweep import ON_DEMAND, WHOLE

Variant = Literal["lean", "official", "kernel"]

_PREFIX = "convolution_grad_"


@dataclass(frozen=True)
class Filtered:
    """A convolution to be filtered: its forward op, the parts of its backward by name, and how it is done."""

    edit: Edit
    conv: Node
    parts: dict[str, Node]
    plan: Filter
    variant: Variant

    def rewrite(self) -> None:
        """Replace the convolution's backward, and what it saves."""
        sums, theta = self._forward()
        if self.parts:
            self._backward(sums, theta)

    # -- forward ---------------------------------------------------------------------------------------------------

    def _forward(self) -> tuple[int | None, int | None]:
        """Add what is computed besides y, and save it; return the sums of x and of the weight where made."""
        x, weight = self.conv.inputs[:2]
        at = self.edit.after(self.conv)
        at.runs = self.conv.runs
        always = self.variant == "official"
        with at.frame():
            theta = sums = None
            if self.variant != "lean" and not self.plan.spread and (always or "input" in self.parts):
                theta = aten.reduce(at, "sum.dim_IntList", weight, (2, 3))
            if always or "weight" in self.parts:
                sums = self._pooled(at, x, self.plan.reach, self.plan.reach_margin, divisor=1)
        of_x = weight if theta is None else theta
        kept = [sums, of_x if always or "input" in self.parts else None]
        self.conv.saved = tuple(t for t in kept if t is not None) if self.parts else ()
        if not always:
            made = {t for t in (sums, theta) if t is not None}
            for node in (self.conv, *(n for n in self.edit.nodes if made.intersection(n.outputs))):
                node.attrs = MappingProxyType({**node.attrs, ON_DEMAND: True})
        return sums, theta

    def _pooled(self, at: Cursor, tensor: int, window: aten.Pair, margin: aten.Pair, divisor: int | None = None) -> int:
        if self.variant == "official":
            return aten.avg_pool2d(at, tensor, window, padding=margin, count_include_pad=False, divisor=divisor)
        return aten.avg_pool2d(at, tensor, window, ceil_mode=True, count_include_pad=False, divisor=divisor)

    # -- backward --------------------------------------------------------------------------------------------------

    def _backward(self, sums: int | None, theta: int | None) -> None:
        edit, parts, conv = self.edit, self.parts, self.conv
        old = list(parts.values())
        dy = old[0].inputs[0]
        at = edit.before(old[0], layer=conv.layer, forward=conv)
        at.runs = old[0].runs
        made: dict[str, int] = {}
        with at.frame(dy):
            if "bias" in parts and self.variant != "kernel":
                made["bias"] = aten.reduce(at, "sum.dim_IntList", dy, (0, 2, 3))
            if parts.keys() - {"bias"} or self.variant != "lean":
                means = self._pooled(at, dy, self.plan.patch, self.plan.margin)
                if self.variant == "kernel":
                    made |= self._patched_convolution(at, means, sums, theta)
                elif self.variant == "official" and sums is not None:
                    made |= self._official(at, means, sums, theta)
                else:
                    made |= self._lean(at, means, sums)
        for kept in (sums, theta):
            if kept is not None and sums is not None:  # views in backward hold what autograd keeps until then anyway
                edit.release_storage(edit.tensors[kept].storage)
                edit.hold(kept, next(n for n in edit.nodes if sums in n.outputs))
        for name, part in parts.items():
            if name in made:
                deliver(edit, part, made[name], as_is=self.variant == "kernel")
        if self.variant == "official":
            edit.hold(made["input"], at.last)  # a local variable, which nobody else may want
        for part in old:
            edit.remove(part)

    def _lean(self, at: Cursor, means: int, sums: int | None) -> dict[str, int]:
        """One product over all patches of the batch for each gradient, and only those that are wanted."""
        plan, made = self.plan, dict[str, int]()
        rows = None
        if not plan.depthwise and (sums is not None or not plan.spread):
            rows = _rows(at, means)
        if "input" in self.parts:
            with at.frame():
                product = self._lean_product(at, means, rows)
            with at.frame(product):
                made["input"] = self._lean_image(at, product)
        if sums is not None and rows is None:
            made["weight"] = self._depthwise_weight(at, means, sums)
        elif sums is not None and rows is not None:
            columns, others = aten.t(at, rows), _rows(at, sums)
            at.drop(others)
            made["weight"] = self._taps(at, aten.mm(at, columns, others))
        return made

    def _lean_product(self, at: Cursor, means: int, rows: int | None) -> int:
        """Add dx on the patches, (N, C, Ph, Pw)."""
        plan, edit, weight = self.plan, self.edit, self.conv.inputs[1]
        if plan.spread:
            return self._transposed(at, means)
        k, c = edit.shape(weight)[:2]
        summed = not plan.pointwise
        theta = aten.reduce(at, "sum.dim_IntList", weight, (2, 3)) if summed else aten.view(at, weight, (k, c))
        if rows is None:
            return aten.pointwise(at, "mul.Tensor", means, aten.view(at, theta, (k, 1, 1)))
        product = aten.mm(at, aten.t(at, theta), aten.t(at, rows))
        product = aten.view(at, product, (c, edit.shape(means)[0], *plan.patches))
        return aten.permute(at, product, (1, 0, 2, 3))

    def _lean_image(self, at: Cursor, product: int) -> int:
        """Spread patches over the image: columns first, which are few, then whole rows."""
        plan, edit = self.plan, self.edit
        n, c, high, wide = edit.shape(product)
        (tall, broad), (h, w) = plan.reach, plan.image
        columns = aten.expand(at, aten.unsqueeze(at, product, 4), (n, c, high, wide, broad))
        columns = aten.view(at, aten.clone(at, columns), (n, c, high, wide * broad))
        if wide * broad != w:
            columns = aten.slice_(at, columns, 3, 0, w)
        if high * tall != h:
            numbers = aten.filled(at, "arange", (h,), "int64")
            at.drop(numbers)
            index = aten.pointwise(at, "floor_divide", numbers)
            return aten.index_select(at, columns, 2, index)
        full = aten.clone(at, aten.expand(at, aten.unsqueeze(at, columns, 3), (n, c, high, tall, w)))
        return aten.view(at, full, (n, c, h, w), "_unsafe_view")

    def _official(self, at: Cursor, means: int, sums: int, theta: int | None) -> dict[str, int]:
        """The authors' operator: a product for each image, dx computed wanted or not, dweight copied to every tap."""
        with at.frame():
            product = self._official_product(at, means, theta)
        with at.frame(product):
            made = {"input": self._official_image(at, product)}
        for node in self.edit.backward_of(self.conv):
            if node not in self.parts.values():
                node.attrs = MappingProxyType({**node.attrs, WHOLE: True})
        if "weight" in self.parts:
            with at.frame():
                made["weight"] = aten.clone(at, self._official_taps(at, means, sums))
        return made

    def _official_product(self, at: Cursor, means: int, theta: int | None) -> int:
        """Add dx on the patches, (N, C, Ph, Pw) or (N, C, Ph * Pw)."""
        n, k, high, wide = self.edit.shape(means)
        if theta is None:
            return self._transposed(at, means)
        if self.plan.depthwise:
            return aten.pointwise(at, "mul.Tensor", means, aten.view(at, theta, (k, 1, 1)))
        filters = aten.clone(at, aten.expand(at, aten.t(at, theta), (n, self.edit.shape(theta)[1], k)))
        return aten.bmm(at, filters, aten.view(at, means, (n, k, high * wide)))

    def _official_image(self, at: Cursor, product: int) -> int:
        """Spread patches over the image in one copy, and cut off what the margins added."""
        plan = self.plan
        n, c = self.edit.shape(product)[:2]
        (high, wide), (tall, broad), (h, w) = plan.patches, plan.reach, plan.image
        cells = aten.view(at, product, (n, c, high, 1, wide, 1))
        full = aten.clone(at, aten.expand(at, cells, (n, c, high, tall, wide, broad)))
        image = aten.view(at, full, (n, c, high * tall, wide * broad), "_unsafe_view")
        if (high * tall, wide * broad) != (h, w):
            top, left = plan.reach_margin
            image = aten.slice_(at, image, 2, top, top + h)
            image = aten.slice_(at, image, 3, left, left + w)
        return image

    def _official_taps(self, at: Cursor, means: int, sums: int) -> int:
        """Add the gradient of every tap, as a view."""
        if self.plan.depthwise:
            return self._depthwise_weight(at, means, sums)
        (n, k, high, wide), c = self.edit.shape(means), self.edit.shape(sums)[1]
        columns = aten.clone(at, aten.permute(at, means, (1, 0, 2, 3)))
        columns = aten.view(at, columns, (k, n * high * wide))
        rows = aten.clone(at, aten.permute(at, sums, (0, 2, 3, 1)))
        rows = aten.view(at, rows, (n * high * wide, c))
        return self._taps(at, aten.mm(at, columns, rows))

    def _patched_convolution(self, at: Cursor, means: int, sums: int | None, theta: int | None) -> dict[str, int]:
        """The backward of a 1x1 convolution on the patches, whose results stay as small as they are."""
        plan, edit, parts = self.plan, self.edit, self.parts
        attrs = aten.convolution_attrs((1, 1), plan.spread_padding, plan.spread or (1, 1), plan.groups)
        n, _, *patches = edit.shape(means)
        made: dict[str, int] = {}
        if "input" in parts:
            old = parts["input"].outputs[0]
            weight = self.conv.inputs[1]
            if theta is not None:
                weight = aten.view(at, theta, (*edit.shape(theta), 1, 1))
            small = at.result((n, edit.shape(old)[1], *patches), edit.tensors[means].dtype)
            aten.convolution_grad(at, "input", small, (means, weight), attrs)
            made["input"] = _everywhere(at, small, edit.shape(old))
        if "weight" in parts and sums is not None:
            old = parts["weight"].outputs[0]
            small = at.result((*edit.shape(old)[:2], 1, 1), edit.tensors[means].dtype)
            aten.convolution_grad(at, "weight", small, (means, sums), {**attrs, "padding": (0, 0), "dilation": (1, 1)})
            made["weight"] = aten.expand(at, small, edit.shape(old))
        if "bias" in parts:
            made["bias"] = at.result(edit.shape(parts["bias"].outputs[0]), edit.tensors[means].dtype)
            aten.convolution_grad(at, "bias", made["bias"], (means,), attrs)
        return made

    def _transposed(self, at: Cursor, means: int) -> int:
        """Add the transposed convolution of the patches with the whole kernel, whose taps lie patches apart."""
        plan, weight = self.plan, self.conv.inputs[1]
        n, _, *patches = self.edit.shape(means)
        c = self.edit.shape(self.conv.inputs[0])[1]
        out = at.result((n, c, *patches), self.edit.tensors[means].dtype)
        attrs = aten.convolution_attrs((1, 1), plan.spread_padding, plan.spread or (1, 1), plan.groups)
        at.call("aten::convolution", [means, weight], [out], {"bias": None, **attrs, "transposed": True})
        return out

    def _depthwise_weight(self, at: Cursor, means: int, sums: int) -> int:
        product = aten.pointwise(at, "mul.Tensor", sums, means)
        at.drop(product)
        return self._taps(at, aten.reduce(at, "sum.dim_IntList", product, (0, 2, 3)))

    def _taps(self, at: Cursor, values: int) -> int:
        """Add a view of `values` (K, C/groups) or (K,) as the gradient of every tap."""
        shape = self.edit.shape(self.conv.inputs[1])
        return aten.expand(at, aten.view(at, values, (*shape[:2], 1, 1)), shape)


def parts_of(edit: Edit, conv: Node) -> dict[str, Node]:
    """Return the parts of a convolution's backward by name: `input`, `weight`, `bias`.

    Raises `TrainwattError` where its backward is not, or no longer, that of a plain convolution.
    """
    nodes = edit.backward_of(conv)
    for node in nodes:
        if not node.kind.startswith(_PREFIX):
            layer = conv.layer or ROOT_LAYER
            raise TrainwattError(
                f"gradient-filter on convolution {layer!r}, whose backward another technique changed ({node.kind}); "
                "filter each once, and with one technique"
            )
    return {node.kind.removeprefix(_PREFIX): node for node in nodes}


def _rows(at: Cursor, tensor: int) -> int:
    """Add the patches of (N, C, Ph, Pw) as rows (N * Ph * Pw, C)."""
    n, c, high, wide = at.edit.shape(tensor)
    return aten.view(at, aten.contiguous_form(at, aten.permute(at, tensor, (0, 2, 3, 1))), (n * high * wide, c))


def _everywhere(at: Cursor, small: int, shape: tuple[Extent, ...]) -> int:
    """Add a view of patches as a map of `shape` that costs nothing: what a consumer sees that knows the patches."""
    layout = at.edit.tensors[small].layout
    out = at.edit.view(small, at.edit.layout(shape, layout.dtype, (*layout.stride[:2], 0, 0)))
    at.call("aten::expand", [small], [out], {"size": shape, "implicit": False})
    return out
