"""Fold `avgpool` into the synapse behind it: the sum stays (pool fields), the divisor moves into weights and step.

    %p = avgpool %a kernel=2x2 stride=2x2          =>
    %v = conv2d %p w=@w step=@step bits=4              %v = conv2d %a w=@w step=@step bits=4 pool=2x2 pool_stride=2x2

    %p = avgpool %a ...                            =>
    %f = flatten %p                                    %v.map = conv2d %a w=@w pool=...   (w [out, C, H, W])
    %v = dense %f w=@w                                 %v     = flatten %v.map

with @w and @step divided by the window's size; integers on a trained grid stay the same. The pool remains a stage of
its own inside conv2d, so padding of the pool or of the convolution behind it changes nothing. A `ceil` window that
hangs over the border reads zeros there: the pool is padded on that side until rounding down gives the same windows.

Windows of different divisors (ceil mode, padding that is not counted) fold where every weight reads one window only,
i.e. where the synapse has a single output position: the divisor is then that of the weight's window. Elsewhere, and
where weights were trained on a grid that unequal divisors would tear apart, the pool is refused (TTFS012).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ttfsc.ir import (
    AvgPool,
    Conv2d,
    Dense,
    Fault,
    Flatten,
    Identity,
    Net,
    Op,
    Potential,
    Ref,
    Shape,
    TtfsError,
    codes,
    divisors,
    show_shape,
)  # fmt: skip
from ttfsc.ir.geometry import pool_out, reads
from ttfsc.passes.rewrite import Pool, Reals, SynapseOp, free_name, reals

Ints = npt.NDArray[np.int64]
Pair = tuple[int, int]
Quad = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Sums:
    """A value in the old net that is, in the new one, a sum over windows of %source, still to be divided."""

    pool: AvgPool  # the last one, for messages
    source: str
    size: Shape  # of the source
    out: Shape  # of the sums, before any flatten
    kernel: Pair
    stride: Pair
    pad: Quad
    divisor: Ints  # [H', W']

    @property
    def uniform(self) -> bool:
        return bool((self.divisor == self.divisor.flat[0]).all())


def fold_avgpool(net: Net) -> Net:
    """Fold every average pool into its readers. Raises TtfsError (TTFS012) naming each that cannot be, and why."""
    sums, kept, faults, pool = dict[str, _Sums](), list[Op](), list[Fault](), Pool(net)
    for op in net.ops:
        pending = [sums[ref] for ref in op.operands() if ref in sums]
        if isinstance(op, AvgPool):
            made = _first(net, op) if not pending else _behind(pending[0], op)
            if isinstance(made, str):
                faults.append(Fault(codes.FOLD, op.loc, op.subject, made))
                made = _first(net, op)
            sums[op.name] = made
        elif not pending:
            kept.append(op)
        elif isinstance(op, Flatten | Identity):
            sums[op.name] = pending[0]
        elif isinstance(op, Conv2d | Dense):
            why = _obstacle(op, pending[0])
            if why is None:
                kept += _folded(net, op, pending[0], pool)
            else:
                faults.append(Fault(codes.FOLD, pending[0].pool.loc, pending[0].pool.subject, why))
        else:
            last = pending[0].pool
            faults.append(
                Fault(codes.FOLD, last.loc, last.subject, f"feeds {op.subject}, {_WHY_NOT.get(op.mnemonic, _ANY)}")
            )
    if faults:
        raise TtfsError(faults)
    return net.with_ops(kept, pool.changes)


_WAY_OUT = "use count_include_pad=True and ceil_mode=False, or an input size that the windows fill"
_ANY = "which is no synapse: only a conv2d or dense can take the pool over"
_WHY_NOT = {
    "maxpool": "but the largest of several means is no spike's time; put the max pool first or use one of them alone",
    "batchnorm": "which must be folded first: run fold-batchnorm before fold-avgpool",
    "encode": "but means of pixels are no longer integers; pool behind the encoding, or scale the image beforehand",
    "decode": "but a mean of spikes is no spike; end the network in a dense or conv2d layer",
}


def _first(net: Net, op: AvgPool) -> _Sums:
    """The sums of a pool that reads neurons."""
    size, out = net.type_of(op.x).shape, op.type.shape
    return _Sums(op, op.x, size, out, op.kernel, op.stride, _padding(size, out, op), _divisor(op, size))


def _divisor(op: AvgPool, size: Shape) -> Ints:
    return np.rint(divisors(op, size[1:])).astype(np.int64)


def _padding(size: Shape, out: Shape, op: AvgPool) -> Quad:
    """The pool's padding; more on the far side where ceil mode opened a window that rounding down would not."""
    if pool_out(size[1:], op.kernel, op.stride, op.pad) == out[1:]:
        return op.pad
    need = [max((out[a + 1] - 1) * op.stride[a] + op.kernel[a] - size[a + 1] - op.pad[a], 0) for a in (0, 1)]
    return (op.pad[0], op.pad[1], need[0], need[1])


