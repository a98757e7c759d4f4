"""A windowed layer as the fast variant computes it: weight rows, a byte each, gathered by the spikes that fired.

Sums run modulo 2^16 or 2^32 over weights made positive by a bias; since the true sums are proven to fit, taking the
bias off again gives them exactly, whatever wrapped on the way. What the sums of one call cannot wrap is checked here.
"""

from dataclasses import dataclass

import numpy as np

from ttfsc.backends.c.kernels import instance
from ttfsc.backends.c.pack import Code, Packed
from ttfsc.backends.c.parts import Parts
from ttfsc.backends.c.plan import Gather, Operand
from ttfsc.ir import Array, Conv2d, Dense, Grid, Op, Spikes, show_op
from ttfsc.ir.geometry import pool_out

BLOCKS = (64, 32)  # outputs that one pass over the spikes adds up in registers
HALF = 128  # the same with two weights in a byte
HALF_FROM = 256 << 10  # weights of a group
MAX_TICKS = 255
MAX_ROWS = 65535  # of a stretch, the row of zeros included


@dataclass(frozen=True, slots=True)
class Shape:
    """A synapse op as a convolution over its operand: geometry of the bundle struct without blocks, ticks, bias."""

    fields: tuple[int, ...]
    groups: int
    channels: int  # of the operand, per group
    outputs: int  # per group
    kernel: int  # taps
    pool: int  # inputs that a tap sums

    @property
    def rows(self) -> int:
        """Weight rows of a block, the row of zeros included."""
        return self.kernel * self.channels + 1

    @property
    def pooled(self) -> bool:
        """Whether taps see anything but the operand as it lies; windows of one input that skip some pool as well."""
        f = self.fields
        return f[4:6] != f[:2] or f[6:12] != (1, 1, 1, 1, 0, 0)


def shape_of(op: Conv2d | Dense, x: Operand, w: Array) -> Shape:
    """How an op looks to the gathering kernels; a dense one has a single position."""
    if isinstance(op, Dense):
        one = (1, 1, x.size, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1)
        return Shape(one, 1, x.size, len(w), 1, 1)
    size = pool_out((x.grid[1], x.grid[2]), op.pool, op.pool_stride, op.pool_pad)
    fields = (
        x.grid[1], x.grid[2], x.grid[0], op.groups, *size, *op.pool, *op.pool_stride, *op.pool_pad[:2],
        *w.shape[2:], *op.stride, *op.pad[:2], *op.dilation,
    )  # fmt: skip
    return Shape(
        fields, op.groups, w.shape[1], w.shape[0] // op.groups, w.shape[2] * w.shape[3], op.pool[0] * op.pool[1]
    )


def why_not(parts: Parts, op: Conv2d | Dense, grid: Grid) -> str:
    """Why the fast kernels cannot compute this op; empty if they can."""
    x, w, t = parts.values[op.x], parts.net.arrays[op.w], parts.net.type_of(op.x)
    shape = shape_of(op, x, w)
    if isinstance(op, Dense) and grid[1] * grid[2] > 1:
        return "a dense op on the positions of a convolution has weights for each position"
    if shape.groups > 1 and shape.outputs % BLOCKS[-1]:
        return f"groups of {shape.outputs} outputs do not fill blocks of {BLOCKS[-1]}"
    if isinstance(t, Spikes):
        if t.ticks > MAX_TICKS or max(shape.rows, shape.pool * shape.channels) > MAX_ROWS:
            return f"{shape.rows} rows or {t.ticks} ticks are more than 16-bit lists hold"
        if most(t.ticks, codes_of(w)[1]) < 1:
            return f"eight weights times {t.ticks} ticks do not fit 16 bits"
    elif shape.pooled or max(abs(x.low), abs(x.high)) * 255 >= 2**31:
        return "pooled or very wide integers at the input"
    return ""


def most(ticks: int, largest: int) -> int:
    """Eights of rows whose sum, times the value of their spikes, stays below 2^16; largest: biased weight."""
    return (2**16 - 1) // (8 * max(largest, 1) * ticks)


def block_of(shape: Shape, weights: Array, *, spikes: bool) -> int:
    """The block that wastes least. HALF: two weights in a byte, where they fit and no cache holds them all."""
    if spikes and codes_of(weights)[1] <= 15 and fills(shape, HALF) and shape.rows * shape.outputs >= HALF_FROM:
        return HALF
    return byte_block(shape)


def byte_block(shape: Shape) -> int:
    """Outputs of a row of bytes: the wider block where it wastes little."""
    return BLOCKS[0] if fills(shape, BLOCKS[0]) else BLOCKS[1]


