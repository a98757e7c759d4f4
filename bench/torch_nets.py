"""A spiking net in torch: as two convolutions per layer, which gives its very spikes, and simulated in SpikingJelly.

The TTFS form evaluates S (weights times values) and W (weights of the inputs that fired) by a convolution each and
solves for the first tick at which S + W n reaches the falling threshold. SpikingJelly runs integrate-and-fire neurons
on the same shape for a number of steps, in multi-step mode; only its time is compared.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

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
    Input,
    MaxPool,
    Net,
    Op,
    Scores,
    Spikes,
)

STEPS = 16
Forward = Callable[[Tensor], Tensor]


@dataclass
class TwoConvolutions:
    """`net` as torch operations on x [1, C, H, W], float32; windowed nets with a membrane read-out.

    rows: if given, filled with the weights that each layer's spikes add, by layer name.
    """

    net: Net
    rows: dict[str, float] | None = None
    values: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        arrays = self.net.arrays.items()
        self.arrays = {name: tensor(a) for name, a in arrays}
        self.added = dict[str, float]()

    def __call__(self, x: Tensor) -> Tensor:
        """Scores [1, classes]."""
        with torch.inference_mode():
            for op in self.net.ops:
                self.values[op.name] = self.evaluate(op, x)
        return self.values[self.net.answer.name]

    def evaluate(self, op: Op, x: Tensor) -> Any:
        match op:
            case Input():
                return x
            case Encode():
                given, t = self.net.type_of(op.x), op.type
                assert isinstance(given, Analog) and isinstance(t, Spikes)
                return torch.floor((self.values[op.x] - given.low) / (given.high - given.low) * t.ticks + 0.5)
            case MaxPool():
                return functional.max_pool2d(self.values[op.x], op.kernel, op.stride)
            case Flatten():
                return _flat(self.values[op.x])
            case Conv2d() | Dense():
                return self.potential(op)
            case Add():
                parts = [self.values[v] for v in op.xs]
                self.added[op.name] = sum(self.added.get(v, 0.0) for v in op.xs)
                return tuple(sum(p) for p in zip(*parts, strict=True))
            case Fire():
                return self.fire(op)
            case Decode():
                s, w = self.values[op.xs[0]]
                self.note(op.name, op.xs[0])
                assert isinstance(op.type, Scores)
                return s + w * op.type.ticks
            case _:
                raise AssertionError(f"{op.subject} has no torch form here")

    def potential(self, op: Conv2d | Dense) -> tuple[Tensor, Tensor | float]:
        x = self.values[op.x]
        fired = (x != 0).float() if op.kernel == "ramp" or self.rows is not None else x
        if self.rows is not None:
            self.added[op.name] = self.count(op, fired)
        return self.apply(op, x), self.apply(op, fired) if op.kernel == "ramp" else 0.0

    def apply(self, op: Conv2d | Dense, x: Tensor) -> Tensor:
        w = self.arrays[op.w]
        bias = None if op.bias is None else self.arrays[op.bias]
        if isinstance(op, Dense):
            return functional.linear(x, w, bias)
        return functional.conv2d(pooled(op, x), w, bias, op.stride, op.pad[:2], op.dilation, op.groups)

    def count(self, op: Conv2d | Dense, fired: Tensor) -> float:
        """Weights that the spikes add to all membranes."""
        w = self.arrays[op.w]
        if isinstance(op, Dense):
            return float(fired.sum()) * len(w)
        ones = torch.ones((op.groups, *w.shape[1:]))
        each = functional.conv2d(pooled(op, fired), ones, None, op.stride, op.pad[:2], op.dilation, op.groups)
        return float(each.sum()) * len(w) / op.groups

    def fire(self, op: Fire) -> Tensor:
        """Spike values: ticks - n with n the first tick where S + W n >= theta[0] - fall n."""
        s, w = self.values[op.v]
        assert op.theta is not None and isinstance(op.type, Spikes)
        self.note(op.name, op.v)
        theta, ticks = self.arrays[op.theta], op.type.ticks
        first, n = theta[..., 0], torch.arange(ticks)
        fall = first / ticks  # the table of DTA-TTFS; others are nearly straight
        if not torch.equal(torch.ceil(first[..., None] - fall[..., None] * n), theta):
            fall = (first - theta[..., -1]) / max(ticks - 1, 1)
        shape = (1, -1, *[1] * (s.dim() - 2)) if first.dim() == 1 else (1, *first.shape)
        first, rise = first.reshape(shape), fall.reshape(shape) + w
        late = torch.where(rise > 0, torch.ceil((first - s) / rise), ticks).clamp(min=0)
        late = torch.where(s >= first, 0, late)
        return (ticks - late).clamp(min=0)

    def note(self, layer: str, potential: str) -> None:
        op = self.net.by_name[potential]
        source = op.x if isinstance(op, Flatten) else potential
        if self.rows is not None:
            self.rows[layer] = self.added.get(source, 0.0)


def _flat(value: Any) -> Any:
    match value:
        case Tensor():
            return value.flatten(1)
        case (s, w):
            return _flat(s), _flat(w)
        case _:
            return value  # the slope of a hold layer is the number 0


def tensor(a: Array) -> Tensor:
    """As float32."""
    return torch.as_tensor(np.asarray(a, np.float32))


def pooled(op: Conv2d, x: Tensor) -> Tensor:
    """The sums over pooling windows that a folded average pool reads."""
    if op.pool == (1, 1):
        return x
    return functional.avg_pool2d(x, op.pool, op.pool_stride) * (op.pool[0] * op.pool[1])


def agreement(net: Net, form: TwoConvolutions, x: Array, want: dict[str, Array]) -> float:
    """Share of neurons whose spike is the interpreter's; x [N, C, H, W]. Less than 1 only by rounding in float32."""
    same = total = 0
    for i in range(len(x)):
        form(tensor(x[i : i + 1]))
        for name, spikes in want.items():
            same += int((form.values[name].numpy().reshape(spikes[i].shape) == spikes[i]).sum())
            total += spikes[i].size
    return same / total


