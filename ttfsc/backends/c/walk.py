"""Synapse ops of a fast layer by one list of what carries something: walked for each output position, or spread.

A weight row times a value is a product of pairs of bytes in 16 bits; what no product and no sum may carry over is
checked here, from the largest value and the largest weight.
"""

from dataclasses import dataclass

import numpy as np

from ttfsc.backends.c.cost import gather_cost, pixel_cost, walk_cost
from ttfsc.backends.c.fast import (
    BLOCKS,
    HALF,
    Shape,
    block_of,
    codes_of,
    fills,
    lower_gather,
    rows_of,
    shape_of,
    tile_of,
)
from ttfsc.backends.c.kernels import instance
from ttfsc.backends.c.pack import Code, Packed
from ttfsc.backends.c.parts import Parts
from ttfsc.backends.c.plan import Bundle, Operand, Walk
from ttfsc.ir import Array, Conv2d, Dense, Spikes, show_op

LARGEST = 2**16 - 1  # value of an entry
SPREAD = 32  # outputs at most
NARROW = 16  # outputs of the narrowest row
SUMS = 64 << 10  # bytes of a tile
FEW = 8  # entries that 16 bits must hold, or taking them apart costs more than it saves


@dataclass(frozen=True, slots=True)
class Method:
    """How the synapse ops of a layer are computed: outputs that lie together, output rows at a time."""

    walk: bool  # spikes: walked, not gathered
    block: int
    tile: int
    kernel: str
    reason: str
    cost: float


