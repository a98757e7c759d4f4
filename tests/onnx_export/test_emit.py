"""The file itself: its form, its bytes, its names, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.onnx_export.onnx_nets import Maker, assert_equal, check_form
from tests.strategies import inputs_for
from ttfsc.backends.onnx import FILE, OPSET, RANGE, SPIKES, emit
from ttfsc.backends.onnx.engine import OnnxEngine
from ttfsc.ir import (
    OPEN,
    Add,
    Analog,
    Array,
    Builder,
    Conv2d,
    Decode,
    Dense,
    Encode,
    Fire,
    Flatten,
    Input,
    Net,
    Ref,
    Spikes,
    TtfsError,
    codes,
    run,
    save,
)  # fmt: skip


def small(first: str = "c", *, ticks: int = 8) -> Net:
    """conv, fire, dense, membrane."""
    rng = np.random.default_rng(0)
    m = Maker(Analog((1, 6, 6), 0, 255), ticks=ticks)
    m.b.add(Conv2d(name=f"{first}.v", type=OPEN, **m.weights("c", rng.integers(-8, 8, (4, 1, 3, 3)), 4)))
    m.fire(first, f"{first}.v", 300 * (ticks - np.arange(ticks))[None])
    m.flat()
    out = m.dense("o.v", rng.integers(-8, 8, (3, 64)))
    m.b.add(Decode(name="out", type=OPEN, xs=(Ref(out),), rule="membrane"))
    return m.b.net()


def model_of(net: Net, *, spikes: bool = False) -> onnx.ModelProto:
    model = onnx.load_model_from_string(emit(net, spikes=spikes)[FILE])
    check_form(model)
    return model


def test_form() -> None:
    model = model_of(small())
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    assert all(node.domain == "" and node.name for node in model.graph.node)
    assert [o.name for o in model.graph.output] == ["label", "scores"]
    entry = model.graph.input[0].type.tensor_type
    assert entry.elem_type == onnx.TensorProto.UINT8
    assert entry.shape.dim[0].dim_param == "N" and [d.dim_value for d in entry.shape.dim[1:]] == [1, 6, 6]
    weights = [t for t in model.graph.initializer if t.name.endswith(".w")]
    assert len(weights) == 2 and all(t.data_type == onnx.TensorProto.INT8 for t in weights)
    facts = {p.key: json.loads(p.value) for p in model.metadata_props}
    assert facts == {RANGE: [0, 255], SPIKES: [["c", "c", 8]]}


def test_spikes_as_outputs() -> None:
    net = small()
    assert [o.name for o in model_of(net, spikes=True).graph.output] == ["label", "scores", "c"]
    x = inputs_for(net, 0, 5)
    np.testing.assert_array_equal(OnnxEngine(emit(net, spikes=True)).run(x).spikes["c"], run(net, x).spikes["c"])


@pytest.mark.parametrize("name", ["label", "scores", "c"])
def test_layers_may_have_the_names_of_outputs(name: str) -> None:
    net = small(name)
    model_of(net)
    assert_equal(net, inputs_for(net, 0, 5))


def test_input_named_like_an_output() -> None:
    b = Builder("n", ticks=4)
    b.add(Input(name="scores", type=Analog((3,), -300, 9)))
    b.add(Dense(name="label", type=OPEN, x=Ref("scores"), w=b.array("w", np.eye(3).astype(np.int8)), bits=2))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("label"),), rule="membrane"))
    net = b.net()
    model_of(net)
    assert_equal(net, inputs_for(net, 0, 5))


@pytest.mark.parametrize(
    ("low", "high", "kind"),
    [(0, 255, "UINT8"), (-128, 127, "INT8"), (0, 256, "UINT16"), (-129, 5, "INT16"), (-1, 40000, "INT32")],
)
def test_inputs_take_the_smallest_type(low: int, high: int, kind: str) -> None:
    m = Maker(Analog((3,), low, high), ticks=4)
    m.b.add(Encode(name="e", type=OPEN, x=Ref("in")))
    m.here = "e"
    m.b.add(Decode(name="out", type=OPEN, xs=(Ref(m.dense("v", np.eye(3), kernel="ramp")),), rule="membrane"))
    net = m.b.net()
    entry = model_of(net).graph.input[0].type.tensor_type
    assert entry.elem_type == onnx.TensorProto.DataType.Value(kind)
    assert_equal(net, inputs_for(net, 0, 50))


def test_any_number_of_inputs() -> None:
    net = small()
    x = inputs_for(net, 0, 37)
    whole = OnnxEngine(emit(net), spikes=False).run(x)
    np.testing.assert_array_equal(whole.scores, run(net, x).scores)
    assert whole.spikes == {} and len(whole.labels) == 37


@pytest.mark.parametrize(
    ("x", "fact"),
    [
        (np.full((2, 1, 6, 6), 256), "x reaches from 256 to 256, declared are 0..255"),
        (np.full((2, 1, 6, 6), -1), "x reaches from -1 to -1"),
        (np.zeros((2, 1, 6, 5), np.uint8), "x is 2x1x6x5, must be N x 1x6x6"),
        (np.zeros((0, 1, 6, 6), np.uint8), "x holds no samples"),
        (np.zeros((2, 1, 6, 6), np.float32), "x is float32, must be integers"),
    ],
    ids=["above", "below", "shape", "none", "real"],
)
def test_wrong_inputs(x: Array, fact: str) -> None:
    with pytest.raises(TtfsError) as e:
        OnnxEngine(emit(small())).run(x)
    assert [f.code for f in e.value.faults] == [codes.INPUT] and fact in str(e.value)


def test_threads_change_nothing() -> None:
    net = small()
    x = inputs_for(net, 0, 20)
    one, two = (OnnxEngine(emit(net), threads=n).run(x) for n in (1, 2))
    np.testing.assert_array_equal(one.scores, two.scores)
    np.testing.assert_array_equal(one.spikes["c"], two.spikes["c"])


def test_same_bytes_in_any_process(tmp_path: Path) -> None:
    save(small(), tmp_path / "n.ttfs")
    script = (
        "import sys, hashlib; from pathlib import Path; from ttfsc.ir import load;"
        "from ttfsc.backends.onnx import emit;"
        "print(hashlib.sha256(emit(load(Path(sys.argv[1])))['model.onnx']).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "n.ttfs")], env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1


def faults_of_export(net: Net) -> list[tuple[int, str]]:
    with pytest.raises(TtfsError) as e:
        emit(net)
    return [(f.code, f"{f.subject}: {f.fact}") for f in e.value.faults]


def test_real_nets_are_refused() -> None:
    b = Builder("real")
    b.add(Input(name="in", type=Analog((3,), 0, 1)))
    b.add(Dense(name="v", type=OPEN, x=Ref("in"), w=b.array("w", np.eye(3, dtype=np.float32))))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("v"),), rule="membrane"))
    ((code, text),) = faults_of_export(b.net())
    assert code == codes.STAGE and "is not quantised" in text


def test_everything_without_an_exact_form_at_once() -> None:
    """A pool beyond 24 bits, a leak beyond 53, a crooked table of 2000 ticks: each named with its reason."""
    rng = np.random.default_rng(0)
    b = Builder("no", ticks=2000)
    b.add(Input(name="in", type=Analog((1, 40, 40), 0, 65535)))

    def pooled(name: str, **more: Any) -> None:
        w = b.array(f"{name}.w", np.full((1, 1, 1, 1), 127, np.int8))
        b.add(Conv2d(name=f"{name}.v", type=OPEN, x=Ref("in"), w=w, bits=8, **more))
        theta = b.array(f"{name}.theta", rng.integers(0, 2**20, (1, 2000)))
        b.add(Fire(name=name, type=OPEN, v=Ref(f"{name}.v"), theta=theta))
        b.add(Flatten(name=f"{name}.row", type=OPEN, x=Ref(name)))

    pooled("sum", pool=(20, 20), pool_stride=(20, 20))
    pooled("crooked")
    w = b.array("w", np.ones((2, 1600), np.int8))
    b.add(Dense(name="v", type=OPEN, x=Ref("crooked.row"), w=w, bits=2))
    w2 = b.array("w2", np.ones((2, 4), np.int8))
    b.add(Dense(name="v2", type=OPEN, x=Ref("sum.row"), w=w2, bits=2))
    b.add(Add(name="both", type=OPEN, xs=(Ref("v"), Ref("v2"))))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("both"),), rule="membrane"))
    found = faults_of_export(b.net())
    assert [code for code, _ in found] == [codes.UNSUPPORTED] * 2
    assert "'conv2d' %sum.v: not exact in ONNX: sums over pooling windows reach 26214000" in found[0][1]
    assert "'fire' %crooked: not exact in ONNX: 2000 ticks would be written out one by one" in found[1][1]


def test_leak_beyond_float64() -> None:
    b = Builder("no", ticks=4)
    b.add(Input(name="in", type=Analog((2,), 0, 65535)))
    w, bias = b.array("w", np.full((2, 2), 127, np.int8)), b.array("b", np.full(2, 2**38))
    b.add(Dense(name="v", type=OPEN, x=Ref("in"), w=w, bits=8, bias=bias, kernel="leak", keep=30000))
    b.add(Fire(name="s", type=OPEN, v=Ref("v"), theta=b.array("t", np.full((1, 4), 9))))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("s"), Ref("v")), rule="first_spike"))
    ((code, text),) = faults_of_export(b.net())
    assert code == codes.UNSUPPORTED and "%v: not exact in ONNX: leaking needs 5" in text and "float64 has 53" in text


def test_product_beyond_float32() -> None:
    b = Builder("no", ticks=4)
    b.add(Input(name="in", type=Analog((1, 4, 4), 0, 65535)))
    w = b.array("w", np.full((2, 1, 1, 1), 127, np.int8))
    b.add(Conv2d(name="c", type=OPEN, x=Ref("in"), w=w, bits=8, pool=(3, 3), pool_stride=(2, 2)))
    b.add(Flatten(name="v", type=OPEN, x=Ref("c")))
    b.add(Decode(name="out", type=OPEN, xs=(Ref("v"),), rule="membrane"))
    ((_, text),) = faults_of_export(b.net())
    assert "'conv2d' %c" in text and "an input of up to 589815 times one weight leaves float32's 24 bits" in text


def test_long_windows_on_a_line() -> None:
    """20,000 ticks are one division when the table is straight."""
    ticks = 20000
    m = Maker(Spikes((5,), 0, ticks), ticks=ticks)
    v = m.dense("h.v", np.random.default_rng(0).integers(-8, 8, (4, 5)), kernel="ramp")
    m.fire("h", v, (3 * (ticks - np.arange(ticks)))[None])
    m.b.add(Decode(name="out", type=OPEN, xs=(Ref(m.dense("o", np.eye(4))),), rule="membrane"))
    net = m.b.net()
    assert len(model_of(net).graph.node) < 40
    assert_equal(net, inputs_for(net, 1, 200))


@pytest.mark.parametrize("kind", ["empty", "bare", "text", "cut"])
def test_damaged_files(kind: str) -> None:
    whole = emit(small())[FILE]
    damage = {"empty": b"", "bare": b"\x08\x08", "text": b"nonsense", "cut": whole[:-200]}[kind]
    with pytest.raises(TtfsError) as e:
        OnnxEngine({FILE: damage})
    assert [f.code for f in e.value.faults] == [codes.DAMAGED] and "is not a model that ttfsc exported" in str(e.value)


def test_missing_file_and_missing_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TtfsError) as e:
        OnnxEngine({})
    assert [f.code for f in e.value.faults] == [codes.FILE]
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(TtfsError) as e:
        OnnxEngine(emit(small()))
    assert [f.code for f in e.value.faults] == [codes.TOOL] and "pip install onnxruntime" in str(e.value)
