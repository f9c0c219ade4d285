"""Numbers worked out on paper, one family after another. 4 bytes a float32, 8 an int64, 1 a bool."""

from __future__ import annotations

from typing import Any

import pytest

from simulator.work import Operand


def test_a_convolution_moves_its_image_filters_bias_and_result_once(make: Any, price: Any) -> None:
    # ResNet-50 stem at batch 2: 2*64*112*112 outputs of 3*7*7 taps = 236,027,904 MACs
    x, w, y = (2, 3, 224, 224), (64, 3, 7, 7), (2, 64, 112, 112)
    attrs = {"stride": (2, 2), "padding": (3, 3), "dilation": (1, 1), "groups": 1, "transposed": False}
    row = price(make("convolution", [x, w, (64,)], [y], **attrs))
    assert row.macs == 236_027_904
    assert row.flops == 2 * 236_027_904 + 2 * 64 * 112 * 112
    assert row.read_bytes == 4 * (2 * 3 * 224 * 224 + 64 * 3 * 49 + 64)
    assert row.written_bytes == 4 * 2 * 64 * 112 * 112
    assert (row.nest.n, row.nest.g, row.nest.k, row.nest.c) == (2, 1, 64, 3)
    assert (row.nest.p, row.nest.q, row.nest.r, row.nest.s) == (112, 112, 7, 7)
    assert (row.nest.stride_h, row.nest.stride_w, row.nest.dilation_h, row.nest.dilation_w) == (2, 2, 1, 1)


def test_a_convolution_of_one_channel_in_one_group_is_not_depthwise(make: Any, price: Any) -> None:
    # LeNet's first layer
    attrs = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1, "transposed": False}
    row = price(make("convolution", [(8, 1, 28, 28), (6, 1, 5, 5)], [(8, 6, 24, 24)], **attrs))
    assert row.kernel == "convolution"


def test_a_bias_gradient_adds_every_element_of_the_output_gradient(make: Any, price: Any) -> None:
    row = price(make("convolution_grad_bias", [(2, 6, 4, 4)], [(6,)]))
    assert (row.flops, row.macs, row.read_bytes, row.written_bytes) == (192, 0, 768, 24)


def test_a_linear_layer_reads_an_expanded_bias_once_and_adds_it(make: Any, price: Any) -> None:
    # addmm(bias (5) expanded to 4 x 5, 4 x 3, 3 x 5): 60 MACs, 20 adds; reads 5 + 12 + 15 floats
    bias = Operand((4, 5), (0, 1), "float32")
    row = price(make("addmm", [bias, (4, 3), (3, 5)], [(4, 5)], beta=1, alpha=1))
    assert (row.macs, row.flops, row.read_bytes, row.written_bytes) == (60, 140, 128, 80)


def test_beta_zero_leaves_the_added_operand_unread(make: Any, price: Any) -> None:
    # 2 products of 3x4 by 4x5: 120 MACs; alpha scales 30 results; reads 24 + 40 floats
    row = price(make("baddbmm", [(2, 3, 5), (2, 3, 4), (2, 4, 5)], [(2, 3, 5)], beta=0, alpha=0.125))
    assert (row.macs, row.flops, row.read_bytes) == (120, 270, 256)


def test_attention_keeps_its_scores_out_of_memory(make: Any, price: Any) -> None:
    # batch 1, 2 heads, S = T = 10, D = 4: 2*10*10*8 = 1600 MACs; 5 FLOPs for 200 scores, 1 for 80 outputs
    q, attrs = (1, 2, 10, 4), {"is_causal": False}
    row = price(make("_scaled_dot_product_flash_attention_for_cpu", [q, q, q], [q, (1, 2, 10)], **attrs))
    assert (row.macs, row.flops) == (1600, 3200 + 5 * 200 + 80)
    assert (row.read_bytes, row.written_bytes) == (4 * 240, 4 * (80 + 20))
    # backward: depth 3*4 + 2*4 = 20: 4000 MACs; 6 a score, 2 an output; dO, Q, K, V, O, row sums; dQ, dK, dV
    row = price(make("_scaled_dot_product_flash_attention_for_cpu_backward", [q] * 5 + [(1, 2, 10)], [q] * 3, **attrs))
    assert (row.macs, row.flops) == (4000, 8000 + 6 * 200 + 2 * 80)
    assert (row.read_bytes, row.written_bytes) == (4 * (5 * 80 + 20), 4 * 240)


