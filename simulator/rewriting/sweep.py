"""Dead ops of a step that was rewritten, and tensors that are saved for nothing."""

from __future__ import annotations

from collections.abc import Collection
from types import MappingProxyType
from typing import TYPE_CHECKING

from simulator.bits import BITS
from simulator.rewriting.node import Node, saved_by

if TYPE_CHECKING:
    from simulator.rewriting.edit import Edit

# Where autograd's formulas are one per operand, it saves only what the gradients that are wanted need
# (tools/autograd/derivatives.yaml of PyTorch). All other ops have one formula and save all or nothing.
FORMULA_PER_OPERAND = frozenset({"addmm", "mm", "bmm", "baddbmm", "addbmm", "addmv", "mv", "dot", "mul", "mul_", "div"})

ON_DEMAND = "on_demand"
"""Attribute of forward ops of an autograd function of its own that does for backward only what the gradients wanted
need: its first op saves an operand only for a gradient that uses it, and what is made only to be saved goes with that.
"""

WHOLE = "whole"
"""Attribute of backward ops of an autograd function of its own that computes all its gradients if it computes one."""


def sweep(edit: Edit) -> None:
    """Take out what no result of the step needs: backward ops without a use, and what was saved for them.

    Results are whatever is forward or loss, and what changes parameters, buffers or optimizer state.
    """
    done = _needed(edit, set(), narrow=False)
    due = {n.forward for n in done if n.phase == "backward"}
    edit.keep(_needed(edit, due, narrow=True).__contains__)
    _unsave(edit)


def _needed(edit: Edit, due: Collection[Node | None], *, narrow: bool) -> set[Node]:
    """Return what `sweep` keeps, if backward ops that only update buffers count where their forward op is `due`.

    Such an op is of a forward pass run again in backward: it stays for as long as the gradients that it is run for.
    `narrow` says whether output masks are fitted to what is kept.
    """
    lasting = {i for i, s in enumerate(edit.storages) if s.born < 0 and s.died is None}
    buffers = {i for i in lasting if edit.storages[i].role == "buffer"}
    wanted: set[int] = set()  # storages
    looked_at: set[int] = set()  # tensors, which are what a view must make
    updated: set[int] = set()  # those of parameters and state that the optimizer takes
    needed: set[Node] = set()
    for node in reversed(edit.nodes):
        written = {edit.tensors[t].storage for t in (*node.outputs, *node.mutates)}
        changed = lasting.intersection(edit.tensors[t].storage for t in node.mutates)
        if node.phase == "backward" and node.forward is not None and node.forward not in due:
            changed -= buffers
        looked = looked_at | updated if node.phase == "optimizer" else looked_at
        used = bool(looked.intersection(node.outputs)) if _is_view(edit, node) else bool(written & wanted)
        reads = node.phase == "optimizer" and not node.outputs  # a step count, say, for Python
        whole = WHOLE in node.attrs and node.forward in due
        if node.phase in ("forward", "loss") or changed or used or reads or whole:
            needed.add(node)
            if narrow:
                _mask(edit, node, wanted)
            wanted.update(edit.tensors[t].storage for t in node.inputs)
            if node.phase == "backward" and node.forward is not None:
                wanted.update(edit.tensors[t].storage for t in node.forward.saved)
            # What views a parameter in backward is no result because the optimizer uses the parameter too.
            for t in node.inputs:
                later = node.phase == "optimizer" and edit.tensors[t].storage in lasting
                (updated if later else looked_at).add(t)
    return needed


def _is_view(edit: Edit, node: Node) -> bool:
    sources = {edit.tensors[t].storage for t in node.inputs}
    return not node.mutates and all(edit.tensors[t].storage in sources for t in node.outputs)


def _mask(edit: Edit, node: Node, wanted: set[int]) -> None:
    """Let an op with an output mask make only the outputs that are wanted."""
    mask = node.attrs.get("output_mask")
    if node.phase != "backward" or not isinstance(mask, tuple) or sum(map(bool, mask)) != len(node.outputs):
        return
    outputs = iter(node.outputs)
    made = [next(outputs) if on else None for on in mask]
    kept = [t if t is not None and edit.tensors[t].storage in wanted else None for t in made]
    if kept != made:
        node.outputs = tuple(t for t in kept if t is not None)
        node.attrs = MappingProxyType({**node.attrs, "output_mask": tuple(t is not None for t in kept)})


def _unsave(edit: Edit) -> None:
    uses: dict[Node, set[int]] = {}
    for node in edit.nodes:
        if node.forward is not None:
            uses.setdefault(node.forward, set()).update(edit.tensors[t].storage for t in node.inputs)
    before, saving = saved_by(edit.nodes), [node for node in edit.nodes if node.saved]
    for node in saving:
        if node not in uses:
            node.saved = ()
        elif node.kind in FORMULA_PER_OPERAND or not node.attrs.keys().isdisjoint((BITS, ON_DEMAND)):
            node.saved = tuple(t for t in node.saved if edit.tensors[t].storage in uses[node])
    # An op in place whose gradient needs what it overwrites is preceded by a copy, made only to be saved; so are
    # copies in a smaller dtype. Where the op runs again in backward, the copy of its first run is saved by none.
    before.update(t for node in saving if not node.saved and node.kind == "clone" for t in node.outputs)
    forgotten = before - saved_by(edit.nodes) - {t for node in edit.nodes for t in node.inputs}
    copies = ("clone", "_to_copy")
    edit.keep(
        lambda node: not (node.kind in copies or ON_DEMAND in node.attrs) or not forgotten.issuperset(node.outputs)
    )
