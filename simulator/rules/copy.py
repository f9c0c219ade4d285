"""Ops that move or create elements and compute none, or next to none."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from simulator.rules import rule
from simulator.rules.counting import elements, names, results, touched
from simulator.work import Call, Row

COPIES = names(
    "clone contiguous _to_copy lift_fresh_copy _reshape_copy cat stack constant_pad_nd repeat flip roll "
    "rot90 tril triu tril_ triu_ reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d "
    "replication_pad2d replication_pad3d pixel_shuffle pixel_unshuffle channel_shuffle "
    "native_channel_shuffle im2col complex block_diag"
)

FILLS: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(names("zero_ fill fill_ zeros zeros_like new_zeros ones ones_like new_ones"), 0),
        **dict.fromkeys(names("full full_like new_full scalar_tensor _foreach_zero_ eye tril_indices triu_indices"), 0),
        "arange": 2,  # start + i * step
        "linspace": 2,
        "logspace": 3,  # base ** (start + i * step)
    }
)
"""FLOPs per element of ops that only write."""

SCATTERED_GRADIENTS: Mapping[str, int] = MappingProxyType(
    {
        "select_backward": 0,
        "slice_backward": 0,
        "diagonal_backward": 0,
        "unfold_backward": 1,
        "col2im": 1,
        **dict.fromkeys((f"reflection_pad{n}d_backward" for n in (1, 2, 3)), 1),
        **dict.fromkeys((f"replication_pad{n}d_backward" for n in (1, 2, 3)), 1),
    }
)
"""FLOPs per incoming element of ops that place a gradient in a full-size map; 1 where places overlap and add
up.
"""


@rule(*COPIES)
def copy(call: Call) -> Row:
    """No FLOPs; reads every operand once, writes the result once (padding included)."""
    return Row("copy", 0, touched(call.inputs), touched(call.written))


@rule("copy_", "_foreach_copy_")
def copy_into(call: Call) -> Row:
    """Reads the source, writes the destination: `copy_(self, src)`, `_foreach_copy_(self[], src[])`."""
    return Row("copy", 0, touched(call.inputs[len(call.inputs) // 2 :]), touched(call.written))


@rule("slice_scatter", "select_scatter", "diagonal_scatter", "as_strided_scatter")
def scatter_view(call: Call) -> Row:
    """A copy with a part replaced: reads `src` and the rest of `self`, writes the result once."""
    base, source = call.inputs[0], call.inputs[1]
    kept = (base.numel - source.numel) * base.item_bytes
    return Row("copy", 0, kept + source.touched_bytes, touched(call.written))


@rule(*FILLS)
def fill(call: Call) -> Row:
    """Writes only; a tensor operand gives a shape or one value, so none of its content is counted."""
    return Row("copy", FILLS[call.kind] * elements(results(call)), 0, touched(call.written))


@rule(*SCATTERED_GRADIENTS)
def scatter_gradient(call: Call) -> Row:
    """Reads grad (`inputs[0]`), writes the full map once (zeros where nothing arrives); 1 add an overlapping
    element.
    """
    grad = call.inputs[0]
    return Row("copy", SCATTERED_GRADIENTS[call.kind] * grad.numel, grad.touched_bytes, touched(call.written))


@rule("_local_scalar_dense")
def item(call: Call) -> Row:
    """`tensor.item()`: reads one element (and makes the host wait, which a device model may price)."""
    return Row("copy", 0, call.inputs[0].item_bytes, 0)
