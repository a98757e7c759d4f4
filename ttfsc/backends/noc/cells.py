"""What one core computes: the membranes of its slice from the spikes it was sent. Plain integer arithmetic.

Written from the format's description, not shared with the reference meaning, which it is compared with.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
import numpy.typing as npt

from ttfsc.backends.noc.image import LayerImage, LinkImage, Section, SliceImage
from ttfsc.backends.noc.pack import Weights, unpack
from ttfsc.ir import Array, Box, Conv2d, Dense, MaxPool, TtfsError, codes, grid_of
from ttfsc.ir.geometry import pool_out

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]
Select = Callable[[Array], Array]
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

    def __init__(self, stored: LinkImage, box: Box, weights: Weights, bias: Ints, drift: Ints, peak: int) -> None:
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
        self.dtype = np.float32 if reach < 2**24 else np.float64
        self.rows = rows

    def sums(self, x: Array, select: Select | None = None) -> Ints:
        """[N, *source grid] -> [N, *box]: sum of w x over its synapses, x behind the max pools and `select`."""
        sides = [b - a for a, b in self.box]
        if isinstance(self.synapse, Dense):
            whole = (0, self.link.fan_grid[1]), (0, self.link.fan_grid[2])
            operand = _window(x, self.stages, whole, 0, select).reshape(len(x), -1)
            return _exact(operand.astype(self.dtype) @ self.rows.T.astype(self.dtype)).reshape(len(x), *sides)
        return self._convolved(x, self.synapse, sides, select)

    def _convolved(self, x: Array, s: Conv2d, sides: list[int], select: Select | None) -> Ints:
        taps_h, taps_w = self.link.kernel[2:]
        spans = [
            (a * s.stride[i] - s.pad[i], (b - 1) * s.stride[i] - s.pad[i] + (taps - 1) * s.dilation[i] + 1)
            for i, ((a, b), taps) in enumerate(zip(self.box[1:], (taps_h, taps_w), strict=True))
        ]
        patch = _window(x, self.stages, (spans[0], spans[1]), 0, select).astype(self.dtype)
        out = np.zeros((len(x), *sides), np.int64)
        per_out, per_in = self.link.kernel[0] // s.groups, self.link.kernel[1]
        first, last = self.box[0]
        for group in range(first // per_out, (last - 1) // per_out + 1):
            a, b = max(first, group * per_out), min(last, (group + 1) * per_out)
            part = patch[:, group * per_in : (group + 1) * per_in]
            columns = np.empty((per_in, taps_h, taps_w, len(x), *sides[1:]), self.dtype)
            for i in range(taps_h):
                for j in range(taps_w):
                    tap = _strided(part, i * s.dilation[0], j * s.dilation[1], s.stride, sides[1:])
                    columns[:, i, j] = tap.swapaxes(0, 1)
            product = self.rows[a - first : b - first].astype(self.dtype) @ columns.reshape(self.rows.shape[1], -1)
            out[:, a - first : b - first] = _exact(product).reshape(b - a, len(x), *sides[1:]).swapaxes(0, 1)
        return out

    def membrane(self, x: Array, ticks: int, analog: bool) -> Ints:
        """[T + 1, N, *box]: this link's share of V(n), n = 0..T of the layer's window.

        Windowed: V(n) = S + W n. Streaming: tick by tick, and V(T) is V(T - 1), there is no later tick. `analog`: x
        is pixels, whose current arrives at the first tick or at every one.
        """
        s = self.synapse
        if s.kernel in ("hold", "ramp"):
            total = self.sums(x) + self.bias
            slope = self.drift + (self.sums(x, _fired) if s.kernel == "ramp" else np.zeros_like(total))
            return total + slope * np.arange(ticks + 1).reshape(-1, *[1] * total.ndim)
        current = self.sums(x) if analog else None
        v = np.zeros((ticks + 1, len(x), *(b - a for a, b in self.box)), np.int64)
        for n in range(ticks):
            if current is not None:
                arrives = current if n == 0 or s.every else 0
            else:
                # before n = delay this asks for x = T + 1, which no spike has
                arrives = self.sums(x, partial(np.equal, ticks - (n - s.delay)))
            v[n] = arrives + (self.bias if n == 0 else self.kept(v[n - 1]) + self.drift)
        v[ticks] = v[ticks - 1]
        return v

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
        return 8 * max(sides * (self.layer.ticks + 1), columns)

    def integrate(self, inputs: dict[str, Array], analog: frozenset[str]) -> Ints:
        """V [T + 1, N, *box] from what arrived of every source."""
        shares = [
            cell.membrane(inputs[cell.link.source], self.layer.ticks, cell.link.source in analog) for cell in self.links
        ]
        return np.sum(shares, axis=0) if len(shares) > 1 else shares[0]

    def fire(self, v: Ints, force_last: bool) -> Array:
        """Values x [N, *box]: T - n of the first tick n with V(n) >= theta[n], 0 for never."""
        assert self.theta is not None
        ticks = self.layer.ticks
        reached = v[:ticks] >= np.moveaxis(self.theta, -1, 0)[:, None]
        x = np.where(reached.any(0), ticks - reached.argmax(0), int(force_last))
        return x.astype(np.uint8 if ticks < 256 else np.int32)


class Memory:
    """cores.bin, read section by section; equal kernels of many cores are unpacked once."""

    def __init__(self, binary: bytes) -> None:
        self.binary = binary
        self._kernels = dict[tuple[bytes, int, int, bool], Weights]()

    def weights(self, section: Section, stored: LinkImage, box: Box) -> Weights:
        """Packed weights of a section, int8, flat."""
        link, rows = stored.link, box[0][1] - box[0][0]
        count = (rows if isinstance(link.synapse, Conv2d) else prod(b - a for a, b in box)) * prod(link.kernel[1:])
        key = self.binary[section.offset : section.offset + section.size], count, stored.bits, stored.sign
        if key not in self._kernels:
            self._kernels[key] = unpack(*key)
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


def _window(x: Array, stages: list[Stage], spans: Spans, fill: int, select: Select | None = None) -> Array:
    """Rows and columns `spans` of the last stage's result; places outside of it, as padding asks for, are `fill`.

    `select` maps the values behind the last max pool, before any are summed: which of them are spikes of this tick.
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
        wide = _window(x, stages[:-1], (below[0], below[1]), floor, None if stage.largest else select)
        part = _reduced(wide if stage.largest else wide.astype(np.int64), stage, [y1 - y0, x1 - x0])
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
    return x[:, :, i : i + (size[0] - 1) * stride[0] + 1 : stride[0], j : j + (size[1] - 1) * stride[1] + 1 : stride[1]]


def _exact(a: Floats) -> Ints:
    return a.astype(np.int64)