def test_a_mask_adds_one_flop_a_score(make: Any, price: Any) -> None:
    q, attrs = (1, 2, 10, 4), {"is_causal": False}
    kind = "_scaled_dot_product_flash_attention_for_cpu"
    plain = price(make(kind, [q, q, q], [q, (1, 2, 10)], **attrs))
    masked = price(make(kind, [q, q, q, (10, 10)], [q, (1, 2, 10)], **attrs))
    assert masked.flops - plain.flops == 200
    assert masked.read_bytes - plain.read_bytes == 400


@pytest.mark.parametrize(("training", "passes", "flops"), [(True, 2, 6), (False, 1, 2)])
def test_batch_norm_passes_twice_over_its_input_in_training(
    make: Any, price: Any, training: bool, passes: int, flops: int
) -> None:
    # x of 2*3*4*4 = 96 elements; weight, bias, running mean and variance of 3 each; writes y, mean, invstd
    x, also = (2, 3, 4, 4), [(3,), (3,)] if training else []
    row = price(make("native_batch_norm", [x] + [(3,)] * 4, [x, (3,), (3,)], also, training=training))
    assert row.flops == flops * 96
    assert row.read_bytes == 4 * (passes * 96 + 12)
    assert row.written_bytes == 4 * (96 + 6 + (6 if training else 0))


@pytest.mark.parametrize(("train", "passes", "flops"), [(True, 2, 9), (False, 1, 5)])
def test_batch_norm_backward_passes_twice_over_input_and_gradient_in_training(
    make: Any, price: Any, train: bool, passes: int, flops: int
) -> None:
    # dy and x of 96 elements, five vectors of 3
    x, attrs = (2, 3, 4, 4), {"train": train, "output_mask": (True, True, True)}
    row = price(make("native_batch_norm_backward", [x, x] + [(3,)] * 5, [x, (3,), (3,)], **attrs))
    assert row.flops == flops * 96
    assert row.read_bytes == 4 * (passes * 2 * 96 + 15)
    assert row.written_bytes == 4 * (96 + 6)


def test_batch_norm_backward_without_an_input_gradient_only_sums(make: Any, price: Any) -> None:
    x, attrs = (2, 3, 4, 4), {"train": True, "output_mask": (False, True, True)}
    row = price(make("native_batch_norm_backward", [x, x] + [(3,)] * 5, [(3,), (3,)], **attrs))
    assert (row.flops, row.read_bytes, row.written_bytes) == (4 * 96, 4 * (2 * 96 + 15), 24)


def test_layer_norm_reads_its_rows_once(make: Any, price: Any) -> None:
    # 5 rows of 8; weight and bias of 8; mean and rstd of 5
    row = price(make("native_layer_norm", [(5, 8), (8,), (8,)], [(5, 8), (5, 1), (5, 1)]))
    assert (row.flops, row.read_bytes, row.written_bytes) == (8 * 40, 4 * 56, 4 * 50)


def test_max_pooling_writes_an_index_of_8_bytes_with_each_maximum(make: Any, price: Any) -> None:
    # 2x2 windows over 1x1x4x4: 4 outputs of 4 compares; backward reads 4 floats, 4 indices, writes 16
    attrs = {"kernel_size": (2, 2)}
    x, y, at = (1, 1, 4, 4), (1, 1, 2, 2), ((1, 1, 2, 2), "int64")
    row = price(make("max_pool2d_with_indices", [x], [y, at], **attrs))
    assert (row.flops, row.read_bytes, row.written_bytes) == (16, 64, 16 + 32)
    row = price(make("max_pool2d_with_indices_backward", [y, x, at], [x], **attrs))
    assert (row.flops, row.read_bytes, row.written_bytes) == (4, 16 + 32, 64)


def test_average_pooling_divides_once_a_window(make: Any, price: Any) -> None:
    attrs = {"kernel_size": (2, 2)}
    row = price(make("avg_pool2d", [(1, 1, 4, 4)], [(1, 1, 2, 2)], **attrs))
    assert (row.flops, row.read_bytes, row.written_bytes) == (4 * 5, 64, 16)
    row = price(make("avg_pool2d_backward", [(1, 1, 2, 2), (1, 1, 4, 4)], [(1, 1, 4, 4)], **attrs))
    assert (row.flops, row.read_bytes, row.written_bytes) == (4 * 5, 16, 64)


