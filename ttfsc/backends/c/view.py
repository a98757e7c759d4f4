"""What templates ask about a plan: places, names and sentences as C text."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from ttfsc.backends.c.cgen import SIZES, table
from ttfsc.backends.c.kernels import KERNELS, WIDE, instance
from ttfsc.backends.c.plan import (
    Bundle,
    Constants,
    Depth,
    Dot,
    FastLayer,
    FireSink,
    Gather,
    Layer,
    Link,
    Move,
    Operand,
    Pile,
    Plan,
    RecallSink,
    Step,
    Traced,
    Weights,
)
from ttfsc.backends.c.render import render
from ttfsc.backends.c.split import parts_of, rows_of, unit_of
from ttfsc.ir import Array, Grid, grid_of, show_shape


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model takes, in bytes: weights and tables in ROM, state in RAM. Machine code comes on top of rom.

    stack: of one call at most, compiled with optimisation (-O1 and more).
    """

    weights: int
    tables: int
    ram: int
    stack: int

    @property
    def rom(self) -> int:
        """Weights and tables."""
        return self.weights + self.tables


def cost_of(plan: Plan) -> Cost:
    """The plan's cost, before any compiler has seen it."""
    tables = sum(SIZES[t.ctype] * t.values.size for t in plan.tables)
    structs = sum(SIZES["int32_t"] * len(g.fields) for g in plan.geometries)
    return Cost(plan.weight_bytes, tables + structs, plan.state_bytes, plan.stack_bytes)


@dataclass(frozen=True, slots=True)
class Printed:
    """A step as a static function."""

    lines: tuple[str, ...]
    signature: str
    call: str
    body: str
    traced: tuple[Traced, ...]


