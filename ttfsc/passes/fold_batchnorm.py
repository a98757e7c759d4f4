"""Fold `batchnorm` into the weights and constants around it; all arithmetic in float64.

Behind a synapse (on a potential), also through flatten and add, into that synapse:

    %v = conv2d %x w=@w bias=@b step=@s        =>   %v = conv2d %x w=@w bias=@b step=@s
    %n = batchnorm %v scale=@g shift=@h             with  w' = g w,  bias' = g bias + h,  step' = |g| step

so integers of a trained grid stay the same, with the sign of g. Behind the activation (on spikes or on the input's
pixels), also through maxpool, avgpool and flatten, into every synapse that reads it:

    %n = batchnorm %a scale=@g shift=@h        =>   %v = conv2d %a w=@w' bias=@b'
    %v = conv2d %n w=@w pad=1                       with  w' = w g  per input channel,  b' = bias + conv(h)

where conv(h) differs at the borders, since padding stays 0 while h does not: the bias then has the result's shape.
A positive scale commutes with a maximum; a negative one does not and is refused, like a scale that a trained grid or
a `ramp` kernel (which counts spikes besides adding values) cannot follow. Every refusal is TTFS012 with the reason.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np

from ttfsc.ir import (
    Add,
    AvgPool,
    BatchNorm,
    Const,
    Conv2d,
    Dense,
    Fault,
    Flatten,
    Identity,
    MaxPool,
    Net,
    Op,
    Potential,
    Ref,
    Shape,
    Spikes,
    TtfsError,
    codes,
    divisors,
    reread,
)  # fmt: skip
from ttfsc.ir.linear import pool_sum, synapses
from ttfsc.passes.rewrite import Pool, Reals, SynapseOp, free_name, pruned, reals

log = logging.getLogger(__name__)


def fold_batchnorm(net: Net) -> Net:
    """Fold every batch norm. Raises TtfsError (TTFS012) naming each that cannot be folded exactly, and why."""
    work = _Work(net)
    for op in net.ops:
        work.take(op)
    if work.faults:
        raise TtfsError(work.faults)
    return pruned(net.with_ops(_ordered(work.ops), work.pool.changes)) if work.folded else net


class _UnfoldableError(Exception):
    """The reason, as the rest of a sentence about the batch norm."""


@dataclass(frozen=True)
class _Affine:
    """A value of the old net is `scale x + shift` of the new net's: scale [C], shift [*shape]."""

    norm: BatchNorm
    scale: Reals
    shift: Reals


