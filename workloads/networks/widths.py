"""Convolutions whose widths a table may change, and the check that such a table fits the network."""

import difflib
import operator
from collections.abc import Mapping
from typing import TypeVar

from torch import nn

from simulator.errors import TrainwattError

_Module = TypeVar("_Module", bound=nn.Module)


class Widths:
    """Makes the convolutions of one network, each as wide as a table or else its definition says.

    `table` maps paths of convolutions to output channels and need not be complete. A network makes every
    convolution through this object, in the scope (`at`) of the module that holds it, and passes itself
    through `checked` once it is complete.

    Raises `TrainwattError` where a width in the table is not a positive integer.
    """

    def __init__(self, network: str, table: Mapping[str, int] | None = None) -> None:
        self._network = network
        self._table = dict(table or {})
        self._prefix = ""
        self._paths: dict[nn.Conv2d, str] = {}
        self._groups: list[set[nn.Conv2d]] = []
        for path, width in self._table.items():
            try:
                positive = operator.index(width) > 0 and not isinstance(width, bool)
            except TypeError:
                positive = False
            if not positive:
                raise TrainwattError(f"the width of {path!r} must be a positive integer, got {width!r}")

    def at(self, path: str) -> "Widths":
        """Return this object seen from the submodule `path`; it shares the table and the checks."""
        scope = object.__new__(Widths)
        scope.__dict__.update(self.__dict__, _prefix=f"{self._prefix}{path}.")
        return scope

    def path(self, conv: nn.Conv2d) -> str:
        """Return the path under which `conv` was made."""
        return self._paths[conv]

    def conv(
        self,
        name: str,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        *,
        padding: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> nn.Conv2d:
        """Make the convolution `name` of this scope, `outputs` wide unless the table says otherwise.

        `padding` is by default the one that keeps the image size at stride 1.
        """
        path = self._prefix + name
        width = int(self._table.get(path, outputs))
        if padding is None:
            padding = dilation * (kernel // 2)
        conv = nn.Conv2d(inputs, width, kernel, stride, padding, dilation, groups, bias)
        self._paths[conv] = path
        return conv

    def depthwise(self, name: str, channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
        """Make a depthwise convolution, which is as wide as its input of `channels`.

        Raises `TrainwattError` where the table gives it another width.
        """
        self._require(name, channels, "is depthwise and must be as wide as its input")
        return self.conv(name, channels, channels, kernel, stride, groups=channels)

    def classes(self, name: str, inputs: int, classes: int) -> nn.Conv2d:
        """Make the 1x1 convolution, with bias, that gives the logits.

        Raises `TrainwattError` where the table gives it another width than `classes`.
        """
        self._require(name, classes, "gives the logits and must be as wide as there are classes")
        return self.conv(name, inputs, classes, 1, bias=True)

    def _require(self, name: str, width: int, reason: str) -> None:
        path = self._prefix + name
        given = self._table.get(path, width)
        if given != width:
            raise TrainwattError(f"{path!r} in {self._network} {reason}: {width}, got {given}")

    def added(self, *convs: nn.Conv2d) -> None:
        """Note that the outputs of `convs` are added up, so that their widths must be equal."""
        group = set(convs)
        apart = [other for other in self._groups if not group & other]
        for other in self._groups:
            if group & other:
                group |= other
        self._groups[:] = [*apart, group]

    def checked(self, network: _Module) -> _Module:
        """Return the complete `network`.

        Raises `TrainwattError` where the table names a convolution that the network does not have, or
        gives unequal widths to convolutions whose outputs are added up.
        """
        known = set(self._paths.values())
        for path in self._table:
            if path not in known:
                raise TrainwattError(f"no convolution {path!r} in {self._network}; {self._hint(path)}")
        for group in self._groups:
            members = [conv for conv in self._paths if conv in group]
            first = members[0]
            for other in members:
                if other.out_channels != first.out_channels:
                    listing = ", ".join(self._paths[conv] for conv in members)
                    raise TrainwattError(
                        f"{self._paths[first]!r} is {first.out_channels} wide and {self._paths[other]!r} "
                        f"{other.out_channels} in {self._network}, but their outputs are added up; "
                        f"these must be equal: {listing}"
                    )
        return network

    def _hint(self, path: str) -> str:
        known = list(self._paths.values())
        close = difflib.get_close_matches(path, known, 1)
        if close:
            return f"did you mean {close[0]!r}?"
        return f"it has {len(known)}, from {known[0]!r} to {known[-1]!r}" if known else "it has none"
