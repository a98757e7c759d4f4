"""Random nets of many layers for sweeping the C kernels: every width, tick count, geometry and kind of synapse.

A net grows from its input as a tree of short branches, so that no layer is starved of spikes by a silent one far above
it; thresholds follow the fan-in, so that most layers fire here and there. What is drawn follows the seed alone.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ttfsc.ir import (
    OPEN,
    Add,
    Analog,
    Array,
    Builder,
    Conv2d,
    Decode,
    Dense,
    Encode,
    Fire,
    Flatten,
    Input,
    MaxPool,
    Net,
    Ref,
    Shape,
    Spikes,
)  # fmt: skip
from ttfsc.ir.geometry import conv_out, pool_out
from ttfsc.passes.prove_widths import prove_widths

INPUTS = ((1, 9, 8), (2, 7, 7), (3, 8, 6), (6, 6, 7), (8, 5, 5), (12, 4, 6), (40,))
OUTPUTS = (1, 3, 5, 8, 16, 24, 31, 32, 33, 64, 70, 128)
TICKS = (2, 3, 4, 5, 7, 8, 10, 15, 16, 17, 23, 31, 32, 40, 63, 64)
CLASSES = 3
NEURONS = 2000  # of a layer, about, at most
REACH = 3  # layers between the input and any other, merging layers not counted


@dataclass
class Grown:
    """A value that layers may read."""

    name: str
    depth: int
    read: bool = False


@dataclass
class SweepNet:
    """Grows one net of `layers` firing layers and a read-out."""

    seed: int
    layers: int
    streaming: bool
    outputs: tuple[int, ...] = OUTPUTS
    weights: int = 20_000  # of a synapse op, about, at most
    values: list[Grown] = field(default_factory=list[Grown])

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.b = Builder("m", ticks=self.among(TICKS))
        self.count = 0

    def among(self, values: tuple[Any, ...]) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def upto(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def size(self, name: str) -> int:
        return int(np.prod(self.b.types[name].shape))

    def new(self, what: str) -> str:
        self.count += 1
        return f"{what}{self.count}"

    def net(self) -> Net:
        self.source()
        left = self.layers
        while left:
            left -= 1
            free = [v for v in self.values if not v.read]
            if len(free) > min(left, 12) or (len(free) > 3 and left < 4):
                self.merge(free)
            else:
                self.layer(self.among(tuple(v for v in self.values if v.depth < REACH)))
        while len(free := [v for v in self.values if not v.read]) > 4:
            self.merge(free)
        self.readout(free)
        return prove_widths(self.b.net())

    # -- the ends --------------------------------------------------------------------------------------------------

    def source(self) -> None:
        shape, kind = self.among(INPUTS), self.among(("spikes", "spikes", "analog", "encode"))
        if kind == "spikes":
            self.b.add(Input(name="in", type=Spikes(shape, 0, self.b.ticks)))
        else:
            low, high = self.among(((0, 255), (0, 1), (-128, 127), (3, 900), (-9, -2)))
            self.b.add(Input(name="in", type=Analog(shape, low, high)))
        here = "in"
        if kind == "encode":
            here = self.b.add(Encode(name="e", type=OPEN, x=Ref("in"))).name
        self.values.append(Grown(here, 0))

    def readout(self, free: list[Grown]) -> None:
        v = self.summed([self.dense(v.name, CLASSES) for v in free])
        rule = self.among(("membrane", "membrane", "first_spike", "weighted"))
        xs: tuple[Ref, ...] = (Ref(v),)
        table = None
        if rule != "membrane":
            self.fire("s", v, 4)
            xs = (Ref("s"), Ref(v)) if rule == "first_spike" else (Ref("s"),)
        if rule == "weighted":
            spikes = self.b.types["s"]
            assert isinstance(spikes, Spikes)
            table = self.b.array("table", self.rng.integers(-50, 51, spikes.ticks))
        self.b.add(Decode(name="out", type=OPEN, xs=xs, rule=rule, table=table))

    # -- layers ----------------------------------------------------------------------------------------------------

    def layer(self, x: Grown) -> None:
        """A convolution or dense layer on x, perhaps with a second branch from the same place."""
        x.read = True
        here = x.name
        image = len(self.b.types[here].shape) == 3
        if image and self.chance(0.1):
            here = self.max_pool(here)
        if image and self.chance(0.85):
            v = self.conv(here)
        else:
            v = self.dense(here, self.at_most(self.weights // self.size(here)))
        self.fired(v, x.depth + 1)

    def merge(self, free: list[Grown]) -> None:
        """A dense layer on two or three values that nobody has read."""
        chosen = [free[int(i)] for i in self.rng.choice(len(free), min(len(free), self.upto(2, 3)), replace=False)]
        for v in chosen:
            v.read = True
        outputs = self.among((3, 5, 17, 32, 40)[: 5 if sum(self.size(v.name) for v in chosen) < 1500 else 2])
        self.fired(self.summed([self.dense(v.name, outputs) for v in chosen]), max(v.depth for v in chosen) + 1)

    def fired(self, v: str, depth: int) -> None:
        if not self.streaming and self.chance(0.3):
            self.b.ticks = self.among(TICKS)
        name = self.new("l")
        self.fire(name, v, 1)
        self.values.append(Grown(name, depth))

    def max_pool(self, x: str) -> str:
        _, h, w = self.b.types[x].shape
        kernel = (self.upto(1, min(3, h)), self.upto(1, min(3, w)))
        stride, ceil = (self.upto(1, 3), self.upto(1, 3)), self.chance(0.5)
        pad = tuple(self.upto(0, kernel[a % 2] - 1) for a in range(4))
        if min(pool_out((h, w), kernel, stride, (pad[0], pad[1], pad[2], pad[3]), ceil)) < 1:
            return x
        return self.b.add(MaxPool(
            name=self.new("p"), type=OPEN, x=Ref(x), kernel=kernel, stride=stride, pad=(pad[0], pad[1], pad[2], pad[3]),
            ceil=ceil,
        )).name  # fmt: skip

    # -- synapses --------------------------------------------------------------------------------------------------

    def kind(self, x: str) -> dict[str, Any]:
        """The kernel and what belongs to it."""
        analog = isinstance(self.b.types[x], Analog)
        if not self.streaming:
            return {"kernel": "hold" if analog else self.among(("hold", "ramp"))}
        found: dict[str, Any] = {"kernel": self.among(("step", "leak"))}
        found |= {"every": self.chance(0.5)} if analog else {"delay": self.upto(0, 1)}
        if found["kernel"] == "leak":
            found["rounding"] = self.among(("floor", "nearest", "zero"))
            found |= {"shift": self.upto(1, 4)} if self.chance(0.5) else {"keep": self.among((1, 16384, 30000, 32767))}
        return found

    def conv(self, x: str) -> str:
        c, h, w = self.b.types[x].shape
        groups = self.among((1, 1, 1, c, *(g for g in (2, 3, 4) if c % g == 0)))
        size, fields = (h, w), dict[str, Any]()
        if self.chance(0.25):
            pool, stride = (self.upto(1, 3), self.upto(1, 3)), (self.upto(1, 2), self.upto(1, 2))
            pad = tuple(self.upto(0, pool[a % 2] - 1) for a in range(4))
            size = pool_out(size, pool, stride, (pad[0], pad[1], pad[2], pad[3]))
            fields |= {"pool": pool, "pool_stride": stride, "pool_pad": pad}
        kernel = (self.upto(1, 4), self.upto(1, 4))
        geometry = (self.upto(1, 2), self.upto(1, 3)), tuple(self.upto(0, 2) for _ in range(4)), self.dilation()
        stride, pad, dilation = geometry
        if min(size) < 1 or min(conv_out(size, kernel, stride, (pad[0], pad[1], pad[2], pad[3]), dilation)) < 1:
            kernel, stride, pad, dilation, fields, size = (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), {}, (h, w)
        fields |= {"stride": stride, "pad": pad, "dilation": dilation, "groups": groups}
        spread = conv_out(size, kernel, stride, (pad[0], pad[1], pad[2], pad[3]), dilation)
        fan_in = c // groups * kernel[0] * kernel[1]
        each = self.at_most(min(self.weights // fan_in, NEURONS // (spread[0] * spread[1])))
        outputs = each if groups == 1 else groups * (max(1, each // groups) if self.chance(0.6) else 32)
        first = self.synapse(Conv2d, x, (outputs, c // groups, *kernel), fields)
        if self.chance(0.75):
            return first
        if groups > 1 and self.chance(0.5) and outputs * fan_in * groups <= self.weights:
            groups, fields = 1, fields | {"groups": 1}
        return self.summed([first, self.synapse(Conv2d, x, (outputs, c // groups, *kernel), fields)])

    def at_most(self, limit: int) -> int:
        """One of the numbers of outputs, within reason."""
        return self.among(tuple(n for n in self.outputs if n <= max(limit, self.outputs[0])))

    def dilation(self) -> tuple[int, int]:
        return (self.among((1, 1, 2)), self.among((1, 1, 2)))

    def dense(self, x: str, outputs: int) -> str:
        if len(self.b.types[x].shape) == 3:
            x = self.b.add(Flatten(name=self.new("f"), type=OPEN, x=Ref(x))).name
        return self.synapse(Dense, x, (outputs, self.b.types[x].shape[0]), {})

    def synapse(self, cls: type[Conv2d | Dense], x: str, shape: Shape, fields: dict[str, Any]) -> str:
        name, bits = self.new("v"), self.upto(1, 8)
        most = 2 ** (bits - 1)
        w = self.rng.integers(-most, most, shape) if bits > 1 else self.rng.integers(0, 2, shape) * 2 - 1
        given: dict[str, Any] = {
            "w": self.b.array(f"{name}.w", w.astype(np.int8)),
            "bits": bits,
            **fields,
            **self.kind(x),
        }
        for key, share in (("bias", 0.4), ("drift", 0.2)):
            if self.chance(share):
                given[key] = self.b.array(f"{name}.{key}", self.rng.integers(-40, 41, shape[0]).astype(np.int32))
        return self.b.add(cls(name=name, type=OPEN, x=Ref(x), **given)).name

    def summed(self, potentials: list[str]) -> str:
        if len(potentials) == 1:
            return potentials[0]
        return self.b.add(Add(name=self.new("a"), type=OPEN, xs=tuple(map(Ref, potentials)))).name

    # -- firing ----------------------------------------------------------------------------------------------------

    def fire(self, name: str, v: str, less: int) -> None:
        """A table of any kind whose top is about what random inputs reach, divided by `less`."""
        t = self.b.types[v].shape
        ticks = self.b.ticks
        lead = self.among(((1,), (t[0],), t if int(np.prod(t)) * ticks < 20_000 else (1,)))
        high = max(1, int(self.rng.uniform(0.1, 1.5) * self.usual(v)) // less)
        kind = self.among(("falling", "falling", "constant", "any"))
        if kind == "any":
            table = self.rng.integers(-high, 2 * high + 1, (*lead, ticks))
        else:
            top = self.rng.integers(max(1, high // 2), high + 1, (*lead, 1))
            left = ticks - np.arange(ticks) if kind == "falling" else np.full(ticks, ticks)
            table = -(-top * left // ticks)
        theta = self.b.array(f"{name}.theta", table.astype(np.int32))
        self.b.add(Fire(name=name, type=OPEN, v=Ref(v), theta=theta, force_last=self.chance(0.1)))

    def usual(self, v: str) -> float:
        """The spread of a membrane on random inputs, roughly."""
        op = next(op for op in self.b.ops if op.name == v)
        match op:
            case Add():
                return max(self.usual(x) for x in op.xs)
            case Conv2d() | Dense():
                w, t = self.b.unverified().arrays[op.w].astype(np.float64), self.b.types[op.x]
                value = max(abs(t.low), abs(t.high)) if isinstance(t, Analog) else getattr(t, "ticks", 1)
                value = 1 if self.streaming and isinstance(t, Spikes) else value
                return float(np.sqrt((w**2).reshape(len(w), -1).sum(1).mean())) * value * 0.5
            case _:
                return 100.0


def sweep_net(seed: int, layers: int) -> Net:
    """A net of the sweep: two in seven stream."""
    return SweepNet(seed, layers, streaming=seed % 7 in (2, 5)).net()


def wide_net(seed: int) -> Net:
    """Few layers of a hundred outputs and more: what takes blocks of 128 and wide rows."""
    return SweepNet(seed, 6, streaming=False, outputs=(114, 128, 250, 256), weights=300_000).net()


def inputs(net: Net, seed: int, n: int) -> Array:
    """[n, *input shape]: all low, all high, then random ones, sparse and dense."""
    rng, t = np.random.default_rng(seed), net.input.type
    low, high = (t.low, t.high) if isinstance(t, Analog) else (0, t.ticks if isinstance(t, Spikes) else 0)
    x = rng.integers(low, high + 1, (n, *t.shape)).astype(np.int32)
    for i in range(n):
        x[i] = np.where(rng.random(t.shape) < (0.1, 0.3, 0.9)[i % 3], x[i], max(low, min(0, high)))
    x[0], x[min(1, n - 1)] = low, high
    return x
