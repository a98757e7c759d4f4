from collections import defaultdict
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.mapping import EXPECTED, RATE, count
from bench.mapping import mapped as mapped_vgg
from bench.vgg import vgg
from tests.mapping.nets import chip_of, joined, mapped, mnist
from tests.strategies import integer_nets
from ttfsc.hardware import load_chip
from ttfsc.ir import (
    Conv2d,
    Hop,
    Layer,
    Link,
    Net,
    Slice,
    heard,
    layers_of,
    link_loads,
    parse,
    show,
    span_tree,
    traffic,
    tree_hops,
    verify,
    xy_tree,
)
from ttfsc.ir.linear import pool_max, synapses

SCHEMES, LIMITS = st.sampled_from(("feature", "tile")), st.integers(1, 20)
Places = st.tuples(st.integers(0, 8), st.integers(0, 8))


def probed(net: Net, layer: Layer, link: Link) -> npt.NDArray[np.bool_]:
    """[source neurons, output neurons]: whether a synapse joins them, found by sending one spike at a time."""
    size = int(np.prod(link.source_grid))
    x = np.eye(size, dtype=np.float32).reshape(size, *link.source_grid)
    for pool in link.pools:
        x = pool_max(pool, x, 0.0)
    shape = link.fan_in if isinstance(link.synapse, Conv2d) else (-1,)
    ones = np.ones(link.kernel, np.int8)
    return (synapses(link.synapse, x.reshape(size, *shape), ones, np.float32) > 0).reshape(size, layer.size)


def destinations(net: Net) -> dict[str, dict[int, set[int]]]:
    """By firing layer and neuron, the cores that must hear it."""
    assert net.mapped is not None
    layers = {layer.name: layer for layer in layers_of(net)}
    home = {name: np.zeros(layer.grid, np.int64) for name, layer in layers.items()}
    for core in net.mapped.cores:
        for piece in core.slices:
            home[piece.layer][tuple(slice(a, b) for a, b in piece.box)] = core.id
    found: dict[str, dict[int, set[int]]] = {name: defaultdict(set) for name, x in layers.items() if x.fires}
    for layer in layers.values():
        for link in layer.links:
            if link.source in found:
                for source, output in np.argwhere(probed(net, layer, link)):
                    found[link.source][int(source)].add(int(home[layer.name].reshape(-1)[output]))
    return found


def check_routes(net: Net) -> None:
    assert net.mapped is not None
    want, grids = destinations(net), {layer.name: layer.grid for layer in layers_of(net)}
    got: dict[str, dict[int, set[int]]] = {name: {} for name in want}
    for route in net.mapped.routes:
        assert route.to == tuple(sorted(set(route.to)))
        assert route.to
        name = route.source.layer
        numbers = np.arange(np.prod(grids[name])).reshape(grids[name])
        for neuron in numbers[tuple(slice(a, b) for a, b in route.source.box)].reshape(-1):
            assert int(neuron) not in got[name], "a neuron has one route"
            got[name][int(neuron)] = set(route.to)
    for name, neurons in want.items():
        assert got[name] == {neuron: cores for neuron, cores in neurons.items() if cores}


@settings(max_examples=80)
@given(integer_nets(), SCHEMES, LIMITS)
def test_every_spike_goes_exactly_where_it_has_a_synapse(net: Net, scheme: str, limit: int) -> None:
    net = verify(mapped(net, chip_of(limit), scheme))
    check_routes(net)
    assert parse(show(net), net.arrays) == net


def test_routes_are_boxes_not_neurons() -> None:
    """By features every core sends all it has to the same cores; tiles differ along their borders only."""
    feature, tile = (mapped(mnist(), chip_of(256), scheme).mapped for scheme in ("feature", "tile"))
    assert feature is not None
    assert tile is not None
    assert len(feature.routes) == len(feature.cores) - 1  # the last one holds the read-out
    assert len(tile.routes) < 10 * len(tile.cores)  # nine per tile: corners, edges, middle


def test_routes_of_a_flattened_membrane() -> None:
    check_routes(mapped(joined((8, 9)), chip_of(3)))


def test_neurons_that_nobody_reads_have_no_route() -> None:
    net = mapped(mnist(), chip_of(64))
    assert net.mapped is not None
    routed = np.zeros((32, 11, 11), bool)
    for route in net.mapped.routes:
        if route.source.layer == "c2":
            routed[tuple(slice(a, b) for a, b in route.source.box)] = True
    assert routed[:, :10, :10].all()
    assert not routed[:, 10].any()  # 11 rows pooled by twos: the last one is dropped
    assert not routed[:, :, 10].any()


