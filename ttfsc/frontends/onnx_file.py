"""An .onnx file to a plain graph: nodes in order, attributes as Python values, known tensors, the input, the outputs.

The file may be damaged or hostile: every tensor's size is checked against its bytes, names are unique, the graph has
no cycle, and whatever is wrong is reported together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from ttfsc.frontends.onnx_tensor import Known, known, text
from ttfsc.frontends.value import Refused
from ttfsc.ir import Fault, Loc, TtfsError, codes

OLDEST_OPSET = 6
_MAX_BYTES = (1 << 31) - 1  # protobuf's own limit
_A = onnx.AttributeProto
_STANDARD = ("", "ai.onnx")
_MICROSOFT = ("QuantizeLinear", "DequantizeLinear")  # onnxruntime's own for 4 bits, before opset 21; the same ops
QONNX = ("qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas", "qonnx")  # QONNX and its older homes

Attribute = int | float | str | list[int] | list[float] | list[str] | Known | None


def _no_attributes() -> dict[str, Attribute]:
    return {}


@dataclass(frozen=True, slots=True)
class Node:
    """One node: attributes as Python values; outputs and inputs by tensor name, '' where left out."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    loc: Loc
    domain: str = ""
    attributes: dict[str, Attribute] = field(default_factory=_no_attributes)

    @property
    def subject(self) -> str:
        """How messages call it."""
        return f"'{self.op}' {self.name}"


@dataclass(frozen=True, slots=True)
class GraphInput:
    """The graph's one input; None where a dimension is symbolic, unknown or absurd."""

    name: str
    dims: tuple[int | None, ...]
    elem: int


@dataclass(frozen=True, slots=True)
class Graph:
    """What an .onnx file holds, checked."""

    name: str
    opset: int
    nodes: tuple[Node, ...]  # each behind the nodes it reads
    known: dict[str, Known]
    input: GraphInput
    outputs: tuple[str, ...]


def read_graph(path: Path) -> Graph:
    """Read and check an .onnx file. Raises TtfsError with everything that is wrong with it."""
    loc = Loc(str(path))
    try:
        if not path.is_file():
            raise TtfsError.one(codes.FILE, "no such file", loc=loc)
        if path.stat().st_size > _MAX_BYTES:
            fact = "is larger than protobuf's 2 GiB; save the weights as external data beside it"
            raise TtfsError.one(codes.FILE, fact, loc=loc)
        data = path.read_bytes()
    except OSError as e:
        raise TtfsError.one(codes.FILE, f"cannot be read: {e.strerror or e}", loc=loc) from e
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as e:  # protobuf's DecodeError, whose module depends on how protobuf was built
        fact = f"is damaged or no ONNX file ({len(data)} bytes that protobuf cannot read); export or copy it again"
        raise TtfsError.one(codes.DAMAGED, fact, loc=loc) from e
    if not model.ir_version or not model.HasField("graph"):
        raise TtfsError.one(codes.DAMAGED, "is no ONNX model: it has no version or no graph", loc=loc)
    return _Reader(model, path).graph()


