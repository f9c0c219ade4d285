"""What holds for every work rule, checked on a sample call of each kind.

A sample is a function of the batch size, which may be an array of sizes. A kind without a sample fails.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simulator.rules import (
    copy,
    elementwise,
    gather,
    interpolate,
    norm,
    random,
    reduction,
    rules,
    softmax_loss,
    view,
)
from simulator.work import KERNELS, Row

Sample = Callable[[Any, Any], Any]
SAMPLES: dict[str, Sample] = {}


def _sample(kinds: Any, build: Callable[[Any, Any, str], Any]) -> None:
    for kind in kinds:
        assert kind not in SAMPLES, f"two samples for {kind}"
        SAMPLES[kind] = lambda make, b, kind=kind: build(make, b, kind)


def _names(text: str) -> list[str]:
    return text.split()


# elementwise: two operands in, one out; the lists of a foreach hold two tensors
def _lists(b: Any, times: int) -> list[Any]:
    return [(b, 6), (6,)] * times


_sample(
    [k for k in elementwise.KINDS if not k.startswith("_foreach_")],
    lambda m, b, k: m(k, [(b, 6), (b, 6)], [(b, 6)]),
)
_sample(
    [k for k in elementwise.KINDS if k.startswith("_foreach_")],
    lambda m, b, k: m(k, _lists(b, 2), _lists(b, 1)),
)
_sample(_names("add add_ sub sub_ rsub"), lambda m, b, k: m(k, [(b, 6), (b, 6)], [(b, 6)], alpha=2))
_sample(_names("_foreach_add _foreach_sub"), lambda m, b, k: m(k, _lists(b, 2), _lists(b, 1), alpha=1))
_sample(_names("_foreach_add_ _foreach_sub_"), lambda m, b, k: m(k, _lists(b, 2), [], _lists(b, 1), alpha=1))
_sample(_names("addcmul addcmul_ addcdiv addcdiv_"), lambda m, b, k: m(k, [(b, 6)] * 3, [(b, 6)], value=0.1))
_sample(_names("_foreach_addcmul _foreach_addcdiv"), lambda m, b, k: m(k, _lists(b, 3), _lists(b, 1), value=1))
_sample(
    _names("_foreach_addcmul_ _foreach_addcdiv_"),
    lambda m, b, k: m(k, _lists(b, 3), [], _lists(b, 1), scalars=(1, 2)),
)
_sample(_names("gelu gelu_"), lambda m, b, k: m(k, [(b, 6)], [(b, 6)], approximate="none"))
_sample(["gelu_backward"], lambda m, b, k: m(k, [(b, 6), (b, 6)], [(b, 6)], approximate="tanh"))
_sample(["native_dropout_backward"], lambda m, b, k: m(k, [(b, 6), ((b, 6), "bool")], [(b, 6)], scale=2.0))
_sample(
    _names("rrelu_with_noise rrelu_with_noise_ rrelu_with_noise_backward"),
    lambda m, b, k: m(k, [(b, 6), (b, 6)], [(b, 6)]),
)

# convolutions: 3x3 over 4x4, 4 channels in 2 groups to 6
CONV = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "transposed": False, "groups": 2}
_sample(
    _names("convolution _convolution convolution_overrideable"),
    lambda m, b, k: m(k, [(b, 4, 4, 4), (6, 2, 3, 3), (6,)], [(b, 6, 4, 4)], **CONV),
)
_sample(
    _names("mkldnn_convolution cudnn_convolution"),
    lambda m, b, k: m(
        k,
        [(b, 4, 4, 4), (6, 2, 3, 3)],
        [(b, 6, 4, 4)],
        stride=(1, 1),
        padding=(1, 1),
        dilation=(1, 1),
        groups=2,
    ),
)
_sample(["convolution_grad_input"], lambda m, b, k: m(k, [(b, 6, 4, 4), (6, 2, 3, 3)], [(b, 4, 4, 4)], **CONV))
_sample(["convolution_grad_weight"], lambda m, b, k: m(k, [(b, 6, 4, 4), (b, 4, 4, 4)], [(6, 2, 3, 3)], **CONV))
_sample(["convolution_grad_bias"], lambda m, b, k: m(k, [(b, 6, 4, 4)], [(6,)], **CONV))

# matrix products
ADD = {"beta": 1, "alpha": 1}
_sample(["mm"], lambda m, b, k: m(k, [(b, 3), (3, 5)], [(b, 5)]))
_sample(["bmm"], lambda m, b, k: m(k, [(b, 2, 3), (b, 3, 5)], [(b, 2, 5)]))
_sample(_names("addmm addmm_ _addmm_activation"), lambda m, b, k: m(k, [(5,), (b, 3), (3, 5)], [(b, 5)], **ADD))
_sample(_names("baddbmm baddbmm_"), lambda m, b, k: m(k, [(b, 2, 5), (b, 2, 3), (b, 3, 5)], [(b, 2, 5)], **ADD))
_sample(_names("addbmm addbmm_"), lambda m, b, k: m(k, [(2, 5), (b, 2, 3), (b, 3, 5)], [(2, 5)], **ADD))
_sample(_names("linear mkldnn_linear"), lambda m, b, k: m(k, [(b, 7, 3), (5, 3), (5,)], [(b, 7, 5)]))
_sample(["mv"], lambda m, b, k: m(k, [(b, 3), (3,)], [(b,)]))
_sample(_names("addmv addmv_"), lambda m, b, k: m(k, [(b,), (b, 3), (3,)], [(b,)], **ADD))
_sample(_names("dot vdot"), lambda m, b, k: m(k, [(b,), (b,)], [()]))
_sample(_names("addr addr_"), lambda m, b, k: m(k, [(b, 3), (b,), (3,)], [(b, 3)], **ADD))
_sample(
    ["_trilinear"],
    lambda m, b, k: m(
        k, [(b, 4), (6, 4, 5), (b, 5)], [(b, 6)], expand1=(1, 3), expand2=(0,), expand3=(1, 2), sumdim=(2, 3)
    ),
)
_sample(["_cdist_forward"], lambda m, b, k: m(k, [(b, 3, 2), (b, 4, 2)], [(b, 3, 4)], p=2.0))
_sample(
    ["_cdist_backward"],
    lambda m, b, k: m(k, [(b, 3, 4), (b, 3, 2), (b, 4, 2), (b, 3, 4)], [(b, 3, 2)], p=2.0),
)

# attention: 2 heads, 5 queries, 7 keys
for _kind in _names(
    "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention "
    "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention "
    "_scaled_dot_product_fused_attention_overrideable"
):
    _sample(
        [_kind],
        lambda m, b, k: m(k, [(b, 2, 5, 3), (b, 2, 7, 3), (b, 2, 7, 3)], [(b, 2, 5, 3), (b, 2, 5)], is_causal=False),
    )
    _sample(
        [f"{_kind}_backward"],
        lambda m, b, k: m(
            k,
            [(b, 2, 5, 3), (b, 2, 5, 3), (b, 2, 7, 3), (b, 2, 7, 3), (b, 2, 5, 3), (b, 2, 5)],
            [(b, 2, 5, 3), (b, 2, 7, 3), (b, 2, 7, 3)],
            is_causal=True,
        ),
    )

# norms
_sample(
    _names(
        "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_functional cudnn_batch_norm "
        "miopen_batch_norm"
    ),
    lambda m, b, k: m(k, [(b, 4, 3, 3)] + [(4,)] * 4, [(b, 4, 3, 3), (4,), (4,)], [(4,), (4,)], training=True),
)
_sample(
    _names("_native_batch_norm_legit_no_training _batch_norm_with_update _batch_norm_no_update"),
    lambda m, b, k: m(k, [(b, 4, 3, 3)] + [(4,)] * 4, [(b, 4, 3, 3), (4,), (4,)]),
)
_sample(
    _names("native_batch_norm_backward batch_norm_backward cudnn_batch_norm_backward miopen_batch_norm_backward"),
    lambda m, b, k: m(k, [(b, 4, 3, 3)] * 2 + [(4,)] * 5, [(b, 4, 3, 3), (4,), (4,)], train=True),
)
_sample(norm.ROW_NORMS, lambda m, b, k: m(k, [(b, 4, 3), (b, 4, 3), (3,)], [(b, 4, 3), (b, 4)]))

# pooling
WINDOW = {"kernel_size": (2,), "stride": (2,), "padding": (0,)}


def _pool(make: Any, b: Any, kind: str) -> Any:
    n = 3 if "3d" in kind else 1 if "1d" in kind else 2
    full, small = (b, 4) + (6,) * n, (b, 4) + (3,) * n
    if kind.endswith("backward"):
        return make(kind, [small, full, (small, "int64")] if "max" in kind else [small, full], [full], **WINDOW)
    return make(kind, [full], [small, (small, "int64")] if "max" in kind else [small], **WINDOW)


_sample(
    _names(
        "max_pool2d_with_indices max_pool3d_with_indices max_pool1d max_pool2d max_pool3d mkldnn_max_pool2d "
        "fractional_max_pool2d adaptive_max_pool2d adaptive_max_pool3d max_pool2d_with_indices_backward "
        "max_pool3d_with_indices_backward adaptive_max_pool2d_backward adaptive_max_pool3d_backward "
        "fractional_max_pool2d_backward avg_pool1d avg_pool2d avg_pool3d avg_pool2d_backward "
        "avg_pool3d_backward "
        "_adaptive_avg_pool2d _adaptive_avg_pool3d mkldnn_adaptive_avg_pool2d adaptive_avg_pool1d "
        "_adaptive_avg_pool2d_backward _adaptive_avg_pool3d_backward mkldnn_adaptive_avg_pool2d_backward"
    ),
    _pool,
)

# reductions, scans, sorts
_sample(
    [k for k in reduction.PER_INPUT_ELEMENT if not k.startswith("_foreach_")],
    lambda m, b, k: m(k, [(b, 6)], [(b,)], dim=(1,)),
)
_sample(
    [k for k in reduction.PER_INPUT_ELEMENT if k.startswith("_foreach_")],
    lambda m, b, k: m(k, _lists(b, 1), [(), ()]),
)
_sample(["mean"], lambda m, b, k: m(k, [(b, 6)], [(b,)], dim=(1,)))
_sample(
    _names("sort argsort _unique2 unique_dim unique_consecutive"),
    lambda m, b, k: m(k, [(b, 6)], [(b, 6), ((b, 6), "int64")], dim=-1),
)
_sample(["searchsorted"], lambda m, b, k: m(k, [(8,), (b, 6)], [((b, 6), "int64")]))
_sample(["bucketize"], lambda m, b, k: m(k, [(b, 6), (8,)], [((b, 6), "int64")]))
_sample(["_fft_r2c"], lambda m, b, k: m(k, [(b, 8)], [((b, 5), "complex64")], dim=(1,)))
_sample(["_fft_c2r"], lambda m, b, k: m(k, [((b, 5), "complex64")], [(b, 8)], dim=(1,)))
_sample(["_fft_c2c"], lambda m, b, k: m(k, [((b, 8), "complex64")], [((b, 8), "complex64")], dim=(1,)))

# softmax and losses
_sample(softmax_loss.SOFTMAX, lambda m, b, k: m(k, [(b, 6), (b, 6)] if "backward" in k else [(b, 6)], [(b, 6)]))
_sample(softmax_loss.LOSSES, lambda m, b, k: m(k, [(b, 6), (b, 6)], [()], reduction=1))
_sample(softmax_loss.LOSSES_BACKWARD, lambda m, b, k: m(k, [(), (b, 6), (b, 6)], [(b, 6)], reduction=1))
_sample(
    _names("nll_loss_forward nll_loss2d_forward"),
    lambda m, b, k: m(k, [(b, 6), ((b,), "int64")], [(), ()], reduction=1),
)
_sample(
    _names("nll_loss_backward nll_loss2d_backward"),
    lambda m, b, k: m(k, [(), (b, 6), ((b,), "int64"), ()], [(b, 6)], reduction=1),
)
_sample(["_ctc_loss"], lambda m, b, k: m(k, [(9, b, 5), ((b, 3), "int64")], [(b,), (b, 9, 7)]))
_sample(
    ["_ctc_loss_backward"],
    lambda m, b, k: m(k, [(b,), (9, b, 5), ((b, 3), "int64"), (b,), (b, 9, 7)], [(9, b, 5)]),
)

# copies and fills
_sample(
    [*copy.COPIES, "copy_"],
    lambda m, b, k: m(k, [(b, 6), (b, 6)] if k == "copy_" else [(b, 6)], [(b, 6)]),
)
_sample(["_foreach_copy_"], lambda m, b, k: m(k, _lists(b, 2), [], _lists(b, 1)))
_sample([k for k in copy.FILLS if k != "_foreach_zero_"], lambda m, b, k: m(k, [], [(b, 6)]))
_sample(["_foreach_zero_"], lambda m, b, k: m(k, _lists(b, 1), [], _lists(b, 1)))
_sample(
    _names("slice_scatter select_scatter diagonal_scatter as_strided_scatter"),
    lambda m, b, k: m(k, [(b, 6), (b, 2)], [(b, 6)]),
)
_sample(copy.SCATTERED_GRADIENTS, lambda m, b, k: m(k, [(b, 2)], [(b, 6)]))
_sample(["_local_scalar_dense"], lambda m, b, k: m(k, [()], []))
_sample([*view.VIEWS, *view.ALLOCATIONS], lambda m, b, k: m(k, [(b, 6)], [(b, 6)]))

# gathers and scatters
INDEX = ((4,), "int64")
_sample(
    _names("index _unsafe_index index_select gather take masked_select repeat_interleave"),
    lambda m, b, k: m(k, [(9, 6), ((b,), "int64")], [(b, 6)]),
)
_sample(["embedding"], lambda m, b, k: m(k, [(9, 6), ((b, 3), "int64")], [(b, 3, 6)]))
_sample(["embedding_dense_backward"], lambda m, b, k: m(k, [(b, 3, 6), ((b, 3), "int64")], [(9, 6)]))
_sample(["embedding_renorm_"], lambda m, b, k: m(k, [(9, 6), ((b, 3), "int64")], [(9, 6)]))
_sample(
    _names("_embedding_bag _embedding_bag_forward_only"),
    lambda m, b, k: m(k, [(9, 6), ((b,), "int64")], [(2, 6)]),
)
_sample(
    _names("_embedding_bag_backward _embedding_bag_dense_backward"),
    lambda m, b, k: m(k, [(2, 6), ((b,), "int64")], [(9, 6)]),
)
_sample(
    _names("index_put index_put_ _index_put_impl_ _unsafe_index_put"),
    lambda m, b, k: m(k, [(9, 6), ((b,), "int64"), (b, 6)], [(9, 6)], accumulate=True),
)
_sample(
    _names("scatter scatter_ scatter_add scatter_add_ scatter_reduce scatter_reduce_"),
    lambda m, b, k: m(k, [(b, 6), ((b, 2), "int64"), (b, 2)], [(b, 6)], dim=1),
)
_sample(
    _names("index_add index_add_ index_copy index_copy_ index_reduce index_reduce_"),
    lambda m, b, k: m(k, [(9, 6), ((b,), "int64"), (b, 6)], [(9, 6)], dim=0),
)
_sample(_names("index_fill index_fill_"), lambda m, b, k: m(k, [(9, 6), ((b,), "int64")], [(9, 6)], dim=0))
_sample(
    _names("masked_scatter masked_scatter_"),
    lambda m, b, k: m(k, [(b, 6), ((b, 6), "bool"), (b, 6)], [(b, 6)]),
)
_sample(["masked_scatter_backward"], lambda m, b, k: m(k, [(b, 6), ((b, 6), "bool")], [(b, 6)]))


# resampling
def _resample(make: Any, b: Any, kind: str) -> Any:
    n = 3 if "3d" in kind else 1 if "1d" in kind else 2
    small, large = (b, 4) + (3,) * n, (b, 4) + (6,) * n
    return make(kind, [large], [small]) if kind.endswith("backward") else make(kind, [small], [large])


_sample(
    [f"{k}{end}" for k in (*interpolate.TAPS, *interpolate.ANTIALIASED) for end in ("", "_backward")],
    _resample,
)
_sample(
    _names("grid_sampler_2d grid_sampler_3d"),
    lambda m, b, k: m(k, [(b, 4, 5, 5), (b, 3, 3, 2)], [(b, 4, 3, 3)]),
)
_sample(
    _names("grid_sampler_2d_backward grid_sampler_3d_backward"),
    lambda m, b, k: m(k, [(b, 4, 3, 3), (b, 4, 5, 5), (b, 3, 3, 2)], [(b, 4, 5, 5), (b, 3, 3, 2)]),
)

# recurrent layers: 5 steps, 3 inputs, 4 hidden units
LSTM = [(16, 3), (16, 4), (16,), (16,)]
_sample(
    ["mkldnn_rnn_layer"],
    lambda m, b, k: m(k, [(5, b, 3), *LSTM, (b, 4), (b, 4)], [(5, b, 4), (b, 4), (b, 4)], batch_first=False),
)
_sample(
    ["mkldnn_rnn_layer_backward"],
    lambda m, b, k: m(k, [(5, b, 3), *LSTM, (b, 4), (b, 4), (5, b, 4)], [(5, b, 3), *LSTM], batch_first=False),
)
_sample(["_thnn_fused_lstm_cell"], lambda m, b, k: m(k, [(b, 16), (b, 16), (b, 4), (16,), (16,)], [(b, 4)] * 2))
_sample(
    _names("_thnn_fused_lstm_cell_backward _thnn_fused_lstm_cell_backward_impl"),
    lambda m, b, k: m(k, [(b, 4)] * 4 + [(b, 16)], [(b, 16), (b, 4), (16,)]),
)
_sample(["_thnn_fused_gru_cell"], lambda m, b, k: m(k, [(b, 12), (b, 12), (b, 4)], [(b, 4), (b, 20)]))
_sample(["_thnn_fused_gru_cell_backward"], lambda m, b, k: m(k, [(b, 4), (b, 20)], [(b, 12), (b, 12), (b, 4)]))

# optimizers: two parameters; gradients of a batch-sized parameter let the physics tests see something
ABSENT = {"lr": 0.1, "grad_scale": None, "found_inf": None, "weight_decay": 0.1}
_sample(
    _names("_fused_adam_ _fused_adamw_"),
    lambda m, b, k: m(k, [*_lists(b, 4), (), ()], [], _lists(b, 4), amsgrad=False, **ABSENT),
)
_sample(["_fused_sgd_"], lambda m, b, k: m(k, _lists(b, 3), [], _lists(b, 3), momentum=0.9, dampening=0, **ABSENT))
_sample(["_fused_adagrad_"], lambda m, b, k: m(k, [*_lists(b, 3), (), ()], [], _lists(b, 3), **ABSENT))
_sample(
    ["_amp_foreach_non_finite_check_and_unscale_"],
    lambda m, b, k: m(k, [*_lists(b, 1), (), ()], [], [*_lists(b, 1), ()]),
)
_sample(["_amp_update_scale_"], lambda m, b, k: m(k, [(), ((), "int32"), ()], [()], [((), "int32")]))

# random numbers
_sample(random.DRAWS, lambda m, b, k: m(k, [(b, 6)] if k.endswith("_") else [], [(b, 6)]))
_sample(_names("bernoulli poisson normal multinomial"), lambda m, b, k: m(k, [(b, 6)], [(b, 6)]))
_sample(["native_dropout"], lambda m, b, k: m(k, [(b, 6)], [(b, 6), ((b, 6), "bool")]))

COLUMNS = ("flops", "read_bytes", "written_bytes", "macs")
EVERY = pytest.mark.parametrize("kind", sorted(rules()))


def _numbers(row: Row) -> list[Any]:
    return [getattr(row, column) for column in COLUMNS] + list(row.nest or ())


def test_every_rule_has_a_sample_here_and_every_sample_a_rule() -> None:
    assert set(SAMPLES) == set(rules())


def test_every_kind_is_an_aten_op_or_a_part_of_a_convolution_backward() -> None:
    registered = torch._C._dispatch_get_all_op_names()
    names = {name.split("::")[1].split(".")[0] for name in registered if name.startswith("aten::")}
    parts = {f"convolution_grad_{part}" for part in ("input", "weight", "bias")}
    assert set(rules()) - names == parts


def test_every_kind_stands_in_the_manual() -> None:
    words = set((Path(__file__).parents[2] / "docs" / "work-rules.md").read_text().replace("`", " ").split())
    missing = {
        kind
        for kind in rules()
        if kind not in words and kind.removeprefix("_foreach_") not in words
        and kind.removeprefix("_foreach_").removesuffix("_") not in words
    }  # fmt: skip
    assert not missing


@EVERY
def test_work_is_finite_and_not_negative_and_its_kernel_is_known(make: Any, price: Any, kind: str) -> None:
    row = price(SAMPLES[kind](make, 3))
    assert row.kernel in KERNELS
    assert (row.launches == 0) == (row.kernel == "view")
    assert all(np.isfinite(number) and number >= 0 for number in _numbers(row))
    assert row.flops >= 2 * row.macs
    if row.kernel in ("convolution", "depthwise", "gemm", "attention", "rnn"):
        assert row.nest is not None
        assert row.nest.macs == row.macs > 0
    else:
        assert row.macs == 0


@EVERY
def test_every_launched_kernel_moves_something(make: Any, price: Any, kind: str) -> None:
    row = price(SAMPLES[kind](make, 3))
    assert (row.read_bytes + row.written_bytes > 0) == (row.kernel != "view")


@EVERY
def test_many_batch_sizes_at_once_give_what_each_gives_alone(make: Any, price: Any, kind: str) -> None:
    batches = [2, 3, 5, 64]
    at_once = _numbers(price(SAMPLES[kind](make, np.asarray(batches))))
    alone = [_numbers(price(SAMPLES[kind](make, batch))) for batch in batches]
    for place, column in enumerate(at_once):
        np.testing.assert_array_equal(np.broadcast_to(column, (4,)), [numbers[place] for numbers in alone])


# an index_put of the same size everywhere is a line; a unique of everything is n log n; both grow
CURVED = {"argsort", "sort", "_unique2", "unique_dim", "unique_consecutive"}


@EVERY
def test_work_grows_with_the_batch_along_a_line(make: Any, price: Any, kind: str) -> None:
    rows = [_numbers(price(SAMPLES[kind](make, batch)))[:4] for batch in (10, 20, 30)]
    for low, middle, high in zip(*rows, strict=True):
        assert low <= middle <= high
        if kind not in CURVED:
            assert middle - low == pytest.approx(high - middle)


@EVERY
def test_half_the_element_size_never_moves_more_bytes_and_computes_the_same(make: Any, price: Any, kind: str) -> None:
    call = SAMPLES[kind](make, 4)
    swap = {"float32": "bfloat16"}

    def narrow(operands: Any) -> Any:
        return [type(o)(o.shape, o.stride, swap.get(o.dtype, o.dtype)) for o in operands]

    half = call.__class__(kind, *(tuple(narrow(o)) for o in (call.inputs, call.outputs, call.written)), call.attrs)
    wide, thin = price(call), price(half)
    assert (thin.flops, thin.macs) == (wide.flops, wide.macs)
    assert thin.read_bytes <= wide.read_bytes <= 2 * thin.read_bytes
    assert thin.written_bytes <= wide.written_bytes <= 2 * thin.written_bytes


def test_gathers_cost_what_they_pick_whatever_the_size_of_the_table(make: Any, price: Any) -> None:
    rows = [price(make("embedding", [(size, 8), ((5,), "int64")], [(5, 8)])) for size in (10, 1000)]
    assert rows[0] == rows[1]
    assert gather.gather(make("embedding", [(10, 8), ((5,), "int64")], [(5, 8)])) == rows[0]