class _Work:
    """The new net as far as it is built."""

    def __init__(self, net: Net) -> None:
        self.net, self.pool, self.folded = net, Pool(net), False
        self.ops = dict[str, Op]()
        self.faults = list[Fault]()
        self.renamed = dict[str, str]()  # old value -> new value
        self.pending = dict[str, _Affine]()  # by old value: still to be applied by its readers
        self.sole = dict[str, bool]()  # new value: has one reader, so may be changed in place

    def take(self, op: Op) -> None:
        """One op of the old net."""
        self.sole[op.name] = len(self.net.users[op.name]) == 1
        waiting = [self.pending[ref] for ref in op.operands() if ref in self.pending]
        try:
            if isinstance(op, BatchNorm):
                self.folded = True
                self.renamed[op.name] = self.renamed.get(op.x, op.x)
                if isinstance(op.type, Potential):
                    self.behind_synapse(op)
                else:
                    self.pending[op.name] = self.composed(op)
                return
            new = reread(op, self.renamed)
            if waiting:
                new = self.moved(op, new, waiting[0])
        except _UnfoldableError as e:
            norm = op if isinstance(op, BatchNorm) else waiting[0].norm
            self.faults.append(Fault(codes.FOLD, norm.loc, norm.subject, str(e)))
            new = reread(op, self.renamed)
        if not isinstance(op, BatchNorm):
            self.ops[new.name] = new

    # Behind the activation: the scale travels forward until synapses take it in.

    def composed(self, op: BatchNorm) -> _Affine:
        scale, shift = reals(self.net.arrays, op.scale), reals(self.net.arrays, op.shift)
        before = self.pending.get(op.x)
        base = np.zeros(op.type.shape) if before is None else before.shift
        return _Affine(op, scale * (1 if before is None else before.scale), _plus(_times(scale, base), shift))

    def moved(self, op: Op, new: Op, affine: _Affine) -> Op:
        """`new` reading the value before the batch norm, and what its own result still lacks."""
        scale, shift = affine.scale, affine.shift
        match op:
            case MaxPool():
                flat = shift.reshape(len(shift), -1)
                if (scale < 0).any():
                    raise _UnfoldableError(
                        f"feeds {op.subject} with a negative scale (channel {int(np.argmax(scale < 0))}): the largest "
                        "value would become the smallest; put the batch norm behind the pool or before the activation"
                    )
                if (flat != flat[:, :1]).any():
                    raise _UnfoldableError(f"reaches {op.subject} with a shift that differs from place to place")
                shape = op.type.shape
                shift = np.broadcast_to(flat[:, 0].reshape(-1, 1, 1), shape)
            case AvgPool():
                shift = _mean(op, shift)
            case Flatten():
                scale, shift = np.repeat(scale, shift[0].size), shift.reshape(-1)
            case Identity():
                pass
            case Conv2d() | Dense():
                return self.absorbed(op, new, affine)
            case _:
                way_out = "scale the image beforehand" if op.mnemonic == "encode" else "end in a dense or conv2d layer"
                raise _UnfoldableError(f"feeds {op.subject}, which is no synapse: {way_out}")
        self.pending[op.name] = _Affine(affine.norm, scale, shift)
        return new

    def absorbed(self, op: SynapseOp, new: Op, affine: _Affine) -> Op:
        """A synapse that takes scale and shift of its operand into weights and constants."""
        assert isinstance(new, Conv2d | Dense)
        scale, shift = affine.scale, affine.shift
        streams = isinstance(self.net.type_of(op.x), Spikes) and op.kernel in ("step", "leak")
        if (op.kernel == "ramp" or streams) and ((scale != 1).any() or shift.any()):
            raise _UnfoldableError(
                f"scales the values of spikes, but kernel={op.kernel} of {op.subject} also counts them, which no "
                "weight can follow: put the batch norm before the activation"
            )
        w = reals(self.net.arrays, op.w)
        factor = _per_input(op, scale, w.shape)  # [out, in] or [out, in/groups, 1, 1]
        constant = synapses(op, shift[None], w, np.float64)[0]
        constant = _narrow(constant)
        step, bits = op.step, op.bits
        if op.step is not None:
            sizes = np.abs(factor).reshape(len(w), -1)
            largest = sizes.max(1, keepdims=True)
            if ((sizes != largest) & (sizes != 0)).any():
                raise _UnfoldableError(
                    f"scales the inputs of {op.subject} differently, but its weights were trained on one grid per "
                    "output: put the batch norm before the activation, or train these weights in float"
                )
            step, bits = self.regridded(op, w, factor, largest[:, 0])
        bias = self.summed(op, op.bias, "bias", constant)
        drift = self.summed(op, op.drift, "drift", constant) if op.every else op.drift
        return replace(new, w=self.pool.put(op, op.w, w * factor), bias=bias, drift=drift, step=step, bits=bits)

    def summed(self, op: SynapseOp, old: Const | None, key: str, more: Reals) -> Const | None:
        if not more.any():
            return old
        if old is not None:
            more = _plus(reals(self.net.arrays, old), more)
        return self.pool.put(op, old if old is not None else f"{op.name}.{key}", more)

    def regridded(self, op: SynapseOp, w: Reals, factor: Reals, size: Reals) -> tuple[Const, int]:
        """Step and bits of a trained op whose weights are multiplied by `factor`, of magnitude `size` [out] or 0."""
        assert op.step is not None
        step = reals(self.pool, op.step)
        integers = np.rint(w / step.reshape(-1, *[1] * (w.ndim - 1))) * np.sign(factor)
        bits = op.bits
        if integers.max(initial=0) > 2 ** (bits - 1) - 1 and bits > 1:
            if bits == 8:
                raise _UnfoldableError(
                    f"turns the weight -128 of {op.subject} into 128, which 8 bits do not hold: train on -127..127"
                )
            bits += 1
            log.warning(
                "%s: %s: a negative batch norm turns weight %d into %d: bits=%d",
                op.loc,
                op.subject,
                -(2 ** (bits - 2)),
                2 ** (bits - 2),
                bits,
            )
        return self.pool.put(op, op.step, step * np.where(size == 0, 1, size)), bits

    # Behind a synapse: back to the synapses that are already there.

    def behind_synapse(self, op: BatchNorm) -> None:
        scale, shift = reals(self.net.arrays, op.scale), reals(self.net.arrays, op.shift)
        shape = op.type.shape
        inside = np.broadcast_to(shift.reshape(-1, *[1] * (len(shape) - 1)), shape)
        name = self.scaled(self.renamed[op.name], scale, inside, op.name, copy=False)
        self.renamed[op.name] = name
        self.sole[name] = len(self.net.users[op.name]) == 1

    def scaled(self, name: str, scale: Reals, shift: Reals, by: str, *, copy: bool) -> str:
        """Name of the potential `scale %name + shift`: %name itself where nobody else reads it, else a copy."""
        op = self.ops[name]
        copy = copy or not self.sole[name]
        new_name = free_name([*self.ops, *self.net.by_name], f"{name}.{by}") if copy else name
        match op:
            case Conv2d() | Dense():
                new: Op = self.scaled_synapse(op, new_name, scale, shift)
            case Flatten():
                shape = self.ops[op.x].type.shape
                grid = scale.reshape(shape[0], -1)
                if (grid != grid[:, :1]).any():
                    raise _UnfoldableError(
                        f"scales the neurons of one channel of %{op.x} differently: one scale per channel, please"
                    )
                new = replace(
                    op, name=new_name, x=Ref(self.scaled(op.x, grid[:, 0], shift.reshape(shape), by, copy=copy))
                )
            case Add():
                rest = np.zeros(shift.shape)
                parts = [self.scaled(x, scale, shift if i == 0 else rest, by, copy=copy) for i, x in enumerate(op.xs)]
                new = replace(op, name=new_name, xs=tuple(map(Ref, parts)))
            case _:
                raise AssertionError(f"{op.subject} gives no potential")
        self.ops[new_name] = new
        self.sole[new_name] = True
        return new_name

    def scaled_synapse(self, op: SynapseOp, name: str, scale: Reals, shift: Reals) -> SynapseOp:
        new = replace(op, name=name)
        w = reals(self.pool, op.w)
        factor = scale.reshape(-1, *[1] * (w.ndim - 1))
        step, bits = op.step, op.bits
        if op.step is not None:
            step, bits = self.regridded(new, w, np.broadcast_to(factor, w.shape), np.abs(scale))
        drift = None if op.drift is None else _times(scale, reals(self.pool, op.drift))
        bias = _narrow(shift if op.bias is None else _plus(_times(scale, reals(self.pool, op.bias)), shift))
        if op.kernel == "leak":  # a leaking membrane forgets a bias: what it loses every tick must come back
            kept = op.keep / 32768 if op.keep else 1 - 2.0**-op.shift
            lost = _narrow(shift * (1 - kept))
            drift = lost if drift is None else _plus(drift, lost)
        return replace(
            new, w=self.pool.put(new, op.w, w * factor), step=step, bits=bits,
            bias=self.kept(new, op.bias, "bias", bias), drift=self.kept(new, op.drift, "drift", drift),
        )  # fmt: skip

    def kept(self, op: SynapseOp, old: Const | None, key: str, value: Reals | None) -> Const | None:
        if value is None or (old is None and not value.any()):
            return None
        return self.pool.put(op, old if old is not None else f"{op.name}.{key}", value)


