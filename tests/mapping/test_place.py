"""Placement: every scheme is a placement, annealing pays, says what it costs, and does not depend on threads."""

import logging
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.vgg import vgg
from tests.mapping.nets import chip_of, mnist
from tests.strategies import integer_nets
from ttfsc.hardware import load_chip
from ttfsc.hardware.chip import read_chip
from ttfsc.ir import Net, TtfsError, codes, layers_of, link_loads, run, sent_rates, traffic, verify, xy_tree
from ttfsc.passes.curve import curve
from ttfsc.passes.flow import flow_of, measured_rates
from ttfsc.passes.partition import partition
from ttfsc.passes.place import place
from ttfsc.passes.route import route
from ttfsc.passes.search import Board, Search, annealed, cost_of

MOVES = 20_000


def cost(net: Net, what: str = "hops_multicast", *, pool: str = "target") -> float:
    done = route(net, pool="source" if pool == "source" else "target")
    rates = sent_rates(done, {layer.name: 0.256 for layer in layers_of(done)})
    return sum(float((rates[name] * getattr(maps, what)).sum()) for name, maps in traffic(done).items())


def parted(neurons: int = 64, **more: Any) -> Net:
    return partition(mnist(maxpool=True), chip=chip_of(neurons, **more))


@given(st.integers(1, 24), st.integers(1, 24))
def test_the_curve_visits_every_place_from_neighbour_to_neighbour(width: int, height: int) -> None:
    walk = list(curve(width, height))
    assert sorted(walk) == sorted((x, y) for x in range(width) for y in range(height))
    steps = [abs(a - c) + abs(b - d) for (a, b), (c, d) in pairwise(walk)]
    assert sum(step > 1 for step in steps) <= 1
    assert max(steps, default=1) <= 2


def test_each_scheme_is_better_than_the_one_before() -> None:
    net = parted()
    found = [cost(place(net, scheme=s, moves=MOVES)) for s in ("row-major", "hilbert", "anneal")]
    assert found[2] < 0.85 * found[1]
    assert found[2] < 0.85 * found[0]


@pytest.mark.parametrize("objective", ["multicast", "unicast"])
def test_the_objective_is_what_the_routes_then_cost(objective: str, caplog: pytest.LogCaptureFixture) -> None:
    """The search counts hops by itself; the log's best must be the traffic of the routed net."""
    caplog.set_level(logging.INFO)
    for pool in ("target", "source"):
        caplog.clear()
        net = place(parted(), scheme="anneal", objective=objective, moves=MOVES, pool=pool)  # pyright: ignore[reportArgumentType]
        told = next(m for m in caplog.messages if "best of" in m)
        assert told.startswith(
            f"place: best of 4 restarts {cost(net, f'hops_{objective}', pool=pool):.0f} {objective} hops"
        )
        assert "worst" in told
        assert "spread" in told


def test_each_objective_is_best_at_its_own() -> None:
    layers, net = layers_of(mnist(maxpool=True)), place(parted(), scheme="hilbert")
    assert net.mapped is not None
    flow = flow_of(layers, net.mapped.cores, {x.name: 0.256 for x in layers if x.fires}, pooled=False)
    board = Board(net.mapped.mesh, tuple(core.place for core in net.mapped.cores), frozenset(), frozenset())
    names = ("multicast", "unicast", "latency", "busiest")
    found = {name: annealed(flow, board, Search(name, 0, 3, 200_000, 0.0, 3.0, 1)) for name in names}
    for name in names:
        cost = {by: cost_of(flow, places, board.mesh, name) for by, places in found.items()}
        assert cost[name] == min(cost.values()), name
        assert cost[name] < 0.8 * cost_of(flow, board.places, board.mesh, name)
    for name in ("latency", "busiest"):
        assert cost_of(flow, found[name], board.mesh, name) == pytest.approx(0.256 * _measure(net, found[name], name))


def _measure(net: Net, places: tuple[tuple[int, int], ...], objective: str) -> float:
    assert net.mapped is not None
    cores = tuple(replace(core, place=p) for core, p in zip(net.mapped.cores, places, strict=True))
    done = route(net.with_map(replace(net.mapped, cores=cores)))
    assert done.mapped is not None
    if objective == "busiest":
        return link_loads(done, {x.name: np.ones(x.grid) for x in layers_of(done)}).busiest
    at = {core.id: core.place for core in done.mapped.cores}
    return sum(
        r.source.size * max(len(xy_tree(at[r.core], [at[t]])) for t in r.to) for r in done.mapped.routes
    )  # fmt: skip


def test_the_result_is_of_the_seed_alone() -> None:
    net = parted(100)
    one, two, again = (place(net, scheme="anneal", moves=MOVES, threads=n, restarts=3) for n in (1, 3, 1))
    assert one == two == again
    assert place(net, scheme="anneal", moves=MOVES, restarts=3, seed=1) != one


def test_a_warm_start_is_not_lost() -> None:
    net = place(parted(), scheme="anneal", moves=200_000)
    warm = place(net, scheme="anneal", start="current", moves=MOVES, restarts=2)
    cold = place(parted(), scheme="anneal", moves=MOVES, restarts=2)
    assert cost(warm) <= 1.03 * cost(net)
    assert cost(warm) < cost(cold)


