"""zennit-crp's `crp.graph`, handed on from `crp.legacy`."""

from crp.legacy.graph import GraphNode, ModelGraph, dump_pytorch_graph, trace_model_graph

__all__ = ["GraphNode", "ModelGraph", "dump_pytorch_graph", "trace_model_graph"]
