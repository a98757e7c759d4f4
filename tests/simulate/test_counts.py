"""What the simulator counts from the mapping files, against the interpreter, `ttfsc.ir.traffic` and the report."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mapping.nets import chip_of, mnist, proven
from tests.strategies import inputs_for, integer_nets
from ttfsc.backends import noc, report
from ttfsc.backends.noc.export_traffic import traffic_table
from ttfsc.backends.noc.simulate import Simulation, Simulator
from ttfsc.backends.noc.summary import summary
from ttfsc.hardware import Chip, Figure, load_chip
from ttfsc.ir import Net, layers_of, link_loads, load, run, sent_spikes, traffic
from ttfsc.passes.partition import partition
from ttfsc.passes.place import place
from ttfsc.passes.route import route

EXAMPLE = Path(__file__).parents[2] / "examples" / "mnist" / "digits.npz"


def routed(net: Net, chip: Chip, scheme: str, delivery: str, order: str, pool: str) -> Net:
    placed = place(partition(proven(net), scheme="tile" if scheme == "tile" else "feature", chip=chip))
    return route(
        placed,
        delivery=delivery,
        order="yx" if order == "yx" else "xy",
        pool="source" if pool == "source" else "target",
    )


def assert_counted(net: Net, x: np.ndarray, found: Simulation) -> None:
    """Spikes, packets, hops, link loads and additions are those of the net's own traffic maps and of the report."""
    assert net.mapped is not None
    want, maps, sent = run(net, x), traffic(net), dict[str, np.ndarray]()
    np.testing.assert_array_equal(found.result.labels, want.labels)
    np.testing.assert_array_equal(found.result.scores, want.scores)
    for name, spikes in want.spikes.items():
        np.testing.assert_array_equal(found.result.spikes[name], spikes, err_msg=name)
    multicast = net.mapped.delivery == "multicast"
    meter = report.Meter(net)
    meter.add(x, want)
    measured = meter.finish()
    for layer in layers_of(net):
        counts, cost = found.layers[layer.name], maps[layer.name]
        assert (counts.sops, counts.macs) == (measured.layers[layer.name].sops, measured.layers[layer.name].macs)
        assert counts.spikes == measured.layers[layer.name].total
        if layer.fires:
            values = want.spikes[layer.name].reshape(len(x), *layer.grid)
            sent[layer.name] = (sent_spikes(net, layer, values) > 0).sum(0)
            packets, hops = (
                (cost.packets_multicast, cost.hops_multicast)
                if multicast
                else (cost.packets_unicast, cost.hops_unicast)
            )
            assert counts.packets == (sent[layer.name] * packets).sum()
            assert counts.hops.sum() == (sent[layer.name] * hops).sum()
    loads = link_loads(net, sent)
    np.testing.assert_array_equal(found.links, np.stack([loads.east, loads.west, loads.south, loads.north], -1))
    assert sum(found.sent.values()) == found.lengths.sum() == sum(counts.packets for counts in found.layers.values())
    assert (found.lengths * np.arange(len(found.lengths))).sum() == loads.total
    for kind in ("spikes", "packets", "sops"):
        assert sum(found.frames[kind]) == sum(getattr(counts, kind) for counts in found.layers.values())
    assert sum(found.frames["hops"]) == loads.total
    assert found.input_spikes == measured.input_spikes


@settings(max_examples=100, deadline=None)
@given(
    integer_nets(),
    st.integers(1, 20),
    st.sampled_from(("feature", "tile")),
    st.sampled_from(("multicast", "unicast")),
    st.sampled_from(("xy", "yx")),
    st.sampled_from(("target", "source")),
    st.integers(1, 4),
    st.integers(0, 9),
)
def test_random_nets(
    net: Net, limit: int, scheme: str, delivery: str, order: str, pool: str, ports: int, seed: int
) -> None:
    chip = replace(chip_of(limit), cores_per_router=Figure(ports, "cores", "test"))
    net, x = routed(net, chip, scheme, delivery, order, pool), inputs_for(net, seed)
    found = Simulator(noc.load(noc.emit(net, chip))).run(x, fidelity="cycle", keep=True)
    assert_counted(net, x, found)
    assert found.timing is not None
    assert len(found.timing.serial) == len(found.timing.interval) == len(x)
    assert min(found.timing.serial) >= max(layer.closes for layer in found.image.layers)


@pytest.mark.parametrize(("maxpool", "pool"), [(False, "target"), (True, "target"), (True, "source")])
@pytest.mark.parametrize("delivery", ["multicast", "unicast"])
def test_mnist_size(maxpool: bool, pool: str, delivery: str) -> None:
    chip = load_chip("canmore-22nm")
    net = routed(mnist(maxpool=maxpool), chip, "tile", delivery, "xy", pool)
    x = np.random.default_rng(1).integers(0, 256, (3, 1, 28, 28)).astype(np.uint8)
    found = Simulator(noc.load(noc.emit(net, chip))).run(x, keep=True)
    assert_counted(net, x, found)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Net:
    """The trained MNIST example, compiled."""
    torch = pytest.importorskip("torch")
    del torch
    from ttfsc.compiler import Options, compile_net
    from ttfsc.models import Source, load_model

    folder = EXAMPLE.parent
    net = load_model(Source(f"{folder / 'network.py'}:dta", weights=folder / "dta.safetensors"))
    compiled = compile_net(net, Options(targets=("noc",)), check=False)
    path = tmp_path_factory.mktemp("example")
    compiled.write(path / "out")
    return load(path / "out" / "net.ttfs")


