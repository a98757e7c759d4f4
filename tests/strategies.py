"""Small random nets for property tests: every op, kernel, decode rule and awkward geometry of semantics.md.

    @given(integer_nets())          windowed and streaming, quantised
    @given(real_nets())             as a frontend delivers them: batch norm, average pools, ranges not yet known
    inputs_for(net, seed, n)        inputs in the declared range, its two ends always among them

Structure is drawn by hypothesis, numbers come from one drawn seed: a failing net prints as `show(net)` of a few lines.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from ttfsc.ir import (
    OPEN,
    Add,
    Analog,
    Array,
    AvgPool,
    BatchNorm,
    Builder,
    Const,
    Conv2d,
    Decode,
    Dense,
    Encode,
    Fire,
    Flatten,
    Identity,
    Input,
    MaxPool,
    Net,
    Potential,
    Ref,
    Shape,
    Spikes,
    TtfsError,
    Type,
    bounds_of,
)  # fmt: skip
from ttfsc.ir.geometry import conv_out, pool_out
from ttfsc.ir.ops import Pair, Quad, Rule

Draw = Any  # hypothesis' draw function
Source = Literal["analog", "encode", "spikes"]
RULES: tuple[Rule, ...] = ("membrane", "first_spike", "weighted")
DISCIPLINES = ("windowed", "streaming")


def inputs_for(net: Net, seed: int, n: int = 4) -> Array:
    """[n, *input shape] in the declared range: all low, all high, then random."""
    rng, t = np.random.default_rng(seed), net.input.type
    if isinstance(t, Analog):
        low, high = t.low, t.high
    else:
        assert isinstance(t, Spikes)
        low, high = 0, t.ticks
    x = rng.integers(low, high + 1, (n, *t.shape)).astype(np.int32)
    if not isinstance(t, Analog):
        x *= rng.random(x.shape) < 0.7  # silence is as likely as an early spike
    x[0] = low
    if n > 1:
        x[1] = high
    return x


def integer_nets(
    *,
    sources: tuple[Source, ...] = ("analog", "encode", "spikes"),
    disciplines: tuple[str, ...] = DISCIPLINES,
    rules: tuple[Rule, ...] = RULES,
    max_layers: int = 3,
    max_ticks: int = 6,
    skips: bool = True,
) -> st.SearchStrategy[Net]:
    """Verified quantised nets of up to `max_layers` firing layers and a read-out."""
    return _nets(_Plan(True, sources, disciplines, rules, max_layers, max_ticks, skips))


def real_nets(
    *,
    sources: tuple[Source, ...] = ("analog",),
    rules: tuple[Rule, ...] = ("membrane", "first_spike"),
    max_layers: int = 3,
    calibrated: bool | None = None,
    skips: bool = True,
    avgpool: bool = True,
) -> st.SearchStrategy[Net]:
    """Verified real nets on unit windows. calibrated: whether every fire knows its range (None: either)."""
    return _nets(_Plan(False, sources, ("windowed",), rules, max_layers, 1, skips, calibrated, avgpool))


def mapped_ready_nets() -> st.SearchStrategy[Net]:
    """What the chip's side takes: windowed integer nets with a membrane read-out."""
    return integer_nets(disciplines=("windowed",), rules=("membrane",))


@dataclass(frozen=True)
class _Plan:
    integer: bool
    sources: tuple[Source, ...]
    disciplines: tuple[str, ...]
    rules: tuple[Rule, ...]
    max_layers: int
    max_ticks: int
    skips: bool
    calibrated: bool | None = None
    avgpool: bool = False


