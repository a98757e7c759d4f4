"""Find out where every spike must go.

    core 0 at 0,0 : %c1[0:64, 0:4, 0:4]   =>   route 0 %c1[0:64, 0:3, 0:3] -> 64
                                               route 0 %c1[0:64, 0:3, 3:4] -> 64 65 ...

A spike goes to every core that holds a neuron it has a synapse to, and to no other: over all readers of its layer,
behind max pools (a pooled neuron's spike goes where its pooled position is read), exact in groups, strides and
dilation. Neurons of a core with equal destinations share one route; neurons without any have none.

`pool=source`: where every reader of a layer stands behind one max pool of windows side by side, the core sends the
earliest spike of each window only, the others would lose there anyway. Exact; a window on several cores is pooled in
parts. Layers whose readers differ, or whose pools overlap, send all their spikes.

No deadlock: packets turn once, from the first axis of `order` to the second, and multicast copies leave a row's router
only into a column; so no cycle of links can wait for each other (Dally and Seitz 1987; tests/mapping/test_deadlock.py).

Destinations are separable (`ttfsc.ir.heard`): a core hears (c, y, x) where three masks hold. So a source box is cut
along each axis where any mask changes, and every block of that grid has one set of destinations.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from ttfsc.hardware import Chip
from ttfsc.ir import (
    EVERY,
    Box,
    Fault,
    Layer,
    Loc,
    Mapped,
    Net,
    Place,
    Pool,
    Route,
    Slice,
    TtfsError,
    codes,
    heard,
    layers_of,
    pool_of,
    tree_hops,
    xy_tree,
)
from ttfsc.ir.reach import Mask
from ttfsc.passes.place import map_of

log = logging.getLogger(__name__)
DELIVERIES = ("multicast", "unicast")
Targets = tuple[int, ...]


def route(
    net: Net,
    *,
    delivery: str = "",
    order: Literal["xy", "yx"] = "xy",
    pool: Literal["target", "source"] = "target",
    chip: Chip | None = None,
) -> Net:
    """The placed net with its routes: delivery multicast or unicast (default: what the chip does), XY or YX, pooled where.

    Raises TtfsError: unknown delivery (OPTION), no map (STAGE), more routing entries than the chip has (CAPACITY).
    """  # fmt: skip
    mapped = map_of(net)
    if delivery and delivery not in DELIVERIES:
        fact = f"delivery={delivery} must be {' or '.join(DELIVERIES)}, or left out for what the chip does"
        raise TtfsError.one(codes.OPTION, fact, subject="route")
    layers = layers_of(net)
    listeners = _listeners(layers, mapped)
    pools = {name: pool_of(name, layers) if pool == "source" else EVERY for name in listeners}
    routes = tuple(
        Route(core.id, Slice(piece.layer, box), to, pools[piece.layer])
        for core in mapped.cores
        for piece in core.slices
        if piece.layer in listeners
        for box, to in listeners[piece.layer].of(piece.box)
    )
    done = replace(mapped, delivery=delivery or mapped.delivery, routes=routes, order=order)
    faults = [] if chip is None or chip.routing_entries is None else list(_entry_faults(net, done, chip))
    if faults:
        raise TtfsError(faults)
    if pool == "source":
        _tell(layers, done, pools)
    return net.with_map(done)


def _tell(layers: tuple[Layer, ...], mapped: Mapped, pools: dict[str, Pool]) -> None:
    """Which layers pool at the source, which cannot, and where a window lies on several cores."""
    for layer in layers:
        behind_pool = any(link.source == layer.name and link.pools for reader in layers for link in reader.links)
        kh, kw = pools.get(layer.name, EVERY)
        if (kh, kw) == EVERY:
            if behind_pool:
                log.info("route: %%%s sends every spike: not all read it through one pool side by side", layer.name)
            continue
        cut = sum(
            bool(a % kh or b % kh and b != layer.grid[1] or c % kw or d % kw and d != layer.grid[2])
            for _, (a, b), (c, d) in (s.box for core in mapped.cores for s in core.slices if s.layer == layer.name)
        )
        log.info("route: %%%s sends the first spike of every %dx%d window", layer.name, kh, kw)
        if cut:
            log.info("route: %%%s: %d of its slices cut windows, whose parts are sent apart", layer.name, cut)


def entries(mapped: Mapped) -> int:
    """Routing-table entries: a route in every router its tree passes, its own and its last included.

    Unicast needs none: a packet carries its destination.
    """
    if mapped.delivery == "unicast":
        return 0
    places = {core.id: core.place for core in mapped.cores}
    return sum(tree_hops(places[r.core], [places[to] for to in r.to], mapped.order) + 1 for r in mapped.routes)


def _entry_faults(net: Net, mapped: Mapped, chip: Chip) -> Iterator[Fault]:
    """Entries of the fullest router against the chip's."""
    assert chip.routing_entries is not None
    count, limit, shared = Counter[Place](), int(chip.routing_entries), _router_of(chip)
    places = {core.id: core.place for core in mapped.cores}
    for r in mapped.routes if mapped.delivery == "multicast" else ():
        tree = xy_tree(places[r.core], [places[to] for to in r.to], mapped.order)
        count.update({shared(place) for place in [places[r.core], *(b for _, b in tree)]})
    over = [(n, place) for place, n in count.items() if n > limit]
    if over:
        most, (x, y) = max(over)
        fact = (
            f"needs {most:,} routing entries in router {x},{y} and too many in {len(over)} routers, {chip.name} has"
            f" {limit:,} in each: {most - limit:,} too few; choose route{{delivery=unicast}}, or a partition with fewer"
            " destinations (partition{scheme=tile})"
        )
        yield Fault(codes.CAPACITY, Loc(net.name), f"net @{net.name}", fact)


