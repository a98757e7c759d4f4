"""The ops of a net: each a small frozen dataclass, fields first, then its rules.

Printer, parser and verifier are driven by these declarations alone; a new op needs no change elsewhere but in the
reference meaning (`ttfsc.ir.meaning`). `infer` computes the type that an op's operands give; `faults` yields
(code, sentence) pairs and never raises, so that all mistakes of a net come out at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NewType

import numpy as np

from ttfsc.ir import codes
from ttfsc.ir.arrays import Array, Arrays, Const
from ttfsc.ir.faults import NOWHERE, Loc
from ttfsc.ir.geometry import conv_out, pool_out
from ttfsc.ir.types import Analog, Potential, Scores, Shape, Spikes, Type, show_shape

Ref = NewType("Ref", str)
Pair = tuple[int, int]
Quad = tuple[int, int, int, int]  # top, left, bottom, right
Kernel = Literal["hold", "ramp", "step", "leak"]
Rounding = Literal["floor", "nearest", "zero"]
Rule = Literal["membrane", "first_spike", "weighted"]
Broken = Iterator[tuple[int, str]]

ONE: Pair = (1, 1)
NO_PAD: Quad = (0, 0, 0, 0)


class ShapeError(Exception):
    """`infer` cannot give a type; the text is the fact to report."""

    def __init__(self, fact: str, code: int = codes.SHAPE) -> None:
        super().__init__(fact)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One line of a net: the value `name` of `type`, and where it came from."""

    mnemonic: ClassVar[str] = ""
    name: str
    type: Type
    loc: Loc = field(default=NOWHERE, compare=False)

    def operands(self) -> tuple[Ref, ...]:
        """Names of the values read, in order."""
        return ()

    def infer(self, ins: tuple[Type, ...], arrays: Arrays) -> Type:
        """The type these operands give; raises ShapeError when they give none."""
        raise ShapeError(f"'{self.mnemonic}' has no operands to infer a type from")

    def faults(self, ins: tuple[Type, ...], arrays: Arrays) -> Broken:
        """Broken rules beyond `infer`, as (code, sentence)."""
        return iter(())

    @property
    def subject(self) -> str:
        """How messages call this op."""
        return f"'{self.mnemonic}' %{self.name}"


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
        if isinstance(self.type, Spikes) and self.type.ticks < 1:
            yield codes.WINDOW, f"window {self.type.opens}..{self.type.closes} is empty"
        if not (np.isfinite(self.scale) and self.scale > 0):
            yield codes.VALUE, f"scale is {self.scale}, must be a positive number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encode(Op):
    """Analog integers to spike times: x in low..high -> tick a + round((1-u) T), half up; tick T is never (DTA-TTFS Eq. 1)."""

    mnemonic: ClassVar[str] = "encode"
    x: Ref

    def operands(self) -> tuple[Ref, ...]:
        return (self.x,)

    def infer(self, ins: tuple[Type, ...], arrays: Arrays) -> Type:
        (x,) = ins
        if not isinstance(x, Analog):
            raise ShapeError(f"reads %{self.x}, which is {x.word}, not analog")
        if not isinstance(self.type, Spikes) or self.type.ticks < 1:
            raise ShapeError(f"gives spikes with a window of at least one tick, not {self.type}")
        return Spikes(x.shape, self.type.opens, self.type.closes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Synapse(Op):
    """What dense and conv2d share: weights, constants and the kernel (semantics.md, Membrane).

    Real nets may carry trained quantisation as data: `bits` and `step` say that `w` is `step * integer`.
    Quantised nets have integer arrays, `bits` > 0 and no `step`.
    """

    x: Ref
    w: Const
    bias: Const | None = None  # arrives as the window opens; [C] or the whole result shape
    drift: Const | None = None  # arrives at every later tick; [C]
    kernel: Kernel = "hold"
    delay: int = 0  # streaming: a spike of tick t acts at t + delay
    every: bool = False  # streaming, analog input: the current arrives at every tick, not only the first
    shift: int = 0  # leak: the membrane keeps 1 - 2^-shift every tick
    keep: int = 0  # leak: the membrane keeps keep/32768 every tick
    rounding: Rounding = "floor"  # leak: how the kept part becomes an integer
    step: Const | None = None  # real weight of one integer step, [C]
    bits: int = 0  # weight width; 0 = free

    def operands(self) -> tuple[Ref, ...]:
        return (self.x,)

    def outer_shape(self, x: Shape, w: Array) -> Shape:
        """Shape of the result; raises ShapeError."""
        raise ShapeError(f"'{self.mnemonic}' has no shape of its own")

    def infer(self, ins: tuple[Type, ...], arrays: Arrays) -> Type:
        (x,) = ins
        if not isinstance(x, Analog | Spikes):
            raise ShapeError(f"reads %{self.x}, which is {x.word}, not analog or spikes")
        shape = self.outer_shape(x.shape, arrays[self.w])
        streaming = self.kernel in ("step", "leak")
        if isinstance(x, Spikes):
            return Potential(shape, x.opens, x.closes) if streaming else Potential(shape, x.closes)
        if not isinstance(self.type, Potential):
            raise ShapeError(f"gives a potential, not {self.type.word}")
        return Potential(shape, self.type.opens, self.type.closes)

    def faults(self, ins: tuple[Type, ...], arrays: Arrays) -> Broken:
        (x,) = ins
        streaming = self.kernel in ("step", "leak")
        if isinstance(self.type, Potential) and self.type.streaming != streaming:
            want = "opens..closes" if streaming else "opens.."
            yield codes.WINDOW, f"kernel={self.kernel} needs a potential of the form {want}, not {self.type}"
        if isinstance(x, Analog) and self.kernel == "ramp":
            yield codes.VALUE, f"kernel=ramp needs spikes, but %{self.x} is analog: use kernel=hold"
        if self.every and not (isinstance(x, Analog) and streaming):
            yield codes.VALUE, "every=true is for analog input of a streaming kernel (step, leak)"
        if self.delay not in (0, 1) or (self.delay and not (streaming and isinstance(x, Spikes))):
            yield codes.VALUE, f"delay={self.delay}: streaming kernels on spikes take 0 or 1, all others 0"
        leaks = (self.shift > 0) + (self.keep > 0)
        if (self.kernel == "leak") != (leaks == 1) or not (0 <= self.shift <= 15 and 0 <= self.keep < 32768):
            yield codes.VALUE, "kernel=leak needs either shift in 1..15 or keep in 1..32767, other kernels neither"
        yield from self._array_faults(arrays)

    def _array_faults(self, arrays: Arrays) -> Broken:
        w = arrays[self.w]
        integer = np.issubdtype(w.dtype, np.integer)
        if not 0 <= self.bits <= 8:
            yield codes.VALUE, f"bits={self.bits}, must be 1..8, or 0 for unquantised weights"
        elif integer and not self.bits:
            yield codes.ARRAY, f"@{self.w} holds integers, so bits must say how wide they are"
        elif integer and w.size:
            low, high = -(2 ** (self.bits - 1)), max(2 ** (self.bits - 1) - 1, 1)
            if int(w.min()) < low or int(w.max()) > high:
                yield codes.VALUE, f"@{self.w} reaches from {w.min()} to {w.max()}, but {self.bits} bits hold {low}..{high}"
        shape = self.type.shape
        per_channel = (shape[0],)
        for key, const, wanted in (
            ("bias", self.bias, (per_channel, shape)),
            ("drift", self.drift, (per_channel, shape)),
            ("step", self.step, (per_channel,)),
        ):
            if const is None:
                continue
            array = arrays[const]
            if array.shape not in wanted:
                names = " or ".join(show_shape(s) for s in dict.fromkeys(wanted))
                yield codes.ARRAY, f"{key}=@{const} is {show_shape(array.shape)}, must be {names}"
            if key != "step" and np.issubdtype(array.dtype, np.integer) != integer:
                yield codes.ARRAY, f"{key}=@{const} is {array.dtype}, but @{self.w} is {w.dtype}: both real or both integer"
        if self.step is not None and (integer or not self.bits):
            yield codes.ARRAY, "step= belongs to real weights that lie on a grid of bits= bits"
        if self.step is not None and not bool(np.all(arrays[self.step] > 0)):
            yield codes.VALUE, f"step=@{self.step} must be positive throughout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense(Synapse):
    """Every input to every output; w [out, in]."""

    mnemonic: ClassVar[str] = "dense"

    def outer_shape(self, x: Shape, w: Array) -> Shape:
        if w.ndim != 2:
            raise ShapeError(f"@{self.w} is {show_shape(w.shape)}, dense wants [out, in]", codes.ARRAY)
        if len(x) != 1 or w.shape[1] != x[0]:
            raise ShapeError(f"@{self.w} wants {w.shape[1]} inputs, %{self.x} has shape {show_shape(x)}")
        return (w.shape[0],)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv2d(Synapse):
    """Convolution; w [out, in/groups, kh, kw].

    With `pool`, every input of the kernel is the *sum* over a pooling window of the operand: a folded average pool
    (its divisor sits in the weights' real step, hence in the integer thresholds). Spikes are never created by it,
    only their address is divided; the function is that of a kernel of size k + (K-1) s' at a fraction of its weights.
    """

    mnemonic: ClassVar[str] = "conv2d"
    stride: Pair = ONE
    pad: Quad = NO_PAD
    dilation: Pair = ONE
    groups: int = 1
    pool: Pair = ONE
    pool_stride: Pair = ONE
    pool_pad: Quad = NO_PAD

    def outer_shape(self, x: Shape, w: Array) -> Shape:
        if w.ndim != 4:
            raise ShapeError(f"@{self.w} is {show_shape(w.shape)}, conv2d wants [out, in/groups, kh, kw]", codes.ARRAY)
        if len(x) != 3:
            raise ShapeError(f"reads %{self.x} of shape {show_shape(x)}, conv2d wants [channels, height, width]")
        if min(*self.stride, *self.dilation, *self.pool, *self.pool_stride, self.groups) < 1:
            raise ShapeError("stride, dilation, pool, pool_stride and groups must be at least 1", codes.VALUE)
        if min(*self.pad, *self.pool_pad) < 0:
            raise ShapeError("pad and pool_pad must not be negative", codes.VALUE)
        if w.shape[0] % self.groups or w.shape[1] * self.groups != x[0]:
            raise ShapeError(
                f"@{self.w} is {show_shape(w.shape)} in {self.groups} groups: wants {w.shape[1] * self.groups} input "
                f"channels and an output count divisible by the groups, %{self.x} has {x[0]} channels"
            )
        pooled = pool_out(x[1:], self.pool, self.pool_stride, self.pool_pad)
        out = conv_out(pooled, w.shape[2:], self.stride, self.pad, self.dilation)
        if min(out) < 1:
            raise ShapeError(f"kernel {show_shape(w.shape[2:])} does not fit its padded input {show_shape(pooled)}")
        return (w.shape[0], *out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Op):
    """Sum of potentials: branches that meet on one membrane."""

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
        return ins[0]


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
        return ins[0]

    def faults(self, ins: tuple[Type, ...], arrays: Arrays) -> Broken:
        for key, const in (("scale", self.scale), ("shift", self.shift)):
            if arrays[const].shape != ins[0].shape[:1]:
                got, want = show_shape(arrays[const].shape), ins[0].shape[0]
                yield codes.ARRAY, f"{key}=@{const} is {got}, must be {want}: one per channel"


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
                raise ShapeError(f"reads %{self.x}, which is {x.word}, not analog, spikes or potential")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire(Op):
    """Spike at the first tick n with V(n) >= theta[n] (semantics.md, Firing).

    Real nets: theta is the range Theta of the falling threshold Theta (1 - n/T), [1] or [C]; without one the neuron
    is a ReLU whose range is not known yet. Integer nets: theta is the table, [1, T], [C, T] or [*shape, T].
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
        if self.type.ticks < 1:
            raise ShapeError(f"window {self.type.opens}..{self.type.closes} is empty", codes.WINDOW)
        return Spikes(v.shape, v.opens, v.opens + self.type.ticks)

    def faults(self, ins: tuple[Type, ...], arrays: Arrays) -> Broken:
        assert isinstance(self.type, Spikes)
        if self.width not in (0, 16, 32):
            yield codes.VALUE, f"width={self.width}, must be 16 or 32"
        if not 0 <= self.ticks <= 64:
            yield codes.VALUE, f"ticks={self.ticks}, must be 2..64, or 0 where the source leaves it free"
        if self.theta is None:
            return
        theta, shape, t = arrays[self.theta], self.type.shape, self.type.ticks
        if np.issubdtype(theta.dtype, np.integer):
            wanted = ((1, t), (shape[0], t), (*shape, t))
        else:
            wanted = ((1,), (shape[0],))
            if not bool(np.all(theta > 0)):
                yield codes.VALUE, f"theta=@{self.theta} is a range and must be positive throughout"
        if theta.shape not in wanted:
            names = " or ".join(show_shape(s) for s in dict.fromkeys(wanted))
            yield codes.ARRAY, f"theta=@{self.theta} is {theta.dtype} {show_shape(theta.shape)}, must be {names}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decode(Op):
    """Read the answer (semantics.md, First layer and read-out).

    membrane: `%v`, V at the window's end. first_spike: `%s %v`, the earliest spike, ties by the larger membrane at
    that tick, then the lower index. weighted: `%s`, the sum of table[tick], a silent neuron giving 0.
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
        if not isinstance(self.type, Scores) or self.type.ticks < 1:
            raise ShapeError(f"gives scores with a window of at least one tick, not {self.type}")
        if isinstance(x, Spikes):
            return Scores(x.shape, x.opens, x.closes)
        assert isinstance(x, Potential)
        return Scores(x.shape, x.opens, x.opens + self.type.ticks if x.closes is None else x.closes)

    def faults(self, ins: tuple[Type, ...], arrays: Arrays) -> Broken:
        if self.width not in (0, 16, 32):
            yield codes.VALUE, f"width={self.width}, must be 16 or 32"
        if self.rule == "first_spike" and isinstance(ins[1], Potential) and isinstance(ins[0], Spikes):
            if ins[1].shape != ins[0].shape or ins[1].opens != ins[0].opens:
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
