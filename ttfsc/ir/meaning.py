"""The reference meaning of a net (semantics.md), batched in numpy. Everything else is compared with this.

Spikes are held as their value x = closes - t: 1..T, and 0 for a neuron that never fired, which no spike ever has.
Integer nets are evaluated exactly, tick for tick. Real nets (before `quantize`) are evaluated in float32 with the
same formulas on a unit window: the function the quantised net approximates.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ttfsc.ir import codes
from ttfsc.ir.arrays import Array, Const
from ttfsc.ir.bounds import Bounds, bounds_of
from ttfsc.ir.faults import TtfsError
from ttfsc.ir.linear import Floats, pool_max, synapses
from ttfsc.ir.net import Net
from ttfsc.ir.ops import (
    Add,
    AvgPool,
    BatchNorm,
    Conv2d,
    Decode,
    Dense,
    Encode,
    Fire,
    Flatten,
    Identity,
    Input,
    MaxPool,
    Op,
)  # fmt: skip
from ttfsc.ir.types import Analog, Potential, Scores, Spikes, show_shape
from ttfsc.ir.values import (
    FloatType,
    Membrane,
    Stream,
    Value,
    added,
    as_array,
    as_image,
    each,
    last,
    mean,
    stream,
    when,
)

_EXACT = 2**47  # sums below this are exact in float64, and in int64 even times a Q0.15 leak
NEVER = -1  # a tick that is none, where ticks are handed out
Progress = Callable[[int], None]
Instead = Callable[[str, Array], Array]


@dataclass(frozen=True)
class Result:
    """What a net answered.

    labels [N]; scores [N, classes]; spikes: values x [N, *shape] by name of the firing layer, 0 = never.
    """

    labels: npt.NDArray[np.int64]
    scores: Array
    spikes: dict[str, Array]


def ticks_of(x: Array, window: Spikes) -> npt.NDArray[np.int32]:
    """Values x to absolute ticks, NEVER (-1) where there was no spike."""
    return np.where(x > 0, window.closes - x.astype(np.int32), NEVER).astype(np.int32)


def is_integer(net: Net) -> bool:
    """Whether the net has been quantised: its weights, thresholds and tables are integers (verify: all or none)."""
    ruling = [c for op in net.ops for c in _ruling(op)]
    return bool(ruling) and all(net.arrays[c].dtype.kind == "i" for c in ruling)


def _ruling(op: Op) -> tuple[Const, ...]:
    match op:
        case Conv2d() | Dense():
            return (op.w,)
        case Fire(theta=None):
            return ()
        case Fire(theta=str(const)) | Decode(table=str(const)):
            return (Const(const),)
        case _:
            return ()


def run(
    net: Net, x: Array, *, keep: Collection[str] | None = None, batch: int = 256, progress: Progress | None = None
) -> Result:
    """Evaluate a verified net on x [N, *input shape], integers in the input's declared range.

    keep: names of the layers whose spikes to return (default: every fire and encode).
    progress: called with the number of inputs done after every batch.
    Raises TtfsError for inputs of a wrong shape, type or range, for an integer net whose sums could leave 47 bits
    (prove-widths refuses those at 32), and for a real net whose sums overflow float32 on these inputs.
    """
    parts = list[Result]()
    for part in run_batches(net, x, keep=keep, batch=batch):
        parts.append(part)
        if progress is not None:
            progress(len(part.labels))
    names = parts[0].spikes if parts else ()
    return Result(
        np.concatenate([p.labels for p in parts]),
        np.concatenate([p.scores for p in parts]),
        {name: np.concatenate([p.spikes[name] for p in parts]) for name in names},
    )


def run_batches(
    net: Net, x: Array, *, keep: Collection[str] | None = None, batch: int = 256, instead: Instead | None = None
) -> Iterator[Result]:
    """`run`, a batch at a time: whole test sets need not fit in memory with all their spikes.

    instead: called with every firing layer's name and values; what it returns is what the layer's readers see. The
    result still holds what the layer itself did: so one layer's own error can be told from what it inherits.
    """
    check_input(net, x)
    x = x.view(np.uint8) if x.dtype.kind == "b" else x
    meaning = _Meaning(net)
    for i in range(0, len(x), batch):
        with np.errstate(over="ignore", invalid="ignore"):  # real sums may leave float32; `finite` says where
            result = meaning(x[i : i + batch], keep, instead)
        yield result


def check_input(net: Net, x: Array) -> None:
    """Raise TtfsError unless x [N, *shape] holds what the net's input declares."""
    t, subject = net.input.type, f"input %{net.input.name}"
    if x.ndim != len(t.shape) + 1 or x.shape[1:] != t.shape:
        fact = f"x is {show_shape(x.shape)}, must be N x {show_shape(t.shape)}"
        raise TtfsError.one(codes.INPUT, fact, subject=subject)
    if len(x) == 0:
        raise TtfsError.one(codes.INPUT, "x holds no samples", subject=subject)
    if x.dtype.kind not in "iubf":
        raise TtfsError.one(codes.INPUT, f"x is {x.dtype}, must be numbers", subject=subject)
    if is_integer(net) and x.dtype.kind == "f":
        fact = f"x is {x.dtype}; a quantised net takes integers, the source value divided by scale={net.input.scale}"
        raise TtfsError.one(codes.INPUT, fact, subject=subject)
    if not np.isfinite(x).all():
        raise TtfsError.one(codes.INPUT, "x holds NaN or infinity", subject=subject)
    low, high = (t.low, t.high) if isinstance(t, Analog) else (0, t.ticks if isinstance(t, Spikes) else 0)
    if x.min() < low or x.max() > high:
        fact = f"x reaches from {x.min()} to {x.max()}, declared are {low}..{high}"
        raise TtfsError.one(codes.INPUT, fact, subject=subject)