def _router_of(chip: Chip) -> Callable[[Place], Place]:
    """Cores that stand together on one router stand next to each other in x."""
    per = int(chip.cores_per_router) if chip.cores_per_router is not None else 1
    return lambda place: (place[0] // per, place[1])


@dataclass(frozen=True)
class _Listeners:
    """Who hears a layer: per listening slice its core, and the masks of channels, rows and columns it hears."""

    cores: npt.NDArray[np.int64]  # [D]
    masks: tuple[Mask, Mask, Mask]  # [D, C], [D, H], [D, W]

    def of(self, box: Box) -> Iterator[tuple[Box, Targets]]:
        """Blocks of a source box with their destinations, in raster order; blocks without any are left out."""
        parts = [mask[:, a:b] for mask, (a, b) in zip(self.masks, box, strict=True)]
        near = np.logical_and.reduce([part.any(1) for part in parts])
        cores, (c, y, x) = self.cores[near], (part[near] for part in parts)
        cuts = [_cuts(part) for part in (c, y, x)]
        sets = dict[Box, Targets]()
        for c0, c1 in cuts[0]:
            for y0, y1 in cuts[1]:
                in_row = c[:, c0] & y[:, y0]
                for x0, x1 in cuts[2]:
                    to = np.unique(cores[in_row & x[:, x0]])
                    if len(to):
                        block = ((c0, c1), (y0, y1), (x0, x1))
                        sets[_moved(block, box)] = tuple(to.tolist())
        yield from _merged(sets).items()


def _listeners(every: tuple[Layer, ...], mapped: Mapped) -> dict[str, _Listeners]:
    """By firing layer. Analog pixels and encoded input come from the host and are not routed."""
    layers = {layer.name: layer for layer in every}
    found = dict[str, list[tuple[int, tuple[Mask, Mask, Mask]]]]()
    for core in mapped.cores:
        for piece in core.slices:
            for link in layers[piece.layer].links:
                if link.source in layers:
                    found.setdefault(link.source, []).append((core.id, heard(link, piece.box)))
    return {
        source: _Listeners(
            np.array([core for core, _ in items], np.int64),
            (
                np.stack([masks[0] for _, masks in items]),
                np.stack([masks[1] for _, masks in items]),
                np.stack([masks[2] for _, masks in items]),
            ),
        )
        for source, items in found.items()
    }


def _cuts(mask: Mask) -> list[tuple[int, int]]:
    """Spans of an axis inside which no mask changes."""
    changes = np.flatnonzero((mask[:, 1:] != mask[:, :-1]).any(0)) + 1
    ends = [0, *changes.tolist(), mask.shape[1]]
    return list(pairwise(ends))


def _moved(block: Box, box: Box) -> Box:
    return tuple((a + start, b + start) for (a, b), (start, _) in zip(block, box, strict=True))


def _merged(sets: dict[Box, Targets]) -> dict[Box, Targets]:
    """Fewer blocks: neighbours with equal destinations become one, along columns first, then rows, then channels.

    Cuts come from all listeners together, so a line where one of them begins also cuts blocks it does not concern.
    """
    for axis in (2, 1, 0):
        joined = dict[tuple[Box, Targets, int], Box]()  # by the rest of the block and where it ends
        for block, to in sorted(sets.items(), key=lambda item: item[0][axis]):
            start, end = block[axis]
            rest = block[:axis] + block[axis + 1 :]
            before = joined.pop((rest, to, start), block)
            joined[rest, to, end] = (*block[:axis], (before[axis][0], end), *block[axis + 1 :])
        sets = {block: to for (_, to, _), block in joined.items()}
    return dict(sorted(sets.items()))
