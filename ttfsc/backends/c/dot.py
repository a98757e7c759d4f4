"""Synapse ops as dot products of bytes: every input times every weight, four products and their sum in one 32-bit lane.

Outputs lie across the lanes (runtime/dot.c), so nothing is added up in the end, and a vector of weights serves all the
output positions whose sums are in registers. It pays where most inputs carry something, as sums over pooling windows
do, or where an input feeds too few outputs for rows. The number of spikes of a pooling window is a second plane, so
`ramp` costs twice what `hold` does. Processors without such instructions take the way that was planned beside it.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ttfsc.backends.c.cost import dot_cost
from ttfsc.backends.c.fast import Shape, channel_last, shape_of
from ttfsc.backends.c.kernels import Instance, instance
from ttfsc.backends.c.pack import Code, Packed
from ttfsc.backends.c.parts import Parts
from ttfsc.backends.c.plan import Dot, Operand
from ttfsc.backends.c.walk import Method
from ttfsc.ir import Array, Conv2d, Dense, Grid, show_op

LANES = 16  # outputs of a vector of 32-bit sums
HELD = 24  # vectors of sums that registers hold beside what is being multiplied
SIDE_BY_SIDE = 4  # vectors of outputs that are computed together, at most, where there are several positions
NARROW_HELD = 6  # positions whose 16-bit sums AVX2 holds
WIDEST = 255  # of a value, after pooling
LISTED = 2**16  # bytes that 16 bits tell apart
LISTED_SHARE = 0.8  # of the fours of a row that hold anything, up to which lists are cheaper
PAIR = 2**15 - 1  # sum of two products in 16 bits
Op = Conv2d | Dense


def able(shape: Shape, x: Operand) -> bool:
    """Whether what an op reads fits bytes without sign; its weights always fit bytes with one."""
    return shape.groups == 1 and x.ctype == "uint8_t" and x.low >= 0 and x.high * shape.pool <= WIDEST


def in_pairs(shape: Shape, x: Operand, w: Array, uacc: str) -> bool:
    """Whether AVX2 computes it exactly: pairs of products and, modulo 2^16, sums in 16 bits."""
    largest = int(np.abs(w.astype(np.int64)).max(initial=0))
    return uacc == "uint16_t" and 2 * largest * x.high * shape.pool <= PAIR


def with_dots(parts: Parts, ops: Sequence[Op], method: Method, uacc: str, grid: Grid) -> tuple[Method, int]:
    """Which instructions an op's dot products take: 2 AVX-512 VNNI, 1 AVX2 as well, 0: other ways are cheaper."""
    found = [(op, x, w, shape_of(op, x, w)) for op in ops for x, w in [(parts.values[op.x], parts.net.arrays[op.w])]]
    if not parts.cpu.dots or not all(able(shape, x) for _, x, _, shape in found):
        return method, 0
    positions = grid[1] * grid[2]
    costs = [
        sum(dot_cost(s, positions, quads_of(s), ramp=op.kernel == "ramp", level=level) for op, _, _, s in found)
        for level in (1, 2)
    ]
    if costs[1] >= method.best:
        return method, 0
    pairs = all(in_pairs(shape, x, w, uacc) for _, x, w, shape in found)
    level = 1 if pairs and costs[0] < method.cost else 2
    needs = "AVX-512 VNNI or AVX2" if level == 1 else "AVX-512 VNNI"
    also = f", {costs[0]:.1f} with AVX2" if level == 1 else ""
    why = (
        f"{costs[1]:.1f} kilocycles with AVX-512 VNNI{also} against {method.cost:.1f}; without {needs}: {method.kernel}"
    )
    cost = costs[1] if parts.cpu.dots > 1 or level == 2 else costs[0]
    return replace(method, kernel="dot products", reason=why, cost=round(cost, 1)), level


def run_of(shape: Shape) -> int:
    """Taps whose inputs lie side by side."""
    return shape.fields[13] if shape.fields[19] == 1 else 1


