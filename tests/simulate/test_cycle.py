"""Router timing on meshes small enough to count by hand, and against a second, plain model."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mapping.nets import chip_of, mapped, mnist
from tests.simulate.routers import play
from ttfsc.backends import noc
from ttfsc.backends.noc import simulate
from ttfsc.backends.noc.cycle import Drained, Router, Ways, drain
from ttfsc.backends.noc.packets import Tree, forks_of
from ttfsc.backends.noc.simulate import Simulator
from ttfsc.hardware import Figure
from ttfsc.ir import Place, TtfsError, tree_hops

W, H = 4, 4


def tree(source: Place, *targets: Place, order: str = "xy") -> Tree:
    ends = tuple(sorted({y * W + x for x, y in targets}))
    return Tree(0, "l", source[1] * W + source[0], (), ends, forks_of(source, targets, W, order))


PLAIN = Router()


def drained(trees: list[Tree], sent: list[int], router: Router = PLAIN, where: list[int] | None = None) -> Drained:
    at = np.array(where or [0] * len(sent), np.int64)
    return drain(Ways(trees, (W, H)), router, at, np.array(sent, np.int64), int(at.max(initial=0)) + 1)


@pytest.mark.parametrize(
    ("target", "hops"), [((0, 0), 0), ((1, 0), 1), ((3, 0), 3), ((0, 3), 3), ((3, 2), 5), ((3, 3), 6)]
)
def test_a_lone_packet_takes_hops_times_the_stages(target: Place, hops: int) -> None:
    """Each hop is route, allocate, cross and link; at the end route, allocate and cross out of the last router."""
    found = drained([tree((0, 0), target)], [0])
    assert (found.at.tolist(), found.waited.tolist()) == ([4 * hops + 3], [0])
    slow = Router(depth=2, route=2, allocate=3, cross=1, link=5)
    assert drained([tree((0, 0), target)], [0], slow).at.tolist() == [11 * hops + 6]


def test_packets_of_one_core_leave_one_per_cycle() -> None:
    found = drained([tree((0, 0), (3, 0))], [0] * 5, Router(depth=8))
    assert found.at.tolist() == [15, 16, 17, 18, 19]
    assert found.waited.tolist() == [0] * 5


def test_a_single_place_lets_one_packet_pass_per_round_trip() -> None:
    """Granted in cycle g, a copy is in the next buffer at g + 3, granted there at g + 4, its place free at g + 5."""
    found = drained([tree((0, 0), (3, 0))], [0] * 4, Router(depth=1))
    assert found.at.tolist() == [15, 20, 25, 30]
    assert found.waited.tolist() == [0, 4, 8, 12]


def test_four_places_are_one_too_few_for_a_round_trip_of_five() -> None:
    assert drained([tree((0, 0), (3, 0))], [0] * 8, Router(depth=4)).at.tolist() == [15, 16, 17, 18, 20, 21, 22, 23]


def test_two_packets_for_one_core_take_turns() -> None:
    """From the west and from the east, both ready in cycle 5; west is input 1, east input 0, which is asked first."""
    found = drained([tree((0, 1), (1, 1)), tree((2, 1), (1, 1))], [0, 1])
    assert found.at.tolist() == [7, 8]
    assert found.packet.tolist() == [1, 0]
    assert found.waited.tolist() == [0, 1]


def test_turns_are_round_robin() -> None:
    """Two steady streams into one output share it evenly from the first packet on."""
    found = drained([tree((0, 1), (1, 1)), tree((2, 1), (1, 1))], [0] * 6 + [1] * 6, Router(depth=8))
    order = [int(p >= 6) for p in found.packet]
    assert order == [1, 0] * 6
    assert found.at.tolist() == list(range(7, 19))


def test_back_pressure_reaches_the_source() -> None:
    """A core that takes one packet per cycle is fed by three rows of sources with single places: all come, all wait."""
    trees = [tree((x, y), (3, 3)) for y in range(3) for x in range(3)]
    found = drained(trees, [i for i in range(9) for _ in range(5)], Router(depth=1))
    assert len(found.packet) == 45
    assert found.waited.max() > 40
    assert (found.waited >= 0).all()


def test_a_multicast_packet_forks_and_crosses_every_link_once() -> None:
    found = drained([tree((1, 1), (3, 1), (0, 1), (2, 3), (1, 0), (1, 1))], [0])
    assert dict(zip(found.router.tolist(), found.at.tolist(), strict=True)) == {
        1 * W + 3: 11, 1 * W + 0: 7, 3 * W + 2: 15, 0 * W + 1: 7, 1 * W + 1: 3,
    }  # fmt: skip
    assert found.links.sum() == tree_hops((1, 1), [(3, 1), (0, 1), (2, 3), (1, 0), (1, 1)]) == 6
    assert found.links.max() == 1
    assert found.links[1 * W + 1].tolist() == [1, 1, 0, 1]


def test_yx_goes_along_the_column_first() -> None:
    found = drained([tree((0, 0), (2, 1), order="yx")], [0])
    assert found.links[0].tolist() == [0, 0, 1, 0]
    assert found.links[W].tolist() == [1, 0, 0, 0]


def test_figures_of_a_chip_replace_the_assumptions() -> None:
    figure = Figure(7, "cycles", "test")
    assert Router.of({}).assumed == (
        "buffer_packets", "route_cycles", "switch_cycles", "crossbar_cycles", "link_cycles",
    )  # fmt: skip
    found = Router.of({"link_cycles": figure, "buffer_packets": Figure(2, "packets", "test"), "route_cycles": None})
    assert (found.link, found.depth, found.route, found.hop) == (7, 2, 1, 10)
    assert found.assumed == ("route_cycles", "switch_cycles", "crossbar_cycles")


PLACES = st.tuples(st.integers(0, W - 1), st.integers(0, H - 1))
ROUTERS = st.builds(Router, st.integers(1, 5), *[st.integers(1, 3)] * 4)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.tuples(PLACES, st.sets(PLACES, min_size=1, max_size=6)), min_size=1, max_size=8),
    st.lists(st.integers(0, 7), min_size=1, max_size=60),
    ROUTERS,
    st.sampled_from(("xy", "yx")),
)
def test_equals_the_plain_model(
    ends: list[tuple[Place, set[Place]]], picks: list[int], router: Router, order: str
) -> None:
    trees = [tree(source, *sorted(targets), order=order) for source, targets in ends]
    sent = [pick % len(trees) for pick in picks]
    found = drained(trees, sent, router)
    assert sorted(zip(found.at.tolist(), found.packet.tolist(), found.router.tolist(), strict=True)) == play(
        trees, (W, H), router, sent
    )
    assert (found.waited >= 0).all()
    assert found.links.sum() == sum(len(trees[t].forks) - 1 for t in sent)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(PLACES, PLACES), min_size=1, max_size=40), ROUTERS)
def test_meshes_side_by_side_do_not_touch(pairs: list[tuple[Place, Place]], router: Router) -> None:
    trees = [tree(source, target) for source, target in pairs]
    sent = list(range(len(trees)))
    where = [i % 3 for i in sent]
    together = drained(trees, sent, router, where)
    for mesh in sorted(set(where)):
        mine = [i for i in sent if where[i] == mesh]
        alone = drained(trees, mine, router)
        rows = np.isin(together.packet, mine)
        assert together.at[rows].tolist() == alone.at.tolist()
        assert together.cycles[mesh] == alone.at.max()


def test_nothing_sent_takes_no_time() -> None:
    found = drain(Ways([], (W, H)), Router(), np.zeros(0, np.int64), np.zeros(0, np.int64), 3)
    assert (len(found.packet), found.cycles.tolist()) == (0, [0, 0, 0])


def _lost(found: Drained) -> Drained:
    return replace(found, packet=found.packet[1:], router=found.router[1:])


def _doubled(found: Drained) -> Drained:
    packet, router = (np.append(rows, rows[:1]) for rows in (found.packet, found.router))
    return replace(found, packet=packet, router=router)


def _astray(found: Drained) -> Drained:
    router = found.router.copy()
    router[0] = (router[0] + 1) % 25
    return replace(found, router=router)


@pytest.mark.parametrize("damage", [_lost, _doubled, _astray])
def test_a_packet_that_is_not_delivered_once_is_named(
    damage: Callable[[Drained], Drained], monkeypatch: pytest.MonkeyPatch
) -> None:
    chip = chip_of(1024)
    simulator = Simulator(noc.load(noc.emit(mapped(mnist(), chip), chip)))
    x = np.random.default_rng(1).integers(0, 256, (1, 1, 28, 28)).astype(np.uint8)
    result = simulator.mesh.run(x)
    assert simulator.deliver(x, result) > 1000

    def wrong(*given: Any) -> Drained:
        found = drain(*given)
        return damage(found) if len(found.packet) else found

    monkeypatch.setattr(simulate, "drain", wrong)
    with pytest.raises(TtfsError, match=r"a packet of %\w+ from core \d+ is not delivered exactly once at router \d+"):
        simulator.deliver(x, result)


def test_how_many_meshes_are_held_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = chip_of(1024)
    simulator = Simulator(noc.load(noc.emit(mapped(mnist(), chip), chip)))
    x = np.random.default_rng(1).integers(0, 256, (2, 1, 28, 28)).astype(np.uint8)
    whole = simulator.run(x, fidelity="cycle").timing
    monkeypatch.setattr(simulate, "_PLACES", 3000)
    assert simulator.run(x, fidelity="cycle").timing == whole
