"""Fused scaled dot-product attention: softmax(Q K^T scale + mask) V without the scores in memory.

Q (.., S, D), K (.., T, D), V (.., T, Dv), for n = batch x heads. Forward has two products of depth D and Dv.
Backward has five (Dao et al. 2022, FlashAttention, algorithm 4): scores again, dP = dO V^T, dV = P^T dO, dQ =
dS K, dK = dS^T Q, of depth 3 D + 2 Dv together. The nest holds all products at once: n x (p queries) x (k
keys) x (c the summed depth), so nest.macs is their total.

Under `is_causal` a query needs no later key, and the kernels skip them: k is then the mean number of keys of
a query ((S+1)/2 for S = T). FLOPs beyond the MACs, per score: forward 5 (scale, max, subtract, exp, sum),
backward 6 (scale, subtract, exp; subtract delta, times P, scale), + 1 for a mask; per output element 1
(divide), backward 2 (delta).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from simulator.rules import rule
from simulator.rules.counting import product, touched
from simulator.work import Call, Nest, Operand, Row

_FORWARD = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)


def _keys(queries: Any, keys: Any, causal: bool) -> Any:
    """Return the mean number of keys that a query looks at; query i sees keys 0..i under a causal mask."""
    if not causal:
        return keys
    square = np.minimum(queries, keys)
    pairs = square * (square + 1) / 2 + (queries - square) * keys
    return pairs / queries


def _row(call: Call, qkv: tuple[Operand, ...], depth: Any, per_score: int, per_output: int) -> Row:
    q, k, v = qkv
    queries = q.shape[-2]
    nest = Nest(
        n=product(q.shape[:-2]),
        p=queries,
        k=_keys(queries, k.shape[-2], bool(call.attrs["is_causal"])),
        c=depth,
    )
    scores = nest.n * nest.p * nest.k
    outputs = nest.n * queries * v.shape[-1]
    flops = 2 * nest.macs + per_score * scores + per_output * outputs
    return Row("attention", flops, touched(call.inputs), touched(call.written), nest.macs, nest)


@rule(*_FORWARD)
def attention(call: Call) -> Row:
    """MACs = n S T (D + Dv). Reads Q, K, V and mask, writes the output and the row sums."""
    q, k, v = call.inputs[:3]
    return _row(call, (q, k, v), q.shape[-1] + v.shape[-1], 5 + (len(call.inputs) > 3), 1)


@rule(*(f"{kind}_backward" for kind in _FORWARD))
def attention_backward(call: Call) -> Row:
    """MACs = n S T (3 D + 2 Dv). Reads dO, Q, K, V, O, row sums and mask, writes dQ, dK, dV."""
    q, k, v = call.inputs[1:4]
    return _row(call, (q, k, v), 3 * q.shape[-1] + 2 * v.shape[-1], 6 + (len(call.inputs) > 6), 2)
