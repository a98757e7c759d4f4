"""The ops of a net: each a small frozen dataclass, fields first, then its rules.

Printer, parser and verifier are driven by these declarations alone; a new op needs no change elsewhere but in the
reference meaning (`ttfsc.ir.meaning`). `infer` computes the type that an op's operands give; `faults` yields
(code, sentence) pairs and never raises, so that all mistakes of a net come out at once. What holds for every type
(sizes, windows) is checked by `ttfsc.ir.verify`, not here.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ttfsc.ir import codes
from ttfsc.ir.arrays import Arrays, Const
from ttfsc.ir.geometry import pool_out
from ttfsc.ir.op import NO_PAD, ONE, Broken, Op, Pair, Quad, Ref, ShapeError
from ttfsc.ir.synapse import Conv2d, Dense, Kernel, Rounding, Synapse
from ttfsc.ir.types import Analog, Potential, Scores, Spikes, Type, show_shape

Rule = Literal["membrane", "first_spike", "weighted"]

__all__ = [
    "NO_PAD", "ONE", "OPS",
    "Add", "AvgPool", "BatchNorm", "Broken", "Conv2d", "Decode", "Dense", "Encode", "Fire", "Flatten", "Identity",
    "Input", "Kernel", "MaxPool", "Op", "Pair", "Quad", "Ref", "Rounding", "Rule", "ShapeError", "Synapse",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Input(Op):
    """The network's input; the source model saw `integer * scale`."""

    mnemonic: ClassVar[str] = "input"
    scale: float = 1.0

    def infer(self, ins: tuple[Type, ...], arrays: Arrays) -> Type:
        if not isinstance(self.type, Analog | Spikes):
            raise ShapeError(f"an input is analog or spikes, not {self.type.word}")
        return self.type

    def faults(self, ins: tuple[Type, ...], arrays: Arrays) -> Broken:
        if isinstance(self.type, Analog) and not -(2**15) <= self.type.low < self.type.high < 2**16:
            yield codes.VALUE, f"range {self.type.low}..{self.type.high} must rise and lie inside -32768..65535"
        if not (np.isfinite(self.scale) and self.scale > 0):
            yield codes.VALUE, f"scale is {self.scale}, must be a positive number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encode(Op):
    """Analog integers to spike times: x in low..high -> tick a + round((1-u) T), half up (DTA-TTFS Eq. 1).

    u is x scaled to 0..1; tick T is never. On the unit window of a real net the value is u itself.
    """

    mnemonic: ClassVar[str] = "encode"
    x: Ref

    def operands(self) -> tuple[Ref, ...]:
        return (self.x,)

    def infer(self, ins: tuple[Type, ...], arrays: Arrays) -> Type:
        (x,) = ins
        if not isinstance(x, Analog):
            raise ShapeError(f"reads %{self.x}, which is {x.word}, not analog")
        if not isinstance(self.type, Spikes):
            raise ShapeError(f"gives spikes, not {self.type.word}")
        return Spikes(x.shape, self.type.opens, self.type.closes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Op):
    """Sum of potentials: branches that meet on one membrane. A leak stays with its branch, rounding included."""

    mnemonic: ClassVar[str] = "add"
    xs: tuple[Ref, ...]

    def operands(self) -> tuple[Ref, ...]:
        return self.xs

    def infer(self, ins: tuple[Type, ...], arrays: Arrays) -> Type:
        if len(ins) < 2:
            raise ShapeError("needs at least two operands")
        potentials = [t for t in ins if isinstance(t, Potential)]
        if len(potentials) < len(ins):
            raise ShapeError(f"adds potentials only, not {', '.join(t.word for t in ins)}")
        if len({t.shape for t in potentials}) > 1:
            raise ShapeError(f"operands differ in shape: {', '.join(show_shape(t.shape) for t in ins)}")
        if len({t.streaming for t in potentials}) > 1:
            raise ShapeError("windowed and streaming potentials do not add", codes.WINDOW)
        first = potentials[0]
        if first.streaming and len(set(potentials)) > 1:
            raise ShapeError("streaming potentials must share one window to add", codes.WINDOW)
        return Potential(first.shape, max(t.opens for t in potentials), first.closes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity(Op):
    """Its operand, unchanged: dropout at inference and the like."""

    mnemonic: ClassVar[str] = "identity"
    x: Ref

    def operands(self) -> tuple[Ref, ...]:
        return (self.x,)

    def infer(self, ins: tuple[Type, ...], arrays: Arrays) -> Type:
        return _not_scores(self.x, ins[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNorm(Op):
    """Per channel: scale * x + shift, the running statistics already inside."""

    mnemonic: ClassVar[str] = "batchnorm"
    x: Ref
    scale: Const  # [C]
    shift: Const  # [C]

    def operands(self) -> tuple[Ref, ...]:
        return (self.x,)

    def infer(self, ins: tuple[Type, ...], arrays: Arrays) -> Type:
        return _not_scores(self.x, ins[0])

    def faults(self, ins: tuple[Type, ...], arrays: Arrays) -> Broken:
        for key, const in (("scale", self.scale), ("shift", self.shift)):
            if arrays[const].shape != ins[0].shape[:1]:
                got, want = show_shape(arrays[const].shape), ins[0].shape[0]
                yield codes.ARRAY, f"{key}=@{const} is {got}, must be {want}: one per channel"
            elif arrays[const].dtype.kind != "f":
                yield codes.ARRAY, f"{key}=@{const} is {arrays[const].dtype}, must be real"


def _not_scores(name: Ref, x: Type) -> Type:
    if isinstance(x, Scores):
        raise ShapeError(f"reads %{name}, which is {x.word}: scores are the answer, nothing reads them")
    return x


@dataclass(frozen=True, slots=True, kw_only=True)
class AvgPool(Op):
    """Mean over windows. Never deployed: a pass folds it into the synapse behind it."""

    mnemonic: ClassVar[str] = "avgpool"
    x: Ref
    kernel: Pair
    stride: Pair
    pad: Quad = NO_PAD
    ceil: bool = False
    count_pad: bool = True  # padding counts in the divisor

    def operands(self) -> tuple[Ref, ...]:
        return (self.x,)

    def infer(self, ins: tuple[Type, ...], arrays: Arrays) -> Type:
        return _pooled(self.x, ins[0], self.kernel, self.stride, self.pad, self.ceil)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool(Op):
    """The earliest spike of each window (the largest value); padding never wins. Owns no neurons."""

    mnemonic: ClassVar[str] = "maxpool"
    x: Ref
    kernel: Pair
    stride: Pair
    pad: Quad = NO_PAD
    ceil: bool = False

    def operands(self) -> tuple[Ref, ...]:
        return (self.x,)

    def infer(self, ins: tuple[Type, ...], arrays: Arrays) -> Type:
        return _pooled(self.x, ins[0], self.kernel, self.stride, self.pad, self.ceil)


def _pooled(name: Ref, x: Type, kernel: Pair, stride: Pair, pad: Quad, ceil: bool) -> Type:
    if not isinstance(x, Analog | Spikes):
        raise ShapeError(f"reads %{name}, which is {x.word}, not analog or spikes")
    if len(x.shape) != 3:
        raise ShapeError(f"reads %{name} of shape {show_shape(x.shape)}, pooling wants [channels, height, width]")
    if min(*kernel, *stride) < 1 or min(pad) < 0:
        raise ShapeError("kernel and stride must be at least 1, pad at least 0", codes.VALUE)
    if pad[0] >= kernel[0] or pad[2] >= kernel[0] or pad[1] >= kernel[1] or pad[3] >= kernel[1]:
        raise ShapeError(f"pad {show_shape(pad)} reaches a whole window of {show_shape(kernel)}", codes.VALUE)
    out = pool_out(x.shape[1:], kernel, stride, pad, ceil)
    if min(out) < 1:
        raise ShapeError(f"window {show_shape(kernel)} does not fit its padded input {show_shape(x.shape[1:])}")
    shape = (x.shape[0], *out)
    return Analog(shape, x.low, x.high) if isinstance(x, Analog) else Spikes(shape, x.opens, x.closes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flatten(Op):
    """[C, H, W] read as one row, channel-major."""

    mnemonic: ClassVar[str] = "flatten"
    x: Ref

    def operands(self) -> tuple[Ref, ...]:
        return (self.x,)

    def infer(self, ins: tuple[Type, ...], arrays: Arrays) -> Type:
        (x,) = ins
        match x:
            case Analog():
                return Analog((x.size,), x.low, x.high)
            case Spikes():
                return Spikes((x.size,), x.opens, x.closes)
            case Potential():
                return Potential((x.size,), x.opens, x.closes)
            case Scores():
                return _not_scores(self.x, x)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire(Op):
    """Spike at the first tick n with V(n) >= theta[n] (semantics.md, Firing).

    Integer nets: theta is the table, [1, T], [C, T] or [*shape, T]. Real nets, windowed: theta is the range Theta of
    the falling threshold Theta (1 - t), [1] or [C], on a unit window; without one the neuron is a ReLU of S whose range
    is not known yet. Real nets, streaming: theta is the constant threshold.
    """

    mnemonic: ClassVar[str] = "fire"
    v: Ref
    theta: Const | None = None
    force_last: bool = False
    ticks: int = 0  # real nets: the T this layer was trained for; 0 = free
    width: int = 0  # proven accumulator width, 16 or 32; 0 = not proven yet

    def operands(self) -> tuple[Ref, ...]:
        return (self.v,)

    def infer(self, ins: tuple[Type, ...], arrays: Arrays) -> Type:
        (v,) = ins
        if not isinstance(v, Potential):
            raise ShapeError(f"reads %{self.v}, which is {v.word}, not a potential")
        if not isinstance(self.type, Spikes):
            raise ShapeError(f"gives spikes, not {self.type.word}")
        if v.closes is not None:
            return Spikes(v.shape, v.opens, v.closes)
        return Spikes(v.shape, v.opens, v.opens + self.type.ticks)

    def faults(self, ins: tuple[Type, ...], arrays: Arrays) -> Broken:
        assert isinstance(self.type, Spikes)
        if self.width not in (0, 16, 32):
            yield codes.VALUE, f"width={self.width}, must be 16 or 32"
        if not (self.ticks == 0 or 2 <= self.ticks <= 64):
            yield codes.VALUE, f"ticks={self.ticks}, must be 2..64, or 0 where the source leaves it free"
        streaming = isinstance(ins[0], Potential) and ins[0].streaming
        theta = None if self.theta is None else arrays[self.theta]
        if theta is None and streaming:
            yield codes.ARRAY, "theta= is missing: a streaming neuron has a threshold"
        shape, t = self.type.shape, self.type.ticks
        if (theta is None or theta.dtype.kind == "f") and not streaming and t != 1:
            yield (
                codes.WINDOW,
                f"window {self.type.opens}..{self.type.closes} is not one unit long: real nets have no ticks",
            )
        if theta is None:
            return
        if theta.dtype.kind == "i":
            wanted = ((1, t), (shape[0], t), (*shape, t))
        else:
            wanted = ((1,), (shape[0],))
            if not streaming and not bool(np.all(theta > 0)):
                yield codes.VALUE, f"theta=@{self.theta} is a range and must be positive throughout"
        if theta.shape not in wanted:
            names = " or ".join(show_shape(s) for s in dict.fromkeys(wanted))
            yield codes.ARRAY, f"theta=@{self.theta} is {theta.dtype} {show_shape(theta.shape)}, must be {names}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decode(Op):
    """Read the answer (semantics.md, First layer and read-out).

    membrane: `%v`, V at the window's end: V(T) where the slope still rises, the last tick's V in streaming nets.
    first_spike: `%s %v`, the earliest spike, ties by the larger membrane at that tick, then the lower index; all
    silent: the larger membrane at the window's end, then the lower index. weighted: `%s`, the sum of table[tick], a
    silent neuron giving 0. Scores are V, the values x, the sums: first_spike's label knows of ties, its scores do not.
    """

    mnemonic: ClassVar[str] = "decode"
    xs: tuple[Ref, ...]
    rule: Rule
    table: Const | None = None  # weighted: [T], by tick within the window
    width: int = 0

    def operands(self) -> tuple[Ref, ...]:
        return self.xs

    def infer(self, ins: tuple[Type, ...], arrays: Arrays) -> Type:
        want = {"membrane": (Potential,), "first_spike": (Spikes, Potential), "weighted": (Spikes,)}[self.rule]
        if len(ins) != len(want) or not all(isinstance(t, w) for t, w in zip(ins, want, strict=True)):
            words = " and ".join(w.word for w in want)
            raise ShapeError(f"rule={self.rule} reads {words}, not {' and '.join(t.word for t in ins)}")
        x = ins[0]
        if len(x.shape) != 1:
            raise ShapeError(f"reads %{self.xs[0]} of shape {show_shape(x.shape)}; flatten it first")
        if not isinstance(self.type, Scores):
            raise ShapeError(f"gives scores, not {self.type.word}")
        if isinstance(x, Spikes):
            return Scores(x.shape, x.opens, x.closes)
        assert isinstance(x, Potential)
        return Scores(x.shape, x.opens, x.opens + self.type.ticks if x.closes is None else x.closes)

    def faults(self, ins: tuple[Type, ...], arrays: Arrays) -> Broken:
        if self.width not in (0, 16, 32):
            yield codes.VALUE, f"width={self.width}, must be 16 or 32"
        if self.rule == "first_spike" and isinstance(ins[1], Potential) and isinstance(ins[0], Spikes):
            s, v = ins[0], ins[1]
            if (v.shape, v.opens) != (s.shape, s.opens) or v.closes not in (None, s.closes):
                yield codes.SHAPE, f"%{self.xs[1]} is not the membrane behind %{self.xs[0]}"
        if (self.table is not None) != (self.rule == "weighted"):
            yield codes.ARRAY, "table= belongs to rule=weighted, and rule=weighted needs it"
        elif self.table is not None and isinstance(ins[0], Spikes) and arrays[self.table].shape != (ins[0].ticks,):
            got, t = show_shape(arrays[self.table].shape), ins[0].ticks
            yield codes.ARRAY, f"table=@{self.table} is {got}, must be {t}: one weight per tick"


OPS: dict[str, type[Op]] = {
    op.mnemonic: op
    for op in (Input, Encode, Conv2d, Dense, Add, Identity, BatchNorm, AvgPool, MaxPool, Flatten, Fire, Decode)
}
