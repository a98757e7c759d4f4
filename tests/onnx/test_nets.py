"""Whole networks: MobileNetV1-like, ResNet-18-like, DenseNet-like blocks, and a file of opset 6."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from bench.onnx_models import Writer, mobilenet, resnet18
from tests.onnx.onnx_nets import Model, agree, answers, floats, imported
from ttfsc.hardware import load_chip
from ttfsc.ir import Array, Net, layers_of, run
from ttfsc.pipeline import Context, Pipeline

FRONT = "drop-identity,fold-batchnorm,fold-avgpool,calibrate{nearest=true},quantize{nearest=true},prove-widths"


def compiled(net: Net, samples: Array) -> Net:
    """All the way to cores."""
    context = Context(calibration=samples, chip=load_chip("canmore-22nm"))
    return Pipeline.parse(f"{FRONT},partition,place,route").run(net, context)


@pytest.mark.parametrize("make", [mobilenet, resnet18])
def test_networks_import_exactly_and_reach_the_cores(make: Any, tmp_path: Path) -> None:
    net = agree(make(32), tmp_path, (3, 32, 32))
    x = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32))
    mapped = compiled(net, x)
    assert mapped.mapped is not None and sum(layer.size for layer in layers_of(mapped)) > 100_000
    real, small = run(net, x).scores, run(mapped, x).scores
    assert np.corrcoef(real.reshape(-1), small.reshape(-1))[0, 1] > 0.85


def test_a_dense_block(tmp_path: Path) -> None:
    """Concatenations of concatenations, normalised and activated as a whole (DenseNet)."""
    w = Writer(3)
    x, channels = w.conv("image", 3, 6, 3), 6
    for _ in range(3):
        parts = [w.weight(np.abs(w.rng.standard_normal(channels)) + 0.3) for _ in range(4)]
        y = w.node("Relu", w.node("BatchNormalization", x, *parts))
        k = w.weight(w.rng.standard_normal((4, channels, 3, 3)) * (2 / (9 * channels)) ** 0.5)
        x, channels = w.node("Concat", x, w.node("Conv", y, k, pads=[1, 1, 1, 1]), axis=1), channels + 4
    x = w.node("AveragePool", w.node("Relu", x), kernel_shape=[2, 2], strides=[2, 2])
    w.head(w.node("Relu", w.conv(x, channels, 8, 1)), 8, 5)
    net = agree(w.model(16), tmp_path, (3, 16, 16))
    assert compiled(net, np.random.default_rng(1).integers(0, 256, (8, 3, 16, 16))).mapped is not None


def test_opset_6_with_its_broadcast_attributes(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    k, scale, shift, w, b = floats(rng, 3, 2, 3, 3), floats(rng, 3), floats(rng, 3), floats(rng, 27, 4), floats(rng, 4)
    old, new = Model([1, 2, 5, 5], opset=6), Model([1, 2, 5, 5], opset=17)
    for m in (old, new):
        along: dict[str, Any] = {"broadcast": 1, "axis": 1} if m is old else {}
        inference: dict[str, Any] = {"is_test": 1} if m is old else {}
        rows: dict[str, Any] = {"broadcast": 1} if m is old else {}
        m.node("Conv", k)
        column = scale if m is old else scale.reshape(3, 1, 1)
        m.node("Mul", column, **along)
        row = shift if m is old else shift.reshape(3, 1, 1)
        m.node("Add", row, **along)
        m.node("Relu")
        m.node("Dropout", **inference)
        m.node("Reshape", np.array([1, -1], np.int64))
        m.node("Gemm", w, b, **rows)
    x = rng.integers(0, 256, (6, 2, 5, 5))
    want = answers(new.proto(), x.astype(np.float32))
    got = run(imported(old.proto(), tmp_path), x).scores
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * float(np.abs(want).max()))


@pytest.mark.parametrize("opset", range(7, onnx.defs.onnx_opset_version() + 1))
def test_every_opset_from_7_to_the_newest(opset: int, tmp_path: Path) -> None:
    """One chain of ops whose form changed between opsets; onnxruntime judges as far as it goes, then onnx itself."""
    rng = np.random.default_rng(opset)
    m = Model(["N", 2, 8, 8], opset=opset)

    def either(op: str, first: int, inputs: list[Any], before: dict[str, Any], **always: Any) -> None:
        """Operands from this opset on, attributes before."""
        m.node(op, *(inputs if opset >= first else []), **(always if opset >= first else always | before))

    m.node("Conv", floats(rng, 4, 2, 3, 3), floats(rng, 4), pads=[1, 1, 1, 1])
    m.node("BatchNormalization", *(np.abs(floats(rng, 4)) + np.float32(0.3) for _ in range(4)))
    skip = m.node("Relu")
    m.node("Conv", floats(rng, 4, 4, 1, 1, scale=0.3))
    m.node("Add", skip)
    either("Clip", 11, [np.float32(0), np.float32(2)], {"min": 0.0, "max": 2.0})
    pads, axes = [0, 0, 1, 1, 0, 0, 0, 0], [2, 3]
    either("Pad", 11, [np.array(pads)], {"pads": pads})
    m.node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    m.node("Dropout")
    m.node("AveragePool", kernel_shape=[2, 2], strides=[2, 2])
    either("ReduceMean", 18, [np.array(axes)], {"axes": axes}, keepdims=1)
    either("Squeeze", 13, [np.array(axes)], {"axes": axes})
    m.node("Gemm", floats(rng, 4, 3), floats(rng, 3))
    proto, x = m.proto(), rng.integers(0, 256, (3, 2, 8, 8))
    real = (x / 255).astype(np.float32)
    try:
        want = answers(proto, real)
    except Exception:  # onnxruntime is a few opsets behind, and raises classes of its own making
        assert opset > 20
        evaluator: Any = ReferenceEvaluator(proto)
        (want,) = evaluator.run(None, {"x": real})
    got = run(imported(proto, tmp_path, input_scale=1 / 255), x).scores
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * float(np.abs(want).max()))
