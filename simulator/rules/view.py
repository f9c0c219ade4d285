"""Ops that move no data: views, allocations without a value, and queries."""

from __future__ import annotations

from simulator.rules import rule
from simulator.rules.counting import names
from simulator.work import Call, Row

VIEWS = names(
    "view _unsafe_view _reshape_alias reshape flatten alias detach detach_ lift_fresh lift view_as "
    "view_as_real view_as_complex _conj _neg_view real imag t t_ transpose transpose_ permute movedim "
    "swapaxes swapdims expand expand_as unsqueeze unsqueeze_ squeeze squeeze_ select slice narrow "
    "diagonal as_strided as_strided_ unfold split split_with_sizes unsafe_split unsafe_split_with_sizes "
    "chunk unsafe_chunk tensor_split unbind set_ resolve_conj resolve_neg _assert_async "
    "_assert_tensor_metadata _linalg_check_errors"
)
ALLOCATIONS = names(
    "empty empty_like new_empty new_empty_strided empty_strided empty_permuted resize_ _efficientzerotensor"
)


@rule(*VIEWS, *ALLOCATIONS)
def view(_call: Call) -> Row:
    """Nothing: new metadata over the same storage, or memory whose content is undefined."""
    return Row("view", launches=0)
