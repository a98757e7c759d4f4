"""How large a membrane can get: bounds that hold for every possible input (semantics.md, Exactness)."""

from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from ttfsc.ir.net import Net
from ttfsc.ir.ops import Add, Conv2d, Decode, Dense, Fire, Flatten, Identity, Op
from ttfsc.ir.types import Analog, Potential, Scores, Spikes

Ints = npt.NDArray[np.int64]
Range = tuple[int, int]


@dataclass(frozen=True)
class Bounds:
    """Per output channel, smallest and largest possible: the sum S, the slope W, and V(n) over a whole window."""

    s: tuple[Ints, Ints]
    w: tuple[Ints, Ints]
    v: tuple[Ints, Ints]

    def __add__(self, other: "Bounds") -> "Bounds":
        pairs = zip((self.s, self.w, self.v), (other.s, other.w, other.v), strict=True)
        s, w, v = ((a[0] + b[0], a[1] + b[1]) for a, b in pairs)
        return Bounds(s, w, v)

    @property
    def largest(self) -> int:
        """The largest magnitude that S, W or V(n) can take in any channel."""
        return max(int(np.abs(part).max(initial=0)) for pair in (self.s, self.w, self.v) for part in pair)

    @property
    def membrane(self) -> Range:
        return int(self.v[0].min()), int(self.v[1].max())


def bounds_of(net: Net) -> dict[str, Bounds]:
    """Bounds of every potential of an integer net, by value name. Exact integers: nothing is rounded."""
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
    x = net.type_of(op.x)
    w = net.arrays[op.w].astype(np.int64).reshape(net.arrays[op.w].shape[0], -1)
    fold = op.pool[0] * op.pool[1] if isinstance(op, Conv2d) else 1
    positive, negative = np.maximum(w, 0).sum(1) * fold, np.minimum(w, 0).sum(1) * fold
    bias, drift = _constant(net, op.bias, len(w)), _constant(net, op.drift, len(w))
    zero = np.zeros(len(w), np.int64)
    slope = (zero, zero)
    if isinstance(x, Analog):
        low, high = min(x.low, 0), max(x.high, 0)  # padding contributes 0
        per_tick = (positive * low + negative * high, positive * high + negative * low)
    else:
        assert isinstance(x, Spikes)
        per_spike = x.ticks if op.kernel in ("hold", "ramp") else 1
        per_tick = (negative * per_spike, positive * per_spike)
        if op.kernel == "ramp":
            slope = (negative, positive)
    arrivals = latest + 1 if op.every else 1
    s = (per_tick[0] * arrivals + bias[0], per_tick[1] * arrivals + bias[1])
    slope = (slope[0] + drift[0], slope[1] + drift[1])
    v = (np.minimum(s[0], s[0] + slope[0] * latest), np.maximum(s[1], s[1] + slope[1] * latest))
    return Bounds(s, slope, v)


def _constant(net: Net, name: object, channels: int) -> tuple[Ints, Ints]:
    const = next((c for c in net.arrays if c == name), None)
    if const is None:
        return np.zeros(channels, np.int64), np.zeros(channels, np.int64)
    values = net.arrays[const].astype(np.int64).reshape(channels, -1)
    return values.min(1), values.max(1)


def _flattened(bounds: Bounds, before: object, op: Op) -> Bounds:
    assert isinstance(before, Potential)
    repeat = before.size // before.shape[0] if len(op.type.shape) < len(before.shape) else 1
    s, w, v = ((np.repeat(a, repeat), np.repeat(b, repeat)) for a, b in (bounds.s, bounds.w, bounds.v))
    return Bounds(s, w, v)
