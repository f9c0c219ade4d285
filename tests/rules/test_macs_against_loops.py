"""MACs against loops that compute the same numbers as PyTorch and count each multiplication."""

from __future__ import annotations

import itertools
import math
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings

slow_ok = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    small = st.integers(1, 3)
    kind = draw(st.sampled_from(["dense", "grouped", "depthwise"]))
    groups = 1 if kind == "dense" else draw(st.integers(2, 3))
    per_group_in = 1 if kind == "depthwise" else draw(st.integers(1, 2))
    return {
        "n": draw(st.integers(1, 2)),
        "groups": groups,
        "c": per_group_in,
        "k": draw(st.integers(1, 2)),
        "size": (draw(st.integers(2, 5)), draw(st.integers(2, 5))),
        "filter": (draw(small), draw(small)),
        "stride": (draw(st.integers(1, 2)), draw(small)),
        "padding": (draw(st.integers(0, 2)), draw(st.integers(0, 1))),
        "dilation": (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
    }


def _attrs(d: dict[str, Any], transposed: bool) -> dict[str, Any]:
    keys = {key: d[key] for key in ("stride", "padding", "dilation", "groups")}
    return {**keys, "transposed": transposed, "output_padding": (0, 0)}


def _loops(x: torch.Tensor, w: torch.Tensor, dy: torch.Tensor, d: dict[str, Any]) -> Any:
    """Forward and both gradients of a convolution of a padded image, with the MACs of each."""
    groups, c, k = d["groups"], d["c"], d["k"]
    (ph, pw), (sh, sw), (dh, dw_) = d["padding"], d["stride"], d["dilation"]
    padded = F.pad(x, (pw, pw, ph, ph))
    y, dx, dw = torch.zeros_like(dy), torch.zeros_like(padded), torch.zeros_like(w)
    forward = grad_input = grad_weight = 0
    for n, g, ko, ci in itertools.product(range(x.shape[0]), range(groups), range(k), range(c)):
        for p, q in itertools.product(range(dy.shape[2]), range(dy.shape[3])):
            for r, s in itertools.product(range(w.shape[2]), range(w.shape[3])):
                out = (n, g * k + ko, p, q)
                pixel = (n, g * c + ci, p * sh + r * dh, q * sw + s * dw_)
                tap = (g * k + ko, ci, r, s)
                y[out] += padded[pixel] * w[tap]
                forward += 1
                dx[pixel] += dy[out] * w[tap]
                grad_input += 1
                dw[tap] += dy[out] * padded[pixel]
                grad_weight += 1
    height, width = x.shape[2:]
    return y, dx[:, :, ph : ph + height, pw : pw + width], dw, (forward, grad_input, grad_weight)


@slow_ok
@given(convolutions())
def test_the_three_phases_of_a_convolution_cost_the_macs_of_loops_that_compute_it(
    make: Any, price: Any, d: dict[str, Any]
) -> None:
    generator = torch.Generator().manual_seed(0)
    spans = [(f - 1) * a + 1 for f, a in zip(d["filter"], d["dilation"], strict=True)]
    assume(all(s + 2 * p >= span for s, p, span in zip(d["size"], d["padding"], spans, strict=True)))
    x = torch.randn(d["n"], d["groups"] * d["c"], *d["size"], generator=generator, dtype=torch.float64)
    w = torch.randn(d["groups"] * d["k"], d["c"], *d["filter"], generator=generator, dtype=torch.float64)
    attrs = _attrs(d, False)
    y = torch.ops.aten.convolution(x, w, None, *_order(attrs))
    dy = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    dx, dw, _ = torch.ops.aten.convolution_backward(dy, x, w, None, *_order(attrs), [True, True, False])
    ly, ldx, ldw, counts = _loops(x, w, dy, d)
    torch.testing.assert_close((ly, ldx, ldw), (y, dx, dw))
    rows = [
        price(make("convolution", [x, w], [y], bias=None, **attrs)),
        price(make("convolution_grad_input", [dy, w], [dx], **attrs)),
        price(make("convolution_grad_weight", [dy, x], [dw], **attrs)),
    ]
    assert tuple(row.macs for row in rows) == counts
    assert all(row.nest.macs == row.macs and row.flops == 2 * row.macs for row in rows)
    depthwise = d["groups"] > 1 and d["c"] == 1
    assert {row.kernel for row in rows} == {"depthwise" if depthwise else "convolution"}


def _order(attrs: dict[str, Any]) -> list[Any]:
    names = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
    return [list(attrs[n]) if isinstance(attrs[n], tuple) else attrs[n] for n in names]


@slow_ok
@given(convolutions())
def test_the_three_phases_of_a_transposed_convolution_cost_the_macs_of_loops_that_compute_it(
    make: Any, price: Any, d: dict[str, Any]
) -> None:
    d = {**d, "padding": (0, 0)}
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(d["n"], d["groups"] * d["c"], *d["size"], generator=generator, dtype=torch.float64)
    w = torch.randn(d["groups"] * d["c"], d["k"], *d["filter"], generator=generator, dtype=torch.float64)
    attrs = _attrs(d, True)
    y = torch.ops.aten.convolution(x, w, None, *_order(attrs))
    ly, macs = torch.zeros_like(y), 0
    for n, g, ko, ci in itertools.product(range(d["n"]), range(d["groups"]), range(d["k"]), range(d["c"])):
        for p, q in itertools.product(*map(range, d["size"])):
            for r, s in itertools.product(*map(range, d["filter"])):
                i, j = p * d["stride"][0] + r * d["dilation"][0], q * d["stride"][1] + s * d["dilation"][1]
                channel = g * d["c"] + ci
                ly[n, g * d["k"] + ko, i, j] += x[n, channel, p, q] * w[channel, ko, r, s]
                macs += 1
    torch.testing.assert_close(ly, y)
    rows = [
        price(make("convolution", [x, w], [y], bias=None, **attrs)),
        price(make("convolution_grad_input", [y, w], [x], **attrs)),
        price(make("convolution_grad_weight", [y, x], [w], **attrs)),
    ]
    assert [row.macs for row in rows] == [macs] * 3
    assert all(row.nest.macs == macs for row in rows)


@pytest.mark.parametrize("spatial", [(7,), (5, 4, 3)])
def test_convolutions_of_one_and_three_dimensions_cost_outputs_times_taps_times_channels(
    make: Any, price: Any, spatial: tuple[int, ...]
) -> None:
    x, w = torch.zeros(2, 4, *spatial), torch.zeros(6, 2, *[3] * len(spatial))
    attrs = {"stride": (1,), "padding": (0,), "dilation": (1,), "groups": 2, "transposed": False}
    y = torch.ops.aten.convolution(x, w, None, [1], [0], [1], False, [0], 2)
    row = price(make("convolution", [x, w], [y], **attrs))
    assert row.macs == row.nest.macs == y.numel() * 2 * 3 ** len(spatial)


@pytest.mark.parametrize("multiplier", [1, 2])
def test_a_depthwise_backward_is_two_times_its_forward_and_not_65_times(make: Any, price: Any, multiplier: int) -> None:
    # 32 channels in 32 groups; a counter that ignores groups makes the weight gradient 32 times too large
    x, w, y = (2, 32, 14, 14), (32 * multiplier, 1, 3, 3), (2, 32 * multiplier, 14, 14)
    attrs = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 32, "transposed": False}
    forward = price(make("convolution", [x, w], [y], **attrs))
    backward = [
        price(make("convolution_grad_input", [y, w], [x], **attrs)),
        price(make("convolution_grad_weight", [y, x], [w], **attrs)),
    ]
    assert forward.macs == 2 * 32 * multiplier * 14 * 14 * 9
    assert sum(row.macs for row in backward) == 2 * forward.macs
    assert sum(row.flops for row in backward) == 2 * forward.flops
    assert {row.kernel for row in [forward, *backward]} == {"depthwise"}


