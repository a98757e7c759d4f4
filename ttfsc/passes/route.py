"""Find out where every spike must go.

    core 0 at 0,0 : %c1[0:64, 0:4, 0:4]   =>   route 0 %c1[0:64, 0:3, 0:3] -> 64
                                               route 0 %c1[0:64, 0:3, 3:4] -> 64 65 ...

A spike goes to every core that holds a neuron it has a synapse to, and to no other (`ttfsc.passes.destinations`).
Neurons of a core with equal destinations share one route; neurons without any have none.

`pool=source`: where every reader of a layer stands behind one max pool of windows side by side, the core sends the
earliest spike of each window only, the others would lose there anyway. Exact; a window on several cores is pooled in
parts. Layers whose readers differ, or whose pools overlap, send all their spikes.

No deadlock: packets turn once, from the first axis of `order` to the second, and multicast copies leave a row's router
only into a column; so no cycle of links can wait for each other (Dally and Seitz 1987; tests/mapping/test_deadlock.py).
"""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from ttfsc.hardware import Chip
from ttfsc.ir import (
    EVERY,
    Fault,
    Layer,
    Loc,
    Mapped,
    Net,
    Place,
    Pool,
    Route,
    TtfsError,
    codes,
    layers_of,
    pool_of,
    tree_hops,
    xy_tree,
)
from ttfsc.ir.mapping import ORDERS
from ttfsc.passes.destinations import destinations
from ttfsc.passes.place import map_of

log = logging.getLogger(__name__)
DELIVERIES = ("multicast", "unicast")


def route(
    net: Net,
    *,
    delivery: str = "",
    order: Literal["xy", "yx"] = "xy",
    pool: Literal["target", "source"] = "target",
    chip: Chip | None = None,
) -> Net:
    """The placed net with its routes.

    delivery: multicast or unicast, by default what the chip does; order: the axis packets travel first; pool: whether
    max pools are applied at the source already. Raises TtfsError: unknown delivery (OPTION), no map (STAGE), more
    routing entries than the chip has (CAPACITY).
    """
    mapped = map_of(net)
    fact = ""
    if delivery and delivery not in DELIVERIES:
        fact = f"delivery={delivery} must be {' or '.join(DELIVERIES)}, or left out for what the chip does"
    elif order not in ORDERS or pool not in ("target", "source"):
        fact = f"order={order} must be {' or '.join(ORDERS)}, and pool={pool} target or source"
    if fact:
        raise TtfsError.one(codes.OPTION, fact, subject="route")
    layers = layers_of(net)
    pools = {layer.name: pool_of(layer.name, layers) if pool == "source" else EVERY for layer in layers}
    routes = tuple(
        Route(core.id, source, to, pools[source.layer]) for core, source, to in destinations(layers, mapped.cores)
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
        sides = (1, kh, layer.grid[1]), (2, kw, layer.grid[2])
        cut = sum(
            any(s.box[a][0] % k or (s.box[a][1] % k and s.box[a][1] != end) for a, k, end in sides)
            for core in mapped.cores
            for s in core.slices
            if s.layer == layer.name
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
    count, limit = Counter[Place](), int(chip.routing_entries)
    places = {core.id: core.place for core in mapped.cores}
    for r in mapped.routes if mapped.delivery == "multicast" else ():
        tree = xy_tree(places[r.core], [places[to] for to in r.to], mapped.order)
        count.update({places[r.core], *(b for _, b in tree)})
    over = [(n, place) for place, n in count.items() if n > limit]
    if over:
        most, (x, y) = max(over)
        fact = (
            f"needs {most:,} routing entries in router {x},{y} and too many in {len(over)} routers, {chip.name} has"
            f" {limit:,} in each: {most - limit:,} too few; choose route{{delivery=unicast}}, or a partition with fewer"
            " destinations (partition{scheme=tile})"
        )
        yield Fault(codes.CAPACITY, Loc(net.name), f"net @{net.name}", fact)
