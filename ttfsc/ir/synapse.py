"""Synapse ops: where weights meet spikes (semantics.md, Membrane)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ttfsc.ir import codes
from ttfsc.ir.arrays import Array, Arrays, Const
from ttfsc.ir.geometry import conv_out, pool_out
from ttfsc.ir.op import NO_PAD, ONE, Broken, Op, Pair, Quad, Ref, ShapeError
from ttfsc.ir.types import Analog, Potential, Shape, Spikes, Type, show_shape

Kernel = Literal["hold", "ramp", "step", "leak"]
Rounding = Literal["floor", "nearest", "zero"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Synapse(Op):
    """What dense and conv2d share: weights, constants and the kernel (semantics.md, Membrane).

    Real nets may carry trained quantisation as data: `bits` and `step` say that `w` is `step * integer`.
    Quantised nets have integer arrays, `bits` > 0 and no `step`.
    """

    x: Ref
    w: Const
    bias: Const | None = None  # arrives as the window opens; [C] or the whole result shape
    drift: Const | None = None  # arrives at every later tick; [C] or the whole result shape
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
        raise AssertionError(f"'{self.mnemonic}' does not say what its shape is")

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
        integer = w.dtype.kind == "i"
        if not 0 <= self.bits <= 8:
            yield codes.VALUE, f"bits={self.bits}, must be 1..8, or 0 for unquantised weights"
        elif integer and not self.bits:
            yield codes.ARRAY, f"@{self.w} holds integers, so bits must say how wide they are"
        elif integer and w.size:
            low, high = -(2 ** (self.bits - 1)), max(2 ** (self.bits - 1) - 1, 1)  # one bit: -1 and 1
            least, most = int(w.min()), int(w.max())
            if least < low or most > high:
                yield codes.VALUE, f"@{self.w} reaches from {least} to {most}, but {self.bits} bits hold {low}..{high}"
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
            if key != "step" and (array.dtype.kind == "i") != integer:
                fact = f"{key}=@{const} is {array.dtype}, but @{self.w} is {w.dtype}: both real or both integer"
                yield codes.ARRAY, fact
        if self.step is None:
            return
        if integer or not self.bits:
            yield codes.ARRAY, "step= belongs to real weights that lie on a grid of bits= bits"
        if arrays[self.step].dtype.kind != "f" or not bool(np.all(arrays[self.step] > 0)):
            yield codes.VALUE, f"step=@{self.step} must be real and positive throughout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense(Synapse):
    """Every input to every output; w [out, in]."""

    mnemonic: ClassVar[str] = "dense"

    def outer_shape(self, x: Shape, w: Array) -> Shape:
        if w.ndim != 2:
            raise ShapeError(f"@{self.w} is {show_shape(w.shape)}, dense wants [out, in]", codes.ARRAY)
        if len(x) != 1:
            raise ShapeError(f"reads %{self.x} of shape {show_shape(x)}, dense wants a row: flatten it first")
        if w.shape[1] != x[0]:
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
        if min(pooled) < 1:
            raise ShapeError(f"pool {show_shape(self.pool)} does not fit its padded input {show_shape(x[1:])}")
        if min(out) < 1:
            raise ShapeError(f"kernel {show_shape(w.shape[2:])} does not fit its padded input {show_shape(pooled)}")
        return (w.shape[0], *out)