dimension = st.integers(1, 5)


@slow_ok
@given(n=dimension, p=dimension, c=dimension, k=dimension)
def test_matrix_products_cost_the_macs_of_loops_that_compute_them(
    *, make: Any, price: Any, new_counter: Any, n: int, p: int, c: int, k: int
) -> None:
    a, b = torch.randn(n, p, c, dtype=torch.float64), torch.randn(n, c, k, dtype=torch.float64)
    counter = new_counter()
    product = torch.stack([counter.matmul(a[i], b[i]) for i in range(n)])
    torch.testing.assert_close(product, torch.bmm(a, b))
    assert price(make("bmm", [a, b], [product])).macs == counter.count
    assert price(make("baddbmm", [product, a, b], [product], beta=1, alpha=1)).macs == counter.count
    assert price(make("addbmm", [product[0], a, b], [product[0]], beta=1, alpha=1)).macs == counter.count
    one = new_counter()
    one.matmul(a[0], b[0])
    calls = [
        make("mm", [a[0], b[0]], [product[0]]),
        make("addmm", [(k,), a[0], b[0]], [product[0]], beta=1, alpha=1),
        make("linear", [a[0], b[0].t(), (k,)], [product[0]]),
    ]
    for call in calls:
        row = price(call)
        assert row.macs == row.nest.macs == one.count
    vector = new_counter()
    vector.matmul(a[0], b[0][:, :1])
    assert price(make("mv", [a[0], (c,)], [(p,)])).macs == vector.count
    assert price(make("addmv", [(p,), a[0], (c,)], [(p,)], beta=1, alpha=1)).macs == vector.count
    assert price(make("dot", [(c,), (c,)], [()])).macs == c
    assert price(make("addr", [(p, k), (p,), (k,)], [(p, k)], beta=1, alpha=1)).macs == p * k


