"""Gradient filtering, run for real: its gradients against sums written out patch by patch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from simulator.techniques.gradient_filter import GradientFilter
from tests.techniques.filterable import Mixed
from workloads.techniques.gradient_filter import workload
from workloads.workload import Workload


def filtered(model: nn.Module, images: torch.Tensor, **parameters: Any) -> nn.Module:
    """A copy of `model` with filtered convolutions."""
    model = copy.deepcopy(model)

    def inputs(batch: int) -> torch.Tensor:
        return torch.zeros(batch, *images.shape[1:], dtype=images.dtype)

    made = Workload(model, inputs, lambda batch: None, lambda y, _: y.sum())
    return workload(GradientFilter(**parameters), made).model


def gradients(model: nn.Module, x: torch.Tensor, dy: torch.Tensor) -> list[torch.Tensor]:
    """Gradients of the input and of every parameter for the error map `dy`."""
    x = x.detach().clone().requires_grad_()
    model(x).backward(dy)
    return [g for g in (x.grad, *(p.grad for p in model.parameters())) if g is not None]


def by_patch(conv: nn.Conv2d, x: torch.Tensor, dy: torch.Tensor, patch: int, first: bool) -> list[torch.Tensor]:
    """Eqs. 2, 3 and 5 of Yang et al. (CVPR 2023), patch by patch; `first`: half of what is missing is at the front."""
    depthwise, stride = conv.groups > 1, conv.stride[0]
    reach, (h, w), (high, wide) = patch * stride, x.shape[2:], dy.shape[2:]
    rows, columns = -(-high // patch), -(-wide // patch)

    def window(index: int, side: int, count: int, extent: int) -> slice:
        margin = -(-(count * side - extent) // 2) if first else 0
        return slice(max(0, index * side - margin), min(extent, (index + 1) * side - margin))

    theta = conv.weight.detach().sum((2, 3))
    dx, dweight = torch.zeros_like(x), torch.zeros_like(theta)
    for i in range(rows):
        for j in range(columns):
            of_y = (..., window(i, patch, rows, high), window(j, patch, columns, wide))
            of_x = (..., window(i, reach, rows, h), window(j, reach, columns, w))
            means, sums = dy[of_y].mean((2, 3)), x[of_x].sum((2, 3))
            product = means * theta[:, 0] if depthwise else means @ theta
            dx[of_x] = product[:, :, None, None]
            dweight += (means * sums).sum(0)[:, None] if depthwise else means.t() @ sums
    made = [dx, dweight[:, :, None, None].expand_as(conv.weight)]
    return made if conv.bias is None else [*made, dy.sum((0, 2, 3))]


@pytest.mark.parametrize("variant", ["lean", "official"])
@pytest.mark.parametrize("size", [8, 7, 3])
@pytest.mark.parametrize(
    "convolution",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": "same", "bias": False},
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": 1},
        {"kernel_size": (1, 7), "padding": (0, 3)},
        {"kernel_size": 3, "padding": 1, "groups": 6},
        {"kernel_size": 1, "stride": 2, "groups": 6},
    ],
)
def test_gradients_are_those_of_the_equations(convolution: dict[str, Any], size: int, variant: str) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 6 if "groups" in convolution else 5, **convolution).double()
    x = torch.randn(3, 6, size, size, dtype=torch.double)
    y = conv(x)
    dy = torch.randn_like(y)
    model = filtered(conv, x, patch=2, variant=variant)
    assert torch.equal(model(x), y)
    for got, right in zip(gradients(model, x, dy), by_patch(conv, x, dy, 2, first=variant == "official"), strict=True):
        torch.testing.assert_close(got, right)


@pytest.mark.parametrize("variant", ["lean", "official"])
def test_a_1x1_convolution_whose_error_map_is_constant_in_patches_has_pytorchs_gradients(variant: str) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 1).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.double)
    dy = torch.randn(2, 4, 2, 2, dtype=torch.double).repeat_interleave(4, 2).repeat_interleave(4, 3)
    for got, right in zip(
        gradients(filtered(conv, x, patch=4, variant=variant), x, dy), gradients(conv, x, dy), strict=True
    ):
        torch.testing.assert_close(got, right)


@pytest.mark.parametrize("variant", ["lean", "official"])
def test_patches_of_one_leave_a_network_its_gradients(variant: str) -> None:
    torch.manual_seed(0)
    model, x, dy = Mixed(), torch.randn(2, 3, 18, 18), torch.randn(2, 5)
    assert all(
        map(torch.equal, gradients(filtered(model, x, patch=1, variant=variant), x, dy), gradients(model, x, dy))
    )


def test_a_kernel_dilated_by_a_patch_sees_constant_patches_as_the_kernel_undilated_sees_pixels() -> None:
    # Patches of 2 with dilation 2: taps lie one patch apart, so on maps that are constant in patches dx is the sum of
    # what each patch gets from its neighbours, as for a 3x3 kernel of dilation 1 on the patches.
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=2, dilation=2, bias=False).double()
    small = nn.Conv2d(3, 4, 3, padding=1, bias=False).double()
    small.weight = conv.weight
    dy = torch.randn(2, 4, 5, 5, dtype=torch.double)
    x = torch.randn(2, 3, 10, 10, dtype=torch.double)
    right = gradients(small, torch.randn(2, 3, 5, 5, dtype=torch.double), dy)[0]
    full = dy.repeat_interleave(2, 2).repeat_interleave(2, 3)
    for variant in ("lean", "official"):
        got = gradients(filtered(conv, x, patch=2, variant=variant), x, full)[0]
        torch.testing.assert_close(got, right.repeat_interleave(2, 2).repeat_interleave(2, 3))
    # On such an error map dx is exact: that of the dilated convolution itself.
    torch.testing.assert_close(got, gradients(conv, x, full)[0])


def test_parameters_keep_their_names_and_evaluation_runs_pytorchs_convolution() -> None:
    model, x = Mixed(), torch.randn(2, 3, 18, 18)
    changed = filtered(model, x, patch=2)
    assert list(changed.state_dict()) == list(model.state_dict())
    with torch.no_grad():
        assert torch.equal(changed(x), model(x))


@pytest.mark.parametrize("variant", ["lean", "official"])
def test_a_filtered_network_learns_the_colour_of_each_class(variant: str) -> None:
    torch.manual_seed(0)
    target = torch.arange(16) % 5
    x = torch.randn(16, 3, 18, 18) + torch.randn(5, 3)[target][:, :, None, None]
    model = filtered(Mixed(), x, patch=2, variant=variant)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_under_autocast_gradients_have_the_dtype_of_the_parameters() -> None:
    model, x = filtered(Mixed(), torch.zeros(2, 3, 18, 18), patch=2), torch.randn(2, 3, 18, 18)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(x).sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())
