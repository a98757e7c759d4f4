"""Weighted sums in ONNX: float32 convolutions and matrix products whose every partial sum is an integer below 2^24.

Then no order of addition, no fused multiply-add and no number of threads changes a bit. A layer with larger sums is
cut along its inputs into parts that stay below, and the parts are added in float64.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ttfsc.backends.onnx.graph import FLOAT, Graph, RefusedError, Tensor
from ttfsc.ir import Array, Conv2d, Dense, Net

EXACT = 2**24  # integers up to here are exact in float32

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """Weights of some of the inputs: the others are zero, and input channels outside first..last are cut off."""

    weights: Array
    first: int
    last: int


def parts_of(w: Array, groups: int, largest: int) -> tuple[Part, ...] | None:
    """Cut weights so that with inputs of magnitude `largest` the terms of each part add up to less than 2^24.

    None where a single product is already too large.
    """
    rows = np.abs(w.reshape(len(w), -1).astype(np.int64)) * largest
    if int(rows.sum(1).max()) < EXACT:
        return (Part(w, 0, w.shape[1]),)
    if int(rows.max()) >= EXACT:
        return None
    totals = np.concatenate([np.zeros((len(w), 1), np.int64), rows.cumsum(1)], axis=1)  # [O, inputs + 1]
    per_channel = rows.shape[1] // w.shape[1]
    found, begin = list[Part](), 0
    while begin < rows.shape[1]:
        fits = ((totals - totals[:, begin : begin + 1]) < EXACT).all(0)
        end = int(np.flatnonzero(fits)[-1])  # totals rise, so everything up to here fits
        mask = np.zeros(rows.shape[1], w.dtype)
        mask[begin:end] = 1
        kept = w * mask.reshape(w.shape[1:])
        first, last = (0, w.shape[1]) if groups > 1 else (begin // per_channel, -(-end // per_channel))
        found.append(Part(kept[:, first:last], first, last))
        begin = end
    return tuple(found)


def pooled_largest(op: Conv2d | Dense, largest: int) -> int:
    """The largest magnitude behind the op's own sum over pooling windows."""
    return largest * op.pool[0] * op.pool[1] if isinstance(op, Conv2d) else largest


def weighted(g: Graph, net: Net, op: Conv2d | Dense, inputs: list[Tensor], largest: int, *, wide: bool) -> list[Tensor]:
    """sum w x of every input (float32 integers of at most `largest`), through the same weights at once.

    Several inputs (values and who fired; the ticks of a streaming window) are stacked along the batch, so weights are
    read once for all of them.
    """
    stacked = inputs[0].name
    if len(inputs) > 1:
        stacked = g.op("Concat", *(x.name for x in inputs), hint=f"{op.name}.in", axis=0)
    if pooled_largest(op, largest) >= EXACT:
        raise RefusedError(f"sums over pooling windows reach {pooled_largest(op, largest)}, beyond float32's 24 bits")
    if isinstance(op, Conv2d):
        stacked = _pool_sum(g, op, stacked, net.type_of(op.x).shape[0])
    w = net.arrays[op.w]
    parts = parts_of(w, op.groups if isinstance(op, Conv2d) else 1, pooled_largest(op, largest))
    if parts is None:
        raise RefusedError(f"an input of up to {pooled_largest(op, largest)} times one weight leaves float32's 24 bits")
    total: Tensor | None = None
    for part in parts:
        cut = _channels(g, op, stacked, part, w.shape[1])
        product = Tensor(_product(g, op, cut, part.weights))
        term = g.widened(product, wide or len(parts) > 1)
        total = term if total is None else g.pair("Add", total, term, f"{op.name}.part")
    assert total is not None
    if len(inputs) == 1:
        return [total]
    outputs = [g.fresh(f"{op.name}.of{i}") for i in range(len(inputs))]
    g.node("Split", [total.name], outputs, axis=0)
    return [Tensor(name, total.wide) for name in outputs]


def _channels(g: Graph, op: Conv2d | Dense, x: str, part: Part, channels: int) -> str:
    if (isinstance(op, Conv2d) and op.groups > 1) or (part.first, part.last) == (0, channels):
        return x
    ends = [g.constant(np.array([n], np.int64), f"const.{n}") for n in (part.first, part.last, 1)]
    return g.op("Slice", x, *ends, hint=f"{op.name}.cut")


def _product(g: Graph, op: Conv2d | Dense, x: str, weights: Array) -> str:
    small = g.constant(weights.astype(np.int8), op.w)
    real = g.cast(small, FLOAT, f"{op.w}.real")
    if isinstance(op, Dense):
        return g.op("Gemm", x, real, hint=f"{op.name}.sum", transB=1)
    return g.op(
        "Conv", x, real, hint=f"{op.name}.sum", kernel_shape=list(weights.shape[2:]), strides=list(op.stride),
        pads=list(op.pad), dilations=list(op.dilation), group=op.groups,
    )  # fmt: skip


def _pool_sum(g: Graph, op: Conv2d, x: str, channels: int) -> str:
    """Sums over windows as a depthwise convolution with ones: a mean times its divisor would round."""
    if op.pool == (1, 1) and op.pool_stride == (1, 1) and not any(op.pool_pad):
        return x
    ones = g.constant(np.ones((channels, 1, *op.pool), np.int8), f"ones.{channels}x{op.pool[0]}x{op.pool[1]}")
    real = g.cast(ones, FLOAT, f"{op.name}.ones")
    return g.op(
        "Conv", x, real, hint=f"{op.name}.pool", kernel_shape=list(op.pool), strides=list(op.pool_stride),
        pads=list(op.pool_pad), group=channels,
    )  # fmt: skip
