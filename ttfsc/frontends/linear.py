"""Linear layers in a row are one: a synapse that reads a membrane becomes synapses that read what made the membrane.

    conv (B) of conv (A) of x       =>  conv (B A) of x, the kernels convolved; 1x1 by stride s: dilations times s
    dense (B) of dense (A) of x     =>  dense (B A) of x
    ... of a + b, of a batch norm   =>  the sum of both, with scaled weights

So linear bottlenecks (MobileNetV2) and selections (slices and splits, which are convolutions with ones) own no neurons.
Weights multiply out: the product can hold more of them than both factors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ttfsc.frontends.tape import Tape
from ttfsc.frontends.value import Declared, Refused, Value
from ttfsc.ir import OPEN, Add, Array, BatchNorm, Const, Conv2d, Dense, Flatten, Op, Ref
from ttfsc.ir.ops import NO_PAD, Pair, Quad

MAX_WEIGHTS = 1 << 25  # of a product
ONE: Pair = (1, 1)
ALONE = (
    "reads a membrane: there is no activation between it and the layer before; put a ReLU between the two, or merge "
    "them into one layer"
)


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution of %x: w [O, C/groups, kh, kw], bias [O]."""

    x: Ref
    w: Array
    bias: Array
    stride: Pair = ONE
    pad: Quad = NO_PAD
    dilation: Pair = ONE
    groups: int = 1
    flat: bool = False  # its one place is a row

    @property
    def pointwise(self) -> bool:
        return self.w.shape[2:] == ONE and not any(self.pad)


@dataclass(frozen=True, slots=True)
class Rows:
    """A dense layer on %x: w [O, I], bias [O]."""

    x: Ref
    w: Array
    bias: Array


Linear = Conv | Rows
Find = Callable[[Ref], Op]
Read = Callable[[str], Array]


class Merge:
    """Follows membranes back to what was sent. `op_of` gives an op by its name, `array` a constant by its."""

    def __init__(self, op_of: Find, array: Read) -> None:
        self.op_of, self.array = op_of, array

    def conv(self, b: Conv) -> list[Conv]:
        """What `b`, which reads a membrane, is in terms of spikes or pixels: a sum of convolutions."""
        match self.op_of(b.x):
            case Add() as op:
                silent = replace(b, bias=np.zeros_like(b.bias))
                return [c for i, x in enumerate(op.xs) for c in self.conv(replace(silent if i else b, x=x))]
            case BatchNorm() as op:
                scale, shift = self.array(op.scale), self.array(op.shift)
                return self.conv(replace(b, x=op.x, w=_scaled(b, scale), bias=b.bias + _reached(b, shift)))
            case Conv2d() as op if op.pool == ONE and op.kernel == "hold" and op.drift is None:
                own = np.zeros(1) if op.bias is None else self.array(op.bias)
                if own.ndim == 1:
                    a = Conv(op.x, self.array(op.w).astype(np.float64), own, op.stride, op.pad, op.dilation, op.groups)
                    return [product(a, b)]
            case _:
                pass
        raise Refused(ALONE)

    def rows(self, b: Rows) -> list[Linear]:
        """The same for a dense layer; behind a flatten it is a convolution as large as the image."""
        match self.op_of(b.x):
            case Add() as op:
                silent = replace(b, bias=np.zeros_like(b.bias))
                return [c for i, x in enumerate(op.xs) for c in self.rows(replace(silent if i else b, x=x))]
            case BatchNorm() as op:
                scale, shift = self.array(op.scale), self.array(op.shift)
                return self.rows(Rows(op.x, b.w * scale, b.bias + b.w @ shift))
            case Dense() as op if op.kernel == "hold" and op.drift is None:
                own = np.zeros(1) if op.bias is None else self.array(op.bias)
                w = self.array(op.w).astype(np.float64)
                _fits(len(b.w) * w.shape[1])
                return [Rows(op.x, b.w @ w, b.bias + b.w @ np.broadcast_to(own, (len(w),)))]
            case Flatten() as op:
                shape = self.op_of(op.x).type.shape
                whole = self.conv(Conv(op.x, b.w.reshape(len(b.w), *shape), b.bias))
                return [replace(part, flat=True) for part in whole]
            case _:
                raise Refused(ALONE)


