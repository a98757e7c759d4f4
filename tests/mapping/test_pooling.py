"""Pooling at the source: exact, one packet per group, and refused where somebody needs the other spikes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mapping.files import faults_of, resealed
from tests.mapping.nets import chip_of, mnist, proven, skipping
from tests.strategies import integer_nets
from ttfsc.backends import noc
from ttfsc.backends.report import measure
from ttfsc.ir import (
    EVERY,
    Analog,
    Net,
    Spikes,
    TtfsError,
    first_of_groups,
    layers_of,
    parse,
    pool_of,
    pooled_rate,
    run,
    sent_rates,
    sent_spikes,
    show,
    verify,
)
from ttfsc.passes.partition import partition
from ttfsc.passes.place import place
from ttfsc.passes.route import route

Sides = st.tuples(st.integers(0, 5), st.integers(1, 7))


def pooled(neurons: int = 200) -> Net:
    return route(place(partition(mnist(maxpool=True), chip=chip_of(neurons))), pool="source")


@given(Sides, Sides, st.sampled_from([(1, 1), (2, 2), (3, 2), (1, 4)]), st.integers(0, 2**31))
def test_one_spike_of_every_group(
    rows: tuple[int, int], columns: tuple[int, int], pool: tuple[int, int], seed: int
) -> None:
    """By hand: groups lie at multiples of the pool on the grid, whatever the box; the largest value of each is left."""
    box = ((0, 2), (rows[0], sum(rows)), (columns[0], sum(columns)))
    x = np.random.default_rng(seed).integers(0, 4, (3, 2, rows[1], columns[1])).astype(np.uint8)
    got = first_of_groups(x, box, pool)
    assert got.dtype == x.dtype
    for n, c in np.ndindex(3, 2):
        groups = dict[tuple[int, int], list[tuple[int, int]]]()
        for i, j in np.ndindex(rows[1], columns[1]):
            groups.setdefault(((rows[0] + i) // pool[0], (columns[0] + j) // pool[1]), []).append((i, j))
        for members in groups.values():
            sent = [m for m in members if got[n, c, *m]]
            best = max(x[n, c, *m] for m in members)
            assert [got[n, c, *m] for m in sent] == ([best] if best else [])
            assert not sent or sent[0] == next(m for m in members if x[n, c, *m] == best)


def test_rates_of_groups() -> None:
    rate = np.full((1, 4, 4), 0.256)
    whole = pooled_rate(rate, ((0, 1), (0, 4), (0, 4)), (2, 2))
    assert whole.sum() == pytest.approx(4 * (1 - (1 - 0.256) ** 4))
    cut = pooled_rate(rate, ((0, 1), (1, 5), (0, 4)), (2, 2))  # rows 1, 2..3, 4: two half groups and a whole one, twice
    assert cut.sum() == pytest.approx(2 * (1 - (1 - 0.256) ** 4) + 4 * (1 - (1 - 0.256) ** 2))
    assert pooled_rate(np.zeros((1, 2, 2)), ((0, 1), (0, 2), (0, 2)), (2, 2)).sum() == 0


def test_what_may_be_pooled() -> None:
    layers = layers_of(mnist(maxpool=True))
    assert [pool_of(layer.name, layers) for layer in layers] == [(2, 2), (2, 2), EVERY, EVERY]
    link = layers[1].links[0]
    for pool in (
        replace(link.pools[0], stride=(1, 1)),
        replace(link.pools[0], pad=(1, 0, 1, 0)),
    ):
        changed = replace(layers[1], links=(replace(link, pools=(pool,)),))
        assert pool_of("c1", [changed]) == EVERY
    beside = replace(layers[1], links=(link, replace(link, pools=())))
    assert pool_of("c1", [beside]) == EVERY


@settings(max_examples=60, deadline=None)
@given(integer_nets(), st.integers(1, 20), st.sampled_from(["tile", "feature", "hybrid", "auto"]), st.integers(0, 99))
def test_pooled_and_plain_maps_compute_the_same(net: Net, limit: int, scheme: str, seed: int) -> None:
    """Groups cut by cores included: small limits cut them."""
    net, chip = proven(net), chip_of(limit)
    done = verify(route(place(partition(net, scheme=scheme, chip=chip)), pool="source"))
    assert parse(show(done), done.arrays) == done
    t = net.input.type
    assert isinstance(t, Analog | Spikes)
    low, high = (t.low, t.high) if isinstance(t, Analog) else (0, t.ticks)
    x = np.random.default_rng(seed).integers(low, high + 1, (3, *t.shape)).astype(np.int32)
    want, got = run(net, x), noc.run(noc.load(noc.emit(done, chip)), x)
    assert np.array_equal(got.labels, want.labels)
    for name, spikes in want.spikes.items():
        assert np.array_equal(got.spikes[name], spikes)


def test_packets_are_counted_after_pooling() -> None:
    net, plain = pooled(), route(pooled())
    x = np.random.default_rng(0).integers(0, 256, (4, 1, 28, 28)).astype(np.uint8)
    result, counts = run(net, x), measure(net, x)
    first = layers_of(net)[0]
    groups = result.spikes["c1"].reshape(4, 16, 13, 2, 13, 2).max((3, 5))
    parts = sent_spikes(net, first, result.spikes["c1"])
    assert np.count_nonzero(groups) <= np.count_nonzero(parts) < np.count_nonzero(result.spikes["c1"])
    assert counts.layers["c1"].travelled.sum() == np.count_nonzero(parts)
    assert counts.layers["c1"].total == np.count_nonzero(result.spikes["c1"])
    assert np.array_equal(parts.reshape(4, 16, 13, 2, 13, 2).max((3, 5)), groups), "the earliest of each group is sent"
    assert measure(plain, x).layers["c1"].travelled.sum() == counts.layers["c1"].total
    assert counts.layers["f3"].sent is None
    rates = sent_rates(net, {"c1": 0.25, "f3": 0.5})
    assert rates["c1"].sum() < 0.25 * first.size
    assert rates["f3"].sum() == 0.5 * 128


def test_a_group_on_one_core_is_one_packet() -> None:
    net = route(place(partition(mnist(maxpool=True), scheme="feature", chip=chip_of(1024))), pool="source")
    x = np.random.default_rng(1).integers(0, 256, (2, 1, 28, 28)).astype(np.uint8)
    spikes = run(net, x).spikes["c1"]
    groups = np.count_nonzero(spikes.reshape(2, 16, 13, 2, 13, 2).max((3, 5)))
    assert measure(net, x).layers["c1"].travelled.sum() == groups


def test_pooling_that_would_lose_spikes_is_refused_by_net_and_files() -> None:
    net = pooled()
    assert net.mapped is not None
    number = next(i for i, r in enumerate(net.mapped.routes) if r.source.layer == "f3")
    routes = list(net.mapped.routes)
    routes[number] = replace(routes[number], pool=(2, 1))
    with pytest.raises(TtfsError, match="is pooled by 2x1, but its readers do not all stand behind one max pool"):
        verify(net.with_map(replace(net.mapped, routes=tuple(routes))))
    files = noc.emit(pooled(), chip_of(200))
    table = json.loads(files[noc.MAPPING])
    core = next(c for c in table["cores"] if c["routes"] and c["routes"][0]["layer"] == "f3")
    core["routes"][0]["pool"] = [2, 1]
    (fault,) = faults_of(resealed(table, files[noc.BINARY]))
    assert "its readers by [1, 1]: spikes that somebody needs would be lost" in fault


def test_a_skip_connection_is_held_until_its_window() -> None:
    """c1 is read by c2 (next window) and, through a second convolution, by f3's layer two windows on."""
    net = route(place(partition(skipping(), chip=chip_of(64))))
    image = noc.load(files := noc.emit(net, chip_of(64)))
    held = {(layer.layer.name, link.link.source): link.held for layer in image.layers for link in layer.links}
    assert held[("c", "a")] == 4
    assert held[("c", "b")] == held[("b", "a")] == 0
    x = np.random.default_rng(2).integers(0, 10, (6, 1, 4, 4)).astype(np.uint8)
    want, got = run(net, x), noc.run(image, x)
    assert all(np.array_equal(got.spikes[name], want.spikes[name]) for name in want.spikes)
    table = json.loads(files[noc.MAPPING])
    link = next(link for link in table["layers"][2]["links"] if link["source"] == "a")
    link["held"] = 3
    (fault,) = faults_of(resealed(table, files[noc.BINARY]))
    assert "holds its spikes for 3 ticks, but its window opens 4 ticks after theirs has closed" in fault
