"""Integer net => `model.onnx`: opset 17, standard operators only, equal to the interpreter bit for bit.

Integers travel as float32 wherever the proven bounds stay below 2^24, else as float64; nothing is assumed about the
order in which a runtime adds. What cannot be exact is refused with the reason, all reasons at once.
"""

import json
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper

from ttfsc.backends.onnx.firing import Membrane, Stream, check_loop, fire, firing_of
from ttfsc.backends.onnx.graph import FLOAT, INT64, Graph, RefusedError, Tensor
from ttfsc.backends.onnx.synapses import weighted
from ttfsc.ir import (
    Add,
    Analog,
    Array,
    Const,
    Conv2d,
    Decode,
    Dense,
    Encode,
    Fault,
    Fire,
    Flatten,
    Input,
    MaxPool,
    Net,
    Op,
    Potential,
    Scores,
    Spikes,
    TtfsError,
    bounds_of,
    codes,
    is_integer,
)  # fmt: skip

FILE = "model.onnx"
OPSET, IR_VERSION = 17, 8
SPIKES = "ttfsc.spikes"  # metadata: [[layer, tensor, ticks], ...] as JSON
RANGE = "ttfsc.range"  # metadata: [low, high] of the input as JSON
_RESERVED = ("label", "scores")
_MAX_BYTES = 2**31 - 2**20  # of a protobuf message, with room for what is not initialisers
_MAX_TERMS = 2**47  # the interpreter's own limit

Value = Tensor | Membrane | Stream


def emit(net: Net, *, spikes: bool = False) -> dict[str, bytes]:
    """The files of a quantised net as ONNX: model.onnx, with a free batch size.

    Input: integers as the net declares them, in the smallest type that holds their range. Outputs: `label` int64 [N],
    `scores` int64 [N, classes] and, with `spikes`, the values x (float32, 0 = never) of every firing layer under the
    layer's name. Without it those tensors are inside all the same; the metadata entry `ttfsc.spikes` names them.
    Raises TtfsError for a net that is not quantised, or whose ops have no exact form, with every reason.
    """
    if not is_integer(net):
        raise TtfsError.one(codes.STAGE, "is not quantised: only integers are exported", subject=f"net @{net.name}")
    return {FILE: _Exporter(net).model(spikes).SerializeToString(deterministic=True)}


