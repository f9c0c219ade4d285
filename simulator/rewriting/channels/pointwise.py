"""Dimensions of ops that work element by element, and of reductions."""

from __future__ import annotations

from simulator.graph import Op
from simulator.rewriting.channels.dims import ONE, Dim, Unclear
from simulator.rewriting.channels.walk import Walk, aligned, rule
from simulator.rules.counting import names
from simulator.rules.elementwise import KINDS

_ARITHMETIC = ("add", "sub", "addcmul", "addcdiv")
_FOREACH = tuple(k for k in KINDS if k.startswith("_foreach_"))
_SAME_SHAPE = names(
    "rsub gelu gelu_ gelu_backward native_dropout native_dropout_backward clone contiguous _to_copy copy_ alias "
    "empty_like zeros_like ones_like full_like zero_ fill_ bernoulli bernoulli_ uniform_ normal_ rand_like randn_like "
    "_softmax _softmax_backward_data _log_softmax _log_softmax_backward_data cumsum flip roll"
)
_NOT_POINTWISE = ("glu", "glu_backward", "linalg_cross", "affine_grid_generator")


@rule(
    *(k for k in KINDS if k not in _FOREACH and k not in _NOT_POINTWISE),
    *(name + end for name in _ARITHMETIC for end in ("", "_")),
    *_SAME_SHAPE,
)
def pointwise(walk: Walk, index: int, op: Op) -> None:
    """Operands broadcast to the result."""
    results = op.outputs or op.mutates
    rank = max((len(walk.shape(t)) for t in (*op.inputs, *results)), default=0)
    dims = aligned(walk, op.inputs, rank)
    for tensor in results:
        walk.give(tensor, dims[rank - len(walk.shape(tensor)) :])


@rule(
    *_FOREACH,
    *(f"_foreach_{name}{end}" for name in _ARITHMETIC for end in ("", "_")),
    *names("_foreach_zero_ _foreach_copy_ _fused_sgd_ _fused_adam_ _fused_adamw_ _fused_adagrad_"),
)
def lists(walk: Walk, index: int, op: Op) -> None:
    """Lists of operands, one after the other: the n-th of each list go together."""
    roles = [walk.graph.storages[walk.graph.tensors[t].storage].role for t in op.inputs]
    number = roles.count("parameter") if op.kind.startswith("_fused_") else len(op.outputs or op.mutates)
    if not number:
        raise Unclear
    for first in range(number):
        members = [t for t in op.inputs[first::number] if walk.shape(t)]
        dims = aligned(walk, members, max((len(walk.shape(t)) for t in members), default=0))
        for tensor in op.outputs[first : first + 1] if op.outputs else ():
            walk.give(tensor, dims)


@rule(*names("sum nansum prod amax amin mean var std any all logsumexp linalg_vector_norm norm argmax argmin var_mean"))
def reduction(walk: Walk, index: int, op: Op) -> None:
    """The dimensions in `dim` (all, where there are none) go, or become 1 with `keepdim`."""
    if len(op.inputs) != 1:
        raise Unclear
    dims = walk.of(op.inputs[0])
    given = op.attrs.get("dim")
    chosen = given if isinstance(given, tuple) else () if given is None else (given,)
    gone = {d % len(dims) for d in chosen} or set(range(len(dims)))
    if op.attrs.get("keepdim"):
        kept: list[Dim] = [ONE if d in gone else dim for d, dim in enumerate(dims)]
    else:
        kept = [dim for d, dim in enumerate(dims) if d not in gone]
    for tensor in op.outputs:
        walk.give(tensor, kept)


@rule("new_empty", "zeros", "ones", "empty", "full", "arange", "scalar_tensor", "eye", "linspace", "rand", "randn")
def creation(walk: Walk, index: int, op: Op) -> None:
    """Sizes that the program computed itself are taken to depend on no width."""
    for tensor in op.outputs:
        walk.give(tensor, [(e,) for e in walk.shape(tensor)])
