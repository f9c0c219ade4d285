"""Workspace of PyTorch's x86 kernels: bytes by hand for every family of kernels, and what holds for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hwmodels.device import device
from hwmodels.libraries.onednn import convolution as footprints
from hwmodels.libraries.onednn import workspace_bytes
from hwmodels.libraries.onednn.choice import forward_kernel, grad_input_kernel, grad_weight_kernel
from hwmodels.libraries.onednn.geometry import Convolution, Machine, convolution
from simulator.errors import TrainwattError
from simulator.graph import ITEM_BYTES, Graph, Layout, Op, Storage, Tensor

ROOFLINES = Path(__file__).parent / "data"

Shape = tuple[int, ...]


class Step:
    """Collects ops over tensors that each have a storage of their own."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.tensors: list[Tensor] = []

    def tensor(self, shape: Shape, stride: Shape | None = None, dtype: str = "float32") -> int:
        dense = tuple(prod(shape[i + 1 :]) for i in range(len(shape)))
        self.tensors.append(Tensor(Layout(shape, stride or dense, dtype), len(self.tensors)))
        return len(self.tensors) - 1

    def op(
        self,
        kind: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        attrs: dict[str, Any] | None = None,
        forward: int | None = None,
    ) -> int:
        phase = "forward" if forward is None else "backward"
        self.ops.append(
            Op(f"aten::{kind}", kind, phase, "", tuple(inputs), tuple(outputs), attrs=attrs or {}, forward=forward)
        )
        return len(self.ops) - 1

    def workspace(self, vector_bytes: int = 64, threads: int = 1) -> list[int]:
        last = len(self.ops) - 1
        storages = tuple(Storage(ITEM_BYTES[t.dtype] * prod(t.shape), "activation", -1, last) for t in self.tensors)
        graph = Graph(tuple(self.ops), tuple(self.tensors), storages, {"batch": 1})
        return workspace_bytes(graph, vector_bytes=vector_bytes, threads=threads).tolist()


def channels_last(shape: Shape) -> Shape:
    _, c, h, w = shape
    return (h * w * c, 1, w * c, c)


def convolve(
    x: Shape,
    weight: Shape,
    y: Shape,
    *,
    bias: bool = False,
    parts: Sequence[str] = ("input", "weight", "bias"),
    layout: Any = lambda shape: None,
    dtype: str = "float32",
    **attrs: Any,
) -> Step:
    """A convolution and the parts of its backward; workspace comes as forward, then the parts in that order."""
    step = Step()
    every = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1, "transposed": False, **attrs}
    images, weights, result, gradient = (step.tensor(s, layout(s), dtype) for s in (x, weight, y, y))
    channels = (weight[1] * every["groups"] if every["transposed"] else weight[0],)
    biases = [step.tensor(channels, dtype=dtype)] if bias else []
    forward = step.op("convolution", [images, weights, *biases], [result], every)
    operands = {"input": [gradient, weights], "weight": [gradient, images], "bias": [gradient]}
    results = {"input": x, "weight": weight, "bias": channels}
    for part in parts:
        shape = results[part]
        made = step.tensor(shape, layout(shape) if len(shape) == 4 else None, dtype)
        step.op(f"convolution_grad_{part}", operands[part], [made], every, forward)
    return step


# x = 4*4*16*64 = 16384, w = 4*32*16*9 = 18432, y = 4*4*32*64 = 32768 bytes
DIRECT = {"x": (4, 16, 8, 8), "weight": (32, 16, 3, 3), "y": (4, 32, 8, 8), "padding": (1, 1)}


def test_a_direct_convolution_holds_blocked_copies_of_its_operands_and_of_its_result() -> None:
    forward, grad_input, grad_weight, grad_bias = convolve(**DIRECT).workspace()
    # while computing x + w + y, before the plain y exists: x + w beside it; at the end the blocked y
    assert forward == max(16384 + 18432, 32768) == 34816
    assert grad_input == max(32768 + 18432, 16384)
    assert grad_weight == max(32768 + 16384, 18432) + 128  # and a buffer for the gradient of 32 biases
    assert grad_bias == 18432 + 128  # the blocked weight gradient and that buffer are left


def test_half_precision_halves_the_blocked_copies() -> None:
    assert convolve(**DIRECT, dtype="bfloat16").workspace()[0] == 34816 // 2


