"""Thresholds in ONNX: values x = T - (first tick whose threshold is reached), 0 for never; float32 throughout."""

from dataclasses import dataclass

import numpy as np

from ttfsc.backends.onnx.graph import FLOAT, Graph, RefusedError, Tensor
from ttfsc.backends.onnx.lines import Ints, grid_line, holds_exactly, middle_line, rises_exactly, room_of
from ttfsc.ir import Array, Bounds, Shape

MAX_LOOP = 1024  # ticks written out one by one; a window longer than this needs a table on a straight line


@dataclass(frozen=True)
class Membrane:
    """Windowed: V(n) = s + w n; w is None where nothing rises."""

    s: Tensor
    w: Tensor | None = None


@dataclass(frozen=True)
class Stream:
    """Streaming: V at each tick of the window."""

    v: tuple[Tensor, ...]


@dataclass(frozen=True)
class Firing:
    """What a fire op needs: where to write, its table over [*shape] and its limits."""

    name: str
    shape: Shape
    theta: Ints  # [1, T], [C, T] or [*shape, T], cut to what membranes can reach
    ends: tuple[Ints, Ints]  # smallest and largest V; per channel, or one for all where theta is [1, T]
    bounds: Bounds
    last: bool  # force_last

    @property
    def ticks(self) -> int:
        """T."""
        return self.theta.shape[-1]


def check_loop(ticks: int) -> None:
    """Raise RefusedError when a window is too long to be written out tick by tick."""
    if ticks > MAX_LOOP:
        raise RefusedError(f"{ticks} ticks would be written out one by one, more than {MAX_LOOP}: use fewer ticks")


def firing_of(name: str, shape: Shape, theta: Array, bounds: Bounds, last: bool) -> Firing:
    """The table in 64 bits, cut at the largest magnitude of the terms plus one: nothing reaches it, exactly."""
    beyond = int(bounds.terms.max()) + 1
    table = np.clip(theta.astype(np.int64), -beyond, beyond)
    least, most = bounds.v
    if len(table) == 1 and table.ndim == 2:
        ends = (least.min(keepdims=True)[:, None], most.max(keepdims=True)[:, None])
    else:
        ends = tuple(end.reshape(-1, *[1] * (table.ndim - 1)) for end in bounds.v)
    return Firing(name, shape, table, (ends[0], ends[1]), bounds, last)


def fire(g: Graph, f: Firing, theta: Array, v: Membrane | Stream) -> Tensor:
    """Emit the firing of one layer. theta: the table before it was cut, for lines to continue beyond the reach."""
    if isinstance(v, Stream):
        return _tick_by_tick(g, f, list(v.v))
    if v.w is None:
        falling = np.minimum.accumulate(theta.astype(np.int64), axis=-1)  # a settled membrane passes the lowest so far
        return _settled_line(g, f, falling, v.s) or _settled_count(g, f, v.s)
    return _rising_line(g, f, theta.astype(np.int64), v.s, v.w) or _tick_by_tick(g, f, _unrolled(g, f, v.s, v.w))


def _settled_line(g: Graph, f: Firing, theta: Ints, s: Tensor) -> Tensor | None:
    """x = clip(floor((S - offset) / slope), 0, T), where that is proven to be the table."""
    line = middle_line(room_of(theta, *f.ends))
    if line is None:
        return None
    for wide in (s.wide, True):
        dtype = np.float64 if wide else np.float32
        offset, slope = line.start - line.slope * f.ticks, line.slope
        if not holds_exactly(offset, slope, theta, *f.ends, dtype):
            continue
        v = g.widened(s, wide)
        v = g.with_array("Sub", v, _along(offset, f.shape), f"{f.name}.above")
        v = g.with_array("Div", v, _along(slope, f.shape), f"{f.name}.steps")
        v = Tensor(g.op("Floor", v.name, hint=f"{f.name}.floor"), v.wide)
        v = g.clip(v, 1 if f.last else 0, f.ticks, f"{f.name}.x")
        return _narrow(g, v)
    return None


