"""The twin beside its source: figures known by hand, and a bad layer that must come out first."""

from dataclasses import replace
from math import inf, isclose, log10
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ttfsc.accuracy import Comparison, compare, ranges_of
from ttfsc.commands import verify_folder
from ttfsc.compiler import Options, compile_net
from ttfsc.inputs import Samples
from ttfsc.ir import (
    OPEN,
    Add,
    Analog,
    Array,
    BatchNorm,
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
    reread,
    run_batches,
    save,
)  # fmt: skip
from ttfsc.models import Source
from ttfsc.output import options_of
from ttfsc.passes import calibrate, prove_widths, quantize


def source(*, known: bool, skip: bool = False, norm: bool = False) -> Net:
    """Four firing layers; known: their ranges are. Without, values leave 0..1 by far."""
    rng = np.random.default_rng(1)
    b = Builder("n")
    b.add(Input(name="in", type=Analog((1, 8, 8), 0, 255), scale=1 / 255))
    here, channels = "in", 1
    for i, width in enumerate((6, 8, 8)):
        w = rng.normal(0, (2 / (9 * channels)) ** 0.5, (width, channels, 3, 3)) * (1 if known else 3)
        more: dict[str, Any] = {"bias": b.array(f"b{i}", rng.normal(0, 0.1, width).astype(np.float32))}
        more["w"] = b.array(f"w{i}", w.astype(np.float32))
        v = b.add(Conv2d(name=f"c{i}.v", type=OPEN, x=Ref(here), pad=(1, 1, 1, 1), **more)).name
        if skip and i == 2:
            w2 = b.array("w2b", rng.normal(0, 0.2, (width, 6, 1, 1)).astype(np.float32))
            b.add(Conv2d(name="s.v", type=OPEN, x=Ref("f0"), w=w2))
            v = b.add(Add(name="sum", type=OPEN, xs=(Ref(v), Ref("s.v")))).name
        if norm:
            scale, shift = (rng.uniform(0.5, 2, width), rng.normal(0, 0.1, width))
            names = [b.array(f"{k}{i}", a.astype(np.float32)) for k, a in (("scale", scale), ("shift", shift))]
            v = b.add(BatchNorm(name=f"n{i}", type=OPEN, x=Ref(v), scale=names[0], shift=names[1])).name
        theta = b.array(f"t{i}", np.full(1, 0.8, np.float32)) if known else None
        here, channels = b.add(Fire(name=f"f{i}", type=OPEN, v=Ref(v), theta=theta)).name, width
    b.add(Flatten(name="row", type=OPEN, x=Ref(here)))
    w = b.array("w3", rng.normal(0, 0.1, (5, 512)).astype(np.float32))
    b.add(Dense(name="o.v", type=OPEN, x=Ref("row"), w=w))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("o.v"),), rule="membrane"))
    return b.net()


def pixels(n: int = 40) -> Array:
    return np.random.default_rng(5).integers(0, 256, (n, 1, 8, 8)).astype(np.uint8)


def own(comparison: Comparison) -> dict[str, float]:
    return {layer.name: layer.own for layer in comparison.layers}


def spoiled(net: Net, layer: int) -> Net:
    """Weights of one layer cut to their top two bits."""
    op = net.by_name[f"c{layer}.v"]
    assert isinstance(op, Conv2d)
    w = net.arrays[op.w].astype(np.int32)
    return net.with_ops(net.ops, {op.w: (np.rint(w / 64) * 64).clip(-128, 127).astype(np.int8)})


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("bad", [0, 1, 2])
def test_the_bad_layer_comes_first(known: bool, bad: int) -> None:
    net, x = source(known=known, skip=True), pixels()
    ranged = calibrate(net, method="max", calibration=x)
    twin = quantize(ranged, bits=8, ticks=64)
    ranges = ranges_of(net, ranged)
    assert len(ranges) == (0 if known else 3)
    good, worse = (compare(t, net, x, ranges=ranges) for t in (twin, spoiled(twin, bad)))
    assert min(own(good).values()) > 28, good.lines()
    assert worse.layers[0].name == f"f{bad}" and worse.layers[0].own < 20
    for name, value in own(good).items():
        if name != f"f{bad}":
            assert isclose(own(worse)[name], value, abs_tol=1e-6), "a layer's own error is not its neighbours' fault"
    for later in range(bad, 3):  # while running freely all later layers suffer, which is why that does not rank them
        assert next(e.whole for e in worse.layers if e.name == f"f{later}") < 21


def test_ranges_that_are_not_on_record_are_fitted() -> None:
    net, x = source(known=False), pixels()
    twin = quantize(net, bits=8, ticks=64, method="max", calibration=x)
    found = compare(twin, net, x)
    assert min(own(found).values()) > 28
    assert [e.fitted for e in sorted(found.layers, key=lambda e: e.name)] == [True, True, True, False]
    assert "  * its range is not on record: the one that fits best was taken" in found.lines()