def test_channels_are_padded_to_a_vector() -> None:
    # LeNet's first layer: 6 output channels become 16 of AVX-512 (8 of AVX2); one input channel needs no copy.
    # Blocked y: 4*2*16*784 = 100352; the plain y has 37632.
    step = convolve((2, 1, 28, 28), (6, 1, 5, 5), (2, 6, 28, 28), bias=True, padding=(2, 2), parts=())
    assert step.workspace(vector_bytes=64) == [100352]
    assert step.workspace(vector_bytes=32) == [50176]


def test_a_single_small_image_takes_pytorchs_own_kernel_which_unfolds_it() -> None:
    # im2col: 4 bytes * 8 channels * 9 taps * 64 positions = 18432, in forward and weight gradient (and 8 biases)
    step = convolve((1, 8, 8, 8), (8, 8, 3, 3), (1, 8, 8, 8), padding=(1, 1))
    assert step.workspace() == [18432, 0, 18432 + 32, 18432]


def test_a_pointwise_convolution_of_a_small_batch_needs_nothing_on_one_thread_and_blocked_copies_on_two() -> None:
    # x = 4*2*64*16 = 8192, w = 4*16*64 = 4096, y = 2048
    step = convolve((2, 64, 4, 4), (16, 64, 1, 1), (2, 16, 4, 4), parts=())
    assert step.workspace(threads=1) == [0]
    assert step.workspace(threads=2) == [8192 + 4096]


def test_a_depthwise_convolution_copies_images_and_weights() -> None:
    # x = y = 4*2*32*64 = 16384, w = 4*32*9 = 1152
    step = convolve((2, 32, 8, 8), (32, 1, 3, 3), (2, 32, 8, 8), groups=32, padding=(1, 1))
    assert step.workspace() == [16384 + 1152, 16384 + 1152, 2 * 16384 + 128, 1152 + 128]


def test_a_grouped_convolution_copies_images_and_weights() -> None:
    # 16 channels a group: x = y = 16384, w = 4*32*16*9 = 18432
    step = convolve((2, 32, 8, 8), (32, 16, 3, 3), (2, 32, 8, 8), groups=2, padding=(1, 1), parts=())
    assert step.workspace() == [16384 + 18432]


def test_the_input_gradient_of_a_strided_convolution_goes_through_channels_last_copies() -> None:
    # dy = 4*2*16*16 = 2048, w = 4*16*16*9 = 9216, x = 8192. Scratch: 3 pages, 24 bytes, 2 pages, and one image of
    # dy with the row and column that the filter reaches beyond: 5*5*16*4 = 1600, rounded up to 4 pages.
    step = convolve((2, 16, 8, 8), (16, 16, 3, 3), (2, 16, 4, 4), stride=(2, 2), padding=(1, 1), parts=("input",))
    assert step.workspace()[1] == 2048 + 9216 + (3 * 4096 + 24 + 2 * 4096 + 16384)


def test_a_strided_input_gradient_of_large_images_holds_its_result_twice_more() -> None:
    # x = 4*32*16*32*32 = 2097152, dy half of a half
    step = convolve((32, 16, 32, 32), (16, 16, 3, 3), (32, 16, 16, 16), stride=(2, 2), padding=(1, 1), parts=("input",))
    assert step.workspace()[1] == 2 * 2097152


def test_a_filter_larger_than_the_image_makes_avx2_unfold_and_sum_into_four_copies_of_the_weights() -> None:
    # 512 to 512 channels, 3x3 on 2x2 images, two threads. im2col 4*512*9*4 = 73728 and 4 w = 4*9437184, both for each
    # thread, and 128 bytes of alignment twice: measured to the byte.
    step = convolve((2, 512, 2, 2), (512, 512, 3, 3), (2, 512, 2, 2), padding=(1, 1), parts=("weight",))
    assert step.workspace(vector_bytes=32, threads=2)[1] == 2 * (73728 + 37748736) + 256 == 75645184


def test_avx512_computes_a_filter_larger_than_the_image_directly() -> None:
    # dy + x: 2 * 4*2*512*4; beside them the blocked weights, which are larger
    step = convolve((2, 512, 2, 2), (512, 512, 3, 3), (2, 512, 2, 2), padding=(1, 1), parts=("weight",))
    assert step.workspace()[1] == 9437184