def fills(shape: Shape, block: int) -> bool:
    """Whether at most an eighth of the blocks' outputs are none; between groups there must be none at all."""
    full = -(-shape.outputs // block) * block
    return full == shape.outputs if shape.groups > 1 else full * 8 <= shape.outputs * 9


def tile_of(shapes: list[Shape], high: int, wide: int, l2: int) -> int:
    """Output rows whose lists fit the cache that holds the weights of a block: these are then read once for all."""
    row = wide * sum(4 * shape.kernel * shape.pool * shape.channels for shape in shapes)
    return max(1, min(high, 2 * l2 // max(row, 1)))


def lower_gather(parts: Parts, op: Conv2d | Dense, key: str, step: int, *, uacc: str, block: int, pixels: int,
                 wide: int) -> Gather:  # fmt: skip
    """Spikes by gathered rows; pixels: output positions of a tile, wide: of a row."""
    x, w, t = parts.read(op.x, step), parts.net.arrays[op.w], parts.net.type_of(op.x)
    shape = shape_of(op, x, w)
    bias, largest = codes_of(w)
    blocks = -(-shape.outputs // block)
    ticks = t.ticks if isinstance(t, Spikes) else 0
    packed = rows_of(op, x, w, shape, block, bias, half=block == HALF)
    weights = parts.packed(op, packed)
    fields = (*shape.fields, wide, blocks, ticks, bias, int(block == HALF))
    geometry = parts.geometry(key, "bundle", fields, show_op(op))
    inputs = shape.pool * shape.channels  # of a tap
    eights = pixels * ((shape.kernel * inputs + 7 * ticks) // 8)
    positions = shape.fields[4] * shape.fields[5] * shape.groups
    row: dict[str, int] = {"block": block, "bytes": packed.row_bytes}
    call = (
        instance("bundle_tile_half", uacc=uacc, **row, taps=shape.kernel)
        if block == HALF
        else instance("bundle_tile", uacc=uacc, **row, flush=8 if 8 * largest <= 255 else 1, taps=shape.kernel)
    )
    return Gather(
        call,
        geometry,
        x,
        weights.name,
        weights.offset,
        op.kernel == "ramp",
        most=most(ticks, largest) if uacc == "uint32_t" else eights,
        sort=instance("sort", long=ticks),
        order=parts.buffer("uint16_t", positions * inputs + 8, step),
        start=parts.buffer("uint16_t", positions * (ticks + 1), step),
        fired=parts.buffer("uint16_t", inputs + 1, step),
        value=parts.buffer("uint8_t", inputs + 1, step),
        rows=parts.buffer("uint32_t", 8 * eights + 16, step),
        late=parts.buffer("uint8_t", max(eights, 1), step),
        at=parts.buffer("int32_t", pixels + 1, step),
        whole=parts.buffer("uint32_t", 2 * pixels, step),
    )


def codes_of(w: Array) -> tuple[int, int]:
    """Bias that makes every weight a byte from 0 on, and the largest byte."""
    low, high = min(int(w.min(initial=0)), 0), max(int(w.max(initial=0)), 0)
    return -low, high - low


def channel_last(w: Array, x: Operand) -> Array:
    """A dense op's weights [outputs, inputs], the inputs as the operand lies."""
    return w[:, np.arange(x.size, dtype=np.int64).reshape(x.grid).transpose(1, 2, 0).ravel()]


def rows_of(op: Op, x: Operand, w: Array, shape: Shape, block: int, bias: int, *, half: bool = False) -> Packed:
    """[groups, blocks, rows, block] bytes, or two weights in a byte."""
    groups, outputs = shape.groups, shape.outputs
    if isinstance(op, Dense):
        taps = channel_last(w, x).T[None]
    else:
        kh, kw = w.shape[2:]
        taps = w.reshape(groups, outputs, shape.channels, kh, kw).transpose(0, 3, 4, 2, 1)
        taps = taps.reshape(groups, shape.rows - 1, outputs)
    blocks = -(-outputs // block)
    data = np.zeros((groups, shape.rows, blocks * block), np.uint8)
    data[:, :-1, :outputs] = taps.astype(np.int16) + bias
    parts = 4 if half else 2  # quarters become pairs of half bytes, halves pairs of bytes
    data = data.reshape(groups, shape.rows, blocks, parts, block // parts).transpose(0, 2, 1, 4, 3)
    if half:
        data = data[..., 0::2] | data[..., 1::2] << 4
    data = np.ascontiguousarray(data, np.uint8)
    return Packed(Code(4 if half else 8, 1, -bias), data[0, 0, 0].size, data.ravel())
