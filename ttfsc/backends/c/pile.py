"""Synapse ops by buckets: spikes of each input row sorted by value, weight rows piled up as bytes from the largest on.

A spike of value x has to count x times in S: it is in the pile when the values x, x - 1, ..., 1 are come to, so adding
the pile to S once for each value multiplies without a product. The pile ends as W, the slope: `ramp` costs what `hold`
does. Sums run modulo 2^16; the true ones are proven to fit (fast.py).
"""

import numpy as np

from ttfsc.backends.c.fast import Shape, byte_block, channel_last, codes_of, shape_of
from ttfsc.backends.c.kernels import Instance, instance
from ttfsc.backends.c.pack import Code, Packed
from ttfsc.backends.c.parts import Parts
from ttfsc.backends.c.plan import Operand, Pile
from ttfsc.ir import Array, Conv2d, Dense, Spikes, show_op

LONGEST = 2**16 - 1  # inputs of a row
BYTES = 4  # rows that a byte must hold the sum of, or piling saves nothing
PICKED = 64  # entries that are written behind the last
SLID = 3  # output rows whose sums stay in registers


def pileable(shape: Shape, x: Operand, w: Array, uacc: str) -> bool:
    """Whether a convolution can be computed so: not pooled, columns of a window side by side, sums modulo 2^16."""
    side_by_side = shape.fields[13] == 1 or shape.fields[19] == 1
    short = x.low >= 0 and shape.fields[1] * shape.fields[2] <= LONGEST
    return (
        shape.groups == 1 and not shape.pooled and side_by_side and short
        and uacc == "uint16_t" and budget_of(w) >= BYTES
    )  # fmt: skip


def budget_of(w: Array) -> int:
    """Rows whose sum a byte holds."""
    return 255 // max(codes_of(w)[1], 1)


def slides(shape: Shape) -> bool:
    """Whether each input row adds to all the output rows that see it at once; else one output position at a time."""
    return 2 <= shape.fields[12] <= SLID and shape.fields[14] == 1 and shape.fields[18] == 1


def piled(shape: Shape) -> int:
    """Weight rows that an entry brings: those of a kernel column, or of two blocks of outputs."""
    if slides(shape):
        return shape.fields[12]
    return 2 if -(-shape.outputs // byte_block(shape)) % 2 == 0 else 1


def lower_pile(parts: Parts, op: Conv2d | Dense, key: str, step: int, *, wide: int) -> Pile:
    """One op whose sums are of 16 bits; wide: output positions of a row."""
    x, w, t = parts.read(op.x, step), parts.net.arrays[op.w], parts.net.type_of(op.x)
    assert isinstance(t, Spikes)
    shape, (bias, _), block = shape_of(op, x, w), codes_of(w), byte_block(shape_of(op, x, w))
    weights = parts.packed(op, rows_of(op, x, w, shape, bias))
    fields = (*shape.fields, wide, -(-shape.outputs // block), t.ticks, bias, 0)
    rows, columns, row = shape.fields[0], shape.fields[1] + 1, shape.fields[1] * shape.fields[2]
    sort = instance("bucket", block=block, long=t.ticks)
    first, (where, start, fired) = buckets(
        parts, op.x, sort, step, rows * row + PICKED, rows * columns * t.ticks, row + 1
    )
    return Pile(
        instance("slide_tile" if slides(shape) else "stride_tile", block=block, piled=piled(shape), long=t.ticks,
                 budget=budget_of(w)),
        parts.geometry(key, "bundle", fields, show_op(op)),
        x,
        weights.name,
        weights.offset,
        op.kernel == "ramp",
        sort=sort if first else None,
        where=where,
        start=start,
        fired=fired,
    )  # fmt: skip


def buckets(parts: Parts, x: str, sort: Instance, step: int, *lengths: int) -> tuple[bool, tuple[int, int, int]]:
    """Buffers of the sorted spikes of a value, and whether this step is the first that needs them."""
    key = (x, sort.name, *map(str, lengths))
    known = parts.buckets.get(key)
    if known is not None:
        for buffer in known[:2]:
            parts.touch(buffer, step)
        return False, known
    where, start, fired = (parts.buffer("uint16_t", length, step) for length in lengths)
    return True, parts.buckets.setdefault(key, (where, start, fired))


def is_sorted(parts: Parts, x: str, shape: Shape, ticks: int) -> bool:
    """Whether an earlier layer has sorted a value as an op of this shape needs it."""
    sort = instance("bucket", block=byte_block(shape), long=ticks)
    return any(key[:2] == (x, sort.name) for key in parts.buckets)


def rows_of(op: Conv2d | Dense, x: Operand, w: Array, shape: Shape, bias: int) -> Packed:
    """Rows of bytes in the order of slide_tile.c or stride_tile.c: halves of a block are the bytes of pairs."""
    high, wide, outputs = shape.fields[12], shape.fields[13], shape.outputs
    if isinstance(op, Dense):
        taps = channel_last(w, x).T.reshape(1, 1, -1, outputs)
    else:
        taps = w.transpose(2, 3, 1, 0)
    block, more = byte_block(shape), piled(shape)
    blocks = -(-outputs // block)
    data = np.zeros((*taps.shape[:3], blocks * block), np.uint8)
    data[..., :outputs] = taps.astype(np.int16) + bias
    data = data.reshape(high, wide, -1, blocks, 2, block // 2).swapaxes(4, 5).reshape(high, wide, -1, blocks, block)
    if slides(shape):
        data = data.transpose(3, 1, 2, 0, 4)
    else:
        data = data.reshape(high, wide, -1, blocks // more, more, block).transpose(3, 0, 1, 2, 4, 5)
    return Packed(Code(8, 1, -bias), block, np.ascontiguousarray(data).ravel())