@st.composite
def _nets(draw: Draw, plan: _Plan) -> Net:
    maker = _Maker(draw, plan, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    maker.source()
    for i in range(draw(st.integers(0, plan.max_layers))):
        maker.layer(f"l{i}")
    maker.readout()
    return maker.b.net()


@dataclass
class _Maker:
    """Grows one net; `here` is the value the next layer reads, `seen` those a skip may reach back to."""

    draw: Draw
    plan: _Plan
    rng: np.random.Generator
    b: Builder = field(init=False)
    here: str = "in"
    seen: list[str] = field(default_factory=list[str])
    last: str = ""  # the last potential fired from

    def __post_init__(self) -> None:
        self.b = Builder("random", ticks=self.ticks())

    def ticks(self) -> int:
        return self.draw(st.integers(1, self.plan.max_ticks))

    def flip(self, chance: float = 0.5) -> bool:
        return self.draw(st.integers(0, 9)) >= 10 - round(10 * chance)  # shrinks towards no

    def shape(self, name: str = "") -> Shape:
        return self.b.types[name or self.here].shape

    # -- the ends --------------------------------------------------------------------------------------------------

    def source(self) -> None:
        d = self.draw
        image = st.tuples(st.integers(1, 3), st.integers(2, 6), st.integers(2, 6))
        shape = d(st.tuples(st.integers(1, 6)) if self.flip(0.2) else image)
        kind = d(st.sampled_from(self.plan.sources))
        if kind == "spikes":
            self.b.add(Input(name="in", type=Spikes(shape, 0, self.b.ticks)))
        else:
            low, high = d(st.sampled_from([(0, 255), (0, 1), (-128, 127), (3, 9), (-9, -2)]))
            self.b.add(Input(name="in", type=Analog(shape, low, high), scale=1 / 255))
        if kind == "encode":
            self.b.add(Encode(name="e", type=OPEN, x=Ref("in")))
            self.here = "e"
        self.seen.append(self.here)

    def readout(self) -> None:
        rule = self.draw(st.sampled_from(self.plan.rules))
        self.flatten("flat")
        v = self.synapse("out.v", self.here, self.draw(st.sampled_from(self.disciplines())), dense=True)
        if self.plan.skips and self.flip():
            v = self.branch("out", v, streaming=self.streaming(v))
        self.b.ticks = self.ticks()
        if rule == "membrane":
            self.b.add(Decode(name="out", type=OPEN, xs=(Ref(v),), rule=rule))
            return
        self.fire("s", v)
        if rule == "first_spike":
            self.b.add(Decode(name="out", type=OPEN, xs=(Ref("s"), Ref(v)), rule=rule))
            return
        t = self.b.types["s"]
        assert isinstance(t, Spikes)
        table = self.b.array("out.table", self.numbers((t.ticks,), 50))
        self.b.add(Decode(name="out", type=OPEN, xs=(Ref("s"),), rule=rule, table=table))

    # -- layers ----------------------------------------------------------------------------------------------------

    def disciplines(self) -> tuple[str, ...]:
        analog = isinstance(self.b.types[self.here], Analog)
        return self.plan.disciplines if analog or self.plan.integer else ("windowed",)

    def streaming(self, v: str) -> bool:
        t = self.b.types[v]
        return isinstance(t, Potential) and t.streaming

    def layer(self, name: str) -> None:
        """[pool] [flatten] synapse [branch] [batchnorm] fire [batchnorm]."""
        if len(self.shape()) == 3 and self.flip(0.4):
            self.pool(f"{name}.pool")
        dense = len(self.shape()) == 1 or self.flip(0.2)
        if dense:
            self.flatten(f"{name}.in")
        v = self.synapse(f"{name}.v", self.here, self.draw(st.sampled_from(self.disciplines())), dense=dense)
        if self.plan.skips and self.flip(0.3):
            v = self.branch(name, v, streaming=self.streaming(v))
        if not self.plan.integer and self.flip(0.4):
            v = self.batchnorm(f"{name}.bn", v)
        self.b.ticks = self.ticks()
        self.fire(name, v)
        self.here = name
        if not self.plan.integer and self.flip(0.2):
            self.here = self.batchnorm(f"{name}.after", name)
        if not self.plan.integer and self.flip(0.2):
            self.here = self.b.add(Identity(name=f"{name}.drop", type=OPEN, x=Ref(self.here))).name
        self.seen.append(self.here)

    def flatten(self, name: str) -> None:
        if len(self.shape()) == 3:
            self.here = self.b.add(Flatten(name=name, type=OPEN, x=Ref(self.here))).name

    def pool(self, name: str) -> None:
        d, (h, w) = self.draw, self.shape()[1:]
        kernel: Pair = (d(st.integers(1, min(3, h))), d(st.integers(1, min(3, w))))
        stride: Pair = (d(st.integers(1, 3)), d(st.integers(1, 3)))
        pad: Quad = tuple(d(st.integers(0, kernel[a % 2] - 1)) for a in range(4))
        ceil = self.flip()
        if min(pool_out((h, w), kernel, stride, pad, ceil)) < 1:
            return
        if self.plan.avgpool and self.flip():
            self.b.add(AvgPool(
                name=name, type=OPEN, x=Ref(self.here), kernel=kernel, stride=stride, pad=pad, ceil=ceil,
                count_pad=self.flip(),
            ))  # fmt: skip
        else:
            self.b.add(
                MaxPool(name=name, type=OPEN, x=Ref(self.here), kernel=kernel, stride=stride, pad=pad, ceil=ceil)
            )
        self.here = name

    def branch(self, name: str, v: str, *, streaming: bool) -> str:
        """v plus a second synapse op from the same value or an earlier one, where one fits."""
        op = self.b.ops[-1]
        here = self.b.types[self.here]
        for source in (*reversed(self.seen), self.here):
            t = self.b.types[source]
            if streaming and _window(t) != _window(here):
                continue
            if isinstance(op, Dense):
                if len(t.shape) == 3:
                    flat = f"{name}.{source}.flat"
                    source = self.b.add(Flatten(name=flat, type=OPEN, x=Ref(source))).name
                other = self.synapse(f"{name}.v2", source, "streaming" if streaming else "windowed", dense=True,
                                     outputs=op.type.shape[0])  # fmt: skip
            elif isinstance(op, Conv2d) and t.shape == self.b.types[op.x].shape:
                other = self.synapse(f"{name}.v2", source, "streaming" if streaming else "windowed", like=op)
            else:
                continue
            return self.b.add(Add(name=f"{name}.sum", type=OPEN, xs=(Ref(v), Ref(other)))).name
        return v

    def batchnorm(self, name: str, x: str) -> str:
        c = self.shape(x)[0]
        scale = self.b.array(f"{name}.scale", self.rng.normal(1, 0.5, c).astype(np.float32))
        shift = self.b.array(f"{name}.shift", self.rng.normal(0, 0.2, c).astype(np.float32))
        return self.b.add(BatchNorm(name=name, type=OPEN, x=Ref(x), scale=scale, shift=shift)).name

    # -- synapses --------------------------------------------------------------------------------------------------

    def synapse(
        self, name: str, x: str, discipline: str, *, dense: bool = False, outputs: int = 0, like: Conv2d | None = None
    ) -> str:
        d, source = self.draw, self.b.types[x]
        extra: dict[str, Any] = {}
        analog = isinstance(source, Analog)
        if discipline == "streaming":
            extra["kernel"] = d(st.sampled_from(("step", "leak")))
            if analog:
                extra["every"] = self.flip()
            else:
                extra["delay"] = d(st.integers(0, 1))
            if extra["kernel"] == "leak":
                extra["rounding"] = d(st.sampled_from(("floor", "nearest", "zero")))
                if self.flip():
                    extra["shift"] = d(st.integers(1, 4))
                else:
                    extra["keep"] = d(st.sampled_from((1, 16384, 30000, 32767)))
        else:
            extra["kernel"] = "hold" if analog else d(st.sampled_from(("hold", "ramp")))
        if dense:
            shape = (outputs or d(st.integers(1, 5)), source.shape[0])
            cls, geometry = Dense, {}
        else:
            cls = Conv2d
            geometry, shape = self.geometry(source.shape) if like is None else _same(like, self.b)
        w, more = self.weights(name, shape)
        result = self._result(cls, name, x, w, geometry)
        for key, chance in (("bias", 0.5), ("drift", 0.3)):
            if (self.plan.integer or key == "bias") and self.flip(chance):
                sizes = result if self.plan.integer and self.flip(0.3) else result[:1]
                extra[key] = self.b.array(f"{name}.{key}", self.numbers(sizes, 30))
        op = cls(name=name, type=OPEN, x=Ref(x), w=w, **geometry, **more, **extra)
        try:
            return self.b.add(op).name
        except TtfsError:  # a skip whose source no longer fits: not a net
            assume(False)
            raise

    def _result(self, cls: type[Conv2d | Dense], name: str, x: str, w: Const, geometry: dict[str, Any]) -> Shape:
        probe = cls(name=name, type=OPEN, x=Ref(x), w=w, **geometry)
        return probe.outer_shape(self.shape(x), self.b.unverified().arrays[w])

    def geometry(self, shape: Shape) -> tuple[dict[str, Any], Shape]:
        d, (c, h, w) = self.draw, shape
        kernel: Pair = (d(st.integers(1, 3)), d(st.integers(1, 3)))
        pad: Quad = tuple(d(st.integers(0, 2)) for _ in range(4))
        stride: Pair = (d(st.integers(1, 2)), d(st.integers(1, 2)))
        dilation: Pair = (1, 1) if self.flip() else (d(st.integers(1, 2)), d(st.integers(1, 2)))
        groups = d(st.sampled_from([g for g in range(1, c + 1) if c % g == 0]))
        fields: dict[str, Any] = {"stride": stride, "pad": pad, "dilation": dilation, "groups": groups}
        size = (h, w)
        if self.plan.integer and self.flip(0.3):
            fields["pool"] = (d(st.integers(1, 3)), d(st.integers(1, 3)))
            fields["pool_stride"] = (d(st.integers(1, 2)), d(st.integers(1, 2)))
            fields["pool_pad"] = tuple(d(st.integers(0, 1)) for _ in range(4))
            size = pool_out(size, fields["pool"], fields["pool_stride"], fields["pool_pad"])
        if min(conv_out(size, kernel, stride, pad, dilation)) < 1 or min(size) < 1:
            fields = {"groups": groups}
            kernel = (1, 1)
        return fields, (groups * d(st.integers(1, 2)), c // groups, *kernel)

    def weights(self, name: str, shape: Shape) -> tuple[Const, dict[str, Any]]:
        if self.plan.integer:
            bits = self.draw(st.integers(2, 8))
            w = self.rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape).astype(np.int8)
            return self.b.array(f"{name}.w", w), {"bits": bits}
        if self.flip():
            bits = self.draw(st.integers(2, 8))
            most = 2 ** (bits - 1) - 1
            step = self.rng.uniform(0.01, 0.3, shape[0]).astype(np.float32)
            grid = self.rng.integers(-most, most + 1, shape).astype(np.float32)
            w = grid * step.reshape(-1, *[1] * (len(shape) - 1))
            return self.b.array(f"{name}.w", w), {"bits": bits, "step": self.b.array(f"{name}.step", step)}
        fan_in = int(np.prod(shape[1:]))
        return self.b.array(f"{name}.w", self.rng.normal(0, fan_in**-0.5, shape).astype(np.float32)), {}

    # -- firing ----------------------------------------------------------------------------------------------------

    def fire(self, name: str, v: str) -> None:
        t = self.b.types[v]
        assert isinstance(t, Potential)
        if self.plan.integer:
            ticks = self.b.ticks if t.closes is None else t.closes - t.opens
            low, high = bounds_of(self.b.unverified())[v].membrane
            theta = self.b.array(f"{name}.theta", self.table(t.shape, ticks, max(-low, high, 1)))
            self.b.add(Fire(name=name, type=OPEN, v=Ref(v), theta=theta, force_last=self.flip(0.2)))
            return
        known = self.flip() if self.plan.calibrated is None else self.plan.calibrated
        ramp = any(isinstance(op, Conv2d | Dense) and op.kernel == "ramp" for op in self.b.ops)
        theta = None
        if known or ramp:
            c = int(self.draw(st.sampled_from((1, t.shape[0]))))
            theta = self.b.array(f"{name}.theta", self.rng.uniform(0.3, 2, c).astype(np.float32))
        ticks = self.draw(st.sampled_from((0, 2, 8))) if theta is not None else 0
        self.b.add(Fire(name=name, type=OPEN, v=Ref(v), theta=theta, ticks=ticks))

    def table(self, shape: Shape, ticks: int, largest: int) -> Array:
        """Threshold tables of every shape: falling, constant, or any numbers at all; membranes reach `largest`."""
        lead = self.draw(st.sampled_from(((1,), shape[:1], shape)))
        high = -(-largest // self.draw(st.sampled_from((1, 2, 4, 16))))
        kind = self.draw(st.sampled_from(("falling", "constant", "any")))
        if kind == "any":
            return self.rng.integers(-high, high + 1, (*lead, ticks)).astype(np.int32)
        top = self.rng.integers(1, high + 1, (*lead, 1))
        left = ticks - np.arange(ticks) if kind == "falling" else np.full(ticks, ticks)
        return np.asarray(-(-top * left // ticks), np.int32)

    def numbers(self, shape: Shape, most: int) -> Array:
        if self.plan.integer:
            return self.rng.integers(-most, most + 1, shape).astype(np.int32)
        return self.rng.normal(0, 0.3, shape).astype(np.float32)


def _window(t: Type) -> tuple[int, int] | None:
    return (t.opens, t.closes) if isinstance(t, Spikes) else None


def _same(like: Conv2d, b: Builder) -> tuple[dict[str, Any], Shape]:
    """The geometry of another convolution, for a branch that is to be added to it."""
    names = ("stride", "pad", "dilation", "groups", "pool", "pool_stride", "pool_pad")
    return {n: getattr(like, n) for n in names}, b.unverified().arrays[like.w].shape
