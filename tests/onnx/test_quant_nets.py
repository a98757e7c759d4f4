"""Random quantised networks in QDQ and in QONNX form: level for level what onnxruntime makes of them, but for ties."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tests.onnx.onnx_nets import Floats, Model, floats, imported, session
from tests.onnx.test_quant import activation, compiled, dequantised, typed
from ttfsc.ir import Array, Fire, Net, Spikes, run

Form = Literal["qdq", "qonnx", "plain"]
INPUTS = 40


@dataclass(frozen=True)
class Layer:
    """A convolution (size > 0) or a dense layer, its quantisers, and what stands behind it."""

    width: int
    size: int
    stride: int
    bits: int  # of weights
    levels: int  # of its activation, above 0
    per_channel: bool
    pool: str  # MaxPool, AveragePool or nothing


@dataclass
class Spec:
    layers: list[Layer]
    seed: int
    bits: int  # of the read-out


@st.composite
def specs(draw: st.DrawFn, levels: tuple[int, ...], bits: tuple[int, ...]) -> Spec:
    layers = [
        Layer(
            draw(st.integers(2, 6)), draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.sampled_from(bits)),
            draw(st.sampled_from(levels)), draw(st.booleans()),
            draw(st.sampled_from(["", "", "MaxPool", "AveragePool"])),
        )
        for _ in range(draw(st.integers(1, 3)))
    ]  # fmt: skip
    layers += [
        Layer(draw(st.integers(3, 9)), 0, 1, draw(st.sampled_from(bits)), draw(st.sampled_from(levels)),
              draw(st.booleans()), "")
        for _ in range(draw(st.integers(0, 2)))
    ]  # fmt: skip
    return Spec(layers, draw(st.integers(0, 999)), draw(st.sampled_from(bits)))


def weights(m: Model, w: Floats, bits: int, form: Form, *, per_channel: bool) -> tuple[str, Floats]:
    """The name of quantised weights, and their step."""
    if form == "qdq":
        return dequantised(m, w, bits, per_channel=per_channel)
    top = 2 ** (bits - 1) - 1
    rows = np.abs(w).reshape(len(w), -1).max(1)
    step = (rows if per_channel else rows.max(keepdims=True)).astype(np.float32) / np.float32(top)
    scale = step.reshape(-1, *[1] * (w.ndim - 1))
    if form == "plain":
        return m.tensor((np.clip(np.rint(w / scale), -top, top) * scale).astype(np.float32)), step
    quantiser: dict[str, Any] = {"signed": 1, "narrow": 1, "rounding_mode": "ROUND"}
    return m.node("Quant", scale, np.float32(0), np.float32(bits), first=m.tensor(w), **quantiser), step


def quantiser(m: Model, top: float, levels: int, form: Form) -> None:
    """Of an activation: the levels 0..levels, the last worth `top`."""
    if form == "qdq":
        activation(m, top / levels)
    elif form == "qonnx":
        bits = (levels + 1).bit_length() - 1 + (levels & (levels + 1) != 0)
        narrow = int(levels == 2**bits - 2)
        given: dict[str, Any] = {"signed": 0, "narrow": narrow, "rounding_mode": "ROUND"}
        m.node("Quant", np.float32(top / levels), np.float32(0), np.float32(bits), **given)
    else:
        step = np.float32(top / levels)
        m.node("Div", step)
        m.node("Round")
        m.node("Clip", np.float32(0), np.float32(levels))
        m.node("Mul", step)


def model(spec: Spec, form: Form) -> tuple[Model, list[str], list[float]]:
    """The network, what its activation quantisers read, and the tops of these."""
    rng = np.random.default_rng(spec.seed)
    m, before, tops = Model(["N", 2, 11, 10], opset=21), list[str](), list[float]()
    for op in ("QuantizeLinear", "DequantizeLinear"):
        m.node(op, np.float32(1 / 255), typed(np.zeros((), np.uint8), TensorProto.UINT8))
    shape, step, flat = (2, 11, 10), 1.0, False
    for layer in spec.layers:
        k = min(layer.size, *(n + 1 for n in shape[1:]))  # as far as the padded image allows
        fan = int(np.prod(shape)) if not k else shape[0] * k**2
        if not k and not flat:
            m.node("Flatten")
            flat = True
        w = floats(rng, layer.width, *([shape[0], k, k] if k else [fan]), scale=fan**-0.5)
        x = m.last
        name, _ = weights(m, w, layer.bits, form, per_channel=layer.per_channel)
        bias = floats(rng, layer.width, scale=0.1)
        if k:
            m.node("Conv", name, bias, first=x, strides=[layer.stride] * 2, pads=[1, 0, 0, 1])
        else:
            m.node("Gemm", name, bias, first=x, transB=1)
        before.append(m.node("Relu"))
        tops.append(float(rng.uniform(0.4, 1.2)))
        quantiser(m, tops[-1], layer.levels, form)
        if k:
            size = [(n + 1 - k) // layer.stride + 1 for n in shape[1:]]
            if layer.pool and min(size) >= 2:
                m.node(layer.pool, kernel_shape=[2, 2], strides=[2, 2])
                size = [n // 2 for n in size]
            shape = (layer.width, *size)
        else:
            shape = (layer.width, 1, 1)
        step = np.float32(tops[-1] / layer.levels)
    if not flat:
        m.node("Flatten")
    x = m.last
    fan = int(np.prod(shape))
    name, own = weights(m, floats(rng, 4, fan, scale=fan**-0.5), spec.bits, form, per_channel=False)
    unit = np.float32(own[0] * step)  # as quantisers of models do it: biases on the grid of the products
    integers = np.rint(floats(rng, 4, scale=0.1) / unit).astype(np.int32)
    m.nodes.append(helper.make_node("DequantizeLinear", [m.tensor(integers), m.tensor(unit)], ["bias"], name="dq_bias"))
    m.node("Gemm", name, "bias", first=x, transB=1)
    return m, before, tops


def net_of(m: Model) -> Net:
    with TemporaryDirectory() as folder:
        return compiled(imported(m.proto(), Path(folder), input_range=None))


def check(spec: Spec, net: Net, plain: Form) -> None:
    """Every level and label as in onnxruntime, but for ties; behind a tie the rest of an input may differ."""
    m, before, tops = model(spec, plain)
    x = np.random.default_rng(spec.seed).integers(0, 256, (INPUTS, 2, 11, 10))
    real = x.astype(np.float32) * np.float32(1 / 255)
    scores, *values = session(m.proto(m.last, *before)).run(None, {"x": real})
    result, clean = run(net, x), np.ones(INPUTS, bool)
    fires = [op for op in net.ops if isinstance(op, Fire)]
    assert [op.type.ticks for op in fires if isinstance(op.type, Spikes)] == [layer.levels for layer in spec.layers]
    for op, v, top, layer in zip(fires, values, tops, spec.layers, strict=True):
        exact: Array = v.reshape(INPUTS, -1).astype(np.float64) / np.float64(np.float32(top / layer.levels))
        want = np.clip(np.rint(exact), 0, layer.levels)
        off = (result.spikes[op.name].reshape(INPUTS, -1) != want) & clean[:, None]
        assert (np.abs(exact[off] % 1 - 0.5) < 1e-4).all(), f"{op.name}: a level differs where no rounding decides"
        clean &= ~off.any(1)
    wrong = clean & (result.labels != scores.argmax(1))
    best = np.sort(result.scores[wrong], axis=1)
    assert (best[:, -1] == best[:, -2]).all(), "a label differs where the two best classes are no tie"
    assert clean.mean() > 0.5


def arrays(net: Net) -> list[Array]:
    """Weights, thresholds and biases in order."""
    consts = [c for op in net.ops for c in (getattr(op, field, None) for field in ("w", "bias", "theta")) if c]
    return [net.arrays[c] for c in consts]


@settings(max_examples=20)
@given(specs((15,), (4, 8)))
def test_qdq(spec: Spec) -> None:
    check(spec, net_of(model(spec, "qdq")[0]), "qdq")


@settings(max_examples=30)
@given(specs((2, 3, 6, 7, 14, 15, 30, 31, 62, 63), (2, 3, 4, 5, 6, 7, 8)))
def test_qonnx(spec: Spec) -> None:
    check(spec, net_of(model(spec, "qonnx")[0]), "plain")


@settings(max_examples=15)
@given(specs((15,), (4, 8)))
def test_both_forms_give_one_net(spec: Spec) -> None:
    one, other = (net_of(model(spec, form)[0]) for form in ("qdq", "qonnx"))
    assert [(type(op), op.type) for op in one.ops] == [(type(op), op.type) for op in other.ops]
    for left, right in zip(arrays(one), arrays(other), strict=True):
        np.testing.assert_array_equal(left, right)
