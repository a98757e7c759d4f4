"""A net and its quantised twin side by side on sample inputs, layer by layer: what rounding did to each membrane.

Only windowed nets of kernel `hold` (quantised ReLU networks) are followed. Values are x in 0..1 as in the real net; the
twin's are whole ticks, x = clip(floor(T S / Theta + shift), 0, T) / T.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ttfsc.ir import (
    Add,
    Analog,
    Array,
    Conv2d,
    Decode,
    Dense,
    Encode,
    Fire,
    Flatten,
    Identity,
    Input,
    MaxPool,
    Net,
    Op,
)  # fmt: skip
from ttfsc.ir.geometry import conv_out
from ttfsc.ir.linear import Floats, pad_with, pool_max, pool_sum, synapses
from ttfsc.passes.rewrite import Reals, SynapseOp, reals

_BYTES = 128 << 20  # of the largest value that is held for all samples
_SAMPLES = 512
_COLUMNS = 1 << 14  # input patches that a second moment is taken from


def followable(net: Net) -> bool:
    """Whether the net is a windowed one of kernel `hold` throughout, read out by its membranes."""
    synapse = all(op.kernel == "hold" and op.drift is None for op in net.ops if isinstance(op, Conv2d | Dense))
    answer = net.answer
    by_membrane = isinstance(answer, Decode) and answer.rule == "membrane"
    return synapse and by_membrane and isinstance(net.input.type, Analog)


def _none() -> dict[str, Floats]:
    return {}


@dataclass
class Twin:
    """Both nets' values as far as they are known. `samples` [N, *input shape], integers as the net's input declares."""

    net: Net
    samples: Array
    ticks: dict[str, int]  # by fire and encode
    early: dict[str, float]  # by fire: 0.5 where ticks round to nearest
    fine: dict[str, Floats] = field(default_factory=_none)
    coarse: dict[str, Floats] = field(default_factory=_none)

    def __post_init__(self) -> None:
        largest = max(op.type.size for op in self.net.ops)
        count = max(16, min(_SAMPLES, _BYTES // (4 * largest)))
        self.samples = self.samples[
            np.linspace(0, len(self.samples) - 1, min(count, len(self.samples))).astype(np.int64)
        ]
        self.left = {name: len(users) for name, users in self.net.users.items()}

    def settle(self, op: SynapseOp, weights: Reals) -> None:
        """Evaluate a synapse: its own weights in the source, `weights` in the twin."""
        fine, coarse = self.fine[op.x], self.coarse[op.x]
        bias = np.zeros(1) if op.bias is None else reals(self.net.arrays, op.bias)
        bias = (bias if bias.ndim == len(op.type.shape) else bias.reshape(-1, *[1] * (len(op.type.shape) - 1)))[None]
        self.fine[op.name] = synapses(op, fine, self.net.arrays[op.w], np.float32) + bias.astype(np.float32)
        self.coarse[op.name] = synapses(op, coarse, weights, np.float32) + bias.astype(np.float32)
        self.done(op)

    def caught_up(self, potential: str) -> Reals:
        """Add constants [C] to the twin's membrane so that its mean over samples and places is the source's."""
        fine, coarse = self.fine[potential], self.coarse[potential]
        axes = tuple(i for i in range(fine.ndim) if i != 1)
        lag = fine.mean(axes, dtype=np.float64) - coarse.mean(axes, dtype=np.float64)
        self.coarse[potential] = coarse + lag.reshape(-1, *[1] * (fine.ndim - 2)).astype(np.float32)
        return lag

    def step(self, op: Op) -> None:
        """Evaluate an op without weights in both nets."""
        for values, real in ((self.fine, True), (self.coarse, False)):
            match op:
                case Input():
                    values[op.name] = self.samples.astype(np.float32) * np.float32(op.scale)
                case Encode():
                    values[op.name] = self.encoded(op, values[op.x], real)
                case MaxPool():
                    values[op.name] = pool_max(op, values[op.x])
                case Flatten():
                    values[op.name] = values[op.x].reshape(len(values[op.x]), -1)
                case Identity():
                    values[op.name] = values[op.x]
                case Add():
                    values[op.name] = sum((values[x] for x in op.xs[1:]), values[op.xs[0]])
                case Fire():
                    values[op.name] = self.fired(op, values[op.v], real)
                case _:
                    raise AssertionError(f"{op.subject} must be settled first")
        self.done(op)

    def done(self, op: Op) -> None:
        """Forget what nobody reads any more."""
        for ref in op.operands():
            self.left[ref] -= 1
        spent = [n for n in self.fine if not self.left.get(n) and n != op.name]
        for name in spent:
            del self.fine[name], self.coarse[name]

    def fired(self, op: Fire, v: Floats, real: bool) -> Floats:
        assert op.theta is not None
        theta = reals(self.net.arrays, op.theta)
        level = v / theta.reshape(-1, *[1] * (v.ndim - 2)).astype(np.float32)
        if real:
            return np.clip(level, 0, 1)
        ticks = np.float32(self.ticks[op.name])
        return np.clip(np.floor(level * ticks + np.float32(self.early.get(op.name, 0.0))), 0, ticks) / ticks

    def encoded(self, op: Encode, x: Floats, real: bool) -> Floats:
        source = self.net.type_of(op.x)
        assert isinstance(source, Analog)
        u = np.clip((x / np.float32(self.net.input.scale) - source.low) / (source.high - source.low), 0, 1)
        ticks = np.float32(self.ticks[op.name])
        return (u if real else (ticks - np.floor((1 - u) * ticks + np.float32(0.5))) / ticks).astype(np.float32)


def moments(op: SynapseOp, x: Floats, kernel: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Second moments of what each weight of an output reads: [groups, K, K], K weights, over samples and places."""
    if isinstance(op, Dense):
        columns = x[None].astype(np.float64)
    else:
        pooled = pool_sum(x, op.pool, op.pool_stride, op.pool_pad)
        size = conv_out(pooled.shape[2:], kernel[2:], op.stride, op.pad, op.dilation)
        padded = pad_with(pooled, op.pad, 0)
        places = size[0] * size[1]
        some = np.random.default_rng(0).permutation(places)[: max(1, _COLUMNS // len(x))]
        rows, cols = some // size[1] * op.stride[0], some % size[1] * op.stride[1]
        taps = [
            padded[:, :, rows + i * op.dilation[0], cols + j * op.dilation[1]]
            for i in range(kernel[2])
            for j in range(kernel[3])
        ]
        stacked = np.stack(taps, 2)  # [N, C, taps, places]
        split = stacked.reshape(len(x), op.groups, kernel[1] * len(taps), len(some))
        columns = split.transpose(1, 0, 3, 2).reshape(op.groups, -1, kernel[1] * len(taps)).astype(np.float64)
    return columns.swapaxes(1, 2) @ columns / columns.shape[1]