def product(a: Conv, b: Conv) -> Conv:
    """One convolution for b behind a. Refused where b pads what a made, unless a only scales and selects channels."""
    if any(b.pad) and not a.pointwise:
        raise Refused(ALONE)
    bias = b.bias + _reached(b, np.broadcast_to(a.bias.astype(np.float64), (len(a.w),)))
    if a.pointwise and a.groups == len(a.w) and a.w.shape[1] == 1:  # every channel by itself
        return Conv(a.x, _scaled(b, a.w[:, 0, 0, 0]), bias, *_through(a, b), b.groups)
    first, then = _ungrouped(a), _ungrouped(b)
    if a.pointwise:
        return Conv(a.x, _composed(first, then, (1, 1), (1, 1)), bias, *_through(a, b))
    strides = (a.stride[0] * b.stride[0], a.stride[1] * b.stride[1])
    if b.w.shape[2:] == ONE:
        return Conv(a.x, _composed(first, then, (1, 1), (1, 1)), bias, strides, a.pad, a.dilation)
    apart = (a.stride[0] * b.dilation[0], a.stride[1] * b.dilation[1])
    return Conv(a.x, _composed(first, then, a.dilation, apart), bias, strides, a.pad)


def _composed(a: Array, b: Array, near: Pair, far: Pair) -> Array:
    """Weights [O, C, h, w] of b [O, M, ...] behind a [M, C, ...]: a's taps lie `near` apart, those of b `far`."""
    size = [(b.shape[i + 2] - 1) * far[i] + (a.shape[i + 2] - 1) * near[i] + 1 for i in (0, 1)]
    _fits(len(b) * a.shape[1] * size[0] * size[1])
    w = np.zeros((len(b), a.shape[1], *size))
    for i, j in np.ndindex(*b.shape[2:]):
        rows = slice(i * far[0], i * far[0] + (a.shape[2] - 1) * near[0] + 1, near[0])
        columns = slice(j * far[1], j * far[1] + (a.shape[3] - 1) * near[1] + 1, near[1])
        w[:, :, rows, columns] += np.einsum("om,mchw->ochw", b[:, :, i, j], a, optimize=True)
    return w


def _through(a: Conv, b: Conv) -> tuple[Pair, Quad, Pair]:
    """Stride, pad and dilation of b as they are on a's input, where a is 1x1 of stride s.

    Place i of a is place s i of its input, so b's zeros at i < 0 and i > (size - 1) // s are zeros outside there too,
    and s times the padding leaves as many outputs (what is too much of it is less than one stride).
    """
    (sh, sw), (top, left, bottom, right) = a.stride, b.pad
    stride = (b.stride[0] * sh, b.stride[1] * sw)
    return stride, (top * sh, left * sw, bottom * sh, right * sw), (b.dilation[0] * sh, b.dilation[1] * sw)


def _reached(b: Conv, shift: Array) -> Array:
    """What a constant per channel [C] adds to every output [O] of b."""
    if not shift.any():
        return np.zeros(len(b.w))
    if any(b.pad):
        raise Refused(
            "pads a membrane that holds a bias, which its border does not see; put a ReLU in front of it, or the bias "
            "behind it"
        )
    taps = b.w.sum((2, 3), dtype=np.float64)
    return np.einsum("goc,gc->go", taps.reshape(b.groups, -1, taps.shape[1]), shift.reshape(b.groups, -1)).reshape(-1)


def _scaled(b: Conv, scale: Array) -> Array:
    """b's weights for an input whose channels are multiplied by scale [C]."""
    per = scale.reshape(b.groups, 1, -1, 1, 1)
    return (b.w.reshape(b.groups, -1, *b.w.shape[1:]) * per).reshape(b.w.shape)


