"""What the routes of a mapped net cost, per neuron and exactly: packets, hops, link loads.

Definitions (docs/mapping-format.md). **packet**: one spike to one destination core (unicast), or one tree (multicast).
**hop**: one link between neighbouring routers; |dx| + |dy| for a unicast packet, the number of links of the XY tree for
a multicast packet; injection and ejection are not hops. All are constants of a neuron, since every neuron has one
place and one set of destinations: measured traffic is the dot product of these maps with a map of how many spikes each
neuron *sent*: all it fired, but for routes that pool at the source (`ttfsc.ir.pooling`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ttfsc.ir.layers import layers_of
from ttfsc.ir.mapping import Mapped, Place, flipped, tree_hops
from ttfsc.ir.net import Net

IntMap = npt.NDArray[np.int64]
Loads = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Traffic:
    """What one sent spike of each neuron of a layer causes; every map is int64 [C, H, W] on the layer's grid."""

    packets_unicast: IntMap  # = the number of destination cores
    packets_multicast: IntMap  # 1 where there is any destination
    hops_unicast: IntMap
    hops_multicast: IntMap


def traffic(net: Net) -> dict[str, Traffic]:
    """By name of every layer that owns neurons, in order; zero maps for neurons whose spikes go nowhere.

    The net must carry a map with routes. Whatever the net's own delivery is, both kinds are counted. A spike count map
    of `run` has the layer's shape, flat where a flatten follows: `spikes.reshape(len(x), *map.shape)`. Where routes
    pool at the source, not every spike is sent: see `sent_spikes` and `sent_rates`.
    """
    assert net.mapped is not None, "traffic of a net without a map: run partition, place, route"
    places = _places(net.mapped)
    found = {layer.name: Traffic(*(np.zeros(layer.grid, np.int64) for _ in range(4))) for layer in layers_of(net)}
    for route in net.mapped.routes:
        box = tuple(slice(a, b) for a, b in route.source.box)
        maps, here = found[route.source.layer], places[route.core]
        to = [places[core] for core in route.to]
        maps.packets_unicast[box] += len(to)
        maps.packets_multicast[box] += 1
        maps.hops_unicast[box] += sum(abs(x - here[0]) + abs(y - here[1]) for x, y in to)
        maps.hops_multicast[box] += tree_hops(here, to, net.mapped.order)
    return found


@dataclass(frozen=True)
class LinkLoads:
    """Packets over every link, float64 [height, width], indexed [y, x] by the router the link leaves."""

    east: Loads  # x -> x + 1
    west: Loads
    south: Loads  # y -> y + 1
    north: Loads

    @property
    def total(self) -> float:
        """All hops."""
        return float(sum(part.sum() for part in (self.east, self.west, self.south, self.north)))

    @property
    def busiest(self) -> float:
        """The load of the most loaded link."""
        return float(max(part.max(initial=0.0) for part in (self.east, self.west, self.south, self.north)))

    @property
    def used(self) -> int:
        """How many links carry anything."""
        return int(sum(np.count_nonzero(part) for part in (self.east, self.west, self.south, self.north)))


def link_loads(net: Net, spikes: Mapping[str, npt.NDArray[np.number]], *, delivery: str = "") -> LinkLoads:
    """Load of every link of the mesh for these counts of sent spikes.

    spikes: per layer a map of counts or rates on its grid [C, H, W] (or flat, channel-major), of the spikes that are
    sent (`sent_spikes`, `sent_rates`); layers that are missing send nothing. delivery: multicast or unicast; the net's
    own by default.
    """
    assert net.mapped is not None, "link loads of a net without a map: run partition, place, route"
    places, grids = _places(net.mapped), {layer.name: layer.grid for layer in layers_of(net)}
    maps = {name: np.asarray(given, np.float64).reshape(grids[name]) for name, given in spikes.items()}
    width, height = net.mapped.mesh
    loads = LinkLoads(*(np.zeros((height, width)) for _ in range(4)))
    multicast = (delivery or net.mapped.delivery) == "multicast"
    for route in net.mapped.routes:
        if route.source.layer not in maps:
            continue
        count = float(maps[route.source.layer][tuple(slice(a, b) for a, b in route.source.box)].sum())
        if count:
            to = [places[core] for core in route.to]
            for targets in [to] if multicast else [[target] for target in to]:
                _load_tree(loads, places[route.core], targets, count, net.mapped.order)
    return loads


def _load_tree(loads: LinkLoads, source: Place, targets: list[Place], count: float, order: str) -> None:
    """Add `count` to every link of the XY tree: the row's span, then each column's."""
    if order == "yx":
        turned = LinkLoads(loads.south.T, loads.north.T, loads.east.T, loads.west.T)  # views of the same loads
        _load_tree(turned, flipped(source), [flipped(target) for target in targets], count, "xy")
        return
    sx, sy = source
    row, columns = span_tree(source, targets)
    loads.east[sy, sx : row[1]] += count
    loads.west[sy, row[0] + 1 : sx + 1] += count
    for x, low, high in columns:
        loads.south[sy:high, x] += count
        loads.north[low + 1 : sy + 1, x] += count


def span_tree(source: Place, targets: list[Place]) -> tuple[tuple[int, int], list[tuple[int, int, int]]]:
    """The XY tree as spans: the row's (x0, x1) with x0 <= source x <= x1, and (x, y0, y1) of each column with links.

    As many links as `tree_hops` counts: x1 - x0, plus y1 - y0 of every column.
    """
    sx, sy = source
    columns = dict[int, tuple[int, int]]()
    for tx, ty in targets:
        low, high = columns.get(tx, (sy, sy))
        columns[tx] = (min(low, ty), max(high, ty))
    xs = [sx, *columns]
    return (min(xs), max(xs)), [(x, a, b) for x, (a, b) in sorted(columns.items()) if a < b]


def _places(mapped: Mapped) -> dict[int, Place]:
    return {core.id: core.place for core in mapped.cores}