def test_a_weight_gradient_of_more_than_two_gib_an_operand_takes_less_workspace() -> None:
    # 512 images of 64 x 128 x 128 floats are 2^31 bytes, one more than a direct kernel can address.
    # im2col 4*64*9*16384 = 37748736, 4 w = 4*36864, alignment 256
    step = convolve((512, 64, 128, 128), (16, 64, 3, 3), (512, 16, 128, 128), padding=(1, 1), parts=("weight",))
    assert step.workspace()[1] == 37748736 + 4 * 36864 + 256


def test_a_bias_gradient_alone_computes_the_weight_gradient_too() -> None:
    # dy + x + dw
    step = convolve(**DIRECT, parts=("bias",))
    assert step.workspace()[1] == 32768 + 16384 + 18432


def test_channels_last_images_are_used_in_place_and_weights_are_repacked() -> None:
    # w + two pages + 24 bytes
    step = convolve(**DIRECT, layout=channels_last, parts=())
    assert step.workspace() == [18432 + 2 * 4096 + 24]


def test_a_depthwise_filter_larger_than_a_channels_last_image_sums_into_whole_blocks_of_each_group() -> None:
    # 16 x 16 floats for each of 960 groups and 9 taps, and a plain copy of w = 4*960*9 = 34560: measured to the byte
    x = (4, 960, 2, 2)
    step = convolve(x, (960, 1, 3, 3), x, groups=960, padding=(1, 1), layout=channels_last, parts=("weight",))
    assert step.workspace()[1] == 4 * 960 * 9 * 256 + 34560 == 8847360 + 34560


def test_an_operand_in_another_layout_is_copied_for_the_whole_op() -> None:
    step = convolve(**DIRECT, parts=())
    spread = step.tensor((4, 16, 8, 8), (2048, 128, 16, 2))
    step.op("convolution", [spread, 1], [2], dict(step.ops[0].attrs))
    assert step.workspace() == [34816, 34816 + 16384]


def test_a_transposed_convolution_runs_as_the_input_gradient_of_the_convolution_it_transposes() -> None:
    # y = 4*8*32*784 = 802816, twice more for the conversion; measured to the byte. Its own input gradient is the
    # forward of that convolution: y and w = 131072 blocked, beside x = 401408.
    step = convolve(
        (8, 64, 14, 14),
        (64, 32, 4, 4),
        (8, 32, 28, 28),
        stride=(2, 2),
        padding=(1, 1),
        transposed=True,
        parts=("input",),
    )
    assert step.workspace() == [2 * 802816, 802816 + 131072]


def test_a_convolution_in_one_dimension_is_one_of_images_of_height_one() -> None:
    # x = 4*8*32*500 = 512000, w = 4*64*32*3 = 24576, y = 1024000: the blocked y is the largest
    step = convolve(
        (8, 32, 500), (64, 32, 3), (8, 64, 500), stride=(1,), padding=(1,), dilation=(1,), parts=("weight",)
    )
    assert step.workspace() == [1024000, 512000 + 1024000]


def test_double_precision_never_takes_onednn() -> None:
    # im2col of the whole batch: 8 bytes * 4 images * 16 channels * 9 taps * 64 positions
    assert convolve(**DIRECT, dtype="float64", parts=()).workspace() == [8 * 4 * 16 * 9 * 64]


def one_op(kind: str, inputs: Sequence[Any], outputs: Sequence[Shape], **attrs: Any) -> int:
    """The workspace of one op; an input is a shape, or a shape with strides."""
    step = Step()
    tensors = [step.tensor(*shape) if isinstance(shape[0], tuple) else step.tensor(shape) for shape in inputs]
    step.op(kind, tensors, [step.tensor(shape) for shape in outputs], attrs)
    return step.workspace()[0]


def test_batch_norm_holds_two_vectors_forward_and_another_gradient_backward() -> None:
    x, c = (4, 32, 7, 7), (32,)
    assert one_op("native_batch_norm", [x, c, c, c, c], [x, c, c]) == 2 * 32 * 4
    assert one_op("native_batch_norm_backward", [x, x, c, c, c, c, c], [x, c, c]) == 4 * 4 * 32 * 49


