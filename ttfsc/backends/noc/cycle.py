"""Router timing, cycle by cycle: how long the packets of a tick take when they wait for each other.

The router. Five inputs (from its four neighbours and from its core), each a first-in first-out buffer of `depth`
packets; a packet is one flit. A packet that has arrived takes `route` cycles until its outputs are known. At the head
of its buffer it then asks for all outputs it still has to go to; every output grants one input per cycle, round robin.
A granted copy takes `allocate + cross` cycles through the switch and `link` cycles to the next router, or leaves to
the core, which always accepts. A multicast packet may leave by its outputs in different cycles; its place in the buffer
is free one cycle after the last copy was granted. An output grants only while the buffer behind it has a free place (a
copy takes its place when it is granted). Every core injects one packet per cycle, in the order of its neurons.

Packets of one flit that hold one place and wait only for places further along a dimension-ordered tree cannot wait in
a circle: places of the last links always drain, so those before them do. Hence no deadlock, and every run ends.

Many meshes are advanced at once, one per tick of a frame: they do not touch each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ttfsc.backends.noc.packets import LOCAL, OPPOSITE, STEPS, Ints, Tree
from ttfsc.hardware import Figure

PORTS = 5


FIGURES = {  # field of Router -> figure of a chip
    "depth": "buffer_packets", "route": "route_cycles", "allocate": "switch_cycles", "cross": "crossbar_cycles",
    "link": "link_cycles",
}  # fmt: skip


@dataclass(frozen=True)
class Router:
    """Stage delays in cycles and the places of every input buffer.

    Where a chip gives no figure, ours stand in: one cycle for each stage and four places, as textbook mesh routers have
    (Dally and Towles, Principles and Practices of Interconnection Networks, 2004, ch. 16). `assumed` names those.
    """

    depth: int = 4
    route: int = 1
    allocate: int = 1
    cross: int = 1
    link: int = 1
    assumed: tuple[str, ...] = tuple(FIGURES.values())

    @classmethod
    def of(cls, figures: Mapping[str, Figure | None]) -> "Router":
        """From a chip's figures; what they do not give keeps the default."""
        given = {name: figures.get(key) for name, key in FIGURES.items()}
        known = {name: int(figure) for name, figure in given.items() if figure is not None}
        return cls(**known, assumed=tuple(key for name, key in FIGURES.items() if name not in known))

    @property
    def hop(self) -> int:
        """Cycles from one router's buffer to the next one's, without waiting."""
        return self.route + self.allocate + self.cross + self.link

    @property
    def eject(self) -> int:
        """Cycles from the last router's buffer to its core, without waiting."""
        return self.route + self.allocate + self.cross


@dataclass(frozen=True)
class Drained:
    """What became of the packets of `drain`; one row per delivery, in order of time, then place.

    packet, router, at, waited [D]: which packet (its number in the arguments), where it was delivered, in which cycle
    of its mesh, and how many cycles of that it stood waiting. cycles [meshes]: until a mesh was empty.
    links [routers, 4]: packets over every link, by direction, of all meshes.
    """

    packet: Ints
    router: Ints
    at: Ints
    waited: Ints
    cycles: Ints
    links: Ints


class Ways:
    """What routers of a mesh (width, height) know: the outputs of every tree at every router it comes to."""

    def __init__(self, trees: list[Tree], mesh: tuple[int, int]) -> None:
        self.width, self.size = mesh[0], mesh[0] * mesh[1]
        rows = [(n * self.size + router, mask) for n, tree in enumerate(trees) for router, mask in tree.forks.items()]
        rows.sort()
        self.keys = np.array([key for key, _ in rows], np.int64)
        self.masks = np.array([mask for _, mask in rows], np.int8)
        self.source = np.array([tree.source for tree in trees], np.int64)

    def outputs(self, tree: Ints, router: Ints) -> npt.NDArray[np.int8]:
        """Bit i for direction i, bit 4 for the core."""
        return self.masks[np.searchsorted(self.keys, tree * self.size + router)]


def drain(ways: Ways, router: Router, where: Ints, tree: Ints, meshes: int) -> Drained:
    """Let the packets of `meshes` equal meshes run until all have been delivered.

    where, tree [P]: each packet's mesh, and the number of its tree in `ways`; the order in which cores inject theirs.
    """
    return _Run(ways, router, where, tree, meshes).result()