class _Meaning:
    """A net prepared for evaluation: per potential, the float type in which its sums are exact."""

    def __init__(self, net: Net) -> None:
        self.net, self.integer = net, is_integer(net)
        self.bounds = bounds_of(net) if self.integer else dict[str, Bounds]()

    def __call__(self, x: Array, keep: Collection[str] | None, instead: Instead | None = None) -> Result:
        values = dict[str, Value]()
        spikes = dict[str, Array]()
        left = {name: len(users) for name, users in self.net.users.items()}
        labels, scores = np.zeros(len(x), np.int64), np.zeros((len(x), 0))
        for op in self.net.ops:
            if isinstance(op, Decode):
                labels, scores = self.decode(op, values, whole=self.integer and instead is None)
                continue
            values[op.name] = value = self.evaluate(op, x, values)
            if isinstance(op, Fire | Encode):
                assert isinstance(value, np.ndarray)
                if keep is None or op.name in keep:
                    spikes[op.name] = value
                if instead is not None:
                    values[op.name] = instead(op.name, value)
            for ref in dict.fromkeys(op.operands()):  # an add may read one value twice
                left[ref] -= 1
                if not left[ref]:
                    del values[ref]  # large nets: hold what somebody still reads
        return Result(labels, scores, spikes)

    def evaluate(self, op: Op, x: Array, values: dict[str, Value]) -> Value:
        match op:
            case Input():
                if self.integer:
                    return x
                return x.astype(np.float32) * np.float32(op.scale if isinstance(op.type, Analog) else 1)
            case Encode():
                return self.encode(op, as_array(values[op.x]))
            case Conv2d() | Dense():
                return self.synapse(op, values[op.x])
            case Add():
                return added([values[ref] for ref in op.xs], self.exact(op.name))
            case Identity():
                return values[op.x]
            case BatchNorm():
                return self.batchnorm(op, values[op.x])
            case AvgPool():
                return as_image(values[op.x]).then(lambda a: mean(op, a))
            case MaxPool():
                return pool_max(op, as_array(values[op.x]))
            case Flatten():
                return each(values[op.x], len(op.type.shape), lambda a, lead: a.reshape(*a.shape[:lead], -1))
            case Fire():
                return self.fire(op, values[op.v])
            case _:
                raise AssertionError(f"{op.subject} has no meaning")

    def array(self, name: Const, ndim: int, dtype: npt.DTypeLike) -> Array:
        """A per-channel or per-neuron constant, shaped to broadcast over [N, *shape]."""
        a = self.net.arrays[name].astype(dtype)
        return a if a.ndim == ndim else a.reshape(-1, *[1] * (ndim - 1))

    def exact(self, name: str) -> FloatType:
        """The smallest float type that adds this potential's integers exactly, in any order."""
        if not self.integer:
            return np.float32
        largest = int(self.bounds[name].terms.max())
        if largest >= _EXACT:
            fact = f"its terms can add up to {largest}, far beyond 32 bits: use fewer bits or ticks, or a smaller bias"
            op = self.net.by_name[name]
            raise TtfsError.one(codes.WIDTH, fact, loc=op.loc, subject=op.subject)
        return np.float32 if largest < 2**24 else np.float64

    def encode(self, op: Encode, x: Array) -> Array:
        t = op.type
        source = self.net.type_of(op.x)
        assert isinstance(t, Spikes) and isinstance(source, Analog)
        span = source.high - source.low
        if self.integer:
            tick = (2 * (source.high - x.astype(np.int64)) * t.ticks + span) // (2 * span)  # round((1-u) T), half up
            return (t.ticks - tick).astype(_small_type(t.ticks))
        u = np.clip((x / self.net.input.scale - source.low) / span, 0, 1)  # values before quantisation are scaled
        return (u if t.ticks == 1 else t.ticks - np.floor((1 - u) * t.ticks + 0.5)).astype(np.float32)

    def synapse(self, op: Conv2d | Dense, value: Value) -> Value:
        dtype, w, ndim = self.exact(op.name), self.net.arrays[op.w], len(op.type.shape)
        source = self.net.type_of(op.x)
        image = as_image(value)
        assert isinstance(op.type, Potential)
        constant = self.array(op.bias, ndim, dtype) if op.bias is not None else dtype(0)
        drift = self.array(op.drift, ndim, dtype) if op.drift is not None else None
        if op.type.closes is None:
            s = synapses(op, image.value, w, dtype) + constant
            if op.kernel != "ramp":
                return Membrane(s) if drift is None else Membrane(s, np.broadcast_to(drift, s.shape))
            slope = synapses(op, image.linear((image.x > 0).astype(dtype)), w, dtype)
            return Membrane(s, slope if drift is None else slope + drift)
        ticks = op.type.closes - op.type.opens
        frames = list[Floats]()
        v: Floats | None = None
        current = synapses(op, image.value, w, dtype) if isinstance(source, Analog) else None
        if image.offset is not None and current is None:
            constant = constant + synapses(op, image.offset, w, dtype)
        for n in range(ticks):
            if current is not None:
                arrives = current if n == 0 or op.every else current * 0
            else:
                at = n - op.delay  # spikes of this tick have the value T - at
                fired = (image.x == ticks - at) & (at >= 0)
                arrives = synapses(op, image.linear(fired.astype(dtype)), w, dtype)
            kept = constant if v is None else self.decayed(op, v) + (0 if drift is None else drift)
            v = arrives + kept
            frames.append(v)
        return Stream(np.stack(frames))

    def decayed(self, op: Conv2d | Dense, v: Floats) -> Floats:
        """What a leaking membrane keeps until the next tick."""
        if op.kernel != "leak":
            return v
        numerator, denominator = (op.keep, 32768) if op.keep else (2**op.shift - 1, 2**op.shift)
        if not self.integer:
            return v * v.dtype.type(numerator / denominator)
        scaled = v.astype(np.int64) * numerator
        match op.rounding:
            case "floor":
                kept = scaled // denominator
            case "nearest":
                kept = (2 * scaled + denominator) // (2 * denominator)
            case "zero":
                kept = np.sign(scaled) * (np.abs(scaled) // denominator)
        return kept.astype(v.dtype)

    def batchnorm(self, op: BatchNorm, value: Value) -> Value:
        ndim = len(op.type.shape)
        scale, shift = (self.array(c, ndim, np.float32) for c in (op.scale, op.shift))
        match value:
            case Membrane():
                return Membrane(value.s * scale + shift, None if value.w is None else value.w * scale)
            case Stream():
                return Stream(value.v * scale + shift)
            case _:
                whole = np.broadcast_to(shift, (1, *op.type.shape))
                return as_image(value).then(lambda a: a * scale).plus(whole)

    def fire(self, op: Fire, value: Value) -> Array:
        t = op.type
        assert isinstance(t, Spikes)
        if not self.integer:
            self.finite(op, value)
            return self.fire_real(op, t, value)
        assert op.theta is not None
        dtype = self.exact(op.v)
        # no membrane reaches the largest magnitude of its terms plus one: thresholds beyond it are cut, exactly
        beyond = int(self.bounds[op.v].terms.max()) + 1
        theta = np.clip(self.net.arrays[op.theta].astype(np.int64), -beyond, beyond).astype(dtype)
        theta = theta.reshape(*theta.shape[:-1], *[1] * (len(t.shape) + 1 - theta.ndim), t.ticks)
        shape = value.s.shape if isinstance(value, Membrane) else stream(value).v.shape[1:]
        x, fired = np.zeros(shape, _small_type(t.ticks)), np.zeros(shape, np.bool_)
        for n in range(t.ticks):
            v = value.at(n) if isinstance(value, Membrane) else stream(value).v[n]
            fired |= v >= theta[..., n]
            x += fired  # x = closes - t counts the ticks from the spike on
        return np.maximum(x, 1) if op.force_last else x

    def fire_real(self, op: Fire, t: Spikes, value: Value) -> Array:
        """Unit window: x = clip01((S + W) / (Theta + W)); see ttfsc.nn.fire for the derivation and its corner cases."""
        theta = self.array(op.theta, len(t.shape), np.float32) if op.theta is not None else None
        if isinstance(value, Stream):
            assert theta is not None, "a streaming neuron has a threshold"
            x = np.zeros(value.v.shape[1:], np.float32)
            for n in reversed(range(t.ticks)):  # the first tick is written last and so wins
                np.copyto(x, np.float32(t.ticks - n), where=value.v[n] >= theta)
            return np.maximum(x, 1) if op.force_last else x
        assert isinstance(value, Membrane)
        if theta is None:
            return np.maximum(value.s, 0)
        if value.w is None:
            return np.clip(value.s / theta, 0, 1)
        rate = theta + value.w  # how fast membrane and threshold approach each other
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = np.where(rate > 0, (value.s + value.w) / np.where(rate > 0, rate, 1), 0)
        return np.where(value.s >= theta, np.float32(1), np.clip(crossing, 0, 1)).astype(np.float32)

    def finite(self, op: Op, *read: Value) -> None:
        """Raise TtfsError where a real net's membranes have left the range of float32."""
        parts = list[Array]()
        for value in () if self.integer else read:
            match value:
                case Membrane():
                    parts += [value.s] if value.w is None else [value.s, value.w]
                case Stream():
                    parts.append(value.v)
                case _:
                    parts.append(as_array(value))
        if not all(np.isfinite(part).all() for part in parts):
            fact = "a membrane that it reads overflows float32: the weights or inputs are far too large"
            raise TtfsError.one(codes.NONFINITE, fact, loc=op.loc, subject=op.subject)

    def decode(self, op: Decode, values: dict[str, Value], *, whole: bool) -> tuple[npt.NDArray[np.int64], Array]:
        t = op.type
        assert isinstance(t, Scores)
        first = values[op.xs[0]]
        self.finite(op, *(values[x] for x in op.xs))
        if op.rule == "membrane":
            scores = last(first, t.ticks if self.integer else 1)
            return scores.argmax(1), scores.astype(np.int64) if whole else scores
        x = as_array(first)
        if op.rule == "weighted":
            assert op.table is not None
            table = np.concatenate([np.zeros(1, self.net.arrays[op.table].dtype), self.net.arrays[op.table][::-1]])
            index = np.minimum(np.ceil(x), t.ticks).astype(np.int64)  # real values lie between ticks, or beyond
            scores = table.astype(np.int64 if self.integer else np.float32)[index]
            return scores.argmax(1), scores
        best = x == x.max(1, keepdims=True)
        membrane = np.where(best, when(values[op.xs[1]], x, t.ticks if self.integer else 1), -np.inf)
        return membrane.argmax(1), x


def _small_type(ticks: int) -> type[np.uint8] | type[np.int32]:
    return np.uint8 if ticks < 256 else np.int32
