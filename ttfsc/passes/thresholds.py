"""From real ranges and biases to the integer threshold tables of `fire`.

A real neuron fires when `unit V + bias + drift n/T >= Theta (T - n)/T`; the constants move into the table
(`ttfsc.ir.falling_table`), so hidden layers have no bias left and lose nothing to rounding it. Where the membrane
itself is an answer (read-outs, the tie rule of first_spike) or forgets its bias (kernel leak), the bias stays on the
synapse as a rounded integer, and what the rounding took is put into the table instead: spikes are the same either way.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ttfsc.ir import Add, Conv2d, Dense, Flatten, Identity, Net, Potential, Shape, falling_table
from ttfsc.passes.rewrite import Reals, SynapseOp, reals

Ints = npt.NDArray[np.int64]
NumbersT = TypeVar("NumbersT", Reals, Ints)
ScalarT = TypeVar("ScalarT", bound=np.generic)
_LIMIT = 2.0**62


@dataclass(frozen=True)
class Constants:
    """What a membrane holds besides its weighted inputs; arrays of the potential's rank that broadcast to it."""

    unit: Reals  # real worth of one integer
    bias: Reals  # real, from the window's opening; 0 where it is no part of the table
    drift: Reals  # real, per window (windowed) or per tick (streaming)
    bias_int: Ints  # the part of it that the integer membrane already holds
    drift_int: Ints  # the same per tick

    def flattened(self, shape: Shape) -> "Constants":
        """Behind a flatten of a potential of `shape`."""
        unit, bias, drift = (_flat(a, shape) for a in (self.unit, self.bias, self.drift))
        return Constants(unit, bias, drift, _flat(self.bias_int, shape), _flat(self.drift_int, shape))

    def __add__(self, other: "Constants") -> "Constants":
        """Behind an add: units agree, the rest adds up."""
        return Constants(
            self.unit, self.bias + other.bias, self.drift + other.drift,
            self.bias_int + other.bias_int, self.drift_int + other.drift_int,
        )  # fmt: skip


def constants_of(net: Net, name: str, units: Mapping[str, Reals], kept: Mapping[str, tuple[Ints, Ints]]) -> Constants:
    """The constants of potential %name of the real net.

    units: by synapse op, [C] or [1]. kept: by synapse op, the integer bias and drift that stay on it.
    """
    op = net.by_name[name]
    match op:
        case Add():
            first, *rest = (constants_of(net, x, units, kept) for x in op.xs)
            for other in rest:
                first = first + other
            return first
        case Flatten():
            return constants_of(net, op.x, units, kept).flattened(net.type_of(op.x).shape)
        case Identity():
            return constants_of(net, op.x, units, kept)
        case Conv2d() | Dense():
            ndim = len(op.type.shape)
            bias, drift = real_constants(net, op)
            whole = kept.get(op.name, (np.zeros(1, np.int64), np.zeros(1, np.int64)))
            if op.kernel == "leak":  # its bias decays: all of it is in the membrane, none in the table
                bias, drift, whole = np.zeros(1), np.zeros(1), (np.zeros(1, np.int64), np.zeros(1, np.int64))
            unit = _ranked(np.broadcast_to(units[op.name], (op.type.shape[0],)), ndim)
            return Constants(
                unit, _ranked(bias, ndim), _ranked(drift, ndim), _ranked(whole[0], ndim), _ranked(whole[1], ndim)
            )
        case _:
            raise AssertionError(f"{op.subject} gives no potential")


def real_constants(net: Net, op: SynapseOp) -> tuple[Reals, Reals]:
    """Bias and drift of a synapse in real units; [1] zeros where there are none."""
    bias = np.zeros(1) if op.bias is None else reals(net.arrays, op.bias)
    drift = np.zeros(1) if op.drift is None else reals(net.arrays, op.drift)
    return bias, drift


def whole_constants(net: Net, op: SynapseOp, unit: Reals, ticks: int) -> tuple[Ints, Ints]:
    """Bias and drift per tick as integers, rounded to nearest: [C] or of the result's shape."""
    bias, drift = real_constants(net, op)
    per_tick = drift if _streams(op) else drift / ticks
    found = list[Ints]()
    for a in (bias, per_tick):
        divisor = unit if a.ndim == 1 else _ranked(np.broadcast_to(unit, (a.shape[0],)), a.ndim)
        found.append(np.clip(np.rint(a / divisor), -_LIMIT, _LIMIT).astype(np.int64))
    return found[0], found[1]


def table_of(theta: Reals, c: Constants, ticks: int, *, streaming: bool, early: float = 0.0) -> Ints:
    """The threshold table: [1, T], [C, T] or [*shape, T], the smallest that says it.

    Windowed: the falling threshold theta (1 - n/T), or what it is `early` ticks later (0.5 rounds to nearest).
    Streaming: theta at every tick. Constants of `step` kernels are moved in, too.
    """
    theta = _ranked(theta, c.unit.ndim)
    if streaming:
        n = np.arange(ticks)
        real = (theta - c.bias)[..., None] - c.drift[..., None] * n
        table = np.clip(np.ceil(real / c.unit[..., None]), -_LIMIT, _LIMIT).astype(np.int64)
    else:
        table = falling_table(theta, c.bias + theta * (early / ticks), c.drift, c.unit, ticks)
    return table + c.bias_int[..., None] + c.drift_int[..., None] * np.arange(ticks)


def shrunk(table: Ints, shape: Shape, low: int, high: int) -> npt.NDArray[np.int32] | Ints:
    """The table with thresholds that no membrane of low..high tells apart clamped together, equal rows stored once."""
    table = np.clip(table, low, high + 1)
    per_channel = table.reshape(shape[0], -1, table.shape[-1])
    if (per_channel != per_channel[:, :1]).any():
        return small_ints(np.broadcast_to(table, (*shape, table.shape[-1])))
    rows = per_channel[:, 0]
    return small_ints(rows[:1] if (rows == rows[:1]).all() else rows)


def small_ints(values: Ints) -> npt.NDArray[np.int32] | Ints:
    """As int32; wider only where needed, so that prove-widths can refuse the layer with its true numbers."""
    fits = values.size == 0 or (int(values.min()) >= -(2**31) and int(values.max()) < 2**31)
    return values.astype(np.int32) if fits else values


def _streams(op: SynapseOp) -> bool:
    return isinstance(op.type, Potential) and op.type.streaming


def _ranked(a: NumbersT, ndim: int) -> NumbersT:
    """[C] as [C, 1, ...] of rank ndim; full maps as they are."""
    return a if a.ndim == ndim else a.reshape(-1, *[1] * (ndim - 1))


def _flat(a: npt.NDArray[ScalarT], shape: Shape) -> npt.NDArray[ScalarT]:
    return np.broadcast_to(a, shape).reshape(-1)
