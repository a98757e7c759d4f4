"""Run a mapped network and count what it does: spikes, packets, hops, additions, and in cycles what waiting costs.

Two fidelities on the same spikes. `counts`: the exact function and everything that follows from where spikes are sent.
`cycle`: in addition every packet passes through routers with finite buffers (`ttfsc.backends.noc.cycle`). Ticks are
barriers: the spikes of a tick leave as it begins, and the next tick begins when the last of them has arrived.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ttfsc.backends.noc.cells import pooled
from ttfsc.backends.noc.cycle import PORTS, Drained, Router, Ways, drain
from ttfsc.backends.noc.engine import Mesh
from ttfsc.backends.noc.image import Image, LayerImage
from ttfsc.backends.noc.packets import Fabric, Ints, Packets
from ttfsc.ir import Array, Fault, Loc, Result, TtfsError, codes, grid_of, waits

Fidelity = Literal["counts", "cycle"]
_PLACES = 1 << 23  # places in buffers that the cycle model holds at a time; sets how many meshes it advances together


@dataclass
class LayerCounts:
    """What one layer did over all inputs.

    hops [4]: links that its packets crossed, by direction (`packets.DIRECTIONS`). sops: synaptic additions into this
    layer. macs: multiply-accumulates of analog input that is not 0. updates: neurons times ticks of their window.
    held: spikes of skip connections that the layer's cores kept until its window, once for every core that kept one.
    """

    name: str
    neurons: int
    ticks: int
    fires: bool
    spikes: int = 0
    packets: int = 0
    hops: Ints = field(default_factory=lambda: np.zeros(4, np.int64))
    sops: int = 0
    macs: int = 0
    updates: int = 0
    held: int = 0

    @property
    def accesses(self) -> int:
        """Of memory: a weight for every addition, and every held spike written and read."""
        return self.sops + 2 * self.held


@dataclass
class Timing:
    """Router timing over all inputs, in cycles of the routers' clock.

    serial [N]: cycles of a frame alone, one tick after the other. interval [N]: cycles between frames when all layers
    work at once, each on its own frame; the traffic of all layers then shares the mesh. slowest: the longest tick of
    frames alone. deliveries, waited, longest: packets that arrived, cycles that they stood waiting in all, and the
    longest wait; of frames alone.
    """

    router: Router
    serial: list[int] = field(default_factory=list[int])
    interval: list[int] = field(default_factory=list[int])
    slowest: int = 0
    deliveries: int = 0
    waited: int = 0
    longest: int = 0


@dataclass
class Simulation:
    """What a mapped network did on `inputs` frames; sums over all of them unless said otherwise.

    links [height, width, 4]: packets over every link, by the router it leaves and its direction. sent: packets by core.
    lengths [h]: packets that crossed h links. frames: by kind one count per input. result: labels, scores and those
    spikes that were to be kept. input_spikes: spikes that the host sent. Host traffic is not routed.
    """

    image: Image
    layers: dict[str, LayerCounts]
    links: Ints
    sent: dict[int, int]
    lengths: Ints
    frames: dict[str, list[int]]
    result: Result
    input_spikes: int
    timing: Timing | None

    @property
    def inputs(self) -> int:
        """How many frames."""
        return len(self.result.labels)


class Simulator:
    """An image made ready to run; holds its memory unpacked and its routes as trees."""

    def __init__(self, image: Image) -> None:
        self.image, self.mesh, self.fabric = image, Mesh(image), Fabric(image)
        self.router, self.ways = Router.of(image.figures), Ways(self.fabric.trees, image.mapped.mesh)
        self.senders = np.array([tree.core for tree in self.fabric.trees], np.int64)
        self.waits = waits((layer.layer for layer in image.layers), image.mapped.cores)
        self.ends = max([image.readout.closes, *(layer.closes for layer in image.layers)])

    def run(
        self, x: Array, *, fidelity: Fidelity = "counts", keep: bool = False, done: Callable[[int], None] | None = None
    ) -> Simulation:
        """Run x [N, *input shape], integers in the input's range.

        keep: return the spikes of every layer as well. done: called with the number of inputs after every batch.
        Raises TtfsError for inputs that do not fit.
        """
        layers = {
            i.layer.name: LayerCounts(i.layer.name, i.layer.size, i.ticks, i.layer.fires) for i in self.image.layers
        }
        found = Simulation(
            self.image, layers, self.fabric.loads(np.zeros(len(self.fabric.trees), np.int64)),
            {core.id: 0 for core in self.image.cores}, np.zeros(1, np.int64),
            {kind: [] for kind in ("spikes", "packets", "hops", "sops", "held")},
            Result(np.zeros(0, np.int64), np.zeros((0, 0), np.int64), {}), 0,
            Timing(self.router) if fidelity == "cycle" else None,
        )  # fmt: skip
        parts = list[Result]()
        for start in range(0, len(x), self.mesh.batch) or (0,):
            part = x[start : start + self.mesh.batch]
            result = self.mesh.run(part, batch=self.mesh.batch)
            packets = self.count(found, part, result)
            if found.timing is not None:
                self.time(found.timing, packets, len(part))
            parts.append(result if keep else Result(result.labels, result.scores, {}))
            if done is not None:
                done(len(part))
        labels, scores = (np.concatenate([getattr(p, what) for p in parts]) for what in ("labels", "scores"))
        spikes = {name: np.concatenate([p.spikes[name] for p in parts]) for name in parts[0].spikes}
        found.result = Result(labels, scores, spikes)
        return found

    def values(self, x: Array, result: Result) -> dict[str, Array]:
        """Spikes (or pixels) by their source, [N, C, H, W]."""
        found = {self.image.input.name: x.reshape(len(x), *grid_of(self.image.input.type.shape))}
        for encoder in self.image.encoders:
            found[encoder.op.name] = result.spikes[encoder.op.name].reshape(len(x), *grid_of(encoder.op.type.shape))
        for layer in self.image.layers:
            if layer.thresholds is not None:
                found[layer.layer.name] = result.spikes[layer.layer.name].reshape(len(x), *layer.layer.grid)
        return found

    def count(self, found: Simulation, x: Array, result: Result) -> Packets:
        """Add one batch to the counts."""
        fabric, values = self.fabric, self.values(x, result)
        packets = fabric.packets(values)
        frames = {kind: np.zeros(len(x), np.int64) for kind in found.frames}
        for layer in self.image.layers:
            counts = found.layers[layer.layer.name]
            counts.updates += counts.neurons * counts.ticks * len(x)
            if layer.thresholds is not None:
                fired = np.count_nonzero(values[layer.layer.name].reshape(len(x), -1), axis=1)
                counts.spikes += int(fired.sum())
                frames["spikes"] += fired
            for source, keepers in self.waits.get(layer.layer.name, ()):
                kept = (fabric.sent(source, values[source]) > 0).reshape(len(x), -1) @ keepers.reshape(-1)
                counts.held += int(kept.sum())
                frames["held"] += kept
            for analog, operations in self.operations(layer, values):
                if analog:
                    counts.macs += int(operations.sum())
                else:
                    counts.sops += int(operations.sum())
                    frames["sops"] += operations
        hosts = [n for n in self.mesh.hosts if n not in self.mesh.analog]
        found.input_spikes += sum(int(np.count_nonzero(values[name])) for name in hosts)
        per_tree = np.bincount(packets.tree, minlength=len(fabric.trees))
        for number in np.flatnonzero(per_tree):
            tree, many = fabric.trees[number], int(per_tree[number])
            found.layers[tree.layer].packets += many
            found.layers[tree.layer].hops += many * fabric.hops[number]
            found.sent[tree.core] += many
        lengths = fabric.hops.sum(1)
        found.links += fabric.loads(per_tree)
        histogram = np.bincount(lengths, per_tree, max(len(found.lengths), int(lengths.max(initial=0)) + 1))
        histogram[: len(found.lengths)] += found.lengths
        found.lengths = histogram.astype(np.int64)
        frames["packets"] += np.bincount(packets.frame, minlength=len(x))
        frames["hops"] += np.bincount(packets.frame, lengths[packets.tree], len(x)).astype(np.int64)
        for kind, per_frame in frames.items():
            found.frames[kind] += per_frame.tolist()
        return packets

    def operations(self, layer: LayerImage, values: dict[str, Array]) -> Iterator[tuple[bool, Ints]]:
        """For every link of a layer: whether it reads pixels, and the additions [N] that its operands cause."""
        for stored in layer.links:
            link = stored.link
            operand = pooled(values[link.source], link.pools)
            active = (operand.reshape(len(operand), *link.fan_grid) != 0).sum(1)
            analog = link.source in self.mesh.analog
            repeats = layer.ticks if analog and link.synapse.every else 1
            yield analog, (active * link.fan_out).sum((1, 2)) * repeats

    def time(self, timing: Timing, packets: Packets, inputs: int) -> None:
        """Add one batch to the timing: every tick of every frame on a mesh of its own, then all layers overlaid."""
        cycles, waited = self.drained(packets.frame * self.ends + packets.tick, packets.tree, inputs * self.ends)
        timing.serial += np.maximum(cycles.reshape(inputs, self.ends), 1).sum(1).tolist()
        timing.slowest = max(timing.slowest, int(cycles.max(initial=0)))
        timing.deliveries += len(waited)
        timing.waited += int(waited.sum())
        timing.longest = max(timing.longest, int(waited.max(initial=0)))
        window = max(layer.ticks for layer in self.image.layers)
        opens = np.array([self.fabric.layers[tree.layer].opens for tree in self.fabric.trees], np.int64)
        within = packets.frame * window + packets.tick - opens[packets.tree]
        cycles, _ = self.drained(within, packets.tree, inputs * window)
        timing.interval += np.maximum(cycles.reshape(inputs, window), 1).sum(1).tolist()

    def deliver(self, x: Array, result: Result) -> int:
        """Send the packets of these frames through the routers, tick by tick; how many deliveries there were.

        Raises TtfsError unless every packet arrives at each of its destinations, exactly once.
        """
        packets = self.fabric.packets(self.values(x, result))
        where = packets.frame * self.ends + packets.tick
        return len(self.drained(where, packets.tree, len(x) * self.ends)[1])

    def drained(self, where: Ints, tree: Ints, meshes: int) -> tuple[Ints, Ints]:
        """The cycle model on these packets: cycles of every mesh, and how long every delivery waited."""
        together = max(1, _PLACES // (self.ways.size * PORTS * self.router.depth))
        cycles, waited = list[Ints](), list[Ints]()
        for start in range(0, meshes, together):
            mine = np.flatnonzero((where >= start) & (where < start + together))
            found = drain(self.ways, self.router, where[mine] - start, tree[mine], min(together, meshes - start))
            self.prove(found, tree[mine])
            cycles.append(found.cycles)
            waited.append(found.waited)
        return np.concatenate(cycles), np.concatenate(waited)

    def prove(self, found: Drained, tree: Ints) -> None:
        """Raise TtfsError unless the packets of these trees arrived at every destination, exactly once."""
        trees, size = self.fabric.trees, self.ways.size
        many = np.array([len(t.to) for t in trees], np.int64)
        ends, first = np.array([router for t in trees for router in t.to], np.int64), np.cumsum(many) - many
        number = np.arange(int(many[tree].sum())) - np.repeat(np.cumsum(many[tree]) - many[tree], many[tree])
        want = np.repeat(np.arange(len(tree)), many[tree]) * size + ends[np.repeat(first[tree], many[tree]) + number]
        got = np.sort(found.packet * size + found.router)
        if not np.array_equal(got, np.sort(want)):
            wrong = np.setxor1d(got, want) if len(np.unique(got)) == len(got) else got[:-1][got[1:] == got[:-1]]
            packet, router = divmod(int(wrong[0]), size)
            way = trees[int(tree[packet])]
            fact = f"a packet of %{way.layer} from core {way.core} is not delivered exactly once at router {router}"
            raise TtfsError([Fault(codes.DIFFERS, Loc("noc"), f"{len(wrong)} deliveries", fact)])
        loads = self.fabric.loads(np.bincount(tree, minlength=len(trees)))
        assert np.array_equal(found.links, loads.reshape(size, 4)), "a packet crossed a link that is not of its tree"
