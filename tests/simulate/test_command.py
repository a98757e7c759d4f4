"""`ttfsc simulate` and, on damaged mapping files, `ttfsc verify`: every damage is found and named."""

import hashlib
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.driver.conftest import Cli
from tests.mapping.files import resealed
from ttfsc.backends import noc
from ttfsc.ir import NEVER, Spikes, load, run, ticks_of

CHIP = """
name = "small"
title = "a chip for tests"
delivery = "multicast"
[neurons_per_core]
value = 24
unit = "neurons"
source = "test"
[e_sop]
value = 20
unit = "pJ"
source = "test"
[e_hop]
value = 100
unit = "pJ"
source = "test"
[e_static]
value = 3.52
unit = "uJ/frame"
source = "test"
"""


@pytest.fixture
def compiled(ttfsc: Cli, model: Path, inputs: Path, tmp_path: Path) -> Path:
    """A folder compiled for cores of 24 neurons: several per layer."""
    chip = tmp_path / "small.toml"
    chip.write_text(CHIP)
    done = ttfsc(
        "compile", model, "-o", tmp_path / "out", "--inputs", inputs, "--arch", chip, "--target", "noc,report",
        "--ticks", 8,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "routers: all " in done.out
    assert "deliveries of 1 input made, each exactly once" in done.out
    return tmp_path / "out"


@pytest.mark.parametrize("fidelity", ["counts", "cycle"])
def test_figures_pictures_and_exports(ttfsc: Cli, compiled: Path, inputs: Path, tmp_path: Path, fidelity: str) -> None:
    done = ttfsc(
        "simulate", compiled, "--inputs", inputs, "--fidelity", fidelity, "-o", tmp_path / "o.json", "--svg",
        tmp_path / "svg", "--traffic", tmp_path / "t.csv", "--sanafe", tmp_path / "sana", "--sanafe-replay",
        tmp_path / "replay", "--spikes", tmp_path / "s.npz",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "hops " in done.out
    assert ("each once" in done.out) == (fidelity == "cycle")
    table = json.loads((tmp_path / "o.json").read_text())
    report = json.loads((compiled / "report" / "report.json").read_text())
    assert table["inputs"] == 20
    assert table["per_frame"]["hops"]["mean"] == pytest.approx(report["traffic"]["hops_multicast"], rel=1e-12)
    assert table["correct"] == report["activity"]["correct"]
    assert (table["cycles"] is None) == (fidelity == "counts")
    pictures = sorted((tmp_path / "svg").iterdir())
    assert [p.name for p in pictures] == [
        "energy.svg", "hops.svg", "links.svg", "memory.svg", "neurons.svg", "packets.svg",
    ]  # fmt: skip
    for path in pictures:
        assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    said = " ".join((tmp_path / "svg" / "neurons.svg").read_text().split())
    for core in table["cores"]:
        assert f"core {core['id']} at {core['x']},{core['y']}: {core['neurons']} neurons" in said
    links = (tmp_path / "svg" / "links.svg").read_text()
    assert links.count("packets per frame</title>") == table["links"]["used"]
    rows = (tmp_path / "t.csv").read_text().splitlines()
    assert rows[0] == "frame,tick,src_x,src_y,dst_x,dst_y,tree,packets"
    assert {int(row.split(",")[0]) for row in rows[1:]} <= set(range(20))
    assert {p.name for p in (tmp_path / "sana").iterdir()} == {"arch.yaml", "net.yaml", "schedule.json"}
    assert {p.name for p in (tmp_path / "replay").iterdir()} == {"arch.yaml", "net.yaml"}
    net, x = load(compiled / "net.ttfs"), np.load(inputs)["x"]
    ticks = np.load(tmp_path / "s.npz")
    for name, spikes in run(net, x).spikes.items():
        window = net.type_of(name)
        assert isinstance(window, Spikes)
        np.testing.assert_array_equal(ticks[f"ticks.{name}"], ticks_of(spikes, window))
        assert (ticks[f"ticks.{name}"] != NEVER).any()


def test_the_noc_folder_is_enough(ttfsc: Cli, compiled: Path, inputs: Path, tmp_path: Path) -> None:
    """Nothing but the mapping files is there, and the figures are the same, byte for byte."""
    alone = tmp_path / "alone"
    (compiled / "noc").rename(alone)
    (compiled / "net.ttfs").unlink()
    one = ttfsc("simulate", alone, "--inputs", inputs, "--limit", 3, "-o", tmp_path / "1.json")
    two = ttfsc("simulate", alone, "--inputs", inputs, "--limit", 3, "-o", tmp_path / "2.json")
    assert one.code == two.code == 0
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()
    assert json.loads((tmp_path / "1.json").read_text())["inputs"] == 3


def test_wrong_inputs_are_named(ttfsc: Cli, compiled: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", x=np.full((2, 1, 6, 6), 16, np.uint8))
    done = ttfsc("simulate", compiled, "--inputs", tmp_path / "bad.npz")
    assert done.code == 1
    assert "x reaches from 16 to 16, declared are 0..15" in done.err
    assert ttfsc("simulate", tmp_path, "--inputs", tmp_path / "bad.npz").code == 1


Table = dict[str, Any]


def _seal(folder: Path, table: Table, binary: bytes) -> None:
    """Write mapping files with every hash recomputed, the manifest's too."""
    for name, data in resealed(table, binary).items():
        (folder / "noc" / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in (noc.MAPPING, noc.BINARY):
        data = (folder / "noc" / name).read_bytes()
        manifest["files"][f"noc/{name}"] = hashlib.sha256(data).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _read(folder: Path) -> tuple[Table, bytearray]:
    noc_folder = folder / "noc"
    return json.loads((noc_folder / noc.MAPPING).read_text()), bytearray((noc_folder / noc.BINARY).read_bytes())


def _flip(binary: bytearray, table: Table, core: int) -> None:
    section = next(s for s in table["cores"][core]["slices"][0]["sections"] if s["name"] == "weights")
    binary[section["offset"] + 3] ^= 0x44  # the weights' third bit: a change of 4 of 7


def test_a_flipped_weight_bit(ttfsc: Cli, compiled: Path, inputs: Path) -> None:
    """Plainly flipped: the loader names the core. With hashes recomputed: verify names the first spike that differs."""
    table, binary = _read(compiled)
    _flip(binary, table, 1)
    (compiled / "noc" / noc.BINARY).write_bytes(binary)
    done = ttfsc("simulate", compiled, "--inputs", inputs)
    assert done.code == 1
    assert "core 1: its record or its weights, biases or thresholds" in done.err
    done = ttfsc("verify", compiled, "--inputs", inputs)
    assert done.code == 1
    assert "noc/cores.bin: error[TTFS014]: has been changed since it was compiled" in done.err
    _seal(compiled, table, bytes(binary))
    assert ttfsc("simulate", compiled, "--inputs", inputs).code == 0
    done = ttfsc("verify", compiled, "--inputs", inputs)
    assert done.code == 1
    assert "mapped cores differs from the interpreter at input " in done.err
    assert "layer %c, neuron [" in done.err


def _reroute(table: Table) -> None:
    route = next(r for r in table["cores"][0]["routes"] if r["to"])
    unreached = [c["id"] for c in table["cores"] if c["id"] not in route["to"]]
    route["to"][-1] = unreached[-1]
    route["to"].sort()


def _swap(table: Table) -> None:
    a, b = table["cores"][0], table["cores"][-1]
    a["place"], b["place"] = b["place"], a["place"]


def _drop(table: Table) -> None:
    next(c for c in table["cores"] if c["routes"])["routes"].pop(0)


CHANGES: dict[str, tuple[Callable[[Table], None], tuple[str, ...]]] = {
    "wrong route": (_reroute, ("core 0: route 0: its tree does not lead from",)),
    "swapped places": (_swap, ("its tree does not lead from",)),
    "missing route": (_drop, ("has synapses from, but is not sent,",)),
}


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("name", CHANGES)
def test_changed_maps(ttfsc: Cli, compiled: Path, inputs: Path, name: str, sealed: bool) -> None:
    """Found by its hash, and by what it says where hashes were recomputed."""
    change, facts = CHANGES[name]
    table, binary = _read(compiled)
    change(table)
    if sealed:
        _seal(compiled, table, bytes(binary))
    else:
        (compiled / "noc" / noc.MAPPING).write_text(json.dumps(table))
    for command in ("simulate", "verify"):
        done = ttfsc(command, compiled, "--inputs", inputs)
        assert done.code == 1
        if sealed or command == "simulate":
            assert all(fact in done.err for fact in facts), done.err
        if not sealed:
            assert ("was changed after it was written" if command == "simulate" else "has been changed") in done.err


@pytest.mark.parametrize("file", [noc.MAPPING, noc.BINARY])
@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_truncated_files(ttfsc: Cli, compiled: Path, inputs: Path, file: str, part: float) -> None:
    path = compiled / "noc" / file
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    for command in ("simulate", "verify"):
        done = ttfsc(command, compiled, "--inputs", inputs)
        assert done.code == 1
        assert f"noc/{file}" in done.err.replace(str(compiled), "")
    path.unlink()
    done = ttfsc("simulate", compiled, "--inputs", inputs)
    assert done.code == 1
    assert "no such file" in done.err