def test_figures_by_hand() -> None:
    """One neuron whose weight is exact: x = floor(4 r), so all error is the tick's."""
    b = Builder("one")
    b.add(Input(name="in", type=Analog((1,), 0, 100), scale=0.01))
    w, step = b.array("w", np.ones((1, 1), np.float32)), b.array("s", np.ones(1, np.float32))
    b.add(Dense(name="v", type=OPEN, x=Ref("in"), w=w, step=step, bits=2))
    b.add(Fire(name="f", type=OPEN, v=Ref("v"), theta=b.array("t", np.ones(1, np.float32))))
    w2, step2 = b.array("w2", np.ones((2, 1), np.float32)), b.array("s2", np.ones(2, np.float32))
    b.add(Dense(name="o.v", type=OPEN, x=Ref("f"), w=w2, step=step2, bits=2))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("o.v"),), rule="membrane"))
    net, x = b.net(), np.arange(101)[:, None]
    found = compare(quantize(net, ticks=4), net, x, np.zeros(101, np.int64))
    assert (found.inputs, found.judged, found.agree, found.source_correct, found.twin_correct) == (101,) * 5
    layer = next(e for e in found.layers if e.name == "f")
    r = np.arange(101) / 100
    error = r - np.floor(4 * r + 1e-9) / 4
    expected = 10 * log10(float((r**2).sum() / (error**2).sum()))
    assert isclose(layer.own, expected, abs_tol=1e-3) and isclose(layer.whole, expected, abs_tol=1e-3)
    assert layer.mean_ticks is not None and isclose(layer.mean_ticks, 4 * float(error.sum()) / 100, abs_tol=1e-5)
    assert layer.max_ticks is not None and isclose(layer.max_ticks, 0.96, abs_tol=1e-5)
    assert layer.beyond == 0 and not layer.fitted
    scores = next(e for e in found.layers if e.name == "out")
    assert scores.own == inf and scores.mean_ticks is None
    first = "source model (real-valued), accuracy 100.00 %; its spiking twin 100.00 %; same answer on 100.00 % of 101 "
    assert found.lines()[0] == first + "inputs"


def test_values_beyond_the_range() -> None:
    net, x = source(known=False, norm=True), pixels()
    compiled = compile_net(
        net, Options(targets=("onnx",), bits=8, ticks=64, pipeline="drop-identity,fold-batchnorm,fold-avgpool,"
                       "calibrate{method=percentile,percentile=60},quantize{bits=8,ticks=64},prove-widths"),
        calibration=Samples(x, None, "pixels"), samples=Samples(x, None, "pixels"),
    )  # fmt: skip
    ranges = compiled.options["ranges"]
    assert sorted(ranges) == ["f0", "f1", "f2"]
    found = compare(compiled.net, net, x, ranges=ranges)
    layer = next(e for e in found.layers if e.name == "f0")
    assert layer.beyond is not None and 0.1 < layer.beyond < 0.5
    assert layer.own < 15, "clipped values are errors"


def test_verify_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, x = source(known=False), pixels()
    save(net, tmp_path / "n.ttfs")
    np.savez(tmp_path / "x.npz", x=x, y=np.zeros(len(x), np.int64))
    options = Options(targets=("onnx",), bits=8, ticks=32)
    compile_net(net, options, calibration=Samples(x, None, "x"), samples=Samples(x, None, "x")).write(tmp_path / "out")
    assert sorted(options_of(tmp_path / "out")["ranges"]) == ["f0", "f1", "f2"]
    verify_folder(tmp_path / "out", tmp_path / "x.npz", Source(str(tmp_path / "n.ttfs")), 16)
    out = capsys.readouterr().out
    assert "bit-exact: interpreter = ONNX on 40 inputs" in out and "source model (real-valued), accuracy " in out
    rows = [line.split() for line in out.splitlines() if line.startswith("  ") and " dB" in line]
    assert sorted(row[0] for row in rows) == ["f0", "f1", "f2", "out"] and "*" not in out
    values = [float(row[row.index("dB") - 1]) for row in rows]
    assert values == sorted(values), "worst first"


def test_another_model_is_refused() -> None:
    net = source(known=True)
    b = Builder("other")
    b.add(Input(name="in", type=Analog((3,), 0, 1)))
    b.add(Dense(name="v", type=OPEN, x=Ref("in"), w=b.array("w", np.eye(3, dtype=np.float32))))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("v"),), rule="membrane"))
    with pytest.raises(TtfsError) as e:
        compare(prove_widths(quantize(net, bits=4, ticks=8)), b.net(), pixels())
    assert [f.code for f in e.value.faults] == [codes.INPUT] and "is it the same model?" in str(e.value)


def test_layers_of_one_net_only_are_named() -> None:
    net = source(known=True)
    twin = quantize(net, bits=8, ticks=16)
    names = {"f1": "g1"}
    other = net.with_ops([replace(reread(op, names), name=names.get(op.name, op.name)) for op in net.ops])
    found = compare(twin, other, pixels())
    assert found.skipped == ("f1", "g1") and sorted(own(found)) == ["f0", "f2", "out"]
    assert "  not compared, in one of the nets only: f1, g1" in found.lines()


def test_instead_changes_what_readers_see_and_nothing_else() -> None:
    net, x = quantize(source(known=True), bits=8, ticks=16), pixels(6)
    (plain,) = run_batches(net, x)
    (same,) = run_batches(net, x, instead=lambda _, own: own)
    (silent,) = run_batches(net, x, instead=lambda name, own: own * 0 if name == "f1" else own)
    for name in ("f0", "f1", "f2"):
        np.testing.assert_array_equal(plain.spikes[name], same.spikes[name])
    np.testing.assert_array_equal(plain.spikes["f1"], silent.spikes["f1"])
    assert plain.spikes["f1"].any() and not np.array_equal(plain.spikes["f2"], silent.spikes["f2"])
    assert (silent.spikes["f2"] == silent.spikes["f2"][:1]).all(), "behind a silent layer every input is the same"
