"""The model zoo's networks for MNIST: imported exactly, compiled with 1,000 images of the training set only."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.onnx.mnist import MODELS, images, labels, needs_shared, vectors
from tests.onnx.onnx_nets import Model, imported, session
from tests.onnx.test_quant import activation, dequantised
from ttfsc.compiler import Compiled, Options, compile_net
from ttfsc.frontends.onnx_load import load_onnx
from ttfsc.inputs import Samples
from ttfsc.ir import Fire, Net, run
from ttfsc.judge import Ranges
from ttfsc.passes import drop_identity, fold_avgpool, fold_batchnorm, prove_widths, quantize

pytestmark = needs_shared
CALIBRATION = 1000
BARS = [(8, 16, 98.80), (4, 16, 98.60), (4, 8, 98.40)]  # bits, ticks, least accuracy of mnist-8 in percent


@cache
def source(name: str = "mnist-8") -> Net:
    net = load_onnx(MODELS / f"{name}.onnx", input_range=(0, 255))
    return fold_avgpool(fold_batchnorm(drop_identity(net)))


def compiled(name: str, bits: int, ticks: int) -> Compiled:
    """As `ttfsc compile MODEL --calib X.npz --inputs TEST.npz --target c,onnx` does it, the whole test set verified."""
    net, ranges = load_onnx(MODELS / f"{name}.onnx", input_range=(0, 255)), Ranges(MODELS / f"{name}.onnx")
    done = compile_net(
        net, Options(targets=("c", "onnx"), bits=bits, ticks=ticks), observe=ranges.observe,
        calibration=Samples(images("train", CALIBRATION), None, "train"),
        samples=Samples(images("t10k"), labels("t10k").astype(np.int64), "t10k"),
    )  # fmt: skip
    assert max(ranges.apart.values()) < 1e-5 and not ranges.own, "onnxruntime and the imported net agree on activations"
    return done


def test_the_import_is_exact() -> None:
    import onnx

    x = images("t10k", 300)
    engine = session(onnx.ModelProto.FromString((MODELS / "mnist-8.onnx").read_bytes()))
    want = np.concatenate([engine.run(None, {"Input3": one[None].astype(np.float32)})[0] for one in x])
    got = run(source(), x).scores
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * float(np.abs(want).max()))


@pytest.mark.parametrize(("bits", "ticks", "least"), BARS)
def test_accuracy_on_the_test_set(bits: int, ticks: int, least: float) -> None:
    """C, interpreter and exported ONNX agree on every spike time of 10,000 images, and the answers are right."""
    small = compiled("mnist-8", bits, ticks)
    found = small.verification
    assert found.exact and found.inputs == {"C": 10000, "ONNX": 10000}
    right = int((found.answers == labels("t10k")).sum())
    assert right / 100 >= least, f"{right} of 10000"
    for x, scores in vectors():  # those that come with the model
        assert small.run(x.astype(np.int32)).labels[0] == scores.argmax()


def test_the_models_own_vectors() -> None:
    assert len(vectors()) == 3
    for x, scores in vectors():
        assert np.array_equal(x, np.rint(x)) and x.min() >= 0 and x.max() <= 255
        np.testing.assert_allclose(run(source(), x).scores, scores, rtol=1e-4, atol=0.1)


def quantised_by_hand() -> tuple[Model, list[str], tuple[float, float]]:
    """mnist-8 as a QDQ network: 4-bit weights per channel, 4-bit activations; what its quantisers read; their tops."""
    import onnx

    proto = onnx.ModelProto.FromString((MODELS / "mnist-8.onnx").read_bytes())
    held = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    names = ("Parameter5", "Parameter6", "Parameter87", "Parameter88", "Parameter193", "Parameter194")
    k1, b1, k2, b2, w, b = (held[name] for name in names)
    m, before, tops = Model(["N", 1, 28, 28], opset=21), list[str](), (770.0, 1150.0)
    activation(m, 1.0, TensorProto.UINT8)
    for kernel, bias, top, size in ((k1, b1, tops[0], 2), (k2, b2, tops[1], 3)):
        name, _ = dequantised(m, kernel, 4, per_channel=True)
        m.node("Conv", name, bias.reshape(-1), auto_pad="SAME_UPPER")
        before.append(m.node("Relu"))
        activation(m, top / 15)
        m.node("MaxPool", kernel_shape=[size, size], strides=[size, size])
    m.node("Flatten")
    name, step = dequantised(m, w.reshape(256, 10), 4, per_channel=False)
    unit = step[0] * np.float32(tops[1] / 15)
    parts = [m.tensor(np.rint(b.reshape(-1) / unit).astype(np.int32)), m.tensor(unit)]
    m.nodes.append(helper.make_node("DequantizeLinear", parts, ["bias"], name="dq_bias"))
    m.node("Gemm", name, "bias")
    return m, before, tops


def test_a_quantised_network_answers_as_in_onnxruntime_except_for_ties(tmp_path: Path) -> None:
    """Every spike time of the test set, and every label; where they differ, a level or the best score is a tie."""
    m, before, tops = quantised_by_hand()
    small = prove_widths(quantize(fold_avgpool(fold_batchnorm(imported(m.proto(), tmp_path, input_range=None)))))
    layers = [op.name for op in small.ops if isinstance(op, Fire)]
    engine, ties, differs = session(m.proto(m.last, *before)), 0, 0
    for x in np.split(images("t10k"), 20):
        scores, *values = engine.run(None, {"x": x.astype(np.float32)})
        result, clean = run(small, x), np.ones(len(x), bool)
        for name, v, top in zip(layers, values, tops, strict=True):
            exact = v.astype(np.float64) / np.float64(np.float32(top / 15))
            off = (result.spikes[name] != np.clip(np.rint(exact), 0, 15)) & clean[:, None, None, None]
            assert (np.abs(exact[off] % 1 - 0.5) < 1e-4).all(), f"{name}: a level differs where no rounding decides"
            ties += int(off.sum())
            clean &= ~off.any((1, 2, 3))  # behind a tie the rest of the image may differ
        wrong = clean & (result.labels != scores.argmax(1))
        best = np.sort(result.scores[wrong], axis=1)
        assert (best[:, -1] == best[:, -2]).all(), "a label differs where the two best classes are no tie"
        differs += int(wrong.sum())
    assert ties <= 20 and differs <= 10, f"{ties} ties of levels in 94,080,000, {differs} of labels in 10,000"


def test_a_pool_on_the_input_and_two_dense_layers() -> None:
    found = compiled("mnist-maxpool-mlp", 4, 16).verification
    assert found.exact and found.inputs == {"C": 10000, "ONNX": 10000}
    same = float((found.answers == run(source("mnist-maxpool-mlp"), images("t10k")).labels).mean())
    assert same > 0.98, f"{100 * same:.2f} % answered as the source does"