def test_adaptive_windows_that_overlap_count_their_elements_again(make: Any, price: Any) -> None:
    # 5 into 3 windows: [0,2) [1,4) [3,5) = 2 + 3 + 2 = 7 elements, so 7 * 7 adds and 9 divides a map of 5 x 5
    row = price(make("_adaptive_avg_pool2d", [(2, 5, 5)], [(2, 3, 3)]))
    assert row.flops == 2 * (49 + 9)
    row = price(make("_adaptive_avg_pool2d_backward", [(2, 3, 3), (2, 5, 5)], [(2, 5, 5)]))
    assert (row.flops, row.read_bytes, row.written_bytes) == (2 * (49 + 9), 72, 200)


@pytest.mark.parametrize(
    ("kind", "inputs", "flops", "attrs"),
    [
        ("relu", 1, 1, {}),
        ("threshold_backward", 2, 1, {}),
        ("hardtanh", 1, 2, {}),
        ("sigmoid", 1, 4, {}),
        ("silu", 1, 4, {}),
        ("silu_backward", 2, 9, {}),
        ("hardswish", 1, 5, {}),
        ("gelu", 1, 5, {"approximate": "none"}),
        ("gelu", 1, 9, {"approximate": "tanh"}),
        ("gelu_backward", 2, 11, {"approximate": "none"}),
        ("add", 2, 1, {"alpha": 1}),
        ("add", 2, 2, {"alpha": 0.5}),
        ("div", 2, 1, {"rounding_mode": None}),
        ("div", 2, 2, {"rounding_mode": "floor"}),
        ("addcmul", 3, 3, {"value": 0.1}),
        ("addcmul", 3, 2, {"value": 1}),
        ("lerp", 2, 3, {}),
        ("_softmax", 1, 5, {}),
        ("_log_softmax_backward_data", 2, 4, {}),
    ],
)
def test_an_elementwise_op_counts_its_arithmetic_and_moves_each_operand_once(
    *, make: Any, price: Any, kind: str, inputs: int, flops: int, attrs: Any
) -> None:
    row = price(make(kind, [(3, 4)] * inputs, [(3, 4)], **attrs))
    assert (row.flops, row.read_bytes, row.written_bytes) == (flops * 12, inputs * 48, 48)


def test_a_broadcast_operand_is_read_at_its_own_size(make: Any, price: Any) -> None:
    row = price(make("mul", [(3, 4), Operand((3, 4), (0, 1), "float32")], [(3, 4)]))
    assert (row.flops, row.read_bytes) == (12, 48 + 16)


def test_a_cast_reads_the_one_type_and_writes_the_other(make: Any, price: Any) -> None:
    row = price(make("_to_copy", [(3, 4)], [((3, 4), "bfloat16")]))
    assert (row.flops, row.read_bytes, row.written_bytes) == (0, 48, 24)


def test_copies_into_a_tensor_do_not_read_it_and_fills_read_nothing(make: Any, price: Any) -> None:
    row = price(make("copy_", [(3, 4), (3, 4)], [(3, 4)]))
    assert (row.read_bytes, row.written_bytes) == (48, 48)
    row = price(make("_foreach_copy_", [(3,), (4,), (3,), (4,)], [], [(3,), (4,)]))
    assert (row.read_bytes, row.written_bytes) == (28, 28)
    row = price(make("zero_", [(3, 4)], [(3, 4)]))
    assert (row.flops, row.read_bytes, row.written_bytes) == (0, 0, 48)


def test_views_and_allocations_are_free(make: Any, price: Any) -> None:
    for kind in ("view", "t", "expand", "empty", "empty_like"):
        row = price(make(kind, [(3, 4)], [(12,)]))
        assert (row.launches, row.flops, row.read_bytes, row.written_bytes) == (0, 0, 0, 0)


def test_concatenation_reads_all_parts_and_a_slice_gradient_writes_the_whole(make: Any, price: Any) -> None:
    row = price(make("cat", [(3, 4), (5, 4)], [(8, 4)]))
    assert (row.flops, row.read_bytes, row.written_bytes) == (0, 128, 128)
    row = price(make("slice_backward", [(3, 4)], [(8, 4)]))
    assert (row.flops, row.read_bytes, row.written_bytes) == (0, 48, 128)