def _settled_count(g: Graph, f: Firing, s: Tensor) -> Tensor:
    """x = the number of thresholds reached; equal neighbours of the (falling) table are counted at once."""
    check_loop(f.ticks)
    falling = np.minimum.accumulate(f.theta, axis=-1)
    x, n = None, 0
    while n < f.ticks:
        same = n + 1
        while same < f.ticks and np.array_equal(falling[..., same], falling[..., n]):
            same += 1
        reached = _reaches(g, f, s, falling[..., n])
        term = Tensor(g.cast(reached, FLOAT, f"{f.name}.reached"))
        if same - n > 1:
            term = g.with_array("Mul", term, np.asarray(same - n), f"{f.name}.times")
        x = term if x is None else g.pair("Add", x, term, f"{f.name}.x")
        n = same
    assert x is not None
    return g.clip(x, 1, None, f"{f.name}.x") if f.last else x


def _rising_line(g: Graph, f: Firing, theta: Ints, s: Tensor, w: Tensor) -> Tensor | None:
    """x = T - clip(ceil((A - S) / (W + B)), 0, T): where membrane and falling threshold meet."""
    line = grid_line(room_of(theta, *f.ends))
    if line is None:
        return None
    s_most = max(int(np.abs(end).max()) for end in f.bounds.s)
    w_ends = int(f.bounds.w[0].min()), int(f.bounds.w[1].max())
    r_most = max(w_ends[1] + float(line.slope.max()), 1.0)
    for wide in (s.wide or w.wide, True):
        if not rises_exactly(line, f.ticks, s_most, r_most, Tensor("", wide).bits):
            continue
        begin = _along(line.start, f.shape).astype(np.float64 if wide else np.float32)
        start = Tensor(g.constant(begin, f"{f.name}.start"), wide)
        gap = g.pair("Sub", start, g.widened(s, wide), f"{f.name}.gap")
        rate = g.with_array("Sub", g.widened(w, wide), _along(-line.slope, f.shape), f"{f.name}.rate")
        tiny = 2.0**-line.scale / (2 * f.ticks)  # rates are 0, negative or at least 2^-scale: so this says never
        if w_ends[0] + float(line.slope.min()) < 2.0**-line.scale:
            rate = g.clip(rate, tiny, None, f"{f.name}.closing")
        first = g.pair("Div", gap, rate, f"{f.name}.meet")
        first = Tensor(g.op("Ceil", first.name, hint=f"{f.name}.first"), wide)
        first = g.clip(first, 0, f.ticks - 1 if f.last else f.ticks, f"{f.name}.n")
        end = Tensor(g.number(f.ticks, wide), wide)
        return _narrow(g, g.pair("Sub", end, first, f"{f.name}.x"))
    return None


def _unrolled(g: Graph, f: Firing, s: Tensor, w: Tensor) -> list[Tensor]:
    check_loop(f.ticks)
    frames = [s]
    for _ in range(1, f.ticks):
        frames.append(g.pair("Add", frames[-1], w, f"{f.name}.v"))
    return frames


def _tick_by_tick(g: Graph, f: Firing, frames: list[Tensor]) -> Tensor:
    """x counts the ticks from the spike on."""
    fired, x = "", None
    for n, v in enumerate(frames):
        reached = _reaches(g, f, v, f.theta[..., n])
        fired = g.op("Or", fired, reached, hint=f"{f.name}.fired") if fired else reached
        term = Tensor(g.cast(fired, FLOAT, f"{f.name}.since"))
        x = term if x is None else g.pair("Add", x, term, f"{f.name}.x")
    assert x is not None
    return g.clip(x, 1, None, f"{f.name}.x") if f.last else x


def _reaches(g: Graph, f: Firing, v: Tensor, theta: Ints) -> str:
    array = _along(theta, f.shape).astype(np.float64 if v.wide else np.float32)
    return g.op("GreaterOrEqual", v.name, g.constant(array, f"{f.name}.theta"), hint=f"{f.name}.reached")


def _along(values: Array, shape: Shape) -> Array:
    """[1], [C] or [*shape] so that it broadcasts over [N, *shape]; equal numbers become one."""
    if (values == values.flat[0]).all():
        return values.reshape(-1)[:1].reshape(())
    return values if values.ndim == len(shape) else values.reshape(-1, *[1] * (len(shape) - 1))


def _narrow(g: Graph, x: Tensor) -> Tensor:
    return Tensor(g.cast(x.name, FLOAT, f"{x.name}.real")) if x.wide else x