class _Run:
    def __init__(self, ways: Ways, router: Router, where: Ints, tree: Ints, meshes: int) -> None:
        self.ways, self.router, self.tree, self.meshes, self.where = ways, router, tree, meshes, where
        self.size, width = ways.size, ways.width
        ports = meshes * self.size * PORTS
        self.held = np.zeros((ports, router.depth), np.int64)  # packets in every buffer, a ring
        self.come = np.zeros((ports, router.depth), np.int64)  # and when they arrive(d)
        self.head, self.count = np.zeros(ports, np.int64), np.zeros(ports, np.int64)
        self.busy, self.filled = np.zeros(0, np.int64), list[Ints]()  # ports with packets; those that got their first
        self.need = np.zeros(ports, np.int8)  # outputs that the head still has to go to
        self.turn = np.zeros(ports, np.int64)  # per output: the input that is asked first
        # input port behind an output: (router + step) * PORTS + the side it comes in by
        self.behind = [((dy * width + dx) * PORTS + OPPOSITE[d]) for d, (dx, dy) in enumerate(STEPS)] + [0]
        self.links = np.zeros((self.size, 4), np.int64)
        self.waiting = _queues(ways.source[tree] + where * self.size)
        self.entered = np.zeros(len(tree), np.int64)  # a packet exists from then on, in its core's queue
        order, start, length = self.waiting
        self.entered[order] = np.arange(len(order)) - np.repeat(start, length)

    def result(self) -> Drained:
        order, start, length = self.waiting
        source, width = self.ways.source[self.tree], self.ways.width
        place = (self.where * self.size + source)[order[start]] * PORTS + LOCAL if len(start) else start
        sent = np.zeros(len(start), np.int64)
        live = np.arange(len(start))
        ended = list[tuple[Ints, Ints, Ints]]()
        now, idle = 0, 0
        while len(live) or len(self.busy) or self.filled:
            ready = live[self.count[place[live]] < self.router.depth]
            self._enter(place[ready], order[start[ready] + sent[ready]], now)
            sent[ready] += 1
            live = live[sent[live] < length[live]]
            packet, router, moved = self._step(now)
            ended.append((packet, router, np.full(len(packet), now + self.router.allocate + self.router.cross)))
            idle = 0 if moved or len(ready) else idle + 1
            assert idle <= self.router.hop, "packets wait in a circle"
            now += 1
        packet, router, at = (np.concatenate([e[i] for e in ended] or [np.zeros(0, np.int64)]) for i in range(3))
        cycles = np.zeros(self.meshes, np.int64)
        np.maximum.at(cycles, self.where[packet], at)
        there, here = router % self.size, source[packet]
        hops = abs(there % width - here % width) + abs(there // width - here // width)
        waited = at - self.entered[packet] - hops * self.router.hop - self.router.eject
        return Drained(packet, there, at, waited, cycles, self.links)

    def _enter(self, port: Ints, packet: Ints, arrives: int) -> None:
        """Put packets into buffers that have a place; ports are all different."""
        slot = (self.head[port] + self.count[port]) % self.router.depth
        self.held[port, slot], self.come[port, slot] = packet, arrives
        first = port[self.count[port] == 0]
        self.count[port] += 1
        if len(first):
            self.filled.append(first)
            self._look(first)

    def _look(self, port: Ints) -> None:
        """Find the outputs of the packets at the head of these buffers."""
        packet = self.held[port, self.head[port]]
        self.need[port] = self.ways.outputs(self.tree[packet], port // PORTS % self.size)

    def _step(self, now: int) -> tuple[Ints, Ints, bool]:
        """One cycle of all routers. Returns delivered packets, their routers (over all meshes), and if any moved."""
        depth, delay = self.router.depth, self.router.allocate + self.router.cross + self.router.link
        busy, self.filled = np.concatenate([self.busy, *self.filled]), []
        ready = busy[self.come[busy, self.head[busy]] + self.router.route <= now]
        asks = [ready[self.need[ready] >> d & 1 == 1] for d in range(PORTS)]
        port = np.concatenate(asks)
        out = np.repeat(np.arange(PORTS), [len(a) for a in asks])
        behind = port // PORTS * PORTS + np.array(self.behind)[out]
        free = out == LOCAL
        free[~free] = self.count[behind[~free]] < depth
        port, out, behind = port[free], out[free], behind[free]
        channel = port // PORTS * PORTS + out
        rank = channel * PORTS + (port % PORTS - self.turn[channel]) % PORTS
        best = np.argsort(rank)
        port, out, behind, channel = (a[best] for a in (port, out, behind, channel))
        won = np.ones(len(channel), np.bool_)
        won[1:] = channel[1:] != channel[:-1]
        port, out, behind, channel = (a[won] for a in (port, out, behind, channel))
        self.turn[channel] = (port % PORTS + 1) % PORTS
        packet = self.held[port, self.head[port]]
        np.subtract.at(self.need, port, (1 << out).astype(np.int8))
        local = out == LOCAL
        np.add.at(self.links, (port[~local] // PORTS % self.size, out[~local]), 1)
        self._enter(behind[~local], packet[~local], now + delay)
        done = np.unique(port[self.need[port] == 0])
        self.head[done] = (self.head[done] + 1) % depth
        self.count[done] -= 1
        self._look(done[self.count[done] > 0])
        self.busy = busy[self.count[busy] > 0]
        return packet[local], port[local] // PORTS, bool(len(port))


def _queues(place: Ints) -> tuple[Ints, Ints, Ints]:
    """Packets by the core that sends them: their order, where each core's begin in it, and how many they are."""
    order = np.argsort(place, kind="stable")
    _, start, length = np.unique(place[order], return_index=True, return_counts=True)
    return order, start, length
