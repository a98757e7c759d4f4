"""Reshapes, transposes and the ways in which exporters write them: nothing is computed, axes are relabelled."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tests.onnx.onnx_nets import Model, agree, answers, floats, imported
from ttfsc.frontends.onnx_load import check_onnx, load_onnx
from ttfsc.frontends.onnx_view import BATCH_AXIS, View, canonical_rows, flattened, reshaped, transposed
from ttfsc.frontends.value import Refused
from ttfsc.ir import TtfsError, run


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


HOW = ["Flatten", "-1", "0", "chain"]
WRITTEN = [(how, batch) for how in HOW for batch in (1, 4, "N")] + [("fixed", 1), ("fixed", 4)]


@pytest.mark.parametrize(("how", "batch"), WRITTEN)
def test_flattening_as_exporters_write_it(how: str, batch: int | str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    m = Model([batch, 2, 5, 4])
    m.node("Conv", floats(rng, 3, 2, 2, 2))
    m.node("Relu")
    x = m.last
    match how:
        case "Flatten":
            m.node("Flatten")
        case "-1":
            m.node("Reshape", ints(-1, 36))
        case "0":
            m.node("Reshape", ints(0, -1))
        case "fixed":
            m.node("Reshape", ints(int(batch), 36))
        case _:  # x.view(x.size(0), -1)
            m.node("Shape")
            m.node("Gather", np.array(0, np.int64), axis=0)
            m.node("Unsqueeze", ints(0))
            size = m.last
            shape = m.node("Concat", m.tensor(ints(-1)), first=size, axis=0)
            m.node("Reshape", shape, first=x)
    m.node("Gemm", floats(rng, 36, 4), floats(rng, 4))
    agree(m.proto(), tmp_path, (2, 5, 4))


def test_a_batch_of_one_written_into_the_reshape_of_an_open_batch(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    m = Model(["N", 1, 4, 4])
    m.node("Reshape", ints(1, 16))
    m.node("Gemm", floats(rng, 16, 4))
    net = imported(m.proto(), tmp_path)
    assert net.input.type.shape == (1, 4, 4)


@pytest.mark.parametrize("batch", [0, -1, 2**40, "weird name", None])
def test_absurd_batch_sizes(batch: int | str | None, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    m = Model([1, 1, 4, 4])
    m.node("Conv", floats(rng, 2, 1, 3, 3))
    m.node("Relu")
    m.node("Flatten")
    m.node("Gemm", floats(rng, 8, 4))
    proto = m.proto()
    dim = proto.graph.input[0].type.tensor_type.shape.dim[0]
    dim.ClearField("dim_value")
    if isinstance(batch, int):
        dim.dim_value = batch
    elif batch:
        dim.dim_param = batch
    net = imported(proto, tmp_path)
    x = rng.integers(0, 256, (3, 1, 4, 4))
    np.testing.assert_allclose(run(net, x).scores, answers(m.proto("t4"), x.astype(np.float32)), rtol=1e-4, atol=1e-2)


def test_a_tensorflow_export_in_nhwc(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    m = Model(["N", 6, 5, 3])
    m.node("Div", np.float32(2))
    m.node("Sub", floats(rng, 1, 1, 1, 3))
    m.node("Transpose", perm=[0, 3, 1, 2])
    m.node("Conv", floats(rng, 4, 3, 3, 3), pads=[1, 1, 1, 1])
    m.node("Transpose", perm=[0, 2, 3, 1])
    m.node("Add", floats(rng, 4))
    m.node("Relu")
    m.node("Transpose", perm=[0, 3, 1, 2])
    m.node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    m.node("Transpose", perm=[0, 2, 3, 1])
    m.node("Reshape", ints(-1, 3 * 2 * 4))
    m.node("MatMul", floats(rng, 24, 5))
    m.node("Add", floats(rng, 5))
    m.node("Relu")
    m.node("MatMul", floats(rng, 5, 3))
    net = imported(m.proto(), tmp_path, input_scale=1 / 255)
    assert net.input.type.shape == (3, 6, 5)
    x = rng.integers(0, 256, (4, 6, 5, 3))
    want = answers(m.proto(), (x / 255).astype(np.float32))
    got = run(net, x.transpose(0, 3, 1, 2)).scores
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_matmul_on_the_channels_of_nhwc_is_a_1x1_convolution(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    m = Model(["N", 2, 5, 5])
    m.node("Conv", floats(rng, 4, 2, 3, 3))
    m.node("Relu")
    m.node("Transpose", perm=[0, 2, 3, 1])
    m.node("MatMul", floats(rng, 4, 6))
    m.node("Add", floats(rng, 6))
    m.node("Relu")
    m.node("ReduceMean", axes=[1, 2], keepdims=0)
    m.node("MatMul", floats(rng, 6, 3))
    agree(m.proto(), tmp_path, (2, 5, 5))


def test_a_flat_input_reshaped_to_an_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    m = Model(["N", 32])
    m.node("Mul", np.float32(0.5))
    m.node("Reshape", ints(-1, 2, 4, 4))
    m.node("Conv", floats(rng, 3, 2, 3, 3))
    m.node("Relu")
    m.node("Reshape", ints(-1, 12))
    m.node("Gemm", floats(rng, 12, 4))
    net = agree(m.proto(), tmp_path, (32,))
    assert net.input.type.shape == (2, 4, 4)


def test_squeezes_and_unsqueezes(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    m = Model(["N", 4, 4])
    m.node("Unsqueeze", ints(1))
    m.node("Conv", floats(rng, 3, 1, 3, 3))
    m.node("Relu")
    m.node("GlobalAveragePool")
    m.node("Squeeze", ints(2, 3))
    m.node("Unsqueeze", ints(-1))
    m.node("Squeeze", ints(-1))
    m.node("Gemm", floats(rng, 3, 4))
    agree(m.proto(), tmp_path, (4, 4))


def test_a_signal_of_one_axis(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    m = Model(["N", 2, 16])
    m.node("Conv", floats(rng, 4, 2, 5), floats(rng, 4), strides=[2], pads=[2, 1])
    m.node("BatchNormalization", *(np.abs(floats(rng, 4)) + np.float32(0.3) for _ in range(4)))
    m.node("Relu")
    m.node("MaxPool", kernel_shape=[3], strides=[2], ceil_mode=1)
    m.node("Conv", floats(rng, 4, 1, 2), group=4, dilations=[2])
    m.node("Relu")
    m.node("GlobalAveragePool")
    m.node("Flatten")
    m.node("Gemm", floats(rng, 4, 3))
    net = agree(m.proto(), tmp_path, (2, 16))
    assert net.input.type.shape == (2, 1, 16)


def test_weights_are_reshaped_and_transposed_as_constants(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    m = Model(["N", 1, 4, 4])
    kernel = m.node("Transpose", first=m.tensor(floats(rng, 3, 3, 1, 2)), perm=[3, 2, 0, 1])
    m.node("Conv", kernel, first="x")
    m.node("Relu")
    flat = m.node("Reshape", ints(0, -1))
    shape = m.node("Constant", first="", value=helper.make_tensor("s", TensorProto.INT64, [2], [8, 4]))
    matrix = m.node("Reshape", shape, first=m.tensor(floats(rng, 2, 2, 2, 4)))
    fill = m.node(
        "ConstantOfShape", first=m.tensor(ints(4)), value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.5])
    )
    m.node("MatMul", matrix, first=flat)
    m.node("Add", fill)
    agree(m.proto(), tmp_path, (1, 4, 4))


def test_initialisers_that_are_listed_as_inputs_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(10)
    m = Model(["N", 6], opset=8)
    m.node("MatMul", floats(rng, 6, 4))
    m.node("Relu")
    m.node("MatMul", floats(rng, 4, 3))
    proto = m.proto()
    proto.ir_version = 3
    for t in m.tensors:
        proto.graph.input.append(helper.make_tensor_value_info(t.name, t.data_type, t.dims))
    agree(proto, tmp_path, (6,))


def test_nodes_in_any_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    m = Model(["N", 6])
    for size in (4, 5, 3):
        m.node("Gemm", floats(rng, (m.count and (4, 4, 5)[m.count // 2]) or 6, size))
        m.node("Relu") if size != 3 else None
    proto = m.proto()
    want = imported(proto, tmp_path)
    turned = list(reversed(proto.graph.node))
    del proto.graph.node[:]
    proto.graph.node.extend(turned)
    assert [op.mnemonic for op in imported(proto, tmp_path).ops] == [op.mnemonic for op in want.ops]


def test_shapes_that_the_file_leaves_open_must_be_given(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    m = Model(["N", 3, "H", "W"])
    m.node("Conv", floats(rng, 4, 3, 3, 3))
    m.node("Relu")
    m.node("GlobalAveragePool")
    m.node("Flatten")
    m.node("Gemm", floats(rng, 4, 3))
    path = m.save(tmp_path)
    with pytest.raises(TtfsError, match=r"3x\?x\? in the file: give its sizes, --input-shape"):
        load_onnx(path, input_range=(0, 255))
    with pytest.raises(TtfsError, match="--input-shape says 1x8x8"):
        load_onnx(path, input_range=(0, 255), input_shape=(1, 8, 8))
    agree(m.proto(), tmp_path, (3, 8, 9), input_shape=(3, 8, 9))


def test_the_range_of_the_input_must_be_declared_and_everything_else_is_told_with_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(13)
    m = Model(["N", 6])
    m.node("Gemm", floats(rng, 6, 4))
    m.node("Tanh")
    m.node("Gemm", floats(rng, 4, 3))
    faults = check_onnx(m.save(tmp_path))
    assert ["--input-range 0..255" in f.fact for f in faults] == [True, False]
    assert faults[1].loc.origin == "tanh2"


MOVES: list[tuple[list[tuple[str, list[Any], dict[str, Any]]], str]] = [
    ([("Reshape", [ints(-1, 2, 18)], {})], "only flattening"),
    ([("Transpose", [], {"perm": [1, 0, 2, 3]}), ("Flatten", [], {})], "batch"),
    ([("Transpose", [], {"perm": [0, 1, 3, 2]}), ("MaxPool", [], {"kernel_shape": [2, 2]})], "in this order"),
    ([("Gather", [ints(0, 2)], {"axis": 1})], "picks elements"),
]


@pytest.mark.parametrize(("nodes", "why"), MOVES)
def test_what_moves_neurons_is_refused(nodes: list[tuple[str, list[Any], Any]], why: str, tmp_path: Path) -> None:
    m = Model(["N", 2, 5, 5])
    m.node("Conv", np.ones((4, 2, 3, 3), np.float32))
    m.node("Relu")
    for op, operands, attributes in nodes:
        m.node(op, *operands, **attributes)
    faults = check_onnx(m.save(tmp_path), input_range=(0, 255))
    assert why in faults[0].fact, faults


@settings(max_examples=200)
@given(st.lists(st.integers(1, 4), min_size=3, max_size=3), st.permutations(range(3)), st.data())
def test_weights_follow_their_neurons(sizes: list[int], order: list[int], data: st.DataObject) -> None:
    """Any transpose and reshape of an activation, then a matrix: the permuted matrix on the untouched activation."""
    view = View((), tuple(sizes), (BATCH_AXIS, *(() if n == 1 else (i,) for i, n in enumerate(sizes))))
    view = transposed(view, [0, *(1 + i for i in order)])
    array = np.arange(np.prod(sizes)).reshape(1, *sizes).transpose(0, *(1 + i for i in order))
    if data.draw(st.booleans()):
        merged = (1, array.shape[1] * array.shape[2], array.shape[3])
        view, array = reshaped(view, merged, 1), array.reshape(merged)
    if data.draw(st.booleans()):
        view, array = (
            transposed(view, [0, *range(len(view.axes) - 1, 0, -1)]),
            array.transpose(0, *range(array.ndim - 1, 0, -1)),
        )
    view, row = flattened(view, 1, 1), array.reshape(-1)
    assert view.shape(1) == (1, row.size)
    weights = np.random.default_rng(0).standard_normal((row.size, 2))
    mine = np.arange(row.size) @ canonical_rows(weights, view)
    np.testing.assert_allclose(mine, row @ weights)


def test_splitting_an_axis_of_an_activation_is_refused() -> None:
    view = View((), (4, 6), (BATCH_AXIS, (0,), (1,)), changes=())
    made = View(("x",), view.atoms, view.axes)  # pyright: ignore[reportArgumentType]
    with pytest.raises(Refused, match="splits an axis"):
        reshaped(made, (1, 4, 2, 3), 1)
