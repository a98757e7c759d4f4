"""Weights onto integers: trained grids taken over, free ones chosen, branches of one sum given one unit.

Integers w of a synapse stand for `step w` real weight; behind it one integer step of the membrane is worth
`unit = step * in_unit`, in_unit being what one integer step of its input is worth (the input's scale, or 1/T for spikes
of a window of T ticks). Everything that adds into one membrane must share one unit, per output channel or, where
membranes of different channels are compared (read-outs), for all of them.
"""

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ttfsc.ir import Fault, codes
from ttfsc.passes.ranges import Method
from ttfsc.passes.rewrite import Reals, SynapseOp

log = logging.getLogger(__name__)
Ints = npt.NDArray[np.int64]
_BLOCK = 1 << 20  # weights at a time
_PARTS = 64  # synapses that one branch of a sum may become
_SAME = 1e-6  # relative: steps and units closer than that are one


@dataclass(frozen=True)
class Branch:
    """One synapse op of a sum."""

    op: SynapseOp
    w: Reals
    step: Reals | None  # trained, [C]
    in_unit: float
    bits: int

    @property
    def rows(self) -> Reals:
        """The weights of each output channel, [C, n]."""
        return self.w.reshape(len(self.w), -1)


@dataclass(frozen=True)
class Rounded:
    """Integer weights of a branch and the width that holds them."""

    w: npt.NDArray[np.int8]
    bits: int
    more: tuple[npt.NDArray[np.int8], ...] = ()  # what is beyond 8 bits: further synapses that add up with the first

    @property
    def total(self) -> Ints:
        """The whole integers."""
        return sum((part.astype(np.int64) for part in self.more), self.w.astype(np.int64))


