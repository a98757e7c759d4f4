"""Slices, splits, zero channels and linear layers in a row: no neurons of their own, the function of onnxruntime."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.onnx.onnx_nets import Model, agree, answers, floats, imported
from ttfsc.compiler import Options, compile_net
from ttfsc.frontends.onnx_load import check_onnx
from ttfsc.inputs import Samples
from ttfsc.ir import Fire, Net, run

FEW = settings(max_examples=60)


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def finished(m: Model, shape: tuple[int, ...], rng: np.random.Generator) -> Net:
    """The model with a dense layer behind, imported and compared with onnxruntime."""
    m.node("Flatten")
    size = answers(m.proto(), np.zeros((1, *shape), np.float32)).size
    m.node("Gemm", floats(rng, 3, size, scale=size**-0.5), floats(rng, 3), transB=1)
    with TemporaryDirectory() as folder:
        return agree(m.proto(), Path(folder), shape)


def neurons(net: Net) -> int:
    return sum(op.type.size for op in net.ops if isinstance(op, Fire))


@st.composite
def slices(draw: st.DrawFn, size: int) -> tuple[int, int, int]:
    """Start, end and step that keep something of an axis; negative and endless ones too."""
    start, step = draw(st.integers(0, size - 1)), draw(st.integers(1, 3))
    end = draw(st.integers(start + 1, size))
    return start - size * draw(st.booleans()), end if draw(st.booleans()) else 2**62, step


def read(m: Model, how: str, channels: int, rng: np.random.Generator, pad: int, stride: int) -> None:
    """A layer behind the selection."""
    match how:
        case "conv":
            m.node("Conv", floats(rng, 4, channels, 2, 2), floats(rng, 4), pads=[pad] * 4, strides=[stride] * 2)
            m.node("Relu")
        case "pointwise":
            m.node("Conv", floats(rng, 4, channels, 1, 1), floats(rng, 4), strides=[stride] * 2)
            m.node("Relu")
        case "depthwise":
            m.node("Conv", floats(rng, channels, 1, 1, 2), group=channels, pads=[pad, pad, pad, pad])
            m.node("Relu")
        case "max":
            m.node("MaxPool", kernel_shape=[2, 2], pads=[pad, pad, pad, pad], strides=[stride] * 2)
        case "mean":
            m.node("AveragePool", kernel_shape=[2, 2], strides=[stride] * 2)
        case "norm":
            m.node("Mul", np.abs(floats(rng, channels, 1, 1)) + np.float32(0.1))
            m.node("Conv", floats(rng, 4, channels, 1, 1), floats(rng, 4))
            m.node("Relu")
        case "again":
            m.node("Slice", ints(0), ints(9), ints(3), ints(2))
            m.node("Conv", floats(rng, 4, channels, 1, 1))
            m.node("Relu")
        case _:
            m.node("Relu")


READERS = ("conv", "pointwise", "depthwise", "max", "mean", "norm", "again", "relu")


@FEW
@given(
    st.sampled_from(["input", "activation", "membrane", "sum"]), st.sampled_from(READERS),
    slices(5), slices(7), slices(6),
    st.sets(st.integers(1, 3), min_size=1), st.integers(0, 1), st.integers(1, 2), st.integers(0, 99),
)  # fmt: skip
def test_slices_of_whatever_is_there(
    where: str, how: str, c: tuple[int, int, int], h: tuple[int, int, int], w: tuple[int, int, int], axes: set[int],
    pad: int, stride: int, seed: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    shape = (5, 7, 6)
    m = Model(["N", *shape])
    if where != "input":
        m.node("Conv", floats(rng, 5, 5, 3, 3, scale=0.2), floats(rng, 5), pads=[1, 1, 1, 1])
        if where != "membrane":
            m.node("Relu")
        if where == "sum":
            a = m.last
            m.node("Conv", floats(rng, 5, 5, 1, 1), floats(rng, 5))
            m.node("Relu")
            m.node("Add", a)
    cuts = {1: c, 2: h, 3: w}
    named = sorted(axes)
    m.node(
        "Slice", *(ints(*(cuts[a][i] for a in named)) for i in (0, 1)), ints(*named), ints(*(cuts[a][2] for a in named))
    )
    kept = answers(m.proto(), np.zeros((1, *shape), np.float32)).shape
    if min(kept[2:]) < 3 and how in ("conv", "depthwise", "max", "mean", "again"):
        how = "pointwise"  # windows have to fit
    read(m, how, kept[1], rng, pad, stride)
    if where == "membrane" and (how == "max" or (pad and how in ("conv", "depthwise"))):
        behind_relu(m)
    finished(m, shape, rng)


def behind_relu(m: Model) -> None:
    """A ReLU behind the selection: what pads a membrane, or takes its maximum, has to have one."""
    at = next(i for i, node in enumerate(m.nodes) if node.op_type == "Slice")
    m.nodes.insert(at + 1, helper.make_node("Relu", [m.nodes[at].output[0]], ["rectified"], name="rectify"))
    m.nodes[at + 2].input[0] = "rectified"


@pytest.mark.parametrize("opset", [11, 13, 18, 23])
@pytest.mark.parametrize("sizes", [(2, 4), (3, 3), (1, 2, 3)])
def test_split_into_branches(opset: int, sizes: tuple[int, ...]) -> None:
    """Grouped branches of an Inception-like net: each reads its own channels."""
    rng = np.random.default_rng(opset)
    m = Model(["N", 2, 6, 6], opset=opset)
    m.node("Conv", floats(rng, 6, 2, 3, 3), floats(rng, 6), pads=[1, 1, 1, 1])
    m.node("Relu")
    outs = [f"part{i}" for i in range(len(sizes))]
    if opset < 13:
        m.node("Split", axis=1, split=list(sizes))
    elif len(set(sizes)) == 1 and opset >= 18:
        m.node("Split", axis=1, num_outputs=len(sizes))
    else:
        m.node("Split", ints(*sizes), axis=-3)
    del m.nodes[-1].output[:]
    m.nodes[-1].output.extend(outs)
    ends = list[str]()
    for out, size in zip(outs, sizes, strict=True):
        m.node("Conv", floats(rng, 3, size, 3, 3), floats(rng, 3), first=out)
        ends.append(m.node("Relu"))
    m.node("Concat", *ends[1:], first=ends[0], axis=1)
    m.node("Conv", floats(rng, 4, 3 * len(sizes), 1, 1))
    m.node("Relu")
    net = finished(m, (2, 6, 6), rng)
    assert neurons(net) == 6 * 36 + 3 * len(sizes) * 16 + 4 * 16, "selections own no neurons"


def residual_net(rng: np.random.Generator) -> Model:
    """A ResNet for CIFAR whose shortcut drops every other place and adds zero channels (He et al., 2016, option A)."""
    m = Model(["N", 2, 9, 8])
    m.node("Conv", floats(rng, 4, 2, 3, 3), floats(rng, 4), pads=[1, 1, 1, 1])
    skip = m.node("Relu")
    m.node("Conv", floats(rng, 8, 4, 3, 3, scale=0.3), floats(rng, 8), pads=[1, 1, 1, 1], strides=[2, 2])
    m.node("Relu")
    y = m.node("Conv", floats(rng, 8, 8, 3, 3, scale=0.2), floats(rng, 8), pads=[1, 1, 1, 1])
    m.node("Slice", ints(0, 0), ints(2**62, 2**62), ints(2, 3), ints(2, 2), first=skip)
    m.node("Pad", ints(0, 2, 0, 0, 0, 2, 0, 0))
    m.node("Add", y)
    m.node("Relu")
    return m


def test_a_shortcut_without_weights() -> None:
    rng = np.random.default_rng(1)
    net = finished(residual_net(rng), (2, 9, 8), rng)
    assert neurons(net) == 4 * 72 + 2 * 8 * 20


def test_it_compiles_and_every_engine_agrees(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    m = residual_net(rng)
    m.node("Slice", ints(1), ints(7), ints(1))
    m.node("Conv", floats(rng, 6, 6, 1, 1), floats(rng, 6))  # linear: merged with the selection and what is behind
    m.node("Conv", floats(rng, 5, 6, 1, 1), floats(rng, 5))
    m.node("Relu")
    m.node("GlobalAveragePool")
    m.node("Flatten")
    m.node("Gemm", floats(rng, 3, 5), transB=1)
    net = imported(m.proto(), tmp_path, input_scale=1 / 255)
    x = rng.integers(0, 256, (12, 2, 9, 8))
    options = Options(targets=("c", "noc", "onnx"), bits=8, ticks=32)
    done = compile_net(net, options, calibration=Samples(x, None, "x"), samples=Samples(x, None, "x"))
    assert set(done.verification.inputs) == {"C", "mapped cores", "ONNX"} and done.verification.exact
    want, got = run(net, x).scores, run(done.net, x).scores
    assert np.corrcoef(want.reshape(-1), got.reshape(-1))[0, 1] > 0.97


@FEW
@given(
    st.lists(st.sampled_from(["pointwise", "depthwise", "kernel", "norm"]), min_size=2, max_size=3),
    st.booleans(), st.integers(1, 2), st.integers(0, 99),
)  # fmt: skip
def test_linear_layers_in_a_row_are_one(kinds: list[str], residual: bool, stride: int, seed: int) -> None:
    """Kernels are convolved; what was added on the way is followed to its own source."""
    rng = np.random.default_rng(seed)
    m, large = Model(["N", 3, 17, 15]), False
    m.node("Conv", floats(rng, 4, 3, 3, 3, scale=0.3))
    m.node("Relu")
    first = m.node("Conv", floats(rng, 4, 4, 1, 1), floats(rng, 4))
    for kind in kinds:
        if kind == "norm":
            m.node("BatchNormalization", *(np.abs(floats(rng, 4)) + np.float32(0.3) for _ in range(4)))
        elif kind == "pointwise":
            m.node("Conv", floats(rng, 4, 4, 1, 1), floats(rng, 4))
        else:
            shape = (4, 1, 3, 2) if kind == "depthwise" else (4, 4, 2, 3)
            along = stride if not large else 1
            m.node("Conv", floats(rng, *shape), floats(rng, 4), group=4 // shape[1], strides=[along] * 2)
            large = True
    if residual and not large:
        m.node("Add", first)
    m.node("Conv", floats(rng, 5, 4, 1, 1), floats(rng, 5), strides=[stride] * 2)
    m.node("Relu")
    net = finished(m, (3, 17, 15), rng)
    assert sum(isinstance(op, Fire) for op in net.ops) == 2


def test_dense_layers_in_a_row() -> None:
    rng = np.random.default_rng(5)
    m = Model(["N", 2, 4, 4])
    m.node("Conv", floats(rng, 3, 2, 1, 1), floats(rng, 3))
    m.node("Flatten")
    a = m.node("Gemm", floats(rng, 48, 6), floats(rng, 6))
    m.node("Gemm", floats(rng, 6, 6), floats(rng, 6))
    m.node("Add", a)
    m.node("Slice", ints(1), ints(6), ints(1), ints(2))
    m.node("Gemm", floats(rng, 3, 5), floats(rng, 5))
    m.node("Relu")
    net = finished(m, (2, 4, 4), rng)
    assert neurons(net) == 5


REFUSED: list[tuple[list[tuple[str, list[Any], dict[str, Any]]], str]] = [
    ([("Slice", [ints(4), ints(-9), ints(2), ints(-1)], {})], "runs backwards"),
    ([("Slice", [ints(3), ints(3), ints(1)], {})], "takes nothing"),
    ([("Slice", [ints(0), ints(1), ints(7)], {})], "for a tensor of 4 axes"),
    ([("Flatten", [], {}), ("Slice", [ints(0), ints(9), ints(1)], {})], "cut it before it is flattened"),
    ([("Split", [ints(1, 2)], {"axis": 1})], "splits 4 into [1, 2]"),
    ([("Split", [], {"axis": 9})], "splits axis 9"),
    ([("Conv", [np.ones((4, 4, 3, 3), np.float32)], {}),
      ("Conv", [np.ones((4, 4, 2, 2), np.float32)], {"pads": [1] * 4})],
     "merge them into one layer"),
    ([("Conv", [np.ones((4, 4, 1, 1), np.float32), np.ones(4, np.float32)], {}),
      ("Conv", [np.ones((4, 4, 3, 3), np.float32)], {"pads": [1, 1, 1, 1]})], "which its border does not see"),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "why"), REFUSED)
def test_what_is_refused(nodes: list[tuple[str, list[Any], Any]], why: str, tmp_path: Path) -> None:
    m = Model(["N", 2, 7, 7])
    m.node("Conv", np.ones((4, 2, 3, 3), np.float32))
    m.node("Relu")
    for op, operands, attributes in nodes:
        m.node(op, *operands, **attributes)
    faults = check_onnx(m.save(tmp_path), input_range=(0, 255))
    assert why in faults[0].fact, faults


def test_what_hangs_on_the_shape_of_something_refused_is_not_listed(tmp_path: Path) -> None:
    m = Model(["N", 2, 5, 5])
    x = m.node("Elu")
    m.node("Shape")
    m.node("Gather", np.array(0, np.int64), axis=0)
    size = m.node("Unsqueeze", ints(0))
    shape = m.node("Concat", m.tensor(ints(-1)), first=size, axis=0)
    m.node("Reshape", shape, first=x)
    m.node("Gather", ints(0, 1), axis=1)
    faults = check_onnx(m.save(tmp_path), input_range=(0, 255))
    assert [f.loc.origin for f in faults] == ["elu1", "gather7"]
