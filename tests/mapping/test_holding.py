"""Skip connections: their spikes wait on the cores that read them, in room that the files give; the energy counts."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mapping.files import Files, Table, faults_of, resealed
from tests.mapping.nets import chip_of, proven, skipping
from tests.report.nets import listeners
from tests.strategies import inputs_for, integer_nets
from ttfsc.backends import noc, report
from ttfsc.backends.noc.simulate import Simulator
from ttfsc.backends.noc.summary import lines, summary
from ttfsc.hardware import Chip, Figure
from ttfsc.ir import Layer, Link, Net, Scores, Spikes, TtfsError, delay_bits, layers_of, run, sent_spikes
from ttfsc.passes.partition import partition
from ttfsc.passes.place import place
from ttfsc.passes.route import route


def on(chip: Chip, delivery: str = "", pool: str = "target") -> Net:
    placed = place(partition(skipping(), chip=chip))
    return route(placed, delivery=delivery, pool="source" if pool == "source" else "target")


def window(layer: Layer) -> tuple[int, int]:
    assert isinstance(layer.op.type, Spikes | Scores)
    return layer.op.type.opens, layer.op.type.closes


def waiting(net: Net) -> list[tuple[str, int, int]]:
    """(layer, number of link, ticks) of every link whose spikes wait, from the windows."""
    found = list[tuple[str, int, int]]()
    layers = {layer.name: layer for layer in layers_of(net)}
    for layer in layers.values():
        for i, link in enumerate(layer.links):
            if link.source in layers and link.synapse.kernel in ("hold", "ramp"):
                ticks = window(layer)[0] - window(layers[link.source])[1]
                found += [(layer.name, i, ticks)] if ticks else []
    return found


def one_by_one(net: Net, x: np.ndarray) -> dict[str, int]:
    """By layer: every sent spike of a skip connection, once for every slice with a neuron that it can touch."""
    assert net.mapped is not None
    result, found = run(net, x), {layer.name: 0 for layer in layers_of(net)}
    layers = {layer.name: layer for layer in layers_of(net)}
    for name, i, _ in waiting(net):
        link: Link = layers[name].links[i]
        source, touched = layers[link.source], listeners(link, net.arrays[link.synapse.w])
        values = result.spikes[link.source].reshape(len(x), *source.grid)
        for frame in sent_spikes(net, source, values):
            for sender in np.argwhere(frame):
                outs = touched.get((int(sender[0]), int(sender[1]), int(sender[2])), set())
                for piece in (piece for core in net.mapped.cores for piece in core.slices if piece.layer == name):
                    inside = (all(a <= n < b for n, (a, b) in zip(out, piece.box, strict=True)) for out in outs)
                    found[name] += any(inside)
    return found


def table_of(files: Files) -> Table:
    return json.loads(files[noc.MAPPING])


def test_the_files_contain_the_delays() -> None:
    """A spike of %a (window 0..4) is wanted at 8; a frame begins every 4 ticks: 2 values of 3 bits wait at once."""
    net = on(chip_of(8))
    layers = {layer.name: layer for layer in layers_of(net)}
    assert [(layer.name, i, wait.ticks, wait.bits) for layer in layers.values() for i, wait in layer.held] == [
        ("c", 1, 4, 6)
    ]
    table = table_of(noc.emit(net, chip_of(8)))
    for core in table["cores"]:
        for piece in core["slices"]:
            (_, (y0, y1), (x0, x1)) = piece["box"]
            axons = 2 * (min(y1 + 1, 4) - max(y0 - 1, 0)) * (min(x1 + 1, 4) - max(x0 - 1, 0))  # 3x3, pad 1
            want = [{"link": 1, "axons": axons, "bits": 6 * axons}] if piece["layer"] == "c" else []
            assert piece["delays"] == want


@pytest.mark.parametrize("delays", [[], [{"link": 1, "axons": 8, "bits": 47}], [{"link": 0, "axons": 8, "bits": 48}]])
def test_other_delays_are_found(delays: list[Table]) -> None:
    files = noc.emit(on(chip_of(8)), chip_of(8))
    table = table_of(files)
    core = next(core for core in table["cores"] if core["slices"][0]["layer"] == "c")
    core["slices"][0]["delays"] = delays
    (fault,) = faults_of(resealed(table, files[noc.BINARY]))
    assert f"core {core['id']}" in fault
    assert "the delays of %c" in fault
    assert "neurons for link 1" in fault


@settings(max_examples=60, deadline=None)
@given(
    integer_nets(), st.integers(2, 20), st.sampled_from(["tile", "feature"]), st.sampled_from(["target", "source"]),
    st.integers(0, 9),
)  # fmt: skip
def test_held_spikes_one_by_one(net: Net, limit: int, scheme: str, pool: str, seed: int) -> None:
    chip = chip_of(limit)
    placed = place(partition(proven(net), scheme=scheme, chip=chip))
    routed = route(placed, pool="source" if pool == "source" else "target")
    assert_counted(routed, chip, inputs_for(net, seed, 2))


@pytest.mark.parametrize("pool", ["target", "source"])
@pytest.mark.parametrize("delivery", ["multicast", "unicast"])
@pytest.mark.parametrize("neurons", [4, 8, 64])
def test_held_spikes_of_a_skip_connection(neurons: int, delivery: str, pool: str) -> None:
    chip = chip_of(neurons)
    x = np.random.default_rng(2).integers(0, 10, (5, 1, 4, 4)).astype(np.uint8)
    assert assert_counted(on(chip, delivery=delivery, pool=pool), chip, x) > 0


def assert_counted(net: Net, chip: Chip, x: np.ndarray) -> int:
    """Simulator and report count the same as looking at every spike; returns how many were held."""
    found = Simulator(noc.load(noc.emit(net, chip))).run(x)
    want = one_by_one(net, x)
    assert {name: counts.held for name, counts in found.layers.items()} == want
    assert sum(found.frames["held"]) == sum(want.values())
    made = report.build(
        net, chip=chip, measured=report.measure(net, x), provenance=report.Provenance("test", "0", {})
    )  # fmt: skip
    for layer in made.layers:
        assert layer.mapping is not None
        assert layer.mapping.held == want[layer.name] / len(x)
    assert made.mapping is not None
    assert made.mapping.delay_bits == sum(core["delay_bits"] for core in summary(found)["cores"])
    return sum(want.values())


def test_the_energy_counts_them() -> None:
    """Like a relay on the spot in lines (b) and (c), and as a write and a read of memory."""
    plain = chip_of(8)
    figures = {"e_sop": "pJ", "e_hop": "pJ", "e_memory": "pJ", "e_update": "pJ", "e_static": "uJ/frame"}
    chip = replace(plain, **{key: Figure(2 + i, unit, "t") for i, (key, unit) in enumerate(figures.items())})
    net, x = on(chip), np.random.default_rng(2).integers(0, 10, (5, 1, 4, 4)).astype(np.uint8)
    table = summary(Simulator(noc.load(noc.emit(net, chip))).run(x))
    per = {kind: table["per_frame"][kind]["mean"] for kind in ("spikes", "hops", "sops", "held")}
    kinds = table["energy"]["kinds"]
    assert per["held"] > 0
    assert kinds["held"] == pytest.approx(2e-6 * per["held"])
    assert kinds["memory"] == pytest.approx(4e-6 * (per["sops"] + 2 * per["held"]))
    assert table["energy"]["b"] == pytest.approx(2e-6 * (per["spikes"] + per["held"]) + 3e-6 * per["hops"] + 6)
    assert table["energy"]["c"] == pytest.approx(2e-6 * (per["sops"] + per["held"]) + 3e-6 * per["hops"] + 6)
    assert any(line.startswith("skip connections: 1; ") for line in lines(table))
    made = report.build(
        net, chip=chip, measured=report.measure(net, x), provenance=report.Provenance("test", "0", {})
    )  # fmt: skip
    known = {line.key: line for line in made.energy}
    assert known["b-multicast"].value == pytest.approx(table["energy"]["b"])
    assert known["c"].value == pytest.approx(table["energy"]["c"])
    assert "held" not in known["a"].formula
    for layer, other in zip(table["layers"], made.layers, strict=True):
        for kind in ("held", "updates", "memory", "sops", "hops"):
            assert layer["energy"][kind] == pytest.approx(getattr(other.energy, f"{kind}_uj"))
    text = report.text_of(made)
    assert "wait on the cores that read them" in text
    assert "held uJ" in text


def test_they_take_memory() -> None:
    """16 neurons of %c on one core hold 2 links of 2*2*9 weights of 4 bits, and 32 axons of 6 bits wait."""
    need = 2 * 36 * 4 + 32 * 6
    layer = layers_of(skipping())[2]
    assert delay_bits(layer, ((0, 2), (0, 4), (0, 4))) == 32 * 6
    partition(skipping(), chip=chip_of(32, bits=4096))
    with pytest.raises(TtfsError) as e:
        partition(skipping(), chip=chip_of(32, bits=need - 1))
    assert f"needs {need} bits of synapse memory on one core" in str(e.value)
    files = noc.emit(on(chip_of(32, bits=4096)), chip_of(32, bits=4096))
    table = table_of(files)
    table["chip"]["figures"]["synapse_bits_per_core"]["value"] = need - 1
    faults = faults_of(resealed(table, files[noc.BINARY]))
    assert any("bits of waiting spikes, small has" in fault for fault in faults)
