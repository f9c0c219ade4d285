"""Channels-last memory format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.rewriting.edit import Edit
from simulator.rewriting.memory_format import to_channels_last
from simulator.techniques import Technique


@dataclass(frozen=True)
class ChannelsLast(Technique):
    """Keep images (N, C, H, W) and weights with their channels next to each other in memory (NHWC).

    No op computes anything else; strides change, from the images and weights on through everything whose kernel
    follows its operands, and a few copies come in where a tensor is seen in another shape. What it saves is up to
    the kernels: those that work channels last need no copies of their own.

    Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", 2014, arXiv:1410.0759 (layouts of kernels);
    the rules are those of PyTorch 2.13 (2025), `torch.channels_last`.
    """

    name: ClassVar[str] = "channels-last"

    def rewrite(self, graph: Graph) -> Graph:
        """Return the step in channels-last format; raises `TrainwattError` where it is that already."""
        refuse_again(bool(graph.meta.get("channels_last")))
        edit = Edit(graph)
        to_channels_last(edit)
        return edit.graph(meta={**graph.meta, "channels_last": True})


def refuse_again(already: bool) -> None:
    """Raise `TrainwattError` where a step is in channels-last format already."""
    if already:
        raise TrainwattError("channels-last on a step that is channels last already; give it once")