def method_of(parts: Parts, ops: list[Conv2d | Dense], uacc: str, size: tuple[int, int]) -> Method:
    """The cheaper of what can compute a layer whose output positions are `size`."""
    high, wide = size
    shapes = [shape_of(op, parts.values[op.x], parts.net.arrays[op.w]) for op in ops]
    spikes = [isinstance(parts.net.type_of(op.x), Spikes) for op in ops]
    arrays = [parts.net.arrays[op.w] for op in ops]
    gathered = min(block_of(shape, w, spikes=s) for shape, w, s in zip(shapes, arrays, spikes, strict=True))
    bits = f"sums of {uacc[4:-2]} bits"
    if not any(spikes):
        block = min(gathered, narrow_block(shapes[0]))
        cost = sum(pixel_cost(shape, high * wide, parts.cpu) for shape in shapes)
        tile = min(high, max(4, SUMS // (16 * wide * shapes[0].outputs * shapes[0].groups)))
        return Method(
            False, block, tile, f"dense pixels, {block} outputs", f"{tile} of {high} rows at a time; {bits}", cost
        )
    costs = [
        gather_cost(shape, high * wide, parts.cpu, parts.net.type_of(op.x))
        for shape, op in zip(shapes, ops, strict=True)
    ]
    others = [
        walk_cost(shape, high * wide, parts.cpu, ramp=op.kernel == "ramp")
        for shape, op in zip(shapes, ops, strict=True)
    ]
    gather, walk = round(sum(costs), 1), round(sum(others), 1)
    able = all(
        walkable(shape, parts.values[op.x], w, uacc)
        for shape, op, w, s in zip(shapes, ops, arrays, spikes, strict=True)
        if s
    )
    if able and walk < gather and gathered != HALF:
        block = narrow_block(shapes[0])
        tile = max(1, min(high, SUMS // (4 * wide * shapes[0].outputs * shapes[0].groups)))
        why = f"{walk} kilocycles against {gather} of merging lists; {tile} of {high} rows at a time; {bits}"
        return Method(True, block, tile, f"walked lists, {block} outputs", why, walk)
    tile = tile_of(shapes, high, wide, parts.cpu.l2)
    halves = " of half bytes" if gathered == HALF else ""
    versus = f"{gather} kilocycles against {walk} of walking" if able else "values or sums too wide to walk"
    why = f"{versus}; {tile} of {high} rows at a time: the lists fit the cache; {bits}"
    return Method(False, gathered, tile, f"gathered rows, {gathered} outputs{halves}", why, gather)


def narrow_block(shape: Shape) -> int:
    """Outputs of a row: 16 where there are no more, else 64 or 32."""
    if shape.outputs <= NARROW and shape.groups == 1:
        return NARROW
    return BLOCKS[0] if fills(shape, BLOCKS[0]) else BLOCKS[1]


def lower_bundle(
    parts: Parts, op: Conv2d | Dense, key: str, step: int, *, uacc: str, method: Method, wide: int
) -> Bundle:
    """One op of a fast layer, by the layer's method; wide: output positions of a row."""
    if isinstance(parts.net.type_of(op.x), Spikes):
        if not method.walk:
            pixels = method.tile * wide
            return lower_gather(parts, op, key, step, uacc=uacc, block=method.block, pixels=pixels, wide=wide)
        return lower_walk(parts, op, key, step, uacc=uacc, block=method.block, wide=wide)
    return lower_direct(parts, op, key, step, uacc=uacc, block=method.block, wide=wide)


def walkable(shape: Shape, x: Operand, w: Array, uacc: str) -> bool:
    """Whether values, starts of rows and, where sums are wide, enough entries fit what the lists hold."""
    channels = shape.fields[5] * shape.channels  # of a row
    return x.low >= 0 and max(x.high * shape.pool, channels) <= LARGEST and held(shape, x, w, uacc) >= FEW


def held(shape: Shape, x: Operand, w: Array, uacc: str) -> int:
    """Entries whose biased products a 16-bit sum holds; for sums of 16 bits, which run modulo that, any number."""
    if uacc == "uint16_t":
        return 2**31 - 1
    return LARGEST // max(codes_of(w)[1] * x.high * shape.pool, 1)


def lower_walk(parts: Parts, op: Conv2d | Dense, key: str, step: int, *, uacc: str, block: int, wide: int) -> Walk:
    """One op whose inputs are listed once; wide: output positions of a row."""
    x, w = parts.read(op.x, step), parts.net.arrays[op.w]
    shape, (bias, largest) = shape_of(op, x, w), codes_of(w)
    packed = rows_of(op, x, w, shape, block, bias)
    weights = parts.packed(op, packed)
    fields = (*shape.fields, wide, -(-shape.outputs // block), 0, bias, 0)
    geometry = parts.geometry(key, "bundle", fields, show_op(op))
    positions = shape.fields[4] * shape.fields[5] * shape.groups
    entries = positions * shape.channels + 1
    counted = shape.pool > 1 and op.kernel == "ramp"
    most = x.high * shape.pool
    value = x.ctype if shape.pool == 1 else "uint8_t" if most < 256 else "uint16_t"
    hits = "uint8_t" if shape.pool < 256 else "uint16_t"
    budget = 255 // max(largest, 1) if 4 * most < LARGEST else 1  # values that a byte holds times the largest weight
    taken = shape.fields[4:6] == shape.fields[:2] and shape.fields[6:12] == (1, 1, 1, 1, 0, 0)  # every input, once
    pooled, types = not taken, {"x": value, "hits": hits, "bytes": block}
    return Walk(
        instance("walk_tile", uacc=uacc, block=block, budget=budget),
        geometry,
        x,
        weights.name,
        weights.offset,
        op.kernel == "ramp",
        most=held(shape, x, w, uacc),
        list=instance("list_pooled" if pooled else "list", **types),
        where=parts.buffer("uint32_t", entries, step),
        value=parts.buffer("uint32_t", entries, step),
        count=parts.buffer("uint32_t", entries, step) if counted else None,
        first=parts.buffer("uint32_t", positions + 1, step),
        top=parts.buffer("uint32_t", positions, step),
        total=parts.buffer("uint32_t", positions + 1, step),
        spikes=parts.buffer("uint32_t", positions + 1, step) if counted else None,
        cell=parts.buffer(value, shape.channels, step) if pooled else None,
        hits=parts.buffer(hits, shape.channels, step) if pooled else None,
    )


def spreads(shape: Shape, op: Conv2d | Dense, parts: Parts) -> bool:
    """Whether few outputs read few pixels at a time: each of these then adds to the positions that see it."""
    if isinstance(op, Dense) or isinstance(parts.net.type_of(op.x), Spikes):
        return False
    close = op.stride[1] == 1 and op.dilation[1] == 1
    return close and shape.groups == 1 and shape.outputs <= SPREAD and shape.kernel > 1 and shape.channels <= 4


def lower_direct(parts: Parts, op: Conv2d | Dense, key: str, step: int, *, uacc: str, block: int, wide: int) -> Bundle:
    """One op whose operand is no spikes; every input times its row."""
    x, w = parts.read(op.x, step), parts.net.arrays[op.w]
    shape, (bias, _) = shape_of(op, x, w), codes_of(w)
    spread = spreads(shape, op, parts)
    packed = spread_rows(w, block, bias) if spread else rows_of(op, x, w, shape, block, bias)
    weights = parts.packed(op, packed)
    fields = (*shape.fields, wide, -(-shape.outputs // block), 0, bias, 0)
    geometry = parts.geometry(key, "bundle", fields, show_op(op))
    call = instance("spread" if spread else "pixels_tile", uacc=uacc, x=x.ctype, block=block)
    return Bundle(call, geometry, x, weights.name, weights.offset, op.kernel == "ramp")


def spread_rows(w: Array, block: int, bias: int) -> Packed:
    """[channels, kernel rows, taps from right to left, block] bytes."""
    data = np.zeros((*w.shape[1:], block), np.uint8)
    data[..., : len(w)] = w[..., ::-1].transpose(1, 2, 3, 0).astype(np.int16) + bias
    return Packed(Code(8, 1, -bias), block, data.ravel())