def test_pinned_closed_and_dead_places() -> None:
    text = 'name = "a"\ntitle = "b"\ndelivery = "multicast"\ndead = [[0, 0], [3, 1]]\n[neurons_per_core]\nvalue = 64\n'
    chip = read_chip(text + 'unit = "neurons"\nsource = "c"\n', "a.toml")
    net = partition(mnist(), chip=chip)
    for scheme in ("row-major", "hilbert", "anneal"):
        done = place(net, scheme=scheme, chip=chip, moves=2000, pinned="5@2:2 7@4:0", closed="1:1 2:0")
        assert done.mapped is not None
        at = {core.id: core.place for core in verify(route(done)).mapped.cores}  # pyright: ignore[reportOptionalMemberAccess]
        assert (at[5], at[7]) == ((2, 2), (4, 0))
        assert not {(0, 0), (3, 1), (1, 1), (2, 0)} & set(at.values())


@settings(max_examples=25)
@given(integer_nets(), st.integers(1, 20), st.sampled_from(["hilbert", "anneal"]), st.booleans())
def test_any_net_can_be_placed(net: Net, limit: int, scheme: Any, pooled: bool) -> None:
    options: dict[str, Any] = {"scheme": scheme, "pool": "source" if pooled else "target"}
    done = place(partition(net, chip=chip_of(limit)), moves=500, restarts=1, **options)
    assert done.mapped is not None
    verify(route(done))


def test_measured_rates_are_firing_counts() -> None:
    net = parted(200)
    x = np.random.default_rng(0).integers(0, 256, (5, 1, 28, 28)).astype(np.uint8)
    layers, result = layers_of(net), run(net, x)
    for name, rate in measured_rates(net, layers, x).items():
        assert np.array_equal(rate.reshape(-1), (result.spikes[name] > 0).mean(0).reshape(-1))


def test_measured_rates_move_cores() -> None:
    """Where only a corner of the image is lit, its cores stand together, and the others do not matter."""
    net = parted()
    x = np.zeros((8, 1, 28, 28), np.uint8)
    x[:, :, :12, :12] = np.random.default_rng(0).integers(0, 256, (8, 1, 12, 12))
    layers, costs = layers_of(net), list[float]()
    for rates in ("uniform", "measured"):
        done = place(net, scheme="anneal", rates=rates, moves=200_000, restarts=2, calibration=x).mapped
        assert done is not None
        flow = flow_of(layers, done.cores, measured_rates(net, layers, x), pooled=False)
        costs.append(cost_of(flow, tuple(core.place for core in done.cores), done.mesh, "multicast"))
    assert costs[1] < costs[0]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ({"seed": -1}, codes.OPTION, "seed=-1 must not be negative"),
        ({"objective": "beauty"}, codes.OPTION, "objective=beauty must be multicast or unicast or busiest or latency"),
        ({"restarts": 0}, codes.OPTION, "restarts=0 must lie in 1..1000"),
        ({"moves": -1}, codes.OPTION, "moves=-1 must lie in"),
        ({"seconds": -1.0}, codes.OPTION, "seconds=-1 must lie in"),
        ({"rate": 2.0}, codes.OPTION, "rate=2 must be more than 0 and at most 1"),
        ({"threads": -2}, codes.OPTION, "threads=-2 must lie in"),
        ({"pinned": "3:4"}, codes.OPTION, "pinned=3:4 must be core@x:y"),
        (
            {"pinned": "1@3:4 2@3:4"},
            codes.OPTION,
            "pinned=2@3:4 must be core@x:y with a core of the map and a place of",
        ),
        ({"pinned": "1@77:4"}, codes.OPTION, "pinned=1@77:4 is closed or outside of the"),
        ({"closed": "a"}, codes.OPTION, "closed=a must be places x:y"),
        ({"rates": "measured"}, codes.CALIBRATION, "rates=measured needs sample inputs"),
        ({"closed": "0:0 1:0 0:1"}, codes.CAPACITY, "20 cores do not fit the 5x4 mesh less 3 closed places"),
    ],
)
def test_options_are_checked(options: dict[str, Any], code: int, message: str) -> None:
    net = partition(mnist(), chip=chip_of(1024, mesh=(5, 4)))
    with pytest.raises(TtfsError) as e:
        place(net, scheme="anneal", **options)
    assert [f.code for f in e.value.faults] == [code]
    assert message in str(e.value)


def test_a_time_budget_is_kept_roughly() -> None:
    net = place(parted(), scheme="anneal", seconds=0.5, restarts=2)
    assert cost(net) < cost(place(parted(), scheme="hilbert"))


WITHOUT = """
import sys
sys.modules["numba"] = None
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "numba" else find(name, package)
from tests.mapping.nets import *
net = partition(mnist(), chip=chip_of(300))
place(net), place(net, scheme="hilbert")
try:
    place(net, scheme="anneal")
except Exception as e:
    print(e)
"""


def test_without_numba_only_annealing_is_missing() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(
        "place: scheme=anneal needs numba: pip install 'ttfsc[map]', or choose scheme=hilbert"
    )


def test_vgg16_is_where_it_was() -> None:
    """A short search already passes the Hilbert order by far; bench/mapping.py --anneal does it in full."""
    net = partition(vgg(), chip=load_chip("canmore-22nm"))
    assert cost(place(net, scheme="hilbert")) == pytest.approx(690_176)
    short: dict[str, Any] = {"scheme": "anneal", "moves": 400_000, "restarts": 1}
    plain, pooled = cost(place(net, **short)), cost(place(net, pool="source", **short), pool="source")
    assert plain < 450_000
    assert pooled < 0.95 * plain