def test_reductions_add_what_goes_in(make: Any, price: Any) -> None:
    row = price(make("sum", [(3, 4)], [(3,)]))
    assert (row.flops, row.read_bytes, row.written_bytes) == (12, 48, 12)
    assert price(make("mean", [(3, 4)], [(3,)])).flops == 12 + 3
    assert price(make("var", [(3, 4)], [(3,)])).flops == 48
    # the gradient of a sum is expanded: 12 elements to add up, one to read
    assert price(make("sum", [Operand((3, 4), (0, 0), "float32")], [()])).read_bytes == 4


def test_cross_entropy_reads_one_score_a_target(make: Any, price: Any) -> None:
    # 6 targets (48 bytes) and 6 of 60 scores (24 bytes); writes loss and total weight
    target = ((6,), "int64")
    row = price(make("nll_loss_forward", [(6, 10), target], [(), ()], weight=None, reduction=1))
    assert (row.flops, row.read_bytes, row.written_bytes) == (12, 72, 8)
    row = price(make("nll_loss_backward", [(), (6, 10), target, ()], [(6, 10)], weight=None, reduction=1))
    assert (row.flops, row.read_bytes, row.written_bytes) == (12, 4 + 48 + 4, 240)


def test_a_mean_squared_error_subtracts_squares_and_adds(make: Any, price: Any) -> None:
    row = price(make("mse_loss", [(6,), (6,)], [()], reduction=1))
    assert (row.flops, row.read_bytes, row.written_bytes) == (18, 48, 4)
    assert price(make("mse_loss", [(6,), (6,)], [(6,)], reduction=0)).flops == 12
    assert price(make("mse_loss_backward", [(), (6,), (6,)], [(6,)], reduction=1)).flops == 18


def test_an_embedding_reads_rows_and_its_gradient_writes_the_table(make: Any, price: Any) -> None:
    # table 100 x 8; 6 words: reads 6 rows (192 bytes) and 6 indices (48 bytes)
    words = ((2, 3), "int64")
    row = price(make("embedding", [(100, 8), words], [(2, 3, 8)]))
    assert (row.flops, row.read_bytes, row.written_bytes) == (0, 192 + 48, 192)
    row = price(make("embedding_dense_backward", [(2, 3, 8), words], [(100, 8)]))
    assert (row.flops, row.read_bytes, row.written_bytes) == (48, 192 + 48, 3200)


def test_scattering_in_place_touches_only_what_it_writes(make: Any, price: Any) -> None:
    # 4 of 30 elements: indices 32 bytes, values 16 bytes; adding also reads the 16 bytes it adds to
    at = ((4,), "int64")
    row = price(make("index_put_", [(30,), at, (4,)], [(30,)], accumulate=False))
    assert (row.flops, row.read_bytes, row.written_bytes) == (0, 48, 16)
    row = price(make("index_put_", [(30,), at, (4,)], [(30,)], accumulate=True))
    assert (row.flops, row.read_bytes, row.written_bytes) == (4, 64, 16)
    row = price(make("index_put", [(30,), at, (4,)], [(30,)], accumulate=False))
    assert (row.flops, row.read_bytes, row.written_bytes) == (0, 48 + 120, 120)


@pytest.mark.parametrize(
    ("kind", "forward", "backward"),
    [("upsample_nearest2d", 0, 1), ("upsample_bilinear2d", 7, 8), ("upsample_bicubic2d", 31, 32)],
)
def test_resampling_weighs_its_taps(make: Any, price: Any, kind: str, forward: int, backward: int) -> None:
    # 3x3 to 6x6: 36 outputs
    row = price(make(kind, [(1, 1, 3, 3)], [(1, 1, 6, 6)]))
    assert (row.flops, row.read_bytes, row.written_bytes) == (36 * forward, 36, 144)
    row = price(make(f"{kind}_backward", [(1, 1, 6, 6)], [(1, 1, 3, 3)]))
    assert (row.flops, row.read_bytes, row.written_bytes) == (36 * backward, 144, 36)


def test_an_antialiased_filter_widens_where_it_shrinks_the_image(make: Any, price: Any) -> None:
    # 8x8 to 4x4: 4 taps each way; along rows 8*4 results, then 4*4: (32 + 16) * 4 taps * 2 FLOPs
    assert price(make("_upsample_bilinear2d_aa", [(1, 1, 8, 8)], [(1, 1, 4, 4)])).flops == 48 * 4 * 2


