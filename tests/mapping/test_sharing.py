"""Layers that share cores, and cores that share routers: the same function, less traffic, and what is refused."""

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.vgg import vgg
from tests.mapping.files import faults_of, resealed
from tests.mapping.nets import chip_of, mnist, proven, skipping
from tests.simulate.test_counts import assert_counted
from tests.strategies import inputs_for, integer_nets
from ttfsc.backends import noc
from ttfsc.backends.noc.simulate import Simulator
from ttfsc.hardware import Chip, Figure, load_chip
from ttfsc.ir import Mapped, Net, TtfsError, codes, layers_of, parse, show, traffic, verify
from ttfsc.mapping import MapOptions
from ttfsc.passes.partition import partition
from ttfsc.passes.place import place
from ttfsc.passes.route import route


def shared_by(chip: Chip, cores: int) -> Chip:
    return replace(chip, cores_per_router=Figure(cores, "cores", "test"))


def map_of(net: Net) -> Mapped:
    assert net.mapped is not None
    return net.mapped


def farther(net: Net) -> int:
    """Packets to other cores, if every neuron fired once."""
    return sum(r.source.size * sum(to != r.core for to in r.to) for r in map_of(route(place(net))).routes)


def test_a_core_holds_the_same_patch_of_both_layers() -> None:
    net = partition(proven(skipping()), share="a+b", chip=chip_of(16))
    pairs = [[(s.layer, s.box) for s in core.slices] for core in map_of(net).cores if len(core.slices) > 1]
    assert len(pairs) == 4
    assert all(a[0] == "a" and b[0] == "b" and a[1][1:] == b[1][1:] for a, b in pairs)
    assert sum(core.neurons for core in map_of(net).cores) == sum(layer.size for layer in layers_of(net))
    assert verify(parse(show(route(place(net))), net.arrays))


@pytest.mark.parametrize("fidelity", ["counts", "cycle"])
@pytest.mark.parametrize(("share", "ports"), [("a+b", 1), ("a+b+c", 2), ("b+a", 4), ("", 3)])
def test_the_mapped_net_is_the_same_function(share: str, ports: int, fidelity: Any) -> None:
    chip = shared_by(chip_of(16), ports)
    net = verify(route(place(partition(proven(skipping()), share=share, chip=chip), scheme="hilbert", chip=chip)))
    x = np.random.default_rng(0).integers(0, 10, (5, 1, 4, 4)).astype(np.uint8)
    found = Simulator(noc.load(noc.emit(net, chip))).run(x, fidelity=fidelity, keep=True)
    assert_counted(net, x, found)


@settings(max_examples=25, deadline=None)
@given(integer_nets(), st.integers(2, 30), st.sampled_from([1, 2, 4]), st.integers(0, 99))
def test_shared_nets_run_from_their_files(net: Net, limit: int, ports: int, seed: int) -> None:
    chip = shared_by(chip_of(limit), ports)
    alone, net = partition(proven(net), chip=chip), partition(proven(net), share="auto", chip=chip)
    assert farther(net) <= farther(alone)
    assert len(map_of(net).cores) <= len(map_of(alone).cores)
    done = verify(route(place(net, scheme="hilbert", chip=chip)))
    assert max(Counter(core.place for core in map_of(done).cores).values()) <= ports
    x = inputs_for(net, seed)
    assert_counted(done, x, Simulator(noc.load(noc.emit(done, chip))).run(x, keep=True))


def test_vgg16_shares_its_first_pair_and_no_other() -> None:
    """What the first layer hears comes from the host, so smaller patches of it cost nothing."""
    net = partition(vgg(), share="auto", chip=load_chip("canmore-22nm"))
    groups = {tuple(s.layer for s in core.slices) for core in map_of(net).cores}
    assert [group for group in groups if len(group) > 1] == [("c0", "c1")]
    assert len(map_of(net).cores) == 279


