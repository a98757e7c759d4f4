"""Source models to nets: the vocabulary that the frontends share.

A frontend walks its graph and calls these methods; what a method cannot express it refuses with the reason and a way
out, the walk goes on, and `finish` raises every fault at once. What the source leaves implicit is decided here:

    relu(v)            fire without theta: its range is found by calibration
    clip(v, 0, c)      fire with theta = c; its spikes carry x / c, so every reader's weights are multiplied by c
    a + relu(b)        a skip connection becomes a synapse of ones on the skip's spikes, added to the membrane
    relu(maxpool(v))   maxpool(relu(v)), which is the same
    avgpool(conv(x))   conv(avgpool(x)) for 1x1 convolutions, else a convolution with the kernel spread over the windows
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ttfsc.frontends.linear import ONE, Conv, LinearTape, Rows
from ttfsc.frontends.value import BROKEN, RAW, Constant, Declared, Refused, Value, Waiting
from ttfsc.ir import (
    OPEN,
    Add,
    Array,
    AvgPool,
    BatchNorm,
    Conv2d,
    Decode,
    Dense,
    Fire,
    Flatten,
    Input,
    Loc,
    MaxPool,
    Net,
    Op,
    Ref,
    TtfsError,
    show_shape,
    verify,
)  # fmt: skip
from ttfsc.ir.geometry import pool_out
from ttfsc.ir.ops import NO_PAD, Kernel, Pair, Quad

MAX_ROW = 1 << 13  # neurons of a row that a skip connection passes on
FIRST_SPIKE, MEMBRANE = "ttfsc.nn.FirstSpike", "ttfsc.nn.Membrane"


class Lowering(LinearTape):
    """The vocabulary of the source models' layers."""

    def __init__(self, name: str, declared: Declared | None = None) -> None:
        super().__init__(name, declared)
        self._affine = dict[Ref, tuple[Value, Array, Array]]()  # what a batchnorm op was made of

    # -- synapses ------------------------------------------------------------------------------------------------

    def conv(
        self,
        x: Value,
        w: Constant,
        bias: Constant | None,
        *,
        stride: Pair = ONE,
        pad: Quad = NO_PAD,
        dilation: Pair = ONE,
        groups: int = 1,
        kernel: Kernel = "hold",
        step: Constant | None = None,
        bits: int = 0,
    ) -> Value:
        """conv2d of an activation [C, H, W]; w [O, C/groups, kh, kw], bias and step [O]."""
        x = self.spikes(x)
        if self.is_membrane(x):
            layer = Conv(x.ref, w.array.astype(np.float64), _offset(bias, len(w.array)), stride, pad, dilation, groups)
            try:
                return self.merged(x, layer, grid=step is not None, kernel=kernel)
            except Refused:
                if not x.nonneg:
                    raise
            x = self.spikes(x, picks=True)
        pad = (pad[0] + x.pad[0], pad[1] + x.pad[1], pad[2] + x.pad[2], pad[3] + x.pad[3])
        return self.emit(
            Conv2d(
                name=self.fresh(), type=OPEN, loc=self.loc, x=x.ref, w=self.scaled(w, x.unit), bias=self.given(bias),
                stride=stride, pad=pad, dilation=dilation, groups=groups, kernel=kernel, bits=bits,
                step=None if step is None else self.scaled(step, x.unit),
            )
        )  # fmt: skip

    def dense(
        self,
        x: Value,
        w: Constant,
        bias: Constant | None,
        *,
        kernel: Kernel = "hold",
        step: Constant | None = None,
        bits: int = 0,
    ) -> Value:
        """Dense layer on an activation [in]; w [out, in], bias and step [out]."""
        x = self.spikes(x)
        if len(x.shape) != 1:
            raise Refused(
                f"a dense layer reads the shape {show_shape(x.shape)}, which applies it to every row; flatten first: "
                "torch.flatten(x, 1)"
            )
        self.no_pad(x)
        if self.is_membrane(x):
            layer = Rows(x.ref, w.array.astype(np.float64), _offset(bias, len(w.array)))
            return self.merged(x, layer, grid=step is not None, kernel=kernel)
        return self.emit(
            Dense(
                name=self.fresh(), type=OPEN, loc=self.loc, x=x.ref, w=self.scaled(w, x.unit), bias=self.given(bias),
                kernel=kernel, step=None if step is None else self.scaled(step, x.unit), bits=bits,
            )
        )  # fmt: skip

    def spikes(self, x: Value, *, picks: bool = False) -> Value:
        """A sum of activations, never negative, as neurons that pass it on (its own ReLU); else the value itself.

        picks: selections too, which synapses can read through, but max pools cannot.
        """
        if not (self.is_membrane(x) and x.nonneg) or (self.is_pick(x) and not picks):
            return x
        self.note("reads a sum of activations, which nobody sends: neurons that pass it on are put in between")
        return self._fire(x, None, 1.0, 0, spiking=False, tag="sum")

    def ones(self, x: Value, tag: str) -> Value:
        """The activation itself as a membrane: a synapse of ones from every neuron to its like."""
        self.no_pad(x)
        if len(x.shape) == 3:
            w = np.full((x.shape[0], 1, 1, 1), x.unit, np.float32)
            name = self.fresh(tag)
            const = self.const(f"{name}.weight", w)
            return self.emit(Conv2d(name=name, type=OPEN, loc=self.loc, x=x.ref, w=const, groups=x.shape[0]))
        if x.shape[0] > MAX_ROW:
            raise Refused(
                f"passes a row of {x.shape[0]} values on one by one, which takes that number squared of synapses; at "
                f"most {MAX_ROW} are passed on: add the branches while they are images"
            )
        name = self.fresh(tag)
        const = self.const(f"{name}.weight", np.eye(x.shape[0], dtype=np.float32) * np.float32(x.unit))
        return self.emit(Dense(name=name, type=OPEN, loc=self.loc, x=x.ref, w=const))

    def membrane(self, x: Value, tag: str = "ones") -> Value:
        """The value as a membrane that can be added to others or fire."""
        return x if self.is_membrane(x) else self.ones(x, tag)

    def add(self, a: Value, b: Value) -> Value:
        """Sum of two branches, each an activation or a membrane."""
        if a.shape != b.shape:
            raise Refused(f"adds {show_shape(a.shape)} and {show_shape(b.shape)}; branches must agree in shape")
        parts = [self.membrane(self._settled(x, "add"), f"skip{i}") for i, x in enumerate((a, b))]
        total = self.emit(Add(name=self.fresh(), type=OPEN, loc=self.loc, xs=tuple(p.ref for p in parts)))
        return replace(total, nonneg=a.nonneg and b.nonneg)

    def _settled(self, x: Value, what: str) -> Value:
        if x.waiting:
            raise Refused(
                f"a max pool stands between a membrane and this {what}; earliest-spike pooling needs spikes: put the "
                "ReLU in front of the pool"
            )
        return x

    # -- neurons -------------------------------------------------------------------------------------------------

    def relu(self, x: Value) -> Value:
        """max(x, 0): neurons whose range is not known yet."""
        if x.nonneg and (not self.is_membrane(x) or self.is_pick(x)):
            return x
        return self._fire(x, None, 1.0, 0, spiking=False)

    def clip(self, x: Value, top: float) -> Value:
        """min(max(x, 0), top): neurons of a known range; their spikes carry x / top."""
        if not (np.isfinite(top) and top > 0):
            raise Refused(f"clips to 0..{top}; the upper end must be a positive number")
        return self._fire(x, np.full(1, top, np.float32), float(top), 0, spiking=False)

    def neurons(self, x: Value, theta: Array, ticks: int) -> Value:
        """Neurons of a spiking layer: x = clip01(S / theta), a spike value; theta [1] or [C]."""
        return self._fire(x, theta, 1.0, ticks, spiking=True)

    def _fire(self, x: Value, theta: Array | None, unit: float, ticks: int, *, spiking: bool, tag: str = "") -> Value:
        v = self.membrane(x)
        name = self.fresh(tag)
        const = None if theta is None else self.const(f"{name}.theta", theta)
        self.builder.add(Fire(name=name, type=OPEN, loc=self.loc, v=v.ref, theta=const, ticks=ticks))
        shape = self.builder.types[name].shape
        result = Value(Ref(name), shape, unit=unit, nonneg=True, spiking=spiking)
        for late in v.waiting:
            result = self.flatten(result) if late.kind == "flatten" else self._maxpool(result, late)
        return result

    # -- linear ops without neurons --------------------------------------------------------------------------------

    def affine(self, x: Value, scale: Array, shift: Array, *, tag: str = "") -> Value:
        """scale * x + shift, per channel [C]: batch norm, and sums and products with constants."""
        if x.waiting and (x.waiting[-1].kind == "flatten" or not bool(np.all(scale > 0))):
            raise Refused(
                "scales a max-pooled membrane by factors that are not all positive, which turns largest into smallest; "
                "put the ReLU and the pool behind it"
            )
        self.no_pad(x)
        channels = x.shape[0]
        factor = np.broadcast_to(scale, (channels,)).astype(np.float64) * x.unit
        offset = np.broadcast_to(shift, (channels,)).astype(np.float64)
        name = self.fresh(tag)
        self.builder.add(
            BatchNorm(
                name=name, type=OPEN, loc=self.loc, x=x.ref,
                scale=self.const(f"{name}.scale", factor), shift=self.const(f"{name}.shift", offset),
            )
        )  # fmt: skip
        nonneg = x.nonneg and bool(np.all(scale >= 0) and np.all(shift >= 0))
        self._affine[Ref(name)] = (x, scale, shift)
        return replace(x, ref=Ref(name), unit=1.0, nonneg=nonneg, spiking=False)

    def zero_pad(self, x: Value, pad: Quad) -> Value:
        """Zeros around [C, H, W]; the convolution behind takes them over."""
        if min(pad) < 0:
            raise Refused(f"crops the value ({show_shape(pad)}); only padding with zeros is understood")
        if len(x.shape) != 3 or self.is_membrane(x):
            raise Refused("pads something that is not an activation [channels, height, width]; pad in the convolution")
        wider = (x.pad[0] + pad[0], x.pad[1] + pad[1], x.pad[2] + pad[2], x.pad[3] + pad[3])
        shape = (x.shape[0], x.shape[1] + pad[0] + pad[2], x.shape[2] + pad[1] + pad[3])
        return replace(x, pad=wider, shape=shape, spiking=False)

    def maxpool(self, x: Value, kernel: Pair, stride: Pair, pad: Quad, ceil: bool) -> Value:
        """Largest value of each window; padding never wins."""
        self.no_pad(x)
        x = self.spikes(x, picks=True)
        how = Waiting("maxpool", kernel, stride, pad, ceil)
        if self.is_membrane(x):
            if len(x.shape) != 3:
                raise Refused(f"pools the shape {show_shape(x.shape)}; pooling wants [channels, height, width]")
            size = pool_out(x.shape[1:], kernel, stride, pad, ceil)
            return replace(x, waiting=(*x.waiting, how), shape=(x.shape[0], *size))
        made = self.op(x.ref)
        if isinstance(made, BatchNorm):
            # max(s x + t) = s max(x) + t for s > 0, and what is pooled then are spikes again
            source, scale, shift = self._affine[x.ref]
            if not bool(np.all(scale > 0)):
                raise Refused(
                    "takes the largest of values that a batch norm scales by factors that are not all positive; put "
                    "the pool in front of the batch norm"
                )
            return self.affine(self.maxpool(source, kernel, stride, pad, ceil), scale, shift, tag="norm")
        if isinstance(made, AvgPool):
            if not x.nonneg:
                raise Refused("takes the largest of averages that may be negative; put a ReLU in front of it")
            self.note("a mean has no spikes to take the first of: neurons that pass it on are put in front of the pool")
            x = self._fire(x, None, 1.0, 0, spiking=False, tag="mean")
        return self._maxpool(x, how)

    def _maxpool(self, x: Value, how: Waiting) -> Value:
        op = self.builder.add(
            MaxPool(
                name=self.fresh("pool" if self.taken(self.base) else ""), type=OPEN, loc=self.loc, x=x.ref,
                kernel=how.kernel, stride=how.stride, pad=how.pad, ceil=how.ceil,
            )
        )  # fmt: skip
        return replace(x, ref=Ref(op.name), shape=op.type.shape, spiking=False)

    def avgpool(
        self, x: Value, kernel: Pair, stride: Pair, pad: Quad = NO_PAD, ceil: bool = False, count_pad: bool = True
    ) -> Value:
        """Mean of each window."""
        self.no_pad(x)
        x = self.spikes(x)
        if not self.is_membrane(x):
            op = self.builder.add(
                AvgPool(
                    name=self.fresh(), type=OPEN, loc=self.loc, x=x.ref,
                    kernel=kernel, stride=stride, pad=pad, ceil=ceil, count_pad=count_pad,
                )
            )  # fmt: skip
            return replace(x, ref=Ref(op.name), shape=op.type.shape, spiking=False)
        self._settled(x, "average pool")
        if len(x.shape) != 3:
            raise Refused(f"pools the shape {show_shape(x.shape)}; pooling wants [channels, height, width]")
        cut = ceil and pool_out(x.shape[1:], kernel, stride, pad) != pool_out(x.shape[1:], kernel, stride, pad, True)
        if any(pad) or cut:
            raise Refused("averages a membrane over padded or cut windows; put the ReLU in front of the pool, or pad=0")
        return self.whole(self._pooled(x.ref, kernel, stride))

    def _pooled(self, ref: Ref, kernel: Pair, stride: Pair) -> Ref:
        """The mean over windows of a membrane, moved in front of or into the synapses that make it."""
        match self.op(ref):
            case Add() as op:
                xs = tuple(self._pooled(x, kernel, stride) for x in op.xs)
                return Ref(self.builder.add(replace(op, name=self.fresh("mean"), type=OPEN, xs=xs)).name)
            case BatchNorm() as op:
                x = self._pooled(op.x, kernel, stride)
                return Ref(self.builder.add(replace(op, name=self.fresh("mean"), type=OPEN, x=x)).name)
            case Conv2d() as op if op.bias is None or self.arrays[op.bias].ndim == 1:
                w = self.arrays[op.w]
                if w.shape[2:] == (1, 1) and op.stride == ONE and not any(op.pad):
                    name = self.fresh("mean")
                    pool = AvgPool(name=name, type=OPEN, loc=self.loc, x=op.x, kernel=kernel, stride=stride)
                    self.builder.add(pool)
                    moved = replace(op, name=self.fresh("conv"), type=OPEN, x=Ref(pool.name))
                else:
                    spread = self.const(f"{op.w}.mean", _spread(w, op, kernel))
                    steps = (op.stride[0] * stride[0], op.stride[1] * stride[1])
                    moved = replace(
                        op, name=self.fresh("conv"), type=OPEN, w=spread, stride=steps, dilation=ONE, step=None, bits=0
                    )
                return Ref(self.builder.add(moved).name)
            case op:
                raise Refused(f"averages the membrane of {op.subject}; put the ReLU in front of the pool")

    def flatten(self, x: Value) -> Value:
        """[C, H, W] as one row."""
        self.no_pad(x)
        if len(x.shape) == 1:
            return x
        if x.waiting:
            return replace(x, waiting=(*x.waiting, Waiting("flatten")), shape=(x.size,))
        name = self.fresh("flat" if self.taken(self.base) else "")
        op = self.builder.add(Flatten(name=name, type=OPEN, loc=self.loc, x=x.ref))
        return replace(x, ref=Ref(op.name), shape=op.type.shape)

    # -- the answer ----------------------------------------------------------------------------------------------

    def tail(self, x: object, what: str) -> Value:
        """An op at the very end that leaves the largest score the largest."""
        return replace(x if isinstance(x, Value) else self.value(x), tail=what)

    def finish(self, result: object) -> Net:
        """The net that ends in this value, with everything that does not reach it left out. Raises every fault."""
        ended = self.step("output", Loc(origin="output"), "", lambda: self._decode(result))
        if self.faults:
            raise TtfsError(self.faults)
        assert isinstance(ended, Op)
        needed, ops = {ended.name}, list[Op]()
        for op in reversed(self.builder.ops):
            if op.name in needed or isinstance(op, Input):
                needed.update(op.operands())
                ops.append(op)
        return verify(self.builder.unverified().with_ops(reversed(ops)))

    def _decode(self, result: object) -> object:
        if result is BROKEN:
            return BROKEN
        if result is RAW:
            raise Refused("the input reaches the output unchanged; the model has no layers")
        if not isinstance(result, Value):
            raise Refused(f"the model returns {result!r}, not class scores; return one tensor [N, classes]")
        x = self._settled(result, "output")
        if x.tail not in ("", FIRST_SPIKE, MEMBRANE):
            self.note(f"{x.tail} at the end is left out: the largest score stays the largest")
        if len(x.shape) == 3 and x.shape[1:] == ONE:
            x = self.flatten(x)
        if len(x.shape) != 1:
            fact = (
                f"the model returns {show_shape(x.shape)} per sample, not class scores; end with one number per class"
            )
            raise Refused(fact)
        source = self.op(x.ref)
        while isinstance(source, Flatten):
            source = self.op(source.x)
        if x.spiking:
            assert isinstance(source, Fire)
            membrane = self.whole(Ref(source.v))
            refs, rule = (x.ref, self.flatten(membrane).ref), "first_spike"
        else:
            if isinstance(source, Fire):
                self.note("the activation behind the last layer is left out: its membranes are the scores")
                x = self.flatten(self.whole(Ref(source.v)))
            refs, rule = (self.membrane(x).ref,), "membrane"
        return self.builder.add(Decode(name=self.fresh(), type=OPEN, loc=self.loc, xs=refs, rule=rule))


def _offset(bias: Constant | None, size: int) -> Array:
    return np.zeros(size) if bias is None else bias.array.astype(np.float64)


def _spread(w: Array, op: Conv2d, pool: Sequence[int]) -> Array:
    """The kernel of mean-over-`pool`-windows of the convolution: w's taps, once per window position, over its size."""
    reach = [(w.shape[a + 2] - 1) * op.dilation[a] + 1 for a in (0, 1)]
    size = [reach[a] + (pool[a] - 1) * op.stride[a] for a in (0, 1)]
    out = np.zeros((*w.shape[:2], *size), np.float32)
    for p in range(pool[0]):
        for q in range(pool[1]):
            top, left = p * op.stride[0], q * op.stride[1]
            window = out[:, :, top : top + reach[0] : op.dilation[0], left : left + reach[1] : op.dilation[1]]
            window += w / np.float32(pool[0] * pool[1])
    return out
