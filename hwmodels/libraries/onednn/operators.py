"""What ops other than convolutions allocate beside their results.

Matrix products in float32, pooling, softmax, losses, activations, dropout and all optimizers allocate nothing that the
graph does not show (measured), and so have no function here.
"""

from __future__ import annotations

from math import prod

from hwmodels.libraries.onednn.call import Call, is_contiguous
from hwmodels.libraries.onednn.geometry import Machine

_FLOAT = 4
_INDEX_AND_WEIGHT = 12
_TAPS = {"upsample_nearest2d": 1, "upsample_bilinear2d": 2, "upsample_bicubic2d": 4}


def batch_norm(call: Call, machine: Machine) -> int:
    """Two vectors of a float a channel: the scale and shift that the kernel applies."""
    return 2 * int(call.inputs[0].shape[1]) * _FLOAT


def batch_norm_backward(call: Call, machine: Machine) -> int:
    """A second tensor of the size of the input gradient, in any layout and mode."""
    return int(call.inputs[1].bytes)


def layer_norm_backward(call: Call, machine: Machine) -> int:
    """Each thread's sums of the gradients of scale and shift."""
    return 2 * int(prod(call.attrs["normalized_shape"])) * _FLOAT * machine.threads


def upsample(call: Call, machine: Machine) -> int:
    """An index and a weight for every tap of every output row and column.

    Where the image does not grow, the kernel runs on channels-last copies of input and result instead; on
    channels-last tensors, with one or two taps, it needs nothing.
    """
    x, y, taps = call.inputs[0], call.outputs[0], _TAPS[call.kind]
    if taps < 4 and x.channels_last:
        return 0
    if taps < 4 and sum(y.shape[2:]) <= sum(x.shape[2:]):
        return int(x.bytes + y.bytes)
    return taps * _INDEX_AND_WEIGHT * int(sum(y.shape[2:]))


# -- attention ---------------------------------------------------------------------------------------------------------


def _tiles(call: Call, query: int, key: int) -> tuple[int, int]:
    """Rows and columns of the block of scores that a thread works on."""
    queries, keys = int(call.inputs[query].shape[2]), int(call.inputs[key].shape[2])
    rows = 256 if queries >= 768 else 64 if queries >= 192 else 32
    return min(rows, queries), min(512, keys)


def attention(call: Call, machine: Machine) -> int:
    """Per thread a block of scores, two statistics of each of its rows, and the rows' results."""
    rows, columns = _tiles(call, 0, 1)
    return machine.threads * _FLOAT * rows * (columns + 2 + int(call.inputs[0].shape[3]))


def attention_backward(call: Call, machine: Machine) -> int:
    """Per thread two blocks of scores and a sum of each row; a copy of the output's gradient unless heads lie last."""
    rows, columns = _tiles(call, 1, 2)
    gradient = call.inputs[0]
    copy = 0 if is_contiguous(gradient, (0, 2, 1, 3)) else int(gradient.bytes)
    return machine.threads * _FLOAT * (2 * rows * columns + rows) + copy


# -- LSTM (one op for each layer and direction) ------------------------------------------------------------------------


def _padded(floats: int) -> int:
    """Return a row's length in oneDNN: a multiple of 16 floats, and 16 more where rows would alias in cache."""
    rounded = -(-floats // 16) * 16
    return rounded + 16 if rounded % 256 == 0 else rounded


def _pages(size: int) -> int:
    return -(-size // 4096) * 4096


def _lstm_sizes(call: Call) -> tuple[int, int, int, int]:
    """Return steps, batch, inputs and hidden units."""
    steps, batch, inputs = map(int, call.inputs[0].shape)
    return steps, batch, inputs, int(call.inputs[2].shape[1])


def lstm_kept_bytes(steps: int, batch: int, inputs: int, hidden: int) -> int:
    """Return the bytes that an LSTM layer keeps for its backward pass, every array rounded up to whole pages.

    Gates (steps, batch, 4*hidden), cell outputs (steps, batch, hidden), three state arrays
    (2, steps+1, batch, max(inputs, hidden)) and two cell-state arrays (2, steps+1, batch, hidden), rows padded.
    """
    gates = _pages(_FLOAT * steps * batch * _padded(4 * hidden)) + _pages(_FLOAT * steps * batch * _padded(hidden))
    states = _FLOAT * 2 * (steps + 1) * batch
    return gates + 3 * _pages(states * _padded(max(inputs, hidden))) + 2 * _pages(states * hidden)


def _lstm_scratch(steps: int, batch: int, hidden: int) -> int:
    gates = _pages(_FLOAT * steps * batch * _padded(4 * hidden))
    return 568 + gates + 2 * _pages(_FLOAT * batch * _padded(hidden)) + 4096


def _lstm_weights(inputs: int, hidden: int) -> int:
    """Bytes of the weights as (inputs, 4*hidden), rows padded."""
    return _FLOAT * (inputs + hidden) * _padded(4 * hidden)


def _lstm_page_rounding(call: Call, kept: int) -> int:
    """Bytes by which the graph, whose sizes are proportional to the batch, understates what the layer keeps."""
    return max(0, lstm_kept_bytes(*_lstm_sizes(call)) - kept) if kept else 0


def lstm(call: Call, machine: Machine) -> int:
    """The sum of both biases, repacked weights, and gates: of all steps at once where the batch is small."""
    steps, batch, inputs, hidden = _lstm_sizes(call)
    scratch = _lstm_scratch(steps if batch < 128 else 1, batch, hidden)
    kept = int(call.outputs[3].bytes) if len(call.outputs) > 3 else 0
    bias = 4 * hidden * _FLOAT
    return bias + _lstm_weights(inputs, hidden) + scratch + _lstm_page_rounding(call, kept)


def lstm_backward(call: Call, machine: Machine) -> int:
    """Repacked weights and weight gradients, biases, the gates of all steps, and zeros for gradients not given.

    The gradient of the output is copied where it is not contiguous.
    """
    steps, batch, inputs, hidden = _lstm_sizes(call)
    size = _lstm_scratch(steps, batch, hidden) + _lstm_weights(inputs, hidden) + 4 * hidden * _FLOAT
    size += sum(4 * hidden * _FLOAT * _padded(n) for n in (inputs, hidden) if _padded(n) != n)
    absent = [name for name in ("grad_hy", "grad_cy") if name in call.attrs]
    size += len(absent) * _FLOAT * batch * hidden
    if "grad_output" not in call.attrs and not is_contiguous(call.inputs[10]):
        size += int(call.inputs[10].bytes)
    return size + _lstm_page_rounding(call, int(call.inputs[-1].bytes))
