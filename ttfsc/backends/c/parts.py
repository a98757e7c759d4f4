"""What the steps of a net share while it is lowered: where values lie, buffers, tables, weights, names in C."""

import numpy as np

from ttfsc.backends.c.cgen import identifier
from ttfsc.backends.c.cpu import Cpu
from ttfsc.backends.c.memory import Buffer
from ttfsc.backends.c.pack import Packed
from ttfsc.backends.c.plan import Choice, Geometry, Operand, Table, Weights
from ttfsc.ir import Array, Net, Op, bounds_of, show_op

LINE = 64  # bytes


class Parts:
    """Collected by lowering; nothing is ever taken out again."""

    def __init__(self, net: Net, spike: str, cpu: Cpu) -> None:
        self.net, self.spike, self.cpu = net, spike, cpu
        self.choices = list[Choice]()
        self.bounds = bounds_of(net)
        self.values = dict[str, Operand]()
        self.buffers = list[Buffer]()
        self.tables = list[Table]()
        self.geometries = list[Geometry]()
        self.weights = list[Weights]()
        self.buckets = dict[tuple[str, ...], tuple[int, int, int]]()  # by value and how it is sorted
        self._ids = dict[str, str]()

    def id(self, name: str) -> str:
        """The C identifier of a value, unique in the model."""
        if name not in self._ids:
            word, taken, n = identifier(name), set(self._ids.values()), 2
            while word in taken:
                word = f"{identifier(name)}_{n}"
                n += 1
            self._ids[name] = word
        return self._ids[name]

    def buffer(self, ctype: str, length: int, step: int) -> int:
        """A new buffer, first written at this step; its index."""
        self.buffers.append(Buffer(ctype, length, step, step))
        return len(self.buffers) - 1

    def touch(self, buffer: int | None, step: int) -> None:
        """The buffer is still read at this step."""
        if buffer is not None:
            b = self.buffers[buffer]
            self.buffers[buffer] = Buffer(b.ctype, b.length, b.first, max(b.last, step))

    def stored(self, value: Operand, step: int) -> Operand:
        """The value in a new buffer, written at this step."""
        return Operand(self.buffer(value.ctype, value.size, step), value.ctype, value.grid, value.low, value.high)

    def read(self, name: str, step: int) -> Operand:
        """Where a value lies, which is read at this step."""
        self.touch(self.values[name].buffer, step)
        return self.values[name]

    def table(self, key: str, ctype: str, values: Array, line: str) -> str:
        """A constant array; the same key is the same table. Returns its C name."""
        name = self.id(key)
        if all(t.name != name for t in self.tables):
            self.tables.append(Table(name, ctype, values, line))
        return name

    def geometry(self, key: str, struct: str, fields: tuple[int, ...], line: str) -> str:
        """A constant struct; the same key is the same struct. Returns its C name."""
        name = self.id(key)
        if all(g.name != name for g in self.geometries):
            self.geometries.append(Geometry(name, struct, fields, line))
        return name

    def packed(self, op: Op, packed: Packed) -> Weights:
        """Weights of an op; one copy serves every layer that reads the op in the same order."""
        line = show_op(op)
        for known in self.weights:
            if known.line == line and np.array_equal(known.packed.data, packed.data):
                return known
        again = sum(w.line == line for w in self.weights)
        offset = self.weights[-1].end if self.weights else 0
        if self.cpu.fast and packed.row_bytes % LINE == 0:  # no row lies across two lines of the cache
            offset += -offset % LINE
        self.weights.append(Weights(self.id(f"w {op.name}" + (f" {again + 1}" if again else "")), line, packed, offset))
        return self.weights[-1]
