"""One layer of neurons as a step: its synapse ops, what is added to them, and what becomes of the membrane."""

from dataclasses import replace

import numpy as np

from ttfsc.backends.c.cgen import holding
from ttfsc.backends.c.cost import FIRING
from ttfsc.backends.c.depth import lower_depth, split_ops, with_depth
from ttfsc.backends.c.dot import lower_dot, with_dots
from ttfsc.backends.c.fast import shape_of, why_not
from ttfsc.backends.c.kernels import instance
from ttfsc.backends.c.pack import pack
from ttfsc.backends.c.parts import Parts
from ttfsc.backends.c.plan import (
    Choice,
    Constants,
    FastLayer,
    FireSink,
    Layer,
    Link,
    MembraneSink,
    Move,
    Operand,
    RecallSink,
    Step,
    choose_kernel,
)  # fmt: skip
from ttfsc.backends.c.walk import lower_bundle, method_of
from ttfsc.ir import (
    Add,
    Array,
    Conv2d,
    Decode,
    Dense,
    Fire,
    Flatten,
    Grid,
    Op,
    Potential,
    Scores,
    Spikes,
    TtfsError,
    codes,
    grid_of,
    show_op,
    show_shape,
)  # fmt: skip
from ttfsc.ir.geometry import pool_out

FEW_TICKS = 16  # that compilers unroll a loop over
_ROUNDING = {"floor": 0, "nearest": 1, "zero": 2}


def lower_layer(parts: Parts, op: Fire | Decode, potential: str, step: int) -> list[Step]:
    """The steps of one layer: pooled sums where operands need them, then the layer itself."""
    return _Layer(parts, op, potential, step).steps()


