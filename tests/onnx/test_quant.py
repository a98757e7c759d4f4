"""Quantised models: their integers are taken over, and their answers are onnxruntime's."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.onnx.onnx_nets import Model, answers, floats, imported, session
from ttfsc.frontends.onnx_load import check_onnx
from ttfsc.ir import Array, Conv2d, Dense, Fire, Net, Spikes, run
from ttfsc.passes import drop_identity, fold_avgpool, fold_batchnorm, prove_widths, quantize

DIGIT = 16  # activation levels are 0..15 in 4 bits


def compiled(net: Net) -> Net:
    """As `ttfsc compile` does without --bits and --ticks: as trained."""
    return prove_widths(quantize(fold_avgpool(fold_batchnorm(drop_identity(net)))))


def typed(array: Array, elem: int) -> onnx.TensorProto:
    return helper.make_tensor("", elem, array.shape, array.reshape(-1).tolist())


def dequantised(m: Model, w: Array, bits: int, *, per_channel: bool, axis: int = 0) -> tuple[str, Array]:
    """A DequantizeLinear of integer weights for w; its name, and the step per output."""
    top = 2 ** (bits - 1) - 1
    rows = np.abs(np.moveaxis(w, axis, 0)).reshape(w.shape[axis], -1).max(1)
    step = (rows if per_channel else rows.max(keepdims=True)).astype(np.float32) / np.float32(top)
    shape = [-1 if i == axis else 1 for i in range(w.ndim)] if per_channel else [1] * w.ndim
    q = np.clip(np.rint(w / step.reshape(shape)), -top, top).astype(np.int8)
    elem = TensorProto.INT4 if bits == 4 else TensorProto.INT8
    m.count += 1
    zeros = typed(np.zeros(len(step) if per_channel else (), np.int8), elem)
    scale = step if per_channel else step[0]
    names = [m.tensor(typed(q, elem)), m.tensor(scale), m.tensor(zeros)]
    out = f"w{m.count}.real"
    attributes: dict[str, Any] = {"axis": axis} if per_channel else {}
    m.nodes.append(helper.make_node("DequantizeLinear", names, [out], name=f"dq{m.count}", **attributes))
    return out, step


def activation(m: Model, scale: float, elem: int = TensorProto.UINT4) -> None:
    """QuantizeLinear and DequantizeLinear with zero point 0."""
    for op in ("QuantizeLinear", "DequantizeLinear"):
        m.node(op, np.float32(scale), typed(np.zeros((), np.int8), elem))


def qdq_net(rng: np.random.Generator, *, bits: int, per_channel: bool, relu: bool = True) -> tuple[Model, list[str]]:
    """Two convolutions and two dense layers, 4-bit activations; the names of what the quantisers read."""
    m, before = Model(["N", 1, 12, 12], opset=21), list[str]()
    activation(m, 1 / 255, TensorProto.UINT8)

    def layer(op: str, shape: tuple[int, ...], fan: int, **attributes: Any) -> None:
        w, _ = dequantised(m, floats(rng, *shape, scale=fan**-0.5), bits, per_channel=per_channel)
        m.node(op, w, floats(rng, shape[0], scale=0.1), **attributes)

    layer("Conv", (6, 1, 3, 3), 9, pads=[1, 1, 1, 1])
    before.append(m.node("Relu") if relu else m.last)
    activation(m, 1.5 / 15)
    m.node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    layer("Conv", (8, 6, 3, 3), 20)
    before.append(m.node("Relu") if relu else m.last)
    activation(m, 1.2 / 15)
    m.node("AveragePool", kernel_shape=[2, 2], strides=[2, 2])
    m.node("Flatten")
    layer("Gemm", (16, 32), 20, transB=1)
    before.append(m.node("Relu") if relu else m.last)
    activation(m, 1.0 / 15)
    w, step = dequantised(m, floats(rng, 5, 16, scale=0.25), bits, per_channel=False)
    unit = step[0] * np.float32(1.0 / 15)  # as quantisers of models do it: biases on the grid of the products
    names = [m.tensor(np.rint(floats(rng, 5, scale=0.1) / unit).astype(np.int32)), m.tensor(unit)]
    m.nodes.append(helper.make_node("DequantizeLinear", names, ["bias"], name="dq_bias"))
    m.node("Gemm", w, "bias", transB=1)
    return m, before


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("relu", [True, False])  # without one, the quantiser's lower end is the ReLU
def test_a_qdq_network_is_its_compiled_twin(bits: int, per_channel: bool, relu: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(bits + per_channel)
    m, before = qdq_net(rng, bits=bits, per_channel=per_channel, relu=relu)
    net = imported(m.proto(), tmp_path, input_range=None)
    assert str(net.input.type) == "analog<1x12x12, 0..255>" and abs(net.input.scale - 1 / 255) < 1e-9
    small = compiled(net)
    layers = [op for op in small.ops if isinstance(op, Fire)]
    assert [op.type.ticks for op in layers if isinstance(op.type, Spikes)] == [15, 15, 15]
    for op in small.ops:
        if isinstance(op, Conv2d | Dense):
            assert op.bits == bits
    x = rng.integers(0, 256, (400, 1, 12, 12))
    real = (x.astype(np.float32) * np.float32(1 / 255)).astype(np.float32)
    engine = session(m.proto(m.last, *before))
    scores, *membranes = engine.run(None, {"x": real})
    result = run(small, x)
    clean, ties = np.ones(len(x), bool), 0
    for op, v, top in zip(layers, membranes, (1.5, 1.2, 1.0), strict=True):
        exact = v.astype(np.float64) / (np.float64(np.float32(top / 15)))
        want = np.clip(np.rint(exact), 0, 15).reshape(len(x), -1)
        off = (result.spikes[op.name].reshape(len(x), -1) != want) & clean[:, None]
        distance = np.abs(exact.reshape(len(x), -1) % 1 - 0.5)
        assert (distance[off] < 1e-4).all(), f"{op.name}: a level differs where no rounding decides"
        ties += int(off.sum())
        clean &= ~off.any(1)  # behind a tie the rest of the image may differ
    assert ties <= 20, f"{ties} ties in {sum(v.size for v in membranes)} values"
    assert clean.mean() > 0.9
    differs = clean & (result.labels != scores.argmax(1))
    ordered = np.sort(result.scores[differs], axis=1)
    assert (ordered[:, -1] == ordered[:, -2]).all(), "a label differs where the two best classes are no tie"
    assert differs.sum() <= 4


def test_weights_keep_their_integers(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    m = Model(["N", 6], opset=21)
    w, step = dequantised(m, floats(rng, 6, 4), 4, per_channel=True, axis=1)
    m.node("MatMul", w)
    m.node("Relu")
    last, _ = dequantised(m, floats(rng, 3, 4), 8, per_channel=False)
    m.node("Gemm", last, transB=1)
    net = imported(m.proto(), tmp_path)
    dense = [op for op in net.ops if isinstance(op, Dense)]
    assert [op.bits for op in dense] == [4, 8]
    assert dense[0].step is not None
    np.testing.assert_allclose(net.arrays[dense[0].step], step, rtol=1e-6)
    stored = numpy_helper.to_array(m.tensors[0]).astype(np.int64)
    exact = net.arrays[dense[0].w] / net.arrays[dense[0].step][:, None]
    np.testing.assert_array_equal(np.rint(exact), stored.T)


def test_more_levels_than_ticks_give_the_range(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    m = Model(["N", 6], opset=21)
    m.node("Gemm", floats(rng, 6, 4))
    m.node("Relu")
    activation(m, 2 / 255, TensorProto.UINT8)
    m.node("Gemm", floats(rng, 4, 3))
    net = imported(m.proto(), tmp_path)
    (fire,) = [op for op in net.ops if isinstance(op, Fire)]
    assert fire.theta is not None and fire.ticks == 0
    np.testing.assert_allclose(net.arrays[fire.theta], 2.0, rtol=1e-6)


def test_a_uint8_input_says_its_range(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    m = Model(["N", 6], elem=TensorProto.UINT8)
    m.node("Cast", to=TensorProto.FLOAT)
    m.node("Gemm", floats(rng, 6, 4))
    net = imported(m.proto(), tmp_path, input_range=None)
    assert str(net.input.type) == "analog<6, 0..255>" and net.input.scale == 1


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("domain", ["qonnx.custom_op.general", "onnx.brevitas", ""])
def test_qonnx(declared: bool, domain: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    m = Model(["N", 1, 8, 8])
    if declared and domain:
        m.domains.append(domain)

    def quant(x: str, scale: Array | float, bits: float, *, signed: int) -> str:
        return m.node(
            "Quant", np.asarray(scale, np.float32), np.float32(0), np.float32(bits), first=x, domain=domain,
            signed=signed, narrow=0, rounding_mode="ROUND",
        )  # fmt: skip

    w = floats(rng, 4, 1, 3, 3, scale=0.3)
    kernel = quant(m.tensor(w), np.abs(w).reshape(4, -1).max(1).reshape(4, 1, 1, 1) / 7, 4, signed=1)
    m.node("Conv", kernel, first="x")
    m.node("Relu")
    act = quant(m.last, 0.1, 4, signed=0)
    m.node("Flatten", first=act)
    hidden = m.last
    v = floats(rng, 5, 144, scale=0.1)
    matrix = quant(m.tensor(v), 0.05, 3, signed=1)
    m.node("Gemm", matrix, first=hidden, transB=1)
    small = compiled(imported(m.proto(), tmp_path, input_scale=1 / 255))
    assert [op.bits for op in small.ops if isinstance(op, Conv2d | Dense)] == [4, 3]
    x = rng.integers(0, 256, (300, 1, 8, 8))
    # the same network in numpy: QONNX is not onnxruntime's
    step = np.abs(w).reshape(4, -1).max(1).reshape(4, 1, 1, 1) / 7
    k = np.clip(np.rint(w / step), -8, 7) * step
    windows = np.lib.stride_tricks.sliding_window_view(x[:, 0] / 255, (3, 3), axis=(1, 2))
    s = np.einsum("nijab,cab->ncij", windows, k[:, 0])
    levels = np.clip(np.rint(s / np.float32(0.1)), 0, 15)
    (fire,) = [op for op in small.ops if isinstance(op, Fire)]
    result = run(small, x)
    off = result.spikes[fire.name] != levels
    assert off.mean() < 1e-4
    matrix_real = np.clip(np.rint(v / np.float32(0.05)), -4, 3)
    np.testing.assert_array_equal(result.labels, (levels.reshape(len(x), -1) @ matrix_real.T).argmax(1))


def test_a_step_per_class_is_given_up_where_classes_are_compared(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    m = Model(["N", 20], opset=21)
    activation(m, 1 / 255, TensorProto.UINT8)
    w, _ = dequantised(m, floats(rng, 10, 20), 8, per_channel=True)
    m.node("Gemm", w, transB=1)
    small = compiled(imported(m.proto(), tmp_path, input_range=None))
    x = rng.integers(0, 256, (500, 20))
    want = answers(m.proto(), (x / np.float32(255)).astype(np.float32)).argmax(1)
    assert (run(small, x).labels == want).mean() > 0.97


def test_branches_of_different_steps_are_added_on_the_finest_grid(tmp_path: Path, caplog: Any) -> None:
    """A residual QDQ network as quantisers write it: every branch has steps of its own, and no two of them fit."""
    rng = np.random.default_rng(11)
    m = Model(["N", 2, 8, 8], opset=21)
    activation(m, 1 / 255, TensorProto.UINT8)

    def conv(x: str, cin: int, cout: int, size: int, scale: float, stride: int = 1) -> str:
        w, _ = dequantised(m, floats(rng, cout, cin, size, size, scale=scale), 4, per_channel=True)
        return m.node("Conv", w, floats(rng, cout, scale=0.1), first=x, pads=[size // 2] * 4, strides=[stride] * 2)

    conv(m.last, 2, 4, 3, 0.3)
    m.node("Relu")
    activation(m, 1 / 15)
    a = m.last
    side = conv(a, 4, 6, 1, 0.6, stride=2)  # a shortcut with weights: another grid
    conv(a, 4, 6, 3, 0.17, stride=2)
    m.node("Add", side)
    before = [m.node("Relu")]
    activation(m, 1.3 / 15)
    b = m.last
    conv(b, 6, 6, 3, 0.02)  # much finer than the skip: that becomes several synapses
    m.node("Add", b)
    before.append(m.node("Relu"))
    activation(m, 1.5 / 15)
    m.node("GlobalAveragePool")
    m.node("Flatten")
    w, _ = dequantised(m, floats(rng, 5, 6, scale=0.4), 4, per_channel=False)
    m.node("Gemm", w, transB=1)
    with caplog.at_level("INFO"):
        small = compiled(imported(m.proto(), tmp_path, input_range=None))
    assert "no whole number: its weights are rounded anew onto that grid" in caplog.text
    assert "synapses of 8 bits carry them" in caplog.text
    assert [op.type.ticks for op in small.ops if isinstance(op, Fire) and isinstance(op.type, Spikes)] == [15, 15, 15]
    x = rng.integers(0, 256, (200, 2, 8, 8))
    scores, *values = session(m.proto(m.last, *before)).run(None, {"x": (x / np.float32(255)).astype(np.float32)})
    result = run(small, x)
    layers = [op.name for op in small.ops if isinstance(op, Fire)][1:]
    for name, v, top in zip(layers, values, (1.3, 1.5), strict=True):
        off = np.abs(result.spikes[name] - np.clip(np.rint(v * (15 / top)), 0, 15))
        assert off.max() <= 1 and off.mean() < 0.03, f"{name}: {off.mean():.4f}"
    assert (result.labels == scores.argmax(1)).mean() > 0.97


def test_onnxruntimes_own_domain_for_four_bits(tmp_path: Path) -> None:
    """quantize_static writes QuantizeLinear of com.microsoft where opset 21 is not there yet."""
    rng = np.random.default_rng(12)
    m, _ = qdq_net(rng, bits=4, per_channel=True)
    want = imported(m.proto(), tmp_path, input_range=None)
    for node in m.nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.domain = "com.microsoft"
    m.domains.append("com.microsoft")
    got = imported(m.proto(), tmp_path, input_range=None)
    assert got.ops == want.ops and got.arrays == want.arrays


def test_integer_ops_are_refused_with_the_way_out(tmp_path: Path) -> None:
    m = Model(["N", 1, 4, 4], opset=17)
    one, zero = np.float32(1), np.uint8(0)
    m.node("QuantizeLinear", one, zero)
    m.node("QLinearConv", one, zero, np.ones((1, 1, 3, 3), np.uint8), one, zero, one, zero)
    (fault,) = check_onnx(m.save(tmp_path))
    assert fault.loc.origin == "qlinearconv2" and "QDQ" in fault.fact


def test_a_quantiser_on_the_input_and_what_the_user_says_of_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    m = Model(["N", 6], opset=21)
    for op in ("QuantizeLinear", "DequantizeLinear"):
        m.node(op, np.float32(0.5), typed(np.array(-28, np.int8), TensorProto.INT8))
    m.node("Gemm", floats(rng, 6, 4))
    own = imported(m.proto(), tmp_path, input_range=None)
    assert str(own.input.type) == "analog<6, -100..155>" and own.input.scale == 0.5
    part = imported(m.proto(), tmp_path, input_range=(0, 100))
    assert str(part.input.type) == "analog<6, 0..100>" and part.input.scale == 0.5
    x = rng.integers(0, 101, (50, 6))
    want = answers(m.proto(), (x * 0.5).astype(np.float32))
    np.testing.assert_allclose(run(part, x).scores, want, rtol=1e-4, atol=1e-3)
    finer = imported(m.proto(), tmp_path, input_range=(0, 255), input_scale=0.1)
    assert str(finer.input.type) == "analog<6, 0..255>" and finer.input.scale == 0.1