def test_a_bilinear_layer_costs_one_mac_and_one_product_at_each_point(record: Any, price: Any) -> None:
    # 3 samples, 4 x 5 inputs, 6 outputs: y[n,o] = sum of a[n,i] W[o,i,j] b[n,j], 3*6*4*5 = 360 points
    calls = record(lambda: F.bilinear(torch.randn(3, 4), torch.randn(3, 5), torch.randn(6, 4, 5)))
    row = price(next(call for call in calls if call.kind == "_trilinear"))
    assert (row.macs, row.flops) == (360, 3 * 360)


@slow_ok
@given(s=dimension, t=dimension, d=dimension, dv=dimension, heads=st.integers(1, 2))
def test_attention_costs_the_macs_of_its_products_forward_and_backward(
    *, make: Any, price: Any, new_counter: Any, s: int, t: int, d: int, dv: int, heads: int
) -> None:
    n, kind = 2, "_scaled_dot_product_flash_attention_for_cpu"
    q = torch.randn(n, heads, s, d, dtype=torch.float64, requires_grad=True)
    k = torch.randn(n, heads, t, d, dtype=torch.float64, requires_grad=True)
    v = torch.randn(n, heads, t, dv, dtype=torch.float64, requires_grad=True)
    out = F.scaled_dot_product_attention(q, k, v)
    grad = torch.randn_like(out)
    wanted = torch.autograd.grad(out, (q, k, v), grad)
    forward, backward = new_counter(), new_counter()
    for b, h in itertools.product(range(n), range(heads)):
        qi, ki, vi, gi = (m[b, h].detach() for m in (q, k, v, grad))
        p = torch.softmax(forward.matmul(qi, ki.t()) / math.sqrt(d), 1)
        torch.testing.assert_close(forward.matmul(p, vi), out[b, h].detach())
        p = torch.softmax(backward.matmul(qi, ki.t()) / math.sqrt(d), 1)
        dp = backward.matmul(gi, vi.t())
        ds = p * (dp - (dp * p).sum(1, keepdim=True)) / math.sqrt(d)
        grads = backward.matmul(ds, ki), backward.matmul(ds.t(), qi), backward.matmul(p.t(), gi)
        torch.testing.assert_close(grads, tuple(w[b, h] for w in wanted))
    attrs = {"dropout_p": 0.0, "is_causal": False, "attn_mask": None, "scale": None}
    lse = (n, heads, s)
    row = price(make(kind, [q, k, v], [out, lse], **attrs))
    assert row.macs == row.nest.macs == forward.count
    row = price(make(f"{kind}_backward", [grad, q, k, v, out, lse], [q, k, v], **attrs))
    assert row.macs == row.nest.macs == backward.count


