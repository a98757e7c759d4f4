"""Nets for the C backend, by hand: one per feature that random nets seldom or never reach."""

from collections.abc import Callable
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
    Spikes,
)  # fmt: skip
from ttfsc.passes.prove_widths import prove_widths

RNG = np.random.default_rng


def ints(seed: int, shape: tuple[int, ...], bits: int) -> Array:
    most = 2 ** (bits - 1)
    return RNG(seed).integers(-most, most, shape).astype(np.int8)


class Hand:
    """A builder that names arrays after their op."""

    def __init__(self, name: str, x: Analog | Spikes, ticks: int = 5) -> None:
        self.b = Builder(name, ticks=ticks)
        self.seed = 0
        self.b.add(Input(name="in", type=x))

    def conv(self, name: str, x: str, shape: tuple[int, int, int, int], bits: int = 4, **more: Any) -> "Hand":
        self.seed += 1
        w = self.b.array(f"{name}.w", more.pop("w", ints(self.seed, shape, bits)))
        arrays = {k: self.b.array(f"{name}.{k}", more.pop(k)) for k in ("bias", "drift") if k in more}
        self.b.add(Conv2d(name=name, type=OPEN, x=Ref(x), w=w, bits=bits, **arrays, **more))
        return self

    def dense(self, name: str, x: str, shape: tuple[int, int], bits: int = 4, **more: Any) -> "Hand":
        self.seed += 1
        w = self.b.array(f"{name}.w", more.pop("w", ints(self.seed, shape, bits)))
        arrays = {k: self.b.array(f"{name}.{k}", more.pop(k)) for k in ("bias", "drift") if k in more}
        self.b.add(Dense(name=name, type=OPEN, x=Ref(x), w=w, bits=bits, **arrays, **more))
        return self

    def fire(self, name: str, v: str, theta: Array | int, *, force_last: bool = False) -> "Hand":
        """theta: a table, or the value at which the constant falling threshold starts."""
        t = self.b.ticks
        table = -(-theta * (t - np.arange(t)) // t)[None] if isinstance(theta, int) else theta
        const = self.b.array(f"{name}.theta", table.astype(np.int32))
        self.b.add(Fire(name=name, type=OPEN, v=Ref(v), theta=const, force_last=force_last))
        return self

    def op(self, op: Any) -> "Hand":
        self.b.add(op)
        return self

    def membrane(self, v: str) -> Net:
        self.b.add(Decode(name="out", type=OPEN, xs=(Ref(v),), rule="membrane"))
        return prove_widths(self.b.net())


def tiny(name: str = "tiny", pixels: int = 6) -> Net:
    """Two convolutions, a folded average pool, a dense read-out: small enough to read its C."""
    h = Hand(name, Analog((1, pixels, pixels), 0, 255), ticks=4)
    h.conv("c1.v", "in", (4, 1, 3, 3), pad=(1, 1, 1, 1)).fire("c1", "c1.v", 900)
    h.conv("c2.m", "c1", (6, 4, pixels // 2, pixels // 2), kernel="ramp", pool=(2, 2), pool_stride=(2, 2))
    h.op(Flatten(name="c2.v", type=OPEN, x=Ref("c2.m"))).fire("c2", "c2.v", 60)
    return h.dense("out.v", "c2", (3, 6), kernel="ramp", bias=np.array([5, -3, 0])).membrane("out.v")


def wide() -> Net:
    """Sums beyond 16 bits, 8-bit weights, thresholds per neuron, inputs of 16 bits."""
    h = Hand("wide", Analog((2, 5, 5), -5, 65535), ticks=7)
    table = RNG(1).integers(-(2**20), 2**21, (3, 4, 4, 7))
    h.conv("a.v", "in", (3, 2, 2, 2), bits=8).fire("a", "a.v", table)
    h.op(Flatten(name="f", type=OPEN, x=Ref("a")))
    return h.dense("o.v", "f", (4, 48), bits=7, kernel="ramp", bias=RNG(2).integers(-(2**20), 2**20, 4)).membrane("o.v")


def one_bit() -> Net:
    """Binary weights, -1 and +1, and ternary ones that are declared one bit wide."""
    h = Hand("one-bit", Spikes((3, 4, 4), 0, 5))
    signs = RNG(3).choice(np.array([-1, 1], np.int8), (11, 3, 3, 3))
    h.conv("a.v", "in", (0, 0, 0, 0), bits=1, w=signs).fire("a", "a.v", 12)
    h.op(Flatten(name="f", type=OPEN, x=Ref("a")))
    return h.dense("o.v", "f", (5, 44), bits=1, w=RNG(4).integers(-1, 2, (5, 44)).astype(np.int8)).membrane("o.v")


def long_window() -> Net:
    """300 ticks: spike values need two bytes."""
    h = Hand("long", Analog((6,), 0, 1000), ticks=300)
    h.op(Encode(name="e", type=OPEN, x=Ref("in"))).dense("a.v", "e", (9, 6), bits=3).fire("a", "a.v", 900)
    return h.dense("o.v", "a", (4, 9), bits=5, kernel="ramp").membrane("o.v")


def residual() -> Net:
    """Three branches with windows of their own on one membrane, two of them of one op; one potential, two layers."""
    h = Hand("residual", Spikes((4, 5, 5), 0, 6), ticks=6)
    h.conv("a.v", "in", (4, 4, 3, 3), pad=(1, 1, 1, 1)).fire("a", "a.v", 40)
    h.conv("b.v", "a", (4, 4, 3, 3), pad=(1, 1, 1, 1), kernel="ramp", drift=np.array([1, 0, -2, 3]))
    h.conv("skip", "in", (4, 4, 1, 1), bits=6, bias=RNG(5).integers(-9, 9, (4, 5, 5)))
    h.op(Add(name="twice", type=OPEN, xs=(Ref("b.v"), Ref("skip"), Ref("b.v"))))
    h.fire("b", "twice", 90, force_last=True).fire("c", "b.v", RNG(6).integers(-20, 40, (4, 6)))
    h.op(Flatten(name="fb", type=OPEN, x=Ref("b"))).op(Flatten(name="fc", type=OPEN, x=Ref("c")))
    h.dense("o1", "fb", (3, 100), kernel="ramp").dense("o2", "fc", (3, 100), bits=2)
    h.op(Add(name="o", type=OPEN, xs=(Ref("o1"), Ref("o2"))))
    return h.membrane("o")


def flat_sum() -> Net:
    """A flattened convolution and a dense op on one membrane: the dense one follows the other's order."""
    h = Hand("flat-sum", Spikes((2, 4, 3), 0, 5))
    h.conv("a.m", "in", (3, 2, 3, 2), bits=5).op(Flatten(name="a.v", type=OPEN, x=Ref("a.m")))
    h.op(Flatten(name="f", type=OPEN, x=Ref("in")))
    h.dense("d.v", "f", (12, 24), bias=RNG(7).integers(-9, 9, 12), drift=RNG(8).integers(-3, 3, 12))
    h.op(Add(name="v", type=OPEN, xs=(Ref("a.v"), Ref("d.v")))).fire("s", "v", RNG(9).integers(-20, 60, (12, 5)))
    h.op(Decode(name="out", type=OPEN, xs=(Ref("s"), Ref("v")), rule="first_spike"))
    return prove_widths(h.b.net())


def depthwise() -> Net:
    """A group per channel, with one and with two outputs each, pooled and not, every packing."""
    h = Hand("depthwise", Spikes((3, 8, 8), 0, 5))
    h.conv("a.v", "in", (3, 1, 3, 3), bits=3, groups=3, stride=(2, 1), kernel="ramp").fire("a", "a.v", 15)
    h.conv("b.v", "a", (6, 1, 2, 2), bits=8, groups=3, pool=(2, 2), kernel="ramp").fire("b", "b.v", 300)
    h.conv("c.m", "b", (6, 1, 1, 1), bits=4, groups=6, pool=(1, 2), pool_pad=(0, 1, 0, 0))
    h.op(Flatten(name="c.v", type=OPEN, x=Ref("c.m")))
    return h.membrane("c.v")


def stream() -> Net:
    """Streaming: pooled spikes, leaks of every rounding, a sum of two leaks, current at every tick, a delay."""
    h = Hand("stream", Analog((2, 5, 5), -20, 100), ticks=6)
    h.conv("a.v", "in", (4, 2, 3, 3), kernel="leak", keep=30000, every=True, pool=(2, 2), rounding="nearest")
    h.fire("a", "a.v", RNG(10).integers(0, 9000, (4, 6)))
    same: dict[str, Any] = {"pool": (2, 1), "pool_pad": (1, 0, 0, 0)}
    h.conv("b1", "a", (3, 4, 2, 2), kernel="leak", shift=2, rounding="zero", delay=1, bits=3, **same)
    constants = {"bias": np.array([9, -9, 40]), "drift": np.array([3, -3, 0])}
    h.conv("b2", "a", (3, 4, 2, 2), kernel="leak", keep=1, **constants, **same)
    h.op(Add(name="b.v", type=OPEN, xs=(Ref("b1"), Ref("b2"))))
    h.fire("b", "b.v", RNG(11).integers(-5, 40, (*h.b.types["b.v"].shape, 6)))
    h.op(Flatten(name="f", type=OPEN, x=Ref("b")))
    h.dense("o.v", "f", (4, h.b.types["f"].shape[0]), kernel="step", delay=1)
    return h.membrane("o.v")


def pooled_pixels() -> Net:
    """Earliest-spike pooling of pixels below zero, ceil windows, padding that must not win; 16-bit signed input."""
    h = Hand("pooled-pixels", Analog((2, 5, 5), -300, -2), ticks=5)
    h.op(MaxPool(name="p", type=OPEN, x=Ref("in"), kernel=(2, 3), stride=(2, 2), pad=(1, 1, 0, 0), ceil=True))
    h.op(Encode(name="e", type=OPEN, x=Ref("p")))
    h.op(MaxPool(name="q", type=OPEN, x=Ref("e"), kernel=(2, 2), stride=(1, 1)))
    h.op(Flatten(name="f", type=OPEN, x=Ref("q")))
    h.dense("s.v", "f", (5, h.b.types["f"].shape[0]), bits=6).fire("s", "s.v", 60)
    table = h.b.array("table", np.array([9, 5, -2, 1, 0]))
    h.op(Decode(name="out", type=OPEN, xs=(Ref("s"),), rule="weighted", table=table))
    return prove_widths(h.b.net())


NETS: dict[str, Callable[[], Net]] = {
    f.__name__: f for f in (tiny, wide, one_bit, long_window, residual, flat_sum, depthwise, stream, pooled_pixels)
}
