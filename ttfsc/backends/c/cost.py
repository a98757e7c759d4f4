"""What the fast kernels are expected to cost, in thousands of cycles for one input; constants from measuring them.

Row additions go by vectors, so they cost what the processor adds at once; lists are scalar work.
"""

from typing import TYPE_CHECKING

from ttfsc.backends.c.cpu import Cpu
from ttfsc.ir import Spikes, Type

if TYPE_CHECKING:
    from ttfsc.backends.c.fast import Shape

FIRING = 0.3  # share of inputs that the planner expects to fire
MERGE = 8.0  # cycles to look at the spikes of one value of one input position
MOVE = 1.2  # to put one spike into the list of an output position
SORT = 2.5  # to sort one channel by value
LIST = 1.8  # to list it
SEGMENT = 20.0  # to begin with a kernel row


def row_cycles(cpu: Cpu, narrow: float, wide: float) -> float:
    """Cycles for 64 outputs of one row, between a processor that adds 16 bytes at once and one that adds 64."""
    return wide if cpu.adds >= 64 else narrow


def looked_at(shape: "Shape") -> int:
    """Inputs of a group, as often as a pooling window holds them."""
    return shape.fields[4] * shape.fields[5] * shape.channels * shape.pool


def gather_cost(shape: "Shape", positions: int, cpu: Cpu, t: Type) -> float:
    """Lists merged for every output position, rows added eight by eight."""
    ticks = t.ticks if isinstance(t, Spikes) else 1
    rows = FIRING * shape.kernel * shape.pool * shape.channels
    vectors = -(-shape.outputs // 64)
    lists = MERGE * shape.kernel * ticks + MOVE * rows
    sort = looked_at(shape) * SORT
    return (
        shape.groups
        * (sort + positions * (lists + (rows + 4 * min(ticks, 5)) * vectors * row_cycles(cpu, 2.6, 1.3)))
        / 1000
    )


def walk_cost(shape: "Shape", positions: int, cpu: Cpu, *, ramp: bool) -> float:
    """One list for the layer, rows times values; sums over pooling windows carry something more often."""
    rows = (1 - (1 - FIRING) ** shape.pool) * shape.kernel * shape.channels
    vectors = max(shape.outputs, 16) / 64
    row = row_cycles(cpu, 7.0, 3.2) if ramp else row_cycles(cpu, 4.5, 2.5)
    segments = shape.fields[12] * SEGMENT
    listed = looked_at(shape) * LIST
    blocks = -(-shape.outputs // 64)
    return shape.groups * (listed + positions * (segments * blocks + rows * vectors * row)) / 1000


def pixel_cost(shape: "Shape", positions: int, cpu: Cpu) -> float:
    """Every input times its row."""
    rows = shape.kernel * shape.channels * shape.groups
    return round(positions * rows * max(shape.outputs, 16) / 64 * row_cycles(cpu, 6.0, 3.0) / 1000, 1)
