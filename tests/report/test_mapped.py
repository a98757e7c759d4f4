"""Packets, hops and loads of a mapped net against sending every spike on its own."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.report.nets import Index, listeners, mapped, small_chip, small_net, widths
from tests.strategies import inputs_for, mapped_ready_nets
from ttfsc.backends.report import Provenance, build, measure
from ttfsc.ir import Net, Place, TtfsError, codes, grid_of, layers_of, run, xy_tree

NOBODY = Provenance("ttfsc", "0", {})


def homes(net: Net) -> dict[tuple[str, Index], int]:
    """Which core each neuron is on."""
    assert net.mapped is not None
    found = dict[tuple[str, Index], int]()
    for core in net.mapped.cores:
        for part in core.slices:
            (c0, c1), (y0, y1), (x0, x1) = part.box
            for c, y, x in np.ndindex(c1 - c0, y1 - y0, x1 - x0):
                found[part.layer, (c0 + c, y0 + y, x0 + x)] = core.id
    return found


def destinations(net: Net) -> dict[tuple[str, Index], set[int]]:
    """The cores that each neuron's spike must reach: those that hold a neuron it can touch."""
    home, found = homes(net), dict[tuple[str, Index], set[int]]()
    for layer in layers_of(net):
        for link in layer.links:
            for sender, outs in listeners(link, net.arrays[link.synapse.w]).items():
                assert link.out_grid == layer.grid
                found.setdefault((link.source, sender), set()).update(home[layer.name, out] for out in outs)
    return found


def one_by_one(net: Net, x: np.ndarray) -> dict[str, list[float]]:
    """Per layer: packets and hops unicast, packets and hops multicast, mean-distance hops; over all of x."""
    assert net.mapped is not None
    places: dict[int, Place] = {core.id: core.place for core in net.mapped.cores}
    home, to, result = homes(net), destinations(net), run(net, x)
    found = dict[str, list[float]]()
    for layer in layers_of(net):
        sums = found[layer.name] = [0.0] * 5
        for frame in result.spikes.get(layer.name, ()):
            for sender in np.argwhere(frame.reshape(grid_of(frame.shape))):
                key = (layer.name, (int(sender[0]), int(sender[1]), int(sender[2])))
                here, targets = places[home[key]], [places[core] for core in sorted(to.get(key, ()))]
                paths = [len(xy_tree(here, [target])) for target in targets]
                sums[0] += len(targets)
                sums[1] += sum(paths)
                sums[2] += bool(targets)
                sums[3] += len(xy_tree(here, targets))
                sums[4] += sum(paths) / len(paths) if paths else 0
    return found


@pytest.mark.parametrize("scheme", ["tile", "feature"])
@pytest.mark.parametrize("delivery", ["multicast", "unicast"])
@settings(max_examples=12)
@given(net=mapped_ready_nets(), seed=st.integers(0, 2**32 - 1), limit=st.integers(3, 20))
def test_every_spike_on_its_own(scheme: str, delivery: str, net: Net, seed: int, limit: int) -> None:
    chip, x = small_chip(limit), inputs_for(net, seed, 3)
    try:
        net = mapped(widths(net), chip, scheme=scheme, delivery=delivery)
    except TtfsError as e:  # branches that cannot share cores: said so, and no map to count on
        assume(e.faults[0].code != codes.UNSUPPORTED)
        raise
    report = build(net, chip=chip, measured=measure(net, x, batch=2), provenance=NOBODY)
    brute, total = one_by_one(net, x), np.zeros(5)
    for layer in report.layers:
        t = layer.traffic
        assert t is not None
        made = [t.packets_unicast, t.hops_unicast, t.packets_multicast, t.hops_multicast, t.hops_mean_distance]
        assert made == pytest.approx([n / len(x) for n in brute[layer.name]])
        total += made
    t, m = report.traffic, report.mapping
    assert t is not None and m is not None
    assert [t.packets_unicast, t.hops_unicast, t.packets_multicast, t.hops_multicast] == pytest.approx(total[:4])
    packets, hops = (total[0], total[1]) if delivery == "unicast" else (total[2], total[3])
    assert sum(core.packets or 0 for core in m.cores) == pytest.approx(packets)
    assert m.links is not None and m.links.mean * m.links.used == pytest.approx(hops)
    lines = {line.key: line.value for line in report.energy}
    activity = report.activity
    assert activity is not None
    held = m.held or 0.0  # tests/mapping/test_holding.py counts those one by one
    for key, count, each in (
        ("a", activity.spikes, total[4]),
        ("b-unicast", activity.spikes + held, total[1]),
        ("b-multicast", activity.spikes + held, total[3]),
        ("c", activity.sops + held, hops),
    ):
        assert lines[key] == pytest.approx(20e-6 * count + 100e-6 * each + 3.52)


def test_cores_are_described() -> None:
    chip, net = small_chip(16), small_net()
    net = mapped(net, chip)
    m = build(net, chip=chip, provenance=NOBODY).mapping
    assert m is not None and net.mapped is not None
    assert sum(core.neurons for core in m.cores) == 3 * 6 * 6 + 4 * 3 * 3 + 3
    assert m.cores_used == len(m.cores) <= m.cores_available == m.mesh[0] * m.mesh[1]
    assert m.neurons_per_core.max <= m.neurons_per_core_limit == 16
    assert [(core.x, core.y) for core in m.cores] == [core.place for core in net.mapped.cores]
    assert m.links is None and m.destinations is None


def test_layers_know_their_share_of_cores() -> None:
    chip = small_chip(16)
    report = build(mapped(small_net(), chip), chip=chip, provenance=NOBODY)
    for layer in report.layers:
        assert layer.mapping is not None
        assert layer.mapping.core_use == layer.neurons / (16 * layer.mapping.cores)


def test_a_map_for_another_chip() -> None:
    net = mapped(small_net(), small_chip())
    other = small_chip()
    object.__setattr__(other, "name", "other")
    with pytest.raises(TtfsError, match="is mapped for chip tiny: report it for that one, or map it for other"):
        build(net, chip=other, provenance=NOBODY)
