"""The node cases that the onnx package generates for its own backends, as far as they mean something for spikes.

Every case of an op type with a rule is imported, all inputs but the first as initialisers, with an identity matrix
behind it that reads the result out. It must give onnx's expected output, or be refused with a reason. Every case of an
op type that is computed while importing is computed with all inputs known, the same holds there.

    python -m pytest -s -k every tests/onnx/test_node_cases.py      lists all of them, and why which are not used
"""

import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ttfsc.frontends.onnx_constants import FOLDED, fold
from ttfsc.frontends.onnx_file import read_graph
from ttfsc.frontends.onnx_load import load_onnx
from ttfsc.frontends.onnx_rules import RULES
from ttfsc.frontends.value import Refused
from ttfsc.ir import Array, Net, TtfsError, codes, run

ENDS = {"ArgMax", "Softmax", "LogSoftmax", "Hardmax", "Sigmoid"}  # change the scores themselves
MOVED = {"Transpose"}  # of the input: the net takes it in another order, which tests of shapes look at
OPS = sorted(set(RULES) - ENDS - MOVED - {"Shape", "Size", "Quant", "BipolarQuant"})
EXPECTED = {  # cases that must work, among all that do
    "test_basic_conv_with_padding", "test_basic_conv_without_padding", "test_conv_with_strides_padding",
    "test_conv_with_strides_no_padding", "test_conv_with_strides_and_asymmetric_padding",
    "test_conv_with_autopad_same", "test_gemm_default_no_bias", "test_gemm_default_vector_bias",
    "test_gemm_transposeB", "test_gemm_alpha", "test_matmul_2d", "test_averagepool_2d_default",
    "test_averagepool_2d_precomputed_strides", "test_averagepool_2d_precomputed_pads_count_include_pad",
    "test_averagepool_1d_default", "test_globalaveragepool", "test_globalmaxpool", "test_relu",
    "test_flatten_axis1", "test_dropout_default", "test_reshape_zero_dim", "test_unsqueeze_axis_1",
}  # fmt: skip


@cache
def everything() -> dict[str, Any]:
    """All cases of one node."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: list[Any] = [case for case in collect_testcases(None) if case.model is not None]
    return {case.name: case for case in found if len(case.model.graph.node) == 1}


def cases() -> dict[str, Any]:
    return {name: case for name, case in everything().items() if case.model.graph.node[0].op_type in OPS}


def as_file(case: Any, inputs: list[Array], output: Array, *, read: bool) -> onnx.ModelProto:
    """The case with its first input left open and, where `read`, an identity matrix that reads its result."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    names = [i.name for i in graph.input]
    del graph.input[1:]
    for name, value in zip(names[1:], inputs[1:], strict=True):
        graph.initializer.append(numpy_helper.from_array(value, name))
    result = graph.node[0].output[0]
    size = output.size // max(output.shape[0], 1)
    graph.node.append(helper.make_node("Flatten", [result], ["flat"], name="flat", axis=1))
    if read:
        graph.initializer.append(numpy_helper.from_array(np.eye(size, dtype=np.float32), "eye"))
        graph.node.append(helper.make_node("MatMul", ["flat", "eye"], ["end"], name="read"))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("end" if read else "flat", TensorProto.FLOAT, None))
    return model


def imported(case: Any, inputs: list[Array], output: Array, folder: Path) -> Net:
    """The case's net; a membrane is the answer itself, anything else is read out."""
    path = folder / "net.onnx"
    failures = list[TtfsError]()
    for read in (True, False):
        path.write_bytes(as_file(case, inputs, output, read=read).SerializeToString())
        try:
            return load_onnx(path, input_range=(-1000, 1000))
        except TtfsError as e:
            failures.append(e)
            if all("reads a membrane" not in f.fact for f in e.faults):
                break
    raise failures[0]


