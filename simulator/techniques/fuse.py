"""Batch norm folded into the convolution before it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.rewriting.edit import Edit
from simulator.rewriting.folding import Fold, fold, folds, fuse_activation
from simulator.techniques import Technique


@dataclass(frozen=True)
class Fuse(Technique):
    """Fold every frozen batch norm into the frozen convolution before it; nothing of it is left in the step.

        w' = w * s,   b' = (b - running_mean) * s + shift,   s = scale / sqrt(running_var + eps)

    Where the norm uses its running statistics and neither it nor the convolution is trained (`sparse-update` and
    `freeze-bn{affine=false}` before this), w' and b' are computed once, before training. The convolution then has a
    bias. With `activation`, a ReLU behind it is fused into it as well, as runtimes for inference do: its op goes, and
    its comparisons are not counted; eager PyTorch has no such kernel, so this has no runnable form.

    Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR
    2018, arXiv:1712.05877 (section 3.2: folding).
    """

    name: ClassVar[str] = "fuse"

    activation: bool = False

    def rewrite(self, graph: Graph) -> Graph:
        """Return the step without the norms folded; raises `TrainwattError` where there is none to fold."""
        edit = Edit(graph)
        found = _all_uses(edit)
        if not found:
            raise TrainwattError(
                "fuse on a step without a frozen convolution and a frozen batch norm after it; "
                "apply sparse-update and freeze-bn{affine=false} before"
            )
        biases: dict[int, int] = {}
        for pair in found:
            weight = edit.tensors[pair.convolution.inputs[1]].storage
            biases[weight] = fold(edit, pair, biases.get(weight))
            if self.activation:
                fuse_activation(edit, pair.convolution)
        edit.sweep()
        return edit.graph()


def _all_uses(edit: Edit) -> list[Fold]:
    """Return the pairs to fold: those whose weights serve nothing else than convolutions before that same norm."""
    norms: dict[int, set[int]] = defaultdict(set)
    uses: dict[int, int] = defaultdict(int)
    found = folds(edit)
    for pair in found:
        weight = edit.tensors[pair.convolution.inputs[1]].storage
        norms[weight].add(edit.tensors[pair.norm.inputs[3]].storage)
        uses[weight] += 1
    for node in edit.nodes:
        if node.kind == "convolution":
            for storage in {edit.tensors[t].storage for t in node.inputs} & set(uses):
                uses[storage] -= 1
    shared = {w for w in norms if len(norms[w]) > 1 or uses[w]}
    return [pair for pair in found if edit.tensors[pair.convolution.inputs[1]].storage not in shared]
