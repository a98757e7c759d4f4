"""The walk over a graph's nodes: constants are folded, all else goes to its rule; all faults come out at once."""

from __future__ import annotations

from math import prod
from typing import cast

from ttfsc.frontends.onnx_constants import FOLDED, fold
from ttfsc.frontends.onnx_file import Graph, Node
from ttfsc.frontends.onnx_lowering import OnnxLowering, clean
from ttfsc.frontends.onnx_rules import RULES, reason
from ttfsc.frontends.onnx_tensor import limits_of
from ttfsc.frontends.onnx_view import BATCH_AXIS, View
from ttfsc.frontends.value import BROKEN, UNKNOWN, Declared, Refused, Value
from ttfsc.ir import Loc, Net
from ttfsc.ir.verify import MAX_SIZE

_INTEGER_TYPES = (2, 3, 4, 5)  # uint8, int8, uint16, int16: inputs that say their range themselves


class Walk:
    """One graph on its way to a net."""

    def __init__(self, graph: Graph, declared: Declared, batch: int, loc: Loc) -> None:
        self.graph, self.file = graph, loc
        self.low = OnnxLowering(clean(graph.name) or "net", declared, graph.input, batch, graph.opset)
        self.low.loc = loc
        shape = declared.shape
        assert shape is not None
        axes = tuple(() if n == 1 else (i,) for i, n in enumerate(shape))
        lone = len(graph.input.dims) == 1
        self.tensors: dict[str, object] = dict(graph.known)
        self.tensors[graph.input.name] = View((), shape, axes if lone else (BATCH_AXIS, *axes))
        if graph.input.elem in _INTEGER_TYPES:
            self.low.declare(*limits_of(graph.input.elem), 1.0)

    def net(self) -> Net:
        """The net. Raises TtfsError with every fault."""
        for node in self.graph.nodes:
            result = self.low.step(clean(node.name) or node.op, node.loc, node.subject, lambda n=node: self.lower(n))
            for i, name in enumerate(node.outputs):
                self.tensors[name] = result if i == 0 and not isinstance(result, tuple) else BROKEN
            if isinstance(result, tuple):
                self.tensors |= dict(zip(node.outputs, cast("tuple[View, ...]", result), strict=True))
        self.low.base = "output"
        ended = self.low.step("output", Loc(self.file.file, origin="output"), "output", self.result)
        return self.low.finish(ended)

    def lower(self, node: Node) -> object:
        """One node: a view (several of a Split), a known tensor, or BROKEN where it reads something broken."""
        inputs = [self.tensors[name] if name else None for name in node.inputs]
        if any(x is BROKEN or x is UNKNOWN for x in inputs):
            if node.op in ("Shape", "Size") or (node.op in FOLDED and not any(_depends(x) for x in inputs)):
                return UNKNOWN
            if node.op not in RULES:
                raise Refused(reason(node))
            return BROKEN
        operands = [x for x in inputs if not isinstance(x, View)]
        if len(operands) == len(inputs):
            folded = fold(node, operands)  # pyright: ignore[reportArgumentType]
            if folded is not None:
                return folded
        rule = RULES.get(node.op)
        if rule is None or node.domain:
            raise Refused(reason(node))
        if not node.inputs:
            raise Refused("has no inputs; the file is damaged")
        made = rule.call(self.low, node, inputs)  # pyright: ignore[reportArgumentType]
        if isinstance(made, View) and prod(made.atoms) > MAX_SIZE:
            raise Refused(
                f"makes {prod(made.atoms)} values {list(made.atoms)}, more than the {MAX_SIZE} a layer may have"
            )
        return made

    def result(self) -> object:
        """What the graph's outputs say: one value, the class scores."""
        found = [self.tensors[name] for name in self.graph.outputs]
        if any(x is BROKEN for x in found):
            return BROKEN
        ends = [x for x in found if isinstance(x, View)]
        if len(ends) < len(found):
            raise Refused("does not depend on the input")
        if any(view.raw for view in ends):
            raise Refused("the input reaches the output unchanged; the model has no layers")
        ends = ends if len(ends) == 1 else [v for v in ends if not v.tail] or ends
        if len({v.parts[0].ref for v in ends}) > 1 or any(len(v.parts) > 1 for v in ends):
            names = ", ".join(self.graph.outputs)
            raise Refused(f"the model answers with {names}; a net has one answer: keep one (onnx.utils.extract_model)")
        view = ends[0]
        if view.tail:
            self.low.note(f"{view.tail} at the end is left out: the largest score stays the largest")
        order = [a for axis in view.axes if axis != BATCH_AXIS for a in axis]
        if order != sorted(order):
            raise Refused("the answer has its axes transposed; end with [N, classes]")
        return self.scores(view.parts[0], merged=any(len(axis) > 1 for axis in view.axes))

    def scores(self, value: Value, *, merged: bool) -> Value:
        """The read-out."""
        value = self.low.flatten(value) if merged or value.shape[1:] == (1, 1) else value
        return self.low.compared(value)


def _depends(x: object) -> bool:
    """Whether an operand depends on the graph's input (a shape does not)."""
    return x is BROKEN or isinstance(x, View)