def test_layer_norm_backward_holds_the_sums_of_a_thread() -> None:
    x, d = (4, 197, 192), (192,)
    assert one_op("native_layer_norm_backward", [x, x, d, d], [x, d, d], normalized_shape=d) == 2 * 192 * 4


def test_attention_holds_a_block_of_scores() -> None:
    q, rows = (2, 3, 197, 64), (2, 3, 197)
    kind = "_scaled_dot_product_flash_attention_for_cpu"
    # 64 queries at once: 197 scores, two statistics and 64 results each
    assert one_op(kind, [q, q, q], [q, rows]) == 4 * 64 * (197 + 2 + 64)
    # two blocks of scores and a sum; the gradient is copied where heads do not lie beside their features
    beside = (q, (197 * 192, 64, 192, 1))
    backward = 4 * (2 * 64 * 197 + 64)
    assert one_op(kind + "_backward", [beside, q, q, q, beside, rows], [q, q, q]) == backward
    assert one_op(kind + "_backward", [q, q, q, q, beside, rows], [q, q, q]) == backward + 4 * 2 * 3 * 197 * 64


def test_upsampling_holds_indices_and_weights_and_downsampling_copies() -> None:
    small, large = (2, 16, 8, 8), (2, 16, 16, 16)
    # an int64 index and a float weight for 2 taps of 16 rows and 16 columns
    assert one_op("upsample_bilinear2d", [small], [large]) == 2 * 12 * 32
    assert one_op("upsample_bilinear2d", [large], [small]) == 4 * 2 * 16 * (256 + 64)
    assert one_op("upsample_bilinear2d", [(small, channels_last(small))], [large]) == 0


