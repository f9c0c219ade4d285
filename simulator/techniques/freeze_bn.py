"""Batch norm that no longer follows the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.rewriting.batch_norm import freeze_batch_norms, learning_norms
from simulator.rewriting.edit import Edit
from simulator.rewriting.freezing import freeze
from simulator.rewriting.layers import choose, layer_of, parameters
from simulator.techniques import Technique


@dataclass(frozen=True)
class FreezeBatchNorm(Technique):
    """Put batch norms into eval mode: those that `layers` match, or all.

        y = (x - running_mean) / sqrt(running_var + eps) * w + b

    Running statistics are read and no longer updated, and the gradient of x needs no sums over the batch. Scale w and
    shift b are still trained, unless `affine=false` freezes them too.

    Ioffe and Szegedy, "Batch Normalization", ICML 2015, arXiv:1502.03167 (equation above); frozen in fine-tuning
    from He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385 (appendix A) on.
    """

    name: ClassVar[str] = "freeze-bn"

    layers: tuple[str, ...] = ()
    affine: bool = True

    def rewrite(self, graph: Graph) -> Graph:
        """Return the step with the chosen norms frozen; raises `TrainwattError` where there is none to freeze."""
        edit = Edit(graph)
        norms = learning_norms(edit)
        chosen = set(chosen_norms(self, [norm.layer for norm in norms]))
        freeze_batch_norms(edit, [norm for norm in norms if norm.layer in chosen])
        if not self.affine:
            freeze(edit, [name for name in parameters(graph) if layer_of(name) in chosen])
        return edit.graph()


def chosen_norms(technique: FreezeBatchNorm, norms: list[str]) -> list[str]:
    """Return which of the batch norms `norms` in training mode are frozen; raises `TrainwattError` for none."""
    if not norms:
        raise TrainwattError("freeze-bn on a step without batch norm in training mode; there is nothing to freeze")
    return choose(norms, "batch norms", technique.layers)