@given(Places, st.lists(Places, min_size=1, max_size=12))
def test_trees_as_links_as_spans_and_as_a_count(source: tuple[int, int], targets: list[tuple[int, int]]) -> None:
    (x0, x1), columns = span_tree(source, targets)
    links = {((x, source[1]), (x + 1, source[1])) for x in range(source[0], x1)}
    links |= {((x, source[1]), (x - 1, source[1])) for x in range(source[0], x0, -1)}
    for x, low, high in columns:
        links |= {((x, y), (x, y + 1)) for y in range(source[1], high)}
        links |= {((x, y), (x, y - 1)) for y in range(source[1], low, -1)}
    assert links == xy_tree(source, targets)
    assert len(links) == tree_hops(source, targets)


@settings(max_examples=40)
@given(integer_nets(), SCHEMES, LIMITS, st.integers(0, 99))
def test_traffic_neuron_by_neuron_and_link_by_link(net: Net, scheme: str, limit: int, seed: int) -> None:
    net = mapped(net, chip_of(limit), scheme)
    assert net.mapped is not None
    places = {core.id: core.place for core in net.mapped.cores}
    maps, loads = traffic(net), {"multicast": defaultdict[Hop, int](int), "unicast": defaultdict[Hop, int](int)}
    rng = np.random.default_rng(seed)
    spikes = {name: rng.integers(0, 3, m.hops_unicast.shape) for name, m in maps.items()}
    home = {neuron: core for core in net.mapped.cores for piece in core.slices for neuron in _neurons(piece)}
    for layer, neurons in destinations(net).items():
        for number, cores in neurons.items():
            at = tuple(int(i) for i in np.unravel_index(number, maps[layer].hops_unicast.shape))
            source, m = places[home[layer, at].id], maps[layer]
            tree = xy_tree(source, [places[core] for core in cores])
            paths = [xy_tree(source, [places[core]]) for core in cores]
            assert m.packets_unicast[at] == len(cores)
            assert m.packets_multicast[at] == 1
            assert m.hops_multicast[at] == len(tree)
            assert m.hops_unicast[at] == sum(map(len, paths))
            for link in tree:
                loads["multicast"][link] += int(spikes[layer][at])
            for link in (link for path in paths for link in path):
                loads["unicast"][link] += int(spikes[layer][at])
    for delivery, per_link in loads.items():
        found = link_loads(net, spikes, delivery=delivery)
        parts = {(1, 0): found.east, (-1, 0): found.west, (0, 1): found.south, (0, -1): found.north}
        assert found.total == sum(per_link.values())
        for ((x, y), (x2, y2)), load in per_link.items():
            assert parts[x2 - x, y2 - y][y, x] == load
        assert found.busiest == max(per_link.values(), default=0)
        assert found.used == sum(load > 0 for load in per_link.values())


def _neurons(piece: Slice) -> list[tuple[str, tuple[int, ...]]]:
    (c0, c1), (y0, y1), (x0, x1) = piece.box
    return [(piece.layer, (c, y, x)) for c in range(c0, c1) for y in range(y0, y1) for x in range(x0, x1)]


@pytest.mark.parametrize("scheme", sorted(EXPECTED))
def test_published_counts_of_vgg16(scheme: str) -> None:
    """docs/mapping-format.md: exact after rounding, at 0.256 spikes per neuron."""
    net = mapped_vgg(vgg(), scheme, load_chip("canmore-22nm"))
    assert count(net) == EXPECTED[scheme]
    rates = {name: np.full(m.hops_unicast.shape, RATE) for name, m in traffic(net).items()}
    for delivery, want in (("multicast", EXPECTED[scheme].multicast), ("unicast", EXPECTED[scheme].unicast)):
        assert round(link_loads(net, rates, delivery=delivery).total) == want


def test_a_delivery_is_remembered_and_the_chip_decides_otherwise() -> None:
    deliveries = [mapped(mnist(), chip_of(900), delivery=d).mapped for d in ("", "multicast", "unicast")]
    assert [m.delivery for m in deliveries if m] == ["multicast", "multicast", "unicast"]


def test_groups_are_heard_by_their_own_outputs_only() -> None:
    """6 channels in 3 groups of 2 -> 4 outputs each: a box over outputs 3..5 hears the first two groups."""
    net = mnist()
    link = layers_of(net)[1].links[0]
    assert isinstance(link.synapse, Conv2d)
    in_threes = replace(link.synapse, groups=3)
    grouped = replace(link, synapse=in_threes, source_grid=(6, 26, 26), out_grid=(12, 11, 11), kernel=(12, 2, 5, 5))
    channels, _, _ = heard(grouped, ((3, 5), (0, 11), (0, 11)))
    assert channels.tolist() == [True, True, True, True, False, False]
