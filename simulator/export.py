"""Graphs for other tools."""

from __future__ import annotations

import networkx as nx

from simulator.graph import Graph


def to_networkx(graph: Graph) -> nx.DiGraph[int]:
    """Return `graph` as a NetworkX digraph: a node per op (its number) with the op's fields as attributes, an edge
    from each op to those that read what it wrote (`tensors`: the tensors passed), and a `forward` edge (`kind`) from
    each forward op to the ops that differentiate it.
    """
    result: nx.DiGraph[int] = nx.DiGraph(meta=dict(graph.meta), sizes=dict(graph.sizes))
    writer: dict[int, int] = {}
    for number, op in enumerate(graph.ops):
        result.add_node(
            number,
            name=op.name,
            kind=op.kind,
            phase=op.phase,
            layer=op.layer,
            runs=op.runs,
            shapes=[[str(e) for e in graph.tensors[t].shape] for t in op.outputs],
        )
        for tensor in op.inputs:
            source = writer.get(graph.tensors[tensor].storage)
            if source is not None:
                if not result.has_edge(source, number):
                    result.add_edge(source, number, kind="data", tensors=[])
                result.edges[source, number].setdefault("tensors", []).append(tensor)
        if op.forward is not None and not result.has_edge(op.forward, number):
            result.add_edge(op.forward, number, kind="forward", tensors=[])
        for tensor in (*op.outputs, *op.mutates):
            writer[graph.tensors[tensor].storage] = number
    return result
