"""What one core computes: the membranes of its slice from the spikes it was sent. Plain integer arithmetic.

Written from the format's description, not shared with the reference meaning, which it is compared with.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from math import prod

import numpy as np
import numpy.typing as npt

from ttfsc.backends.noc.image import LayerImage, LinkImage, Section, SliceImage
from ttfsc.backends.noc.pack import unpack
from ttfsc.ir import Array, Box, Conv2d, Dense, MaxPool, TtfsError, codes, grid_of
from ttfsc.ir.geometry import pool_out

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]
Rows = npt.NDArray[np.float32]  # weights; they have 8 bits at most
Select = Callable[[Array], Array]
Exact = type[np.int64] | type[np.float32] | type[np.float64]
Span = tuple[int, int]
Spans = tuple[Span, Span]


@dataclass(frozen=True)
class Stage:
    """One window operation on the way from a source grid to a synapse's operand, along both axes."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, ...]
    size: tuple[int, int]  # of the result
    largest: bool  # earliest spike, or the sum of a folded average pool


class LinkCell:
    """The synapses of one link into one slice, with the weights that the core holds for them."""

    def __init__(self, stored: LinkImage, box: Box, weights: Rows, bias: Ints, drift: Ints, peak: int) -> None:
        link = stored.link
        self.link, self.synapse, self.box = link, link.synapse, box
        self.bias, self.drift = bias, drift  # broadcast over [N, *box]
        self.stages = [_pool_stage(pool) for pool in link.pools]
        per_sum = 1
        if isinstance(self.synapse, Conv2d):
            s = self.synapse
            fan = link.fan_grid
            size = pool_out(fan[1:], s.pool, s.pool_stride, s.pool_pad)
            self.stages.append(Stage(s.pool, s.pool_stride, s.pool_pad, size, False))
            per_sum = prod(s.pool)
        rows = weights.reshape(-1, prod(link.kernel[1:]))
        reach = int(np.abs(rows.astype(np.int64)).sum(1).max(initial=0)) * per_sum * peak
        if reach >= 2**53:
            raise TtfsError.one(codes.WIDTH, f"a sum could reach {reach}, beyond 53 bits", subject=f"%{link.source}")
        # products of matrices exist in floats only; a float that holds the largest possible sum adds exactly
        self.dtype: Exact = np.float32 if reach < 2**24 else np.float64
        self.rows = rows.astype(self.dtype, copy=False)  # the memory's own array where it is float32 already

    def sums(self, x: Array, *selects: Select | None) -> Ints:
        """[N, *source grid] -> [K, N, *box]: sums of w x over its synapses, x behind the max pools and each select.

        One of K sums for every select, which says what of x counts: None its values. Without any, the values once.
        """
        selects = selects or (None,)
        sides = [b - a for a, b in self.box]
        if isinstance(self.synapse, Dense):
            whole = (0, self.link.fan_grid[1]), (0, self.link.fan_grid[2])
            operand = self._operand(x, whole, selects).reshape(len(selects) * len(x), -1)
            found = _exact(operand @ self.rows.T)
        else:
            found = self._convolved(x, self.synapse, sides, selects)
        return found.reshape(len(selects), len(x), *sides)

    def _operand(self, x: Array, spans: Spans, selects: tuple[Select | None, ...]) -> Array:
        """[K * N, C, *spans]: what the synapses read, once for every select."""
        windows = (_window(x, self.stages, spans, 0, select, self.dtype) for select in selects)
        parts = [window.astype(self.dtype, copy=False) for window in windows]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _convolved(self, x: Array, s: Conv2d, sides: list[int], selects: tuple[Select | None, ...]) -> Ints:
        """[K * N, *box]. Frames lie innermost while columns are gathered: copies are long even for small patches."""
        taps_h, taps_w = self.link.kernel[2:]
        spans = [
            (a * s.stride[i] - s.pad[i], (b - 1) * s.stride[i] - s.pad[i] + (taps - 1) * s.dilation[i] + 1)
            for i, ((a, b), taps) in enumerate(zip(self.box[1:], (taps_h, taps_w), strict=True))
        ]
        patch = np.ascontiguousarray(self._operand(x, (spans[0], spans[1]), selects).transpose(1, 2, 3, 0))
        frames = patch.shape[3]
        out = np.empty((frames, *sides), np.int64)
        per_out, per_in = self.link.kernel[0] // s.groups, self.link.kernel[1]
        first, last = self.box[0]
        for group in range(first // per_out, (last - 1) // per_out + 1):
            a, b = max(first, group * per_out), min(last, (group + 1) * per_out)
            part = patch[group * per_in : (group + 1) * per_in]
            columns = np.empty((per_in, taps_h, taps_w, *sides[1:], frames), self.dtype)
            for i in range(taps_h):
                for j in range(taps_w):
                    rows, cols = _every(i * s.dilation[0], j * s.dilation[1], s.stride, sides[1:])
                    columns[:, i, j] = part[:, rows, cols]
            product = self.rows[a - first : b - first] @ columns.reshape(self.rows.shape[1], -1)
            out[:, a - first : b - first] = np.moveaxis(product.reshape(b - a, *sides[1:], frames), 3, 0)
        return out

    def membrane(self, x: Array, ticks: int, analog: bool) -> "Membrane":
        """This link's share of V(n), n = 0..T of the layer's window.

        Windowed: V(n) = S + W n. Streaming: tick by tick, and V(T) is V(T - 1), there is no later tick. `analog`: x
        is pixels, whose current arrives at the first tick or at every one.
        """
        s = self.synapse
        if s.kernel in ("hold", "ramp"):
            total, *more = self.sums(x, None, _fired) if s.kernel == "ramp" else self.sums(x)
            slope = more[0] + self.drift if more else self.drift if self.drift.any() else None
            return Membrane(total + self.bias, slope, ())
        current = self.sums(x)[0] if analog else None
        v = list[Ints]()
        for n in range(ticks):
            if current is not None:
                arrives = current if n == 0 or s.every else 0
            else:
                # before n = delay this asks for x = T + 1, which no spike has
                arrives = self.sums(x, partial(np.equal, ticks - (n - s.delay)))[0]
            before = self.bias if n == 0 else self.kept(v[-1]) + self.drift
            v.append(np.broadcast_to(arrives + before, (len(x), *(b - a for a, b in self.box))))
        return Membrane(None, None, (*v, v[-1]))

    def kept(self, v: Ints) -> Ints:
        """What a membrane keeps until the next tick."""
        s = self.synapse
        if s.kernel != "leak":
            return v
        scaled, denominator = (v * s.keep, 1 << 15) if s.keep else (v * ((1 << s.shift) - 1), 1 << s.shift)
        match s.rounding:
            case "floor":
                return scaled // denominator
            case "nearest":
                return (2 * scaled + denominator) // (2 * denominator)
            case "zero":
                return np.where(scaled < 0, -(-scaled // denominator), scaled // denominator)


class SliceCell:
    """One slice of a layer on a core, its memory unpacked."""

    def __init__(self, layer: LayerImage, piece: SliceImage, memory: "Memory", peaks: dict[str, int]) -> None:
        self.layer, self.box = layer, piece.slice.box
        found = {(s.name, s.link): s for s in piece.sections}
        self.links = list[LinkCell]()
        for i, stored in enumerate(layer.links):
            weights = memory.weights(found["weights", i], stored, self.box)
            zero = np.zeros((1, 1, 1), np.int64)
            bias = zero if stored.bias is None else memory.ints(
                found["bias", i], stored.bias.bytes, stored.bias.shape(self.box)
            )  # fmt: skip
            drift = zero if stored.drift is None else memory.ints(
                found["drift", i], stored.drift.bytes, stored.drift.shape(self.box)
            )  # fmt: skip
            self.links.append(LinkCell(stored, self.box, weights, bias, drift, peaks[stored.link.source]))
        self.theta: Ints | None = None
        if layer.thresholds is not None:
            shape = (*layer.thresholds.shape(self.box), layer.ticks)
            self.theta = memory.ints(found["thresholds", -1], layer.thresholds.bytes, shape)

    @property
    def bytes(self) -> int:
        """Memory that one input takes while this slice integrates."""
        sides = prod(b - a for a, b in self.box)
        pixels = sides // (self.box[0][1] - self.box[0][0])
        columns = max(pixels * prod(cell.link.kernel[1:]) for cell in self.links)
        streaming = any(cell.synapse.kernel in ("step", "leak") for cell in self.links)
        return 8 * max(sides * (self.layer.ticks + 1 if streaming else 4), 2 * columns)

    def integrate(self, inputs: dict[str, Array], analog: frozenset[str]) -> "Membrane":
        """V(n) of [N, *box] from what arrived of every source."""
        shares = [
            cell.membrane(inputs[cell.link.source], self.layer.ticks, cell.link.source in analog) for cell in self.links
        ]
        return reduce(Membrane.plus, shares)

    def fire(self, v: "Membrane", force_last: bool) -> Array:
        """Values x [N, *box]: T - n of the first tick n with V(n) >= theta[n], 0 for never."""
        assert self.theta is not None
        ticks = self.layer.ticks
        x = np.full(v.at(0).shape, int(force_last), np.uint8 if ticks < 256 else np.int32)
        for n in reversed(range(ticks)):
            np.copyto(x, ticks - n, where=v.at(n) >= self.theta[..., n])
        return x


@dataclass(frozen=True)
class Membrane:
    """V(n), n = 0..T, of the neurons of a slice, [N, *box] at each tick: `start + slope n`, or `table[n]`."""

    start: Ints | None
    slope: Ints | None  # None: V keeps its start
    table: tuple[Ints, ...]  # streaming kernels

    def at(self, n: int) -> Ints:
        """V(n)."""
        if self.start is None:
            return self.table[n]
        return self.start if self.slope is None else self.start + self.slope * n

    def before(self, x: Array, ticks: int) -> Ints:
        """V at each neuron's own spike x [N, *box], or at the window's end where it was silent."""
        n = ticks - x.astype(np.int64)
        if self.start is None:
            return np.take_along_axis(np.stack(self.table), n[None], axis=0)[0]
        return self.start if self.slope is None else self.start + self.slope * n

    def plus(self, other: "Membrane") -> "Membrane":
        """The sum; a layer's links are all windowed or all streaming."""
        if self.start is None or other.start is None:
            return Membrane(None, None, tuple(a + b for a, b in zip(self.table, other.table, strict=True)))
        slopes = [s for s in (self.slope, other.slope) if s is not None]
        return Membrane(
            self.start + other.start, slopes[0] + slopes[-1] if len(slopes) == 2 else (*slopes, None)[0], ()
        )


class Memory:
    """cores.bin, read section by section; equal kernels of many cores are unpacked once."""

    def __init__(self, binary: bytes) -> None:
        self.binary = binary
        self._kernels = dict[tuple[bytes, int, int, bool], Rows]()

    def weights(self, section: Section, stored: LinkImage, box: Box) -> Rows:
        """Packed weights of a section, flat."""
        link, rows = stored.link, box[0][1] - box[0][0]
        count = (rows if isinstance(link.synapse, Conv2d) else prod(b - a for a, b in box)) * prod(link.kernel[1:])
        key = self.binary[section.offset : section.offset + section.size], count, stored.bits, stored.sign
        if key not in self._kernels:
            self._kernels[key] = unpack(*key).astype(np.float32)
        return self._kernels[key]

    def ints(self, section: Section, size: int, shape: tuple[int, ...]) -> Ints:
        """Little-endian integers of a section."""
        return np.frombuffer(self.binary, f"<i{size}", prod(shape), section.offset).astype(np.int64).reshape(shape)


def _fired(x: Array) -> Array:
    return x > 0


def _pool_stage(pool: MaxPool) -> Stage:
    out = grid_of(pool.type.shape)
    return Stage(pool.kernel, pool.stride, pool.pad, (out[1], out[2]), True)


def pooled(x: Array, pools: tuple[MaxPool, ...]) -> Array:
    """All of [N, C, H, W] behind max pools: what the host does with pixels and with the answer's spikes."""
    stages = [_pool_stage(pool) for pool in pools]
    size = stages[-1].size if stages else (x.shape[2], x.shape[3])
    return _window(x, stages, ((0, size[0]), (0, size[1])), 0)


def _window(
    x: Array, stages: list[Stage], spans: Spans, fill: int, select: Select | None = None, dtype: Exact = np.int64
) -> Array:
    """Rows and columns `spans` of the last stage's result; places outside of it, as padding asks for, are `fill`.

    `select` maps the values behind the last max pool, before any are summed: which of them are spikes of this tick.
    Sums are made in `dtype`, which must hold them.
    """
    size = stages[-1].size if stages else (x.shape[2], x.shape[3])
    inside = [(min(max(a, 0), n), max(min(b, n), 0)) for (a, b), n in zip(spans, size, strict=True)]
    (y0, y1), (x0, x1) = inside
    if y0 >= y1 or x0 >= x1:
        return np.full((*x.shape[:2], *(b - a for a, b in spans)), fill, np.int64)
    if not stages:
        part = x[:, :, y0:y1, x0:x1]
    else:
        stage = stages[-1]
        below = [
            (a * s - p, (b - 1) * s - p + k)
            for (a, b), s, p, k in zip(inside, stage.stride, stage.pad[:2], stage.kernel, strict=True)
        ]
        floor = int(x.min(initial=0)) if stage.largest else 0
        wide = _window(x, stages[:-1], (below[0], below[1]), floor, None if stage.largest else select, dtype)
        part = _reduced(wide if stage.largest else wide.astype(dtype), stage, [y1 - y0, x1 - x0])
    if select is not None and (not stages or stages[-1].largest):
        part = select(part)
    gaps = [(i[0] - a, b - i[1]) for (a, b), i in zip(spans, inside, strict=True)]
    return np.pad(part, ((0, 0), (0, 0), *gaps), constant_values=fill) if any(map(any, gaps)) else part


def _reduced(x: Array, stage: Stage, size: list[int]) -> Array:
    if stage.kernel == (1, 1):
        return _strided(x, 0, 0, stage.stride, size)
    parts = [_strided(x, i, j, stage.stride, size) for i in range(stage.kernel[0]) for j in range(stage.kernel[1])]
    out = parts[0].copy()
    for part in parts[1:]:
        if stage.largest:
            np.maximum(out, part, out=out)
        else:
            out += part
    return out


def _strided(x: Array, i: int, j: int, stride: tuple[int, int], size: list[int]) -> Array:
    rows, columns = _every(i, j, stride, size)
    return x[:, :, rows, columns]


def _every(i: int, j: int, stride: tuple[int, int], size: list[int]) -> tuple[slice, slice]:
    """The rows and columns from i, j on, `stride` apart, as many as `size`."""
    first, last = (i, j), (i + (size[0] - 1) * stride[0] + 1, j + (size[1] - 1) * stride[1] + 1)
    return slice(first[0], last[0], stride[0]), slice(first[1], last[1], stride[1])


def _exact(a: Floats) -> Ints:
    return a.astype(np.int64)
