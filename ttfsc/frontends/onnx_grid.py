"""Sums of branches quantised with different steps: ONNX adds real numbers, membranes add integers of one unit.

The branch with the finest unit keeps its integers. Others keep theirs where their unit is a whole multiple of it, and
are rounded anew onto it where not; a note says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ttfsc.frontends.tape import Tape
from ttfsc.frontends.value import Value
from ttfsc.ir import Add, Array, BatchNorm, Conv2d, Dense, Fire, Flatten, Input, Ref, Synapse

_TICKS = 16  # of layers that were not trained for a number
_SAME = 1e-6


def one_grid(tape: Tape, total: Value) -> Value:
    """Give up the steps of branches that do not fit the finest one's."""
    units = {
        op.name: (op, _unit(tape, op) * factor) for op, factor in _branches(tape, total.ref, np.ones(1)) if op.step
    }
    if len(units) < 2:
        return total
    _, finest = min(units.values(), key=lambda found: float(np.mean(found[1])))
    for op, unit in units.values():
        ratio = unit / finest
        off = np.abs(ratio - np.rint(ratio)) > _SAME * ratio
        if off.any():
            at = next(i for i, other in enumerate(tape.builder.ops) if other.name == op.name)
            tape.builder.ops[at] = replace(op, step=None)
            fact = f"its integers are worth {ratio[np.argmax(off)]:.4g} of those of a branch it is added to"
            tape.note(f"{op.subject}: {fact}, no whole number: its weights are rounded anew onto that grid")
    return total


def _branches(tape: Tape, ref: Ref, factor: Array) -> Iterator[tuple[Synapse, Array]]:
    """The synapses of a membrane, and what each of their channels is multiplied by on the way."""
    match tape.op(ref):
        case Add() as op:
            for x in op.xs:
                yield from _branches(tape, x, factor)
        case BatchNorm() as op:
            yield from _branches(tape, op.x, factor * np.abs(tape.arrays[op.scale]))
        case Flatten() as op:
            yield from _branches(tape, op.x, np.ones(1))
        case Conv2d() | Dense() as op:
            yield op, factor
        case _:
            pass


def _unit(tape: Tape, op: Synapse) -> Array:
    """The real worth of one integer of the membrane, per channel."""
    assert op.step is not None
    source = tape.op(op.x)
    while not isinstance(source, Input | Fire):
        (ref,) = source.operands()
        source = tape.op(ref)
    worth = source.scale if isinstance(source, Input) else 1 / (source.ticks or _TICKS)
    return tape.arrays[op.step].astype(np.float64) * worth