def test_an_lstm_holds_repacked_weights_and_the_gates_of_all_steps() -> None:
    # 4 steps, batch 2, 16 inputs, 16 units: rows of 64 and 16 floats. Biases 256, weights 4*(16+16)*64 = 8192,
    # scratch 568 + gates 2048 in a page + 2 pages of states + 1 page. What it keeps fills whole pages: 2 of gates and
    # cell outputs, 5 of states; the graph counts 6784 bytes of them.
    x, w, b, h = (4, 2, 16), (64, 16), (64,), (2, 16)
    inside = 256 + 8192 + 568 + 4096 + 2 * 4096 + 4096
    kept = 7 * 4096
    assert one_op("mkldnn_rnn_layer", [x, w, w, b, b, h, h], [x, h, h, (kept // 4,)]) == inside
    assert one_op("mkldnn_rnn_layer", [x, w, w, b, b, h, h], [x, h, h, (6784 // 4,)]) == inside + kept - 6784


def test_an_op_without_kernels_of_its_own_needs_nothing() -> None:
    assert one_op("relu", [(4, 4)], [(4, 4)]) == 0


def test_more_threads_sum_weight_gradients_of_their_own() -> None:
    step = convolve((16, 16, 32, 32), (16, 16, 3, 3), (16, 16, 32, 32), padding=(1, 1), parts=("weight",))
    one, two = (step.workspace(threads=n)[1] for n in (1, 2))
    assert two - one == 4 * 16 * 16 * 9 + 4 * 16 + 2 * 4096 + 128  # one more gradient and bias, two pages, alignment


PARTS = {
    "forward": (footprints.forward, forward_kernel, "y_bytes"),
    "grad_input": (footprints.grad_input, grad_input_kernel, "x_bytes"),
    "grad_weight": (footprints.grad_weight, grad_weight_kernel, "weight_bytes"),
}


@st.composite
def convolutions(draw: st.DrawFn, batch: int) -> Convolution:
    groups = draw(st.sampled_from([1, 1, 1, 2, 4, 16]))
    c, k = (groups * draw(st.integers(1, 40)) for _ in range(2))
    size, taps = draw(st.integers(1, 40)), draw(st.integers(1, 7))
    stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    padding = draw(st.integers(0, taps))
    assume(size + 2 * padding >= dilation * (taps - 1) + 1)
    return convolution(
        (batch, c, size, size),
        (k, c // groups, taps, taps),
        (stride, stride),
        (padding, padding),
        (dilation, dilation),
        groups,
        draw(st.sampled_from([2, 4, 8])),
        draw(st.booleans()),
    )


@given(st.data(), st.sampled_from([8, 16]), st.integers(1, 8), st.sampled_from(list(PARTS)), st.integers(1, 64))
def test_workspace_is_never_negative(data: Any, lanes: int, threads: int, part: str, batch: int) -> None:
    footprint, _, result = PARTS[part]
    conv = data.draw(convolutions(batch))
    held = footprint(conv, Machine(lanes, threads))
    assert min(held) >= 0
    assert held.beside(getattr(conv, result)) >= 0


@given(st.data(), st.sampled_from([8, 16]), st.sampled_from(list(PARTS)), st.integers(16, 64), st.integers(1, 64))
def test_workspace_never_shrinks_with_the_batch_while_the_kernel_stays(
    data: Any, lanes: int, part: str, batch: int, more: int
) -> None:
    footprint, kernel, result = PARTS[part]
    conv, machine = data.draw(convolutions(batch)), Machine(lanes, 1)
    larger = convolution(
        (batch + more, conv.c, conv.h, conv.w),
        (conv.k, conv.c_group, conv.r, conv.s),
        (conv.stride_h, conv.stride_w),
        (conv.pad_h, conv.pad_w),
        (conv.dilation_h, conv.dilation_w),
        conv.groups,
        conv.item_bytes,
        conv.channels_last,
    )
    assume(kernel(conv, machine) == kernel(larger, machine))
    before, after = (footprint(c, machine).beside(getattr(c, result)) for c in (conv, larger))
    assert after >= before


def test_ops_that_look_alike_have_the_same_workspace_and_the_column_has_one_number_an_op() -> None:
    step = convolve(**DIRECT, parts=())
    step.ops.append(step.ops[0])
    step.op("relu", [0], [0])
    assert step.workspace() == [34816, 34816, 0]


def test_an_unknown_vector_width_is_refused() -> None:
    with pytest.raises(TrainwattError, match=r"vectors of 16 bytes; they have 32 \(AVX2\) or 64 \(AVX-512\)"):
        convolve(**DIRECT).workspace(vector_bytes=16)


def edited(tmp_path: Path, name: str, library: str, more: str = "") -> Path:
    text = (ROOFLINES / f"{name}.toml").read_text(encoding="utf-8")
    path = tmp_path / f"{name}.toml"
    path.write_text(text.replace('kernel_library = "none"', f'kernel_library = "{library}"') + more, encoding="utf-8")
    return path


KERNELS = '\n[kernels]\nvector_bits = { value = 256, kind = "assumed", source = "a test" }\n'


def test_a_device_file_selects_the_kernel_library_and_its_cores_are_the_threads(tmp_path: Path) -> None:
    model = device(edited(tmp_path, "raspberry-pi-4b", "onednn", KERNELS))
    step = convolve((2, 512, 2, 2), (512, 512, 3, 3), (2, 512, 2, 2), padding=(1, 1), parts=("weight",))
    storages = tuple(Storage(0, "activation", -1, 1) for _ in step.tensors)
    graph = Graph(tuple(step.ops), tuple(step.tensors), storages, {"batch": 1})
    assert model.workspace_bytes(graph).tolist() == step.workspace(vector_bytes=32, threads=4)
    assert not np.any(device("raspberry-pi-4b").workspace_bytes(graph))
    assert any(line.startswith("kernel workspace is that of PyTorch") for line in model.assumptions)


@pytest.mark.parametrize(
    ("name", "library", "more", "message"),
    [
        ("raspberry-pi-4b", "onednn", "", r"no table \[kernels\]"),
        ("raspberry-pi-4b", "none", KERNELS, "kernels of kernel_library 'none'; leave out"),
        ("jetson-nano-roofline", "onednn", KERNELS, "kernel_library 'onednn' of a gpu; it is that of an x86 cpu"),
        ("raspberry-pi-4b", "onednn", KERNELS.replace("256", "128"), "vectors of 16 bytes; they have"),
    ],
)
def test_a_device_file_that_says_too_little_or_too_much_of_its_kernels_is_refused(
    tmp_path: Path, name: str, library: str, more: str, message: str
) -> None:
    with pytest.raises(TrainwattError, match=message):
        device(edited(tmp_path, name, library, more))
