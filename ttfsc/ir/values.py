"""What values are during evaluation, and the arithmetic they share: sums, pools, reading a membrane at a tick."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ttfsc.ir.arrays import Array
from ttfsc.ir.linear import Floats, pool_sum
from ttfsc.ir.ops import AvgPool

FloatType = type[np.float32] | type[np.float64]


@dataclass(frozen=True)
class Membrane:
    """Windowed potential: V(n) = s + w n. Each [N, *shape]; w is None where nothing rises."""

    s: Floats
    w: Floats | None = None

    def at(self, n: int) -> Floats:
        """V(n)."""
        return self.s if self.w is None else self.s + self.w * self.s.dtype.type(n)


@dataclass(frozen=True)
class Stream:
    """Streaming potential: v[n] is V at tick n of the window; [T, N, *shape]."""

    v: Floats


@dataclass(frozen=True)
class Image:
    """Spikes behind linear ops that own no neurons (average pool, batch norm), in real nets.

    Its value is linear(x) + offset. Kernels that ask who fired, or who fires now, see linear(fired): a pool spreads a
    spike, a batch norm scales it, and what does not depend on spikes at all is there from the window's opening.
    """

    x: Array
    linear: Callable[[Array], Array]
    offset: Array | None = None  # [1, *shape]

    @property
    def value(self) -> Array:
        """[N, *shape]."""
        image = self.linear(self.x)
        return image if self.offset is None else image + self.offset

    def then(self, change: Callable[[Array], Array]) -> "Image":
        """Behind one more linear map."""
        return Image(self.x, lambda a: change(self.linear(a)), None if self.offset is None else change(self.offset))

    def plus(self, shift: Array) -> "Image":
        """With a constant added, [1, *shape]."""
        return Image(self.x, self.linear, shift if self.offset is None else self.offset + shift)


Value = Array | Membrane | Stream | Image


def added(parts: list[Value], dtype: FloatType) -> Value:
    """The sum of potentials, in a type that holds it exactly."""
    if isinstance(parts[0], Stream):
        return Stream(sum((stream(p).v.astype(dtype) for p in parts[1:]), stream(parts[0]).v.astype(dtype)))
    membranes = [p for p in parts if isinstance(p, Membrane)]
    slopes = [m.w.astype(dtype) for m in membranes if m.w is not None]
    s = sum((m.s.astype(dtype) for m in membranes[1:]), membranes[0].s.astype(dtype))
    return Membrane(s, sum(slopes[1:], slopes[0]) if slopes else None)


def mean(op: AvgPool, x: Array) -> Array:
    """Average pool."""
    size = (op.type.shape[1], op.type.shape[2])
    need = [(size[a] - 1) * op.stride[a] + op.kernel[a] - x.shape[a + 2] - op.pad[a] for a in (0, 1)]
    pad = (op.pad[0], op.pad[1], max(need[0], 0), max(need[1], 0))
    return pool_sum(x.astype(np.float32), op.kernel, op.stride, pad) / divisors(op, x.shape[2:])


def divisors(op: AvgPool, size: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """[H', W'], what each window of an average pool is divided by (padding counted or not, ceil windows cut short)."""
    sides = list[npt.NDArray[np.float32]]()
    for a in (0, 1):
        starts = np.arange(op.type.shape[a + 1]) * op.stride[a] - op.pad[a]
        low, high = (-op.pad[a], size[a] + op.pad[a + 2]) if op.count_pad else (0, size[a])
        sides.append((np.minimum(starts + op.kernel[a], high) - np.maximum(starts, low)).astype(np.float32))
    return np.outer(sides[0], sides[1]).astype(np.float32)


def last(value: Value, end: int) -> Floats:
    """V at the window's end."""
    return value.at(end) if isinstance(value, Membrane) else stream(value).v[-1]


def when(value: Value, x: Array, ticks: int) -> Floats:
    """V at each neuron's own spike, or at the window's end where it was silent."""
    if isinstance(value, Stream):
        n = np.minimum(ticks - x.astype(np.int64), ticks - 1)
        return np.take_along_axis(value.v, n[None], axis=0)[0]
    assert isinstance(value, Membrane)
    return value.s if value.w is None else value.s + value.w * (ticks - x.astype(np.float64))


def each(value: Value, ndim: int, change: Callable[[Array, int], Array]) -> Value:
    """Apply to every array of a value; `change` gets the number of leading axes that are not the neurons'."""
    match value:
        case Membrane():
            return Membrane(change(value.s, 1), None if value.w is None else change(value.w, 1))
        case Stream():
            return Stream(change(value.v, 2))
        case Image():
            return value.then(lambda a: change(a, 1))
        case _:
            return change(value, 1)


def as_array(value: Value) -> Array:
    """Spikes, pixels or an image of them, as numbers."""
    if isinstance(value, Image):
        return value.value
    assert isinstance(value, np.ndarray)
    return value


def as_image(value: Value) -> Image:
    """What a kernel reads."""
    return value if isinstance(value, Image) else Image(as_array(value), lambda a: a)


def stream(value: Value) -> Stream:
    """The value, known to evolve."""
    assert isinstance(value, Stream)
    return value
