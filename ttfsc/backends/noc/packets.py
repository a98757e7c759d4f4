"""Packets: which core sends what at which tick, and the tree each of them travels, router by router.

Trees are found here the way routers find them, every router deciding by the destinations alone. That is another road
than the spans of `ttfsc.ir.traffic`, with which the tests compare.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ttfsc.backends.noc.image import Image
from ttfsc.ir import EVERY, Array, Box, Place, Pool, first_of_groups

Ints = npt.NDArray[np.int64]

EAST, WEST, SOUTH, NORTH, LOCAL = range(5)
DIRECTIONS = ("east", "west", "south", "north")
STEPS: tuple[Place, ...] = ((1, 0), (-1, 0), (0, 1), (0, -1))
OPPOSITE = (WEST, EAST, NORTH, SOUTH)


@dataclass(frozen=True, slots=True)
class Tree:
    """One packet's way. Routers are numbered y * width + x; several cores may share one."""

    core: int
    layer: str
    source: int
    cores: tuple[int, ...]  # destinations
    to: tuple[int, ...]  # their routers, ascending, each once
    forks: dict[int, int]  # router -> outputs to copy to, bit i for direction i, bit 4 for the core there


def forks_of(source: Place, targets: Iterable[Place], width: int, order: str = "xy") -> dict[int, int]:
    """What every router on the way does with a packet from `source` to all targets; order: axis travelled first."""
    found, axes = dict[int, int](), (0, 1) if order == "xy" else (1, 0)
    for target in targets:
        at = [*source]
        for axis in axes:
            direction = 2 * axis + (target[axis] < at[axis])
            while at[axis] != target[axis]:
                router = at[1] * width + at[0]
                found[router] = found.get(router, 0) | 1 << direction
                at[axis] += STEPS[direction][axis]
        router = target[1] * width + target[0]
        found[router] = found.get(router, 0) | 1 << LOCAL
    return found


@dataclass(frozen=True)
class Packets:
    """Packets of some frames, in the order in which cores send them: by layer, then by neuron.

    frame, tick, tree [P]: the input's number, the tick (absolute) and the number of the tree.
    """

    frame: Ints
    tick: Ints
    tree: Ints

    def __len__(self) -> int:
        return len(self.tree)


class Fabric:
    """An image's routes as trees, with what each of them costs."""

    def __init__(self, image: Image, delivery: str = "") -> None:
        """delivery: multicast or unicast; the map's own by default."""
        self.width, self.height = image.mapped.mesh
        self.trees = list[Tree]()
        places = {core.id: core.place for core in image.cores}
        multicast, order = (delivery or image.mapped.delivery) == "multicast", image.mapped.order
        self.layers = {layer.layer.name: layer for layer in image.layers if layer.thresholds is not None}
        # by neuron: number of its route, -1 for none; by route: its first tree and how many
        self.labels = {name: np.full(layer.layer.grid, -1, np.int32) for name, layer in self.layers.items()}
        self.pools = {name: list[tuple[Box, Pool]]() for name in self.layers}
        first, many = list[int](), list[int]()
        for core in image.cores:
            for route in core.routes:
                at = tuple(slice(a, b) for a, b in route.source.box)
                self.labels[route.source.layer][at] = len(first)
                if route.pool != EVERY:
                    self.pools[route.source.layer].append((route.source.box, route.pool))
                groups = [route.to] if multicast else [(target,) for target in route.to]
                first.append(len(self.trees))
                many.append(len(groups))
                for cores in groups:
                    targets = [places[target] for target in cores]
                    forks = forks_of(core.place, targets, self.width, order)
                    ends = tuple(sorted({y * self.width + x for x, y in targets}))
                    source = core.place[1] * self.width + core.place[0]
                    self.trees.append(Tree(core.id, route.source.layer, source, cores, ends, forks))
        self.first, self.many = np.array(first, np.int64), np.array(many, np.int64)
        rows = [
            (number, router * 4 + direction)
            for number, tree in enumerate(self.trees)
            for router, outputs in tree.forks.items()
            for direction in range(4)
            if outputs >> direction & 1
        ]
        table = np.array(rows, np.int64).reshape(-1, 2)
        self.link_tree, self.link = table[:, 0], table[:, 1]  # a row per link of every tree
        self.hops = np.zeros((len(self.trees), 4), np.int64)  # by direction
        np.add.at(self.hops, (self.link_tree, self.link % 4), 1)

    def sent(self, layer: str, values: Array) -> Array:
        """Of a layer's spikes [N, C, H, W] those that its cores send: of pooled groups the earliest only."""
        if not self.pools[layer]:
            return values
        sent = values.copy()
        for box, pool in self.pools[layer]:
            at = (slice(None), *(slice(a, b) for a, b in box))
            sent[at] = first_of_groups(sent[at], box, pool)
        return sent

    def packets(self, values: Mapping[str, Array]) -> Packets:
        """What the cores send for these spikes: values x [N, C, H, W] by layer, 0 = never."""
        parts = list[tuple[Ints, Ints, Ints]]()
        for name, layer in self.layers.items():
            sent, labels = self.sent(name, values[name]), self.labels[name].reshape(-1)
            flat = sent.reshape(len(sent), -1)
            frame, neuron = np.nonzero(flat)
            route = labels[neuron].astype(np.int64)
            frame, neuron, route = (a[route >= 0] for a in (frame, neuron, route))
            tick, many = layer.closes - flat[frame, neuron].astype(np.int64), self.many[route]
            ends = np.cumsum(many)
            within = np.arange(int(many.sum())) - np.repeat(ends - many, many)
            parts.append((np.repeat(frame, many), np.repeat(tick, many), np.repeat(self.first[route], many) + within))
        joined = [np.concatenate([p[i] for p in parts]) if parts else np.zeros(0, np.int64) for i in range(3)]
        return Packets(*joined)

    def loads(self, per_tree: Ints) -> Ints:
        """[height, width, 4]: packets over every link, by the router it leaves and its direction."""
        size = self.width * self.height * 4
        loads = np.bincount(self.link, per_tree[self.link_tree], size).astype(np.int64)
        return loads.reshape(self.height, self.width, 4)
