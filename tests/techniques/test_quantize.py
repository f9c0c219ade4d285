"""Quantised training: the transform against the trace of the twin, memory by hand, and real steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from simulator.errors import TrainwattError
from simulator.techniques import apply, parse
from tests.techniques.agreement import assert_agree, both, described, sums
from tests.techniques.test_psg import _batch, _step
from workloads import trace

SMALL = {"input_shape": (3, 64, 64)}
NETWORKS = [("resnet8-cifar", {}), ("mobilenetv2", SMALL), ("squeezenet1.1", SMALL)]


@pytest.mark.parametrize(("network", "options"), NETWORKS)
@pytest.mark.parametrize("text", ["quantize{dtype=simulated}", "quantize{bits=12,gradient_bits=16,dtype=simulated}"])
def test_the_simulated_transform_is_the_trace_of_the_twin(text: str, network: str, options: dict[str, Any]) -> None:
    transformed, ran = both(text, network, batch=3, **options)
    assert_agree(transformed, ran)
    assert described(transformed) == described(ran)
    assert sums(transformed) == sums(ran)


@pytest.mark.parametrize(("network", "options"), NETWORKS)
@pytest.mark.parametrize("text", ["quantize", "quantize{bits=4,gradient_bits=6}"])
def test_kernels_of_integers_differ_from_the_twin_in_the_bytes_of_operands_only(
    text: str, network: str, options: dict[str, Any]
) -> None:
    transformed, ran = both(text, network, batch=3, **options)
    a, b = sums(transformed), sums(ran)
    assert (a.macs, a.flops, a.saved_bytes) == (b.macs, b.flops, b.saved_bytes)
    assert a.traffic_bytes < b.traffic_bytes  # codes are read as 1 byte, not 4, and not made floating-point again
    assert a.peak_bytes <= 1.001 * b.peak_bytes


LAST = "sparse-update{layers=layer3|fc}"


@pytest.mark.parametrize(
    "text",
    [f"quantize{{dtype=simulated}},{LAST}", f"{LAST},quantize{{dtype=simulated}}", "slu,quantize{dtype=simulated}"],
)
def test_it_composes_with_other_techniques(text: str) -> None:
    transformed, ran = both(text, "resnet20-cifar", batch=4, rebatches=False)
    assert_agree(transformed, ran)


HALVED = [("bfloat16", *network) for network in (*NETWORKS, ("vgg11-cifar", {}), ("googlenet", SMALL))]


@pytest.mark.parametrize(("dtype", "network", "options"), [*HALVED, ("float16", "resnet8-cifar", {})])
def test_mixed_precision_is_the_trace_under_autocast(dtype: str, network: str, options: dict[str, Any]) -> None:
    transformed, ran = both(f"quantize{{dtype={dtype}}}", network, batch=2, **options)
    assert_agree(transformed, ran)
    assert described(transformed) == described(ran)
    assert sums(transformed) == sums(ran)
    for op, other in zip(transformed.ops, ran.ops, strict=True):
        assert [transformed.tensors[t].dtype for t in op.outputs] == [ran.tensors[t].dtype for t in other.outputs]
    precision = {"bfloat16": "bf16", "float16": "fp16"}[dtype]
    assert sums(transformed) == sums(trace(network, batch=2, precision=precision, **options))


@pytest.mark.parametrize("text", [f"{LAST},quantize{{dtype=bfloat16}}", f"quantize{{dtype=bfloat16}},{LAST}"])
def test_mixed_precision_composes(text: str) -> None:
    assert_agree(*both(text, "resnet8-cifar", batch=4))


def test_operands_and_what_is_saved_are_integers() -> None:
    graph = apply(parse("quantize"), trace("resnet8-cifar", batch=2))
    products = [op for op in graph.ops if "bits" in op.attrs]
    assert len(products) == 3 * 8 - 1  # seven convolutions and the linear layer; the first needs no dgrad
    for op in products:
        assert {graph.tensors[t].dtype for t in op.inputs} == {"int8"}
        assert {graph.tensors[t].dtype for t in op.saved if graph.tensors[t].shape} <= {"int8"}


def test_the_input_of_a_convolution_is_saved_in_a_quarter_of_its_bytes() -> None:
    # A bare convolution saves x (2 x 3 x 8 x 8) and, as nothing below is trained, no weight: 384 floats become bytes,
    # with a step of 4. The linear layer saves 2 x 256 inputs and 10 x 256 weights, with two steps.
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(256, 10))
    plain = trace(model, batch=2, input_shape=(3, 8, 8))
    graph = apply(parse("quantize"), plain)
    loss = 2 * 10 * 4 + 4  # log-probabilities and the sum of weights
    assert sums(plain).saved_bytes == 4 * 512 + loss  # the input batch itself was there before
    assert sums(graph).saved_bytes == 384 + 4 + 512 + 4 + 2560 + 4 + loss


def test_with_many_bits_gradients_are_those_of_pytorch() -> None:
    plain, codes = _step(""), _step("quantize{bits=16,gradient_bits=16,dtype=simulated}")
    for step in (plain, codes):
        step.backward(*_batch())
    for (name, a), b in zip(plain.workload.model.named_parameters(), codes.workload.model.parameters(), strict=True):
        if name != "0.bias":  # in front of a batch norm, a bias has no gradient but rounding
            torch.testing.assert_close(b.grad, a.grad, rtol=0.02, atol=1e-3)


def test_eight_bits_learn() -> None:
    inputs, targets = _batch()
    plain, codes = ([float(step.run(inputs, targets)) for _ in range(30)] for step in (_step(""), _step("quantize")))
    assert plain[-1] < 0.9 * plain[0]
    assert codes[-1] == pytest.approx(plain[-1], rel=0.05)


def test_a_linear_layer_takes_any_leading_dimensions() -> None:
    model = nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3, bias=False), nn.Flatten())
    step = _step("quantize{bits=16,gradient_bits=16,dtype=simulated}", *model)
    plain = _step("", *model)
    inputs, targets = torch.randn(4, 3, 2, 8), torch.arange(4)
    torch.testing.assert_close(step.workload.forward(inputs), plain.workload.forward(inputs), rtol=1e-2, atol=1e-2)
    assert step.backward(inputs, targets) is not None


def test_it_says_why_it_does_not_apply() -> None:
    with pytest.raises(TrainwattError, match="without convolutions and linear layers"):
        apply(parse("quantize"), trace(nn.BatchNorm2d(3), batch=2, input_shape=(3, 8, 8), loss="mse"))
    with pytest.raises(TrainwattError, match="computes with few bits already"):
        apply(parse("psg,quantize"), trace("resnet8-cifar", batch=2))


def test_mixed_precision_says_why_it_does_not_apply() -> None:
    half = parse("quantize{dtype=bfloat16}")
    with pytest.raises(TrainwattError, match="with few bits already"):
        apply(half, trace("resnet8-cifar", batch=2, precision="bf16"))
    with pytest.raises(TrainwattError, match="several micro-batches"):
        apply(half, trace("resnet8-cifar", batch=2, accumulate=2))
    with pytest.raises(TrainwattError, match="mixes precisions; trace the step in 16 bits instead"):
        apply(half, trace("vit-tiny", batch=2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quantize{bits=16}", "bits is 2 to 8 bits where dtype is int8"),
        ("quantize{gradient_bits=17,dtype=simulated}", "gradient_bits is 2 to 16 bits where dtype is simulated"),
    ],
)
def test_wrong_parameters_are_refused(text: str, message: str) -> None:
    with pytest.raises(TrainwattError, match=message):
        parse(text)
