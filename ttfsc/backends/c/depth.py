"""Convolutions in groups of few channels, depthwise ones above all: outputs across the lanes, every tap multiplied.

The kernels that add weight rows need many outputs to an input; here each output has inputs of its own. So every tap is
a product of a row of inputs and a row of weights, whether the inputs fired or not, and 16 outputs are one vector. Sums
run modulo 2^16 or 2^32 as in fast.py: the true ones are proven to fit, so nothing else has to be checked.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ttfsc.backends.c.cost import depth_cost, gather_cost, walk_cost
from ttfsc.backends.c.fast import Shape, shape_of
from ttfsc.backends.c.kernels import instance
from ttfsc.backends.c.pack import Code, Packed
from ttfsc.backends.c.parts import Parts
from ttfsc.backends.c.plan import Depth
from ttfsc.backends.c.walk import Method
from ttfsc.ir import Array, Conv2d, Dense, Grid, show_op

BLOCK = 32  # outputs whose sums stay in registers
LANES = 32  # outputs of a group that fill the rows of other kernels
OWN = 1 << 20  # bytes of inputs laid out for every output, at most
SUMS = 16 << 10  # bytes of a tile
Op = Conv2d | Dense


def split_ops(parts: Parts, ops: Sequence[Op], grid: Grid) -> tuple[list[Op], list[Op]]:
    """Ops that are computed output by output, and those that weight rows are added for; grid: of the outputs.

    Groups that fill no rows are of the first kind, and all groups beside ops that are grouped otherwise.
    """
    able = [op for op in ops if isinstance(op, Conv2d) and op.groups > 1 and own_bytes(_shape(parts, op)) <= OWN]
    depth = [op for op in able if cheaper(parts, op, grid)]
    others = [op for op in ops if op not in depth]
    if len({op.groups if isinstance(op, Conv2d) else 1 for op in others}) > 1:
        return list[Op](able), [op for op in ops if op not in able]
    return list[Op](depth), others


def cheaper(parts: Parts, op: Op, grid: Grid) -> bool:
    """Whether an op costs less here than by weight rows; groups that do not fill these have no choice."""
    shape, positions, ramp = _shape(parts, op), grid[1] * grid[2], op.kernel == "ramp"
    if shape.outputs % LANES != 0:
        return True
    rows = min(
        gather_cost(shape, positions, parts.cpu, parts.net.type_of(op.x)),
        walk_cost(shape, positions, parts.cpu, ramp=ramp),
    )
    return depth_cost(shape, positions, parts.cpu, own_bytes(shape), ramp=ramp, narrow=True) < rows


def _shape(parts: Parts, op: Op) -> Shape:
    return shape_of(op, parts.values[op.x], parts.net.arrays[op.w])


def own_bytes(shape: Shape) -> int:
    """Elements of the operand as every output's own inputs; 0: it lies so already."""
    return 0 if shape.outputs == 1 and shape.channels == 1 else _cell(shape) * shape.fields[0] * shape.fields[1]


def _cell(shape: Shape) -> int:
    return shape.channels * shape.outputs * shape.groups


def with_depth(parts: Parts, ops: Sequence[Op], method: Method | None, uacc: str, grid: Grid) -> Method:
    """How a layer is computed of which `ops` are done here and the rest, if any, by `method`."""
    if not ops:
        assert method is not None
        return method
    cost, (outputs, high, wide) = 0.0, grid
    for op in ops:
        shape, x = _shape(parts, op), parts.values[op.x]
        narrow, ramp = uacc == "uint16_t" and x.ctype == "uint8_t", op.kernel == "ramp"
        cost += depth_cost(shape, high * wide, parts.cpu, own_bytes(shape), ramp=ramp, narrow=narrow)
    one = _shape(parts, ops[0])
    kernel = "depthwise taps" if one.channels == 1 else f"taps of {one.channels} channels"
    if method is not None:
        more = f"beside it {kernel}, {cost:.1f} kilocycles; "
        return replace(
            method, kernel=f"{method.kernel}, {kernel}", reason=more + method.reason, cost=round(method.cost + cost, 1)
        )
    tile = max(1, min(high, SUMS // (2 * wide * outputs)))  # sums stay in the first cache until they are fired
    why = f"groups of {one.outputs} outputs fill no rows; {tile} of {high} rows at a time; sums of {uacc[4:-2]} bits"
    return Method(False, BLOCK, tile, kernel, why, round(cost, 1))


def lower_depth(parts: Parts, op: Op, key: str, step: int, *, uacc: str, width: int, wide: int) -> Depth:
    """One op; width: sums of an output position, wide: output positions of a row."""
    assert isinstance(op, Conv2d)
    x, w = parts.read(op.x, step), parts.net.arrays[op.w]
    shape = _shape(parts, op)
    weights = parts.packed(op, rows_of(w, shape))
    f = shape.fields
    fields = (*f[:2], shape.channels, len(w), *f[4:20], wide, width, shape.groups)
    own = own_bytes(shape)
    return Depth(
        instance("depth_tile", uacc=uacc, x=x.ctype, block=BLOCK),
        parts.geometry(key, "depth", fields, show_op(op)),
        x,
        weights.name,
        weights.offset,
        op.kernel == "ramp",
        lay=instance("own_inputs", x=x.ctype) if own else None,
        own=parts.buffer(x.ctype, own, step) if own else None,
    )


def rows_of(w: Array, shape: Shape) -> Packed:
    """[taps, channels of a group, outputs] signed bytes of weights [out, in, kh, kw]."""
    rows = np.ascontiguousarray(w.transpose(2, 3, 1, 0), np.int8).reshape(shape.kernel * shape.channels, len(w))
    return Packed(Code(8, 1, 0), len(w), rows.view(np.uint8).ravel())