class _Reader:
    """One model on its way to a Graph."""

    def __init__(self, model: onnx.ModelProto, path: Path) -> None:
        self.model, self.path, self.source = model, path, model.graph
        self.faults = list[Fault]()
        self.tensors = dict[str, Known]()
        self.places = dict[str, str]()  # tensor name -> who defines it

    def fault(self, code: int, fact: str, *, origin: str = "", subject: str = "") -> None:
        self.faults.append(Fault(code, Loc(str(self.path), origin=origin), subject, fact))

    def graph(self) -> Graph:
        opset = self.opset()
        self.read_tensors()
        found = self.graph_input()
        nodes = self.ordered(self.read_nodes())
        outputs = tuple(text(o.name) for o in self.source.output)
        if not outputs:
            self.fault(codes.DAMAGED, "has no output")
        for name in outputs:
            if name not in self.places:
                self.fault(codes.NAME, f"the output {name!r} is computed by no node", subject="output")
        if self.faults or found is None:
            raise TtfsError(self.faults)
        return Graph(self.path.stem, opset, nodes, self.tensors, found, outputs)

    def opset(self) -> int:
        versions = {text(o.domain): o.version for o in self.model.opset_import if o.domain in _STANDARD}
        newest = onnx.defs.onnx_opset_version()
        if not versions:
            self.fault(codes.DAMAGED, "does not say which opset it uses (opset_import); export it again")
            return newest
        version = max(versions.values())
        if not OLDEST_OPSET <= version <= newest:
            fact = (
                f"uses opset {version}; {OLDEST_OPSET} to {newest} are understood: convert it with "
                "onnx.version_converter, or export it with another opset_version"
            )
            self.fault(codes.UNSUPPORTED, fact)
        if self.model.functions:
            names = ", ".join(sorted({text(f.name) for f in self.model.functions})[:5])
            fact = f"has functions of its own ({names}); inline them: onnx.inliner.inline_local_functions(model)"
            self.fault(codes.UNSUPPORTED, fact)
        return version

    def define(self, name: str, by: str) -> None:
        if name in self.places:
            self.fault(codes.NAME, f"{name!r} is defined by {by} and by {self.places[name]}; names must differ")
        self.places[name] = by

    def read_tensors(self) -> None:
        if self.source.sparse_initializer:
            self.fault(codes.UNSUPPORTED, "has sparse initialisers, which are not understood; store them densely")
        for tensor in self.source.initializer:
            name = text(tensor.name)
            self.define(name, f"initialiser {name}")
            try:
                self.tensors[name] = known(tensor, self.path.parent)
            except Refused as e:
                self.fault(e.code, str(e), origin=name, subject=f"initialiser {name}")

    def graph_input(self) -> GraphInput | None:
        """The one input that is no initialiser: old exporters list weights as inputs too."""
        initialisers = {text(t.name) for t in self.source.initializer}
        inputs = [i for i in self.source.input if text(i.name) not in initialisers]
        if len(inputs) != 1:
            names = ", ".join(text(i.name) for i in inputs) or "none"
            fact = (
                f"has {len(inputs)} inputs that are no initialisers ({names}); a net has exactly one: "
                "onnx.utils.extract_model cuts a part out, and missing weights must be initialisers"
            )
            self.fault(codes.UNSUPPORTED, fact, subject="input")
            for i in inputs:
                self.define(text(i.name), "the inputs")
            return None
        (found,) = inputs
        name = text(found.name)
        self.define(name, "the input")
        if not found.type.HasField("tensor_type"):
            self.fault(codes.UNSUPPORTED, "is no tensor", subject=f"input {name}")
            return None
        tensor = found.type.tensor_type
        dims = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
        negative = [d for d in dims[1:] if d is not None and d < 0]
        if negative:
            self.fault(codes.DAMAGED, f"has the negative dimension {negative[0]}", subject=f"input {name}")
        return GraphInput(name, tuple(d if d is not None and d > 0 else None for d in dims), int(tensor.elem_type))

    def read_nodes(self) -> list[Node]:
        nodes, taken = list[Node](), set[str]()
        for i, proto in enumerate(self.source.node):
            op = text(proto.op_type)
            name = wanted = text(proto.name) or f"{op}_{i}"
            while name in taken:
                name = f"{wanted}_{i}"
                wanted = name
            taken.add(name)
            loc = Loc(str(self.path), origin=name)
            attributes = dict[str, Attribute]()
            for a in proto.attribute:
                try:
                    attributes[text(a.name)] = _attribute(a)
                except Refused as e:
                    fact = f"its attribute {text(a.name)} {e}"
                    self.faults.append(Fault(e.code, loc, f"'{op}' {name}", fact))
            domain = "" if proto.domain in _STANDARD else text(proto.domain)
            if domain == "com.microsoft" and op in _MICROSOFT:
                domain = ""
            node = Node(
                op, name, tuple(map(text, proto.input)), tuple(map(text, proto.output)), loc,
                "" if domain in QONNX else domain, attributes,
            )  # fmt: skip
            for output in node.outputs:
                if output:
                    self.define(output, f"node {name}")
            nodes.append(node)
        return nodes

    def ordered(self, nodes: list[Node]) -> tuple[Node, ...]:
        """Every node behind those it reads; names nodes on a cycle, and inputs that nobody defines."""
        makers = {output: i for i, node in enumerate(nodes) for output in node.outputs if output}
        readers, waits = list[list[int]]([[] for _ in nodes]), [0] * len(nodes)
        for i, node in enumerate(nodes):
            for name in sorted({n for n in node.inputs if n}):
                if name in makers:
                    readers[makers[name]].append(i)
                    waits[i] += 1
                elif name not in self.places:
                    fact = f"reads {name!r}, which is no input, no initialiser and no node's output"
                    self.faults.append(Fault(codes.NAME, node.loc, node.subject, fact))
        ready, done = [i for i, n in enumerate(waits) if not n], list[int]()
        while ready:
            i = ready.pop()
            done.append(i)
            for reader in readers[i]:
                waits[reader] -= 1
                if not waits[reader]:
                    ready.append(reader)
        if len(done) < len(nodes):
            stuck = [nodes[i].name for i, n in enumerate(waits) if n]
            fact = f"its nodes read each other in a circle: {', '.join(stuck[:6])}{', ...' if len(stuck) > 6 else ''}"
            self.fault(codes.DAMAGED, fact)
            return ()
        depth = [0] * len(nodes)  # in the file's own order wherever that is possible
        position = {n: k for k, n in enumerate(_stable(nodes, makers, depth))}
        return tuple(nodes[i] for i in sorted(position, key=position.__getitem__))


def _stable(nodes: list[Node], makers: dict[str, int], state: list[int]) -> Iterator[int]:
    """Indices of an acyclic graph, each behind what it reads, else as in the file. `state` marks what has come."""
    for first in range(len(nodes)):
        stack = [first]
        while stack:
            i = stack[-1]
            if state[i] == 2:
                stack.pop()
                continue
            missing = [makers[n] for n in nodes[i].inputs if n in makers and state[makers[n]] != 2]
            if missing:
                stack += reversed(missing)
            else:
                state[i] = 2
                stack.pop()
                yield i


def _attribute(a: onnx.AttributeProto) -> Attribute:
    match a.type:
        case _A.INT:
            return a.i
        case _A.FLOAT:
            return a.f
        case _A.STRING:
            return a.s.decode("utf-8", "replace")
        case _A.INTS:
            return list(a.ints)
        case _A.FLOATS:
            return list(a.floats)
        case _A.STRINGS:
            return [s.decode("utf-8", "replace") for s in a.strings]
        case _A.TENSOR:
            return known(a.t, None, a.name)
        case _:
            return None  # a subgraph and the like: no rule takes one, and the op is refused by name
