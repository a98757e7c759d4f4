"""Threshold tables as straight lines: a whole window fires by one division instead of a comparison a tick.

A quantised ReLU's table is `theta[n] = ceil(A - B n)` for some reals A and B (semantics.md, Firing). Here they are
looked for, and taken only with a proof: the line must stand between theta[n]-1 and theta[n] at every tick where some
membrane of the layer could tell the difference. All proofs are on integers, or on the very floats that will be used.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]

_MAX_SCALE = 20  # finest grid tried for the line: multiples of 2^-20
_MAX_WORK = 2**31  # pairs of ticks looked at


@dataclass(frozen=True)
class Room:
    """Where the line may pass at tick n: above `low` (not on it), at most `high`. [..., T]"""

    low: Ints
    high: Ints


@dataclass(frozen=True)
class Line:
    """A - B n; each [...], multiples of 2^-scale (scale 0..20), or any floats where scale is -1."""

    start: Reals
    slope: Reals
    scale: int = -1


def room_of(theta: Ints, least: Ints, most: Ints) -> Room:
    """Freedom that a table leaves, given that membranes stay inside least..most (broadcastable to theta, last axis 1).

    A threshold above every membrane may lie anywhere above them, one below every membrane anywhere below; "anywhere"
    ends where a line through any two ticks within reach has long passed.
    """
    beyond = (most - least + 2) * theta.shape[-1]
    low = np.where(theta > most, most, np.where(theta <= least, least - beyond, theta - 1))
    high = np.where(theta > most, most + beyond, np.where(theta <= least, least, theta))
    return Room(low, high)


def grid_line(room: Room) -> Line | None:
    """The coarsest dyadic line through the room, the same grid for all neurons; None where there is none."""
    slopes = _slopes(room)
    if slopes is None:
        return None
    n: Ints = np.arange(room.low.shape[-1], dtype=np.int64)
    middle = (slopes[0] + slopes[1]) / 2
    largest = max(float(np.abs(middle).max()) * len(n), float(np.abs(room.low).max()), float(np.abs(room.high).max()))
    for scale in range(_MAX_SCALE + 1):
        if largest * 2.0**scale > 2**60:
            return None  # the sums below are in 64 bits
        b = np.rint(middle * 2.0**scale).astype(np.int64)
        start: Ints = (room.high * 2**scale + b[..., None] * n).min(-1)
        if (start > (room.low * 2**scale + b[..., None] * n).max(-1)).all():
            return Line(start / 2.0**scale, b / 2.0**scale, scale)
    return None


def middle_line(room: Room) -> Line | None:
    """The line as far as possible from the room's walls, in reals; for `holds_exactly` to confirm."""
    slopes = _slopes(room)
    if slopes is None:
        return None
    n: Ints = np.arange(room.low.shape[-1], dtype=np.int64)
    slope = (np.maximum(slopes[0], 0) + slopes[1]) / 2
    if not (slope > 0).all():
        return None
    low: Reals = room.low + slope[..., None] * n
    high: Reals = room.high + slope[..., None] * n
    return Line((low.max(-1) + high.min(-1)) / 2, slope)


def _slopes(room: Room) -> tuple[Reals, Reals] | None:
    """Between which slopes (both exclusive) a line fits, from every pair of ticks; None where none does."""
    ticks = room.low.shape[-1]
    if ticks < 2 or ticks * room.low.size > _MAX_WORK:
        return None
    least = np.full(room.low.shape[:-1], -np.inf)
    most = np.full(room.low.shape[:-1], np.inf)
    for gap in range(1, ticks):
        before, after = np.s_[..., : ticks - gap], np.s_[..., gap:]
        least = np.maximum(least, ((room.low[before] - room.high[after]) / gap).max(-1))
        most = np.minimum(most, ((room.high[before] - room.low[after]) / gap).min(-1))
    return (least, most) if (least < most).all() else None


def holds_exactly(
    offset: Reals, slope: Reals, theta: Ints, least: Ints, most: Ints, dtype: type[np.float32] | type[np.float64]
) -> bool:
    """Whether `floor((V - offset) / slope)`, computed in dtype and clipped to 0..T, counts the thresholds of a falling
    table that V reaches, for every integer V in least..most.

    Each rounded operation is monotone in V, so it is enough to look on both sides of every threshold.
    """
    ticks = theta.shape[-1]
    want: Ints = ticks - np.arange(ticks, dtype=np.int64)  # reaching theta[n] means a value of at least T - n
    a, b = offset[..., None].astype(dtype), slope[..., None].astype(dtype)
    if not (b > 0).all():
        return False

    def counted(v: Ints) -> npt.NDArray[np.floating]:
        return np.floor((v.astype(dtype) - a) / b)

    reached: npt.NDArray[np.bool_] = (theta > most) | (counted(np.clip(theta, least, most)) >= want)
    missed: npt.NDArray[np.bool_] = (theta <= least) | (counted(np.clip(theta - 1, least, most)) < want)
    return bool(reached.all() and missed.all())


def rises_exactly(line: Line, ticks: int, s_most: int, r_most: float, bits: int) -> bool:
    """Whether `ceil((A - S) / (W + B))` gives the first tick n < T with S + W n >= A - B n, in floats of `bits` bits.

    A, B are multiples of 2^-scale, so numerator p and denominator r are exact when they fit the mantissa. The quotient
    is correctly rounded, hence monotone: p/r <= n stays so. p/r > n means p - n r >= 2^-scale, and survives rounding
    when 2^-scale / r is more than half the spacing of floats above n <= T-1.

    s_most: largest |S|; r_most: largest W + B.
    """
    unit = 2.0**line.scale
    p_most = (float(np.abs(line.start).max()) + s_most) * unit
    half_spacing_bits = max(ticks - 1, 1).bit_length() - 1
    return p_most < 2.0**bits and r_most * unit < 2.0 ** (bits - half_spacing_bits)
