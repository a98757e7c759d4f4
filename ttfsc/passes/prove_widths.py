"""Prove how wide every accumulator must be: 16 or 32 bits, or refuse the layer.

    %a = fire %v theta=@t          =>   %a = fire %v theta=@t width=16
    %o = decode %u rule=membrane        %o = decode %u rule=membrane width=32

From bounds that hold for every input the net can be given (`ttfsc.ir.bounds_of`). A width holds when the sum S, the
slope W, the membrane V(n) at every tick, all partial sums on the way (in any order, bias added first or last) and the
thresholds lie inside it.
"""

from dataclasses import replace

import numpy as np

from ttfsc.ir import (
    Array,
    Bounds,
    Const,
    Conv2d,
    Decode,
    Dense,
    Fault,
    Fire,
    Net,
    Op,
    TtfsError,
    bounds_of,
    codes,
    is_integer,
)  # fmt: skip
from ttfsc.passes.rewrite import read_potential


def prove_widths(net: Net) -> Net:
    """The net with a width on every fire and decode.

    Raises TtfsError: TTFS009 for every layer that needs more than 32 bits, with its numbers; TTFS006 for a real net.
    """
    if not is_integer(net):
        raise TtfsError.one(codes.STAGE, "holds real weights: run quantize first", subject=f"net @{net.name}")
    exact = bounds_of(net)
    sides = [exact, *(bounds_of(part) for part in _one_sided(net))]
    ops, faults = list[Op](), list[Fault]()
    for op in net.ops:
        if isinstance(op, Fire | Decode):
            need = _need(net, op, sides)
            if need >= 2**31:
                faults.append(Fault(codes.WIDTH, op.loc, op.subject, _refusal(op, need, exact)))
            op = replace(op, width=16 if need < 2**15 else 32)
        ops.append(op)
    if faults:
        raise TtfsError(faults)
    return net.with_ops(ops)


def _one_sided(net: Net) -> list[Net]:
    """The net with only the positive, and with only the negative constants: together they bound every partial sum."""
    consts = {c for op in net.ops if isinstance(op, Conv2d | Dense) for c in (op.bias, op.drift) if c is not None}
    if not consts:
        return []
    upper: dict[Const, Array] = {c: np.maximum(net.arrays[c], 0) for c in consts}
    lower: dict[Const, Array] = {c: np.minimum(net.arrays[c], 0) for c in consts}
    return [net.with_ops(net.ops, upper), net.with_ops(net.ops, lower)]


def _need(net: Net, op: Fire | Decode, sides: list[dict[str, Bounds]]) -> int:
    """The largest magnitude that this layer's arithmetic meets."""
    potential = read_potential(op)
    need = 0 if potential is None else max(bounds[potential].largest for bounds in sides)
    table = op.theta if isinstance(op, Fire) else op.table
    if table is not None and np.issubdtype(net.arrays[table].dtype, np.integer):
        values = net.arrays[table].astype(np.int64)
        need = max(need, int(values.max(initial=0)), -int(values.min(initial=0)))
    return need


def _refusal(op: Fire | Decode, need: int, bounds: dict[str, Bounds]) -> str:
    potential = read_potential(op)
    numbers = f"thresholds reach {need}"
    if potential is not None:
        b = bounds[potential]
        s, w, v = (max(int(np.abs(a).max(initial=0)) for a in pair) for pair in (b.s, b.w, b.v))
        numbers = f"|S| reaches {s}, |W| {w}, |V| {v}"
    return (
        f"{numbers}: needs {need.bit_length() + 1} bits of at most 32; use fewer bits, fewer ticks or a smaller fan-in"
    )