class _Exporter:
    """One net on its way; values by op name."""

    def __init__(self, net: Net) -> None:
        self.net, self.bounds = net, bounds_of(net)
        self.g = Graph((*_RESERVED, *(op.name for op in net.ops if op.name not in _RESERVED)))
        self.entry = self.g.fresh(f"{net.input.name}.x") if net.input.name in _RESERVED else net.input.name
        self.values = dict[str, Value]()
        self.spikes = list[tuple[Op, Tensor]]()
        self.faults = list[Fault]()

    def model(self, spikes: bool) -> onnx.ModelProto:
        for op in self.net.ops:
            if all(ref in self.values for ref in op.operands()):  # behind a refused op nothing more is known
                try:
                    self.emit(op)
                except RefusedError as e:
                    self.faults.append(Fault(codes.UNSUPPORTED, op.loc, op.subject, f"not exact in ONNX: {e}"))
        if self.faults:
            raise TtfsError(self.faults)
        size = sum(len(t.raw_data) for t in self.g.initialisers)
        if size > _MAX_BYTES:
            fact = f"{size} bytes of weights and tables do not fit an ONNX file of at most {_MAX_BYTES}"
            raise TtfsError.one(codes.UNSUPPORTED, fact, subject=f"net @{self.net.name}")
        classes = self.net.answer.type.shape[0]
        outputs = [
            helper.make_tensor_value_info("label", INT64, ["N"]),
            helper.make_tensor_value_info("scores", INT64, ["N", classes]),
        ]
        if spikes:
            outputs += [helper.make_tensor_value_info(t.name, FLOAT, ["N", *op.type.shape]) for op, t in self.spikes]
        source = self.net.input
        entry = helper.make_tensor_value_info(self.entry, _input_type(source), ["N", *source.type.shape])
        graph = helper.make_graph(self.g.nodes, self.net.name, [entry], outputs, self.g.initialisers)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="ttfsc"
        )
        layers = [[op.name, t.name, op.type.ticks] for op, t in self.spikes if isinstance(op.type, Spikes)]
        helper.set_model_props(model, {RANGE: json.dumps(_range(source)), SPIKES: json.dumps(layers)})
        return model

    def emit(self, op: Op) -> None:
        match op:
            case Input():
                self.values[op.name] = Tensor(self.g.cast(self.entry, FLOAT, f"{op.name}.real"))
            case Encode():
                self.values[op.name] = x = self.named(op, self.encode(op))
                self.spikes.append((op, x))
            case Conv2d() | Dense():
                self.values[op.name] = self.synapse(op)
            case Add():
                self.values[op.name] = self.add(op)
            case MaxPool():
                self.values[op.name] = self.max_pool(op)
            case Flatten():
                self.values[op.name] = self.flatten(op)
            case Fire():
                assert op.theta is not None
                theta = self.net.arrays[op.theta]
                firing = firing_of(op.name, op.type.shape, theta, self.bounds[op.v], op.force_last)
                value = self.values[op.v]
                assert isinstance(value, Membrane | Stream)
                self.values[op.name] = x = self.named(op, fire(self.g, firing, theta, value))
                self.spikes.append((op, x))
            case Decode():
                self.decode(op)
            case _:
                raise RefusedError("it belongs to an earlier stage")

    def named(self, op: Op, x: Tensor) -> Tensor:
        """The tensor under the op's own name: the last node made it, and nobody has read it yet."""
        name = self.g.fresh(f"{op.name}.spikes") if op.name in _RESERVED else op.name
        last = self.g.nodes[-1]
        assert list(last.output) == [x.name]
        last.output[0], last.name = name, f"{last.op_type}:{name}"
        return Tensor(name)

    def wide(self, name: str) -> bool:
        """Whether a potential needs float64. Raises RefusedError beyond the interpreter's own limit."""
        terms = int(self.bounds[name].terms.max())
        if terms >= _MAX_TERMS:
            raise RefusedError(f"its terms can add up to {terms}, beyond {_MAX_TERMS}")
        return terms >= 2**24

    def tensor(self, name: str) -> Tensor:
        value = self.values[name]
        assert isinstance(value, Tensor)
        return value

    def array(self, name: Const, ndim: int) -> Array:
        """Per channel or per neuron, shaped to broadcast over [N, *shape]."""
        a = self.net.arrays[name]
        return a if a.ndim == ndim else a.reshape(-1, *[1] * (ndim - 1))

    def encode(self, op: Encode) -> Tensor:
        """x to values through a table of all inputs: round half up, as semantics.md has it, decided here."""
        source, t = self.net.type_of(op.x), op.type
        assert isinstance(source, Analog) and isinstance(t, Spikes)
        span = source.high - source.low
        x = np.arange(source.low, source.high + 1, dtype=np.int64)
        value = t.ticks - (2 * (source.high - x) * t.ticks + span) // (2 * span)
        table = self.g.constant(value.astype(np.float32), f"{op.name}.table")
        index = self.g.with_array("Sub", self.tensor(op.x), np.asarray(source.low), f"{op.name}.index")
        return Tensor(self.g.op("Gather", table, self.g.cast(index.name, INT64, f"{op.name}.at"), hint=f"{op.name}.x"))

    def max_pool(self, op: MaxPool) -> Tensor:
        x = self.net.type_of(op.x)
        need = [(op.type.shape[a + 1] - 1) * op.stride[a] + op.kernel[a] - x.shape[a + 1] - op.pad[a] for a in (0, 1)]
        pads = [op.pad[0], op.pad[1], max(need[0], 0), max(need[1], 0)]  # says what ceil_mode says, on every version
        attributes = {"kernel_shape": list(op.kernel), "strides": list(op.stride), "pads": pads}
        return Tensor(self.g.op("MaxPool", self.tensor(op.x).name, hint=f"{op.name}.x", **attributes))

    def flatten(self, op: Flatten) -> Value:
        def flat(x: Tensor) -> Tensor:
            return replace(x, name=self.g.op("Flatten", x.name, hint=f"{op.name}.row", axis=1))

        match self.values[op.x]:
            case Membrane(s, w):
                return Membrane(flat(s), None if w is None else flat(w))
            case Stream(v):
                return Stream(tuple(flat(x) for x in v))
            case Tensor() as x:
                return flat(x)

    def add(self, op: Add) -> Value:
        parts, wide = [self.values[x] for x in op.xs], self.wide(op.name)

        def total(terms: list[Tensor]) -> Tensor:
            result = self.g.widened(terms[0], wide)
            for term in terms[1:]:
                result = self.g.pair("Add", result, self.g.widened(term, wide), f"{op.name}.sum")
            return result

        streams = [part.v for part in parts if isinstance(part, Stream)]
        if streams:
            return Stream(tuple(total(list(frame)) for frame in zip(*streams, strict=True)))
        membranes = [part for part in parts if isinstance(part, Membrane)]
        slopes = [m.w for m in membranes if m.w is not None]
        return Membrane(total([m.s for m in membranes]), total(slopes) if slopes else None)

    def synapse(self, op: Conv2d | Dense) -> Value:
        g, source, x = self.g, self.net.type_of(op.x), self.tensor(op.x)
        assert isinstance(op.type, Potential) and isinstance(source, Analog | Spikes)
        wide, ndim = self.wide(op.name), len(op.type.shape)
        largest = max(abs(source.low), abs(source.high)) if isinstance(source, Analog) else source.ticks
        if op.type.closes is not None:
            return self.stream(op, op.type.closes - op.type.opens, x, largest, wide)
        rises = op.kernel == "ramp"
        inputs = [x, g.clip(x, 0, 1, f"{op.name}.fired")] if rises else [x]
        sums = weighted(g, self.net, op, inputs, largest, wide=wide)
        s = sums[0]
        if op.bias is not None:
            s = g.with_array("Add", s, self.array(op.bias, ndim), f"{op.name}.s")
        if op.drift is None:
            return Membrane(s, sums[1] if rises else None)
        drift = self.array(op.drift, ndim)
        if rises:
            return Membrane(s, g.with_array("Add", sums[1], drift, f"{op.name}.w"))
        whole = np.broadcast_to(drift, op.type.shape)[None]
        constant = g.constant(whole.astype(np.float64 if s.wide else np.float32), f"{op.name}.w")
        return Membrane(s, Tensor(constant, s.wide))

    def stream(self, op: Conv2d | Dense, ticks: int, x: Tensor, largest: int, wide: bool) -> Stream:
        """V tick by tick: what arrives, on top of what is kept."""
        g, ndim = self.g, len(op.type.shape)
        check_loop(ticks)
        if isinstance(self.net.type_of(op.x), Analog):
            current = weighted(g, self.net, op, [x], largest, wide=wide)[0]
            arrives: list[Tensor | None] = [current, *[current if op.every else None] * (ticks - 1)]
        else:  # a spike of tick t has the value T - t and acts at t + delay; T + 1 is nobody's
            values = [g.number(ticks - n + op.delay, False) for n in range(ticks)]
            now = [g.op("Equal", x.name, value, hint=f"{op.name}.now") for value in values]
            new = [Tensor(g.cast(n, FLOAT, f"{op.name}.new")) for n in now]
            arrives = [*weighted(g, self.net, op, new, 1, wide=wide)]
        frames = list[Tensor]()
        for n, arriving in enumerate(arrives):
            terms = [self.kept(op, frames[-1])] if frames else []
            terms += [] if arriving is None else [arriving]
            v = terms[0] if len(terms) == 1 else g.pair("Add", terms[0], terms[1], f"{op.name}.v{n}")
            constant = op.drift if frames else op.bias
            frames.append(
                v if constant is None else g.with_array("Add", v, self.array(constant, ndim), f"{op.name}.v{n}")
            )
        return Stream(tuple(frames))

    def kept(self, op: Conv2d | Dense, v: Tensor) -> Tensor:
        """What a leaking membrane keeps until the next tick; times a fraction of a power of two, so nothing rounds."""
        if op.kernel != "leak":
            return v
        g = self.g
        numerator, denominator = (op.keep, 32768) if op.keep else (2**op.shift - 1, 2**op.shift)
        needed = 2 * int(self.bounds[op.name].terms.max()) * denominator
        if needed >= 2**53:
            raise RefusedError(f"leaking needs {needed.bit_length()} bits, float64 has 53: use fewer bits or ticks")
        v = g.with_array("Mul", g.widened(v, needed >= 2**24), np.asarray(numerator / denominator), f"{op.name}.leak")
        if op.rounding == "zero":
            sign = g.op("Sign", v.name, hint=f"{op.name}.sign")
            whole = g.op("Floor", g.op("Abs", v.name, hint=f"{op.name}.abs"), hint=f"{op.name}.whole")
            return Tensor(g.op("Mul", sign, whole, hint=f"{op.name}.kept"), v.wide)
        if op.rounding == "nearest":
            v = g.with_array("Add", v, np.asarray(0.5), f"{op.name}.half")
        return Tensor(g.op("Floor", v.name, hint=f"{op.name}.kept"), v.wide)

    def decode(self, op: Decode) -> None:
        g, t = self.g, op.type
        assert isinstance(t, Scores)
        first = self.values[op.xs[0]]
        if op.rule == "membrane":
            assert isinstance(first, Membrane | Stream)
            scores = self.last(first, t.ticks, op.name)
            self.answer(g.cast(scores.name, INT64, f"{op.name}.scores"), scores.name)
            return
        x = self.tensor(op.xs[0])
        if op.rule == "weighted":
            assert op.table is not None
            table = np.concatenate([np.zeros(1, np.int64), self.net.arrays[op.table][::-1].astype(np.int64)])
            at = g.cast(x.name, INT64, f"{op.name}.at")
            picked = g.op("Gather", g.constant(table, f"{op.name}.table"), at, hint=f"{op.name}.scores")
            self.answer(picked, picked)
            return
        membrane = self.at_spike(op, x, self.values[op.xs[1]], t.ticks)
        best = g.op("ReduceMax", x.name, hint=f"{op.name}.best", axes=[1], keepdims=1)
        among = g.op("Equal", x.name, best, hint=f"{op.name}.among")
        never = g.number(-np.inf, membrane.wide)
        judged = g.op("Where", among, membrane.name, never, hint=f"{op.name}.judged")
        self.answer(g.cast(x.name, INT64, f"{op.name}.scores"), judged)

    def answer(self, scores: str, judged: str) -> None:
        """The two outputs; the first of several largest wins."""
        self.g.node("Identity", [scores], ["scores"])
        self.g.node("ArgMax", [judged], ["label"], axis=1, keepdims=0, select_last_index=0)

    def last(self, value: Membrane | Stream, end: int, name: str) -> Tensor:
        """V at the window's end."""
        if isinstance(value, Stream):
            return value.v[-1]
        if value.w is None:
            return value.s
        risen = self.g.with_array("Mul", value.w, np.asarray(end), f"{name}.risen")
        return self.g.pair("Add", value.s, risen, f"{name}.v")

    def at_spike(self, op: Decode, x: Tensor, value: Value, ticks: int) -> Tensor:
        """V at each neuron's own spike, or at the window's end where it was silent."""
        g = self.g
        if isinstance(value, Stream):
            wide = any(v.wide for v in value.v)
            frames = [g.widened(v, wide).name for v in value.v]
            found = frames[-1]
            for n, v in enumerate(frames[:-1]):
                now = g.op("Equal", x.name, g.number(ticks - n, False), hint=f"{op.name}.now")
                found = g.op("Where", now, v, found, hint=f"{op.name}.then")
            return Tensor(found, wide)
        assert isinstance(value, Membrane)
        if value.w is None:
            return value.s
        end = Tensor(g.number(ticks, False))
        n = g.widened(g.pair("Sub", end, x, f"{op.name}.n"), value.w.wide)
        return g.pair("Add", value.s, g.pair("Mul", value.w, n, f"{op.name}.risen"), f"{op.name}.v")


def _input_type(op: Input) -> int:
    """The smallest integer type that holds the declared range."""
    low, high = _range(op)
    kinds = {
        TensorProto.UINT8: np.uint8, TensorProto.INT8: np.int8, TensorProto.UINT16: np.uint16,
        TensorProto.INT16: np.int16, TensorProto.INT32: np.int32,
    }  # fmt: skip
    return next(int(k) for k, d in kinds.items() if np.iinfo(d).min <= low and high <= np.iinfo(d).max)


def _range(op: Input) -> tuple[int, int]:
    """What the input may hold, both ends included; spikes as values."""
    return (op.type.low, op.type.high) if isinstance(op.type, Analog) else (0, getattr(op.type, "ticks", 0))
