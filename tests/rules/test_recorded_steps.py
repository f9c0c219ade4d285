"""Real calls: every op of small training steps has a rule that reads its operands as PyTorch passes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from simulator.rules import rules

IMAGE = (4, 8, 8)


def _block(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 4, 1), *layers)


ACTIVATIONS = (
    "ReLU ReLU6 Hardtanh Hardswish Hardsigmoid SiLU GELU Sigmoid Tanh ELU SELU CELU LeakyReLU Softplus Mish "
    "PReLU LogSigmoid Softshrink Hardshrink Tanhshrink Softsign RReLU GLU"
)
MODELS: dict[str, Callable[[], nn.Module]] = {
    **{name: lambda name=name: _block(getattr(nn, name)()) for name in ACTIVATIONS.split()},
    "depthwise": lambda: _block(nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
    "transposed": lambda: _block(nn.ConvTranspose2d(4, 8, 2, 2), nn.GroupNorm(2, 8), nn.InstanceNorm2d(8)),
    "norms": lambda: _block(nn.LayerNorm([8, 8]), nn.RMSNorm(8), nn.LocalResponseNorm(3)),
    "pools": lambda: _block(
        nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(3),
        nn.AdaptiveMaxPool2d(2),
    ),
    "global pool": lambda: _block(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    "dropouts": lambda: _block(nn.Dropout(0.3), nn.Dropout2d(0.3), nn.AlphaDropout(0.3)),
    "resampling": lambda: _block(
        nn.Upsample(scale_factor=2), nn.Upsample(size=(5, 5), mode="bilinear"),
        nn.Upsample(size=7, mode="bicubic")
    ),
    "pads and shuffles": lambda: _block(
        nn.ReflectionPad2d(1), nn.ReplicationPad2d(1), nn.ZeroPad2d(2), nn.PixelShuffle(2),
        nn.PixelUnshuffle(2), nn.ChannelShuffle(2), nn.CircularPad2d(1), nn.Unfold(2),
    ),
    "attention": lambda: _block(nn.Flatten(2), nn.TransformerEncoderLayer(64, 4, 32, batch_first=True)),
    "lstm": lambda: _Recurrent(nn.LSTM(64, 5, 2, bidirectional=True, dropout=0.1)),
    "gru": lambda: _Recurrent(nn.GRU(64, 5)),
    "rnn": lambda: _Recurrent(nn.RNN(64, 5)),
}  # fmt: skip

CLASSES = torch.tensor([1, 0])
LOSSES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "cross entropy": lambda y: F.cross_entropy(y, CLASSES),
    "label smoothing": lambda y: F.cross_entropy(y, CLASSES, label_smoothing=0.1),
    "weighted cross entropy": lambda y: F.cross_entropy(y, CLASSES, weight=torch.rand(4)),
    "cross entropy of a map": lambda y: F.cross_entropy(y.view(2, 4, 1, 1), CLASSES.view(2, 1, 1)),
    "mse": lambda y: F.mse_loss(y, torch.rand(2, 4)),
    "bce with logits": lambda y: F.binary_cross_entropy_with_logits(y, torch.rand(2, 4), pos_weight=torch.rand(4)),
    "bce": lambda y: F.binary_cross_entropy(y.sigmoid(), torch.rand(2, 4)),
    "l1": lambda y: F.l1_loss(y, torch.rand(2, 4)),
    "smooth l1": lambda y: F.smooth_l1_loss(y, torch.rand(2, 4)),
    "huber": lambda y: F.huber_loss(y, torch.rand(2, 4)),
    "kl": lambda y: F.kl_div(y.log_softmax(1), torch.rand(2, 4), reduction="batchmean"),
    "triplet": lambda y: F.triplet_margin_loss(y, torch.rand(2, 4), torch.rand(2, 4)),
    "cosine": lambda y: F.cosine_embedding_loss(y, torch.rand(2, 4), torch.ones(2)),
    "soft margin": lambda y: F.soft_margin_loss(y, torch.ones(2, 4)),
    "multi margin": lambda y: F.multi_margin_loss(y, CLASSES),
}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p, **k: torch.optim.SGD(p, 0.1, **k),
    "sgd momentum": lambda p, **k: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.1, nesterov=True, **k),
    "adam": lambda p, **k: torch.optim.Adam(p, weight_decay=0.1, **k),
    "adam amsgrad": lambda p, **k: torch.optim.Adam(p, amsgrad=True, **k),
    "adamw": torch.optim.AdamW,
    "rmsprop": lambda p, **k: torch.optim.RMSprop(p, centered=True, momentum=0.9, **k),
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
}
FUSED = ("sgd", "sgd momentum", "adam", "adam amsgrad", "adamw", "adagrad")


class _Recurrent(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(2))[0]


def _check(calls: list[Any], price: Any) -> None:
    assert calls
    missing = {call.kind for call in calls} - set(rules())
    assert not missing
    for call in calls:
        row = price(call)
        assert row.flops >= 2 * row.macs >= 0
        assert row.nest is None or row.nest.macs == pytest.approx(row.macs)
        present = sum(o.bytes for o in call.inputs)
        passes = 2 if "batch_norm" in call.kind else 1
        assert 0 <= row.read_bytes <= passes * present
        assert 0 <= row.written_bytes <= sum(o.bytes for o in call.written)


def _step(model: nn.Module, batch: int, loss: Any = None, memory_format: Any = torch.contiguous_format) -> Any:
    x = torch.randn(batch, *IMAGE).to(memory_format=memory_format)

    def run() -> None:
        y = model(x)
        (loss(y) if loss else y.float().square().mean()).backward()

    return run


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("form", ["float32", "channels last", "bfloat16"])
def test_every_op_of_a_layers_step_has_a_rule_that_moves_no_more_than_its_operands(
    record: Any, price: Any, name: str, form: str
) -> None:
    model = MODELS[name]()
    if form == "channels last" and name not in ("lstm", "gru", "rnn"):
        calls = record(_step(model.to(memory_format=torch.channels_last), 2, memory_format=torch.channels_last))
    else:
        with torch.autocast("cpu", torch.bfloat16, enabled=form == "bfloat16"):
            calls = record(_step(model, 2))
    _check(calls, price)


@pytest.mark.parametrize("name", LOSSES)
def test_every_op_of_a_loss_has_a_rule(record: Any, price: Any, name: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 4))
    _check(record(_step(model, 2, LOSSES[name])), price)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("form", ["single", "foreach", "fused"])
def test_every_op_of_an_optimizer_has_a_rule(record: Any, price: Any, name: str, form: str) -> None:
    if form == "fused" and name not in FUSED:
        pytest.skip("PyTorch has no fused form")
    model = nn.Linear(4, 3)
    optimizer = OPTIMIZERS[name](
        model.parameters(), **({"fused": True} if form == "fused" else {"foreach": form == "foreach"})
    )
    for _ in range(2):
        model(torch.randn(2, 4)).sum().backward()
        _check(record(optimizer.step), price)


def test_clipping_and_gradient_scaling_have_rules(record: Any, price: Any) -> None:
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu")

    def run() -> None:
        scaler.scale(model(torch.randn(2, 4)).sum()).backward()
        scaler.unscale_(optimizer)
        for foreach in (False, True):
            nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=foreach)
            nn.utils.clip_grad_value_(model.parameters(), 1.0, foreach=foreach)
        scaler.step(optimizer)
        scaler.update()

    _check(record(run), price)


def _tensor_ops() -> None:
    x = torch.randn(4, 6, requires_grad=True)
    index = torch.tensor([0, 2])
    for y in (
        x[:, ::2], x[1], x[index], x[x > 0], x.masked_fill(x > 0, 0.0), torch.where(x > 0, x, 0), x.std(0),
        torch.var_mean(x, 1)[0], x.norm(), F.normalize(x), x.max(1)[0], x.amax(1), x.cumsum(1),
        x.sort(1)[0], x.topk(2)[0], x.gather(1, index.expand(4, 2)), x.index_select(0, index), x.roll(1, 0),
        x.flip(0), x.repeat(2, 2), x.unfold(1, 2, 2), torch.stack([x, x]), torch.cat([x, x]),
        x.chunk(2, 1)[0], x.tril(), x.logsumexp(1), x.scatter_add(1, index.expand(4, 2), x[:, :2]),
        x.index_add(0, index, x[:2]), x.clamp(0, 1), x.softmax(1),
        F.grid_sample(x.view(1, 1, 4, 6), torch.rand(1, 3, 3, 2), align_corners=False),
        F.embedding(index, x), F.gumbel_softmax(x, hard=True),
        F.interpolate(x.view(1, 1, 4, 6), size=(2, 3), mode="bilinear", antialias=True),
        torch.einsum("ij,kj->ik", x, x), torch.fft.rfft2(x).abs(), x.bfloat16().float(),
        F.one_hot(index, 4).float() @ x, torch.cdist(x, x), x.mean(), F.embedding_bag(index.view(1, 2), x),
        torch.fake_quantize_per_tensor_affine(x, 0.1, 0, 0, 255), x**3, x.prod(),
    ):  # fmt: skip
        y.sum().backward()


def test_every_op_of_common_tensor_code_has_a_rule(record: Any, price: Any) -> None:
    _check(record(_tensor_ops), price)


def test_a_step_without_groups_has_the_flops_that_pytorchs_own_counter_finds(record: Any, price: Any) -> None:
    # the counter knows convolutions and matrix products only, and is right as long as there are no groups
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.ConvTranspose2d(8, 3, 2, stride=2, bias=False), nn.Flatten(), nn.Linear(108, 10),
    )  # fmt: skip
    with FlopCounterMode(display=False) as counter:
        _step(model, 3)()
    calls = record(_step(model, 3))
    assert 2 * sum(price(call).macs for call in calls) == counter.get_total_flops()


def test_the_layers_of_a_step_are_recorded_as_the_rules_expect_them(record: Any) -> None:
    kinds = Counter(call.kind for call in record(_step(MODELS["depthwise"](), 2)))
    assert kinds["convolution"] == kinds["convolution_grad_weight"] == kinds["convolution_grad_bias"] == 2
    assert kinds["convolution_grad_input"] == 1  # the image needs no gradient
    assert kinds["native_batch_norm"] == kinds["native_batch_norm_backward"] == 1