class _Layer:
    def __init__(self, parts: Parts, op: Fire | Decode, potential: str, step: int) -> None:
        self.parts, self.net, self.op, self.potential = parts, parts.net, op, potential
        self.id, self.first = parts.id(op.name), step
        self.before = list[Step]()
        self.lines = list[str]()
        self.ops = self.synapses(self.net.by_name[potential])
        self.lines = [*dict.fromkeys(self.lines), show_op(op)]
        self.grid = self.common_grid()
        t = self.net.type_of(potential)
        assert isinstance(t, Potential)
        self.streaming = t.streaming
        self.acc = self.width()

    @property
    def step(self) -> int:
        """Index of the next step."""
        return self.first + len(self.before)

    def synapses(self, op: Op) -> list[Conv2d | Dense]:
        match op:
            case Flatten():
                return self.synapses(self.net.by_name[op.x])
            case Add():
                found = [s for x in op.xs for s in self.synapses(self.net.by_name[x])]
                self.lines.append(show_op(op))
                return found
            case Conv2d() | Dense():
                self.lines.append(show_op(op))
                return [op]
            case _:
                raise AssertionError(f"{op.subject} in a potential's way: the net is not canonical")

    def common_grid(self) -> Grid:
        """[C, H, W] of the neurons; a dense op adapts to the convolutions it meets."""
        grids = list(dict.fromkeys(grid_of(op.type.shape) for op in self.ops if isinstance(op, Conv2d)))
        if len(grids) > 1:
            sizes = " and ".join(show_shape(g) for g in grids)
            fact = (
                f"adds flattened convolutions of different grids ({sizes}): no order of neurons suits both; "
                "add them before flattening, or write one as a dense layer"
            )
            raise TtfsError.one(codes.UNSUPPORTED, fact, loc=self.op.loc, subject=self.op.subject)
        return grids[0] if grids else grid_of(self.ops[0].type.shape)

    def width(self) -> str:
        """The accumulator's type. A stream keeps every op's membrane, so each must fit, not only their sum."""
        bounds = self.parts.bounds
        largest = need = bounds[self.potential].largest
        if self.streaming:
            need = max(need, *(max(bounds[op.name].largest, self.current(op)) for op in self.ops))
        given = self.op.width
        if largest > (2**15 - 1 if given == 16 else 2**31 - 2) or need > 2**31 - 2:
            fact = f"its membrane can reach {need}, which width={given or 32} does not hold: run prove-widths"
            raise TtfsError.one(codes.WIDTH, fact, loc=self.op.loc, subject=self.op.subject)
        return "int16_t" if need < 2**15 and given != 32 else "int32_t"

    def current(self, op: Conv2d | Dense) -> int:
        """The largest that one arrival of an analog operand can cause: it waits in a buffer of its own."""
        if isinstance(self.net.type_of(op.x), Spikes):
            return 0
        x, w = self.parts.values[op.x], self.net.arrays[op.w].astype(np.int64)
        fold = op.pool[0] * op.pool[1] if isinstance(op, Conv2d) else 1
        return int(np.abs(w).reshape(len(w), -1).sum(1).max(initial=0)) * fold * max(abs(x.low), abs(x.high))

    def steps(self) -> list[Step]:
        reason = self.slow_because()
        if not reason:
            return [self.fast()]
        positions = self.grid[1] * self.grid[2]
        work = sum(self.net.arrays[op.w].size * (positions if isinstance(op, Conv2d) else 1) for op in self.ops)
        name = "events" if self.streaming else "packed"
        self.parts.choices.append(Choice(self.op.name, f"{name} rows", reason, round(FIRING * work / 1000, 1)))
        channels = self.grid[0]
        links = tuple(self.link(op) for op in self.ops)
        bias = drift = slope = None
        if not self.streaming:
            bias, drift = self.constants("bias", self.ops), self.constants("drift", self.ops)
            if drift is not None or any(op.kernel == "ramp" for op in self.ops):
                slope = self.parts.buffer(self.acc, channels, self.step)
        total = links[0].v if self.streaming and len(links) == 1 else self.parts.buffer(self.acc, channels, self.step)
        sink = self.sink()
        done = Layer(
            self.id, tuple(self.lines), self.streaming, self.grid, self.acc, links, total, slope, bias, drift, sink
        )
        for link in links:
            for buffer in (link.x.buffer, link.hits, link.scratch, link.current, link.v if link.v >= 0 else None):
                self.parts.touch(buffer, self.step)
        for buffer in (total, slope):
            self.parts.touch(buffer, self.step)
        return [*self.before, done]

    def slow_because(self) -> str:
        """Why this layer is computed by the general kernels; empty: the fast ones take it."""
        if not self.parts.cpu.fast:
            return f"{self.parts.cpu.name} wants the least memory"
        if self.streaming:
            return "spikes act tick by tick"
        if isinstance(self.op, Decode) and self.op.rule != "membrane":
            return "membranes are recalled at each neuron's spike"
        if self.parts.spike != "uint8_t":
            return "spike values of 16 bits"
        _, others = split_ops(self.parts, self.ops, self.grid)
        if len({op.groups if isinstance(op, Conv2d) else 1 for op in others}) > 1:
            return "branches in different groups"
        return next((text for op in others if (text := why_not(self.parts, op, self.grid))), "")

    def fast(self) -> FastLayer:
        parts, (_, high, wide) = self.parts, self.grid
        sink = self.sink()
        narrow = self.acc == "int16_t" and "int32_t" not in dict(sink.call.types).values()
        few = isinstance(sink, FireSink) and sink.ticks <= FEW_TICKS
        wide_v = few and not narrow and self.sums_are_narrow()
        uacc = "uint16_t" if narrow or wide_v else "uint32_t"
        depth, others = split_ops(parts, self.ops, self.grid)
        width, method = self.grid[0], None
        if others:
            method = method_of(parts, others, uacc, (high, wide))
            shape = shape_of(others[0], parts.values[others[0].x], self.net.arrays[others[0].w])
            width = -(-shape.outputs // method.block) * method.block * shape.groups
        method = with_depth(parts, depth, method, uacc, self.grid)
        method, level = with_dots(parts, self.ops, method, uacc, self.grid)
        tile, keys = method.tile, {op.name: f"b {self.op.name} {op.name}" for op in self.ops}
        sorted_before = dict(parts.buckets)
        bundles = tuple(
            lower_depth(parts, op, keys[op.name], self.step, uacc=uacc, width=width, wide=wide)
            if op in depth
            else lower_bundle(parts, op, keys[op.name], self.step, uacc=uacc, method=method, wide=wide)
            for op in self.ops
        )
        dots = tuple(
            lower_dot(parts, op, keys[op.name], self.step, uacc=uacc, width=width, grid=self.grid, level=level)
            for op in (self.ops if level else ())
        )
        if dots:  # what these sort is sorted only where there are no dot products: no later step can share it
            parts.buckets = sorted_before
        parts.choices.append(Choice(self.op.name, method.kernel, method.reason, method.cost))
        bias, drift = self.constants("bias", self.ops), self.constants("drift", self.ops)
        ramp = drift is not None or any(op.kernel == "ramp" for op in self.ops)
        return FastLayer(
            self.id, tuple(self.lines), self.grid, width, tile, uacc, instance("begin", uacc=uacc, const=self.acc),
            bundles, parts.buffer(uacc, tile * wide * width, self.step),
            parts.buffer(uacc, tile * wide * width, self.step) if ramp else None, bias, drift,
            fast_sink(sink, uacc, method.block, wide=wide_v), dots,
            groups=max(op.groups if isinstance(op, Conv2d) else 1 for op in self.ops),
        )  # fmt: skip

    def sums_are_narrow(self) -> bool:
        """Whether 16 bits hold S and W, whatever V(n) needs."""
        found = self.parts.bounds[self.potential]
        return all(int(np.abs(part).max(initial=0)) < 2**15 for pair in (found.s, found.w) for part in pair)

    def link(self, op: Conv2d | Dense) -> Link:
        parts = self.parts
        x = parts.read(op.x, self.step)
        spikes = isinstance(self.net.type_of(op.x), Spikes)
        events = self.streaming and spikes
        hits = pool = None
        size = (x.grid[1], x.grid[2])
        if isinstance(op, Conv2d) and (op.pool, op.pool_stride, op.pool_pad) != ((1, 1), (1, 1), (0, 0, 0, 0)):
            size = pool_out(size, op.pool, op.pool_stride, op.pool_pad)
            pool = self.pooling(op, x, size)
            if not events:
                x, hits = self.pool_sum(op, x, pool, size)
                pool = None
        self.check_product(op, x)
        kernel = choose_kernel(op, x.grid[0], events=events)
        rows, fields, per_pixel = self.rows(op, x.grid, kernel, size)
        packed = pack(rows, op.bits)
        weights = parts.packed(op, packed)
        fields = (*fields, packed.row_bytes, packed.code.bits, packed.code.mul, packed.code.off)
        spread = packed.code.bits < 8 if kernel == "depthwise" else packed.code.bits not in (1, 2, 4, 8)
        counts = "uint8_t" if hits is None else self.parts.buffers[hits].ctype
        types = {"acc": self.acc} if events else {"acc": self.acc, "x": x.ctype, "hits": counts}
        link = Link(
            instance(kernel, **types),
            parts.geometry(f"k {self.op.name} {op.name}", "link", fields, show_op(op)),
            x,
            weights.name,
            weights.offset,
            per_pixel * packed.row_bytes,
            ramp=op.kernel == "ramp",
            hits=hits,
            scratch=parts.buffer("uint8_t", rows.shape[1], self.step) if spread else None,
            pool=pool,
        )
        return self.stream(op, link) if self.streaming else link

    def stream(self, op: Conv2d | Dense, link: Link) -> Link:
        leak = None
        if op.kernel == "leak":
            num, shift = (op.keep, 15) if op.keep else (2**op.shift - 1, op.shift)
            leak = (num, shift, _ROUNDING[op.rounding])
        analog = link.call.kernel != "rows_at"
        return replace(
            link,
            bias=self.constants("bias", [op]),
            drift=self.constants("drift", [op]),
            leak=leak,
            delay=op.delay,
            every=op.every,
            v=self.parts.buffer(self.acc, self.grid[0], self.step),
            current=self.parts.buffer(self.acc, self.grid[0], self.step) if analog else None,
        )

    def pooling(self, op: Conv2d, x: Operand, size: tuple[int, int]) -> str:
        fields = (x.grid[1], x.grid[2], x.grid[0], *size, *op.pool, *op.pool_stride, *op.pool_pad[:2], x.grid[1])
        return self.parts.geometry(f"g {self.op.name} {op.name}", "pool", fields, show_op(op))

    def pool_sum(self, op: Conv2d, x: Operand, pool: str, size: tuple[int, int]) -> tuple[Operand, int | None]:
        """A step that sums the operand over the op's pooling windows; for the ramp kernel it counts spikes as well."""
        fold = op.pool[0] * op.pool[1]
        low, high = min(x.low, 0) * fold, max(x.high, 0) * fold
        if max(-low, high, fold) >= 2**31 or fold >= 2**16:
            fact = f"a pooling window of {fold} inputs sums to more than 32 bits"
            raise TtfsError.one(codes.WIDTH, fact, loc=op.loc, subject=op.subject)
        grid = (x.grid[0], size[0], size[1])
        out = self.parts.stored(Operand(None, holding(low, high), grid, low, high), self.step)
        counts = holding(0, fold)
        hits = self.parts.buffer(counts, out.size, self.step) if op.kernel == "ramp" else None
        call = instance("pool_sum", x=x.ctype, sum=out.ctype, hits=counts)
        id = self.parts.id(f"{self.op.name} {op.name} {self.step}")
        self.before.append(Move(id, (show_op(op),), call, x, out, pool, hits))
        return out, hits

    def check_product(self, op: Conv2d | Dense, x: Operand) -> None:
        w = self.net.arrays[op.w]
        product = int(np.abs(w.astype(np.int64)).max(initial=0)) * max(abs(x.low), abs(x.high))
        if product >= 2**31:
            fact = f"one input times one weight reaches {product}, more than 32 bits"
            raise TtfsError.one(codes.WIDTH, fact, loc=op.loc, subject=op.subject)

    def rows(
        self, op: Conv2d | Dense, grid: Grid, kernel: str, size: tuple[int, int]
    ) -> tuple[Array, tuple[int, ...], int]:
        """Weight rows in the kernel's order, the link struct's geometry, and rows per output position (0: shared)."""
        w = self.net.arrays[op.w]
        if isinstance(op, Dense):
            n, (c, h, wide) = w.shape[1], self.grid
            order = np.arange(n, dtype=np.int64).reshape(grid).transpose(1, 2, 0).ravel()  # operand, channel-last
            rows = w.reshape(c, h * wide, n)[:, :, order].transpose(1, 2, 0).reshape(-1, c)
            return rows, self.dense_fields(n, c), n if h * wide > 1 else 0
        cout, per_group, kh, kw = w.shape
        fields = (*size, grid[0], cout, op.groups, kh, kw, *op.stride, *op.pad[:2], *op.dilation)
        if kernel == "depthwise":
            return w[:, 0].transpose(1, 2, 0).reshape(kh * kw, cout), fields, 0
        grouped = w.reshape(op.groups, cout // op.groups, per_group, kh, kw)
        return grouped.transpose(0, 3, 4, 2, 1).reshape(-1, cout // op.groups), fields, 0

    def dense_fields(self, inputs: int, channels: int) -> tuple[int, ...]:
        """A dense op is a convolution of 1x1; stride 0 lets every output position read that one input position."""
        return (1, 1, inputs, channels, 1, 1, 1, 0, 0, 0, 0, 1, 1)

    def constants(self, key: str, ops: list[Conv2d | Dense]) -> Constants | None:
        """The summed `bias` or `drift` of these ops as a table, [C] or [pixels, C]."""
        total: Array | None = None
        for op in ops:
            const = op.bias if key == "bias" else op.drift
            if const is not None:
                part = self.channel_last(self.net.arrays[const].astype(np.int64), op)
                total = part if total is None else total + part
        if total is None or not total.any():
            return None
        names = " ".join((key, self.op.name, *(op.name for op in ops)))
        name = self.parts.table(names, self.acc, total, "; ".join(show_op(op) for op in ops))
        return Constants(name, per_neuron=total.ndim == 2)

    def channel_last(self, a: Array, op: Conv2d | Dense) -> Array:
        """A constant [C] or [*shape] of an op as [C] or [pixels, C] of this layer."""
        c, pixels = self.grid[0], self.grid[1] * self.grid[2]
        if isinstance(op, Conv2d) and a.ndim == 1:
            return a
        return a.reshape(c, pixels).T if pixels > 1 else a.reshape(c)

    def sink(self) -> FireSink | MembraneSink | RecallSink:
        op, t = self.op, self.op.type
        if isinstance(op, Fire):
            return self.fire_sink(op)
        assert isinstance(t, Scores)
        if op.rule == "membrane":
            call = instance("settle", acc=self.acc)
            return MembraneSink(call, t.ticks)
        spikes, v = self.net.type_of(op.xs[0]), self.net.type_of(op.xs[1])
        assert isinstance(spikes, Spikes) and isinstance(v, Potential)
        if v.closes is not None and v.closes < spikes.closes:
            fact = f"%{op.xs[1]} ends at {v.closes}, before the spikes %{op.xs[0]} at {spikes.closes}"
            raise TtfsError.one(codes.UNSUPPORTED, fact, loc=op.loc, subject=op.subject)
        at = self.parts.buffer("int32_t", t.shape[0], self.step)
        return RecallSink(instance("recall_at", acc=self.acc), t.ticks, self.parts.read(op.xs[0], self.step), at)

    def fire_sink(self, op: Fire) -> FireSink:
        t, parts = op.type, self.parts
        assert isinstance(t, Spikes) and op.theta is not None
        low, high = parts.bounds[op.v].membrane
        theta = np.clip(self.net.arrays[op.theta].astype(np.int64), low, high + 1)  # beyond: always, never
        c, pixels = self.grid[0], self.grid[1] * self.grid[2]
        shared, per_neuron = theta.shape[0] == 1 and theta.ndim == 2, False
        if shared:
            theta = theta[0]
        elif theta.ndim == 2 and (len(t.shape) == 3 or pixels == 1):
            theta = theta.T  # [T, C]
        else:
            theta, per_neuron = theta.reshape(c, pixels, t.ticks).transpose(1, 2, 0), True  # [pixels, T, C]
        ctype = "int16_t" if int(theta.min()) >= -(2**15) and int(theta.max()) < 2**15 else "int32_t"
        name = parts.table(f"theta {op.name}", ctype, theta, show_op(op))
        out = parts.stored(Operand(None, parts.spike, self.grid, 0, t.ticks), self.step)
        parts.values[op.name] = out
        kernel = "fire_at" if self.streaming else "fire"
        call = instance(kernel, acc=self.acc, theta=ctype)
        return FireSink(call, Constants(name, not shared, per_neuron), t.ticks, op.force_last, out)


def fast_sink(
    sink: FireSink | MembraneSink | RecallSink, uacc: str, block: int, *, wide: bool
) -> FireSink | MembraneSink:
    """The same sink by the kernels that read sums without sign."""
    match sink:
        case FireSink():
            theta = dict(sink.call.types)["theta"]
            if wide:
                return replace(sink, call=instance("fire_wide", theta=theta))
            if sink.ticks <= FEW_TICKS:
                return replace(sink, call=instance("fire_few", uacc=uacc, theta=theta))
            return replace(sink, call=instance("fire_back", uacc=uacc, theta=theta, block=block))
        case MembraneSink():
            return replace(sink, call=instance("settle_back", uacc=uacc))
        case RecallSink():
            raise AssertionError("the fast variant recalls nothing")
