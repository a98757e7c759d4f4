"""How large a membrane can get: bounds that hold for every possible input (semantics.md, Exactness)."""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from ttfsc.ir.arrays import Const
from ttfsc.ir.net import Net
from ttfsc.ir.ops import Add, Conv2d, Decode, Dense, Fire, Flatten, Identity, Op
from ttfsc.ir.types import Analog, Potential, Scores, Spikes

Ints = npt.NDArray[np.int64]
Big = npt.NDArray[Any]  # of Python integers, which have no width to overflow
Range = tuple[int, int]

LIMIT = 2**60  # bounds stop here: larger ones say "at least this", and their sums still fit 64 bits


@dataclass(frozen=True)
class Bounds:
    """Per output channel, smallest and largest possible: the sum S, the slope W, and V(n) over a whole window.

    They hold for every prefix of the sums too, in any order of the inputs, as long as the bias comes first and the
    slope is added tick by tick: an accumulator that holds the bounds never wraps on the way. `terms` bounds sums in any
    order at all: the magnitudes of everything that is ever added, bias and slope included.
    """

    s: tuple[Ints, Ints]
    w: tuple[Ints, Ints]
    v: tuple[Ints, Ints]
    terms: Ints

    def __add__(self, other: "Bounds") -> "Bounds":
        pairs = zip((self.s, self.w, self.v), (other.s, other.w, other.v), strict=True)
        s, w, v = ((_held(a[0] + b[0]), _held(a[1] + b[1])) for a, b in pairs)
        return Bounds(s, w, v, _held(self.terms + other.terms))

    @property
    def largest(self) -> int:
        """The largest magnitude that S, W or V(n) can take in any channel."""
        return max(int(np.abs(part).max(initial=0)) for pair in (self.s, self.w, self.v) for part in pair)

    @property
    def membrane(self) -> Range:
        """The smallest and the largest V(n) of any channel."""
        return int(self.v[0].min()), int(self.v[1].max())


def bounds_of(net: Net) -> dict[str, Bounds]:
    """Bounds of every potential of an integer net, by value name, one number per channel ([C]; [N] behind a flatten).

    Nothing is rounded and nothing wraps: numbers beyond +-2^60 are given as +-2^60.
    """
    found = dict[str, Bounds]()
    for op in net.ops:
        match op:
            case Conv2d() | Dense():
                found[op.name] = _synapse(net, op, _window(net, op))
            case Add():
                found[op.name] = reduce(lambda a, b: a + b, (found[x] for x in op.xs))
            case Flatten() | Identity() if op.x in found:
                found[op.name] = _flattened(found[op.x], net.type_of(op.x), op)
            case _:
                pass
    return found


def _window(net: Net, op: Op) -> int:
    """The largest n at which any reader looks at this potential: T-1 for a fire, T for a windowed read-out."""
    assert isinstance(op.type, Potential)
    if op.type.closes is not None:
        return op.type.closes - op.type.opens - 1
    latest = 0
    for user in net.users[op.name]:
        match user:
            case Fire(type=Spikes() as t):
                latest = max(latest, t.ticks - 1)
            case Decode(type=Scores() as t):
                latest = max(latest, t.ticks)
            case Add() | Flatten() | Identity():
                latest = max(latest, _window(net, user))
            case _:
                pass
    return latest


def _synapse(net: Net, op: Conv2d | Dense, latest: int) -> Bounds:
    x, w = net.type_of(op.x), net.arrays[op.w]
    rows = w.reshape(len(w), -1)
    fold = op.pool[0] * op.pool[1] if isinstance(op, Conv2d) else 1
    positive = np.maximum(rows, 0).sum(1, dtype=np.int64).astype(object) * fold
    negative = np.minimum(rows, 0).sum(1, dtype=np.int64).astype(object) * fold
    bias, drift = _constant(net, op.bias, len(w)), _constant(net, op.drift, len(w))
    terms = np.maximum(-bias[0], bias[1]) + np.maximum(-drift[0], drift[1]) * latest
    if op.kernel == "leak":  # a constant fades, so it cannot be counted upon to hold the others back
        bias, drift = _with_zero(bias), _with_zero(drift)
    slope = (0, 0)
    if isinstance(x, Analog):
        low, high = min(x.low, 0), max(x.high, 0)  # padding contributes 0
        arriving = (positive * low + negative * high, positive * high + negative * low)
        largest = max(-low, high)
    else:
        assert isinstance(x, Spikes)
        largest = x.ticks if op.kernel in ("hold", "ramp") else 1
        arriving = (negative * largest, positive * largest)
        if op.kernel == "ramp":
            slope, terms = (negative, positive), terms + (positive - negative) * latest
    arrivals = latest + 1 if op.every else 1
    s = (arriving[0] * arrivals + bias[0], arriving[1] * arrivals + bias[1])
    slope = (slope[0] + drift[0], slope[1] + drift[1])
    v = (np.minimum(s[0], s[0] + slope[0] * latest), np.maximum(s[1], s[1] + slope[1] * latest))
    terms = terms + (positive - negative) * (largest * arrivals)
    return Bounds(_pair(s), _pair(slope), _pair(v), _held(terms))


def _constant(net: Net, name: Const | None, channels: int) -> tuple[Big, Big]:
    """Smallest and largest per channel; 0 where there is none."""
    if name is None:
        return np.zeros(channels, object), np.zeros(channels, object)
    values = net.arrays[name].reshape(channels, -1)
    return values.min(1).astype(object), values.max(1).astype(object)


def _with_zero(pair: tuple[Big, Big]) -> tuple[Big, Big]:
    return np.minimum(pair[0], 0), np.maximum(pair[1], 0)


def _flattened(bounds: Bounds, before: object, op: Op) -> Bounds:
    assert isinstance(before, Potential)
    repeat = before.size // before.shape[0] if len(op.type.shape) < len(before.shape) else 1
    s, w, v = ((np.repeat(a, repeat), np.repeat(b, repeat)) for a, b in (bounds.s, bounds.w, bounds.v))
    return Bounds(s, w, v, np.repeat(bounds.terms, repeat))


def _pair(pair: tuple[Big, Big]) -> tuple[Ints, Ints]:
    return _held(pair[0]), _held(pair[1])


def _held(values: Big) -> Ints:
    return np.clip(values, -LIMIT, LIMIT).astype(np.int64)
