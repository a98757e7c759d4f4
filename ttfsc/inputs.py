"""X.npz: `x` [N, *input shape] and, where accuracy is wanted, `y` [N]. Checked before anything runs on it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ttfsc.ir import Array, Const, Fault, Input, Loc, Net, TtfsError, check_input, codes, load_npz, show_shape

MAX_BYTES = 8 << 30


@dataclass(frozen=True)
class Samples:
    """Inputs as the net takes them, integers; labels where the file had them."""

    x: Array
    y: npt.NDArray[np.int64] | None
    source: str
    rounded: float = 0.0  # largest change, in source units, when real values were put on the input's grid

    def __len__(self) -> int:
        return len(self.x)

    def first(self, n: int) -> "Samples":
        """At most the first n."""
        return Samples(self.x[:n], None if self.y is None else self.y[:n], self.source, self.rounded)


def load_samples(path: Path, net: Net) -> Samples:
    """Read and check X.npz against the net's input: see `read_samples`."""
    return read_samples(path, net.input, net.answer.type.shape[0], partial(check_input, net))


def read_samples(path: Path, taken: Input, classes: int, check: Callable[[Array], None]) -> Samples:
    """Read X.npz for an input of this kind and labels 0..classes - 1. Raises TtfsError with everything that is wrong.

    Integers are taken as they are. Real values are the source model's: they are divided by the input's `scale` and
    rounded to its grid. check: raises TtfsError unless the integers fit.
    """
    loc = Loc(str(path))
    pool = load_npz(path, max_bytes=MAX_BYTES)
    faults = list[Fault]()
    x, y = pool.get(Const("x")), pool.get(Const("y"))
    if x is None:
        fact = f"holds {', '.join(sorted(pool)) or 'nothing'}, but no array x"
        faults.append(Fault(codes.INPUT, loc, "", f"{fact}: save with np.savez(file, x=..., y=...)"))
    labels, rounded = None, 0.0
    if y is not None:
        if y.ndim != 1 or y.dtype.kind not in "iu":
            faults.append(Fault(codes.INPUT, loc, "", f"y is {y.dtype} {show_shape(y.shape)}, must be integers [N]"))
        elif x is not None and x.ndim and len(x) != len(y):
            faults.append(Fault(codes.INPUT, loc, "", f"x has {len(x)} samples, y has {len(y)} labels"))
        labels = y.astype(np.int64) if y.dtype.kind in "iu" else None
        if labels is not None and labels.size and (labels.min() < 0 or labels.max() >= classes):
            fact = f"y reaches from {labels.min()} to {labels.max()}, the net knows classes 0..{classes - 1}"
            faults.append(Fault(codes.INPUT, loc, "", fact))
    if x is not None:
        try:
            x, rounded = on_grid(x, taken)
            check(x)
        except TtfsError as e:
            faults += [Fault(f.code, loc, f.subject, f.fact) for f in e.faults]
    if faults:
        raise TtfsError(faults)
    assert x is not None
    return Samples(x, labels, path.name, rounded)


def on_grid(x: Array, taken: Input) -> tuple[Array, float]:
    """x as integers of the input, and the largest change this made in source units."""
    if x.dtype.kind != "f":
        return x, 0.0
    if not np.isfinite(x).all():
        raise TtfsError.one(codes.INPUT, "x holds NaN or infinity", subject=f"input %{taken.name}")
    scaled = x.astype(np.float64) / taken.scale
    whole = np.rint(scaled)
    change = float(np.abs(whole - scaled).max(initial=0)) * taken.scale
    return whole.clip(-(2**31), 2**31 - 1).astype(np.int32), change


def range_of_samples(path: Path) -> tuple[int, int, float] | None:
    """Low, high and scale that hold the x of an X.npz: whole bytes as such, other integers by their extremes.

    Real values get 256 steps: 0..255 where none is negative, else -127..127 around 0. None where x holds nothing to go
    by; what is wrong with the file is said when it is read as samples.
    """
    x = load_npz(path, max_bytes=MAX_BYTES).get(Const("x"))
    if x is None or not x.size or x.dtype.kind not in "iuf" or not np.isfinite(x).all():
        return None
    if x.dtype.kind != "f":
        whole = x.dtype.itemsize == 1
        low, high = (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max) if whole else (x.min(), x.max())
        return (int(low), int(high), 1.0) if low < high else None
    low, largest = float(x.min()), float(np.abs(x).max())
    if not largest:
        return None
    return (0, 255, largest / 255) if low >= 0 else (-127, 127, largest / 127)


def random_samples(net: Net, count: int, seed: int) -> Samples:
    """Uniform random inputs in the declared range: for a known-answer test when nobody gives better ones."""
    t = net.input.type
    low, high = getattr(t, "low", 0), getattr(t, "high", getattr(t, "ticks", 1))
    x = np.random.default_rng(seed).integers(low, high + 1, (count, *t.shape))
    return Samples(x.astype(np.int32), None, f"{count} random inputs")