def _behind(before: _Sums, op: AvgPool) -> _Sums | str:
    """A pool of a pool as one pool, or why it is none."""
    if not before.uniform:
        return f"pools %{before.pool.name}, whose windows have different divisors: {_WAY_OUT}"
    out = op.type.shape
    kernel = _pair((op.kernel[a] - 1) * before.stride[a] + before.kernel[a] for a in (0, 1))
    stride = _pair(before.stride[a] * op.stride[a] for a in (0, 1))
    top, left = (before.pad[a] + op.pad[a] * before.stride[a] for a in (0, 1))
    need = [(out[a + 1] - 1) * stride[a] + kernel[a] - before.size[a + 1] - (top, left)[a] for a in (0, 1)]
    for a in (0, 1):  # do the two pools together read what the one does, everything exactly once?
        n, middle, last = before.size[a + 1], before.out[a + 1], out[a + 1]
        inner = reads(n, middle, before.kernel[a], before.stride[a], before.pad[a])
        outer = reads(middle, last, op.kernel[a], op.stride[a], op.pad[a])
        if not np.array_equal(outer @ inner, reads(n, last, kernel[a], stride[a], (top, left)[a])):
            return (
                f"pools %{before.pool.name}, and windows that overlap or were cut off do not make one average: "
                "make the first pool's stride equal to its kernel, or put a convolution between them"
            )
    pad = (top, left, max(need[0], 0), max(need[1], 0))
    divisor = _divisor(op, before.out) * int(before.divisor.flat[0])
    return _Sums(op, before.source, before.size, out, kernel, stride, pad, divisor)


def _obstacle(op: SynapseOp, sums: _Sums) -> str | None:
    """Why this synapse cannot take the pool over; None if it can."""
    if isinstance(op, Conv2d) and (op.pool, op.pool_stride, op.pool_pad) != ((1, 1), (1, 1), (0, 0, 0, 0)):
        return f"feeds {op.subject}, which already has a pool of its own"
    if sums.uniform:
        return None
    found = np.unique(sums.divisor)
    head = f"divides its windows by {', '.join(map(str, found[:4]))}{', ...' if len(found) > 4 else ''}"
    if op.step is not None:
        return f"{head}, but the weights of {op.subject} were trained on one grid, which that would break: {_WAY_OUT}"
    if isinstance(op, Conv2d) and op.type.shape[1:] != (1, 1):
        at = show_shape(op.type.shape[1:])
        return f"{head}, but {op.subject} uses each weight at {at} places, none of which may differ: {_WAY_OUT}"
    return None


def _folded(net: Net, op: SynapseOp, sums: _Sums, pool: Pool) -> Iterator[Op]:
    """The synapse reading the pool's source; a dense becomes a convolution with a kernel of the pooled map's size."""
    w = reals(net.arrays, op.w)
    if isinstance(op, Dense):
        assert isinstance(op.type, Potential)
        name = free_name(net.by_name, f"{op.name}.map")
        shape = replace(op.type, shape=(op.type.shape[0], 1, 1))
        conv = Conv2d(
            name=name, type=shape, loc=op.loc, x=op.x, w=op.w, bias=op.bias, drift=op.drift, kernel=op.kernel,
            delay=op.delay, every=op.every, shift=op.shift, keep=op.keep, rounding=op.rounding, step=op.step,
            bits=op.bits,
        )  # fmt: skip
        w = w.reshape(-1, *sums.out)
    else:
        conv = op
    if sums.uniform:
        divisor: int | Reals = int(sums.divisor.flat[0])
    else:
        divisor = _per_tap(conv, w.shape, sums.divisor)
    step = None if op.step is None else pool.put(op, op.step, reals(net.arrays, op.step) / divisor)
    yield replace(
        conv, x=Ref(sums.source), w=pool.put(op, op.w, w / divisor), step=step,
        pool=sums.kernel, pool_stride=sums.stride, pool_pad=sums.pad,
    )  # fmt: skip
    if isinstance(op, Dense):
        yield Flatten(name=op.name, type=op.type, loc=op.loc, x=Ref(conv.name))


def _per_tap(op: Conv2d, kernel: Shape, divisor: Ints) -> Reals:
    """[kh, kw]: the divisor of the one window that each tap reads; a tap in the padding reads none and keeps 1."""
    taps = np.ones(kernel[2:])
    for i, j in np.ndindex(*kernel[2:]):
        y, x = i * op.dilation[0] - op.pad[0], j * op.dilation[1] - op.pad[1]
        if 0 <= y < divisor.shape[0] and 0 <= x < divisor.shape[1]:
            taps[i, j] = divisor[y, x]
    return taps


def _pair(values: Iterator[int]) -> Pair:
    a, b = values
    return a, b