@slow_ok
@given(s=st.integers(1, 7), t=st.integers(1, 7))
def test_a_causal_mask_leaves_the_pairs_on_and_below_the_diagonal(make: Any, price: Any, s: int, t: int) -> None:
    pairs = int(torch.ones(s, t).tril().sum())
    q, k, attrs = (1, 1, s, 2), (1, 1, t, 2), {"dropout_p": 0.0, "is_causal": True}
    row = price(make("_scaled_dot_product_flash_attention_for_cpu", [q, k, k], [q, (1, 1, s)], **attrs))
    assert row.macs == pytest.approx(pairs * (2 + 2))
    assert row.nest.macs == row.macs


@slow_ok
@given(steps=st.integers(1, 3), n=st.integers(1, 2), i=st.integers(1, 4), h=st.integers(1, 3))
def test_an_lstm_layer_costs_the_macs_of_its_products_forward_and_backward(
    *, record: Any, price: Any, new_counter: Any, steps: int, n: int, i: int, h: int
) -> None:
    torch.manual_seed(0)
    layer = torch.nn.LSTM(i, h)
    x = torch.randn(steps, n, i, requires_grad=True)
    kept: list[torch.Tensor] = []
    calls = record(lambda: kept.append(layer(x)[0]))
    calls += record(lambda: kept[0].sum().backward())
    w_ih, w_hh = layer.weight_ih_l0.detach(), layer.weight_hh_l0.detach()
    bias = layer.bias_ih_l0.detach() + layer.bias_hh_l0.detach()
    forward, backward = new_counter(), new_counter()
    state, cell = torch.zeros(n, h), torch.zeros(n, h)
    tape = []
    for time in range(steps):
        gates = forward.matmul(x[time].detach(), w_ih.t()) + forward.matmul(state, w_hh.t()) + bias
        a, f, g, o = gates.chunk(4, 1)
        a, f, g, o = a.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        tape.append((state, cell, a, f, g, o))
        cell = f * cell + a * g
        state = o * cell.tanh()
        torch.testing.assert_close(state, kept[0][time].detach())
    dw_ih, dw_hh, dh, dc = (
        torch.zeros_like(w_ih),
        torch.zeros_like(w_hh),
        torch.zeros(n, h),
        torch.zeros(n, h),
    )
    after = cell
    for time in reversed(range(steps)):
        state, cell, a, f, g, o = tape[time]
        dh = dh + 1
        dc = dc + dh * o * (1 - after.tanh() ** 2)
        slopes = (
            dc * g * a * (1 - a),
            dc * cell * f * (1 - f),
            dc * a * (1 - g * g),
            dh * after.tanh() * o * (1 - o),
        )
        gates = torch.cat(slopes, 1)
        torch.testing.assert_close(backward.matmul(gates, w_ih), x.grad[time])
        dw_ih += backward.matmul(gates.t(), x[time].detach())
        dw_hh += backward.matmul(gates.t(), state)
        dh, dc, after = backward.matmul(gates, w_hh), dc * f, cell
    torch.testing.assert_close((dw_ih, dw_hh), (layer.weight_ih_l0.grad, layer.weight_hh_l0.grad))
    rows = {call.kind: price(call) for call in calls if call.kind.startswith("mkldnn_rnn")}
    assert rows["mkldnn_rnn_layer"].macs == rows["mkldnn_rnn_layer"].nest.macs == forward.count
    assert rows["mkldnn_rnn_layer_backward"].macs == rows["mkldnn_rnn_layer_backward"].nest.macs == backward.count