class View:
    """Answers the questions of the templates about one plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """Blocks of outputs that kernels with a variant in GNU vectors work on, and bytes of a row of each."""
        if not self.plan.vectors:
            return []
        found = {int(dict(i.types)["block"]) for i in self.plan.instances if i.vector and "block" in dict(i.types)}
        return [(block, min(block, 64)) for block in sorted(found)]  # 128 outputs: two weights in a byte

    @property
    def fetches(self) -> bool:
        """Whether a kernel brings weights near before it uses them."""
        return any(i.vector for i in self.plan.instances)

    @property
    def wide(self) -> bool:
        """Whether kernels are made for wider vectors as well."""
        return self.plan.vectors and any(KERNELS[i.kernel].wide for i in self.plan.instances)

    @property
    def levels(self) -> tuple[tuple[str, int], ...]:
        """What these are made for, and bytes of its vectors."""
        return tuple(WIDE.items())

    @property
    def picks(self) -> bool:
        """Whether a kernel picks lanes out of vectors where the processor can."""
        return self.plan.vectors and any(KERNELS[i.kernel].compress for i in self.plan.instances)

    @property
    def dots(self) -> bool:
        """Whether a kernel is made of dot products of bytes."""
        return any(KERNELS[i.kernel].dots for i in self.plan.instances)

    def for_dots(self, weights: Weights) -> bool:
        """Whether nothing else reads these weights."""
        layers = [step for step in self.plan.steps if isinstance(step, FastLayer)]
        others = {b.weights for step in layers for b in step.bundles}
        return weights.name in {d.weights for step in layers for d in step.dots} - others

    def level(self, step: FastLayer) -> int:
        """What a processor must have for a step's dot products: 1 is AVX2, 2 AVX-512 VNNI."""
        return 2 if any(d.avx2 is None for d in step.dots) else 1

    def both(self, dot: Dot) -> bool:
        """Whether sums and slopes are computed at the same time."""
        return dot.vnni.kernel == "dot_listed" or dict(dot.vnni.types)["planes"] == "2"

    @property
    def depth(self) -> bool:
        """Whether a kernel in GNU vectors multiplies output by output."""
        return self.plan.vectors and any(i.kernel == "depth_cell" and i.vector for i in self.plan.instances)

    @property
    def shape(self) -> str:
        """The input's shape."""
        return show_shape(self.plan.input_shape)

    @property
    def meaning(self) -> str:
        """What an input value is."""
        x = self.plan.input
        if self.plan.spike_input:
            return f"spike values 0..{x.high}: {x.high} minus the tick, 0 never"
        return f"integers {x.low}..{x.high}, the source model's value divided by {self.plan.scale!r}"

    @property
    def scores(self) -> str:
        """What a score is."""
        n = self.plan.classes
        return {
            "membrane": f"{n} membranes at the window's end, the largest wins",
            "first_spike": f"{n} spike values, the earliest (largest) wins, ties by the larger membrane",
            "weighted": f"{n} sums of weighted spike times, the largest wins",
        }[self.plan.rule]

    def buffer(self, index: int | None) -> str:
        """A buffer's address; NULL for none."""
        if index is None:
            return "NULL"
        b = self.plan.buffers[index]
        own = f" + k * {b.length // b.copies}" if b.copies > 1 else ""
        return (f"s->{b.ctype[:-2]} + {b.offset}" if b.offset else f"s->{b.ctype[:-2]}") + own

    def at(self, x: Operand) -> str:
        """An operand's address."""
        return "in" if x.buffer is None else self.buffer(x.buffer)

    def weights(self, link: Link) -> str:
        """Where the weights of output position i start."""
        start = f"weights + {link.offset}" if self.plan.blob else f"{self.plan.name}_{link.weights}"
        return f"{start} + i * {link.pixel_bytes}" if link.pixel_bytes else start

    def stored(self, bundle: Bundle | Dot) -> str:
        """Where the rows of a bundle start."""
        return f"weights + {bundle.offset}" if self.plan.blob else f"{self.plan.name}_{bundle.weights}"

    def tiled(self, c: Constants | None, row: int) -> str:
        """Where the constants of a fast layer's output row y start; NULL for none."""
        if c is None:
            return "NULL"
        return f"{self.plan.name}_{c.table}" + (f" + y * {row}" if c.per_neuron else "")

    def own_theta(self, sink: FireSink, n: int, wide: int) -> str:
        """Where the thresholds of position i of a fast layer's tile start."""
        own = f" + (y * {wide} + i) * {n * sink.ticks}" if sink.theta.per_neuron else ""
        return f"{self.plan.name}_{sink.theta.table}{own}"

    def at_once(self, layer: FastLayer) -> bool:
        """Whether all neurons of a fast layer's tile lie one after the other and share their thresholds."""
        sink = layer.sink
        return isinstance(sink, FireSink) and not sink.theta.per_channel and layer.width == layer.grid[0]

    def constants(self, c: Constants | None, per_pixel: int) -> str:
        """Where the constants of output position i start; NULL for none."""
        if c is None:
            return "NULL"
        return f"{self.plan.name}_{c.table}" + (f" + i * {per_pixel}" if c.per_neuron else "")

    def theta_at(self, sink: FireSink, n: int) -> str:
        """The thresholds of tick t."""
        start = self.constants(sink.theta, n * sink.ticks)
        return f"{start} + t * {n}" if sink.theta.per_channel else f"{start} + t"

    def recalled(self, sink: RecallSink) -> str:
        """The spikes that a read-out looks at, as arguments."""
        return f"{self.at(sink.spikes)}, {sink.spikes.grid[0]}, {sink.spikes.pixels}"

    def own(self, kernel: str, layer: Layer) -> str:
        """A kernel that has the layer's accumulator type as its only parameter."""
        return f"{self.plan.name}_{instance(kernel, acc=layer.acc).name}"

    def grid(self, t: Traced) -> Grid:
        """The layer as [C, H, W]."""
        return grid_of(t.shape)

    def samples(self, values: Array) -> str:
        """The body of a two-dimensional initialiser."""
        return ",\n".join(f"\n    {{\n{table(row, '        ')}\n    }}" for row in values) + "\n"

    def traced(self, step: Step) -> tuple[Traced, ...]:
        """What the trace shows of a step."""
        return tuple(t for t in self.plan.traced if t.step == step.id)

    def position(self, layer: Layer) -> str:
        """Where the spikes of output position i of a layer go; a ring of rows where they are pooled at once."""
        assert isinstance(layer.sink, FireSink)
        start, (n, _, wide) = self.at(layer.sink.out), layer.grid
        return f"{start} + (y % {layer.rows} * {wide} + x) * {n}" if layer.pool else f"{start} + i * {n}"

    def pool(self, move: Move) -> tuple[int, ...]:
        """The fields of a pooling's struct (runtime/pool.c)."""
        return next(g.fields for g in self.plan.geometries if g.name == move.pool)

    def pieces(self, step: Step) -> int:
        """Into how many pieces a step is cut."""
        return self.plan.cut.get(step.id, 1)

    def unit(self, step: FastLayer) -> int:
        """Outputs that a step of one position can be cut between."""
        return unit_of(step)

    def block(self, bundle: Bundle) -> int:
        """Outputs of a block, of which the bundle's struct has the number."""
        return int(dict(bundle.call.types)["block"])

    def synapses(self, step: FastLayer, bundle: Bundle | Dot) -> str:
        """A bundle's struct and its weights, as arguments; those of a piece's own outputs where these are cut."""
        if self.pieces(step) == 1 or not unit_of(step):
            return f"&{self.plan.name}_{bundle.geometry}, {self.stored(bundle)}"
        size = next(w.packed.data.size for w in self.plan.weights if w.name == bundle.weights)
        return f"&{bundle.geometry}, {self.stored(bundle)} + first * {size // (step.width // unit_of(step))}"

    def gathered(self, step: FastLayer, b: Gather) -> str:
        """The arguments of a kernel that gathers rows for output rows y to end - 1."""
        given = ", ".join(map(self.buffer, (b.order, b.start)))
        scratch = ", ".join(map(self.buffer, (b.rows, b.late, b.at, b.whole)))
        slope = "slope" if b.ramp else "NULL"
        return f"{self.synapses(step, b)}, {given}, y, end, {b.most}, {scratch}, sum, {slope}"

    def rows(self, step: Step) -> tuple[str, str]:
        """The output rows that a step does, from and to; of a step that is cut, piece k's."""
        return ("first", "last") if self.pieces(step) > 1 else ("0", str(rows_of(step)))

    def positions(self, layer: Layer) -> tuple[str, str]:
        """`rows` as output positions."""
        height, wide = layer.grid[1:]
        return (f"first * {wide}", f"last * {wide}") if self.pieces(layer) > 1 else ("0", str(height * wide))

    def printed(self, step: Step) -> list[Printed]:
        """The step as functions that take what their bodies name, and nothing else."""
        kind = "stream" if isinstance(step, Layer) and step.streaming else step.kind
        shown = () if isinstance(step, Layer) and step.pool else self.traced(step)
        pieces = self.pieces(step)
        if pieces == 1:
            return [self._whole(step, step.id, kind, shown)]
        if isinstance(step, FastLayer) and unit_of(step):
            before, after = (self._whole(step, f"{step.id}_{kind}", kind, ()) for kind in ("begun", "fired"))
            return [before, self._cut(step, "blocks", (), pieces), replace(after, traced=shown)]
        before = [self._whole(step, f"{step.id}_sort", "listed", ())] if self._sorts(step) else []
        return [*before, self._cut(step, kind, shown, pieces)]

    def _sorts(self, step: Step) -> bool:
        if not isinstance(step, FastLayer):
            return False
        return bool(step.dots) or any(
            b.kind in ("gather", "walk")
            or (isinstance(b, Depth) and b.lay is not None)
            or (isinstance(b, Pile) and b.sort is not None)
            for b in step.bundles
        )

    def _body(self, step: Step, kind: str) -> str:
        p = self.plan.name
        return render(f"{kind}.j2", v=self, p=p, P=p.upper(), step=step, spike=f"{p}_spike_t").decode()

    def _whole(self, step: Step, id: str, kind: str, shown: tuple[Traced, ...]) -> Printed:
        p, body = self.plan.name, self._body(step, kind)
        used = [(name, text) for name, text in self._given() if re.search(rf"\b{name}\b", body)]
        return Printed(
            step.lines,
            f"{p}_do_{id}({', '.join(text for _, text in used)})",
            f"{p}_do_{id}({', '.join(name for name, _ in used)})",
            body,
            shown,
        )

    def _cut(self, step: Step, kind: str, shown: tuple[Traced, ...], pieces: int) -> Printed:
        """Piece k of a step: rows `first` to `last`."""
        p, body = self.plan.name, self._body(step, kind)
        names = [(name, text) for name, text in self._given() if re.search(rf"\b{name}\b", body)]
        taken = [f"    {text.replace('*', '*const ')} = ((const {p}_work_t *)work)->{name};\n" for name, text in names]
        taken += [
            f"    const int32_t {end} = {parts_of(step)} * {k} / {pieces};\n"
            for end, k in (("first", "k"), ("last", "(k + 1)"))
        ]
        id = f"{p}_do_{step.id}"
        return Printed(
            step.lines,
            f"{id}(void *work, int32_t k)",
            f"{p}_split(threads, {pieces}, {id}, &work)",
            "".join(taken) + body,
            shown,
        )

    def _given(self) -> list[tuple[str, str]]:
        """What steps may name: name and declaration."""
        p = self.plan.name
        return [
            ("s", f"{p}_state_t *s"), ("weights", "const uint8_t *weights"), ("in", f"const {p}_in_t *in"),
            ("scores", "int32_t *scores"), ("label", "uint16_t *label"), ("trace", f"{p}_spike_t *trace"),
        ]  # fmt: skip


def described(plan: Plan) -> bytes:
    """model.json: what a program needs to know to call the C from outside (the host engine reads it)."""
    x = plan.input
    layers: Sequence[dict[str, object]] = [
        {
            "name": t.name,
            "shape": list(t.shape),
            "opens": t.opens,
            "closes": t.closes,
            "offset": t.offset,
        }
        for t in plan.traced
    ]
    facts = {
        "format": "ttfsc-c/1",
        "name": plan.name,
        "net": plan.net,
        "ir": plan.ir,
        "input": {"shape": list(plan.input_shape), "type": x.ctype, "low": x.low, "high": x.high, "scale": plan.scale},
        "classes": plan.classes,
        "rule": plan.rule,
        "ticks": plan.ticks,
        "spike_type": plan.spike,
        "layers": layers,
        "cost": {
            "weights": cost_of(plan).weights,
            "tables": cost_of(plan).tables,
            "state": cost_of(plan).ram,
            "stack": plan.stack_bytes,
        },
        "threads": plan.threads,
        "blob": plan.blob,
        "plan": [asdict(choice) for choice in plan.choices],
    }
    return (json.dumps(facts, indent=2) + "\n").encode()