def _ordered(ops: dict[str, Op]) -> list[Op]:
    """The same ops, each behind its operands: copies were made after the ops that now read them."""
    done = dict[str, Op]()

    def put(op: Op) -> None:
        for ref in op.operands():
            if ref not in done:
                put(ops[ref])
        done.setdefault(op.name, op)

    for op in ops.values():
        put(op)
    return list(done.values())


def _per_input(op: SynapseOp, scale: Reals, w: Shape) -> Reals:
    """The scale of the input that each weight reads, shaped to multiply w."""
    if isinstance(op, Dense):
        return np.broadcast_to(scale, w)
    grouped = np.repeat(scale.reshape(op.groups, w[1]), w[0] // op.groups, axis=0)
    return np.broadcast_to(grouped[:, :, None, None], w)


def _mean(op: AvgPool, shift: Reals) -> Reals:
    """The average pool of a constant map: less than the constant where counted padding takes part."""
    size, out = shift.shape[1:], op.type.shape[1:]
    need = [max((out[a] - 1) * op.stride[a] + op.kernel[a] - size[a] - op.pad[a], 0) for a in (0, 1)]
    total = pool_sum(shift[None], op.kernel, op.stride, (op.pad[0], op.pad[1], need[0], need[1]))[0]
    mean = total.astype(np.float64) / divisors(op, size)
    return np.where(np.isclose(mean, shift[:, :1, :1], rtol=1e-14, atol=0), shift[:, :1, :1], mean)


def _column(values: Reals, like: Reals) -> Reals:
    """[C] shaped to broadcast over [C, H, W]; anything of full shape as it is."""
    return values if values.ndim == like.ndim else values.reshape(-1, *[1] * (like.ndim - 1))


def _times(scale: Reals, values: Reals) -> Reals:
    return _column(scale, values) * values


def _plus(a: Reals, b: Reals) -> Reals:
    """The sum of two constants, each [C] or [C, H, W]."""
    return _column(a, b) + b if a.ndim <= b.ndim else a + _column(b, a)


def _narrow(constant: Reals) -> Reals:
    """[C] where a map [C, H, W] is the same at every place (up to float64 rounding), else the map."""
    flat = constant.reshape(len(constant), -1)
    same = np.abs(flat - flat[:, :1]) <= 1e-13 * np.abs(flat).max(1, keepdims=True, initial=0)
    return flat[:, 0] if same.all() else constant
