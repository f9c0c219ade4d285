"""How a convolution's error map and input are cut into patches for gradient filtering.

    x (N, C, H, W), weight (K, C/groups, h, w), y (N, K, Ho, Wo), stride s, patch r

A patch is r x r of y's gradient and R x R of x, R = r * s, so that both fall into the same P = ceil(Ho/r) * ceil(Wo/r)
patches (Yang et al., arXiv:2301.00330, 2023, section 4; strides as in the authors' operator).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from simulator.errors import TrainwattError

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Filter:
    """The patches of one convolution, each pair (vertical, horizontal), in elements.

    `patch` is r and `reach` R; `patches` how many there are, `image` the size of x. Where the map is no multiple of the
    patch, the missing rows are at its end; `margin` (of y) and `reach_margin` (of x) are the padding that puts them at
    both ends. `kernel` is that of the convolution. `spread` is the dilation in patches of a kernel whose taps lie in
    different patches; None where all taps of a patch meet the same one, so that only their sum counts.
    """

    patch: Pair
    reach: Pair
    patches: Pair
    image: Pair
    margin: Pair
    reach_margin: Pair
    kernel: Pair
    groups: int
    spread: Pair | None

    @property
    def depthwise(self) -> bool:
        return self.groups > 1

    @property
    def pointwise(self) -> bool:
        """Whether the kernel has one tap only, which is its own sum."""
        return self.kernel == (1, 1)

    @property
    def spread_padding(self) -> Pair:
        """The padding that keeps the size of the patched map under the spread kernel."""
        spread = self.spread or (0, 0)
        return spread[0] * (self.kernel[0] - 1) // 2, spread[1] * (self.kernel[1] - 1) // 2


@lru_cache(maxsize=1024)
def filter_of(
    layer: str,
    x: tuple[int, ...],
    weight: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    transposed: bool,
    patch: int,
) -> Filter:
    """Return how the convolution `layer` is filtered.

    `x` is (C, H, W), `weight` (K, C/groups, h, w). Raises `TrainwattError` where it cannot be: the convolution is
    transposed or not of images, has groups but is not depthwise, its padding does not keep the map (the patches of y
    must be those of x), or its taps lie in different patches along one axis only.
    """
    what = f"gradient-filter on convolution {layer!r}"
    if transposed:
        raise TrainwattError(f"{what}, which is transposed; ordinary convolutions are filtered, so leave it out")
    if len(weight) != 4:
        raise TrainwattError(f"{what} of {len(weight) - 2} dimensions; convolutions of 2 are filtered, so leave it out")
    channels, outputs = x[0], weight[0]
    if groups > 1 and not groups == channels == outputs:
        raise TrainwattError(
            f"{what} of {groups} groups, {channels} to {outputs} channels; "
            "groups are 1, or as many as input and output channels"
        )
    axes = [_axis(what, *numbers, patch) for numbers in zip(x[1:], weight[2:], stride, padding, dilation, strict=True)]
    spreads = {axis[3] > 0 for axis, k in zip(axes, weight[2:], strict=True) if k > 1}
    if len(spreads) > 1:
        raise TrainwattError(f"{what} of dilation {dilation}; it is at least the patch along both axes or along none")
    patches, margins, reach_margins, dilations = ((a, b) for a, b in zip(*axes, strict=True))
    return Filter(
        (patch, patch),
        (patch * stride[0], patch * stride[1]),
        patches,
        (x[1], x[2]),
        margins,
        reach_margins,
        (weight[2], weight[3]),
        groups,
        dilations if spreads == {True} else None,
    )


def _axis(
    what: str, extent: int, taps: int, stride: int, padding: int, dilation: int, patch: int
) -> tuple[int, int, int, int]:
    """Return the number of patches, the margins of y and x, and the dilation in patches (0: folded) along one axis."""
    made = (extent + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
    reach, patches = patch * stride, -(-made // patch)
    if -(-extent // reach) != patches:
        raise TrainwattError(
            f"{what} of padding {padding}: {made} outputs are {patches} patches of {patch}, {extent} inputs "
            f"{-(-extent // reach)} of {reach}; padding must keep the map"
        )
    spread = dilation // reach
    if taps > 1 and spread * (taps - 1) % 2:
        raise TrainwattError(
            f"{what} of {taps} taps and dilation {dilation}; a kernel that spreads over patches is odd"
        )
    return patches, _half(patches * patch - made), _half(patches * reach - extent), spread if taps > 1 else 0


def _half(missing: int) -> int:
    return -(-missing // 2)


def sizes(extents: Sequence[object]) -> tuple[int, ...]:
    """Return extents as numbers; raises `TrainwattError` where one depends on a dimension of the graph."""
    if not all(isinstance(e, int) for e in extents):
        raise TrainwattError(f"gradient-filter on maps of size {'x'.join(map(str, extents))}; sizes must be numbers")
    return tuple(e for e in extents if isinstance(e, int))
