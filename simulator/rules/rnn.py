"""Recurrent layers.

An LSTM step for one sample (Hochreiter and Schmidhuber 1997; gates i, f, g, o as PyTorch has them) is two
matrix products, (4H x I) and (4H x H), and pointwise work for each of the H hidden units:

    gates 4 (x part + b_ih, h part + b_hh, sum) = 12;  sigmoid of 3 gates = 12;  tanh of g and of c = 2;
    c = f c + i g = 3;  h = o tanh(c) = 1                                            30 FLOPs a hidden unit

Backward: dh o, dh tanh c, 1 - tanh^2 c, dc += .. = 6; the four gate gradients dc i, dc g, dc c, dc f = 4
products; sigmoid' 3 x 3 and tanh' 3 = 12; tanh c again = 1; summing the two biases' gradients 4: 27 FLOPs a
hidden unit.
"""

from __future__ import annotations

from typing import Any

from simulator.rules import rule
from simulator.rules.counting import touched
from simulator.work import Call, Nest, Operand, Row

LSTM_FORWARD = 30
LSTM_BACKWARD = 27
LSTM_SIGMOID_TANH_UPDATE = 18
"""Forward without the sums of the gates: 12 + 2 + 3 + 1."""
GRU_SIGMOID_TANH_UPDATE = 13
"""Two sigmoids 8; tanh 1; r * hn 1; h = n + z (h - n) 3."""
GRU_BACKWARD = 16
"""dn, dz, dh 4; tanh' 3, sigmoid' 2 x 3; dr 1; dhn 1; sum 1."""


def _nest(call: Call, x: Operand, w_ih: Operand, w_hh: Operand, times: int) -> Nest:
    """n = time steps, p = batch, k = gate rows (4H), c = summed depth (I + H) times the number of passes."""
    steps, batch = (1, 0) if call.attrs.get("batch_first") else (0, 1)
    return Nest(n=x.shape[steps], p=x.shape[batch], k=w_ih.shape[0], c=times * (w_ih.shape[1] + w_hh.shape[1]))


def _row(call: Call, times: int, per_unit: int) -> Row:
    x, w_ih, w_hh = call.inputs[:3]
    nest = _nest(call, x, w_ih, w_hh, times)
    units: Any = x.shape[0] * x.shape[1] * w_hh.shape[1]
    return Row("rnn", 2 * nest.macs + per_unit * units, touched(call.inputs), touched(call.written), nest.macs, nest)


@rule("mkldnn_rnn_layer")
def lstm_layer(call: Call) -> Row:
    """One direction of one LSTM layer over all T steps: MACs = T N 4H (I + H).

    Weights are read once (they stay in cache).
    """
    return _row(call, 1, LSTM_FORWARD)


@rule("mkldnn_rnn_layer_backward")
def lstm_layer_backward(call: Call) -> Row:
    """The gradients of inputs and of weights: MACs = 2 T N 4H (I + H), twice the depth in the nest."""
    return _row(call, 2, LSTM_BACKWARD)


def _gate_sums(call: Call, gates: int) -> int:
    """Return the FLOPs a hidden unit of adding the two parts of each gate and the biases, if any."""
    biases = len(call.inputs) - 3
    return gates * (1 + biases)


@rule("_thnn_fused_lstm_cell")
def lstm_cell(call: Call) -> Row:
    """The pointwise part of one LSTM step: 18 FLOPs a hidden unit, + 4 x (1 + number of biases)."""
    units = call.inputs[2].numel
    flops = (LSTM_SIGMOID_TANH_UPDATE + _gate_sums(call, 4)) * units
    return Row("elementwise", flops, touched(call.inputs), touched(call.written))


@rule("_thnn_fused_lstm_cell_backward_impl", "_thnn_fused_lstm_cell_backward")
def lstm_cell_backward(call: Call) -> Row:
    """27 FLOPs a hidden unit; a gate row of the result is 4 hidden units."""
    units = call.outputs[0].numel // 4
    return Row("elementwise", LSTM_BACKWARD * units, touched(call.inputs), touched(call.written))


@rule("_thnn_fused_gru_cell")
def gru_cell(call: Call) -> Row:
    """The pointwise part of one GRU step (Cho et al.

    2014): 13 FLOPs a hidden unit, + 3 x (1 + number of biases).
    """
    units = call.inputs[2].numel
    flops = (GRU_SIGMOID_TANH_UPDATE + _gate_sums(call, 3)) * units
    return Row("elementwise", flops, touched(call.inputs), touched(call.written))


@rule("_thnn_fused_gru_cell_backward")
def gru_cell_backward(call: Call) -> Row:
    """16 FLOPs a hidden unit."""
    return Row("elementwise", GRU_BACKWARD * call.inputs[0].numel, touched(call.inputs), touched(call.written))
