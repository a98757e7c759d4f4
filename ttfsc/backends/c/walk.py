"""Synapse ops of a fast layer by one list of what carries something: walked for each output position, or spread.

A weight row times a value is a product of pairs of bytes in 16 bits; what no product and no sum may carry over is
checked here, from the largest value and the largest weight.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ttfsc.backends.c import pile
from ttfsc.backends.c.cost import gather_cost, pile_cost, pixel_cost, walk_cost
from ttfsc.backends.c.fast import (
    HALF,
    Shape,
    block_of,
    byte_block,
    codes_of,
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

_NAMES = {"gathered rows": "merging lists", "piled rows": "piling", "walked lists": "walking"}
LARGEST = 2**16 - 1  # value of an entry
SPREAD = 32  # outputs at most
NARROW = 16  # outputs of the narrowest row
SUMS = 64 << 10  # bytes of a tile
PILES = 128 << 10  # the same, where the rows at its edges are visited twice
BYTES = 1.6  # how much dearer gathering is where large weights take a byte each
FEW = 8  # entries that 16 bits must hold, or taking them apart costs more than it saves


Synapses = Conv2d | Dense
Way = Literal["gathered rows", "piled rows", "walked lists", "dense pixels"]


@dataclass(frozen=True, slots=True)
class Option:
    """How one op could be computed: outputs that lie together, what it would cost, and what where AVX-512 is found."""

    way: Way
    block: int
    cost: float
    best: float

    def width(self, shape: Shape) -> int:
        """Outputs, filled up to whole blocks."""
        return -(-shape.outputs // self.block) * self.block


@dataclass(frozen=True, slots=True)
class Method:
    """How the synapse ops of a layer are computed: outputs that lie together, output rows at a time."""

    walk: bool  # spikes: walked, not gathered
    block: int
    tile: int
    kernel: str
    reason: str
    cost: float
    ways: dict[str, Option] = field(default_factory=dict[str, Option])  # of every op
    spared: float = 0.0  # of the cost, where the C finds AVX-512

    @property
    def best(self) -> float:
        """What it costs there."""
        return self.cost - self.spared


def method_of(parts: Parts, ops: list[Synapses], uacc: str, size: tuple[int, int]) -> Method:
    """The cheapest ways of all ops of a layer whose output positions are `size`, among those whose sums lie alike."""
    shapes = {op.name: shape_of(op, parts.values[op.x], parts.net.arrays[op.w]) for op in ops}
    found = {op.name: options_of(parts, op, shapes[op.name], uacc, size[0] * size[1]) for op in ops}
    widths = {c.width(shapes[name]) for name, able in found.items() for c in able}
    ways = list[dict[str, Option]]()
    for width in sorted(widths):
        able = {name: [c for c in some if c.width(shapes[name]) == width] for name, some in found.items()}
        if all(able.values()):
            ways.append({name: min(some, key=lambda c: c.cost) for name, some in able.items()})
    best = min(ways, key=lambda one: sum(c.cost for c in one.values()))
    return described(parts, shapes, found, best, uacc, size)


def options_of(parts: Parts, op: Synapses, shape: Shape, uacc: str, positions: int) -> list[Option]:
    """Every way that can compute an op."""
    x, w, t = parts.values[op.x], parts.net.arrays[op.w], parts.net.type_of(op.x)
    blocks, cpus = (block_of(shape, w, spikes=False), narrow_block(shape)), (parts.cpu, parts.cpu.widest)
    if not isinstance(t, Spikes):
        cost = pixel_cost(shape, positions, parts.cpu)
        return [Option("dense pixels", block, cost, cost) for block in (min(blocks), *blocks)]
    here, best = (gather_cost(shape, positions, cpu, t) for cpu in cpus)
    half = block_of(shape, w, spikes=True)
    found = [Option("gathered rows", half, here, best)]
    if half == HALF:
        found.append(Option("gathered rows", blocks[0], here * BYTES, best * BYTES))
    elif walkable(shape, x, w, uacc):
        cost = walk_cost(shape, positions, parts.cpu, ramp=op.kernel == "ramp")
        found.append(Option("walked lists", blocks[1], cost, cost))
    if parts.cpu.vectors and pile.pileable(shape, x, w, uacc):  # in plain C gathering is as fast
        how = t.ticks, pile.slides(shape), pile.piled(shape)
        known = pile.is_sorted(parts, op.x, shape, t.ticks)
        here, best = (pile_cost(shape, positions, cpu, *how, is_sorted=known) for cpu in cpus)
        found.append(Option("piled rows", byte_block(shape), here, best))
    return found


def described(
    parts: Parts, shapes: dict[str, Shape], found: dict[str, list[Option]], ways: dict[str, Option], uacc: str,
    size: tuple[int, int],
) -> Method:  # fmt: skip
    """The ways that were chosen, with the tile of the dearest op and the reason."""
    high, wide = size
    name = max(ways, key=lambda name: ways[name].cost)
    most, shape = ways[name], shapes[name]
    bits, total = f"sums of {uacc[4:-2]} bits", sum(c.cost for c in ways.values())
    if most.way == "dense pixels":
        tile = min(high, max(4, SUMS // (16 * wide * shape.outputs * shape.groups)))
    elif most.way == "gathered rows":
        tile, bits = tile_of(list(shapes.values()), high, wide, parts.cpu.l2), f"the lists fit the cache; {bits}"
    else:
        room = SUMS if most.way == "walked lists" else PILES
        tile = max(1, min(high, room // (4 * wide * shape.outputs * shape.groups)))
    others = {c.way: c.cost for c in sorted(found[name], key=lambda c: -c.cost) if c.way != most.way}
    versus = " and ".join(f"{cost:.1f} of {_NAMES[way]}" for way, cost in others.items())
    why = f"{most.cost:.1f} kilocycles against {versus}; " if others else ""
    beside = {f"{c.way}, {c.block} outputs": c.cost for key, c in ways.items() if key != name}
    why += "".join(f"beside it {text}: {cost:.1f}; " for text, cost in beside.items())
    halves = " of half bytes" if most.block == HALF else ""
    why += f"{tile} of {high} rows at a time" + (": " if "lists" in bits else "; ") + bits
    kernel = f"{most.way}, {most.block} outputs{halves}"
    spared = total - sum(c.best for c in ways.values())
    return Method(most.way == "walked lists", most.block, tile, kernel, why, round(total, 1), ways, round(spared, 1))


def narrow_block(shape: Shape) -> int:
    """Outputs of a row: 16 where there are no more, else 64 or 32."""
    if shape.outputs <= NARROW and shape.groups == 1:
        return NARROW
    return byte_block(shape)


def lower_bundle(parts: Parts, op: Synapses, key: str, step: int, *, uacc: str, method: Method, wide: int) -> Bundle:
    """One op of a fast layer, by its own way; wide: output positions of a row."""
    option = method.ways[op.name]
    match option.way:
        case "gathered rows":
            pixels = method.tile * wide
            return lower_gather(parts, op, key, step, uacc=uacc, block=option.block, pixels=pixels, wide=wide)
        case "walked lists":
            return lower_walk(parts, op, key, step, uacc=uacc, block=option.block, wide=wide)
        case "piled rows":
            return pile.lower_pile(parts, op, key, step, wide=wide)
        case "dense pixels":
            return lower_direct(parts, op, key, step, uacc=uacc, block=option.block, wide=wide)


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
    pooled, types = shape.pooled, {"x": value, "hits": hits, "bytes": block}
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