class GridError(Exception):
    """What keeps a sum of branches from having integer weights."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__()
        self.faults = faults


def top_of(bits: int) -> int:
    """The largest weight integer of `bits` bits, symmetric."""
    return 2 ** (bits - 1) - 1


def joined(
    branches: list[Branch], *, per_tensor: bool, method: Method, percentile: float, divisible: Collection[str] = ()
) -> tuple[Reals, dict[str, Rounded]]:
    """The common unit ([C], or [1] per tensor) of branches that add up, and each branch's integers by op name.

    divisible: branches that may become several synapses where a trained grid beside them asks for more than 8 bits.

    Raises GridError: weights off their trained grid, trained grids without a common unit, too wide integers.
    """
    trained = [b for b in branches if b.step is not None]
    integers = {b.op.name: _on_grid(b) for b in trained}
    faults = [fault for ints in integers.values() if isinstance(ints, Fault) for fault in (ints,)]
    if faults:
        raise GridError(faults)
    found = {name: ints for name, ints in integers.items() if not isinstance(ints, Fault)}
    free = [b for b in branches if b.step is None]
    if trained:
        unit = _common(trained, found, per_tensor=per_tensor)
        if len(branches) == 1:
            return unit, {trained[0].op.name: Rounded(found[trained[0].op.name].astype(np.int8), trained[0].bits)}
        limits = dict.fromkeys((b.op.name for b in branches), np.inf)
        if any(b.op.bits for b in free):  # a grid that was given up for this one: as fine as 8 bits allow
            finer = max(1, top_of(8) // max(1, *(int(np.abs(ints).max(initial=0)) for ints in found.values())))
            unit = unit / finer
    else:
        unit, limits = _chosen(free, per_tensor=per_tensor, method=method, percentile=percentile)
    rounded, wide = dict[str, Rounded](), list[Fault]()
    for b in branches:
        ratio = b.in_unit / unit if b.step is None else _unit(b, per_tensor) / unit
        ratio = ratio.reshape(-1, *[1] * (b.w.ndim - 1))
        limit = limits[b.op.name]
        w = np.rint(np.clip(b.w, -limit, limit) * ratio if b.step is None else found[b.op.name] * ratio)
        largest, smallest = int(w.max(initial=0)), int(w.min(initial=0))
        bits = next((k for k in range(max(b.bits, 2), 9) if smallest >= -(2 ** (k - 1)) and largest <= top_of(k)), 0)
        if not bits and b.op.name in divisible and max(largest, -smallest) <= _PARTS * top_of(8):
            parts = tuple(_parts(w))
            rounded[b.op.name] = Rounded(parts[0], 8, parts[1:])
            log.warning(
                "%s: %s: its weights reach %d in the unit of the sum it adds into: %d synapses of 8 bits carry them",
                b.op.loc,
                b.op.subject,
                max(largest, -smallest),
                len(parts),
            )
            continue
        if not bits:
            fact = (
                f"its weights reach {max(largest, -smallest)} in the unit of the sum it adds into; 8 bits hold 127: "
                "train the branches of the sum with closer steps"
            )
            wide.append(Fault(codes.VALUE, b.op.loc, b.op.subject, fact))
            continue
        if bits > b.bits:
            log.warning(
                "%s: %s: bits=%d instead of %d, to share a unit with the sum it adds into",
                b.op.loc,
                b.op.subject,
                bits,
                b.bits,
            )
        rounded[b.op.name] = Rounded(w.astype(np.int8), bits)
    if wide:
        raise GridError(wide)
    return unit, rounded


def _parts(w: Reals) -> Iterator[npt.NDArray[np.int8]]:
    """Integers as a sum of such that 8 bits hold."""
    while True:
        part = np.clip(w, -top_of(8), top_of(8))
        yield part.astype(np.int8)
        w = w - part
        if not w.any():
            return


def _on_grid(b: Branch) -> Ints | Fault:
    """The trained integers, taken over exactly."""
    assert b.step is not None
    exact = b.w / b.step.reshape(-1, *[1] * (b.w.ndim - 1))
    integers = np.rint(exact)
    off = np.abs(exact - integers)
    low, high = -(2 ** (b.bits - 1)), max(top_of(b.bits), 1)
    outside = (integers < low) | (integers > high)
    if not (off > 1e-3).any() and not outside.any():
        return integers.astype(np.int64)
    wrong = (off > 1e-3) | outside
    place = [int(i) for i in np.argwhere(wrong)[0]]
    fact = (
        f"@{b.op.w} does not lie on its grid step=@{b.op.step} bits={b.bits}: {int(wrong.sum())} weights, the first at "
        f"{place} is {exact[tuple(place)]:.6g} steps, must be an integer of {low}..{high}; export the model again"
    )
    return Fault(codes.ARRAY, b.op.loc, b.op.subject, fact)


def _unit(b: Branch, per_tensor: bool) -> Reals:
    assert b.step is not None
    return (b.step[:1] if per_tensor else b.step) * b.in_unit


def _common(trained: list[Branch], integers: dict[str, Ints], *, per_tensor: bool) -> Reals:
    """The finest unit of trained branches; every other must be a whole multiple of it."""
    faults = list[Fault]()
    for b in trained:
        assert b.step is not None
        if per_tensor and (np.abs(b.step - b.step[0]) > _SAME * b.step[0]).any():
            fact = (
                f"step=@{b.op.step} reaches from {b.step.min():.6g} to {b.step.max():.6g}, but its outputs are "
                "compared with each other and need one step: train this layer with one step per tensor"
            )
            faults.append(Fault(codes.ARRAY, b.op.loc, b.op.subject, fact))
    if faults:
        raise GridError(faults)
    if len(trained) == 1:
        return _unit(trained[0], per_tensor)
    units = [_unit(b, per_tensor) for b in trained]
    alive = [_alive(integers[b.op.name], per_tensor) for b in trained]
    finest = np.min([np.where(a, u, np.inf) for u, a in zip(units, alive, strict=True)], axis=0)
    finest = np.where(np.isinf(finest), units[0], finest)
    for b, unit, used in zip(trained, units, alive, strict=True):
        ratio = unit / finest
        bad = used & (np.abs(ratio - np.rint(ratio)) > _SAME * ratio)
        if bad.any():
            channel = int(np.argmax(bad))
            fact = (
                f"was trained on a grid whose unit is {ratio[channel]:.6g} times that of a branch it is added to "
                f"(channel {channel}); only whole multiples add up exactly: train both with one step"
            )
            faults.append(Fault(codes.OPTION, b.op.loc, b.op.subject, fact))
    if faults:
        raise GridError(faults)
    return finest


def _alive(integers: Ints, per_tensor: bool) -> npt.NDArray[np.bool_]:
    used = (integers != 0).reshape(len(integers), -1).any(1)
    return np.array([used.any()]) if per_tensor else used


def _chosen(
    free: list[Branch], *, per_tensor: bool, method: Method, percentile: float
) -> tuple[Reals, dict[str, npt.NDArray[np.floating] | float]]:
    """A unit for branches without a grid, and the real weight at which each clips.

    The finest unit that a branch of several weights per output asks for at its own width; coarser only where a branch
    would then need more than 8 bits. Identity skips (one weight per output) follow the others.
    """
    steps = {b.op.name: free_steps(b.rows, b.bits, method, percentile, per_tensor=per_tensor) for b in free}
    limits: dict[str, npt.NDArray[np.floating] | float] = {
        b.op.name: (steps[b.op.name] * top_of(b.bits)).reshape(-1, *[1] * (b.w.ndim - 1)) for b in free
    }
    unit = _finest([b for b in free if b.rows.shape[1] > 1] or free, steps)
    unit = np.where(np.isinf(unit), _finest(free, steps), unit)
    if len(free) > 1:
        widest = np.max([np.broadcast_to(_reach(b, per_tensor) * b.in_unit, unit.shape) for b in free], axis=0)
        coarser = np.isfinite(unit) & (widest > 127 * unit * (1 + _SAME))
        if coarser.any():
            names, count = ", ".join(b.op.subject for b in free), int(coarser.sum())
            fact = (
                "%s: %s: %d channels get a coarser unit than their bits ask for, so that the largest branch fits 8 bits"
            )
            log.warning(fact, free[0].op.loc, names, count)
        unit = np.where(coarser, widest / 127, unit)
    dead = np.isinf(unit)  # nothing but zero weights: any unit will do
    return np.where(dead, np.mean(unit[~dead]) if (~dead).any() else 1.0, unit), limits


def _finest(branches: list[Branch], steps: dict[str, Reals]) -> Reals:
    """The smallest unit that any branch asks for; infinite where all weights are 0."""
    units = [steps[b.op.name] * b.in_unit for b in branches]
    return np.min([np.where(u > 0, u, np.inf) for u in units], axis=0)


def _reach(b: Branch, per_tensor: bool) -> Reals:
    sizes = np.abs(b.rows).max(1, initial=0)
    return sizes.max(initial=0, keepdims=True) if per_tensor else sizes


def free_steps(rows: Reals, bits: int, method: Method, percentile: float, *, per_tensor: bool) -> Reals:
    """The real weight of integer 1 for each row of weights ([C]; [1] per tensor); 0 where all weights are 0.

    max: the largest weight gets the largest integer. percentile: that of the magnitudes. mse: the step with the
    smallest squared error among fractions of the first (as Esser et al., ICLR 2020, start from).
    """
    top = top_of(bits)
    widest = np.abs(rows).max(1, initial=0)
    if per_tensor:
        widest = widest.max(initial=0, keepdims=True)
    if method == "percentile":
        sizes = np.abs(rows)
        cut = (
            np.percentile(sizes, percentile, keepdims=True)[0]
            if per_tensor
            else np.percentile(sizes, percentile, axis=1)
        )
        widest = np.where(cut > 0, cut, widest)
    if method != "mse":
        return widest / top
    fractions = np.linspace(0.3, 1.0, 24) if bits < 6 else np.linspace(0.7, 1.0, 10)
    errors = np.zeros((len(fractions), len(widest)))
    many = max(1, _BLOCK // max(rows.shape[1], 1))
    for i in range(0, len(rows), many):
        block = rows[i : i + many].astype(np.float32)
        part = slice(None) if per_tensor else slice(i, i + many)
        for f, fraction in enumerate(fractions):
            step = np.where(widest[part] > 0, widest[part] * fraction / top, 1).astype(np.float32)[:, None]
            off = np.clip(np.rint(block / step), -top, top) * step - block
            error = np.einsum("ij,ij->i", off, off, dtype=np.float64)
            errors[f, part] += error.sum(keepdims=True) if per_tensor else error
    return widest * fractions[errors.argmin(0)] / top
