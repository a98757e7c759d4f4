"""Where accuracy goes: the spiking twin beside its real-valued source, layer by layer.

A value of the twin is x / T, a value of the source r: r itself where the source knows its layer's range, r / R where
calibration chose a range R. Two errors are told apart. *Inherited and own*: both nets run freely, so a layer carries
what all layers before it did. *Own*: the twin's layer is handed the source's values, unrounded, so what remains is its
own weights, thresholds and ticks; layers are ranked by it, since free-running errors only pile up towards the end.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf, log10

import numpy as np
import numpy.typing as npt

from ttfsc.ir import Array, Encode, Fire, Net, Spikes, TtfsError, check_input, codes, is_integer, run_batches
from ttfsc.passes import drop_identity, fold_avgpool, fold_batchnorm

JUDGED = 1024  # inputs on which layers are compared; answers are compared on all
_BATCH, _VALUES = 64, 2**24  # at a time: inputs, and neurons of all their layers

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LayerError:
    """How far a layer of the twin is from the source. SQNR in dB: 10 log10(power of r / power of r - x/T)."""

    name: str
    own: float  # fed with the source's values
    whole: float  # both nets running freely
    mean_ticks: float | None  # of neurons that fire in either net, |spike time - the source's|; None for scores
    max_ticks: float | None
    beyond: float | None  # share of the source's values above the range: spikes cannot come before the window opens
    fitted: bool = False  # the range was not on record, so it is the one that fits best

    @property
    def row(self) -> str:
        """One line of the table."""
        name = f"{self.name} (scores)" if self.mean_ticks is None else f"{self.name}{' *' if self.fitted else ''}"
        times = ["" if t is None else f"{t:.2f}" for t in (self.mean_ticks, self.max_ticks)]
        share = "" if self.beyond is None else f"{100 * self.beyond:.2f} %"
        return f"  {name:28} {_db(self.own):>9} {_db(self.whole):>9} {times[0]:>7} {times[1]:>7} {share:>9}".rstrip()


@dataclass(frozen=True)
class Comparison:
    """Source and twin on the same inputs."""

    inputs: int
    judged: int  # inputs on which layers were compared
    agree: int  # same label
    source_correct: int | None
    twin_correct: int | None
    layers: tuple[LayerError, ...]  # worst first
    skipped: tuple[str, ...]  # layers that only one of the nets has

    def lines(self) -> list[str]:
        """The comparison as a table for people."""
        scores = ""
        if self.source_correct is not None and self.twin_correct is not None:
            source, twin = (_percent(n, self.inputs) for n in (self.source_correct, self.twin_correct))
            scores = f", accuracy {source}; its spiking twin {twin}"
        same = f"same answer on {_percent(self.agree, self.inputs)} of {self.inputs} inputs"
        found = [
            f"source model (real-valued){scores}; {same}",
            f"error by layer, worst first, on {self.judged} inputs (own: fed with the source's values):",
            f"  {'layer':28} {'own SQNR':>9} {'SQNR':>9} {'ticks off, mean, max':>15} {'beyond':>9}".rstrip(),
            *(layer.row for layer in self.layers),
        ]
        if any(layer.fitted for layer in self.layers):
            found.append("  * its range is not on record: the one that fits best was taken")
        if self.skipped:
            found.append(f"  not compared, in one of the nets only: {', '.join(self.skipped)}")
        return found


def compare(
    twin: Net,
    source: Net,
    x: Array,
    y: Array | None = None,
    *,
    ranges: Mapping[str, float] | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Comparison:
    """Compare an integer net with the net it came from, on x [N, *input shape] and, if known, labels y [N].

    ranges: R by layer where calibration chose it (`ranges_of`); layers whose source has no range of its own and that
        are not in here are compared up to the factor that fits best.
    advance: called with the number of inputs done after every batch.
    Raises TtfsError when the two do not take the same inputs.
    """
    if source.input.type != twin.input.type:
        fact = f"takes {source.input.type}, the compiled net {twin.input.type}: is it the same model?"
        raise TtfsError.one(codes.INPUT, fact, subject="--model")
    real = source if is_integer(source) else fold_avgpool(fold_batchnorm(drop_identity(source)))
    check_input(real, x)
    work = _Work(twin, real, dict(ranges or {}))
    labels, judged = list[tuple[Array, Array]](), 0
    batch = max(1, min(_BATCH, _VALUES // max(1, sum(twin.type_of(name).size for name in work.names))))
    for i in range(0, len(x), batch):
        part = x[i : i + batch]
        labels.append(work.add(part, judged=i < JUDGED))
        judged += len(part) if i < JUDGED else 0
        advance(len(part))
    left, right = (np.concatenate(side) for side in zip(*labels, strict=True))
    return Comparison(
        len(x), judged, int((left == right).sum()),
        None if y is None else int((left == y).sum()), None if y is None else int((right == y).sum()),
        work.layers(), work.skipped,
    )  # fmt: skip


def ranges_of(before: Net, after: Net) -> dict[str, float]:
    """The ranges that calibration gave: of layers that have one after it and had none before."""
    found = dict[str, float]()
    for op in after.ops:
        old = before.by_name.get(op.name)
        if isinstance(op, Fire) and op.theta is not None and isinstance(old, Fire) and old.theta is None:
            theta = after.arrays[op.theta]
            if theta.dtype.kind == "f" and theta.size == 1:
                found[op.name] = float(theta.flat[0])
    return found


@dataclass
class _Sums:
    """What the batches of one layer add up to; r and q are on one scale."""

    power: float = 0.0
    own: float = 0.0  # sum of (r - q)^2, q fed with the source's values
    whole: float = 0.0
    off: float = 0.0  # sum of |spike time error|
    worst: float = 0.0
    firing: int = 0
    beyond: int = 0
    size: int = 0


@dataclass
class _Work:
    twin: Net
    real: Net
    ranges: dict[str, float]
    sums: dict[str, _Sums] = field(default_factory=dict[str, _Sums])
    fitted: set[str] = field(default_factory=set[str])
    score_sums: Reals = field(default_factory=lambda: np.zeros(5))  # see add

    def __post_init__(self) -> None:
        self.names = [op.name for op in self.twin.ops if isinstance(op, Fire | Encode) and self.matches(op.name)]
        everyone = (op.name for net in (self.twin, self.real) for op in net.ops if isinstance(op, Fire | Encode))
        self.skipped = tuple(name for name in dict.fromkeys(everyone) if name not in self.names)
        for name in self.names:
            self.sums[name] = _Sums()
            op = self.real.by_name[name]
            if isinstance(op, Encode) or (isinstance(op, Fire) and op.theta is not None):
                self.ranges[name] = 1.0

    def matches(self, name: str) -> bool:
        here, there = self.twin.by_name.get(name), self.real.by_name.get(name)
        if here is None or there is None:
            return False
        return type(here) is type(there) and here.type.shape == there.type.shape

    def ticks(self, net: Net, name: str) -> int:
        window = net.type_of(name)
        assert isinstance(window, Spikes)
        return window.ticks

    def add(self, x: Array, *, judged: bool) -> tuple[Array, Array]:
        """One batch; labels of source and twin."""
        names = self.names if judged else []
        (want,) = run_batches(self.real, x, keep=names, batch=len(x))
        (free,) = run_batches(self.twin, x, keep=names, batch=len(x))
        if not judged:
            return want.labels, free.labels
        real = {name: want.spikes[name].astype(np.float64) / self.ticks(self.real, name) for name in names}

        def instead(name: str, own: Array) -> Array:
            if name not in real:
                return own
            t, r = self.ticks(self.twin, name), real[name]
            q = own.astype(np.float64) / t
            if name not in self.ranges:
                self.fitted.add(name)
                self.ranges[name] = _factor(r, q)
            sums = self.sums[name]
            r = r / self.ranges[name]
            sums.power += float((r * r).sum())
            sums.own += float(((r - q) ** 2).sum())
            return (np.minimum(r, 1) * t).astype(np.float32)

        (own,) = run_batches(self.twin, x, keep=(), batch=len(x), instead=instead)
        for name in names:
            self.free(name, real[name] / self.ranges[name], free.spikes[name])
        r, p, q = (np.asarray(s, np.float64) for s in (want.scores, own.scores, free.scores))
        self.score_sums += [(r * r).sum(), (r * p).sum(), (p * p).sum(), (r * q).sum(), (q * q).sum()]
        return want.labels, free.labels

    def free(self, name: str, r: Reals, x: Array) -> None:
        """Both nets running freely: values and spike times. A silent neuron's time is the window's end."""
        t, sums = self.ticks(self.twin, name), self.sums[name]
        sums.whole += float(((r - x / t) ** 2).sum())
        off = np.abs(t * np.clip(r, 0, 1) - x)
        sums.off += float(off.sum())
        sums.worst = max(sums.worst, float(off.max()))
        sums.firing += int(((r > 0) | (x > 0)).sum())
        sums.beyond += int((r > 1 + 1e-6).sum())
        sums.size += r.size

    def layers(self) -> tuple[LayerError, ...]:
        found = list[LayerError]()
        for name, s in self.sums.items():
            mean = s.off / s.firing if s.firing else 0.0
            own, whole = _sqnr(s.power, s.own), _sqnr(s.power, s.whole)
            found.append(LayerError(name, own, whole, mean, s.worst, s.beyond / s.size, name in self.fitted))
        rr, rp, pp, rq, qq = (float(v) for v in self.score_sums)
        # scores have no unit in common: the noise is what is left of r beside the factor that fits best
        own, whole = (_sqnr(rr, rr - cross * cross / power if power else rr) for cross, power in ((rp, pp), (rq, qq)))
        found.append(LayerError(self.twin.answer.name, own, whole, None, None, None))
        return tuple(sorted(found, key=lambda layer: layer.own))


def _factor(r: Reals, q: Reals) -> float:
    """The range that fits best: least squares, with the half tick that flooring takes from every value as an offset."""
    inside = (q > 0) & (q < 1)
    if inside.sum() > 1:
        a, b = q[inside], r[inside]
        spread = float(((a - a.mean()) ** 2).sum())
        slope = float(((a - a.mean()) * (b - b.mean())).sum()) / spread if spread else 0.0
        if slope > 0:
            return slope
    power = float((q * q).sum())
    return max(float((r * q).sum()) / power if power else float(r.max(initial=0)), 0.0) or 1.0


def _sqnr(power: float, noise: float) -> float:
    if noise <= power * 1e-12:  # what float32 leaves
        return inf
    return 10 * log10(power / noise) if power else -inf


def _db(value: float) -> str:
    return "exact" if value == inf else "no signal" if value == -inf else f"{value:.1f} dB"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %"
