"""Integer net -> Plan: one step per layer of neurons, per encoding and per pooling, in the net's order."""

from collections.abc import Iterator
from hashlib import sha256

import numpy as np

from ttfsc.backends.c.calls import calls_of
from ttfsc.backends.c.cgen import holding, identifier
from ttfsc.backends.c.cpu import Cpu, cpu_named
from ttfsc.backends.c.fuse import fused
from ttfsc.backends.c.kernels import Instance, instance, with_callees
from ttfsc.backends.c.layer import Parts, lower_layer
from ttfsc.backends.c.memory import arenas, placed, state_bytes
from ttfsc.backends.c.plan import (
    Answer,
    Layer,
    Move,
    Operand,
    Plan,
    RecallSink,
    Step,
    Traced,
)
from ttfsc.backends.c.split import check_threads, pieces_of, with_copies
from ttfsc.backends.c.stack import stack_bytes
from ttfsc.ir import (
    Analog,
    Decode,
    Encode,
    Fault,
    Fire,
    Flatten,
    Input,
    MaxPool,
    Net,
    Op,
    Scores,
    Spikes,
    TtfsError,
    check_stage,
    codes,
    grid_of,
    show,
    show_op,
)  # fmt: skip

MAX_TICKS = 16384  # spike values are at most 16 bits wide, and encode multiplies ticks by an input's range
BLOB_FROM = 1 << 20  # bytes of packed weights from which they leave the source file


def lower(
    net: Net, *, name: str | None = None, blob_from: int = BLOB_FROM, cpu: str = "generic", threads: int = 1
) -> Plan:
    """Plan a quantized net (stage `quantized`: integer arrays, proven widths).

    name: prefix of every symbol, the net's name if None. blob_from: packed bytes from which weights leave the source.
    cpu: what to plan for. threads: pieces that a layer may be cut into.
    Raises TtfsError: wrong stage, a width that does not hold, or what this backend cannot express.
    """
    check_stage(net, "quantized")
    check_threads(threads)
    faults = list(_unsupported(net))
    if faults:
        raise TtfsError(faults)
    return _Lower(net, cpu_named(cpu)).plan(identifier(name or net.name), blob_from, threads)


def _unsupported(net: Net) -> Iterator[Fault]:
    for op in net.ops:
        t = op.type
        if isinstance(t, Spikes) and t.ticks > MAX_TICKS:
            fact = f"its window of {t.ticks} ticks is longer than the {MAX_TICKS} that C code is made for"
            yield Fault(codes.UNSUPPORTED, op.loc, op.subject, fact)
        if isinstance(op, Decode) and op.type.shape[0] > 65535:
            fact = f"{op.type.shape[0]} classes do not fit the 16-bit label"
            yield Fault(codes.UNSUPPORTED, op.loc, op.subject, fact)


