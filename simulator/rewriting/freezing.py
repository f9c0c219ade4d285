"""Parameters that a step stops training, and everything that only served them."""

from __future__ import annotations

from collections.abc import Collection

from simulator.errors import TrainwattError
from simulator.rewriting.edit import Edit


def freeze(edit: Edit, names: Collection[str]) -> None:
    """Stop training the parameters called `names`: their updates go, and whatever only these needed.

    That is their wgrad, every dgrad below the lowest parameter still trained, the saved activations of both, and their
    optimizer state. Raises `TrainwattError` where nothing would be left to train, or where the optimizer updates many
    parameters in one op.
    """
    frozen = {i for i, s in enumerate(edit.storages) if s.role == "parameter" and s.name in names}
    state = {
        i
        for i, s in enumerate(edit.storages)
        if s.role in ("optimizer-state", "gradient") and s.name.rpartition(".")[0] in names
    }
    trained = {edit.tensors[t].storage for n in edit.nodes for t in n.mutates if n.phase == "optimizer"}
    trained = {i for i in trained if edit.storages[i].role == "parameter"}
    if not trained - frozen:
        raise TrainwattError("nothing would be left to train; leave at least one trained parameter")
    gone = frozen | state
    for node in list(edit.nodes):
        if node.phase != "optimizer":
            continue
        used = {edit.tensors[t].storage for t in node.tensors}
        if not used & gone:
            continue
        if any(edit.storages[i].role in ("parameter", "optimizer-state", "gradient") for i in used - gone):
            raise TrainwattError(
                f"the optimizer updates many parameters in one op ({node.kind}); trace the step without foreach"
            )
        edit.remove(node)
    for node in edit.nodes:  # autocast keeps its copies of weights that are trained, and no others
        if node.kind == "_to_copy" and node.phase == "forward" and edit.tensors[node.inputs[0]].storage in frozen:
            edit.release_storage(edit.tensors[node.outputs[0]].storage)
    edit.sweep()