def simulated(net: Net) -> Forward | None:
    """The same shape as SpikingJelly simulates it, `STEPS` steps; None where it is not installed."""
    if find_spec("spikingjelly") is None:
        return None
    package = "spikingjelly.activation_based"
    neuron, jelly = import_module(f"{package}.neuron"), import_module(f"{package}.functional")
    arrays = {name: tensor(a) for name, a in net.arrays.items()}
    nodes = dict[str, Any]()
    for op in net.ops:
        if isinstance(op, Fire) and op.theta is not None and isinstance(op.type, Spikes):
            pixels = any(isinstance(net.type_of(s.x), Analog) for s in synapses(net, op.v))
            top = float(net.arrays[op.theta][..., 0].mean()) / (1 if pixels else op.type.ticks)
            nodes[op.name] = neuron.IFNode(v_threshold=max(top, 1.0), step_mode="m")

    def forward(x: Tensor) -> Tensor:
        values = dict[str, Tensor]()
        with torch.inference_mode():
            for op in net.ops:
                match op:
                    case Input():
                        values[op.name] = x.repeat(STEPS, 1, 1, 1)
                    case MaxPool():
                        values[op.name] = functional.max_pool2d(values[op.x], op.kernel, op.stride)
                    case Flatten():
                        values[op.name] = values[op.x].flatten(1)
                    case Conv2d():
                        values[op.name] = functional.conv2d(
                            pooled(op, values[op.x]), arrays[op.w], None, op.stride, op.pad[:2], op.dilation, op.groups
                        )
                    case Dense():
                        values[op.name] = functional.linear(values[op.x], arrays[op.w])
                    case Add():
                        values[op.name] = torch.stack([values[v] for v in op.xs]).sum(0)
                    case Fire():
                        values[op.name] = nodes[op.name](values[op.v][:, None])[:, 0]
                    case Decode():
                        values[op.name] = values[op.xs[0]].mean(0)
                    case _:
                        values[op.name] = values[str(op.operands()[0])]
            for node in nodes.values():
                jelly.reset_net(node)
        return values[net.answer.name]

    return forward


def synapses(net: Net, potential: str) -> list[Conv2d | Dense]:
    """The synapse ops behind a potential."""
    op = net.by_name[potential]
    if isinstance(op, Conv2d | Dense):
        return [op]
    return [s for x in op.operands() for s in synapses(net, x)]