def _ungrouped(c: Conv) -> Array:
    """Weights [O, C, kh, kw] with zeros where groups do not reach."""
    if c.groups == 1:
        return c.w
    out, per_in = c.w.shape[:2]
    _fits(c.w.size * c.groups)
    w = np.zeros((out, per_in * c.groups, *c.w.shape[2:]), c.w.dtype)
    for g in range(c.groups):
        rows = slice(g * (out // c.groups), (g + 1) * (out // c.groups))
        w[rows, g * per_in : (g + 1) * per_in] = c.w[rows]
    return w


def _fits(count: int) -> None:
    if count > MAX_WEIGHTS:
        raise Refused(f"{ALONE} (their product would have {count:,} weights)")


class LinearTape(Tape):
    """Puts merged layers, and selections, on the tape."""

    def __init__(self, name: str, declared: Declared | None = None) -> None:
        super().__init__(name, declared)
        self.picked = set[Ref]()  # membranes that are selections of activations: readers read through them

    def is_pick(self, x: Value) -> bool:
        """Whether the value selects activations, as it stands or flattened."""
        ref = x.ref
        while isinstance(op := self.op(ref), Flatten):
            ref = op.x
        return ref in self.picked

    def pick(self, x: Value, w: Array, stride: Pair = ONE, groups: int = 1) -> Value:
        """A selection of [C, H, W]: a convolution of zeros and ones [C', C/groups, kh, kw], without neurons."""
        if x.waiting:
            raise Refused("selects of a max-pooled membrane; put the ReLU in front of the pool")
        self.no_pad(x)
        sent = not self.is_membrane(x)
        through = sent or self.is_pick(x)
        conv = Conv(x.ref, w * x.unit, np.zeros(len(w)), stride, groups=groups)
        made = self.sum_of([conv] if sent else Merge(self.op, self.numbers).conv(conv), "pick")
        if through:
            self.picked.add(made.ref)
        return replace(made, nonneg=x.nonneg)

    def pick_rows(self, x: Value, w: Array) -> Value:
        """A selection of a row of neurons: a dense layer of zeros and ones [n', n]."""
        sent = not self.is_membrane(x)
        through = sent or self.is_pick(x)
        rows = Rows(x.ref, w * x.unit, np.zeros(len(w)))
        made = self.sum_of([rows] if sent else Merge(self.op, self.numbers).rows(rows), "pick")
        if through:
            self.picked.add(made.ref)
        return replace(made, nonneg=x.nonneg)

    def merged(self, x: Value, layer: Linear, *, grid: bool, kernel: str) -> Value:
        """A layer that reads a membrane, put together with what made the membrane."""
        if x.waiting or kernel != "hold":
            raise Refused(ALONE)
        self.no_pad(x)
        merge = Merge(self.op, self.numbers)
        parts = merge.conv(layer) if isinstance(layer, Conv) else merge.rows(layer)
        if not self.is_pick(x):
            count = sum(part.w.size for part in parts)
            self.note(f"reads a membrane: it is merged with the layer before it, {count:,} weights in all")
        if grid:
            self.note(
                "its weights lie on a grid, which a selection or a merged layer cannot keep; real values are used"
            )
        return self.sum_of(parts, "")

    def sum_of(self, parts: Sequence[Linear], tag: str) -> Value:
        """Synapses, added up where there are several."""
        refs = list[Ref]()
        for i, part in enumerate(parts):
            name = self.fresh(tag if len(parts) == 1 else f"{tag or 'part'}{i}")
            w = self.const(f"{name}.weight", part.w.astype(np.float32))
            bias = self.const(f"{name}.bias", part.bias.astype(np.float32)) if part.bias.any() else None
            op: Op = Dense(name=name, type=OPEN, loc=self.loc, x=part.x, w=w, bias=bias)
            if isinstance(part, Conv):
                op = Conv2d(
                    name=name, type=OPEN, loc=self.loc, x=part.x, w=w, bias=bias, stride=part.stride, pad=part.pad,
                    dilation=part.dilation, groups=part.groups,
                )  # fmt: skip
            refs.append(Ref(self.builder.add(op).name))
            if isinstance(part, Conv) and part.flat:
                flat = Flatten(name=self.fresh("flat"), type=OPEN, loc=self.loc, x=refs[-1])
                refs[-1] = Ref(self.builder.add(flat).name)
        if len(refs) == 1:
            return self.whole(refs[0])
        return self.emit(Add(name=self.fresh(), type=OPEN, loc=self.loc, xs=tuple(refs)))

    def numbers(self, const: str) -> Array:
        """The content of a constant."""
        return self.arrays[Const(const)]