def quads_of(shape: Shape) -> int:
    """Fours of inputs of a position."""
    return shape.kernel // run_of(shape) * -(-run_of(shape) * shape.channels // 4)


def lower_dot(parts: Parts, op: Op, key: str, step: int, *, uacc: str, width: int, grid: Grid, level: int) -> Dot:
    """One op; width: sums of an output position, grid: of the outputs."""
    x, w = parts.read(op.x, step), parts.net.arrays[op.w]
    shape, (_, high, wide) = shape_of(op, x, w), grid
    f, ramp = shape.fields, op.kernel == "ramp"
    runs, cells = shape.kernel // run_of(shape), -(-run_of(shape) * shape.channels // 4)
    vectors = -(-shape.outputs // LANES)
    together = max(n for n in range(1, HELD // 3 + 1 if wide == 1 else SIDE_BY_SIDE + 1) if vectors % n == 0)
    planes = 2 if ramp and 2 * together * wide <= HELD else 1
    plane = (high - 1) * f[14] + (f[12] - 1) * f[18] + 1, (wide - 1) * f[15] + (f[13] - 1) * f[19] + 1
    size = plane[0] * plane[1] * shape.channels + 4 + plane[0]  # and which rows carry anything
    weights = parts.packed(op, rows_of(op, x, w, shape, together))
    fields = (*f[:3], *f[4:12], *f[14:20], *plane, runs, f[13] // run_of(shape), cells, wide, width, vectors)
    tile = {"vectors": together, "step": f[15] * shape.channels}
    vnni = instance("dot_vnni", uacc=uacc, planes=planes, places=evenly(wide, HELD // (planes * together)), **tile)
    return Dot(
        instance("dot_lay", x="uint8_t", hits="uint8_t") if shape.pooled else instance("dot_copy"),
        sparse(vnni, shape, plane, together) if ramp and wide > 1 else vnni,
        instance("dot_avx2", places=evenly(wide, NARROW_HELD), **tile) if level == 1 else None,
        parts.geometry(f"{key} dot", "dot", fields, show_op(op)),
        x,
        weights.name,
        weights.offset,
        parts.buffer("uint8_t", size * (2 if ramp else 1), step),
        size,
        ramp,
    )


def sparse(vnni: Instance, shape: Shape, plane: tuple[int, int], vectors: int) -> Instance:
    """The same by lists of the fours of inputs that hold anything, where it pays: `ramp` over pooled sums."""
    fours, (high, wide) = shape.channels // 4, plane
    most = shape.fields[12] * wide * fours
    fits = high * wide * shape.channels < LISTED and (most + quads_of(shape)) * 64 * vectors < LISTED
    if shape.channels % 4 or run_of(shape) == 1 or not shape.pooled or vectors not in (2, 3, 4) or not fits:
        return vnni
    return instance("dot_listed", **dict(vnni.types), most=most, few=int(most * LISTED_SHARE), across=wide)


def evenly(wide: int, most: int) -> int:
    """Positions of a tile, so that as few tiles as possible overlap as little as possible."""
    return -(-wide // -(-wide // most))


def rows_of(op: Op, x: Operand, w: Array, shape: Shape, together: int) -> Packed:
    """[vectors / together, runs, quads, together, 16 outputs, 4] signed bytes."""
    if isinstance(op, Dense):
        taps = channel_last(w, x).reshape(len(w), 1, -1)
    else:
        taps = w.transpose(0, 2, 3, 1).reshape(len(w), shape.kernel // run_of(shape), -1)
    vectors, quads = -(-len(w) // LANES), -(-taps.shape[2] // 4)
    data = np.zeros((vectors * LANES, taps.shape[1], quads * 4), np.int8)
    data[: len(w), :, : taps.shape[2]] = taps
    data = data.reshape(vectors // together, together, LANES, taps.shape[1], quads, 4).transpose(0, 3, 4, 1, 2, 5)
    return Packed(Code(8, 1, 0), 4 * LANES, np.ascontiguousarray(data).view(np.uint8).ravel())