def test_a_hundred_digits(example: Net) -> None:
    """Interpreter and simulator agree spike for spike, and the report has the same counts and energy."""
    chip, x = load_chip("canmore-22nm"), np.load(EXAMPLE)["x"][:100]
    simulator = Simulator(noc.load(noc.emit(example, chip)))
    found = simulator.run(x, keep=True)
    assert_counted(example, x, found)
    table = summary(found)
    built = report.build(
        example, chip=chip, measured=report.measure(example, x), provenance=report.Provenance("test", "0", {})
    )
    lines = {line.key: line.value for line in built.energy}
    assert table["energy"]["b"] == pytest.approx(lines["b-multicast"], rel=1e-12)
    assert table["energy"]["c"] == pytest.approx(lines["c"], rel=1e-12)
    assert built.traffic is not None
    assert table["per_frame"]["hops"]["mean"] == pytest.approx(built.traffic.hops_multicast, rel=1e-12)
    assert table["per_frame"]["packets"]["mean"] == pytest.approx(built.traffic.packets_multicast, rel=1e-12)
    assert built.mapping is not None
    assert built.mapping.links is not None
    assert table["links"]["busiest"]["packets"] == pytest.approx(built.mapping.links.busiest, rel=1e-12)
    for layer, other in zip(table["layers"], built.layers, strict=True):
        assert layer["energy"]["hops"] == pytest.approx(other.energy.hops_uj or 0)
        assert layer["energy"]["sops"] == pytest.approx(other.energy.sops_uj or 0)
    assert found.frames["spikes"] == [
        int(sum((s[i] > 0).sum() for s in found.result.spikes.values())) for i in range(100)
    ]


def test_batches_do_not_matter(example: Net) -> None:
    x = np.load(EXAMPLE)["x"][:7]
    simulator = Simulator(noc.load(noc.emit(example, load_chip("canmore-22nm"))))
    whole = summary(simulator.run(x, fidelity="cycle"))
    simulator.mesh.batch = 3
    assert summary(simulator.run(x, fidelity="cycle")) == whole


def test_the_traffic_table_holds_every_packet(example: Net) -> None:
    x = np.load(EXAMPLE)["x"][:2]
    simulator = Simulator(noc.load(noc.emit(example, load_chip("canmore-22nm"))))
    values = simulator.values(x, simulator.mesh.run(x))
    packets = simulator.fabric.packets(values)
    rows = [list(map(int, line.split(","))) for line in traffic_table(simulator.fabric, packets, 5).splitlines()]
    maps, hops, count = traffic(example), 0, 0
    for layer in layers_of(example):
        if layer.fires:
            spikes = (values[layer.name] > 0).sum(0)
            hops += int((spikes * maps[layer.name].hops_unicast).sum())
            count += int((spikes * maps[layer.name].packets_unicast).sum())
    assert sum(n * (abs(dx - sx) + abs(dy - sy)) for _, _, sx, sy, dx, dy, _, n in rows) == hops
    assert sum(row[-1] for row in rows) == count
    assert {row[0] for row in rows} == {5, 6}
    assert rows == sorted(rows, key=lambda row: (row[0], row[1], row[6]))


def test_figures_that_a_chip_gives_are_modelled() -> None:
    """Updates and memory accesses are charged where the chip says how much, static power by the length of a frame."""
    plain = chip_of(1024)
    chip = replace(
        plain,
        e_sop=Figure(2, "pJ", "t"), e_hop=Figure(3, "pJ", "t"), e_update=Figure(5, "pJ", "t"),
        e_memory=Figure(7, "pJ", "t"), p_static=Figure(4, "mW", "t"), tick=Figure(10, "us", "t"),
        cycle=Figure(20, "ns", "t"), buffer_packets=Figure(9, "packets", "t"),
    )  # fmt: skip
    x = np.random.default_rng(1).integers(0, 256, (2, 1, 28, 28)).astype(np.uint8)
    found = Simulator(noc.load(noc.emit(routed(mnist(), chip, "tile", "", "xy", "target"), chip))).run(
        x, fidelity="cycle"
    )
    table = summary(found)
    kinds, per = table["energy"]["kinds"], table["per_frame"]
    assert kinds["hops"] == pytest.approx(3e-6 * per["hops"]["mean"])
    assert kinds["sops"] == pytest.approx(2e-6 * per["sops"]["mean"])
    assert kinds["memory"] == pytest.approx(7e-6 * per["sops"]["mean"])
    assert kinds["updates"] == pytest.approx(5e-6 * 10 * (16 * 26 * 26 + 32 * 11 * 11 + 128 + 10))
    assert kinds["static"] == pytest.approx(4 * 40 * 10 / 1000)
    assert table["energy"]["not_modelled"] == []
    assert table["latency"]["serial_us"] == 400
    cycles = table["cycles"]
    assert cycles["serial_us"] == pytest.approx(cycles["serial"]["mean"] * 0.02)
    assert cycles["fits_tick"] == (cycles["slowest_tick"] * 0.02 <= 10)
    assert "buffer_packets" not in cycles["router"]["assumed"]
    assert cycles["router"]["buffer_packets"] == 9
    nothing = summary(Simulator(noc.load(noc.emit(routed(mnist(), plain, "tile", "", "xy", "target"), plain))).run(x))
    assert nothing["energy"]["b"] is nothing["energy"]["c"] is None
    assert set(nothing["energy"]["kinds"].values()) == {None}