def data_of(case: Any) -> tuple[list[Array], Array] | str:
    """Inputs and output as arrays; why not, where they are none."""
    inputs, outputs = case.data_sets[0]
    if not all(isinstance(a, np.ndarray | np.generic) for a in (*inputs, *outputs)):
        return "types that numpy has not (float8, int4, sequences)"
    return [np.asarray(a) for a in inputs], np.asarray(outputs[0])


def usable(case: Any) -> tuple[list[Array], Array] | str:
    """Inputs and output, where the case is one of real numbers with a batch axis; why not, where it is not."""
    data = data_of(case)
    if isinstance(data, str):
        return data
    inputs, output = data
    if not inputs or inputs[0].dtype.name not in ("float32", "float64"):
        return "no real numbers"
    if inputs[0].ndim < 2 or not output.ndim:
        return "no batch axis"
    if inputs[0].size == 0 or output.size == 0 or output.size > 20000:
        return "nothing, or too much to read out"
    return inputs, output


def outcome(name: str, folder: Path) -> str | None:
    """None where the net gives what onnx expects; else why the case was refused."""
    case = cases()[name]
    data = usable(case)
    assert not isinstance(data, str)
    inputs, output = data
    try:
        net = imported(case, inputs, output, folder)
    except TtfsError as e:
        assert all(f.code in (codes.UNSUPPORTED, codes.INPUT, codes.SHAPE, codes.DAMAGED) for f in e.faults), str(e)
        return "; ".join(f.fact for f in e.faults)
    x = inputs[0].astype(np.float32)
    got = run(net, x.reshape(len(x), *net.input.type.shape)).scores
    np.testing.assert_allclose(got.reshape(-1), output.astype(np.float32).reshape(-1), rtol=1e-4, atol=1e-4)
    return None


def usable_names() -> Iterator[str]:
    return (name for name, case in sorted(cases().items()) if not isinstance(usable(case), str))


def test_every_case_gives_what_onnx_expects_or_is_refused(tmp_path: Path) -> None:
    found = {name: outcome(name, tmp_path) for name in usable_names()}
    for name, why in found.items():
        print(f"{name:60} {'ok' if why is None else 'refused: ' + why}")
    for name, case in sorted(cases().items()):
        if isinstance(why := usable(case), str):
            print(f"{name:60} not used: {why}")
    right = {name for name, why in found.items() if why is None}
    assert len(right) >= 65, sorted(right)


def folded(case: Any, inputs: list[Array], folder: Path) -> Array | str:
    """The node's result from known inputs, or why it was refused."""
    graph, path = onnx.ModelProto(), folder / "net.onnx"
    graph.CopyFrom(case.model)
    names = [i.name for i in graph.graph.input]
    del graph.graph.input[:]
    graph.graph.input.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, [1]))
    graph.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in zip(names, inputs, strict=True))
    path.write_bytes(graph.SerializeToString())
    try:
        read = read_graph(path)
        (node,) = read.nodes
        result = fold(node, [read.known[name] if name else None for name in node.inputs])
    except (TtfsError, Refused) as e:
        return f"refused: {e}"
    assert result is not None
    return result.array


def test_every_case_of_constants_gives_what_onnx_expects_or_is_refused(tmp_path: Path) -> None:
    right = 0
    for name, case in sorted(everything().items()):
        data = data_of(case)
        if case.model.graph.node[0].op_type not in FOLDED or isinstance(data, str):
            continue
        got = folded(case, data[0], tmp_path)
        print(f"{name:60} {got if isinstance(got, str) else 'ok'}")
        if not isinstance(got, str):
            right += 1
            assert got.shape == data[1].shape, name
            np.testing.assert_allclose(got, data[1], rtol=1e-5, atol=1e-6, err_msg=name)
    assert right >= 280


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_cases_that_matter(name: str, tmp_path: Path) -> None:
    assert name in cases(), "onnx has no such case any more"
    assert outcome(name, tmp_path) is None
