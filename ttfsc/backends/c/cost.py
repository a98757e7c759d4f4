"""What the fast kernels are expected to cost, in thousands of cycles for one input; constants from measuring them.

Row additions go by vectors, so they cost what the processor adds at once; lists are scalar work.
"""

import math
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
BUCKET = 1.4  # to sort one by row and value
LAY = 0.7  # to lay out one input for an output
LAID = 0.2  # to lay out one input for dot products
DOT = 0.7  # cycles of the time stamp counter, at 0.7 of the clock: 16 outputs, four inputs
DOT_PAIRS = 1.9  # the same by AVX2
DOT_FAR = 1.3  # how much dearer the former is where the weights are more than NEAR bytes
NEAR = 32 << 10
SEGMENT = 20.0  # to begin with a kernel row
PLAIN = 1.8  # how much dearer a walked row is in plain C; measured without pooling, whose rows are counted too high


def row_cycles(cpu: Cpu, narrow: float, wide: float) -> float:
    """Cycles for 64 outputs of one row, on a processor that adds 16 bytes at once or one that adds 64."""
    return wide if cpu.adds >= 64 else narrow


def asked_cycles(cpu: Cpu, narrow: float, wide: float) -> float:
    """The same of kernels that ask the processor for more; 32 bytes at once cost about the geometric mean."""
    return wide if cpu.asks >= 64 else narrow if cpu.asks < 32 else math.sqrt(narrow * wide)


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
        * (sort + positions * (lists + (rows + 4 * min(ticks, 5)) * vectors * asked_cycles(cpu, 2.6, 1.3)))
        / 1000
    )


def walk_cost(shape: "Shape", positions: int, cpu: Cpu, *, ramp: bool) -> float:
    """One list for the layer, rows times values; sums over pooling windows carry something more often."""
    rows = (1 - (1 - FIRING) ** shape.pool) * shape.kernel * shape.channels
    vectors = max(shape.outputs, 16) / 64
    row = row_cycles(cpu, 7.0, 3.2) if ramp else row_cycles(cpu, 4.5, 2.5)
    row *= PLAIN if shape.pool == 1 and not cpu.vectors else 1
    segments = shape.fields[12] * SEGMENT
    listed = looked_at(shape) * LIST
    blocks = -(-shape.outputs // 64)
    return shape.groups * (listed + positions * (segments * blocks + rows * vectors * row)) / 1000


def pile_cost(
    shape: "Shape", positions: int, cpu: Cpu, ticks: int, slides: bool, piled: int, *, is_sorted: bool
) -> float:
    """Spikes sorted row by row, then every value of every row of a window begun, piled up and added."""
    sort = 0.0 if is_sorted else looked_at(shape) * BUCKET
    rows = FIRING * shape.kernel * shape.channels
    blocks = -(-shape.outputs // 64)
    visits = positions * blocks / (1 if slides else piled) * ticks * (1 if slides else shape.fields[12])
    added = positions * blocks * rows * asked_cycles(cpu, 2.2, 0.75)
    taken = positions * blocks * ticks * shape.fields[12] * asked_cycles(cpu, 6.0, 2.0)
    far = shape.rows * shape.outputs
    brought = far / 64 * 5 if far > cpu.l2 // 2 else 0
    return (sort + visits * asked_cycles(cpu, 20.0, 6.0) + added + taken + brought) / 1000


def pixel_cost(shape: "Shape", positions: int, cpu: Cpu) -> float:
    """Every input times its row."""
    rows = shape.kernel * shape.channels * shape.groups
    return round(positions * rows * max(shape.outputs, 16) / 64 * row_cycles(cpu, 6.0, 3.0) / 1000, 1)


def dot_cost(shape: "Shape", positions: int, quads: int, *, ramp: bool, level: int) -> float:
    """Every input times every weight, 64 products at once (level 2) or 32 in two steps; quads: fours of inputs."""
    products = positions * quads * -(-shape.outputs // 16) * (2 if ramp else 1)
    laid = looked_at(shape) * LAID * (2 if ramp else 1)
    each = DOT_PAIRS if level == 1 else DOT * DOT_FAR if 4 * quads * shape.outputs > NEAR else DOT
    return (products * each + laid) / 1000


def depth_cost(shape: "Shape", positions: int, cpu: Cpu, own: int, *, ramp: bool, narrow: bool) -> float:
    """Every tap of every output multiplied, 16 at once; own: inputs that are laid out for their outputs first."""
    products = positions * shape.kernel * shape.pool * shape.channels * shape.outputs * shape.groups
    each = row_cycles(cpu, 4.0, 2.0) if narrow else row_cycles(cpu, 12.0, 6.0)
    return (products / 16 * each * (1.5 if ramp else 1) + own * LAY) / 1000
