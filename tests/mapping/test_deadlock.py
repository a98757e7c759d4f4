"""No cycle of links can wait for each other: the channel dependency graph of XY and of YX trees is acyclic, and packets
drain through the smallest buffers that there are.
"""

from collections import defaultdict
from graphlib import CycleError, TopologicalSorter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mapping.nets import chip_of, mapped, mnist
from ttfsc.backends import noc
from ttfsc.backends.noc.cycle import Drained, Router, Ways, drain
from ttfsc.backends.noc.packets import Tree, forks_of
from ttfsc.ir import Hop, Place, flipped, link_loads, run, traffic, tree_hops, xy_tree
from ttfsc.passes.route import route

Places = st.tuples(st.integers(0, 8), st.integers(0, 8))


def dependencies(trees: list[frozenset[Hop]]) -> dict[Hop, set[Hop]]:
    """Which link waits for which: a packet holds one link until it may take the next of its tree."""
    found = defaultdict[Hop, set[Hop]](set)
    for tree in trees:
        for link in tree:
            found[link] |= {other for other in tree if other[0] == link[1]}
    return found


@pytest.mark.parametrize("order", ["xy", "yx"])
def test_all_pairs_of_a_mesh_together_have_no_cycle(order: str) -> None:
    places = [(x, y) for x in range(5) for y in range(5)]
    trees = [xy_tree(a, [b], order) for a in places for b in places]
    rng = np.random.default_rng(0)
    trees += [xy_tree(a, [places[int(i)] for i in rng.integers(0, 25, 6)], order) for a in places for _ in range(20)]
    tuple(TopologicalSorter(dependencies(trees)).static_order())


def test_both_orders_together_would_have_one() -> None:
    """The test can fail: mixing XY and YX closes the cycle."""
    places = [(x, y) for x in range(2) for y in range(2)]
    trees = [xy_tree(a, [b], order) for a in places for b in places for order in ("xy", "yx")]
    with pytest.raises(CycleError):
        tuple(TopologicalSorter(dependencies(trees)).static_order())


@given(Places, st.lists(Places, min_size=1, max_size=9))
def test_yx_is_xy_on_its_side(source: Place, targets: list[Place]) -> None:
    tree = xy_tree(source, targets, "yx")
    assert tree == {(flipped(a), flipped(b)) for a, b in xy_tree(flipped(source), map(flipped, targets))}
    assert len(tree) == tree_hops(source, targets, "yx")
    assert all(a[0] == b[0] for a, b in tree if a[0] == source[0]) or any(a[1] == b[1] for a, b in tree)
    one = xy_tree(source, targets[:1], "yx")
    assert len(one) == abs(source[0] - targets[0][0]) + abs(source[1] - targets[0][1])


def test_yx_maps_run_and_are_counted() -> None:
    chip, net = chip_of(300), mapped(mnist(), chip_of(300))
    turned = route(net, order="yx")
    x = np.random.default_rng(0).integers(0, 256, (2, 1, 28, 28)).astype(np.uint8)
    image = noc.load(noc.emit(turned, chip))
    assert image.mapped == turned.mapped
    assert image.mapped.order == "yx"
    assert np.array_equal(noc.run(image, x).scores, run(net, x).scores)
    maps, other = traffic(turned), traffic(net)
    rates = {name: np.ones(m.hops_multicast.shape) for name, m in maps.items()}
    assert link_loads(turned, rates).total == sum(m.hops_multicast.sum() for m in maps.values())
    assert sum(m.hops_unicast.sum() for m in maps.values()) == sum(m.hops_unicast.sum() for m in other.values())
    both = link_loads(net, rates, delivery="unicast"), link_loads(turned, rates, delivery="unicast")
    assert both[0].east.sum() == both[1].east.sum()
    assert both[0].south.sum() == both[1].south.sum()
    assert not np.array_equal(both[0].east, both[1].east)


SIDE = 4
EVERYWHERE = [(x, y) for x in range(SIDE) for y in range(SIDE)]


def storm(trees: list[Tree], each: int) -> Drained:
    """All cores send all their packets at once, through buffers of a single place."""
    sent = np.tile(np.arange(len(trees)), each)
    return drain(Ways(trees, (SIDE, SIDE)), Router(depth=1), np.zeros(len(sent), np.int64), sent, 1)


def tree(source: Place, targets: list[Place], order: str) -> Tree:
    ends = tuple(sorted({y * SIDE + x for x, y in targets}))
    return Tree(0, "l", source[1] * SIDE + source[0], (), ends, forks_of(source, targets, SIDE, order))


@pytest.mark.parametrize("order", ["xy", "yx"])
@pytest.mark.parametrize("delivery", ["unicast", "multicast", "both"])
def test_single_places_are_enough(order: str, delivery: str) -> None:
    """Everybody to everybody, and everybody to random sets: each packet arrives, at each of its destinations once."""
    rng, trees = np.random.default_rng(1), list[Tree]()
    if delivery != "multicast":
        trees += [tree(a, [b], order) for a in EVERYWHERE for b in EVERYWHERE]
    if delivery != "unicast":
        trees += [tree(a, EVERYWHERE, order) for a in EVERYWHERE]
        for _ in range(60):
            source, *targets = (EVERYWHERE[int(i)] for i in rng.permutation(SIDE * SIDE)[:6])
            trees.append(tree(source, targets, order))
    found = storm(trees, 4)
    want = [(n, router) for n in range(4 * len(trees)) for router in trees[n % len(trees)].to]
    assert sorted(zip(found.packet.tolist(), found.router.tolist(), strict=True)) == want
    assert found.waited.max() > 0


def test_both_orders_together_do_wait_for_each_other() -> None:
    """Four streams around a square, two XY and two YX, with the buffers of a single place: the simulator says so."""
    ring = [((0, 0), (1, 1), "xy"), ((1, 0), (0, 1), "yx"), ((1, 1), (0, 0), "xy"), ((0, 1), (1, 0), "yx")]
    trees = [tree(a, [b], order) for a, b, order in ring]
    assert len(storm(trees[:3], 20).packet) == 60
    with pytest.raises(AssertionError, match="packets wait in a circle"):
        storm(trees, 20)
