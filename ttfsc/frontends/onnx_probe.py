"""Where an ONNX file holds the values of the layers made of it, and the file with these tensors as outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from ttfsc.frontends.onnx_file import Node, read_graph
from ttfsc.ir import Net

_MOVES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Dropout", "Cast")
_AFFINE = ("BatchNormalization", "Add", "Sub", "Mul", "Div", "Neg")
_ACTIVATIONS = ("Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Clip", "Max")


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor of the file [N, ...], or some of its channels."""

    tensor: str
    channels: slice | None = None


def places_of(path: Path, net: Net, layers: Sequence[str]) -> dict[str, Place]:
    """Where the values of firing layers should be, but for negative ones: behind the activation that each came from.

    Layers of one node are the parts of a concatenation, one after the other along its channels. Those of a node that is
    no activation pass on a sum which that node reads. A max pool in front of an activation is behind it in the net, so
    what it reads is the layer. Raises TtfsError for a file that cannot be read.
    """
    graph = read_graph(path)
    nodes, makers = (
        {node.name: node for node in graph.nodes},
        {out: node for node in graph.nodes for out in node.outputs},
    )
    groups = dict[str, list[str]]()
    for name in layers:
        groups.setdefault(net.by_name[name].loc.origin, []).append(name)
    found = dict[str, Place]()
    for origin, names in groups.items():
        node = nodes.get(origin)
        tensor, at = None if node is None else _tensor_of(node, makers), 0
        if tensor is None:
            continue
        for name in names:
            count = net.type_of(name).shape[0]
            found[name] = Place(tensor, slice(at, at + count) if len(names) > 1 else None)
            at += count
    return found


def _tensor_of(node: Node, makers: dict[str, Node]) -> str | None:
    """The tensor that holds a layer's values; None where no tensor does."""
    if node.op not in _ACTIVATIONS:
        return node.inputs[0]
    tensor, at, scaled = node.outputs[0], makers.get(node.inputs[0]), False
    while at is not None and at.op in ("MaxPool", "GlobalMaxPool", *_MOVES, *_AFFINE):
        if at.op in ("MaxPool", "GlobalMaxPool"):
            if scaled:
                return None
            tensor = at.inputs[0]
        scaled |= at.op in _AFFINE
        at = makers.get(at.inputs[0])
    return tensor


def with_outputs(path: Path, tensors: Iterable[str]) -> bytes:
    """The file with more of its tensors among the outputs; external data stays where it is."""
    model = onnx.ModelProto.FromString(path.read_bytes())
    present = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in present)
    return model.SerializeToString()