class _Lower:
    def __init__(self, net: Net, cpu: Cpu) -> None:
        self.net = net
        longest = max((op.type.ticks for op in net.ops if isinstance(op.type, Spikes)), default=1)
        self.parts = Parts(net, "uint8_t" if longest < 256 else "uint16_t", cpu)
        self.steps = list[Step]()
        self.traced = list[Traced]()
        self.input: Operand | None = None

    def plan(self, name: str, blob_from: int, threads: int) -> Plan:
        for op in self.net.ops:
            self.lower(op)
        assert self.input is not None
        parts, net = self.parts, self.net
        steps, buffers, geometries = self.steps, parts.buffers, parts.geometries
        if threads == 1:  # rows that are pooled as they are made cannot be cut apart
            steps, buffers, geometries = fused(steps, buffers, geometries)
        cut = pieces_of(steps, {parts.id(c.layer): c.kilocycles for c in parts.choices}, threads)
        buffers = placed(with_copies(steps, buffers, cut))
        spaces = arenas(buffers)
        answer, source = net.answer, net.input
        assert isinstance(answer, Decode)
        weights = tuple(parts.weights)
        return Plan(
            name, net.name, sha256(show(net, hashes=True).encode()).hexdigest()[:8], source.scale,
            isinstance(source.type, Spikes), self.input, source.type.shape, answer.type.shape[0], answer.rule,
            _ticks(answer), parts.spike,
            buffers, spaces, state_bytes(spaces), tuple(parts.tables), tuple(geometries), weights,
            sum(w.packed.data.size for w in weights) > blob_from, tuple(steps), tuple(self.traced),
            tuple(with_callees(self.instances())), tuple(parts.choices), stack_bytes(map(calls_of, steps)),
            parts.cpu.vectors, threads, cut,
        )  # fmt: skip

    def instances(self) -> list[Instance]:
        found = [instance("in_range")] + ([instance("show")] if self.traced else [])
        found += [call for step in self.steps for call in calls_of(step)]
        if any(i.kernel in ("rows", "depthwise", "rows_at") for i in found):
            found.insert(0, instance("link"))
        return found

    def lower(self, op: Op) -> None:
        match op:
            case Input():
                self.take(op)
            case Encode():
                self.encode(op)
            case MaxPool():
                self.max_pool(op)
            case Flatten() if op.x in self.parts.values:
                self.parts.values[op.name] = self.parts.values[op.x]
            case Fire():
                self.steps += lower_layer(self.parts, op, op.v, len(self.steps))
                self.trace(op, op.type)
            case Decode():
                self.decode(op)
            case _:
                pass  # potentials are computed by the layer that reads them

    def take(self, op: Input) -> None:
        t = op.type
        low, high = (t.low, t.high) if isinstance(t, Analog) else (0, t.ticks if isinstance(t, Spikes) else 0)
        grid = grid_of(t.shape)
        ctype = self.parts.spike if isinstance(t, Spikes) else holding(low, high)
        self.input = given = Operand(None, ctype, grid, low, high)
        if grid[0] > 1 and grid[1] * grid[2] > 1:
            out = self.move(op, instance("take"), given, Operand(None, ctype, grid, low, high))
        else:
            out = given  # one order only: read where the caller left it
        self.parts.values[op.name] = out

    def encode(self, op: Encode) -> None:
        x, t, source = self.parts.read(op.x, len(self.steps)), op.type, self.net.type_of(op.x)
        assert isinstance(t, Spikes) and isinstance(source, Analog)
        numbers = (source.low, source.high, t.ticks)
        out = Operand(None, self.parts.spike, x.grid, 0, t.ticks)
        self.parts.values[op.name] = self.move(op, instance("encode", x=x.ctype), x, out, numbers=numbers)
        self.trace(op, t)

    def max_pool(self, op: MaxPool) -> None:
        x = self.parts.read(op.x, len(self.steps))
        out = Operand(None, x.ctype, grid_of(op.type.shape), x.low, x.high)
        fields = (x.grid[1], x.grid[2], x.grid[0], *out.grid[1:], *op.kernel, *op.stride, *op.pad[:2], x.grid[1])
        pool = self.parts.geometry(f"g {op.name}", "pool", fields, show_op(op))
        self.parts.values[op.name] = self.move(op, instance("max_pool", x=x.ctype), x, out, pool=pool)

    def move(
        self,
        op: Op,
        call: Instance,
        x: Operand,
        out: Operand,
        *,
        pool: str | None = None,
        numbers: tuple[int, ...] = (),
    ) -> Operand:
        out = self.parts.stored(out, len(self.steps))
        self.steps.append(Move(self.parts.id(op.name), (show_op(op),), call, x, out, pool=pool, numbers=numbers))
        return out

    def trace(self, op: Fire | Encode, t: object) -> None:
        assert isinstance(t, Spikes)
        x = self.parts.values[op.name]
        offset = sum(t.x.size for t in self.traced)
        self.traced.append(Traced(op.name, self.parts.id(op.name), x, t.shape, t.opens, t.closes, offset))

    def decode(self, op: Decode) -> None:
        parts, id, line = self.parts, self.parts.id(f"{op.name} label"), (show_op(op),)
        match op.rule:
            case "membrane":
                self.steps += lower_layer(parts, op, op.xs[0], len(self.steps))
                self.steps.append(Answer(id, line, op.rule))
            case "first_spike":
                steps = lower_layer(parts, op, op.xs[1], len(self.steps))
                self.steps += steps
                x = parts.read(op.xs[0], len(self.steps))
                recalled = steps[-1]
                assert isinstance(recalled, Layer) and isinstance(recalled.sink, RecallSink)
                parts.touch(recalled.sink.at, len(self.steps))
                self.steps.append(Answer(id, line, op.rule, x, recalled.sink.at))
            case "weighted":
                assert op.table is not None
                x, values = parts.read(op.xs[0], len(self.steps)), self.net.arrays[op.table].astype(np.int64)
                if int(np.abs(values).max(initial=0)) >= 2**31:
                    fact = f"@{op.table} reaches {np.abs(values).max()}, scores are 32 bits wide"
                    raise TtfsError.one(codes.WIDTH, fact, loc=op.loc, subject=op.subject)
                table = parts.table(f"table {op.name}", "int32_t", values, line[0])
                self.steps.append(Answer(id, line, op.rule, x, None, table, len(values)))


def _ticks(answer: Decode) -> int:
    assert isinstance(answer.type, Scores)
    return answer.type.ticks