def test_an_lstm_layer_counts_30_flops_a_hidden_unit_beside_its_products(make: Any, price: Any) -> None:
    # T 5, N 2, I 3, H 4: 5*2*16*(3+4) = 1120 MACs, 40 hidden units
    ins = [(5, 2, 3), (16, 3), (16, 4), (16,), (16,), (2, 4), (2, 4)]
    row = price(make("mkldnn_rnn_layer", ins, [(5, 2, 4), (2, 4), (2, 4)], batch_first=False))
    assert (row.macs, row.flops) == (1120, 2240 + 30 * 40)
    assert row.read_bytes == 4 * (30 + 48 + 64 + 32 + 16)
    assert row.written_bytes == 4 * (40 + 16)
    assert (row.nest.n, row.nest.p, row.nest.k, row.nest.c) == (5, 2, 16, 7)


def test_fused_sgd_with_momentum_reads_three_tensors_and_writes_two(make: Any, price: Any) -> None:
    # parameters of 10 and 6; weight decay 2 + momentum 2 + step 2 FLOPs; the gradients are not written
    lists = [(10,), (6,)]
    attrs = {"lr": 0.1, "weight_decay": 0.1, "momentum": 0.9, "dampening": 0.0, "nesterov": False}
    absent = {"maximize": False, "grad_scale": None, "found_inf": None}
    row = price(make("_fused_sgd_", lists * 3, [], lists * 3, **attrs, **absent))
    assert (row.flops, row.read_bytes, row.written_bytes) == (6 * 16, 3 * 64, 2 * 64)
    plain = {**attrs, "momentum": 0.0, "weight_decay": 0.0}
    row = price(make("_fused_sgd_", lists * 2, [], lists * 2, **plain, **absent))
    assert (row.flops, row.read_bytes, row.written_bytes) == (2 * 16, 2 * 64, 64)
    del absent["grad_scale"], absent["found_inf"]
    row = price(make("_fused_sgd_", [*lists * 2, (), ()], [], lists * 2, **plain, **absent))
    assert row.written_bytes == 2 * 64


@pytest.mark.parametrize(("kind", "decay"), [("_fused_adam_", 2), ("_fused_adamw_", 1)])
def test_fused_adam_reads_four_tensors_and_writes_three(make: Any, price: Any, kind: str, decay: int) -> None:
    lists, attrs = [(10,), (6,)], {"lr": 0.1, "amsgrad": False, "maximize": False}
    absent = {"grad_scale": None, "found_inf": None}
    row = price(make(kind, [*lists * 4, (), ()], [], lists * 4, **attrs, **absent, weight_decay=0.1))
    assert (row.flops, row.read_bytes, row.written_bytes) == ((13 + decay) * 16, 4 * 64 + 8, 3 * 64)
    attrs["amsgrad"] = True
    row = price(make(kind, [*lists * 5, (), ()], [], lists * 5, **attrs, **absent, weight_decay=0))
    assert (row.flops, row.read_bytes, row.written_bytes) == (14 * 16, 5 * 64 + 8, 4 * 64)


def test_a_foreach_op_counts_all_tensors_of_its_list(make: Any, price: Any) -> None:
    lists = [(10,), (6,)]
    row = price(make("_foreach_lerp_", lists * 2, [], lists, weight=0.1))
    assert (row.flops, row.read_bytes, row.written_bytes) == (3 * 16, 128, 64)
    row = price(make("_foreach_norm", lists, [(), ()], ord=2))
    assert (row.flops, row.read_bytes, row.written_bytes) == (2 * 16, 64, 8)


def test_unscaling_gradients_tests_and_multiplies_each_element(make: Any, price: Any) -> None:
    lists = [(10,), (6,)]
    row = price(make("_amp_foreach_non_finite_check_and_unscale_", [*lists, (), ()], [], [*lists, ()]))
    assert (row.flops, row.read_bytes, row.written_bytes) == (32, 72, 68)


def test_dropout_draws_masks_and_scales(make: Any, price: Any) -> None:
    row = price(make("native_dropout", [(3, 4)], [(3, 4), ((3, 4), "bool")]))
    assert (row.flops, row.read_bytes, row.written_bytes) == (36, 48, 60)
    row = price(make("bernoulli_", [(3, 4)], [(3, 4)], p=0.5))
    assert (row.flops, row.read_bytes, row.written_bytes) == (12, 0, 48)