@pytest.mark.parametrize(
    ("share", "neurons", "fact"),
    [
        ("a", 16, "share=a: must be layers joined by +, of a, b, c, out"),
        ("a+nobody", 16, "share=a+nobody: must be layers joined by +, of a, b, c, out"),
        ("a+b b+c", 16, "share=b+c: a layer can share cores once"),
        ("a+a", 16, "share=a+a: a layer can share cores once"),
        ("a+out", 16, "share=a+out: planes of 1x1 and 4x4 have no patches in common"),
        ("a+b", 3, "share=a+b: one pixel of all has 4 channels, more than the 3 neurons on a core of small"),
    ],
)
def test_layers_that_cannot_share(share: str, neurons: int, fact: str) -> None:
    with pytest.raises(TtfsError) as e:
        partition(proven(skipping()), share=share, chip=chip_of(neurons))
    assert [f.code for f in e.value.faults] == [codes.OPTION]
    assert str(e.value).endswith(fact)


def test_memories_of_shared_layers_add_up() -> None:
    net = proven(skipping())
    assert partition(net, chip=chip_of(16, bits=500))
    with pytest.raises(TtfsError, match=r"%b and %c on the same cores need \d\d\d bits of synapse memory") as e:
        partition(net, share="b+c", chip=chip_of(16, bits=500))
    assert {f.code for f in e.value.faults} == {codes.CAPACITY}
    assert partition(net, share="auto", chip=chip_of(16, bits=435))  # shares only what fits


def test_cores_of_one_router_talk_without_a_link() -> None:
    chip = shared_by(chip_of(300), 4)
    net = partition(mnist(), chip=chip)
    side = map_of(net).mesh[0]
    assert 4 * (side - 1) ** 2 < len(map_of(net).cores) <= 4 * side**2
    one = route(place(net, scheme="anneal", moves=100_000, restarts=1, chip=chip))
    two = route(place(partition(mnist(), chip=chip_of(300)), scheme="anneal", moves=100_000, restarts=1))
    hops = [sum(int(m.hops_multicast.sum()) for m in traffic(done).values()) for done in (one, two)]
    assert hops[0] < 0.6 * hops[1]
    everyone = route(place(partition(mnist(), chip=shared_by(chip_of(300), 1000)), scheme="hilbert"))
    assert all(m.hops_unicast.sum() == 0 for m in traffic(everyone).values())


def test_pinned_and_closed_places_of_shared_routers() -> None:
    chip = shared_by(chip_of(300), 4)
    net = partition(mnist(), chip=chip)
    for scheme in ("row-major", "hilbert", "anneal"):
        done = place(net, scheme=scheme, pinned="1@1:1 2@1:1 3@1:1", closed="0:0", moves=2000, chip=chip)
        at = {core.id: core.place for core in map_of(verify(route(done))).cores}
        assert at[1] == at[2] == at[3] == (1, 1)
        assert (0, 0) not in at.values()
        again = place(done, scheme="anneal", start="current", pinned="1@1:1", moves=2000, chip=chip)
        assert verify(route(again))
    with pytest.raises(TtfsError, match="pinned=5@1:1 must be core@x:y with a core of the map and a place of its own"):
        place(net, pinned="1@1:1 2@1:1 3@1:1 4@1:1 5@1:1", chip=chip)


def test_the_loader_counts_the_cores_of_a_router() -> None:
    chip = shared_by(chip_of(300), 2)
    files = noc.emit(route(place(partition(proven(mnist()), chip=chip), scheme="row-major"), delivery="unicast"), chip)
    assert noc.load(files).mapped.cores_per_router == 2
    table = json.loads(files[noc.MAPPING])
    table["cores"][2]["place"] = table["cores"][0]["place"]
    assert any(
        "core 2: stands at 0,0, where core 1 is" in fact for fact in faults_of(resealed(table, files[noc.BINARY]))
    )


def test_share_is_an_option_of_compile() -> None:
    assert MapOptions(share="auto").passes(0) == "partition{scheme=tile,share=auto},place,route"
    assert MapOptions().passes(0) == "partition{scheme=tile},place,route"
