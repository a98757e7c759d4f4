"""A net seen as layers of neurons: who owns them, and through which synapses their input comes.

Backends, bounds, partition and report all need this view; it is derived here once and stored nowhere.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ttfsc.ir.geometry import Counts, reads
from ttfsc.ir.net import Net
from ttfsc.ir.ops import Add, Conv2d, Decode, Dense, Encode, Fire, Flatten, Identity, Input, MaxPool, Op
from ttfsc.ir.types import Scores, Shape, Spikes

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Link:
    """One bundle of synapses: from the spikes (or pixels) of `source`, through `pools`, by `synapse`."""

    source: str  # an input, encode or fire
    source_grid: Grid
    pools: tuple[MaxPool, ...]
    synapse: Conv2d | Dense
    fan_in: Shape  # of the synapse's operand, behind the pools and before any flatten
    out_grid: Grid
    kernel: Shape  # of the weights

    @cached_property
    def axes(self) -> tuple[Counts, Counts]:
        """Synapses per axis, [out, operand]: height and width; the operand is behind the max pools."""
        match self.synapse:
            case Dense():
                return (np.ones((1, self.fan_grid[1]), np.int64), np.ones((1, self.fan_grid[2]), np.int64))
            case Conv2d() as c:
                axes = list[Counts]()
                for a in (0, 1):
                    size, out = self.fan_grid[a + 1], self.out_grid[a + 1]
                    inner = (size + c.pool_pad[a] + c.pool_pad[a + 2] - c.pool[a]) // c.pool_stride[a] + 1
                    summed = reads(size, inner, c.pool[a], c.pool_stride[a], c.pool_pad[a])
                    axes.append(reads(inner, out, self.kernel[a + 2], c.stride[a], c.pad[a], c.dilation[a]) @ summed)
                return axes[0], axes[1]

    @cached_property
    def reach(self) -> tuple[Counts, Counts]:
        """Which source neuron touches which output, per axis [out, source]: max pools included."""
        found = list[Counts]()
        for a, axis in enumerate(self.axes):
            size, counts = self.source_grid[a + 1], np.eye(self.source_grid[a + 1], dtype=np.int64)
            for pool in self.pools:
                out = pool.type.shape[a + 1]
                counts = reads(size, out, pool.kernel[a], pool.stride[a], pool.pad[a]) @ counts
                size = out
            found.append(((axis @ counts) > 0).astype(np.int64))
        return found[0], found[1]

    @cached_property
    def fan_grid(self) -> Grid:
        """The operand's shape as a grid."""
        return grid_of(self.fan_in)

    @property
    def groups(self) -> int:
        """1 for dense."""
        return self.synapse.groups if isinstance(self.synapse, Conv2d) else 1

    @cached_property
    def fan_out(self) -> Counts:
        """[H, W] of the operand: synaptic additions caused by one spike there, real borders (SOPs)."""
        h, w = (axis.sum(0) for axis in self.axes)
        return np.outer(h, w) * (self.kernel[0] // self.groups)


@dataclass(frozen=True, slots=True)
class Held:
    """How long a skip connection's spikes wait, and what a core keeps for every neuron that it hears through it.

    ticks: from the end of the source's window until the reader's opens. bits: a value 0..T of the source, for each of
    the frames whose spikes wait at once when all layers work, each on its own frame.
    """

    ticks: int
    bits: int


@dataclass(frozen=True)
class Layer:
    """Neurons: a fire, or the read-out membranes of a decode. `grid` is [channels, height, width].

    held: skip connections, by the number of their link (`ttfsc.ir.holding`).
    """

    name: str
    op: Fire | Decode
    grid: Grid
    links: tuple[Link, ...]
    held: tuple[tuple[int, Held], ...] = ()

    @property
    def size(self) -> int:
        """How many neurons."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def fires(self) -> bool:
        """Read-out membranes do not."""
        return isinstance(self.op, Fire)


def grid_of(shape: Shape) -> Grid:
    """(C, H, W) as it is; (N,) as (N, 1, 1): flat order is the same."""
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)


def layers_of(net: Net) -> tuple[Layer, ...]:
    """The layers of a canonical, quantized or mapped net, in order. A decode that only reads spikes owns no neurons."""
    found = list[Layer]()
    for op in net.ops:
        if isinstance(op, Fire):
            potential = op.v
        elif isinstance(op, Decode) and op.rule == "membrane":
            potential = op.xs[0]
        else:
            continue
        links, grid = _links(net, net.by_name[potential])
        found.append(Layer(op.name, op, grid, links))
    return with_held(found)


def with_held(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """The layers, each knowing which of its links hold their spikes: it follows from the windows of all."""
    layers = tuple(layers)
    windows = {layer.name: _window(layer) for layer in layers}
    interval = max([1, *(closes - opens for opens, closes in windows.values())])  # between frames, in a pipeline
    found = list[Layer]()
    for layer in layers:
        held, wanted = list[tuple[int, Held]](), windows[layer.name][0]
        for i, link in enumerate(layer.links):
            if link.synapse.kernel in ("hold", "ramp") and link.source in windows:
                opens, closes = windows[link.source]
                if wanted > closes:
                    frames = -(-(wanted - opens) // interval)
                    held.append((i, Held(wanted - closes, frames * (closes - opens).bit_length())))
        found.append(replace(layer, held=tuple(held)))
    return tuple(found)


def _window(layer: Layer) -> tuple[int, int]:
    t = layer.op.type
    assert isinstance(t, Spikes | Scores)
    return t.opens, t.closes


def _links(net: Net, op: Op) -> tuple[tuple[Link, ...], Grid]:
    match op:
        case Flatten() | Identity():
            return _links(net, net.by_name[op.x])
        case Add():
            branches = [_links(net, net.by_name[x])[0] for x in op.xs]
            return tuple(link for links in branches for link in links), _grid(net, op)
        case Conv2d() | Dense():
            source, pools, operand = source_of(net, op.x)
            # a source whose potential was flattened keeps its own grid, and so does an operand that is that source
            there = _grid(net, net.by_name[source.v]) if isinstance(source, Fire) else grid_of(source.type.shape)
            operand = there if len(operand) == 1 else operand
            grid = grid_of(op.type.shape)
            return (Link(source.name, there, pools, op, operand, grid, net.arrays[op.w].shape),), grid
        case _:
            raise AssertionError(f"{op.subject} in a potential's way: the net is not canonical")


def _grid(net: Net, op: Op) -> Grid:
    """The grid of a potential's neurons. Where branches differ (a flattened convolution and a dense one, neuron by
    neuron), it is that of the branch with the largest plane.
    """
    match op:
        case Flatten() | Identity():
            return _grid(net, net.by_name[op.x])
        case Add():
            return max((_grid(net, net.by_name[x]) for x in op.xs), key=lambda grid: grid[1] * grid[2])
        case _:
            return grid_of(op.type.shape)


def source_of(net: Net, name: str) -> tuple[Op, tuple[MaxPool, ...], Shape]:
    """Back from a synapse's operand: neurons or pixels, the max pools on the way, the operand's unflattened shape."""
    op, pools = net.by_name[name], list[MaxPool]()
    shape = op.type.shape
    while not isinstance(op, Input | Encode | Fire):
        assert isinstance(op, MaxPool | Flatten | Identity), f"{op.subject} in a spike's way: the net is not canonical"
        if isinstance(op, MaxPool):
            pools.insert(0, op)
        elif isinstance(op, Flatten):
            shape = net.type_of(op.x).shape if len(shape) == 1 else shape
        op = net.by_name[op.x]
    return op, tuple(pools), shape
