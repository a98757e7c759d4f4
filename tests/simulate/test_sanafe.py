"""Exported frames in SANA-FE, an independent simulator: the same spikes at the same ticks, and the same counts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from tests.mapping.nets import chip_of, mapped, mnist, proven
from ttfsc.backends import noc
from ttfsc.backends.noc.export_sanafe import sanafe_files, sanafe_replay
from ttfsc.backends.noc.packets import Fabric
from ttfsc.backends.noc.sanafe import Replay, run_sanafe
from ttfsc.backends.noc.simulate import Simulator
from ttfsc.hardware import Chip, Figure, load_chip
from ttfsc.ir import (
    OPEN,
    Add,
    Analog,
    Array,
    Builder,
    Conv2d,
    Decode,
    Dense,
    Fire,
    Flatten,
    Input,
    Net,
    Ref,
    TtfsError,
    codes,
)  # fmt: skip

pytest.importorskip("sanafe", reason="SANA-FE is a test dependency with wheels for Linux on x86-64 only")
EXAMPLE = Path(__file__).parents[2] / "examples" / "mnist"


def _kernel(name: str) -> Literal["hold", "ramp"]:
    return "hold" if name == "hold" else "ramp"


def small(kernel: str, *, bias: bool = False, force_last: bool = False, seed: int = 0) -> Net:
    """Conv with a folded average pool that overlaps, strides, groups, then dense: every way a synapse can lie."""
    rng, b = np.random.default_rng(seed), Builder("small-net", ticks=6)
    b.add(Input(name="in", type=Analog((2, 9, 9), 0, 15)))

    def weights(name: str, *shape: int) -> Any:
        return b.array(name, rng.integers(-7, 8, shape).astype(np.int8))

    def fire(name: str, top: int) -> Ref:
        table = np.sort(rng.integers(-top // 4, top, (1, 6)))[:, ::-1].astype(np.int32)
        theta = b.array(f"{name}.theta", table)
        return Ref(b.add(Fire(name=name, type=OPEN, v=Ref(f"{name}.v"), theta=theta, force_last=force_last)).name)

    more: dict[str, Any] = {"bias": b.array("b1", rng.integers(-20, 20, 4).astype(np.int32))} if bias else {}
    b.add(Conv2d(name="a.v", type=OPEN, x=Ref("in"), w=weights("w1", 4, 2, 3, 3), pad=(1, 1, 1, 1), bits=4, **more))
    a = fire("a", 120)
    more = {"drift": b.array("d2", rng.integers(-5, 5, 4).astype(np.int32))} if bias and kernel == "ramp" else {}
    b.add(
        Conv2d(
            name="c.v", type=OPEN, x=a, w=weights("w2", 4, 2, 3, 2), pad=(1, 0, 2, 1), stride=(2, 1), groups=2, bits=4,
            kernel=_kernel(kernel), pool=(3, 2), pool_stride=(2, 2), pool_pad=(1, 0, 0, 1), **more,
        )
    )  # fmt: skip
    c = fire("c", 150)
    size = b.types[b.add(Flatten(name="flat", type=OPEN, x=c)).name].shape[0]
    b.add(Dense(name="d.v", type=OPEN, x=Ref("flat"), w=weights("w3", 9, size), bits=4, kernel=_kernel(kernel)))
    d = fire("d", 100)
    b.add(Dense(name="o.v", type=OPEN, x=d, w=weights("w4", 3, 9), bits=4, kernel=_kernel(kernel)))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("o.v"),), rule="membrane"))
    return b.net()


def assert_same(simulator: Simulator, x: Array, folder: Path) -> Replay:
    """Spike times of every neuron, packets, hops, SOPs and energy; SANA-FE sends unicast, so do we here."""
    found = simulator.run(x, keep=True)
    for name, data in sanafe_files(simulator, x).items():
        (folder / name).write_bytes(data)
    got = run_sanafe(folder)
    want = dict[tuple[str, int], int]()
    for group, (layer, *box) in json.loads((folder / "schedule.json").read_text())["groups"].items():
        image = next(i for i in simulator.image.layers if i.layer.name == layer)
        if image.thresholds is None:
            continue
        values = found.result.spikes[layer].reshape(image.layer.grid)[tuple(slice(a, b) for a, b in box)].reshape(-1)
        want |= {(group, int(i)): image.closes - int(values[i]) for i in np.flatnonzero(values)}
    assert got.ticks == want
    assert want
    assert_counts(simulator, x, got)
    assert got.sops == found.frames["sops"][0]
    sop = simulator.image.figures["e_sop"]
    assert got.energy["synapse"] == pytest.approx((sop.value if sop else 0) * 1e-12 * got.sops, rel=1e-9)
    return got


def assert_counts(simulator: Simulator, x: Array, got: Replay) -> None:
    fabric = Fabric(simulator.image, "unicast")
    values = simulator.values(x, simulator.mesh.run(x))
    packets = fabric.packets(values)
    assert got.packets == len(packets)
    assert got.hops == fabric.hops[packets.tree].sum()
    hop = simulator.image.figures["e_hop"]
    assert got.energy["network"] == pytest.approx((hop.value if hop else 0) * 1e-12 * got.hops, rel=1e-9)


def simulator_of(net: Net, chip: Chip, delivery: str = "") -> Simulator:
    return Simulator(noc.load(noc.emit(mapped(proven(net), chip, "tile", delivery), chip)))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("kernel", "bias", "last"), [("ramp", True, False), ("hold", True, False), ("ramp", False, True)]
)
def test_every_neuron_fires_at_the_same_tick(kernel: str, bias: bool, last: bool, seed: int, tmp_path: Path) -> None:
    net = small(kernel, bias=bias, force_last=last, seed=seed)
    simulator = simulator_of(net, chip_of(50))
    x = np.random.default_rng(seed).integers(0, 16, (1, 2, 9, 9)).astype(np.uint8)
    assert_same(simulator, x, tmp_path)


def test_cores_that_share_a_router(tmp_path: Path) -> None:
    """Three cores of a tile: no hop between them, and a packet for each that hears a spike."""
    chip = replace(chip_of(20), cores_per_router=Figure(3, "cores", "test"))
    simulator = simulator_of(small("ramp"), chip)
    assert len(simulator.image.cores) > simulator.fabric.width * simulator.fabric.height
    x = np.random.default_rng(0).integers(0, 16, (1, 2, 9, 9)).astype(np.uint8)
    assert_same(simulator, x, tmp_path)
    for name, data in sanafe_replay(simulator, x).items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "schedule.json").unlink()
    assert_counts(simulator, x, run_sanafe(tmp_path))


def test_the_mnist_example(tmp_path: Path) -> None:
    """The trained network on a digit: spike times, packets, hops and SOPs identical, energy to rounding."""
    pytest.importorskip("torch")
    from ttfsc.compiler import Options, compile_net, part_of
    from ttfsc.models import Source, load_model

    net = load_model(Source(f"{EXAMPLE / 'network.py'}:dta", weights=EXAMPLE / "dta.safetensors"))
    compiled = compile_net(net, Options(targets=("noc",)), check=False)
    simulator = Simulator(noc.load(part_of(compiled.files, "noc")))
    x = np.load(EXAMPLE / "digits.npz")["x"][:50]
    least = int(np.argmin(simulator.run(x).frames["sops"]))  # SANA-FE takes seconds per million synapses
    got = assert_same(simulator, x[least : least + 1], tmp_path)
    assert got.sops > 100_000


@pytest.mark.parametrize("delivery", ["multicast", "unicast"])
def test_a_replayed_frame_has_the_same_traffic(delivery: str, tmp_path: Path) -> None:
    """Max pools and several destinations; no synapses of the network are needed."""
    chip = load_chip("canmore-22nm")
    simulator = simulator_of(mnist(maxpool=True), chip, delivery)
    x = np.random.default_rng(3).integers(0, 256, (1, 1, 28, 28)).astype(np.uint8)
    for name, data in sanafe_replay(simulator, x).items():
        (tmp_path / name).write_bytes(data)
    got = run_sanafe(tmp_path)
    assert_counts(simulator, x, got)
    fabric = simulator.fabric
    packets = fabric.packets(simulator.values(x, simulator.mesh.run(x)))
    assert got.spikes == len(packets) if delivery == "multicast" else got.packets == len(packets)


def _skipping() -> Net:
    """A skip connection and two kernels on one membrane."""
    rng, b = np.random.default_rng(0), Builder("skip", ticks=4)
    b.add(Input(name="in", type=Analog((4,), 0, 9)))
    for name, source in (("a", "in"), ("b", "a")):
        w = b.array(f"{name}.w", rng.integers(-7, 8, (4, 4)).astype(np.int8))
        b.add(Dense(name=f"{name}.v", type=OPEN, x=Ref(source), w=w, bits=4, kernel="hold"))
        theta = b.array(f"{name}.t", np.array([[30, 20, 10, 0]], np.int32))
        b.add(Fire(name=name, type=OPEN, v=Ref(f"{name}.v"), theta=theta))
    w = b.array("o.w", rng.integers(-7, 8, (2, 4)).astype(np.int8))
    b.add(Dense(name="o.1", type=OPEN, x=Ref("b"), w=w, bits=4, kernel="ramp"))
    b.add(Dense(name="o.2", type=OPEN, x=Ref("a"), w=w, bits=4, kernel="hold"))
    b.add(Add(name="o", type=OPEN, xs=(Ref("o.1"), Ref("o.2"))))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("o"),), rule="membrane"))
    return b.net()


def test_what_its_neurons_cannot_do_is_named() -> None:
    pooled = simulator_of(mnist(maxpool=True), chip_of(2000))
    with pytest.raises(TtfsError) as e:
        sanafe_files(pooled, np.zeros((1, 1, 28, 28), np.uint8))
    facts = [str(f) for f in e.value.faults]
    assert {f.code for f in e.value.faults} == {codes.UNSUPPORTED}
    assert any("layer %c2: reads %c1 through a max pool" in fact for fact in facts)
    assert any("cores: hold up to 1872 neurons, a soma unit of SANA-FE holds 1024" in fact for fact in facts), facts
    with pytest.raises(TtfsError) as e:
        sanafe_files(simulator_of(_skipping(), chip_of(8)), np.zeros((1, 4), np.uint8))
    facts = [str(f) for f in e.value.faults]
    assert any("layer %out: holds the spikes of %a for 4 ticks" in fact for fact in facts)
    assert any("layer %out: adds spikes of kernels hold and ramp" in fact for fact in facts)
    assert all("--sanafe-replay" in fact for fact in facts)
